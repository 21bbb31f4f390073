"""CastLike to a type that is known before the model runs.

Source: CastLike-15 and Cast-13 of the ONNX operator specification and their successors, which have
the same further attributes at the same versions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from onnxslim.base import Effect
from onnxslim.ir import Array, Tensor, numpy_type
from onnxslim.passes.simplify._numbers import number
from onnxslim.passes.simplify._trial import Trial, TrialPass, TrialRule


def _lower(trial: Trial) -> Tensor | None:
    """Cast to the type that the second operand has; cast a constant now."""
    node = trial.node
    kind = trial.facts.elem_type(node.inputs[1])
    if not kind:
        return None
    values = number(node.inputs[0])
    cast = None if values is None else _cast(values, numpy_type(kind))
    if cast is not None:
        return trial.new.tensor(cast)
    trial.even = True
    return trial.new.Cast(node.inputs[0], to=kind, **node.attrs)


def _cast(values: Array, dtype: np.dtype[Any]) -> Array | None:
    """Return *values* as *dtype* where every conversion means the same; None elsewhere."""
    if dtype.kind not in "fiu":
        return None
    with np.errstate(all="ignore"):
        cast = values.astype(dtype)
    if dtype.kind == "f":
        return cast if np.isfinite(cast).all() else None
    return cast if (cast == values).all() else None


class LowerCastLike(TrialPass):
    """Turn CastLike into Cast, or into the constant that it makes of one."""

    name = "lower-cast-like"
    effect = Effect.EXACT
    rules: ClassVar[Mapping[str, TrialRule]] = {"CastLike": _lower}
