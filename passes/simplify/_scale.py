"""A number that multiplies a tensor."""

from __future__ import annotations

import numpy as np

from onnxslim.ir import Array, Constant, Tensor
from onnxslim.passes.simplify._numbers import combine, is_scalar, number
from onnxslim.passes.simplify._trial import Trial


def scale_factor(trial: Trial) -> tuple[Tensor, Array] | None:
    """Return what a Mul or Div multiplies by one finite number other than 0, and that number."""
    if trial.opset < 7:
        return None
    a, b = trial.node.inputs
    if trial.node.operator == "Mul" and isinstance(a, Constant):
        a, b = b, a
    scale = number(b)
    if scale is None or scale.dtype.kind != "f" or not is_scalar(scale, trial.facts.rank(a)):
        return None
    if isinstance(a, Constant) or not np.isfinite(scale).all() or not scale.all():
        return None
    one = np.ones((), scale.dtype)
    operation = np.divide if trial.node.operator == "Div" else np.multiply
    return a, combine(operation, one, scale.reshape(()))
