"""A Slice of a Slice.

Source: Slice-1 and Slice-10 of the ONNX operator specification.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from onnxslim import ir
from onnxslim.base import Effect
from onnxslim.ir import Node, Tensor
from onnxslim.passes.simplify._slice import END, Cut, cuts, sliced
from onnxslim.passes.simplify._trial import Results, Trial, TrialPass, TrialRule

Taken = dict[int, Cut]


def _merge(trial: Trial) -> Results | None:
    """Take from the farther tensor what all its Slices of Slices take, or this one alone."""
    inner = trial.above(trial.node.inputs[0], "Slice")
    if inner is None:
        return None
    source = inner.inputs[0]
    plans = _all_behind(trial, inner, source)
    if plans:
        for other in dict.fromkeys(source.outputs):
            plans = {**plans, **_all_behind(trial, other, source)}
    else:
        taken = _taken(trial, inner, trial.node)
        plans = {} if taken is None else {trial.node: taken}
        trial.even = trial.read_only_by(trial.node.inputs[0], "Slice")
    return {
        node.outputs[0]: sliced(trial, node, source, cut) for node, cut in plans.items()
    } or None


def _all_behind(trial: Trial, first: Node, source: Tensor) -> dict[Node, Taken]:
    """Return what all readers of a Slice of *source* take of it; nothing if one does not merge."""
    between = first.outputs[0]
    fits = trial.above(between, "Slice") is first and first.inputs[0] is source
    if not fits or first.graph is not trial.graph or not trial.read_only_by(between, "Slice"):
        return {}
    plans = {node: _taken(trial, first, node) for node in dict.fromkeys(between.outputs)}
    found = {node: taken for node, taken in plans.items() if taken is not None}
    return found if len(found) == len(plans) else {}


def _taken(trial: Trial, first: Node, second: Node) -> Taken | None:
    """Return what two Slices in a row take; None where that depends on what is not known."""
    direct = second.graph is trial.graph and second.inputs[0] is first.outputs[0]
    if not direct or ir.has_parameters(second):
        return None
    taken, then = cuts(trial, first), cuts(trial, second)
    if taken is None or then is None:
        return None
    for axis, cut in then.items():
        both = _both(taken[axis], cut) if axis in taken else cut
        if both is None:
            return None
        taken[axis] = both
    return taken


def _both(first: Cut, second: Cut) -> Cut | None:
    """Apply *second* to what *first* leaves; None where that depends on the unknown dimension."""
    if min(first.start, second.start, second.end) < 0:
        return None
    start, step = first.start + second.start * first.step, first.step * second.step
    if second.end >= END:
        return Cut(start, first.end, step)
    if first.end < 0:
        return None
    return Cut(start, min(first.end, first.start + second.end * first.step), step)


class MergeSlices(TrialPass):
    """Merge a Slice of a Slice into one."""

    name = "merge-slices"
    effect = Effect.EXACT
    rules: ClassVar[Mapping[str, TrialRule]] = {"Slice": _merge}
