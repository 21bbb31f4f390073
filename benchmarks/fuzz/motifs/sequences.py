"""Sequences and optional values, made and taken apart."""

from __future__ import annotations

from onnx import helper

from benchmarks.fuzz.grower import Grower, Refused, an_axis, motif
from benchmarks.fuzz.values import TYPES


@motif(1)
def sequence(g: Grower) -> None:
    """Sequences made and taken apart."""
    if g.opset < 11:
        raise Refused
    x = g.any_tensor()
    y = g.pick(x.type)
    parts = [x, y, x][: g.choose(1, 2, 3)]
    if g.flip(0.1):
        empty = helper.make_node("SequenceEmpty", [], [g.name()], dtype=TYPES[x.type])
        filled = helper.make_node("SequenceInsert", [empty.output[0], x.name], [g.name()])
        (made,) = g.add([empty, filled], [x], x.rough)
    elif g.flip(0.7):
        made = g.node("SequenceConstruct", parts)
    else:
        made = g.node("SplitToSequence", [x], axis=an_axis(g, x.rank), keepdims=g.choose(0, 1))
    if g.flip(0.4):
        made = g.node(
            "SequenceInsert", [made, y, *([g.scalar(0, "tensor(int64)")] * g.choose(0, 1))]
        )
    if g.flip(0.2):
        made = g.node("SequenceErase", [made, g.scalar(g.choose(0, -1), "tensor(int64)")])
    use = g.choose("SequenceAt", "ConcatFromSequence", "SequenceLength")
    if use == "SequenceAt":
        g.node(use, [made, g.scalar(g.choose(0, -1, 1), "tensor(int64)")])
    elif use == "SequenceLength":
        g.node(use, [made])
    else:
        g.node(use, [made], axis=an_axis(g, x.rank), new_axis=g.choose(0, 0, 1))


@motif(0.4)
def optional(g: Grower) -> None:
    """Optional values, wrapped and unwrapped at once."""
    if g.opset < 15:
        raise Refused
    x, names = g.any_tensor(), [g.name() for _ in range(2)]
    use = g.choose("OptionalGetElement", "OptionalHasElement")
    wrapped = helper.make_node("Optional", [x.name], names[:1])
    g.add([wrapped, helper.make_node(use, names[:1], names[1:])], [x], rough=False)
