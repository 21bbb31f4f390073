"""A Concat of Concats, and a Concat of what a Split took apart.

Source: Concat-4 and Split-2 of the ONNX operator specification, and their successors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from onnxslim.base import Effect
from onnxslim.ir import Node, Tensor, producer
from onnxslim.passes.simplify._trial import Trial, TrialPass, TrialRule


def _merge(trial: Trial) -> Tensor | None:
    """Write the pieces of inner Concats in their place, and tensors for all of their parts."""
    if trial.opset < 4:
        return None
    before = list(trial.node.inputs)
    pieces = [piece for tensor in before for piece in _pieces(trial, tensor)]
    pieces = _rejoined(trial, pieces)
    if len(pieces) == 1:
        return pieces[0]
    if pieces == before:
        return None
    trial.even = len(pieces) < len(before)
    return trial.new.like(trial.node, *pieces)


def _axis(trial: Trial, node: Node, default: int | None = None) -> int | None:
    """Return the axis of a Concat or Split, counted from the front where the rank is known."""
    axis: int | None = node.attr("axis", default)
    rank = trial.facts.rank(node.inputs[0])
    return axis + rank if axis is not None and axis < 0 and rank is not None else axis


def _pieces(trial: Trial, tensor: Tensor) -> list[Tensor]:
    inner = trial.above(tensor, "Concat")
    if inner is None or not trial.private(tensor):
        return [tensor]
    same = _axis(trial, inner) == _axis(trial, trial.node)
    return list(inner.inputs) if same else [tensor]


def _rejoined(trial: Trial, pieces: list[Tensor]) -> list[Tensor]:
    """Replace all outputs of a Split, in their order, by its input."""
    joined: list[Tensor] = []
    at = 0
    while at < len(pieces):
        split = producer(pieces[at])
        if split is not None and split.operator == "Split" and _is_next(trial, split, pieces[at:]):
            joined.append(split.inputs[0])
            at += len(split.outputs)
        else:
            joined.append(pieces[at])
            at += 1
    return joined


def _is_next(trial: Trial, split: Node, pieces: list[Tensor]) -> bool:
    if _axis(trial, split, 0) != _axis(trial, trial.node):
        return False
    count = len(split.outputs)
    return len(pieces) >= count and all(
        mine is theirs for mine, theirs in zip(split.outputs, pieces[:count], strict=True)
    )


class MergeConcats(TrialPass):
    """Merge Concats along one axis, and undo a Split followed by its Concat."""

    name = "merge-concats"
    effect = Effect.EXACT
    rules: ClassVar[Mapping[str, TrialRule]] = {"Concat": _merge}
