"""Low rank: a layer as a narrow one and one that widens again, a convolution as several."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from onnxslim import cost
from onnxslim.base import Context
from onnxslim.ir import Model
from onnxslim.passes.factorize import _lowrank, _separable, _spatial, _tucker
from onnxslim.passes.factorize._candidates import Candidate, Family, Wanted
from onnxslim.passes.factorize._choose import Choice, closest, shared, smallest
from onnxslim.passes.factorize._layers import Layer
from onnxslim.passes.factorize._metric import Metric
from onnxslim.passes.factorize._pass import FactorizePass, Offer

_FAMILIES: dict[str, Family] = {
    "channel": _lowrank.candidates,
    "tucker": _tucker.candidates,
    "spatial": _spatial.candidates,
    "separable": _separable.candidates,
}
_ENERGY = 0.999
_SHARES = (0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9)
"""Sizes to choose from, of the number of weights that a layer has."""
_FINE = tuple(step / 40 for step in range(1, 38))
"""The same of products, for which one decomposition serves all sizes."""
_ROUNDING = 1e-7
"""An error that is none."""


@dataclass(frozen=True)
class FactorizeLowRank(FactorizePass):
    """Replace weights by products of thinner ones that move the outputs least.

    The budget is one of *rank*; *ratio*, the share of its weights that a layer may keep; *energy*,
    the share of the power of a layer's outputs that must stay (0.999 if no budget is given);
    *parameters* or *macs* of the whole model, shared by the layers. ``aim=speed`` takes only what
    runs faster; ``aim=bytes`` stores factors and multiplies them out at load where it would not.
    *form* limits convolutions to one form. Run the lossless recipe before, and give data with -c.
    """

    name = "factorize-low-rank"

    rank: int | None = None
    ratio: float | None = None
    energy: float | None = None
    parameters: int | None = None
    macs: int | None = None
    form: Literal["auto", "channel", "tucker", "spatial", "separable"] = "auto"

    def __post_init__(self) -> None:
        """Refuse two budgets, and those that nothing can keep."""
        given = (self.rank, self.ratio, self.energy, self.parameters, self.macs)
        if sum(budget is not None for budget in given) > 1:
            raise ValueError("give one budget: rank, ratio, energy, parameters or macs")
        if self.ratio is not None and not 0 < self.ratio < 1:
            raise ValueError(f"ratio={self.ratio} is no share between 0 and 1")
        if self.energy is not None and not 0 < self.energy <= 1:
            raise ValueError(f"energy={self.energy} is no share up to 1")
        if self.rank is not None and self.rank < 1:
            raise ValueError(f"rank={self.rank} is no rank")

    def candidates(self, layer: Layer, metric: Metric) -> Iterable[Candidate]:
        """Return every form in the sizes that the budget leaves open."""
        families = _FAMILIES
        if layer.is_convolution and self.form != "auto":
            families = {self.form: _FAMILIES[self.form]}
        wanted = self._wanted(layer)
        for family in families.values():
            yield from family(layer, metric, wanted)

    def _wanted(self, layer: Layer) -> Wanted:
        if self.rank is not None:
            return Wanted(rank=self.rank)
        if self.ratio is not None:
            return Wanted((int(self.ratio * layer.parameters),))
        shares = _SHARES if layer.is_convolution else (0.01, *_FINE)
        sizes = tuple(int(share * layer.parameters) for share in shares)
        shared = self.parameters is not None or self.macs is not None
        return Wanted(sizes, error=None if shared else self._error)

    @property
    def _error(self) -> float:
        """The error that a share of the power leaves."""
        return math.sqrt(1 - (_ENERGY if self.energy is None else self.energy)) + _ROUNDING

    def choose(self, offers: Sequence[Offer], model: Model, context: Context) -> Sequence[Choice]:
        """Keep the budget."""
        if self.rank is not None:
            return super().choose(offers, model, context)
        if self.ratio is not None:
            return [closest(o.candidates, self.ratio * o.layer.parameters) for o in offers]
        found = [(offer.layer, offer.candidates) for offer in offers]
        if self.parameters is not None:
            other = cost.parameters(model) - sum(layer.parameters for layer, _ in found)
            return shared(found, self.parameters - other, _parameters)
        if self.macs is not None:
            facts = context.facts(model)
            other = cost.total_macs(model, facts) - sum(layer.macs for layer, _ in found)
            return shared(found, self.macs - other, _macs)
        return [smallest(o.candidates, self._error) for o in offers]


def _parameters(layer: Layer, choice: Choice) -> int:
    return layer.parameters if choice is None else choice.parameters


def _macs(layer: Layer, choice: Choice) -> int:
    return layer.macs if choice is None or choice.run is None else choice.macs
