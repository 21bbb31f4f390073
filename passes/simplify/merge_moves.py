"""The same movement twice: Gather of Gather, Tile of Tile, Expand of Expand, Pad of Pad.

Source: Gather-1, Gather-11, Tile-6, Expand-8 and Pad-11 of the ONNX operator specification, and
their successors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from onnxslim.base import Effect
from onnxslim.ir import Array, Constant, Node, Tensor
from onnxslim.passes.simplify._operands import from_front, ints
from onnxslim.passes.simplify._slice import cuts
from onnxslim.passes.simplify._trial import Trial, TrialPass, TrialRule


def _gather(trial: Trial) -> Tensor | None:
    """Gather what is gathered, or sliced, from the farther tensor."""
    inner = trial.above(trial.node.inputs[0], "Gather", "Slice")
    index = trial.node.constant(1)
    rank = trial.facts.rank(trial.node.inputs[0])
    if inner is None or index is None or not rank:
        return None
    (axis,) = from_front([trial.node.attr("axis", 0)], rank)
    indices = _gathered if inner.operator == "Gather" else _sliced
    found = indices(trial, inner, axis, index, rank)
    if found is None:
        return None
    trial.even = trial.read_only_by(trial.node.inputs[0], "Gather")
    return trial.new.like(trial.node, inner.inputs[0], found, axis=axis or None)


def _gathered(trial: Trial, inner: Node, axis: int, index: Array, rank: int) -> Array | None:
    """Return which elements are left of those that *inner* takes along the same axis."""
    first = inner.constant(1)
    if first is None or first.ndim != 1 or inner.attr("axis", 0) % rank != axis:
        return None
    inside = (index >= -first.size) & (index < first.size)
    return np.asarray(first[index]) if inside.all() else None


def _sliced(trial: Trial, inner: Node, axis: int, index: Array, rank: int) -> Array | None:
    """Return where the elements were before a Slice of the same axis alone."""
    taken = cuts(trial, inner)
    if taken is None or list(taken) != [axis]:
        return None
    shape, cut = trial.facts.shape(trial.node.inputs[0]), taken[axis]
    size = None if shape is None else shape[axis]
    if cut.start < 0 or (index.min(initial=0) < 0 and not isinstance(size, int)):
        return None
    if isinstance(size, int):
        if not ((index >= -size) & (index < size)).all():
            return None
        index = np.where(index < 0, index + size, index)
    elif index.max(initial=0) * cut.step + cut.start >= cut.end:
        return None
    return np.asarray(cut.start + index * cut.step, index.dtype)


def _tile(trial: Trial) -> Tensor | None:
    """Repeat as often as both do."""
    inner = trial.above(trial.node.inputs[0], "Tile")
    if inner is None or trial.opset < 6:
        return None
    first, second = ints(inner, "", 1), ints(trial.node, "", 1)
    if first is None or second is None:
        return None
    times = [a * b for a, b in zip(first, second, strict=True)]
    return trial.new.like(trial.node, inner.inputs[0], trial.ints(times))


def _expand(trial: Trial) -> Tensor | None:
    """Expand to the last shape at once."""
    inner = trial.above(trial.node.inputs[0], "Expand")
    wanted, shape = trial.facts.static(trial.out), ints(trial.node, "", 1)
    if inner is None or wanted is None or shape is None:
        return None
    target = trial.node.inputs[1] if tuple(shape) == wanted else trial.ints(wanted)
    return trial.new.like(trial.node, inner.inputs[0], target)


def _pad(trial: Trial) -> Tensor | None:
    """Pad with the same number as far as both do."""
    inner = trial.above(trial.node.inputs[0], "Pad")
    if inner is None or trial.opset < 11:
        return None
    both = (inner, trial.node)
    first, second = (ints(node, "pads", 1) for node in both)
    plain = all(n.attr("mode", "constant") == "constant" and n.input(3) is None for n in both)
    if not first or not second or not plain or min(*first, *second) < 0:
        return None
    values = [_value(node) for node in both]
    if None in values or values[0] != values[1]:
        return None
    pads = trial.ints([a + b for a, b in zip(first, second, strict=True)])
    return trial.new.like(trial.node, inner.inputs[0], pads, *trial.node.inputs[2:])


def _value(node: Node) -> bytes | None:
    """Return the bits that a Pad pads with; None where they are not known."""
    value = node.input(2)
    if value is None:
        return b""
    if not isinstance(value, Constant):
        return None
    bits: bytes = value.values.tobytes()
    return bits if any(bits) else b""


class MergeMoves(TrialPass):
    """Merge Gather, Tile, Expand and Pad with one like it before, and Gather with Slice."""

    name = "merge-moves"
    effect = Effect.EXACT
    rules: ClassVar[Mapping[str, TrialRule]] = {
        "Expand": _expand,
        "Gather": _gather,
        "Pad": _pad,
        "Tile": _tile,
    }
