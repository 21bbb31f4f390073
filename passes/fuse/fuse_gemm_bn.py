"""Gemm followed by BatchNormalization."""

from __future__ import annotations

import numpy as np

from onnxslim.base import Effect
from onnxslim.ir import Tensor
from onnxslim.passes.fuse._batchnorm import as_type_of, scale_and_shift
from onnxslim.pattern import Match, op, opt
from onnxslim.rewrite import Builder, RewritePass


class FuseGemmBn(RewritePass):
    """Fold an inference BatchNormalization into the Gemm before it."""

    name = "fuse-gemm-bn"
    effect = Effect.ROUNDING
    pattern = op.BatchNormalization(
        op.Gemm("x", "weight", opt("bias")), "scale", "beta", "mean", "var"
    )

    def rewrite(self, new: Builder, m: Match) -> Tensor:
        """Scale the columns of the weight (K, N), or its rows where it is stored transposed."""
        gemm = m.node("Gemm")
        m.require(new.version >= 7, "Gemm before opset 7 does not broadcast its bias")
        weight, bias = m.constant("weight"), m.constant("bias", np.zeros(1))
        scale, shift = scale_and_shift(m, new.version)
        m.require(bias.size == bias.shape[-1:][0] if bias.ndim else True, "the bias is a matrix")
        columns = scale[:, None] if gemm.attr("transB", 0) else scale
        scaled = as_type_of(weight.astype(np.float64) * columns, weight)
        beta = gemm.attr("beta", 1.0)
        added = as_type_of(bias.astype(np.float64).reshape(-1) * beta * scale + shift, weight)
        return new.like(gemm, m.tensor("x"), scaled, added, beta=None)
