"""Which constants of a model are the weights of layers, and what their outputs are sums over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from onnxslim import ir
from onnxslim.base import Context
from onnxslim.ir import Array, Constant, Graph, Model, Node, Tensor

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
_RECURRENT = ("LSTM", "GRU", "RNN")
_INTEGER = (
    *("ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul"),
    *("com.microsoft::DynamicQuantizeLSTM", "com.microsoft::DynamicQuantizeMatMul"),
    *("com.microsoft::MatMulNBits", "com.microsoft::QAttention", "com.microsoft::QGemm"),
)


def _conv(node: Node, slot: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(range(1, len(shape)))


def _conv_transpose(node: Node, slot: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    if node.attr("group", 1) == shape[0]:
        return tuple(range(1, len(shape)))
    return (0, *range(2, len(shape)))


def _gemm(node: Node, slot: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    transposed = node.attr("transB" if slot else "transA", 0)
    return (slot if transposed else 1 - slot,)


def _matmul(node: Node, slot: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return (len(shape) - 1 - slot,)


def _gather(node: Node, slot: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    axis = node.attr("axis", 0) % len(shape)
    return tuple(a for a in range(len(shape)) if a != axis)


def _recurrent(node: Node, slot: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return (2,)


_RULES: dict[str, tuple[tuple[int, ...], Callable[[Node, int, tuple[int, ...]], tuple[int, ...]]]]
_RULES = {
    "Conv": ((1,), _conv),
    "ConvTranspose": ((1,), _conv_transpose),
    "Gemm": ((0, 1), _gemm),
    "MatMul": ((0, 1), _matmul),
    "Gather": ((0,), _gather),
    **dict.fromkeys(_RECURRENT, ((1, 2), _recurrent)),
}


@dataclass(frozen=True, eq=False)
class Site:
    """A constant that layers multiply by, or look rows up in."""

    tensor: Constant
    node: Node
    """The first layer that reads it."""
    slot: int
    graph: Graph
    """Where the constant is declared."""
    summed: tuple[int, ...]
    """The axes that one output is a sum over; each place along the others is a channel."""

    @property
    def label(self) -> str:
        """What the report calls it."""
        return self.node.name or self.tensor.name

    @property
    def is_table(self) -> bool:
        """Whether rows of it are looked up, and nothing is summed."""
        return self.node.operator == "Gather"

    @property
    def values(self) -> Array:
        """The weights."""
        return self.tensor.values


def find(model: Model, context: Context) -> list[Site]:
    """Return the weights of Conv, ConvTranspose, Gemm, MatMul, Gather and recurrent layers.

    Of those that cannot be replaced, the reasons go to the report.
    """
    homes = _homes(model)
    pinned = model.pinned()
    found: dict[Constant, Site] = {}
    for _, nodes in context.find(model, _RULES):
        for node in nodes:
            weights = list(_weights(node))
            operands = (node.input(slot) for slot in _RULES[node.operator][0])
            if not weights and any(map(ir.is_overridable, operands)):
                context.decline(node, f"its weight is {ir.OVERRIDABLE}")
            for slot, tensor in weights:
                if tensor in found or not _is_chosen(tensor, context):
                    continue
                reason = _refusal(tensor, node, homes, pinned)
                if reason is not None:
                    context.decline(node, reason)
                    continue
                summed = _RULES[node.operator][1](node, slot, tensor.shape)
                found[tensor] = Site(tensor, node, slot, homes[tensor], summed)
    return list(found.values())


def _is_chosen(tensor: Constant, context: Context) -> bool:
    return context.only is None or tensor.name in context.only


def _weights(node: Node) -> Iterator[tuple[int, Constant]]:
    for slot in _RULES[node.operator][0]:
        tensor = node.input(slot)
        if (
            isinstance(tensor, Constant)
            and tensor.elem_type in _FLOATS
            and len(tensor.shape) >= 2
            and tensor.size
        ):
            yield slot, tensor


def _homes(model: Model) -> dict[Tensor, Graph]:
    """Map the constants of the main graph and its subgraphs to where they are declared.

    A constant that a pass made is declared on export, outside of the graphs that read it.
    """
    homes: dict[Tensor, Graph] = {}
    for graph in ir.walk(model.graph):
        for node in graph.nodes:
            for tensor in node.inputs:
                homes.setdefault(tensor, model.graph)
            if node.op == "Constant":
                homes.update(dict.fromkeys(node.outputs, graph))
        homes.update(dict.fromkeys(graph.initializers, graph))
    return homes


def _refusal(
    tensor: Constant, node: Node, homes: dict[Tensor, Graph], pinned: frozenset[int]
) -> str | None:
    if tensor not in homes or ir.has_parameters(node):
        return "it stands in a local function"
    if id(tensor) in pinned:
        return "its weights are a graph output"
    if not all(_reads_as_weights(reader, tensor) for reader in tensor.outputs):
        return "something else reads its weights too"
    if not np.isfinite(tensor.values).all():
        return "its weights are not all finite"
    return None


def _reads_as_weights(reader: Node, tensor: Constant) -> bool:
    rule = _RULES.get(reader.operator)
    return rule is not None and all(
        slot in rule[0] for slot, item in enumerate(reader.inputs) if item is tensor
    )


def is_summed_by_layers(site: Site) -> bool:
    """Say whether the Gram matrix of what the layer reads can be had: see `observe`."""
    node = site.node
    given = node.input(1 - site.slot)
    return (
        node.operator in ("Conv", "Gemm", "MatMul")
        and (site.slot == 1 or node.operator == "MatMul")
        and (node.operator == "Conv" or len(site.tensor.shape) == 2)
        and given is not None
        and not isinstance(given, Constant)
    )


_UNPACKING = frozenset(
    {"Add", "Cast", "Concat", "ConstantOfShape", "CumSum", "DequantizeLinear", "Div", "Gather"}
    | {"Mod", "Mul", "Neg", "Range", "Reshape", "ScatterElements", "Slice", "Sub", "Transpose"}
)
"""What weights that are stored narrow are computed by."""


def reads_narrow_weights(model: Model, context: Context) -> bool:
    """Say whether layers of *model* read weights that are stored narrow.

    They go to the report, and those that compute in integers.
    """
    for _, nodes in context.find(model, _INTEGER):
        for node in nodes:
            context.decline(node, "it computes in integers already")
    narrow = [
        node
        for _, nodes in context.find(model, _RULES)
        for node in nodes
        if any(_is_unpacked(node.input(slot)) for slot in _RULES[node.operator][0])
    ]
    for node in narrow:
        context.decline(node, "its weights are stored in few bits already")
    return bool(narrow)


def _is_unpacked(tensor: Tensor | None) -> bool:
    """Say whether *tensor* is computed from a constant of another type alone."""
    if tensor is None or isinstance(tensor, Constant):
        return False
    pending, converted = [tensor], False
    while pending:
        item = pending.pop()
        if isinstance(item, Constant) or item.is_empty():
            continue
        source = ir.producer(item)
        if source is None or source.operator not in _UNPACKING:
            return False
        converted |= source.operator in ("Cast", "DequantizeLinear")
        pending.extend(source.inputs)
    return converted
