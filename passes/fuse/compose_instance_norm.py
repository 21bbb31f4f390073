"""Normalization of every channel over its space, written out.

Source: InstanceNormalization-6 of the ONNX operator specification and its successor.
"""

from __future__ import annotations

from onnx import TensorProto

from onnxslim.base import Effect
from onnxslim.ir import Tensor
from onnxslim.passes.fuse._moments import NORMALIZED, SCALED, SHIFTED, Norm, roots
from onnxslim.pattern import Match, either
from onnxslim.rewrite import Builder, FormsPass
from onnxslim.shapes import Facts
from onnxslim.shapes.expr import is_at_least


def _instance_norm(new: Builder, m: Match, facts: Facts) -> Tensor:
    norm = Norm(new, m, facts)
    space, channels = len(norm.dims) - 2, norm.dims[1:2]
    m.require(norm.axes == list(range(-space, 0)), "the means are not over the space")
    m.require(norm.type in (TensorProto.FLOAT, TensorProto.FLOAT16), "there is no kernel for it")
    m.require(new.version >= 6, "needs opset 6")
    filled = all(is_at_least(dim, 1) for dim in norm.dims[2:])
    m.require(filled, "the kernel ends the process where the space is empty, as it may be here")
    m.require(space > 1 or "scale" in m.tensors, "it is rather a LayerNormalization")
    scale, shift = (
        norm.parameter(name, channels, space) if name in m.tensors else norm.filled(channels, value)
        for name, value in (("scale", 1), ("shift", 0))
    )
    return new.InstanceNormalization(norm.x, scale, shift, **norm.attributes())


class ComposeInstanceNorm(FormsPass):
    """Make one InstanceNormalization of means, differences and quotients."""

    name = "compose-instance-norm"
    effect = Effect.ROUNDING
    forms = tuple((root, _instance_norm) for root in roots(either(SHIFTED, SCALED, NORMALIZED)))
