"""Sums of Kronecker products in place of weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from onnxslim.base import Context
from onnxslim.errors import Declined
from onnxslim.ir import Array, Model
from onnxslim.passes.factorize import _kronecker_nodes
from onnxslim.passes.factorize._candidates import Candidate
from onnxslim.passes.factorize._choose import Choice
from onnxslim.passes.factorize._kronecker import (
    Kronecker,
    Shape,
    nearest,
    nearest_power,
    power_shape,
    refined,
    shapes,
)
from onnxslim.passes.factorize._layers import Layer
from onnxslim.passes.factorize._metric import Metric
from onnxslim.passes.factorize._pass import FactorizePass, Offer

_PADDING = 8
"""Rows and columns that may be added to find a shape of fewer parameters."""
_WORTH = 0.9
"""Of the parameters without padding, that a shape with padding may have."""
_TRIED, _REFINED = 6, 2
"""Shapes of a given number of parameters that are compared, and how many of them are refined."""
_STEPS = 50
"""Levels of errors while they grow e times: errors of one level differ by 2 % at most."""
_LARGEST = 2048
"""Unknowns of one least-squares problem, terms times rows of a factor."""


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
        found = [self._power(layer, metric)] if self.shared else self._sums(layer, metric)
        for one in found:
            yield from _kronecker_nodes.candidates(layer, metric, one)

    def choose(self, offers: Sequence[Offer], model: Model, context: Context) -> Sequence[Choice]:
        """Choose what moves the outputs least; of those that hardly differ, what runs faster."""
        return [
            min(offer.candidates, key=lambda c: (_level(c.error), c.run is None, c.time))
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

    def _sums(self, layer: Layer, metric: Metric) -> Iterator[Kronecker]:
        """Yield those nearest in Frobenius norm, refined in the metric of the data."""
        starts = [
            nearest(_padded(layer, shape), shape, terms) for shape, terms in self._sizes(layer)
        ]
        rows, columns = layer.shape
        starts.sort(key=lambda s: _level(metric.error(layer.matrix, s.matrix[:rows, :columns])))
        for start in starts[:_REFINED]:
            if metric.damped is None:
                yield start
            else:
                extra = start.shape.size[0] - rows
                gram = np.pad(metric.damped, (0, extra))
                yield refined(start, _padded(layer, start.shape), gram)

    def _sizes(self, layer: Layer) -> list[tuple[Shape, int]]:
        """Return shapes to compare, and their terms."""
        found = [(shape, self._count(layer, shape)) for shape in self._shapes(layer)]
        usable = [(shape, terms) for shape, terms in found if terms]
        if not usable:
            raise Declined("no products of two factors have so few parameters")
        if self.ratio is None and not self.first:
            fewest = usable[0][0].parameters
            usable = [item for item in usable if item[0].parameters == fewest]
        return usable[:_TRIED]

    def _shapes(self, layer: Layer) -> list[Shape]:
        """Return the shapes in question; the kernel of a convolution stays in the second factor."""
        taps = math.prod(layer.kernel)

        def of(rows: int, columns: int) -> list[Shape]:
            found = (s for s in shapes((rows, columns)) if s.rows[1] % taps == 0)
            return [s for s in found if not self.first or _first(s) == _pair(self.first)]

        inputs, outputs = layer.shape
        plain = of(inputs, outputs)
        extra = range(_PADDING + 1)
        padded = [s for i in extra for j in extra for s in of(inputs + i * taps, outputs + j)[:1]]
        best = min(padded, key=lambda s: s.parameters, default=None)
        if best is None or (plain and best.parameters > _WORTH * plain[0].parameters):
            return plain
        return [best]

    def _count(self, layer: Layer, shape: Shape) -> int:
        """Return the number of terms for a shape; 0 if it does not qualify."""
        terms = self.terms
        if self.ratio is not None:
            terms = int(self.ratio * layer.parameters / shape.parameters)
        terms = min(terms, shape.most_terms)
        return terms if terms * max(shape.rows) <= _LARGEST else 0


def _level(error: float) -> int:
    """Return a number that is the same for errors that hardly differ."""
    return round(_STEPS * math.log(max(error, 1e-9)))


def _padded(layer: Layer, shape: Shape) -> Array:
    rows, columns = (new - old for new, old in zip(shape.size, layer.shape, strict=True))
    return np.pad(layer.matrix, [(0, rows), (0, columns)])


def _first(shape: Shape) -> tuple[int, int]:
    return shape.rows[0], shape.columns[0]


def _pair(text: str) -> tuple[int, int]:
    rows, _, columns = text.partition("x")
    if not (rows.isdigit() and columns.isdigit()):
        raise ValueError(f"first={text} is no size such as 28x25")
    return int(rows), int(columns)
