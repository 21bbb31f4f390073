"""Weights that choose inputs and scale them: no output is a sum of two of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from onnxslim.errors import Declined
from onnxslim.ir import Array, Tensor, Variable
from onnxslim.passes.factorize import _speed
from onnxslim.passes.factorize._build import Place, finished
from onnxslim.passes.factorize._candidates import Candidate
from onnxslim.passes.factorize._layers import Layer

_ELEMENT = 1e-3
"""Microseconds to move or scale an element."""


def candidates(layer: Layer, matrix: Array) -> Iterator[Candidate]:
    """Yield a Gather, a Mul, or both, if *matrix*, (K, M), has no two elements in a column."""
    if layer.is_convolution or np.count_nonzero(matrix[:, 0]) > 1:
        return
    chosen = matrix != 0
    if (chosen.sum(axis=0) > 1).any():
        return
    rows, columns = matrix.shape
    places = chosen.argmax(axis=0)
    scales = matrix[places, np.arange(columns)]
    ordered = rows == columns and bool((places == np.arange(columns)).all())
    plain = bool((scales == 1).all())
    parts = [*([] if ordered else [places.astype(np.int32)]), *([] if plain else [scales])]
    nodes = _speed.NODE * max(1, len(parts))
    yield Candidate(
        "selection", "in order" if ordered else "reordered",
        sum(part.size for part in parts), 0.0,
        lambda: parts, partial(_approximation, layer, ordered, plain),
        partial(_run, layer, ordered, plain),
        nodes + layer.rows * columns * len(parts) * _ELEMENT,
    )  # fmt: skip


def _approximation(layer: Layer, ordered: bool, plain: bool, parts: Sequence[Array]) -> Array:
    rows, columns = layer.shape
    made = np.zeros((rows, columns))
    places = np.arange(columns) if ordered else parts[0]
    made[places, np.arange(columns)] = 1.0 if plain else parts[-1]
    return made


def _run(
    layer: Layer, ordered: bool, plain: bool, place: Place, parts: Sequence[Tensor]
) -> Variable:
    if place.rank is None or place.rank < 2:
        raise Declined("the number of dimensions of its input must be known, and 2 at least")
    new = place.new
    value = new.Transpose(place.x, perm=[1, 0]) if place.turned else place.x
    if not ordered:
        value = new.Gather(value, parts[0], axis=place.rank - 1 if layer.slot else place.rank - 2)
    if not plain:
        scales = parts[-1] if layer.slot else new.Reshape(parts[-1], np.array([-1, 1]))
        value = new.Mul(value, scales)
    made = new.nodes[-1].outputs[0] if new.nodes else new.Identity(value)
    assert isinstance(made, Variable)
    return finished(place, made)
