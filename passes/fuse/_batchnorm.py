"""An inference BatchNormalization as a scale and a shift per channel."""

from __future__ import annotations

import numpy as np

from onnxslim.errors import Declined
from onnxslim.ir import Array, Node
from onnxslim.pattern import Match


def scale_and_shift(m: Match, version: int) -> tuple[Array, Array]:
    """Return float64 vectors (C,) such that the matched node computes ``x * scale + shift``.

    The pattern must have captured ``scale``, ``beta``, ``mean`` and ``var``. Declines training
    mode, which normalises by the batch, and values that do not give finite numbers. Source:
    BatchNormalization-1 to -15 of the ONNX operator specification.
    """
    node = m.root
    m.require(not _trains(node, version), "BatchNormalization is in training mode")
    m.require(version >= 9 or node.attr("spatial", 1), "statistics are per element, not channel")
    names = ("scale", "beta", "mean", "var")
    gamma, beta, mean, var = (m.constant(name).astype(np.float64) for name in names)
    with np.errstate(all="ignore"):
        scale = gamma / np.sqrt(var + node.attr("epsilon", 1e-5))
        shift = beta - mean * scale
    m.require(np.isfinite(scale).all() and np.isfinite(shift).all(), "statistics are not finite")
    return scale, shift


def _trains(node: Node, version: int) -> bool:
    if version >= 14:
        return bool(node.attr("training_mode", 0))
    if version >= 7:
        return sum(bool(tensor.name) for tensor in node.outputs) > 1
    return not node.attr("is_test", 0)


def as_type_of(values: Array, like: Array) -> Array:
    """Round *values* to the type of *like*; declines what overflows there."""
    with np.errstate(over="ignore"):
        rounded = values.astype(like.dtype)
    if not np.isfinite(rounded.astype(np.float64)).all():
        raise Declined(f"the fused weights overflow {like.dtype}")
    return rounded
