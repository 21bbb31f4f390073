"""Which sums of Kronecker products to compare for a layer, and the nearest of them.

Source: Van Loan & Pitsianis 1993, Approximation with Kronecker products.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from onnxslim.errors import Declined
from onnxslim.ir import Array
from onnxslim.passes.factorize import _kronecker_nodes
from onnxslim.passes.factorize._candidates import Candidate, Wanted
from onnxslim.passes.factorize._kronecker import Kronecker, Shape, nearest, refined, shapes
from onnxslim.passes.factorize._layers import Layer
from onnxslim.passes.factorize._metric import Metric

_PADDING = 8
"""Rows and columns that may be added to find a shape of fewer parameters."""
_WORTH = 0.9
"""Of the parameters without padding, that a shape with padding may have."""
_TRIED, _REFINED = 6, 2
"""Shapes of a given number of parameters that are compared, and how many of them are refined."""
_STEPS = 50
"""Levels of errors while they grow e times: errors of one level differ by 2 % at most."""
_LARGEST, _QUICK = 2048, 384
"""Unknowns of one least-squares problem, terms times rows of a factor."""


def candidates(layer: Layer, metric: Metric, wanted: Wanted) -> Iterator[Candidate]:
    """Yield the best sums with as many terms as fit into each size."""
    for size in wanted.sizes:
        try:
            search = Search(layer, ratio=size / layer.parameters, quick=True)
            found = list(search.found(metric))
        except Declined:
            continue
        for one in found:
            yield from _kronecker_nodes.candidates(layer, metric, one)


def level(error: float) -> int:
    """Return a number that is the same for errors that hardly differ."""
    return round(_STEPS * math.log(max(error, 1e-9)))


@dataclass(frozen=True)
class Search:
    """What is asked for: so many *terms*, or as many as fit; perhaps the size of the *first*."""

    layer: Layer
    terms: int = 1
    ratio: float | None = None
    first: tuple[int, int] | None = None
    quick: bool = False
    """Whether to refine one shape alone, of few terms."""

    def found(self, metric: Metric) -> Iterator[Kronecker]:
        """Yield those nearest in Frobenius norm, refined in the metric of the data."""
        starts = [nearest(self._padded(shape), shape, terms) for shape, terms in self._sizes()]
        matrix = self.layer.matrix
        rows, columns = matrix.shape
        starts.sort(key=lambda s: level(metric.error(matrix, s.matrix[:rows, :columns])))
        for start in starts[: 1 if self.quick else _REFINED]:
            if metric.damped is None:
                yield start
            else:
                extra = start.shape.size[0] - rows
                gram = np.pad(metric.damped, (0, extra))
                yield refined(start, self._padded(start.shape), gram)

    def _sizes(self) -> list[tuple[Shape, int]]:
        """Return shapes to compare, and their terms."""
        found = [(shape, self._count(shape)) for shape in self._shapes()]
        usable = [(shape, terms) for shape, terms in found if terms]
        if not usable:
            raise Declined("no products of two factors have so few parameters")
        if self.ratio is None and not self.first:
            fewest = usable[0][0].parameters
            usable = [item for item in usable if item[0].parameters == fewest]
        return usable[:_TRIED]

    def _shapes(self) -> list[Shape]:
        """Return the shapes in question; the kernel of a convolution stays in the second factor."""
        taps = math.prod(self.layer.kernel)

        def of(rows: int, columns: int) -> list[Shape]:
            found = (s for s in shapes((rows, columns)) if s.rows[1] % taps == 0)
            return [s for s in found if not self.first or _first(s) == self.first]

        inputs, outputs = self.layer.shape
        plain = of(inputs, outputs)
        extra = range(_PADDING + 1)
        padded = [s for i in extra for j in extra for s in of(inputs + i * taps, outputs + j)[:1]]
        best = min(padded, key=lambda s: s.parameters, default=None)
        if best is None or (plain and best.parameters > _WORTH * plain[0].parameters):
            return plain
        return [best]

    def _count(self, shape: Shape) -> int:
        """Return the number of terms for a shape; 0 if it does not qualify."""
        terms = self.terms
        if self.ratio is not None:
            terms = int(self.ratio * self.layer.parameters / shape.parameters)
        terms = min(terms, shape.most_terms)
        if self.quick:
            return min(terms, _QUICK // max(shape.rows))
        return terms if terms * max(shape.rows) <= _LARGEST else 0

    def _padded(self, shape: Shape) -> Array:
        rows, columns = (new - old for new, old in zip(shape.size, self.layer.shape, strict=True))
        return np.pad(self.layer.matrix, [(0, rows), (0, columns)])


def _first(shape: Shape) -> tuple[int, int]:
    return shape.rows[0], shape.columns[0]
