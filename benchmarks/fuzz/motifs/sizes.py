"""Sizes that are computed and then used."""

# ruff: noqa: D103 (what a motif is called says what it makes)

from __future__ import annotations

from collections.abc import Sequence

from onnx import helper

from benchmarks.fuzz.grower import Grower, Refused, motif
from benchmarks.fuzz.values import FLOAT, INT, Value

ENDLESS = 2**63 - 1


@motif(4)
def shape_arithmetic(g: Grower) -> None:
    """Sizes that are computed and then used."""
    x = g.any_tensor()
    if not x.rank:
        raise Refused
    whole = g.node("Shape", [x])
    dims: list[Value] = []
    for axis in range(x.rank):
        at = axis - x.rank if g.opset >= 11 and g.flip(0.3) else axis
        if g.flip(0.3):
            dims.append(g.ints(x.shape[axis]))
        elif g.flip():
            dim = g.node("Gather", [whole, g.constant(at, "tensor(int64)")], axis=0)
            if g.flip(0.4):
                dim = sized(g, dim)
            dims.append(g.versioned(13, "Unsqueeze", dim, "axes", [0]))
        elif g.flip():
            dims.append(g.node("Gather", [whole, g.ints(at)], axis=0))
        elif g.opset >= 10:
            dims.append(g.node("Slice", [whole, g.ints(axis), g.ints(axis + 1), g.ints(0)]))
        else:
            dims.append(g.node("Slice", [whole], starts=[axis], ends=[axis + 1], axes=[0]))
    if g.flip(0.3):
        at = g.random.randrange(len(dims))
        dims[at] = g.ints(-1)
    use = g.choose("Reshape", "Reshape", "Expand", "ConstantOfShape", "Tile", "Slice", "arith")
    if g.flip(0.3) and len(dims) > 1 and use == "Reshape":
        dims[-2:] = [g.node("Mul", dims[-2:])]
    target = g.node("Concat", dims, axis=0)
    if g.flip(0.15):
        target = g.node("Cast", [g.node("Cast", [target], to=FLOAT)], to=INT)
    use_sizes(g, use, x, target, dims)


@motif(0.5)
def joined_halves(g: Grower) -> None:
    """What is halved twice and doubled once, joined with its half, and sizes of either."""
    x = g.any_tensor()
    if x.rank < 2 or g.opset < 10:
        raise Refused
    axis, other = g.random.sample(range(x.rank), 2)
    every_other = [g.ints(0), g.ints(ENDLESS), g.ints(axis), g.ints(2)]
    half = g.node("Slice", [x, *every_other])
    quarter = g.node("Slice", [half, *every_other])
    doubled = g.node("Tile", [quarter, g.ints(*(1 + (i == axis) for i in range(x.rank)))])
    g.node("Concat", [half, doubled] if g.flip() else [doubled, half], axis=other)
    size = g.node("Gather", [g.node("Shape", [x]), g.ints(axis)], axis=0)
    divisor = g.choose(2, 4)
    rounded = g.node("Add", [size, g.ints(g.choose(divisor - 1, divisor - 1, 0))])
    rows = g.node("Div", [rounded, g.ints(divisor)])
    if g.flip():
        rows = g.node("Mul", [rows, g.ints(2)])
    use_sizes(g, g.choose("ConstantOfShape", "Tile", "arith"), half, rows, [rows])


def use_sizes(g: Grower, use: str, x: Value, target: Value, dims: Sequence[Value]) -> None:
    if use == "ConstantOfShape":
        made = helper.make_tensor("v", FLOAT, [1], [g.choose(0.0, 1.0, 2.0)])
        y = g.node(use, [target], value=made) if g.flip() else g.node(use, [target])
        if x.type == y.type:
            g.node(g.choose("Add", "Mul", "Sub"), [x, y])
    elif use == "Slice" and g.opset >= 10:
        axis = g.random.randrange(x.rank)
        g.node("Slice", [x, g.ints(0), dims[min(axis, len(dims) - 1)], g.ints(axis)])
    elif use == "arith":
        sized(g, target)
    elif use != "Slice":
        g.node(use, [x, target])


def sized(g: Grower, dim: Value) -> Value:
    """Compute with a size and come back to it, or nearly."""
    op, undo = g.choose(("Mul", "Div"), ("Add", "Sub"), ("Mul", "Mul"), ("Sub", "Add"))
    number = g.scalar(g.choose(1, 2, 3), dim.type)
    y = g.node(op, [dim, number] if g.flip(0.8) else [number, dim])
    return g.node(undo, [y, number]) if g.flip(0.8) else y
