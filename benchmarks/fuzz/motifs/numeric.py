"""Recipes for mathematics: functions of numbers, matrices, signals, normalization, losses."""

# ruff: noqa: D103 (a recipe is described by the operators it is for)

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.fuzz.grower import Grower, Refused, an_axis
from benchmarks.fuzz.motifs.recipes import data, indices, needs, recipe, smooth
from benchmarks.fuzz.values import TYPES

INTS = ("tensor(int64)", "tensor(int32)", "tensor(uint8)", "tensor(int8)")


@recipe("Acos", "Asin", "Atanh")
def near_zero(g: Grower, op: str) -> None:
    g.node(op, [g.node("Mul", [smooth(g, 0, 1, 2, 3, 4), g.scalar(1 / 16)])])


@recipe("Acosh")
def over_one(g: Grower, op: str) -> None:
    x = g.node("Abs", [smooth(g, 0, 1, 2, 3, 4)])
    g.node(op, [g.node("Add", [x, g.scalar(1)])])


@recipe("BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot")
def bits(g: Grower, op: str) -> None:
    kind = g.choose("tensor(uint8)", "tensor(uint32)", "tensor(uint64)")
    x, shape = data(g, (2, 3), kind), g.choose((), (3,), (2, 3), (1, 1))
    read = [x, g.constant(g.array(kind, shape), kind)]
    if op == "BitShift":
        g.node(op, read, direction=g.choose("LEFT", "RIGHT"))
    else:
        g.node(op, read[: 1 if op == "BitwiseNot" else 2])


@recipe("CumSum", "CumProd")
def cumulative(g: Grower, op: str) -> None:
    x = g.any_tensor()
    axis = g.scalar(an_axis(g, x.rank), g.choose("tensor(int64)", "tensor(int32)"))
    g.node(op, [x, axis], exclusive=g.choose(0, 1), reverse=g.choose(0, 1))


@recipe("Mod")
def remainder(g: Grower, op: str) -> None:
    needs(g, 10)
    kind = g.choose(*INTS, g.float)
    x = data(g, (2, 3), kind)
    by = g.constant(np.abs(g.array(kind, g.choose((), (3,)))) + 1, kind)
    g.node(op, [x, by], fmod=1 if kind == g.float else g.choose(0, 1))


@recipe("Range")
def numbers(g: Grower, op: str) -> None:
    kind = g.choose("tensor(int64)", "tensor(int32)", "tensor(float)")
    start, step = g.choose(0, 1, -1), g.choose(1, 2)
    read = [g.scalar(n, kind) for n in (start, start + g.choose(0, 1, 3, 4), step)]
    if g.flip():
        read[1] = data(g, (), kind)
    g.node(op, read)


@recipe("Det")
def determinant(g: Grower, op: str) -> None:
    size = g.choose(1, 2, 3)
    g.node(op, [data(g, (*g.choose((), (2,)), size, size))])


@recipe("MatMulInteger", "QLinearMatMul")
def integer_product(g: Grower, op: str) -> None:
    left, right = g.choose("tensor(uint8)", "tensor(int8)"), "tensor(uint8)"
    if op == "QLinearMatMul" and left != right:
        left = right
    a, b = data(g, (*g.choose((), (2,)), 2, 3), left), g.constant(g.array(right, (3, 4)), right)
    zeros = [g.scalar(g.choose(0, 1), kind) for kind in (left, right)]
    if op == "MatMulInteger":
        g.node(op, [a, b, *zeros[: g.choose(0, 1, 2)]])
        return
    scales = [g.scalar(g.choose(0.5, 0.25), "tensor(float)") for _ in range(3)]
    read = [a, scales[0], zeros[0], b, scales[1], zeros[1], scales[2], g.scalar(1, left)]
    g.node(op, read)


@recipe("QuantizeLinear", "DequantizeLinear")
def quantized_by_channel(g: Grower, op: str) -> None:
    needs(g, 13)
    axis, shape = g.choose(0, 1, -1), (2, 3, 4)
    kind, size = g.choose("tensor(uint8)", "tensor(int8)"), (2, 3, 4)[axis]
    x = data(g, shape, "tensor(float)" if op == "QuantizeLinear" else kind)
    scale = g.constant(g.random.choices((0.5, 0.25, 1), k=size), "tensor(float)")
    read = [x, scale, g.constant(g.array(kind, (size,)), kind)]
    g.node(op, read[: g.choose(2, 3, 3)], axis=axis)


# Signals ------------------------------------------------------------------------------------------


