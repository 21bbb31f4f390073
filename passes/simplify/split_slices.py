"""Slices that part a tensor along an axis.

Source: Slice-1, Slice-10, Split-2, Split-13 and Split-18 of the ONNX operator specification.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from onnxslim.base import Effect
from onnxslim.ir import Node
from onnxslim.passes.simplify._slice import piece
from onnxslim.passes.simplify._trial import Results, Trial, TrialPass, TrialRule


def _split(trial: Trial) -> Results | None:
    """Make one Split in place of Slices that follow each other without gap."""
    mine = piece(trial, trial.node)
    x = trial.node.inputs[0]
    if mine is None or mine[1] == mine[2]:
        return None
    axis = mine[0]
    parts = _parts(trial, axis)
    if parts is None or len(parts) < 2 or trial.node not in parts:
        return None
    sizes = [end - start for _, start, end in (piece(trial, part) or mine for part in parts)]
    attrs: dict[str, object] = {"axis": axis}
    operands = [x]
    if trial.opset < 13:
        attrs["split"] = sizes
    elif len(set(sizes)) > 1:
        operands.append(trial.ints(sizes))
    elif trial.opset >= 18:
        attrs["num_outputs"] = len(sizes)
    trial.new.node("Split", operands, attrs, outputs=len(sizes))
    made = trial.new.nodes[-1].outputs
    return {part.outputs[0]: output for part, output in zip(parts, made, strict=True)}


def _parts(trial: Trial, axis: int) -> list[Node] | None:
    """Return Slices of this graph that lead from the start of *axis* to its end."""
    x = trial.node.inputs[0]
    by_start: dict[int, tuple[int, Node]] = {}
    for node in x.outputs:
        if node.operator != "Slice" or node.inputs[0] is not x or node.graph is not trial.graph:
            continue
        taken = piece(trial, node)
        if taken is not None and taken[0] == axis and taken[1] < taken[2]:
            if taken[1] in by_start and by_start[taken[1]][0] != taken[2]:
                return None  # they overlap
            by_start.setdefault(taken[1], (taken[2], node))
    at, parts = 0, []
    while at in by_start:
        at, node = by_start.pop(at)
        parts.append(node)
    shape = trial.facts.shape(x)
    return parts if shape is not None and at == shape[axis] else None


class SplitSlices(TrialPass):
    """Replace Slices that part a tensor along an axis by one Split."""

    name = "split-slices"
    effect = Effect.EXACT
    rules: ClassVar[Mapping[str, TrialRule]] = {"Slice": _split}
