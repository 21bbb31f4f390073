"""The data-flow analysis over channels: one sweep that numbers values and ties places."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from onnxslim import ir
from onnxslim.base import Context
from onnxslim.errors import Declined
from onnxslim.ir import Array, Constant, Graph, Model, Node, Tensor
from onnxslim.passes.channels._expansion import Expansion
from onnxslim.passes.channels._linear import Linear
from onnxslim.passes.channels._values import Channels, Places, Sets, Values
from onnxslim.rewrite import Builder
from onnxslim.shapes import Facts

LARGEST = 1 << 17
"""Tensors of which more elements would have to be told apart are taken as unknown."""
FLOATS = frozenset({1, 10, 11, 16})
"""FLOAT, FLOAT16, DOUBLE and BFLOAT16 of ``TensorProto.DataType``."""


class Transfer(NamedTuple):
    """What an operator does to channels."""

    forward: Callable[[Site], list[Channels]]
    """Returns what is known of the outputs, and ties places; raises Declined, with a reason."""
    cut: Callable[[Site, Builder], None]
    """Rewrites the node for inputs and outputs that lost channels."""


def nothing(site: Site, new: Builder) -> None:
    """Cut nothing: neither weights nor attributes depend on the number of channels."""


@dataclass
class Analysis:
    """What is known of the channels of one graph."""

    model: Model
    graph: Graph
    facts: Facts
    context: Context
    values: Values = field(default_factory=Values)
    places: Places = field(default_factory=Places)
    channels: dict[Tensor, Channels] = field(default_factory=dict)
    expands: bool = False
    """Whether operands may be computed in part and put together again, which takes time."""
    linears: list[Linear | Expansion] = field(default_factory=list)
    sets: Sets | None = None

    def run(self, table: Mapping[str, Transfer]) -> None:
        """Sweep the graph by the transfer functions in *table*."""
        for node in self.graph.nodes:
            self._visit(Site(self, node), table.get(node.operator))
        for tensor in self.graph.outputs:
            self.keep(tensor, "a graph output")
        for tensor, known in self.channels.items():
            if known.axis is not None and any(n.graph is not self.graph for n in tensor.outputs):
                self.places.keep(known.places, "a subgraph reads it")

    def settle(self) -> Sets:
        """Return the sets of channels that are cut together, once the sweep is done."""
        self.sets = self.places.settled()
        return self.sets

    def _visit(self, site: Site, transfer: Transfer | None) -> None:
        node = site.node
        try:
            if transfer is None:
                raise Declined(f"{node.operator} reads it")
            if ir.has_parameters(node) or node.calls_function:
                raise Declined("an attribute is set by the caller of the function")
            found = transfer.forward(site)
        except Declined as verdict:
            for tensor in node.inputs:
                self.keep(tensor, str(verdict))
            found = []
        for tensor, known in zip(node.outputs, found, strict=False):
            reason = self._hindrance(tensor, known)
            if reason is None:
                self.channels[tensor] = known
            else:
                self.places.keep(known.places, reason)

    def _hindrance(self, tensor: Tensor, known: Channels) -> str | None:
        """Say why the channels of *tensor* are not followed further; None where they are."""
        if known.base.size > LARGEST:
            return "too many elements to tell apart"
        if not known.base.size:
            return "it is empty"
        if self.facts.rank(tensor) not in (None, known.rank):
            return "its rank is in doubt"
        return None

    def keep(self, tensor: Tensor, reason: str) -> None:
        """Cut no channel of *tensor*, for a *reason*."""
        known = self.channels.get(tensor)
        if known is not None and known.axis is not None:
            self.places.keep(known.places, reason)

    def of(self, tensor: Tensor) -> Channels:
        """Return what is known of *tensor*; raises Declined where not even the rank is."""
        if tensor not in self.channels:
            self.channels[tensor] = self._first(tensor)
        return self.channels[tensor]

    def _first(self, tensor: Tensor) -> Channels:
        if isinstance(tensor, Constant):
            return self._constant(tensor)
        rank = self.facts.rank(tensor)
        if rank is None:
            raise Declined(f"the rank of {tensor.name!r} is not known")
        return self.values.unknown(("tensor", id(tensor)), rank)

    def _constant(self, tensor: Constant) -> Channels:
        """Look at the values of a constant that varies along one axis at most."""
        shape = tensor.shape
        if math.prod(shape) == max((*shape, 1)) <= LARGEST and tensor.elem_type in FLOATS:
            values = tensor.values.astype(np.float64)
            if np.isfinite(values).all():
                return self.values.constants(values)
        return self.values.unknown(("constant", id(tensor)), len(shape))


@dataclass
class Site:
    """A node under its transfer function."""

    analysis: Analysis
    node: Node

    @property
    def facts(self) -> Facts:
        """Shapes."""
        return self.analysis.facts

    @property
    def values(self) -> Values:
        """Numbers of values."""
        return self.analysis.values

    @property
    def places(self) -> Places:
        """Sets of channels that are cut together."""
        return self.analysis.places

    @property
    def version(self) -> int:
        """Version of ONNX's own operator set where the node stands."""
        return self.analysis.graph.version

    def require(self, condition: Any, reason: str) -> None:
        """Decline, with a *reason*, unless *condition* holds."""
        if not condition:
            raise Declined(reason)

    def of(self, slot: int) -> Channels:
        """Return what is known of an input."""
        tensor = self.node.input(slot)
        self.require(tensor is not None, "an input is missing")
        assert tensor is not None
        return self.analysis.of(tensor)

    def weight(self, slot: int) -> Constant | None:
        """Return an input that is a constant; None where it is absent. Declines others."""
        tensor = self.node.input(slot)
        if tensor is None or isinstance(tensor, Constant):
            return tensor
        raise Declined("its weights are computed")

    def dim(self, tensor: Tensor, axis: int) -> int | None:
        """Return the extent of an axis; None where it is not a number."""
        dims = self.facts.dims(tensor)
        extent = None if dims is None else dims[axis]
        return extent if isinstance(extent, int) else None

    def dtype(self, tensor: Tensor) -> Any:
        """Return the numpy type of *tensor*."""
        return ir.numpy_type(self.facts.elem_type(tensor))

    def unknown(self, slot: int = 0) -> Channels:
        """Return an output of which nothing is known but its rank."""
        rank = self.facts.rank(self.node.outputs[slot])
        self.require(rank is not None, "the rank of its result is not known")
        assert rank is not None
        return self.values.unknown(("output", id(self.node), slot), rank)

    def along(self, slot: int, axis: int, count: int) -> Channels:
        """Return an input with its *count* channels along *axis* told apart, and nothing else.

        Channels that can only be cut along another axis are kept.
        """
        known = self.of(slot)
        axis %= known.rank
        if known.axis not in (None, axis):
            self.places.keep(known.places, f"{self.node.operator} reads it along another axis")
        for other in range(known.rank):
            if other != axis:
                known = self.values.flat(known, other)
        known = self.values.spread(known, axis, count, broadcasts=False)
        self.require(known.base.shape[axis] == count, "its channels are not as many as its weights")
        places = known.places if known.axis == axis else np.zeros(count, np.int64)
        return known.at(axis, places)

    def signature(self) -> tuple[Any, ...]:
        """Return what decides, together with the inputs, what the node computes."""
        attrs = self.node.attrs.items()
        simple = all(isinstance(value, (int, float, str, bytes, list)) for _, value in attrs)
        if not simple or not ir.is_deterministic(self.node):
            return "node", id(self.node)
        return (self.node.operator, *sorted((key, repr(value)) for key, value in attrs))

    def compute(self, arguments: Sequence[Array]) -> Array:
        """Run the node on constants in place of its first inputs; float64 comes back."""
        operands = [
            ir.constant(f"c{slot}", values.astype(self.dtype(tensor)))
            for slot, (values, tensor) in enumerate(zip(arguments, self.node.inputs, strict=False))
        ]
        rest = list(self.node.inputs[len(operands) :])
        result = ir.Variable("result")
        copy = Node(self.node.op, "", dict(self.node.attrs), [*operands, *rest], [result])
        copy.domain, copy.graph = self.node.domain, self.analysis.graph
        try:
            found = self.analysis.context.evaluate(self.analysis.model, [copy], [result])
        finally:
            ir.set_inputs(copy, ())
        self.require(result in found, "onnxruntime cannot compute it")
        return np.asarray(found[result], np.float64)

    # Cutting

    def mask(self, tensor: Tensor) -> tuple[int, Array] | None:
        """Return the axis along which *tensor* loses channels and a mask of those it keeps."""
        known = self.analysis.channels.get(tensor)
        if known is None or known.axis is None or isinstance(tensor, Constant):
            return None
        assert self.analysis.sets is not None
        kept = self.analysis.sets.kept(known.places)
        return None if kept.all() else (known.axis, kept)

    def replace(self, slot: int, values: Array, new: Builder) -> None:
        """Give the node another constant in place of an input."""
        tensors = list(self.node.inputs)
        while len(tensors) <= slot:
            tensors.append(ir.absent())
        like = tensors[slot]
        if isinstance(like, Constant):
            values = values.astype(like.dtype)
        tensors[slot] = new.tensor(values, like.name or self.node.op)
        ir.set_inputs(self.node, tensors)
