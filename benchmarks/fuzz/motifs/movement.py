"""Operators that compute nothing: they move, cut, repeat and convert."""

# ruff: noqa: D103 (what a motif is called says what it makes)

from __future__ import annotations

import math
from typing import Any

import numpy as np

from benchmarks.fuzz.grower import Grower, Refused, an_axis, motif, some_axes
from benchmarks.fuzz.motifs.arithmetic import REDUCE, reduced, with_constant
from benchmarks.fuzz.values import FLOATS, MOST, TYPES, Value, is_float


def factors(g: Grower, size: int) -> list[int]:
    """Split a number of elements into a shape."""
    shape = [1] * g.choose(0, 0, 0, 1)
    while size > 1:
        divisor = g.choose(*[d for d in range(2, size + 1) if size % d == 0])
        shape.append(divisor)
        size //= divisor
    if g.flip(0.2):
        shape.insert(g.random.randint(0, len(shape)), 1)
    return shape


def reshape(g: Grower, x: Value) -> Value:
    size = math.prod(x.shape)
    target = factors(g, size) if size and g.flip(0.7) else list(x.shape)
    if g.flip(0.3):
        target = [*target[:-2], math.prod(target[-2:])]
    for axis, dim in enumerate(target):
        if axis < x.rank and dim == x.shape[axis] and g.flip(0.4):
            target[axis] = 0
    if target and g.flip(0.6) and size:
        target[g.random.randrange(len(target))] = -1
    return g.node("Reshape", [x, g.ints(*target)])


def transpose(g: Grower, x: Value) -> Value:
    perm = g.random.sample(range(x.rank), x.rank)
    return g.node("Transpose", [x], perm=perm) if g.flip(0.9) else g.node("Transpose", [x])


def squeeze(g: Grower, x: Value) -> Value:
    ones = [axis for axis, dim in enumerate(x.shape) if dim == 1]
    if not ones or g.flip(0.1):
        return g.node("Squeeze", [x])
    axes = g.random.sample(ones, g.random.randint(1, len(ones)))
    return g.versioned(13, "Squeeze", x, "axes", axes)


def unsqueeze(g: Grower, x: Value) -> Value:
    count = g.choose(1, 1, 2)
    axes = g.random.sample(range(x.rank + count), count)
    if g.opset >= 11 and g.flip(0.3):
        axes[0] -= x.rank + count
    return g.versioned(13, "Unsqueeze", x, "axes", axes)


def cut(g: Grower, x: Value) -> Value:
    """Slice, with every way to say where.

    Not backwards to the largest number: there ONNX takes nothing, and onnxruntime all.
    """
    axes = [axis % max(x.rank, 1) for axis in some_axes(g, x.rank)] or [0]
    bounds = (0, 0, 1, -1, 2, -2, 2**63 - 1, -(2**63) + 1, 2**31 - 1)
    starts = [g.random.choice(bounds[:6]) for _ in axes]
    ends = [g.random.choice(bounds[2:]) for _ in axes]
    steps = [g.choose(1, 1, 1, 2, -1, -2) for _ in axes]
    pairs = zip(ends, steps, strict=True)
    ends = [-end if end > MOST and step < 0 else end for end, step in pairs]
    if g.opset < 10:
        return g.node("Slice", [x], starts=starts, ends=ends, axes=axes)
    if g.flip(0.3):
        starts, ends, steps = [-1 for _ in axes], [-(2**63) + 1 for _ in axes], [-1 for _ in axes]
    read: list[Value | None] = [x, g.ints(*starts), g.ints(*ends), g.ints(*axes)]
    if g.flip():
        read.append(g.ints(*steps))
    return g.node("Slice", read)


def concat(g: Grower, x: Value) -> Value:
    others = [v for v in g.scope.visible() if v.type == x.type and v.rank == x.rank and v is not x]
    axis = an_axis(g, x.rank)
    parts = [x]
    for _ in range(g.choose(0, 1, 1, 2)):
        if others and g.flip(0.7):
            parts.append(g.random.choice(others))
        elif g.flip():
            parts.append(g.constant(g.array(x.type, x.shape), x.type))
        else:
            parts.append(x)
    g.random.shuffle(parts)
    return g.node("Concat", parts, axis=axis)


