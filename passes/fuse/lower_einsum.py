"""Einsum, where a plainer operator does the same.

Source: Einsum-12 of the ONNX operator specification.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from onnxslim.base import Effect
from onnxslim.ir import Array, Constant, Tensor
from onnxslim.pattern import Match, op
from onnxslim.rewrite import Builder, FormsPass
from onnxslim.shapes import Expr, Facts

_MATMUL_TYPES = frozenset(
    {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.INT32}
    | {TensorProto.INT64, TensorProto.UINT32, TensorProto.UINT64}
)
"""Those for which onnxruntime has kernels."""


def _terms(m: Match) -> tuple[list[str], str] | None:
    """Return the labels of the operands and of the result; None where a label repeats in one."""
    equation = str(m.root.attr("equation", "")).replace(" ", "")
    left, arrow, result = equation.partition("->")
    operands = left.split(",")
    if not arrow or "." in equation or any(len(set(t)) < len(t) for t in (*operands, result)):
        return None
    return operands, result


def _one(new: Builder, m: Match, _: Facts) -> Tensor | None:
    """Write ij->ji as Transpose."""
    terms = _terms(m)
    if terms is None or set(terms[0][0]) != set(terms[1]):
        return None
    (labels,), result = terms
    x: Tensor = m.tensor("x")
    return x if labels == result else new.Transpose(x, perm=[labels.index(i) for i in result])


def _two(new: Builder, m: Match, facts: Facts) -> Tensor | None:
    """Write …ij,…jk->…ik as MatMul; a constant matrix may be stored the other way round."""
    terms = _terms(m)
    if terms is None:
        return None
    if facts.elem_type(m.tensor("a")) not in _MATMUL_TYPES:
        return None
    operands = list(zip((m.tensor("a"), m.tensor("b")), terms[0], strict=True))
    for (a, left), (b, right) in (operands, operands[::-1]):
        sides = _sides(left, right, terms[1])
        if sides is not None:
            _require_equal_extents(m, facts, operands)
            first, second = _oriented(a, left, sides[0]), _oriented(b, right, sides[1])
            if first is not None and second is not None:
                return new.MatMul(first, second)
    return None


def _sides(left: str, right: str, result: str) -> tuple[str, str] | None:
    """Return the labels of rows and columns of the two operands of a MatMul that is the same."""
    shared = set(left[-2:]) & set(right[-2:]) - set(result)
    if min(len(left), len(right), len(result)) < 2 or len(shared) != 1:
        return None
    (inner,) = shared
    batch, rows, columns = result[:-2], result[-2], result[-1]
    full = {left[:-2], right[:-2]}
    batches = full == {batch} or full == {batch, ""}
    fits = {rows, inner} == set(left[-2:]) and {inner, columns} == set(right[-2:])
    return (rows + inner, inner + columns) if batches and fits else None


def _oriented(tensor: Tensor, labels: str, wanted: str) -> Tensor | Array | None:
    """Return the operand so that its last two labels are as wanted."""
    if labels.endswith(wanted):
        return tensor
    return np.swapaxes(tensor.values, -1, -2) if isinstance(tensor, Constant) else None


def _require_equal_extents(m: Match, facts: Facts, operands: list[tuple[Tensor, str]]) -> None:
    """Decline where a label might stand for 1 in one operand and for more in another."""
    extents: dict[str, Expr] = {}
    for tensor, labels in operands:
        dims = facts.dims(tensor)
        m.require(dims is not None and len(dims) == len(labels), "a shape is not known")
        for label, dim in zip(labels, dims or (), strict=True):
            m.require(extents.setdefault(label, dim) == dim, "a dimension might be broadcast")


class LowerEinsum(FormsPass):
    """Write an Einsum as MatMul or Transpose where one of these does."""

    name = "lower-einsum"
    effect = Effect.ROUNDING
    forms = ((op.Einsum("x"), _one), (op.Einsum("a", "b"), _two))
