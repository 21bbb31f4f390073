"""Products of one input that are added, as an adapter of low rank and the layer it adapts (LoRA).

Source: MatMul-1 and Gemm-7 of the ONNX operator specification, and their successors: matrices that
multiply the same rows add up.
"""

from __future__ import annotations

from onnxslim.base import Effect
from onnxslim.ir import Tensor
from onnxslim.passes.fuse._batchnorm import as_type_of
from onnxslim.passes.fuse._products import matrix_of
from onnxslim.pattern import Match, Op, Operand, const, op, opt
from onnxslim.rewrite import Builder, FormsPass
from onnxslim.shapes import Facts

_PRODUCTS = ("Gemm", "MatMul")


def _fuse(new: Builder, m: Match, _: Facts) -> Tensor:
    products = {node.inputs[1]: node for node in m.nodes if node.operator in _PRODUCTS}
    m.require(len(products) == 2 + ("second" in m.tensors), "the products share a matrix")
    base = products[m.tensors["weight"]]
    m.require(all(not node.attr("transA", 0) for node in m.nodes), "the input is transposed")
    total = matrix_of(m, base, "weight")
    added = matrix_of(m, products[m.tensors["first"]], "first")
    if "second" in m.tensors:
        added = added @ matrix_of(m, products[m.tensors["second"]], "second")
    m.require(added.shape == total.shape, "one of the products is broadcast")
    merged = new.tensor(as_type_of(total + added, m.constant("weight")), "w")
    if base.operator == "Gemm":
        return new.like(base, m.tensor("x"), merged, m.tensors.get("bias"), alpha=None, transB=None)
    product = new.named(new.like(base, m.tensor("x"), merged), "t")
    if "bias" not in m.tensors:
        return product
    inner = next(node for node in m.nodes[1:] if node.operator == "Add")
    return new.like(inner, product, m.tensor("bias"))


def _product(of: Operand, name: str) -> Op:
    return op.MatMul(of, const(name)) | op.Gemm(of, const(name))


_BASES = (
    op.MatMul("x", const("weight")),
    op.Gemm("x", const("weight"), opt("bias")),
    op.Add(op.MatMul("x", const("weight")), const("bias")),
)
_ADDED = (_product("x", "first"), _product(_product("x", "first"), "second"))


class FuseMatmulSum(FormsPass):
    """Make one product of several of one input that are added."""

    name = "fuse-matmul-sum"
    effect = Effect.ROUNDING
    forms = tuple((op.Add(base, added), _fuse) for base in _BASES for added in _ADDED)
