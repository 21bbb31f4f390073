"""What all factorizing passes do: find layers, ask a family what it offers, choose, replace."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from onnxslim import ir
from onnxslim.base import Context, Effect, Pass
from onnxslim.errors import Declined
from onnxslim.ir import Array, Model, Node, Variable
from onnxslim.passes.factorize._build import Place
from onnxslim.passes.factorize._candidates import Aim, Candidate
from onnxslim.passes.factorize._choose import Choice
from onnxslim.passes.factorize._layers import Layer, find
from onnxslim.passes.factorize._metric import Metric, measured
from onnxslim.rewrite import Builder
from onnxslim.shapes import Facts


@dataclass(frozen=True, eq=False)
class Offer:
    """A layer, the metric of its outputs, and what may take the place of its weight."""

    layer: Layer
    metric: Metric
    candidates: tuple[Candidate, ...]

    @property
    def frontier(self) -> str:
        """What no other candidate beats in size and error, the smallest first."""
        found: list[Candidate] = []
        for candidate in sorted(self.candidates, key=lambda c: (c.parameters, c.error)):
            if not found or candidate.error < found[-1].error:
                found.append(candidate)
        return ", ".join(
            f"{c.parameters / self.layer.parameters:.3f} {c.family}: {c.error:.2g}" for c in found
        )


@dataclass(frozen=True)
class FactorizePass(Pass):
    """Replace weights by what a family of structured matrices offers."""

    effect = Effect.LOSSY

    aim: Aim = "bytes"
    """``speed`` only takes what runs faster, ``bytes`` also what is multiplied out at load."""

    @abstractmethod
    def candidates(self, layer: Layer, metric: Metric) -> Iterable[Candidate]:
        """Return what the family offers for a layer, whether it pays or not.

        Raise Declined where there is nothing to offer.
        """

    def metrics(
        self, model: Model, context: Context, layers: Sequence[Layer]
    ) -> Iterable[tuple[Layer, Metric]]:
        """Yield what the outputs of each layer are measured by: the metric of the data."""
        return measured(model, context, layers)

    def choose(self, offers: Sequence[Offer], model: Model, context: Context) -> Sequence[Choice]:
        """Choose for every layer: by default what moves its outputs least, and runs if it can."""
        return [min(o.candidates, key=lambda c: (c.error, c.run is None)) for o in offers]

    def apply(self, model: Model, context: Context) -> int:
        """Factorize the layers for which it pays."""
        layers = find(model, context)
        offers = []
        for number, (layer, metric) in enumerate(self.metrics(model, context, layers)):
            context.progress(f"{self.name}: {layer.label}", number, len(layers))
            offer = self._offer(layer, metric, context)
            if offer is not None:
                offers.append(offer)
        writer = Writer(model, context)
        for offer, chosen in zip(offers, self.choose(offers, model, context), strict=True):
            if chosen is not None:
                writer.put(offer, chosen)
            else:
                context.decline(offer.layer.nodes[0], "nothing fits the budget")
        return writer.finish()

    def _offer(self, layer: Layer, metric: Metric, context: Context) -> Offer | None:
        if not np.isfinite(layer.values).all():
            context.decline(layer.nodes[0], "its weights are not all finite")
            return None
        try:
            found = [c for c in self.candidates(layer, metric) if c.suits(layer, self.aim)]
        except Declined as reason:
            context.decline(layer.nodes[0], str(reason))
            return None
        if not found:
            gain = "faster" if self.aim == "speed" else "smaller"
            context.decline(layer.nodes[0], f"nothing that is close enough would be {gain}")
            return None
        return Offer(layer, metric, tuple(found))


class Writer:
    """Puts factors in the places of weights, where that takes fewer bytes."""

    def __init__(self, model: Model, context: Context) -> None:
        self.model, self.context = model, context
        self.facts: Facts = context.facts(model)
        self.pinned = model.pinned()
        self.made: dict[Node, list[Node]] = {}
        """New nodes by the node in whose place they stand."""
        self.first: list[Node] = []
        """New nodes that compute weights."""
        self.changes = 0

    def put(self, offer: Offer, chosen: Candidate) -> None:
        """Replace one layer."""
        layer, metric = offer.layer, offer.metric
        arrays = [_stored(layer, part) for part in chosen.parts()]
        if not all(np.isfinite(a).all() for a in arrays):
            self.context.decline(layer.nodes[0], "its factors do not fit into its type")
            return
        try:
            replace = self._run if chosen.run else self._expand
            size = replace(layer, chosen, arrays)
        except Declined as reason:
            self.context.decline(layer.nodes[0], str(reason))
            return
        self.changes += 1
        exact = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays]
        self.context.notes.append(
            {
                "layer": layer.label,
                "family": chosen.family,
                "size": chosen.size,
                "form": "runs as factors" if chosen.run else "multiplied out at load",
                "weights": layer.parameters,
                "parameters": chosen.parameters,
                "bytes": size,
                "was": layer.stored,
                "error": metric.error(layer.matrix, chosen.approximation(exact)),
                "metric": metric.source,
                "frontier": offer.frontier,
            }
        )

    def _run(self, layer: Layer, chosen: Candidate, arrays: Sequence[Array]) -> int:
        assert chosen.run is not None
        shared = Builder(self.model.names, self.model.graph)
        tensors = [shared.tensor(array, "w") for array in arrays]
        made: list[tuple[Node, Builder, Variable]] = []
        try:
            for node in layer.nodes:
                assert node.graph is not None
                new = Builder(self.model.names, node.graph)
                place = Place(new, layer, node, self.facts.rank(node.inputs[1 - layer.slot]))
                made.append((node, new, chosen.run(place, tensors)))
            size = sum(map(self._size, (shared, *(new for _, new, _ in made))))
            _must_shrink(size, layer.stored + sum(map(ir.node_bytes, layer.nodes)))
        except Declined:
            for _, new, _ in made:
                new.discard()
            raise
        for node, new, result in made:
            self._splice(node, new, result)
        return size

    def _size(self, new: Builder) -> int:
        """Return the bytes of new nodes and constants; before IR version 4 these are nodes too."""
        return new.size(inline=self.model.ir_version < 4)

    def _splice(self, node: Node, new: Builder, result: Variable) -> None:
        """Give the node's output, with its name and its readers, to the new nodes."""
        target, source = node.outputs[0], result.inputs[0]
        node.outputs[0] = ir.absent()
        source.outputs[[t is result for t in source.outputs].index(True)] = target
        self.made[node] = new.nodes
        ir.erase([node], self.pinned)

    def _expand(self, layer: Layer, chosen: Candidate, arrays: Sequence[Array]) -> int:
        assert chosen.expand is not None
        new = Builder(self.model.names, self.model.graph)
        tensors = [new.tensor(array, "w") for array in arrays]
        try:
            value = chosen.expand(new, layer, tensors)
            longer = max(0, len(value.name.encode()) - len(layer.weight.name.encode()))
            size = self._size(new)
            _must_shrink(size + (longer + 1) * len(layer.nodes), layer.stored)
        except Declined:
            new.discard()
            raise
        ir.replace_uses(layer.weight, value)
        ir.release([layer.weight], self.pinned)
        self.first += new.nodes
        return size

    def finish(self) -> int:
        """Tidy up and return how many layers changed."""
        if self.changes:
            for graph in list(self.model.graphs()):
                graph.nodes = [
                    node
                    for old in graph.nodes
                    for node in self.made.get(old, () if old.erased else (old,))
                ]
            self.model.graph.nodes = [*self.first, *self.model.graph.nodes]
            self.context.forget()
        return self.changes


def _stored(layer: Layer, part: Array) -> Array:
    made = layer.rounded(part) if part.dtype.kind == "f" else part
    return np.ascontiguousarray(made)


def _must_shrink(size: int, old: int) -> None:
    if size >= old:
        raise Declined(f"the file would grow by {size - old} bytes")