@recipe("BlackmanWindow", "HammingWindow", "HannWindow")
def window(g: Grower, op: str) -> None:
    g.node(op, [g.scalar(g.choose(1, 4, 5), "tensor(int64)")], periodic=g.choose(0, 1))


@recipe("DFT")
def transform(g: Grower, op: str) -> None:
    x = data(g, (g.choose(1, 2), 4, 3, g.choose(1, 2)), "tensor(float)")
    attrs = {"inverse": g.choose(0, 1), "onesided": 0}
    if g.opset < 20:
        g.node(op, [x], axis=g.choose(1, 2), **attrs)
    else:
        g.node(op, [x, None, g.scalar(g.choose(1, 2), "tensor(int64)")], **attrs)


@recipe("STFT")
def short_transform(g: Grower, op: str) -> None:
    signal, step = data(g, (1, 8, 1), "tensor(float)"), g.scalar(2, "tensor(int64)")
    if g.flip():
        g.node(op, [signal, step, g.constant(g.array(signal.type, (4,)), signal.type)])
    else:
        g.node(op, [signal, step, None, g.scalar(4, "tensor(int64)")])


@recipe("MelWeightMatrix")
def mel(g: Grower, op: str) -> None:
    counts = [g.scalar(n, "tensor(int64)") for n in (3, 8, 16)]
    g.node(op, [*counts, g.scalar(0, "tensor(float)"), g.scalar(8, "tensor(float)")])


# Normalization and attention ----------------------------------------------------------------------


@recipe("LayerNormalization", "RMSNormalization", "LpNormalization")
def over_axis(g: Grower, op: str) -> None:
    x = smooth(g, 1, 2, 3, 4)
    axis = an_axis(g, x.rank)
    if op == "LpNormalization":
        g.node(op, [x], axis=axis, p=g.choose(1, 2))
        return
    shape = x.shape[axis % x.rank :]
    read = [x, g.constant(g.array(x.type, shape)), g.constant(g.array(x.type, shape))]
    g.node(op, read[: 2 if op == "RMSNormalization" else g.choose(2, 3)], axis=axis)


@recipe("InstanceNormalization", "GroupNormalization")
def over_channels(g: Grower, op: str) -> None:
    x = smooth(g, 3, 4)
    channels, attrs = x.shape[1], dict[str, Any]()
    size = channels
    if op == "GroupNormalization":
        groups = attrs["num_groups"] = g.choose(1, channels)
        size = groups if g.opset < 21 else channels
    g.node(op, [x, *(g.constant(g.array(x.type, (size,))) for _ in range(2))], **attrs)


@recipe("Attention")
def attention(g: Grower, op: str) -> None:
    read = [data(g, (1, 2, length, 4)) for length in (3, 5, 5)]
    attrs: dict[str, Any] = {"is_causal": g.choose(0, 1)} if g.flip() else {}
    g.node(op, read, **attrs)


@recipe("RotaryEmbedding")
def rotary(g: Grower, op: str) -> None:
    read = [data(g, (1, 2, 3, 4)), *(data(g, (1, 3, 2)) for _ in range(2))]
    g.node(op, read, interleaved=g.choose(0, 1))


# Losses, random numbers ---------------------------------------------------------------------------


@recipe("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")
def loss(g: Grower, op: str) -> None:
    rest = g.choose((), (2,))
    scores, labels = data(g, (3, 4, *rest)), indices(g, 4, (3, *rest))
    g.node(op, [scores, labels], reduction=g.choose("none", "mean", "sum"))


@recipe("RandomNormalLike", "RandomUniformLike", "Bernoulli", "RandomNormal", "RandomUniform",
        "Multinomial")  # fmt: skip
def chance(g: Grower, op: str) -> None:
    """Only the shape of what is random is used."""
    if op in ("RandomNormal", "RandomUniform"):
        x = g.node(op, [], shape=[g.choose(1, 2), 3])
    elif op == "Multinomial":
        x = g.node(op, [data(g, (2, 3), "tensor(float)")], sample_size=4)
    elif op == "Bernoulli":
        x = g.node(op, [g.constant(np.full((2, 3), 0.5), "tensor(float)")])
    else:
        attrs: dict[str, Any] = {"dtype": TYPES["tensor(float)"]} if g.flip() else {}
        x = g.node(op, [g.any_tensor()], **attrs)
    size = g.node("Shape", [x])
    x.known = True  # nothing else reads it
    if not x.shape:
        raise Refused
    g.node("Gather", [size, indices(g, x.rank, (1,))])
