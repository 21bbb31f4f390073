"""Normalization by the root of the mean square, written out.

Source: RMSNormalization-23 of the ONNX operator specification.
"""

from __future__ import annotations

from onnxslim.base import Effect
from onnxslim.ir import Tensor
from onnxslim.passes.fuse._moments import RMS_NORMALIZED, RMS_SCALED, Norm, roots
from onnxslim.pattern import Match, either
from onnxslim.rewrite import Builder, FormsPass
from onnxslim.shapes import Facts


def _rms_norm(new: Builder, m: Match, facts: Facts) -> Tensor:
    m.require(new.version >= 23, "needs opset 23")
    norm = Norm(new, m, facts)
    count = len(norm.axes)
    m.require(norm.axes == list(range(-count, 0)), "the mean is not over the last dimensions")
    inner = norm.dims[-count:]
    scale = norm.parameter("scale", inner) if "scale" in m.tensors else norm.filled(inner, 1)
    attrs = {} if count == 1 else {"axis": -count}
    return new.RMSNormalization(norm.x, scale, **attrs, **norm.attributes())


class ComposeRmsNorm(FormsPass):
    """Make one RMSNormalization of a mean square, its root and a quotient."""

    name = "compose-rms-norm"
    effect = Effect.ROUNDING
    forms = tuple((root, _rms_norm) for root in roots(either(RMS_SCALED, RMS_NORMALIZED)))
