"""Conv followed by BatchNormalization."""

from __future__ import annotations

import numpy as np

from onnxslim.base import Effect
from onnxslim.ir import Tensor
from onnxslim.passes.fuse._batchnorm import as_type_of, scale_and_shift
from onnxslim.pattern import Match, op, opt
from onnxslim.rewrite import Builder, RewritePass


class FuseConvBn(RewritePass):
    """Fold an inference BatchNormalization into the Conv before it."""

    name = "fuse-conv-bn"
    effect = Effect.ROUNDING
    pattern = op.BatchNormalization(
        op.Conv("x", "weight", opt("bias")), "scale", "beta", "mean", "var"
    )

    def rewrite(self, new: Builder, m: Match) -> Tensor:
        """Scale the filters (C_out, C_in / group, kH, …), scale and shift the bias (C_out,)."""
        weight = m.constant("weight")
        scale, shift = scale_and_shift(m, new.version)
        filters = weight.astype(np.float64) * scale.reshape(-1, *[1] * (weight.ndim - 1))
        bias = m.constant("bias", np.zeros(1)).astype(np.float64) * scale + shift
        return new.like(
            m.node("Conv"), m.tensor("x"), as_type_of(filters, weight), as_type_of(bias, weight)
        )
