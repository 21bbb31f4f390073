"""What is put together by a Concat and taken apart again.

Source: Concat-4, Slice-10, Split-13, Gather-1 and Unsqueeze-13 of the ONNX operator specification,
and the versions around them.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import ClassVar, NamedTuple

import numpy as np

from onnxslim.base import Effect
from onnxslim.ir import Constant, Node, Tensor
from onnxslim.passes.simplify._operands import from_front, ints
from onnxslim.passes.simplify._slice import Cut, piece, sliced
from onnxslim.passes.simplify._trial import Results, Trial, TrialPass, TrialRule


class _Joined(NamedTuple):
    """The operands of a Concat and where each begins along its axis; the last one is the end."""

    node: Node
    axis: int
    edges: list[int]

    def within(self, start: int, end: int) -> int | None:
        """Return which operand holds *start* to *end*."""
        for index in range(len(self.node.inputs)):
            if self.edges[index] <= start < end <= self.edges[index + 1]:
                return index
        return None


def _joined(trial: Trial, axis: int) -> _Joined | None:
    """Return the Concat along *axis* that computes the first operand, if its sizes are known."""
    node = trial.above(trial.node.inputs[0], "Concat")
    rank = None if node is None else trial.facts.rank(node.outputs[0])
    if node is None or not rank:
        return None
    own, wanted = from_front([node.attr("axis", 1), axis], rank)
    shapes = [trial.facts.shape(operand) for operand in node.inputs]
    sizes = [None if shape is None or len(shape) != rank else shape[own] for shape in shapes]
    known = [size for size in sizes if isinstance(size, int)]
    if own != wanted or len(known) != len(sizes):
        return None
    return _Joined(node, own, [0, *accumulate(known)])


def _slice(trial: Trial) -> Tensor | None:
    """Take from one operand, or only some of them."""
    taken = piece(trial, trial.node)
    joined = None if taken is None else _joined(trial, taken[0])
    if taken is None or joined is None:
        return None
    axis, start, end = taken
    index = joined.within(start, end)
    if index is not None:
        x: Tensor = joined.node.inputs[index]
        edge = joined.edges[index]
        if (edge, joined.edges[index + 1]) == (start, end):
            return x
        return sliced(trial, trial.node, x, {axis: Cut(start - edge, end - edge)})
    if start not in joined.edges or end not in joined.edges or start >= end:
        return None
    first, last = joined.edges.index(start), joined.edges.index(end)
    return trial.new.like(joined.node, *joined.node.inputs[first:last])


def _split(trial: Trial) -> Results | None:
    """Read the operands where a Split parts them as they were."""
    node = trial.node
    joined = _joined(trial, node.attr("axis", 0))
    shapes = [trial.facts.shape(output) for output in node.outputs]
    if joined is None or len(shapes) != len(joined.node.inputs):
        return None
    sizes = [None if shape is None else shape[joined.axis] for shape in shapes]
    if sizes != list(np.diff(joined.edges)):
        return None
    pairs = zip(node.outputs, joined.node.inputs, strict=True)
    return {output: x for output, x in pairs if output.outputs or id(output) in trial.pinned}


def _gather(trial: Trial) -> Tensor | None:
    """Take one element from the operand that holds it."""
    index = trial.node.inputs[1]
    axis = trial.node.attr("axis", 0)
    joined = _joined(trial, axis) if isinstance(index, Constant) and index.size == 1 else None
    if joined is None:
        return None
    place = int(index.values.reshape(-1)[0])
    place += joined.edges[-1] if place < 0 else 0
    found = joined.within(place, place + 1)
    if found is None:
        return None
    x: Tensor = joined.node.inputs[found]
    inner = trial.above(x, "Unsqueeze")
    if inner is not None and index.shape == () and ints(inner, "axes", 1) == [joined.axis]:
        return inner.inputs[0]  # type: ignore[no-any-return]
    shifted = np.asarray(place - joined.edges[found], index.dtype).reshape(index.shape)
    return trial.new.like(trial.node, x, shifted)


class BypassConcats(TrialPass):
    """Read the operands of a Concat where a Slice, Split or Gather takes them out again."""

    name = "bypass-concats"
    effect = Effect.EXACT
    rules: ClassVar[Mapping[str, TrialRule]] = {
        "Gather": _gather,
        "Slice": _slice,
        "Split": _split,
    }
