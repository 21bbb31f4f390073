"""Sums of Kronecker products in place of weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from onnxslim.base import Context
from onnxslim.errors import Declined
from onnxslim.ir import Model
from onnxslim.passes.factorize import _kronecker_nodes
from onnxslim.passes.factorize._candidates import Candidate
from onnxslim.passes.factorize._choose import Choice
from onnxslim.passes.factorize._kronecker import (
    Kronecker,
    nearest_power,
    power_shape,
    refined,
)
from onnxslim.passes.factorize._kronecker_search import Search, level
from onnxslim.passes.factorize._layers import Layer
from onnxslim.passes.factorize._metric import Metric
from onnxslim.passes.factorize._pass import FactorizePass, Offer


@dataclass(frozen=True)
class FactorizeKronecker(FactorizePass):
    """Replace weights by sums of Kronecker products that move the outputs least.

    By default, one product of the two factors that have the fewest parameters. ``first=28x25`` says
    what the first one is, ``terms`` how many products are added; ``ratio=0.1`` takes as many terms
    as fit into a tenth of the weights instead. ``shared=true`` has equal factors, A ⊗ A, and
    ``factors=4`` so many of them. Trained weights are far from such products: tune afterwards.
    """

    name = "factorize-kronecker"

    terms: int = 1
    ratio: float | None = None
    first: str = ""
    shared: bool = False
    factors: int = 2

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        if self.terms < 1 or self.factors < 2:
            raise ValueError("there must be a term, and two factors")
        if self.ratio is not None and not 0 < self.ratio < 1:
            raise ValueError(f"ratio={self.ratio} is not between 0 and 1")
        if self.ratio is not None and self.terms > 1:
            raise ValueError("give terms or ratio")
        if self.shared and (self.terms > 1 or self.ratio is not None or self.first):
            raise ValueError("equal factors make one product of one shape: leave out the others")
        if self.factors > 2 and not self.shared:
            raise ValueError("more than two factors must be equal: add shared=true")
        if self.first:
            _pair(self.first)

    def candidates(self, layer: Layer, metric: Metric) -> Iterable[Candidate]:
        """Return the sums of the shapes and sizes that were asked for."""
        if self.shared:
            found = [self._power(layer, metric)]
        else:
            pair = _pair(self.first) if self.first else None
            found = list(Search(layer, self.terms, self.ratio, pair).found(metric))
        for one in found:
            yield from _kronecker_nodes.candidates(layer, metric, one)

    def choose(self, offers: Sequence[Offer], model: Model, context: Context) -> Sequence[Choice]:
        """Choose what moves the outputs least; of those that hardly differ, what runs faster."""
        return [
            min(offer.candidates, key=lambda c: (level(c.error), c.run is None, c.time))
            for offer in offers
        ]

    def _power(self, layer: Layer, metric: Metric) -> Kronecker:
        shape = power_shape(layer.shape, self.factors)
        if shape is None:
            rows, columns = layer.shape
            raise Declined(f"{rows} and {columns} are not both powers of {self.factors}")
        start = nearest_power(layer.matrix, shape)
        gram = metric.damped
        if gram is None and self.factors > 2:
            gram = np.eye(layer.shape[0])
        return start if gram is None else refined(start, layer.matrix, gram)


def _pair(text: str) -> tuple[int, int]:
    rows, _, columns = text.partition("x")
    if not (rows.isdigit() and columns.isdigit()):
        raise ValueError(f"first={text} is no size such as 28x25")
    return int(rows), int(columns)
