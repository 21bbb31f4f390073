"""A Slice of a Slice.

Source: Slice-1 and Slice-10 of the ONNX operator specification.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from onnxslim.base import Effect
from onnxslim.ir import Tensor
from onnxslim.passes.simplify._slice import END, Cut, cuts, sliced
from onnxslim.passes.simplify._trial import Trial, TrialPass, TrialRule


def _merge(trial: Trial) -> Tensor | None:
    """Take from the farther tensor what the second Slice takes of the first."""
    inner = trial.above(trial.node.inputs[0], "Slice")
    if inner is None:
        return None
    taken, second = cuts(trial, inner), cuts(trial, trial.node)
    if taken is None or second is None:
        return None
    for axis, cut in second.items():
        both = _both(taken[axis], cut) if axis in taken else cut
        if both is None:
            return None
        taken[axis] = both
    trial.even = trial.read_only_by(trial.node.inputs[0], "Slice")
    return sliced(trial, trial.node, inner.inputs[0], taken)


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
