"""When two attributes, nodes or graphs are the same."""

from __future__ import annotations

import struct
from collections.abc import Hashable, Iterable
from typing import Any

from onnxslim.ir import Constant, Graph, Node, Opaque, Tensor


def frozen(value: Any) -> Hashable:
    """Return a hashable stand-in that is equal for equal attributes only, bit for bit."""
    if isinstance(value, Opaque):
        return "proto", value.proto.SerializeToString(deterministic=True)
    if isinstance(value, Constant):
        values = value.values
        content = repr(values.tolist()) if values.dtype == object else values.tobytes()
        return "tensor", value.elem_type, value.shape, content
    if isinstance(value, float):
        return "float", struct.pack("d", value)
    if isinstance(value, (list, tuple)):
        return "list", tuple(map(frozen, value))
    return type(value).__name__, value


def same_body(left: Graph, right: Graph) -> bool:
    """Say whether two graphs without inputs compute the same of the same, operator by operator."""
    return _Comparison({}).graphs(left, right)


class _Comparison:
    """Which tensors of one graph stand where which of another stand."""

    def __init__(self, pairs: dict[Tensor, Tensor]) -> None:
        self.pairs = pairs

    def graphs(self, left: Graph, right: Graph) -> bool:
        if len(left.inputs) != len(right.inputs) or len(left.outputs) != len(right.outputs):
            return False
        self.pairs.update(zip(left.inputs, right.inputs, strict=True))
        mine = [node for node in left.nodes if not node.erased]
        other = [node for node in right.nodes if not node.erased]
        if len(mine) != len(other) or not all(map(self._nodes, mine, other)):
            return False
        return all(map(self._tensors, left.outputs, right.outputs))

    def _nodes(self, left: Node, right: Node) -> bool:
        if left.operator != right.operator or left.attrs.keys() != right.attrs.keys():
            return False
        if _present(left.outputs) != _present(right.outputs):
            return False
        if len(left.inputs) != len(right.inputs):
            return False
        if not all(map(self._tensors, left.inputs, right.inputs)):
            return False
        if not all(self._values(left.attrs[name], right.attrs[name]) for name in left.attrs):
            return False
        self.pairs.update(zip(left.outputs, right.outputs, strict=True))
        return True

    def _tensors(self, left: Tensor, right: Tensor) -> bool:
        if left is right or self.pairs.get(left) is right or not (left.name or right.name):
            return True
        both = isinstance(left, Constant) and isinstance(right, Constant)
        return both and frozen(left) == frozen(right)

    def _values(self, left: Any, right: Any) -> bool:
        if isinstance(left, Graph) and isinstance(right, Graph):
            return self.graphs(left, right)
        if _holds_graph(left) or _holds_graph(right):
            return False
        return frozen(left) == frozen(right)


def _holds_graph(value: Any) -> bool:
    items = value if isinstance(value, (list, tuple)) else (value,)
    return any(isinstance(item, Graph) for item in items)


def _present(tensors: Iterable[Tensor]) -> list[bool]:
    return [bool(tensor.name) for tensor in tensors]
