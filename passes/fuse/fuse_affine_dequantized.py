"""A convolution with quantized weights, and what is done to its channels afterwards.

Source: DequantizeLinear-13 of the ONNX operator specification and its successors, and Conv: a
channel of the weights is its codes, less a zero point, times a step. A scale changes the step; its
sign mirrors the codes, because steps are positive.
"""

from __future__ import annotations

import numpy as np

from onnxslim.base import Effect
from onnxslim.ir import Array, Node, Tensor
from onnxslim.passes.fuse._affine import affine, arithmetic, fit, normalization, transformed
from onnxslim.passes.fuse._batchnorm import as_type_of
from onnxslim.pattern import Match, const, either, op, opt
from onnxslim.rewrite import Builder, FormsPass
from onnxslim.shapes import Facts

_WEIGHT = op.DequantizeLinear(const("codes"), const("step"), opt(const("zero point")))
_BIAS = op.DequantizeLinear(const("bias"), const("bias step"), opt(const("bias zero point")))
_CONV = op.Conv("x", _WEIGHT, opt(either(_BIAS, "bias")))


def _fuse(new: Builder, m: Match, _: Facts) -> Tensor:
    conv = m.node("Conv")
    quantized = m.nodes[m.nodes.index(conv) + 1]
    codes, old = m.constant("codes"), m.constant("step")
    m.require(new.version >= 13, "needs opset 13, since when channels have steps of their own")
    m.require(old.dtype in (np.float16, np.float32), f"steps are {old.dtype}")
    step = affine(m, m.root, new.version, 1, codes.ndim)
    bias, moved = _bias(m), None
    if bias is not None or step.shift is not None:
        values = np.zeros(len(codes)) if bias is None else bias
        moved = transformed(new, values, step, len(codes), old)
    weight: Tensor = quantized.outputs[0]
    if step.scale is None:
        m.nodes.remove(quantized)  # it stays
    else:
        operands = map(new.tensor, _scaled(m, quantized, step.scale), "wsz")
        weight = new.named(new.like(quantized, *operands, axis=0), "w")
    return new.like(conv, m.tensor("x"), weight, moved)


def _scaled(m: Match, quantized: Node, scale: Array) -> tuple[Tensor | Array | None, ...]:
    """Return codes, steps and zero points of weights that are scaled by channel."""
    codes, old = m.constant("codes"), m.constant("step")
    fit(scale, len(codes))
    _require_step_by_channel(m, quantized, old)
    zeros = m.constant("zero point", np.zeros(1, np.int64))
    if scale.size == 1 and (scale > 0).all():
        changed = as_type_of(old.astype(np.float64) * scale.reshape(()), old)
        _require_precision(m, changed)
        return m.tensor("codes"), changed, m.tensors.get("zero point")
    zero = np.broadcast_to(zeros.reshape(-1), len(codes))
    scale = np.broadcast_to(scale, len(codes))
    steps = as_type_of(np.abs(old.astype(np.float64).reshape(-1) * scale), old)
    steps = np.where(scale == 0, old.reshape(-1), steps)
    _require_precision(m, steps)
    made = m.tensor("codes") if (scale > 0).all() else _mirrored(m, codes, zero, np.sign(scale))
    return made, steps, zero.copy() if "zero point" in m.tensors else None


def _require_precision(m: Match, steps: Array) -> None:
    m.require((steps >= np.finfo(steps.dtype).tiny).all(), "a step would lose its precision")


def _require_step_by_channel(m: Match, node: Node, step: Array) -> None:
    """Decline blocks, and steps along another axis than that of output channels."""
    rank = m.constant("codes").ndim
    single = step.size == 1
    m.require(single or node.attr("axis", 1) % rank == 0, "the steps are not by channel")
    m.require(not node.attr("block_size", 0) and step.ndim < 2, "the weights have steps by block")


def _mirrored(m: Match, codes: Array, zero: Array, sign: Array) -> Array:
    """Multiply what codes stand for by -1, 0 or 1 by channel."""
    m.require("int" in codes.dtype.name, "the codes are no integers")
    column = (-1, *[1] * (codes.ndim - 1))
    middle = zero.astype(np.int64).reshape(column)
    made = middle + (codes.astype(np.int64) - middle) * sign.astype(np.int64).reshape(column)
    back = made.astype(codes.dtype)
    m.require((back.astype(np.int64) == made).all(), "a mirrored code is out of range")
    return back


def _bias(m: Match) -> Array | None:
    """Return the bias in float64."""
    if "bias" not in m.tensors:
        return None
    values = m.constant("bias").astype(np.float64)
    if "bias step" in m.tensors:
        step, zero = m.constant("bias step"), m.constant("bias zero point", 0)
        m.require(step.size in (1, values.size), "the bias has steps by block")
        values = (values - zero.astype(np.float64)) * step.astype(np.float64)
    return values.reshape(-1)


class FuseAffineDequantized(FormsPass):
    """Fold a BatchNormalization or arithmetic into the steps of a Conv's quantized weights."""

    name = "fuse-affine-dequantized"
    effect = Effect.ROUNDING
    forms = tuple((form, _fuse) for form in (normalization(_CONV), *arithmetic(_CONV)))
