"""What exporters write out that has an operator of its own."""

# ruff: noqa: D103 (what a motif is called says what it makes)

from __future__ import annotations

import math

import numpy as np
from onnx import helper

from benchmarks.fuzz.grower import Grower, Refused, motif
from benchmarks.fuzz.motifs.arithmetic import operand_shape, reduced
from benchmarks.fuzz.motifs.layers import channel_affine
from benchmarks.fuzz.values import Value


@motif(5)
def written_out(g: Grower) -> None:
    """What exporters write out that has an operator of its own."""
    x = g.pick(ok=lambda v: v.rank >= 1 and 0 not in v.shape)
    g.choose(layer_norm, rms_norm, softmax, gelu, silu, hard_swish, prelu, instance_norm)(g, x)


def layer_norm(g: Grower, x: Value) -> Value:
    axes = g.choose([-1], [-1], [x.rank - 1], [-2, -1][-x.rank :])
    centred = g.node("Sub", [x, reduced(g, "ReduceMean", x, axes, keepdims=1)])
    if g.flip():
        square = g.node("Mul", [centred, centred])
    else:
        square = g.node("Pow", [centred, g.scalar(2)])
    variance = reduced(g, "ReduceMean", square, axes, keepdims=1)
    return scaled(g, centred, variance, x)


def scaled(g: Grower, centred: Value, variance: Value, x: Value) -> Value:
    """Divide by the root of a variance that is not near zero, then scale and shift."""
    shifted = g.node("Add", [variance, g.scalar(g.choose(1.0, 0.5))])
    shifted.rough = False
    root = g.node("Sqrt", [shifted])
    root.rough = False
    if g.flip(0.7):
        y = g.node("Div", [centred, root]) if not centred.rough else divided(g, centred, root)
    else:
        y = g.node("Mul", [centred, g.node("Reciprocal", [root])])
    y.rough = True
    for op in ("Mul", "Add")[: g.choose(0, 1, 2, 2)]:
        y = g.node(op, [y, g.constant(g.array(x.type, g.choose(x.shape[-1:], (1,), ())))])
    return y


def divided(g: Grower, x: Value, by: Value) -> Value:
    """Divide by what is safely away from zero."""
    x.rough = by.rough = False
    y = g.node("Div", [x, by])
    x.rough = by.rough = y.rough = True
    return y


def rms_norm(g: Grower, x: Value) -> Value:
    square = g.node("Mul", [x, x]) if g.flip() else g.node("Pow", [x, g.scalar(2)])
    return scaled(g, x, reduced(g, "ReduceMean", square, [-1], keepdims=1), x)


def instance_norm(g: Grower, x: Value) -> Value:
    if x.rank < 3:
        raise Refused
    axes = list(range(2, x.rank))
    centred = g.node("Sub", [x, reduced(g, "ReduceMean", x, axes, keepdims=1)])
    square = g.node("Mul", [centred, centred])
    variance = reduced(g, "ReduceMean", square, axes, keepdims=1)
    return channel_affine(g, scaled(g, centred, variance, x))


def softmax(g: Grower, x: Value) -> Value:
    axis = g.choose(-1, -1, 0, x.rank - 1)
    if g.flip(0.3):
        return g.node(g.choose("Softmax", "LogSoftmax"), [x], axis=axis % x.rank)
    if g.flip():
        x = g.node("Sub", [x, reduced(g, "ReduceMax", x, [axis], keepdims=1)])
    powers = g.node("Exp", [x])
    return divided(g, powers, reduced(g, "ReduceSum", powers, [axis], keepdims=1))


def gelu(g: Grower, x: Value) -> Value:
    inner = g.node("Erf", [divided(g, x, g.scalar(math.sqrt(2)))])
    one = g.node("Add", [inner, g.scalar(1)])
    if g.flip():
        return g.node("Mul", [g.node("Mul", [x, one]), g.scalar(0.5)])
    return g.node("Mul", [g.node("Mul", [x, g.scalar(0.5)]), one])


def silu(g: Grower, x: Value) -> Value:
    return g.node("Mul", [x, g.node(g.choose("Sigmoid", "HardSigmoid", "Softplus"), [x])])


def hard_swish(g: Grower, x: Value) -> Value:
    shifted = g.node("Add", [x, g.scalar(3)])
    if g.opset < 11:
        bounded = g.node("Clip", [shifted], min=0.0, max=6.0)
    else:
        bounded = g.node("Clip", [shifted, g.scalar(0), g.scalar(6)])
    sixth = (
        divided(g, bounded, g.scalar(6)) if g.flip() else g.node("Mul", [bounded, g.scalar(1 / 6)])
    )
    return g.node("Mul", [x, sixth]) if g.flip(0.8) else sixth


def prelu(g: Grower, x: Value) -> Value:
    negative = g.node("Neg", [g.node("Relu", [g.node("Neg", [x])])])
    slope = g.constant(g.array(x.type, operand_shape(g, x.shape)))
    return g.node("Add", [g.node("Relu", [x]), g.node("Mul", [negative, slope])])


@motif(0.6)
def masked(g: Grower) -> None:
    """Softmax of scores, some of which are minus infinity."""
    x, names = g.pick(ok=lambda v: v.rank >= 2 and 0 not in v.shape), [g.name() for _ in range(2)]
    if g.opset < 13:
        raise Refused
    mask = np.zeros(x.shape[-2:])
    mask[..., 1:] = np.where(g.numbers.random(mask[..., 1:].shape) < 0.5, -np.inf, 0)
    held = g.constant(mask, x.type)
    added = helper.make_node("Add", [x.name, held.name], names[:1])
    scores = helper.make_node("Softmax", names[:1], names[1:], axis=-1)
    g.add([added, scores], [x, held], rough=True)