def split(g: Grower, x: Value) -> Value:
    axis = an_axis(g, x.rank)
    size = x.shape[axis] if x.rank else 0
    parts = g.random.randint(1, max(size, 1))
    sizes = [size // parts] * (parts - 1)
    sizes.append(size - sum(sizes))
    if g.flip(0.3) and size % parts == 0:
        extra: dict[str, Any] = {"num_outputs": parts} if g.opset >= 18 else {}
        first = g.node("Split", [x], parts, axis=axis, **extra)
    elif g.opset < 13:
        first = g.node("Split", [x], parts, axis=axis, split=sizes)
    else:
        first = g.node("Split", [x, g.ints(*sizes)], parts, axis=axis)
    if g.flip(0.4):
        pieces = g.scope.values[-parts:]
        return g.node("Concat", g.random.sample(pieces, len(pieces)) if g.flip() else pieces,
                      axis=axis)  # fmt: skip
    return first


def gather(g: Grower, x: Value) -> Value:
    axis = an_axis(g, x.rank)
    size = x.shape[axis] if x.rank else 0
    low = -size if g.opset >= 11 else 0
    shape = g.choose((), (1,), (2,), (3,), (2, 2), (0,))
    indices = g.numbers.integers(low, max(size, 1), shape)
    if g.flip(0.2) and size:
        start = g.random.randrange(size)
        indices = np.arange(start, size)
    if g.flip(0.15) and size:
        indices = np.arange(size)[:: g.choose(1, -1)]
    return g.node("Gather", [x, g.constant(indices, "tensor(int64)")], axis=axis)


def expand(g: Grower, x: Value) -> Value:
    target = [
        dim if dim != 1 and g.flip(0.7) else (1 if dim != 1 else g.choose(1, 2, 3))
        for dim in x.shape
    ]
    target = [g.choose(1, 2)] * g.choose(0, 0, 1) + target
    return g.node("Expand", [x, g.ints(*target)])


def pad(g: Grower, x: Value) -> Value:
    pads = [g.choose(0, 0, 1, 1, 2, -1 if g.flip(0.2) else 0) for _ in range(2 * x.rank)]
    if g.flip(0.15):
        pads = [0] * len(pads)
    mode = g.choose("constant", "constant", "reflect", "edge")
    if g.opset < 11:
        return g.node("Pad", [x], pads=pads, mode=mode, value=g.choose(0.0, 1.0))
    read: list[Value | None] = [x, g.ints(*pads)]
    if g.flip() and mode == "constant":
        read.append(g.constant(g.choose(0, 1, 2), x.type))
    return g.node("Pad", read, mode=mode)


def tile(g: Grower, x: Value) -> Value:
    return g.node("Tile", [x, g.ints(*[g.choose(1, 1, 2, 3) for _ in x.shape])])


def cast(g: Grower, x: Value) -> Value:
    to = g.choose(*FLOATS, "tensor(int64)", "tensor(int32)", "tensor(bool)", g.float, x.type)
    y = g.node("Cast", [x], to=TYPES[to])
    return g.node("Cast", [y], to=TYPES[x.type]) if g.flip() and not y.rough else y


def odd_movement(g: Grower, x: Value) -> Value:
    """Flatten, Identity and block moves."""
    op = g.choose(
        "Flatten", "Identity", "DepthToSpace", "SpaceToDepth", "Dropout", "GatherElements"
    )
    if op == "Flatten":
        return g.node(op, [x], axis=g.random.randint(0, x.rank))
    if op in ("DepthToSpace", "SpaceToDepth"):
        return g.node(op, [x], blocksize=g.choose(1, 2))
    if op == "GatherElements":
        axis = an_axis(g, x.rank)
        indices = g.numbers.integers(0, max(x.shape[axis] if x.rank else 1, 1), x.shape)
        return g.node(op, [x, g.constant(indices, "tensor(int64)")], axis=axis)
    return g.node(op, [x])


MOVES = (
    reshape, reshape, transpose, transpose, squeeze, unsqueeze, cut, cut, concat, split, gather,
    expand, pad, tile, cast, odd_movement,
)  # fmt: skip


@motif(6)
def movement(g: Grower) -> None:
    """Chains of operators that compute nothing, some in a row, elementwise ones in between."""
    x, move = g.any_tensor(), cut
    for _ in range(g.choose(1, 2, 3, 4)):
        move = move if g.flip(0.3) else g.random.choice(MOVES)
        try:
            x = move(g, x)
        except Refused:
            continue
        if g.flip(0.2) and is_float(x.type):
            x = g.node(g.choose("Relu", "Neg", "Abs", "Tanh", "Sigmoid"), [x])


@motif(1)
def parts_of_parts(g: Grower) -> None:
    """Slices in a row along one axis, of which something is left."""
    x = g.pick(ok=lambda v: max(v.shape, default=0) > 2)
    axis = x.shape.index(max(x.shape))
    for _ in range(g.choose(2, 2, 3)):
        start, end, step = g.choose(0, 0, 1), g.choose(2, 3, 2**31 - 1), g.choose(1, 1, 2)
        if g.opset < 10:
            x = g.node("Slice", [x], starts=[start], ends=[end], axes=[axis])
        else:
            x = g.node("Slice", [x, *(g.ints(number) for number in (start, end, axis, step))])


@motif(1.5)
def same_movement_twice(g: Grower) -> None:
    """Two values moved alike and then joined."""
    x = g.pick()
    perm = g.random.sample(range(x.rank), x.rank)
    y = g.node(g.choose("Relu", "Neg", "Abs"), [x])
    a, b = g.node("Transpose", [x], perm=perm), g.node("Transpose", [y], perm=perm)
    z = g.node(g.choose("Add", "Mul", "Max"), [a, b])
    if g.flip():
        z = with_constant(g, z)
    back = [perm.index(axis) for axis in range(x.rank)] if g.flip(0.8) else perm
    if g.flip(0.3) and x.rank:
        z = g.node("ReduceMax", [z], axes=[an_axis(g, x.rank)], keepdims=1) if g.opset < 18 else z
    g.node("Transpose", [z], perm=back)


@motif(1)
def moved_and_reduced(g: Grower) -> None:
    """A reduction that leaves several axes of what was transposed."""
    x = transpose(g, g.pick(ok=lambda v: v.rank > 2))
    axes = g.random.sample(range(x.rank), g.random.randint(1, x.rank - 2))
    reduced(g, g.choose(*REDUCE), x, axes, keepdims=g.choose(0, 0, 1))


@motif(3)
def reduction(g: Grower) -> None:
    """Reductions, in a row, or with movement behind."""
    x = g.any_tensor() if g.flip(0.3) else g.pick()
    op = g.choose(*REDUCE)
    for _ in range(g.choose(1, 1, 2)):
        axes = some_axes(g, x.rank) if g.flip(0.85) else None
        attrs = {"keepdims": g.choose(0, 1)} if g.flip(0.8) else {}
        if g.flip(0.1) and not x.rough:
            x = g.node(g.choose("ArgMax", "ArgMin"), [x], axis=an_axis(g, x.rank), **attrs)
        else:
            x = reduced(g, op, x, axes, **attrs)
    if g.flip(0.4):
        g.choose(squeeze, unsqueeze, reshape, transpose, with_constant)(g, x)
