"""Sums of Kronecker products in place of layers: candidates, and the nodes they become.

x (A ⊗ B) is Aᵀ X B of x written as a matrix X. As the left operand, Aᵀ needs no Transpose, and the
terms of a sum are stacked in both constants, so that the same two products add them up.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from onnxslim.errors import Declined
from onnxslim.ir import Array, Tensor, Variable
from onnxslim.passes.factorize import _speed
from onnxslim.passes.factorize._build import (
    Place,
    finished,
    folded_product,
    reshaped,
    stacked_kronecker,
)
from onnxslim.passes.factorize._candidates import Candidate
from onnxslim.passes.factorize._kronecker import Kronecker
from onnxslim.passes.factorize._layers import Layer
from onnxslim.passes.factorize._metric import Metric
from onnxslim.rewrite import Builder


def candidates(layer: Layer, metric: Metric, found: Kronecker) -> Iterator[Candidate]:
    """Yield what runs as factors, and what is multiplied out at load."""
    rows, columns = layer.shape
    error = metric.error(layer.matrix, found.matrix[:rows, :columns])
    shared = (_size(found), found.parameters, error)
    if found.shape.size == layer.shape and layer.slot and not layer.is_convolution:
        yield Candidate(
            "Kronecker", *shared,
            partial(_running_parts, found), partial(_of_running, found),
            partial(_run, found), time=_time(layer, found),
        )  # fmt: skip
    yield Candidate(
        "Kronecker", *shared,
        partial(_parts, layer, found), partial(_of_parts, layer, found),
        expand=partial(_expand, found),
    )  # fmt: skip


def _size(found: Kronecker) -> str:
    first, count = found.shape, len(found.factors)
    if found.tied:
        return f"{first.rows[0]}x{first.columns[0]} to the power {count}"
    return f"{first}, {found.terms} terms" if found.terms > 1 else str(first)


def _time(layer: Layer, found: Kronecker) -> float:
    """Return the estimated time, by the batch that suits the factors less."""
    factors = list(zip(found.shape.rows, found.shape.columns, strict=True))
    return layer.time * _speed.slower_share(
        layer.rows, lambda rows: _speed.kronecker(rows, factors, found.terms), layer.shape
    )


# Running as factors -------------------------------------------------------------------------------


def _running_parts(found: Kronecker) -> Sequence[Array]:
    """Return the factors stacked as `stacked_kronecker` reads them; a power as its only factor."""
    if found.tied:
        return (found.factors[0][0],)
    first, second = found.factors
    terms, rows, columns = first.shape
    left = first.transpose(2, 0, 1).reshape(columns * terms, rows)
    return left, second.reshape(-1, second.shape[2])


def _of_running(found: Kronecker, parts: Sequence[Array]) -> Array:
    if found.tied:
        return _power(found, parts[0])
    first, second = found.factors
    terms, rows, columns = first.shape
    left = parts[0].reshape(columns, terms, rows).transpose(1, 2, 0)
    return Kronecker((left, parts[1].reshape(second.shape))).matrix


def _power(found: Kronecker, factor: Array) -> Array:
    return Kronecker((factor[None],) * len(found.factors), tied=True).matrix


def _run(found: Kronecker, place: Place, parts: Sequence[Tensor]) -> Variable:
    if not found.tied:
        (a1, b1), (a2, b2) = found.shape.rows, found.shape.columns
        return stacked_kronecker(place, parts, (a1, b1, a2, b2, found.terms))
    if place.rank is None or place.rank < 2 or not place.layer.slot:
        raise Declined("the number of dimensions of its input must be known, and 2 at least")
    new, factor, kept = place.new, parts[0], [0] * (place.rank - 1)
    _, rows, columns = found.factors[0].shape
    left = new.Transpose(factor, perm=[1, 0])
    value = new.Transpose(place.x, perm=[1, 0]) if place.turned else place.x
    count = len(found.factors)
    for done in range(count - 1):
        split = [*([columns**done] if done else []), rows, rows ** (count - 1 - done)]
        value = new.MatMul(left, new.Reshape(value, np.array([*kept, *split])))
    if count > 2:
        value = new.Reshape(value, np.array([*kept, columns ** (count - 1), rows]))
    product = new.MatMul(value, factor)
    return finished(place, new.Reshape(product, np.array([*kept, columns**count])))


# Multiplied out at load ---------------------------------------------------------------------------


def _parts(layer: Layer, found: Kronecker) -> Sequence[Array]:
    """Return the factors, with their outputs first where the weight is stored so.

    Those of one term are matrices, of which a power has one; those of more are a matrix of what is
    in each term, by which they are multiplied.
    """
    factors = [f.transpose(0, 2, 1) if layer.flipped else f for f in found.factors]
    if found.terms == 1:
        return [f[0] for f in factors[: 1 if found.tied else None]]
    first, second = factors
    return first.reshape(found.terms, -1).T, second.reshape(found.terms, -1)


def _of_parts(layer: Layer, found: Kronecker, parts: Sequence[Array]) -> Array:
    rows, columns = layer.shape
    if found.tied:
        return _power(found, parts[0].T if layer.flipped else parts[0])[:rows, :columns]
    first, second = parts
    factors = []
    for part, old in zip(
        (first.T if found.terms > 1 else first, second), found.factors, strict=True
    ):
        flipped = (len(old), old.shape[2], old.shape[1])
        factor = part.reshape(flipped if layer.flipped else old.shape)
        factors.append(factor.transpose(0, 2, 1) if layer.flipped else factor)
    return Kronecker(tuple(factors)).matrix[:rows, :columns]


def _expand(found: Kronecker, new: Builder, layer: Layer, parts: Sequence[Tensor]) -> Variable:
    rows, columns = found.shape.rows, found.shape.columns
    if layer.flipped:
        rows, columns = columns, rows
    if found.terms == 1:
        every = list(parts) * (len(rows) if found.tied else 1)
        value = _product(new, every, rows, columns)
    else:
        products = folded_product(new, layer.values.dtype, *parts)
        apart = new.Reshape(products, np.array([rows[0], columns[0], rows[1], columns[1]]))
        value = new.Transpose(apart, perm=[0, 2, 1, 3])
    value = new.Reshape(value, np.array([math.prod(rows), math.prod(columns)]))
    if found.shape.size != layer.shape:
        value = _cut(new, value, layer.shape[::-1] if layer.flipped else layer.shape)
    return reshaped(new, layer, value)


def _product(
    new: Builder, factors: Sequence[Tensor], rows: Sequence[int], columns: Sequence[int]
) -> Variable:
    """Return A ⊗ B ⊗ …, the indices of rows and of columns in pairs."""
    *first, value = factors
    k, m = rows[-1], columns[-1]
    for i in reversed(range(len(first))):
        inner = new.Reshape(value, np.array([k, 1, m]))
        value = new.Mul(new.Reshape(first[i], np.array([rows[i], 1, columns[i], 1])), inner)
        k, m = k * rows[i], m * columns[i]
    assert isinstance(value, Variable)
    return value


def _cut(new: Builder, value: Variable, shape: tuple[int, int]) -> Variable:
    if new.version < 10:
        raise Declined("cutting off what was filled up needs opset 10")
    return new.Slice(value, np.zeros(2, np.int64), np.array(shape))
