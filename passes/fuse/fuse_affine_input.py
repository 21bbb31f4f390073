"""A layer after arithmetic with constants, one number for all input channels or one for each.

What a scale does to the input, scaled weights do as well. A shift of the input shifts the output:
by what, the weights say, if no padding is added to the input.

Source: Conv, ConvTranspose, Gemm and MatMul of the ONNX operator specification.
"""

from __future__ import annotations

import numpy as np

from onnxslim.base import Effect
from onnxslim.errors import Declined
from onnxslim.ir import Array, Constant, Node, Tensor, producer
from onnxslim.passes.fuse._affine import Affine, affine, arithmetic, normalization, scaled
from onnxslim.passes.fuse._batchnorm import as_type_of
from onnxslim.pattern import Match, Op, Operand, const, op, opt
from onnxslim.rewrite import Builder, FormsPass
from onnxslim.shapes import Facts


def _conv(new: Builder, m: Match, facts: Facts) -> Tensor:
    """Scale the filters (C_out, C_in / group, …) by input channel, shift the bias."""
    node, weight = m.root, m.tensors["weight"]
    groups = node.attr("group", 1)
    step = _step(new, m, facts, 1, weight.values.ndim)
    filters = scaled(new, weight, step.scale, 1, groups)
    bias = m.tensors.get("bias")
    if step.shift is not None:
        m.require(not _pads(node), "the padding is not shifted")
        channels = weight.shape[1] * groups
        m.require(step.shift.size in (1, channels), "there are fewer channels than shifts")
        shift = np.broadcast_to(step.shift, channels).reshape(groups, -1)
        sums = weight.values.astype(np.float64).reshape(*weight.shape[:2], -1).sum(2)
        moved = (sums.reshape(groups, -1, weight.shape[1]) * shift[:, None]).sum(2).reshape(-1)
        bias = new.tensor(as_type_of(m.constant("bias", np.zeros(1)) + moved, weight.values), "b")
    return new.like(node, m.tensor("x"), filters, bias)


def _pads(node: Node) -> bool:
    automatic = node.attr("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    return automatic or any(node.attr("pads", ()))


def _conv_transpose(new: Builder, m: Match, facts: Facts) -> Tensor:
    """Scale the filters (C_in, C_out / group, …) by input channel."""
    weight = m.tensors["weight"]
    step = _step(new, m, facts, 1, weight.values.ndim)
    m.require(step.shift is None, "a shift has less effect at the borders")
    return new.like(
        m.root, m.tensor("x"), scaled(new, weight, step.scale, 0), m.tensors.get("bias")
    )


def _gemm(new: Builder, m: Match, facts: Facts) -> Tensor:
    """Scale the rows of the matrix, shift the bias by the matrix times the shift."""
    node, weight = m.root, m.tensors["weight"]
    m.require(not node.attr("transA", 0), "the input is transposed")
    step = _step(new, m, facts, -1, 2)
    _require_unfused(m)
    transposed = node.attr("transB", 0)
    matrix = scaled(new, weight, step.scale, 1 if transposed else 0)
    if step.shift is None:
        return new.like(node, m.tensor("x"), matrix, m.tensors.get("bias"))
    old = m.constant("bias", np.zeros((), weight.dtype))
    moved = _times(step.shift, weight.values.T if transposed else weight.values)
    bias = old.astype(np.float64) * node.attr("beta", 1.0) + moved * node.attr("alpha", 1.0)
    return new.like(node, m.tensor("x"), matrix, new.tensor(as_type_of(bias, old), "b"), beta=None)


def _matmul(new: Builder, m: Match, facts: Facts) -> Tensor:
    """Scale the rows of the matrix; a shift goes into what is added, or makes it a Gemm."""
    weight = m.tensors["weight"]
    m.require(weight.values.ndim > 1, "the weights are a vector")
    rank = facts.rank(m.tensor("x"))
    step = _step(new, m, facts, -1, rank)
    _require_unfused(m)
    matrix = scaled(new, weight, step.scale, -2)
    if step.shift is None:
        product = new.like(m.nodes[-2], m.tensor("x"), matrix)
        return new.like(m.root, product, m.tensor("bias")) if "bias" in m.tensors else product
    m.require(weight.values.ndim == 2, "the weights are no matrix")
    old = m.constant("bias", np.zeros((), weight.dtype))
    bias = new.tensor(as_type_of(old + _times(step.shift, weight.values), old), "b")
    if "bias" in m.tensors:
        return new.like(m.root, new.like(m.nodes[1], m.tensor("x"), matrix), bias)
    m.require(rank == 2, "a sum would take the place of a sum")
    return new.Gemm(m.tensor("x"), matrix, bias)


def _step(new: Builder, m: Match, facts: Facts, axis: int, rank: int | None) -> Affine:
    """Return what is done to the channels of the input; declines what makes channels."""
    node = m.nodes[-1]
    highest = max((len(t.shape) for t in node.inputs if isinstance(t, Constant)), default=0)
    m.require(
        highest == 0 or highest <= (facts.rank(m.tensor("x")) or 0),
        "the constant may have more dimensions than what it is applied to",
    )
    step = affine(m, node, new.version, axis, rank)
    broadcasts = node.operator != "BatchNormalization" and any(
        values is not None and values.size > 1 for values in step
    )
    same = not broadcasts or facts.same_shape(m.tensor("x"), node.outputs[0])
    m.require(same, "the constant may have more elements than there are channels")
    return step


def _require_unfused(m: Match) -> None:
    """Decline what onnxruntime fuses with a quotient or product before it.

    That is a normalization or Gelu written out.
    """
    before = producer(m.tensor("x"))
    fused = before is not None and before.operator in ("Div", "Mul")
    m.require(not fused, "onnxruntime fuses it with what is before it")


def _times(shift: Array, matrix: Array) -> Array:
    wide = matrix.astype(np.float64)
    if shift.size not in (1, wide.shape[0]):
        raise Declined("there are fewer channels than shifts")
    result: Array = np.broadcast_to(shift, wide.shape[:1]) @ wide
    return result


def _after(of: Operand) -> list[Op]:
    return [*arithmetic(of), normalization(of)]


_REST = (const("weight"), opt("bias"))


class FuseAffineInput(FormsPass):
    """Fold sums, products and quotients with constants into the layer after them."""

    name = "fuse-affine-input"
    effect = Effect.ROUNDING
    forms = (
        *((op.Conv(of, *_REST), _conv) for of in _after("x")),
        *((op.ConvTranspose(of, *_REST), _conv_transpose) for of in _after("x")),
        *((op.Gemm(of, *_REST), _gemm) for of in _after("x")),
        *((op.Add(op.MatMul(of, const("weight")), const("bias")), _matmul) for of in _after("x")),
        *((op.MatMul(of, const("weight")), _matmul) for of in _after("x")),
    )
