"""What a Slice takes, in every version of the operator."""

from __future__ import annotations

from typing import NamedTuple

from onnxslim.ir import Node, Tensor
from onnxslim.passes.simplify._operands import ints, is_given
from onnxslim.passes.simplify._trial import Trial

END = 2**63 - 1
FAR = 2**31 - 1
"""Ends from here on mean "to the end" in every exporter."""


class Cut(NamedTuple):
    """Elements *start* to *end* in steps; negative bounds count from the end of the axis."""

    start: int
    end: int
    step: int = 1


def cuts(trial: Trial, node: Node) -> dict[int, Cut] | None:
    """Return what a Slice takes of each axis; None unless all of it is constant.

    Axes count from the front, and bounds too where the dimension is known.
    """
    starts, ends = ints(node, "starts", 1), ints(node, "ends", 2)
    if starts is None or ends is None or len(starts) != len(ends):
        return None
    axes = ints(node, "axes", 3) if is_given(node, "axes", 3) else list(range(len(starts)))
    steps = ints(node, "steps", 4) if is_given(node, "steps", 4) else [1] * len(starts)
    if axes is None or steps is None or not len(axes) == len(steps) == len(starts):
        return None
    shape = trial.facts.shape(node.inputs[0])
    if min(axes, default=0) < 0:
        if shape is None:
            return None
        axes = [axis % len(shape) for axis in axes]
    found = {}
    for axis, cut in zip(axes, map(Cut, starts, ends, steps), strict=True):
        dim = None if shape is None or axis >= len(shape) else shape[axis]
        found[axis] = _resolved(cut, dim)
    return found if len(found) == len(axes) and all(c.step > 0 for c in found.values()) else None


def _resolved(cut: Cut, dim: int | str | None) -> Cut:
    start, end, step = cut
    if isinstance(dim, int):
        start, end = (min(max(b + dim if b < 0 else b, 0), dim) for b in (start, end))
        return Cut(start, end, step)
    return Cut(start, END if end >= FAR else end, step)


def sliced(trial: Trial, node: Node, x: Tensor, taken: dict[int, Cut]) -> Tensor:
    """Make a Slice like *node* that takes *taken* of *x*."""
    axes = sorted(taken)
    starts, ends, steps = ([getattr(taken[axis], f) for axis in axes] for f in Cut._fields)
    if trial.opset < 10:
        return trial.new.like(node, x, starts=starts, ends=ends, axes=axes)
    operands = [trial.ints(starts), trial.ints(ends)]
    if axes != list(range(len(axes))) or any(step != 1 for step in steps):
        operands.append(trial.ints(axes))
    if any(step != 1 for step in steps):
        operands.append(trial.ints(steps))
    return trial.new.like(node, x, *operands)


def piece(trial: Trial, node: Node) -> tuple[int, int, int] | None:
    """Return axis, start and end where a Slice takes one piece of one axis of known size."""
    taken = cuts(trial, node)
    if taken is None or len(taken) != 1:
        return None
    ((axis, cut),) = taken.items()
    shape = trial.facts.shape(node.inputs[0])
    if shape is None or axis >= len(shape) or not isinstance(shape[axis], int) or cut.step != 1:
        return None
    return axis, cut.start, cut.end
