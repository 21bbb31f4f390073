"""Layers, and what is merged into them."""

# ruff: noqa: D103 (what a motif is called says what it makes)

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.fuzz.grower import Grower, Refused, motif
from benchmarks.fuzz.motifs.arithmetic import with_constant
from benchmarks.fuzz.motifs.movement import MOVES, reshape
from benchmarks.fuzz.values import Value


def image(g: Grower) -> Value:
    """Return a float value with spatial dimensions."""
    ok = [v for v in g.scope.visible() if v.type == g.float and v.rank in (3, 4) and not v.known]
    if ok and g.flip(0.9):
        return g.random.choice(ok)
    return reshape_to(g, g.pick(), g.choose(3, 4))


def reshape_to(g: Grower, x: Value, rank: int) -> Value:
    """Give *x* so many dimensions."""
    if x.rank == rank:
        return x
    if x.rank > rank:
        return g.node("Reshape", [x, g.ints(*[0] * (rank - 1), -1)])
    return g.versioned(13, "Unsqueeze", x, "axes", list(range(rank - x.rank)))


@motif(6)
def convolution(g: Grower) -> None:
    """Conv, ConvTranspose or a pool among padding, affine steps and normalisation."""
    x = image(g)
    channels, spatial = x.shape[1], x.rank - 2
    if not channels or 0 in x.shape:
        raise Refused
    if g.flip(0.3):
        pads = [0, 0, *(g.choose(0, 1, 2) for _ in range(spatial))] * 2
        x = g.versioned(11, "Pad", x, "pads", pads)
    if g.flip(0.25):
        x = with_constant(g, x)
    op = g.choose("Conv", "Conv", "Conv", "ConvTranspose", "AveragePool", "MaxPool")
    kernel = [g.choose(1, 1, 2, 3) for _ in range(spatial)]
    attrs: dict[str, Any] = {}
    if g.flip(0.3):
        attrs["pads"] = [g.choose(0, 1) for _ in range(2 * spatial)]
    elif g.flip(0.2):
        attrs["auto_pad"] = g.choose("SAME_UPPER", "SAME_LOWER", "VALID")
    if g.flip(0.3):
        attrs["strides"] = [g.choose(1, 2) for _ in range(spatial)]
    if g.flip(0.15) and "Conv" in op:
        attrs["dilations"] = [g.choose(1, 2) for _ in range(spatial)]
    if "Pool" in op:
        if g.flip(0.3) and op == "AveragePool":
            attrs["count_include_pad"] = 1
        y = g.node(op, [x], kernel_shape=kernel, **attrs)
    else:
        y = convolved(g, op, x, kernel, attrs)
    for _ in range(g.choose(0, 1, 2)):
        y = g.choose(with_constant, batch_norm, batch_norm, channel_affine, activated)(g, y)


