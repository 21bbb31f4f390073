"""How many bytes constants and nodes take in the file."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any

from onnx import NodeProto, TensorProto, helper

from onnxslim.ir import weights, wire
from onnxslim.ir.graph import Constant, Node, Tensor
from onnxslim.ir.surgery import producer
from onnxslim.ir.weights import Weight


def raw_bytes(name: str, elem_type: int, shape: Sequence[int]) -> int:
    """Return the bytes of an initializer of this type, at most: small integers take fewer."""
    tensor = TensorProto(name=name, data_type=elem_type, dims=shape)
    values = -(-math.prod(shape) * weights.bits(elem_type) // 8)
    return _field(tensor.ByteSize() + _field(values))


def initializer_bytes(tensor: Constant) -> int:
    """Return the bytes of *tensor* as an initializer."""
    stored = tensor._values
    if not isinstance(stored, Weight):
        if tensor.nbytes < wire.THRESHOLD:
            made = weights.to_tensor(tensor.values, tensor.name, weights.Store())
            return _field(made.ByteSize())
    elif not wire.is_marked(stored.tensor):
        renamed = len(tensor.name.encode()) - len(stored.tensor.name.encode())
        return _field(stored.tensor.ByteSize() + renamed)
    return raw_bytes(tensor.name, tensor.elem_type, tensor.shape)


def stored_bytes(tensor: Constant) -> int:
    """Return the bytes of *tensor* where it stands: an initializer or a Constant node."""
    source = producer(tensor)
    return initializer_bytes(tensor) if source is None else node_bytes(source)


def renaming_bytes(old: Tensor, new: Tensor) -> int:
    """Return the bytes that the readers of *old* grow by, at most, when they name *new*."""
    longer = max(0, len(new.name.encode()) - len(old.name.encode()))
    return sum((longer + 1) * sum(t is old for t in node.inputs) for node in set(old.outputs))


def node_bytes(node: Node) -> int:
    """Return the bytes of *node*; of attributes, only a Constant node's may hold large weights."""
    source = node.source
    if source is not None and not any(wire.is_marked(a.t) for a in source.attribute):
        return _field(source.ByteSize() + _edited_bytes(node, source))
    if node.operator == "Constant" and isinstance(node.outputs[0], Constant):
        return constant_node_bytes(node.name or "", initializer_bytes(node.outputs[0]))
    names = [tensor.name for tensor in (*node.inputs, *node.outputs)]
    attributes = sum(_attribute_bytes(name, value) for name, value in node.attrs.items())
    return _field(sum(len(name.encode()) + 2 for name in (*names, node.op)) + attributes)


def _edited_bytes(node: Node, source: NodeProto) -> int:
    """Return how much longer *node* is than the message it came from."""
    names = [tensor.name for tensor in (*node.inputs, *node.outputs)]
    while names and not names[-1]:
        names.pop()  # outputs that are left out
    longer = _names_bytes(names) - _names_bytes([*source.input, *source.output])
    if node._attrs is not None:
        old = {attribute.name: _field(attribute.ByteSize()) for attribute in source.attribute}
        new = {name: _attribute_bytes(name, value) for name, value in node._attrs.items()}
        longer += sum(size or old.get(name, 0) for name, size in new.items()) - sum(old.values())
    return longer


def _names_bytes(names: Sequence[str]) -> int:
    return sum(len(name.encode()) + 2 for name in names)


def _attribute_bytes(name: str, value: Any) -> int:
    if isinstance(value, (int, float, str, bytes, list, tuple)):
        with contextlib.suppress(TypeError, ValueError):
            return _field(helper.make_attribute(name, value).ByteSize())
    return 0


def constant_node_bytes(name: str, value: int) -> int:
    """Return the bytes of a Constant node called *name* in place of an initializer of *value*."""
    named = len(name.encode()) + 2 if name else 0
    attribute = len("value") + 5 + value
    return _field(len("Constant") + 2 + named + _field(attribute))


def _field(size: int) -> int:
    """Return the bytes of a field of *size* bytes, with its tag and its length."""
    return 1 + len(wire.encode_varint(size)) + size
