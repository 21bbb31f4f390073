"""Products with constant matrices in a row, with constants added between and after.

Source: MatMul-1 and Gemm-7 of the ONNX operator specification, and their successors: products are
associative, and what is added before a matrix is added, multiplied by it, after it.
"""

from __future__ import annotations

import numpy as np

from onnxslim.base import Effect
from onnxslim.ir import Array, Node, Tensor
from onnxslim.passes.fuse._batchnorm import as_type_of
from onnxslim.passes.fuse._products import matrix_of
from onnxslim.pattern import Match, Op, Operand, const, op, opt
from onnxslim.rewrite import Builder, FormsPass
from onnxslim.shapes import Facts


def _right(new: Builder, m: Match, _: Facts) -> Tensor:
    """Multiply the two matrices on the right; a Gemm among the products makes it a Gemm."""
    products = [node for node in m.nodes if node.operator != "Add"]
    second, first = products
    m.require(new.version >= 7, "needs opset 7, since when operands broadcast")
    left, right = matrix_of(m, first, "first"), matrix_of(m, second, "second")
    m.require(left.shape[-1:] == right.shape[:1], "the sum between adds columns")
    m.require(not second.attr("transA", 0), "the first product is transposed")
    matrix = _multiplied(m, left, right)
    bias = _bias(m, first, second, right)
    gemm = next((node for node in reversed(products) if node.operator == "Gemm"), None)
    if gemm is None:
        product = new.like(first, m.tensor("x"), matrix)
        return product if bias is None else new.Add(product, new.tensor(bias, "b"))
    transposed = first.attr("transA", 0) or None
    plain = {"alpha": None, "beta": None, "transB": None, "transA": transposed}
    return new.like(
        gemm, m.tensor("x"), matrix, None if bias is None else new.tensor(bias, "b"), **plain
    )


def _left(new: Builder, m: Match, _: Facts) -> Tensor:
    """Multiply the two matrices on the left."""
    matrix = _multiplied(m, matrix_of(m, m.nodes[0], "second"), matrix_of(m, m.nodes[1], "first"))
    return new.like(m.root, new.tensor(matrix, "w"), m.tensor("x"))


def _multiplied(m: Match, left: Array, right: Array) -> Array:
    size = left.shape[0] * right.shape[1]
    m.require(size <= left.size + right.size, "one matrix would be larger than the two")
    return as_type_of(left @ right, m.constant("second"))


def _bias(m: Match, first: Node, second: Node, right: Array) -> Array | None:
    """Return what is added in all; None where nothing is."""
    added: Array | None = None
    if "first bias" in m.tensors:
        inside = m.constant("first bias").astype(np.float64) * first.attr("beta", 1.0)
        width = (inside.shape or (1,))[-1]
        m.require(width in (1, len(right)), "the sum between adds columns")
        added = np.broadcast_to(inside, (*inside.shape[:-1], len(right))) @ right
    if "second bias" in m.tensors:
        outside = m.constant("second bias").astype(np.float64) * second.attr("beta", 1.0)
        added = outside if added is None else added + outside
    return None if added is None else as_type_of(added, m.constant("second"))


_FIRST, _SECOND = const("first"), const("second")
_B1, _B2 = const("first bias"), const("second bias")


def _chains(of: Operand) -> list[Op]:
    """Return the patterns of two products in a row, longest first."""
    product = op.MatMul(of, _FIRST)
    gemm = op.Gemm(of, _FIRST, opt(_B1))
    summed = op.MatMul(op.Add(product, _B1), _SECOND)
    return [
        op.Add(summed, _B2),
        summed,
        op.MatMul(product, _SECOND),
        op.MatMul(gemm, _SECOND),
        op.Gemm(product, _SECOND, opt(_B2)),
        op.Gemm(gemm, _SECOND, opt(_B2)),
    ]


class FuseMatmulMatmul(FormsPass):
    """Multiply constant matrices in a row where one matrix is no larger than the two."""

    name = "fuse-matmul-matmul"
    effect = Effect.ROUNDING
    forms = (
        *((chain, _right) for chain in _chains("x")),
        (op.MatMul(_SECOND, op.MatMul(_FIRST, "x")), _left),
    )
