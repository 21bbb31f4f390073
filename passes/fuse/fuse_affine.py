"""A layer followed by arithmetic with constants, one number for all channels or one for each.

Source: Conv, ConvTranspose, Gemm, MatMul and the normalizations of the ONNX operator specification:
each computes something times its weights, plus its bias.
"""

from __future__ import annotations

import numpy as np

from onnxslim.base import Effect
from onnxslim.ir import Node, Tensor
from onnxslim.passes.fuse._affine import (
    Affine,
    affine,
    arithmetic,
    normalization,
    scaled,
    transformed,
)
from onnxslim.pattern import Match, const, op, opt
from onnxslim.rewrite import Builder, FormsPass
from onnxslim.shapes import Facts

_WEIGHTS = ("x", const("weight"), opt("bias"))
_LAYER = op.Conv(*_WEIGHTS) | op.ConvTranspose(*_WEIGHTS) | op.Gemm(*_WEIGHTS)
_NORM = op.InstanceNormalization(*_WEIGHTS) | op.LayerNormalization(*_WEIGHTS)
_BATCH_NORM = op.BatchNormalization("x", const("weight"), "bias", "m", "v")
_MATMUL = op.MatMul("x", const("weight"))
_SUM = op.Add(_MATMUL, const("bias"))
_LAST = ("Gemm", "LayerNormalization")
"""Operators whose channels are the last dimension, and not the second one."""


def _layer(new: Builder, m: Match, facts: Facts) -> Tensor:
    """Scale the weights by output channel, scale and shift the bias."""
    node, weight = m.nodes[1], m.tensors["weight"]
    vector = node.operator in ("BatchNormalization", "InstanceNormalization")
    m.require(not vector or weight.values.ndim == 1, "parameters are per element, not channel")
    rank = facts.rank(node.outputs[0]) if "Normalization" in node.op else weight.values.ndim
    step = affine(m, m.root, new.version, -1 if node.operator in _LAST else 1, rank)
    axis, groups = _output_axis(node)
    bias = _bias(new, m, step, node, weight.shape[axis] * groups)
    operands = [
        m.tensor("x"),
        scaled(new, weight, step.scale, axis, groups),
        bias,
        *node.inputs[3:],
    ]
    return new.like(node, *operands, beta=None)


def _output_axis(node: Node) -> tuple[int, int]:
    """Return the axis of output channels in the weights, and the number of groups along it."""
    if node.operator == "ConvTranspose":
        return 1, node.attr("group", 1)
    last = node.operator in _LAST and not node.attr("transB", 0)
    return (-1 if last else 0), 1


def _bias(new: Builder, m: Match, step: Affine, node: Node, channels: int) -> Tensor | None:
    """Return the new bias, with the factor beta of a Gemm in it; None where there is none."""
    weight = m.constant("weight")
    if "bias" in m.tensors:
        old = m.constant("bias")
        return transformed(
            new, old.astype(np.float64) * node.attr("beta", 1.0), step, channels, old
        )
    if step.shift is None:
        return None
    shapes = {"Gemm": (), "LayerNormalization": weight.shape}
    return transformed(new, np.zeros(shapes.get(node.op, (channels,))), step, channels, weight)


def _product(new: Builder, m: Match, facts: Facts) -> Tensor:
    """Scale the columns of the matrix, and what is added to the product."""
    root, weight = m.root, m.tensors["weight"]
    m.require(weight.values.ndim > 1, "the weights are a vector")
    step = affine(m, root, new.version, -1, facts.rank(m.nodes[1].outputs[0]))
    old = m.constant("bias", np.zeros((), weight.dtype))
    bias = transformed(new, old.astype(np.float64), step, weight.shape[-1], old)
    matrix = scaled(new, weight, step.scale, -1)
    if root.operator == "BatchNormalization":
        both = facts.rank(m.tensor("x")) == weight.values.ndim == 2
        m.require(both, "the product is not of two matrices")
        rows = facts.dims(m.tensor("x")) or (None,)
        fits = old.ndim < 2 or (old.ndim == 2 and old.shape[0] in (1, rows[0]))
        m.require(fits, "what is added may have more rows than the product")
        return new.Gemm(m.tensor("x"), matrix, bias)
    product = new.like(m.nodes[-1], m.tensor("x"), matrix)
    return new.like(m.nodes[1], product, bias) if "bias" in m.tensors else product


class FuseAffine(FormsPass):
    """Fold sums, products and quotients with constants into the layer before them."""

    name = "fuse-affine"
    effect = Effect.ROUNDING
    forms = (
        *((form, _layer) for layer in (_LAYER, _NORM, _BATCH_NORM) for form in arithmetic(layer)),
        *((normalization(layer), _layer) for layer in (_NORM, _BATCH_NORM)),
        *((form, _product) for form in arithmetic(_SUM)),
        (op.Mul(_MATMUL, const("c")), _product),
        (op.Div(_MATMUL, const("c")), _product),
        (normalization(_MATMUL), _product),
        (normalization(_SUM), _product),
    )
