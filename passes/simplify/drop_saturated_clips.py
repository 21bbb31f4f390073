"""Bounds that a quantizer has anyway.

QuantizeLinear never falls as its input rises. Where it makes the smallest number of a lower bound,
what lies below the bound becomes that number too, and the same above an upper bound.

Source: QuantizeLinear-10, Clip-6 and Relu-6 of the ONNX operator specification and their
successors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from onnx import TensorProto

from onnxslim.base import Effect
from onnxslim.ir import Array, Node, Tensor, numpy_type
from onnxslim.passes.simplify._trial import Trial, TrialPass, TrialRule

_PACKED = (TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16)


def _bounds(node: Node, opset: int) -> tuple[float, float] | None:
    """Return the bounds of a Clip or Relu; None where they are not constant."""
    if node.operator == "Relu":
        return 0.0, np.inf
    if opset < 11:
        return node.attr("min", -np.inf), node.attr("max", np.inf)
    found = []
    for slot, default in ((1, -np.inf), (2, np.inf)):
        value = np.asarray(default) if node.input(slot) is None else node.constant(slot)
        if value is None or value.size != 1 or (value != value).any():
            return None
        found.append(float(value.reshape(-1)[0]))
    return (found[0], found[1]) if found[0] <= found[1] else None


def _saturates(bound: float, scale: Array, zero: Array, end: float) -> bool:
    """Say whether *bound* surely becomes *end*, the least or the largest number of the type.

    What is nearly halfway to the next number does not count: dividing rounds.
    """
    with np.errstate(all="ignore"):
        steps = bound / scale.astype(np.float64) + zero
    return bool((steps <= end + 0.25).all() if end <= 0 else (steps >= end - 0.25).all())


def _drop(trial: Trial) -> Tensor | None:
    node, kind = trial.node, trial.facts.elem_type(trial.out)
    inner = trial.above(node.inputs[0], "Clip", "Relu")
    bounds = None if inner is None else _bounds(inner, trial.opset)
    scale, zero = node.constant(1), np.zeros((), np.int64)
    if node.input(2) is not None:
        given = node.constant(2)
        zero = zero if given is None else given.astype(np.int64)
        scale = None if given is None else scale
    if inner is None or bounds is None or kind not in _PACKED or node.attr("block_size", 0):
        return None
    if scale is None or scale.dtype.kind != "f" or not (scale > 0).all():
        return None
    limits = np.iinfo(numpy_type(kind))
    ends = zip(bounds, (limits.min, limits.max), strict=True)
    if not all(_saturates(bound, scale, zero, end) for bound, end in ends):
        return None
    return trial.new.like(node, inner.inputs[0], *node.inputs[1:])


class DropSaturatedClips(TrialPass):
    """Drop Relu and Clip whose bounds the QuantizeLinear after them has anyway."""

    name = "drop-saturated-clips"
    effect = Effect.EXACT
    rules: ClassVar[Mapping[str, TrialRule]] = {"QuantizeLinear": _drop}
