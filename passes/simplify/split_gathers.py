"""Gathers that take the parts of a dimension which a Reshape split.

Source: Gather-1, Reshape-5, Split-2, Split-13 and Split-18 of the ONNX operator specification.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from onnxslim.base import Effect
from onnxslim.ir import has_parameters
from onnxslim.passes.simplify._operands import ints
from onnxslim.passes.simplify._trial import Results, Trial, TrialPass, TrialRule
from onnxslim.shapes import Expr

_FIRST_WITH_COUNT = 18
"""The opset from which Split is told into how many parts."""


def _split(trial: Trial) -> Results | None:
    """Split the dimension where it is whole."""
    x, node = trial.node.inputs[0], trial.node
    before, after = trial.facts.dims(x), trial.facts.dims(trial.out)
    readers = list(dict.fromkeys(trial.out.outputs))
    if before is None or after is None or not trial.read_only_by(trial.out, "Gather"):
        return None
    axis = _split_axis(before, after)
    if axis is None or any(r.graph is not node.graph or has_parameters(r) for r in readers):
        return None
    count = after[axis]
    if not isinstance(count, int) or len(readers) != count:
        return None
    taken = {}
    for reader in readers:
        index = ints(reader, "", 1)
        if index is None or trial.facts.rank(reader.inputs[1]) != 0:
            return None
        if reader.attr("axis", 0) % len(after) != axis or not -count <= index[0] < count:
            return None
        taken[index[0] % count] = reader.outputs[0]
    attrs = {"axis": axis} | ({"num_outputs": count} if trial.opset >= _FIRST_WITH_COUNT else {})
    trial.new.node("Split", [x], attrs, outputs=count)
    made = trial.new.nodes[-1].outputs
    return {taken[part]: made[part] for part in range(count)} if len(taken) == count else None


def _split_axis(before: tuple[Expr, ...], after: tuple[Expr, ...]) -> int | None:
    """Return the only axis of *before* that is two axes of *after*."""
    if len(after) != len(before) + 1:
        return None
    for axis, size in enumerate(before):
        if after[axis] * after[axis + 1] == size and after[axis + 2 :] == before[axis + 1 :]:
            return axis
        if before[axis] != after[axis]:
            return None
    return None


class SplitGathers(TrialPass):
    """Split a tensor instead of reshaping it and gathering each part."""

    name = "split-gathers"
    effect = Effect.EXACT
    rules: ClassVar[Mapping[str, TrialRule]] = {"Reshape": _split}
