"""Weights that are structured up to rounding: what to look at first, and what is then proved.

A row of a sum of R Kronecker products has rank R as a matrix, and so has a column: two small
singular value decompositions for each divisor tell what to try. The other structures show in a few
elements of a corner. Only what these suggest is compared in full.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from onnxslim.ir import Array
from onnxslim.passes.factorize._families import FAMILIES
from onnxslim.passes.factorize._families._form import Form, Values
from onnxslim.passes.factorize._kronecker import Kronecker, Shape, divisors, nearest

_LOOSE, _ROUNDING = 32, 4
"""Epsilons: of the largest singular value, that hint at a rank; of the largest weight, that each
term of an equal matrix may be off."""
_TRIED = 3
_PART, _LEAST = 8, 5
"""Rows and columns that are looked at, and the rank that at least they show where it is full."""


def is_suspect(matrix: Array) -> bool:
    """Say whether a look at few elements leaves it open that *matrix* is structured."""
    return hints(matrix) or bool(suspects(matrix))


def kronecker(matrix: Array) -> Iterator[Kronecker]:
    """Yield sums of few products that are *matrix*, the smallest first."""
    for shape, terms in suspects(matrix)[:_TRIED]:
        found = nearest(matrix.astype(np.float64), shape, terms)
        rounded = Kronecker(tuple(f.astype(matrix.dtype) for f in found.factors))
        if equal(matrix, rounded.matrix, terms):
            yield found
            return


def suspects(matrix: Array) -> list[tuple[Shape, int]]:
    """Return shapes, and how many terms, by what a row and a column are."""
    rows, columns = matrix.shape
    across = _ranks(_largest([matrix[i] for i in (0, rows // 2, rows - 1)]))
    along = _ranks(_largest([matrix[:, j] for j in (0, columns // 2, columns - 1)]))
    tall, wide = _evident(along, rows), _evident(across, columns)
    found = []
    for k in along if wide else tall:
        for m in across if tall else wide:
            shape, terms = Shape((k, rows // k), (m, columns // m)), max(along[k], across[m])
            if terms and (k in tall or m in wide) and 2 * terms * shape.parameters < matrix.size:
                found.append((shape, terms))
    return sorted(found, key=lambda item: item[1] * item[0].parameters)


def _evident(ranks: dict[int, int], size: int) -> set[int]:
    """Return the divisors whose rank is less than that of other vectors of this size."""
    return {d for d, rank in ranks.items() if rank < min(d, size // d, _LEAST)}


def _largest(vectors: list[Array]) -> Array:
    return max(vectors, key=lambda vector: float(np.abs(vector).max(initial=0.0)))


def _ranks(vector: Array) -> dict[int, int]:
    """Return by divisor the rank of *vector* as a matrix of so many rows, by a part of it."""
    if not np.isfinite(vector).all():
        return {}
    every = divisors(len(vector))
    parts = np.zeros((len(every), _PART, _PART))
    for part, rows in zip(parts, every, strict=True):
        whole = vector.reshape(rows, -1)
        chosen = whole[:: -(-rows // _PART), :: -(-whole.shape[1] // _PART)]
        part[: len(chosen), : chosen.shape[1]] = chosen
    values = np.linalg.svd(parts, compute_uv=False)
    tolerance = _LOOSE * float(np.finfo(vector.dtype).eps) * values[:, :1]
    return dict(zip(every, (values > tolerance).sum(axis=1).tolist(), strict=True))


def structured(matrix: Array) -> Iterator[tuple[Form, Values]]:
    """Yield the structured matrix that is *matrix*, the smallest."""
    if not hints(matrix):
        return
    for form in sorted(_forms(matrix), key=lambda form: form.parameters):
        values = form.fit(matrix.astype(np.float64), None)
        rounded = tuple(v.astype(matrix.dtype) for v in values)
        if equal(matrix, form.expand(rounded), 1):
            yield form, values
            return


def hints(matrix: Array) -> bool:
    """Say whether a corner is constant along a diagonal, or the far corners are zero.

    Blocks of two rows have both diagonals; others have a third element to look at.
    """
    if min(matrix.shape) < 2 or not np.isfinite(matrix[:3, :3]).all():
        return False
    (a, b), (c, d) = matrix[:2, :2]
    down, up = _near(a, d), _near(b, c)
    if down != up and min(matrix.shape) > 2:
        down = down and _near(d, matrix[2, 2])
        up = up and _near(matrix[1, 2], matrix[2, 1])
    return bool(down or up or (matrix[0, -1] == 0 and matrix[-1, 0] == 0))


def _near(one: np.floating[Any], other: np.floating[Any]) -> bool:
    return bool(abs(one - other) <= _ROUNDING * np.finfo(one.dtype).eps * max(abs(one), abs(other)))


def _forms(matrix: Array) -> Iterator[Form]:
    """Yield the forms in question."""
    rows, columns = matrix.shape
    for name in ("circulant", "toeplitz", "hankel"):
        yield from FAMILIES[name].within(rows, columns, matrix.size)
    yield from FAMILIES["block-circulant"].within(rows, columns, matrix.size // 2)
    for diagonals in (1, 3, 5):
        yield from FAMILIES["banded"].within(rows, columns, diagonals * min(rows, columns))


def equal(matrix: Array, other: Array, terms: int) -> bool:
    """Say whether two matrices are the same up to rounding."""
    largest = float(np.abs(matrix).max(initial=0.0))
    allowed = _ROUNDING * terms * float(np.finfo(matrix.dtype).eps) * largest
    return bool(np.abs(matrix - other).max(initial=0.0) <= allowed)
