"""Which layers can be factorized, each as one matrix W of y = x W, and what they cost.

Source: MatMul-1, Gemm-7 and Conv-1 of the ONNX operator specification, and their successors.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from onnxslim import ir
from onnxslim.base import Context
from onnxslim.cost import macs
from onnxslim.ir import Array, Constant, Model, Node, Tensor
from onnxslim.passes.factorize._speed import Convolution, product
from onnxslim.shapes import Dim, Facts

OPERATORS = ("MatMul", "Gemm", "Conv")
_LARGEST_CONE = 8
"""Nodes that may compute a weight from constants."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A weight, and the nodes that multiply by it, all in the same way."""

    nodes: tuple[Node, ...]
    weight: Tensor
    """What the nodes read: a constant, or what a few nodes compute of constants."""
    values: Array
    """Its values."""
    slot: int
    """Which input of the nodes it is: 0 where y = W x."""
    rows: int
    """How many times the matrix is applied in one run; unknown dimensions count as 1."""
    seen: int
    """How many places of an image a convolution reads; the same where it does not skip any."""
    stored: int
    """Bytes that the file is rid of without the weight."""

    @property
    def label(self) -> str:
        """What the report calls it."""
        return self.nodes[0].name or self.weight.name

    @property
    def kernel(self) -> tuple[int, ...]:
        """The spatial size of a convolution; () for a product."""
        return self.values.shape[2:] if self.is_convolution else ()

    @property
    def is_convolution(self) -> bool:
        """Whether the nodes are convolutions."""
        return self.nodes[0].operator == "Conv"

    @property
    def flipped(self) -> bool:
        """Whether the weight is stored with its outputs first: as (M, K), or as Conv does."""
        return is_flipped(self.nodes[0], self.slot)

    @cached_property
    def matrix(self) -> Array:
        """W in float64, (K, M): y = x W, where a row of x is what one output is a sum over.

        For a convolution, K counts input channels times taps of the kernel, in this order.
        """
        wide = self.values.astype(np.float64)
        return wide.reshape(len(wide), -1).T if self.flipped else wide

    @property
    def shape(self) -> tuple[int, int]:
        """K and M."""
        first, rest = self.values.shape[0], math.prod(self.values.shape[1:])
        return (rest, first) if self.flipped else (first, rest)

    @property
    def parameters(self) -> int:
        """The number of weights."""
        return int(self.values.size)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one run."""
        return self.rows * self.parameters

    @property
    def time(self) -> float:
        """Estimated microseconds of one run."""
        return self.convolution.time() if self.is_convolution else product(self.rows, *self.shape)

    @property
    def convolution(self) -> Convolution:
        """What a convolution costs."""
        outputs, inputs = self.values.shape[:2]
        return Convolution(self.rows, inputs, outputs, math.prod(self.kernel))

    def rounded(self, array: Array) -> Array:
        """Return *array* in the type of the weights; infinite where it does not fit."""
        with np.errstate(over="ignore"):
            return array.astype(self.values.dtype)


def find(model: Model, context: Context, unpacked: bool = True) -> list[Layer]:
    """Return the layers of the main graph and its subgraphs; why others are not goes to the report.

    Layers of two activations are none, and those are left out that read, or are read by, a product
    that they are a factor of. Without *unpacked*, weights must be stored as they are.
    """
    readers: dict[Tensor, list[tuple[Node, int]]] = {}
    bodies = {graph for function in model.functions for graph in ir.walk(function)}
    for graph, nodes in context.find(model, OPERATORS):
        for node in nodes:
            slot = weight_slot(node)
            if slot is None and any(map(ir.is_overridable, node.inputs[:2])):
                context.decline(node, f"its weight is {ir.OVERRIDABLE}")
            if slot is None or not (unpacked or isinstance(node.inputs[slot], Constant)):
                continue
            if graph in bodies:
                context.decline(node, "it stands in a local function")
            else:
                readers.setdefault(node.inputs[slot], []).append((node, slot))
    pinned = model.pinned()
    found = (_layer(model, context, pinned, *item) for item in readers.items())
    return [layer for layer in found if layer is not None]


def stored(model: Model, context: Context) -> dict[Layer, Constant]:
    """Map the layers whose weights are stored as they are to these; the report is told nothing.

    Passes share them while nothing changes.
    """
    quiet = replace(context, declined=Counter(), places=[])
    found, facts = context.once(model, _none), context.facts(model)
    if facts not in found:
        layers = find(model, quiet, unpacked=False)
        found[facts] = {x: x.weight for x in layers if isinstance(x.weight, Constant)}
    return found[facts]


def _none(_: Model) -> dict[Facts, dict[Layer, Constant]]:
    return {}


def in_turn(model: Model, layers: Iterable[Layer]) -> Iterator[Layer]:
    """Yield *layers*, and give back the memory of mapped weights after a look at them."""
    for layer in layers:
        yield layer
        model.store.pass_by(layer.values.nbytes)


def _layer(
    model: Model,
    context: Context,
    pinned: frozenset[int],
    weight: Tensor,
    uses: list[tuple[Node, int]],
) -> Layer | None:
    nodes, slot = tuple(node for node, _ in uses), uses[0][1]
    reason = _refusal(weight, uses, pinned)
    if reason is None:
        values = _values(model, context, weight)
        reason = _refusal_of(values, nodes[0])
    if reason is not None:
        context.decline(nodes[0], reason)
        return None
    assert values is not None
    facts = context.facts(model)
    work = sum(macs(node, facts) for node in nodes)
    rows = max(1, work // values.size)
    seen = sum(_places(facts.shape(node.inputs[0]), facts) for node in nodes)
    freed = _freed(weight, set(nodes), pinned)
    return Layer(nodes, weight, values, slot, rows, max(rows, seen), freed)


def _places(shape: tuple[Dim, ...] | None, facts: Facts) -> int:
    """Return the number of elements of every channel of an image."""
    if shape is None or len(shape) < 3:
        return 0
    return math.prod(max(1, facts.extent(dim)) for dim in (shape[0], *shape[2:]))


def weight_slot(node: Node) -> int | None:
    """Return which input is the weight: a constant, or computed of constants, and the other not."""
    left, right = node.input(0), node.input(1)
    if left is None or right is None or ir.has_parameters(node):
        return None
    constant = [_cone(tensor) is not None for tensor in (left, right)]
    if node.operator == "Conv":
        return 1 if constant[1] else None
    if constant[0] == constant[1]:
        return None
    return 1 if constant[1] else 0


def _cone(weight: Tensor) -> list[Node] | None:
    """Return the few nodes that compute *weight* of constants, in order; None where it varies."""
    nodes: list[Node] = []
    queue = [weight]
    while queue:
        tensor = queue.pop()
        if isinstance(tensor, Constant) or not tensor.name:
            continue
        source = ir.producer(tensor)
        if source is None or not ir.is_deterministic(source) or len(nodes) == _LARGEST_CONE:
            return None
        if source not in nodes:
            nodes.append(source)
            queue += source.inputs
    return nodes[::-1]


def _refusal(weight: Tensor, uses: list[tuple[Node, int]], pinned: frozenset[int]) -> str | None:
    nodes = {node for node, _ in uses}
    kinds = {(node.operator == "Conv", slot, is_flipped(node, slot)) for node, slot in uses}
    if id(weight) in pinned:
        return "its weights are a graph output"
    if len(kinds) > 1 or not nodes.issuperset(weight.outputs):
        return "something else reads its weights too, or in another way"
    if any(map(_is_dequantized, uses)):
        return "it computes on integers"
    if any(_is_factor(node, slot, pinned) for node, slot in uses):
        return "it is a factor of a product already"
    if any(node.operator == "Conv" and node.attr("group", 1) != 1 for node in nodes):
        return "it is a convolution in groups"
    return None


def is_flipped(node: Node, slot: int) -> bool:
    if node.operator == "Conv":
        return True
    turned = bool(node.attr("transB" if slot else "transA", 0)) if node.op == "Gemm" else False
    return turned == bool(slot)


def _is_dequantized(use: tuple[Node, int]) -> bool:
    node, slot = use
    source = ir.producer(node.inputs[1 - slot])
    return source is not None and source.operator == "DequantizeLinear"


def _is_factor(node: Node, slot: int, pinned: frozenset[int]) -> bool:
    """Say whether this is one of two layers in a row with no bias between: a product of two."""
    before = _producer(node, node.inputs[1 - slot], pinned)
    if before is not None and _are_factors(before, node):
        return True
    after = _reader(node, pinned)
    return after is not None and _are_factors(node, after)


def _producer(node: Node, tensor: Tensor, pinned: frozenset[int]) -> Node | None:
    """Return what computes *tensor* for *node* alone, behind reshapes of products."""
    source = ir.producer(tensor)
    while source is not None and len(tensor.outputs) == 1 and id(tensor) not in pinned:
        if node.operator != "MatMul" or source.operator != "Reshape":
            return source
        tensor = source.inputs[0]
        source = ir.producer(tensor)
    return None


def _reader(node: Node, pinned: frozenset[int]) -> Node | None:
    """Return the only node that reads what *node* computes, behind reshapes of products."""
    tensor = node.outputs[0]
    while len(tensor.outputs) == 1 and id(tensor) not in pinned:
        reader: Node = tensor.outputs[0]
        if node.operator != "MatMul" or reader.operator != "Reshape":
            return reader
        tensor = reader.outputs[0]
    return None


def _are_factors(first: Node, second: Node) -> bool:
    """Say whether two nodes in a row multiply by constants one after the other."""
    if first.operator not in OPERATORS or second.operator not in OPERATORS:
        return False
    same = (first.operator == "Conv") == (second.operator == "Conv")
    slots = weight_slot(first), weight_slot(second)
    return same and None not in slots and first.input(2) is None


def _values(model: Model, context: Context, weight: Tensor) -> Array | None:
    """Return the values of a weight; None where they are stored in fewer numbers than it has."""
    if isinstance(weight, Constant):
        return weight.values
    nodes = _cone(weight) or []
    numbers = {t: t.size for node in nodes for t in node.inputs if isinstance(t, Constant)}
    found = context.evaluate(model, nodes, [weight]).get(weight)
    return None if found is None or found.size > sum(numbers.values()) else found


def _refusal_of(values: Array | None, node: Node) -> str | None:
    if values is None:
        return "its weights are stored in fewer numbers than they are already"
    if values.dtype.kind != "f":
        return f"its weights are {values.dtype}"
    if not values.size or (node.operator != "Conv" and values.ndim != 2):
        return "its weights are no matrix"
    return None


def _freed(weight: Tensor, readers: set[Node], pinned: frozenset[int]) -> int:
    """Return the bytes of the constants and nodes that only *weight* needs."""
    return sum(_sizes(weight, set(readers), pinned))


def _sizes(tensor: Tensor, readers: set[Node], pinned: frozenset[int]) -> Iterator[int]:
    if not tensor.name or id(tensor) in pinned or not readers.issuperset(tensor.outputs):
        return
    source = ir.producer(tensor)
    if source is None:
        yield ir.initializer_bytes(tensor) if isinstance(tensor, Constant) else 0
        return
    yield ir.node_bytes(source)
    for operand in dict.fromkeys(source.inputs):
        yield from _sizes(operand, readers | {source}, pinned)
