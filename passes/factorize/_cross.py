"""Matrices that are of low rank up to rounding: W = C V, where C are columns of W itself.

Gaussian elimination with complete pivoting picks rows I and columns J; then V = W[I, J]⁻¹ W[I, :],
which is the identity at J. Unlike singular vectors this keeps zeros zero and mixes nothing large
into what is small. Source: Goreinov et al. 1997, A Theory of Pseudoskeleton Approximations.
"""

from __future__ import annotations

import numpy as np

from onnxslim.ir import Array

_ROUNDING = 16
"""Units in the last place of the largest element of row and column: what may be rounding."""
_SURELY = 1e-5
"""A singular value, of the length of a row, that no rounding makes of zero."""
_MIXING = 2654435769
"""Multiples of it, as 32 bits, have first bits in no order (Knuth 1973, section 6.4)."""
_GROWTH = 64
"""How much larger than the product the sum of the absolute terms may be."""


def may_be_narrow(stored: Array, most: int) -> bool:
    """Say whether a matrix may be of rank *most* or less; looks at a part of it, and is quick.

    A part whose equations have a small solution is far from singular, and so is the matrix.
    """
    rows, columns = stored.shape
    size = min(most + 1, rows, columns)
    picked = np.arange(size)
    part = stored[picked * rows // size][:, picked * columns // size].astype(np.float32)
    lengths = np.linalg.norm(part, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or not lengths.all():
        return True
    bits = np.arange(2 * size, dtype=np.uint32) * np.uint32(_MIXING) >> 31
    signs = np.where(bits, np.float32(1), np.float32(-1)).reshape(size, 2)
    try:
        solutions = np.linalg.norm(np.linalg.solve(part / lengths, signs), axis=0)
    except np.linalg.LinAlgError:
        return True
    return not np.sqrt(size) / solutions.max() > _SURELY * np.sqrt(size)


def narrow(matrix: Array, dtype: np.dtype[np.floating], most: int) -> tuple[Array, Array] | None:
    """Return C (K, r) and V (r, M), r <= *most*, whose product is *matrix*, rounded to *dtype*.

    None where there are none.
    """
    rows = np.abs(matrix).max(axis=1, keepdims=True)
    rows = np.where(rows > 0, rows, 1.0)
    columns = np.abs(matrix / rows).max(axis=0, keepdims=True)
    scale = rows * np.where(columns > 0, columns, 1.0)
    allowed = _ROUNDING * float(np.finfo(dtype).eps)
    picked = _pivots(matrix / scale, most, allowed)
    if picked is None:
        return None
    at, of = picked
    first = matrix[:, of]
    try:
        second = np.linalg.solve(matrix[np.ix_(at, of)], matrix[at])
    except np.linalg.LinAlgError:
        return None
    first, second = (part.astype(dtype).astype(np.float64) for part in (first, second))
    moved = np.abs(first @ second - matrix) / scale
    grown = np.abs(first) @ np.abs(second) / scale
    return (first, second) if moved.max() <= allowed and grown.max() <= _GROWTH else None


def _pivots(rest: Array, most: int, allowed: float) -> tuple[list[int], list[int]] | None:
    """Return the rows and columns after whose elimination only rounding is left."""
    at: list[int] = []
    of: list[int] = []
    while len(at) <= most:
        row, column = np.unravel_index(np.abs(rest).argmax(), rest.shape)
        pivot = rest[row, column]
        if abs(pivot) <= allowed:
            return (at, of) if at else None
        rest = rest - np.outer(rest[:, column] / pivot, rest[row])
        at.append(int(row))
        of.append(int(column))
    return None