def convolved(g: Grower, op: str, x: Value, kernel: Sequence[int], attrs: dict[str, Any]) -> Value:
    channels = x.shape[1]
    groups = g.choose(1, 1, channels, *[n for n in (2,) if channels % n == 0])
    outs = groups * g.choose(1, 2)
    first, second = (
        (channels, outs // groups) if op == "ConvTranspose" else (outs, channels // groups)
    )
    weight = g.constant(g.array(x.type, (first, second, *kernel)) / 4)
    bias = [g.constant(g.array(x.type, (outs,)))] if g.flip() else []
    if groups != 1:
        attrs["group"] = groups
    if g.flip():
        attrs["kernel_shape"] = list(kernel)
    return g.node(op, [x, weight, *bias], **attrs)


def batch_norm(g: Grower, x: Value) -> Value:
    channels = x.shape[1] if x.rank > 1 else 1
    read: list[Value | None] = [x, *(g.constant(g.array(x.type, (channels,))) for _ in range(3))]
    read.append(g.constant(np.abs(g.array(x.type, (channels,))) + 0.5))
    attrs: dict[str, Any] = {"epsilon": g.choose(1e-5, 1e-3)} if g.flip() else {}
    if g.opset < 9 and g.flip(0.2):
        attrs["spatial"] = 1
    return g.node("BatchNormalization", read, **attrs)


def channel_affine(g: Grower, x: Value) -> Value:
    for op in g.random.sample(("Mul", "Add", "Div", "Sub"), 2):
        shape = [1] * (x.rank - 1)
        shape[0] = x.shape[1]
        array = g.array(x.type, g.choose(shape, [1, *shape], [1] * x.rank))
        array = np.where(array == 0, 1, array)
        x = g.node(op, [x, g.constant(array)])
    return x


def activated(g: Grower, x: Value) -> Value:
    return g.node(g.choose("Relu", "LeakyRelu", "Sigmoid", "Neg"), [x])


@motif(5)
def linear(g: Grower) -> None:
    """MatMul or Gemm with what may be merged into it."""
    x = g.pick(ok=lambda v: v.rank >= 1 and 0 not in v.shape)
    if g.flip(0.2):
        x = with_constant(g, x)
    width, outs = x.shape[-1] if x.rank else 1, g.choose(1, 2, 3, 4)
    if g.flip(0.4):
        x = reshape_to(g, x, 2)
        y = gemm(g, x, outs)
    else:
        weight = g.array(x.type, g.choose((width, outs), (width, outs), (width,))) / 4
        weight_value = g.constant(weight)
        if g.flip(0.2) and weight.ndim == 2:
            weight_value = g.node("Transpose", [g.constant(weight.T)], perm=[1, 0])
        y = g.node("MatMul", [x, weight_value])
    for _ in range(g.choose(0, 1, 2, 3)):
        y = g.choose(with_constant, last_affine, batch_norm, activated, reshape, linear_again)(g, y)


def gemm(g: Grower, x: Value, outs: int) -> Value:
    attrs: dict[str, Any] = {}
    shape = [x.shape[1], outs]
    if g.flip(0.4):
        attrs["transB"], shape = 1, shape[::-1]
    if g.flip(0.2):
        x = g.node("Transpose", [x], perm=[1, 0])
        attrs["transA"] = 1
    for name in ("alpha", "beta"):
        if g.flip(0.2):
            attrs[name] = g.choose(0.5, 2.0, 1.0, 0.0)
    read = [x, g.constant(g.array(x.type, shape) / 4)]
    if g.opset < 11 or g.flip(0.6):
        read.append(g.constant(g.array(x.type, g.choose((outs,), (1, outs), (), (1,)))))
    return g.node("Gemm", read, **attrs)


def linear_again(g: Grower, x: Value) -> Value:
    weight = g.array(x.type, (x.shape[-1] if x.rank else 1, g.choose(1, 2, 3))) / 4
    return g.node("MatMul", [x, g.constant(weight)])


def last_affine(g: Grower, x: Value) -> Value:
    shape = g.choose(x.shape[-1:], (), (1,), (1, *x.shape[-1:]))
    array = np.asarray(g.array(x.type, shape))
    return g.node(g.choose("Add", "Mul", "Sub"), [x, g.constant(array)])


@motif(1.5)
def quantization(g: Grower) -> None:
    """QuantizeLinear and DequantizeLinear, movement in between."""
    if g.opset < 10:
        raise Refused
    x = g.pick("tensor(float)", ok=lambda v: not v.rough)
    kind = g.choose("tensor(uint8)", "tensor(int8)")
    scale, zero = (
        g.scalar(g.choose(0.5, 0.25, 1), "tensor(float)"),
        g.scalar(g.choose(0, 1, 3), kind),
    )
    q = g.node("QuantizeLinear", [x, scale, zero])
    if g.flip(0.6):
        q = g.random.choice(MOVES)(g, q)
    y = g.node("DequantizeLinear", [q, scale, zero])
    if g.flip(0.4):
        y = g.random.choice(MOVES)(g, y)
    if g.flip(0.5):
        y = g.node("QuantizeLinear", [y, *([scale, zero] if g.flip(0.7) else [scale])])
        g.node("DequantizeLinear", [y, *([scale, zero] if g.flip(0.7) else [scale])])


@motif(1)
def einsum(g: Grower) -> None:
    """Einsum over what fits."""
    if g.opset < 12:
        raise Refused
    x = g.pick(ok=lambda v: v.rank in (2, 3))
    equations = {
        2: ("ij,jk->ik", "ij,kj->ik", "ij->ji", "ij->i", "ij,ij->ij", "ij,jk", "ij,j->i", "ii->i"),
        3: ("bij,bjk->bik", "bij,jk->bik", "bij->bji", "bij,bkj->bik", "...j,jk->...k", "bij->ij"),
    }
    equation = g.choose(*equations[x.rank])
    read = [x]
    if "," in equation:
        sizes: dict[str, int] = dict(zip(equation.split(",")[0], x.shape, strict=False))
        term = re.split(",|->", equation)[1]
        shape = [sizes.get(letter, 2) for letter in term if letter != "."]
        read.append(g.constant(g.array(x.type, shape)))
    g.node("Einsum", read, equation=equation)


@motif(0.6)
def recurrent(g: Grower) -> None:
    """RNN, GRU or LSTM, some inputs left out."""
    x = reshape_to(g, g.pick(ok=lambda v: v.rank > 0 and 0 not in v.shape), 3)
    op, gates = g.choose(("RNN", 1), ("GRU", 3), ("LSTM", 4))
    hidden, directions = 2, g.choose(1, 2)
    shapes = [(directions, gates * hidden, n) for n in (x.shape[2], hidden)]
    read: list[Value | None] = [x, *(g.constant(g.array(x.type, s) / 4) for s in shapes)]
    if g.flip():
        read.append(g.constant(g.array(x.type, (directions, 2 * gates * hidden)) * g.choose(0, 1)))
        if g.flip():
            read += [None, g.constant(np.zeros((directions, x.shape[1], hidden)))]
    direction = "bidirectional" if directions == 2 else g.choose("forward", "reverse")
    g.node(op, read, g.choose(1, 2), hidden_size=hidden, direction=direction)
