"""ConvTranspose followed by BatchNormalization."""

from __future__ import annotations

import numpy as np

from onnxslim.base import Effect
from onnxslim.ir import Tensor
from onnxslim.passes.fuse._batchnorm import as_type_of, scale_and_shift
from onnxslim.pattern import Match, op, opt
from onnxslim.rewrite import Builder, RewritePass


class FuseConvTransposeBn(RewritePass):
    """Fold an inference BatchNormalization into the ConvTranspose before it."""

    name = "fuse-conv-transpose-bn"
    effect = Effect.ROUNDING
    pattern = op.BatchNormalization(
        op.ConvTranspose("x", "weight", opt("bias")), "scale", "beta", "mean", "var"
    )

    def rewrite(self, new: Builder, m: Match) -> Tensor:
        """Scale the filters (C_in, C_out / group, kH, …): output channels follow the groups."""
        weight = m.constant("weight")
        scale, shift = scale_and_shift(m, new.version)
        conv = m.node("ConvTranspose")
        groups = conv.attr("group", 1)
        per_group = scale.reshape(groups, 1, -1, *[1] * (weight.ndim - 2))
        split = weight.astype(np.float64).reshape(groups, -1, *weight.shape[1:])
        filters = (split * per_group).reshape(weight.shape)
        bias = m.constant("bias", np.zeros(1)).astype(np.float64) * scale + shift
        return new.like(conv, m.tensor("x"), as_type_of(filters, weight), as_type_of(bias, weight))
