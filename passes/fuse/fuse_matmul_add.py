"""A product of two matrices, and a sum.

Source: Gemm-7 of the ONNX operator specification and its successors: the third operand broadcasts
to the shape of the product, but not the other way round.
"""

from __future__ import annotations

from onnx import TensorProto

from onnxslim.base import Effect
from onnxslim.ir import Tensor
from onnxslim.pattern import Match, op
from onnxslim.rewrite import Builder, FormsPass
from onnxslim.shapes import Facts

_KERNELS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)


def _gemm(new: Builder, m: Match, facts: Facts) -> Tensor | None:
    a, b, product = m.tensor("a"), m.tensor("b"), m.nodes[1].outputs[0]
    ranks = {facts.rank(a), facts.rank(b)}
    m.require(None not in ranks, "a rank is not known")
    if ranks != {2}:
        return None
    m.require(facts.same_shape(m.root.outputs[0], product), "the sum has another shape")
    m.require(facts.elem_type(product) in _KERNELS, "onnxruntime has no kernel for the type")
    m.require(new.version >= 7, "needs opset 7, since when Gemm broadcasts")
    return new.Gemm(a, b, m.tensor("c"))


class FuseMatmulAdd(FormsPass):
    """Make one Gemm of a MatMul of two matrices and an Add."""

    name = "fuse-matmul-add"
    effect = Effect.ROUNDING
    forms = ((op.Add(op.MatMul("a", "b"), "c"), _gemm),)
