"""Linear systems that are too large to write down."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onnxslim.ir import Array

_STEPS = 30
_TOLERANCE = 1e-5
"""Of the first residual, at which to stop."""


def conjugate_gradients(
    normal: Callable[[Array], Array], target: Array, start: Array, scale: Array
) -> Array:
    """Solve normal(a) = target from *start*; *scale* is about the diagonal of the system."""
    weights = 1 / np.where(scale > 0, scale, np.inf)
    found = start.copy()
    residual = target - normal(found)
    reduced = weights * residual
    direction, size = reduced, float(residual @ reduced)
    enough = _TOLERANCE**2 * max(size, float(target @ (weights * target)) * 1e-12)
    for _ in range(_STEPS):
        if size <= enough:
            break
        image = normal(direction)
        step = size / float(direction @ image)
        found += step * direction
        residual -= step * image
        reduced = weights * residual
        size, before = float(residual @ reduced), size
        direction = reduced + size / before * direction
    return found
