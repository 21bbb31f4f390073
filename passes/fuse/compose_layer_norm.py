"""Normalization over the last dimensions, written out.

Source: LayerNormalization-17 of the ONNX operator specification.
"""

from __future__ import annotations

from onnxslim.base import Effect
from onnxslim.ir import Tensor
from onnxslim.passes.fuse._moments import NORMALIZED, SCALED, SHIFTED, Norm, roots
from onnxslim.pattern import Match, either
from onnxslim.rewrite import Builder, FormsPass
from onnxslim.shapes import Facts


def _layer_norm(new: Builder, m: Match, facts: Facts) -> Tensor:
    m.require(new.version >= 17, "needs opset 17")
    norm = Norm(new, m, facts)
    count = len(norm.axes)
    m.require(norm.axes == list(range(-count, 0)), "the means are not over the last dimensions")
    inner = norm.dims[-count:]
    scale = norm.parameter("scale", inner) if "scale" in m.tensors else norm.filled(inner, 1)
    shift = norm.parameter("shift", inner) if "shift" in m.tensors else None
    attrs = {} if count == 1 else {"axis": -count}
    return new.LayerNormalization(norm.x, scale, shift, **attrs, **norm.attributes())


class ComposeLayerNorm(FormsPass):
    """Make one LayerNormalization of means, differences and quotients."""

    name = "compose-layer-norm"
    effect = Effect.ROUNDING
    forms = tuple((root, _layer_norm) for root in roots(either(SHIFTED, SCALED, NORMALIZED)))
