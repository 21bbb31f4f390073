"""Every family of structured matrices, each layer the one that suits it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from onnxslim.base import Context
from onnxslim.errors import MissingData
from onnxslim.ir import Model
from onnxslim.passes.factorize import (
    _kronecker_search,
    _lowrank,
    _separable,
    _spatial,
    _structured_search,
    _tucker,
)
from onnxslim.passes.factorize._candidates import Candidate, Family, Wanted
from onnxslim.passes.factorize._choose import Choice, closest, quietest, shared
from onnxslim.passes.factorize._layers import Layer, find
from onnxslim.passes.factorize._metric import Metric
from onnxslim.passes.factorize._pass import FactorizePass, Offer, Writer

_FAMILIES: tuple[Family, ...] = (
    _lowrank.candidates,
    _tucker.candidates,
    _spatial.candidates,
    _separable.candidates,
    _kronecker_search.candidates,
    _structured_search.candidates,
)
_RATIO = 0.5
_SHARES = (0.05, 0.15, 0.35, 0.6)
"""Sizes to choose from, of the number of weights that a layer has."""
_ATTEMPTS = 6
_TENSOR = 100
"""About what a stored factor takes beside its numbers, and the node that reads it."""


@dataclass(frozen=True)
class Factorize(FactorizePass):
    """Replace weights by whatever structured matrix moves the outputs least for its size.

    The budget is one of *ratio*, the share of its weights that every layer may keep (0.5 if no
    budget is given); *bytes* of the file, shared by the layers; *error* of the model's worst output
    on the data, as root of noise over signal. The frontier of every layer is in the report. Run the
    lossless recipe before, and give data with -c.
    """

    name = "factorize"

    ratio: float | None = None
    bytes: int | None = None
    error: float | None = None

    def __post_init__(self) -> None:
        """Refuse two budgets, and those that nothing can keep."""
        if sum(budget is not None for budget in (self.ratio, self.bytes, self.error)) > 1:
            raise ValueError("give one budget: ratio, bytes or error")
        if self.ratio is not None and not 0 < self.ratio < 1:
            raise ValueError(f"ratio={self.ratio} is no share between 0 and 1")
        if self.error is not None and self.error <= 0:
            raise ValueError(f"error={self.error} leaves no room")

    def candidates(self, layer: Layer, metric: Metric) -> Iterator[Candidate]:
        """Return what every family offers in the sizes that the budget leaves open."""
        shares = [_RATIO if self.ratio is None else self.ratio]
        if self.bytes is not None or self.error is not None:
            shares = list(_SHARES)
        wanted = Wanted(tuple(int(share * layer.parameters) for share in shares))
        for family in _FAMILIES:
            yield from family(layer, metric, wanted)

    def choose(self, offers: Sequence[Offer], model: Model, context: Context) -> Sequence[Choice]:
        """Keep the budget."""
        if self.bytes is not None:
            return _Trial(offers, model, context).within(self.bytes)
        if self.error is not None:
            return _Trial(offers, model, context).quiet(self.error)
        ratio = _RATIO if self.ratio is None else self.ratio
        return [closest(o.candidates, ratio * o.layer.parameters) for o in offers]


@dataclass(frozen=True)
class _Trial:
    """Choices, tried on copies of the model."""

    offers: Sequence[Offer]
    model: Model
    context: Context

    @property
    def _found(self) -> list[tuple[Layer, Sequence[Candidate]]]:
        return [(offer.layer, offer.candidates) for offer in self.offers]

    def within(self, most: int) -> Sequence[Choice]:
        """Return the choice of least error whose file takes no more than *most* bytes."""
        if self.model.size() <= most:
            return [None] * len(self.offers)
        other = self.model.size() - sum(offer.layer.stored for offer in self.offers)
        allowed: float = most - other
        for _ in range(_ATTEMPTS):
            chosen = shared(self._found, allowed, _bytes)
            excess = self._written(chosen).size() - most
            if excess <= 0:
                break
            allowed -= excess
        return chosen

    def quiet(self, error: float) -> Sequence[Choice]:
        """Return the smallest choice that moves the outputs by no more than *error*.

        Errors of layers add up to more or less than that of the model: how much is measured.
        """
        best: Sequence[Choice] = [None] * len(self.offers)
        low, high = 0.0, 2 * error
        for _ in range(_ATTEMPTS):
            allowed = high if not low else math.sqrt(low * high)
            chosen = quietest(self._found, allowed**2, _bytes)
            try:
                noise = self.context.noise(self._written(chosen))
            except MissingData as reason:
                self.context.decline(self.offers[0].layer.nodes[0], str(reason))
                return best
            if noise <= error**2:
                best, low, high = chosen, allowed, max(high, 2 * allowed)
            elif low:
                high = allowed
            else:
                high = allowed / 2
        return best

    def _written(self, chosen: Sequence[Choice]) -> Model:
        """Return a copy of the model with a choice."""
        copy = self.model.copy()
        lent = Context(infer=self.context.infer, run=self.context.run)
        layers = {layer.weight.name: layer for layer in find(copy, lent)}
        writer = Writer(copy, lent)
        for offer, choice in zip(self.offers, chosen, strict=True):
            if choice is not None:
                layer = layers[offer.layer.weight.name]
                writer.put(Offer(layer, offer.metric, (choice,)), choice)
        writer.finish()
        copy.compact()
        copy.sort()
        return copy


def _bytes(layer: Layer, choice: Choice) -> int:
    if choice is None:
        return layer.stored
    return choice.parameters * layer.values.itemsize + 2 * _TENSOR
