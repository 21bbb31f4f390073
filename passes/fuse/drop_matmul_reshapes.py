"""A product with a matrix, between reshapes that take dimensions together and apart again.

Source: MatMul-1 of the ONNX operator specification and its successors: all dimensions of the left
operand but the last one are carried over.
"""

from __future__ import annotations

from dataclasses import dataclass

from onnxslim.base import Effect
from onnxslim.ir import Tensor, producer
from onnxslim.passes.fuse._forms import FormsPass
from onnxslim.pattern import Match, op
from onnxslim.rewrite import Builder
from onnxslim.shapes import Facts

_RESHAPES = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")
"""Operators that keep the order of elements."""
_PRODUCT = op.MatMul("rows", "matrix")


def _product(new: Builder, m: Match, facts: Facts) -> Tensor | None:
    reshape = producer(m.tensor("rows"))
    if reshape is None or reshape.operator not in _RESHAPES:
        return None
    x, matrix = reshape.inputs[0], m.tensor("matrix")
    if facts.rank(matrix) != 2 or facts.rank(m.tensor("rows")) != 2:
        return None
    before, after = facts.dims(x), facts.dims(m.root.outputs[0])
    columns = facts.dims(matrix)
    m.require(before and after and columns, "a shape is not known")
    assert before is not None
    assert columns is not None
    m.require(before[-1] == columns[0], "the rows are not those of the tensor before")
    m.require(after == (*before[:-1], columns[1]), "the result has other dimensions")
    made = new.like(m.node("MatMul"), x, matrix)
    if "bias" not in m.tensors:
        return made
    m.require(facts.rank(m.tensor("bias")) in (0, 1), "what is added is no vector")
    return new.like(m.nodes[1], made, m.tensor("bias"))


@dataclass(frozen=True)
class DropMatmulReshapes(FormsPass):
    """Multiply by a matrix without reshaping before and after."""

    name = "drop-matmul-reshapes"
    effect = Effect.ROUNDING
    forms = tuple(
        (op.Reshape(form, "shape"), _product) for form in (_PRODUCT, op.Add(_PRODUCT, "bias"))
    )
