"""Which structured matrices to compare for a layer, and the nearest of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

from onnxslim.passes.factorize import _structured
from onnxslim.passes.factorize._candidates import Candidate, Wanted
from onnxslim.passes.factorize._families import FAMILIES
from onnxslim.passes.factorize._families._form import Form
from onnxslim.passes.factorize._layers import Layer
from onnxslim.passes.factorize._metric import Metric

_EACH = 4
"""Forms of a family that are compared."""
_REFINED = 3
"""Forms that are fitted in the metric of the data, having been chosen without it."""
_EXACT = 1e-7
"""Errors below are rounding; what has fewer parameters is better then."""


def candidates(layer: Layer, metric: Metric, wanted: Wanted) -> Iterator[Candidate]:
    """Yield the best forms of all families for each size."""
    for size in wanted.sizes:
        forms = list(forms_within(FAMILIES.values(), *layer.shape, size))
        yield from best(layer, metric, forms)


def forms_within(
    families: Iterable[type[Form]], rows: int, columns: int, most: int
) -> Iterator[Form]:
    """Yield the largest forms of every family with at most so many parameters."""
    for family in families:
        yield from itertools.islice(family.within(rows, columns, most), _EACH)


def best(layer: Layer, metric: Metric, forms: Sequence[Form]) -> Iterator[Candidate]:
    """Yield those that come near, fitted in the metric of the data."""

    def error(form: Form) -> float:
        return metric.error(layer.matrix, form.expand(form.fit(layer.matrix, None)))

    if len(forms) > _REFINED:
        forms = sorted(forms, key=lambda form: rank(error(form), form.parameters))[:_REFINED]
    for form in forms:
        values = form.fit(layer.matrix, metric.damped)
        found = metric.error(layer.matrix, form.expand(values))
        yield from _structured.candidates(layer, form, values, found)


def rank(error: float, parameters: int) -> tuple[float, int]:
    """Order by error; of exact ones, by size."""
    return max(error, _EXACT), parameters
