"""Reshape, Flatten, Squeeze and Unsqueeze, one after the other.

All of them keep the order of the elements, so a chain is one Reshape, or nothing where it ends in
the shape that it began with. So does a Transpose that only moves dimensions of size 1.

Source: Reshape-5, Flatten-1, Squeeze-1, Unsqueeze-1 of the ONNX operator specification, and their
successors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from onnxslim.base import Effect
from onnxslim.ir import Node, Tensor
from onnxslim.passes.simplify._operands import ints, with_axes
from onnxslim.passes.simplify._reshape import FAMILY, constant_shape, moves_ones, same_order
from onnxslim.passes.simplify._trial import Trial, TrialPass, TrialRule


def _merge(trial: Trial) -> Tensor | None:
    """Compute the node's output from the farthest tensor that it can be computed from."""
    node, facts = trial.node, trial.facts
    if trial.opset < 7 or (node.operator == "Transpose" and not moves_ones(trial, node)):
        return None
    above = same_order(trial, node.inputs[0])
    for x in reversed(above):
        if facts.same_shape(x, trial.out):
            return x
    if _is_undone(node, trial.above(node.inputs[0], *FAMILY)):
        return above[0]
    trial.even = all(trial.read_only_by(t, *FAMILY) for t in (node.inputs[0], *above[:-1]))
    for x in reversed(above):
        result = _from(trial, x)
        if result is not None:
            return result
    return None


def _is_undone(node: Node, inner: Node | None) -> bool:
    """Say whether a Squeeze and an Unsqueeze of the same axes follow each other."""
    if inner is None or {node.operator, inner.operator} != {"Squeeze", "Unsqueeze"}:
        return False
    axes = ints(node, "axes", 1)
    return axes is not None and axes == ints(inner, "axes", 1)


def _from(trial: Trial, x: Tensor) -> Tensor | None:
    node, new = trial.node, trial.new
    if node.operator == "Reshape" and _means_the_same(trial, x):
        return new.like(node, x, *node.inputs[1:])
    axes = _all_axes(trial, x)
    if axes is not None:
        return with_axes(trial, node, x, axes, 13)
    shape = constant_shape(trial.facts.dims(x), trial.facts.dims(trial.out))
    return None if shape is None else new.Reshape(x, trial.ints(shape))


def _means_the_same(trial: Trial, x: Tensor) -> bool:
    """Say whether the shape operand says the same for *x*, though a 0 copies a dimension.

    A shape that is computed may hold a 0 as well.
    """
    node, facts = trial.node, trial.facts
    if trial.opset >= 14 and node.attr("allowzero", 0):
        return True
    shape = ints(node, "shape", 1)
    if shape is None:
        return False
    copied = [axis for axis, dim in enumerate(shape) if dim == 0]
    if not copied:
        return True
    before, after = facts.shape(x), facts.shape(node.inputs[0])
    if before is None or after is None:
        return False
    return all(axis < len(before) and facts.equal(before[axis], after[axis]) for axis in copied)


def _all_axes(trial: Trial, x: Tensor) -> list[int] | None:
    """Return the axes of one Unsqueeze in place of two, all counted from the front."""
    node, inner = trial.node, trial.above(trial.node.inputs[0], "Unsqueeze")
    if node.operator != "Unsqueeze" or inner is None or inner.inputs[0] is not x:
        return None
    first, second = ints(inner, "axes", 1), ints(node, "axes", 1)
    if not first or not second or min(*first, *second) < 0:
        return None
    last = max(*first, *second) + len(second)
    places = [axis for axis in range(last + 1) if axis not in second]
    return sorted([*second, *(places[axis] for axis in first)])


class MergeReshapes(TrialPass):
    """Merge chains of Reshape, Flatten, Squeeze and Unsqueeze."""

    name = "merge-reshapes"
    effect = Effect.EXACT
    rules: ClassVar[Mapping[str, TrialRule]] = dict.fromkeys((*FAMILY, "Transpose"), _merge)
