"""A product with a matrix, between reshapes that take dimensions together and apart again.

Source: MatMul-1 and Gemm-7 of the ONNX operator specification and their successors: MatMul carries
over all dimensions of the left operand but the last one.
"""

from __future__ import annotations

import numpy as np

from onnxslim.base import Effect
from onnxslim.ir import Tensor, producer
from onnxslim.pattern import Match, const, op, opt
from onnxslim.rewrite import Builder, FormsPass
from onnxslim.shapes import Expr, Facts

_RESHAPES = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")
"""Operators that keep the order of elements."""
_PRODUCT = op.MatMul("rows", "matrix")


def _product(new: Builder, m: Match, facts: Facts) -> Tensor | None:
    matrix = m.tensor("matrix")
    x = _whole(m, facts, facts.dims(matrix))
    if x is None:
        return None
    made = new.like(m.node("MatMul"), x, matrix)
    return new.like(m.nodes[1], made, m.tensor("bias")) if "bias" in m.tensors else made


def _gemm(new: Builder, m: Match, facts: Facts) -> Tensor | None:
    """Write Gemm as MatMul and Add, which take more than two dimensions."""
    attrs, matrix = m.node("Gemm").attrs, m.constant("matrix")
    matrix = np.ascontiguousarray(matrix.T) if attrs.get("transB") else matrix
    x = _whole(m, facts, matrix.shape)
    if x is None:
        return None
    m.require(not attrs.get("transA"), "the left operand is transposed")
    factors = attrs.get("alpha", 1.0), attrs.get("beta", 1.0)
    m.require(factors == (1.0, 1.0), "a factor is not 1")
    made = new.MatMul(x, matrix if attrs.get("transB") else m.tensor("matrix"))
    return new.Add(made, m.tensor("bias")) if "bias" in m.tensors else made


def _whole(m: Match, facts: Facts, matrix: tuple[Expr, ...] | None) -> Tensor | None:
    """Return the left operand as it was before it was reshaped."""
    reshape = producer(m.tensor("rows"))
    if reshape is None or reshape.operator not in _RESHAPES or len(matrix or ()) != 2:
        return None
    if facts.rank(m.tensor("rows")) != 2:
        return None
    x: Tensor = reshape.inputs[0]
    before, after = facts.dims(x), facts.dims(m.root.outputs[0])
    m.require(before and after and matrix, "a shape is not known")
    assert before is not None
    assert matrix is not None
    m.require(before[-1] == matrix[0], "the rows are not those of the tensor before")
    m.require(after == (*before[:-1], matrix[1]), "the result has other dimensions")
    vector = "bias" not in m.tensors or facts.rank(m.tensor("bias")) in (0, 1)
    m.require(vector, "what is added is no vector")
    return x


class DropMatmulReshapes(FormsPass):
    """Multiply by a matrix without reshaping before and after."""

    name = "drop-matmul-reshapes"
    effect = Effect.ROUNDING
    forms = (
        (op.Reshape(_PRODUCT, "shape"), _product),
        (op.Reshape(op.Add(_PRODUCT, "bias"), "shape"), _product),
        (op.Reshape(op.Gemm("rows", const("matrix"), opt("bias")), "shape"), _gemm),
    )
