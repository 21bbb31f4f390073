"""Arithmetic on weights: computed wide, rounded once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onnxslim.errors import Declined
from onnxslim.ir import Array, Constant, Tensor


def number(tensor: Tensor | None) -> Array | None:
    """Return the value of a constant that holds floats or integers."""
    if not isinstance(tensor, Constant) or tensor.dtype.kind not in "fiu" or not tensor.size:
        return None
    return tensor.values


def combine(operation: Callable[[Array, Array], Array], left: Array, right: Array) -> Array:
    """Compute in float64 and round to the type of *left*; integers wrap around as at run time.

    Declines what overflows, and what underflows so that the largest elements show it.
    """
    if left.dtype.kind != "f":
        return np.asarray(operation(left, right), left.dtype)
    with np.errstate(all="ignore"):
        wide = np.asarray(operation(left.astype(np.float64), right.astype(np.float64)))
        made = wide.astype(left.dtype)
        error = np.abs(made.astype(np.float64) - wide)
        allowed = np.finfo(left.dtype).eps * np.abs(wide).max(initial=0)
    if not (error <= allowed).all():
        raise Declined(f"the constants make one that {left.dtype} cannot hold")
    return made


def is_scalar(values: Array, rank: int | None) -> bool:
    """Say whether *values* is one number that does not raise the rank of what it is applied to."""
    return values.size == 1 and (values.ndim == 0 or (rank is not None and values.ndim <= rank))
