"""Reshape, Flatten, Squeeze and Unsqueeze, one after the other.

All of them keep the order of the elements, so a chain is one Reshape, or nothing where it ends in
the shape that it began with. So does a Transpose that only moves dimensions of size 1.

Source: Reshape-5, Flatten-1, Squeeze-1, Unsqueeze-1 of the ONNX operator specification, and their
successors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxslim.base import Effect
from onnxslim.ir import Node, Tensor
from onnxslim.passes.simplify._operands import ints, with_axes
from onnxslim.passes.simplify._trial import Trial, TrialPass, TrialRule

FAMILY = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")


def _merge(trial: Trial) -> Tensor | None:
    """Compute the node's output from the farthest tensor that it can be computed from."""
    if trial.opset < 7 or (trial.node.operator == "Transpose" and not _moves_ones(trial, trial.node)):
        return None
    above = _chain(trial)
    for x in reversed(above):
        if trial.facts.same_shape(x, trial.out):
            return x
    if _is_undone(trial.node, trial.above(trial.node.inputs[0], *FAMILY)):
        return above[0]
    trial.even = all(trial.read_only_by(t, *FAMILY) for t in (trial.node.inputs[0], *above[:-1]))
    for x in reversed(above):
        result = _from(trial, x)
        if result is not None:
            return result
    return None


def _chain(trial: Trial) -> list[Tensor]:
    """Return the tensors that hold the elements of the node's input in the same order."""
    found: list[Tensor] = []
    tensor = trial.node.inputs[0]
    while True:
        node = trial.above(tensor, *FAMILY, "Transpose")
        if node is None or not (node.operator != "Transpose" or _moves_ones(trial, node)):
            return found
        tensor = node.inputs[0]
        found.append(tensor)


def _moves_ones(trial: Trial, node: Node) -> bool:
    shape = trial.facts.shape(node.inputs[0])
    if shape is None:
        return False
    perm = node.attr("perm", range(len(shape))[::-1])
    moved = [axis for axis in perm if shape[axis] != 1]
    return moved == sorted(moved)


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
        return with_axes(new, node, x, axes, 13)
    shape = _constant_shape(trial, x)
    return None if shape is None else new.Reshape(x, np.asarray(shape, np.int64))


def _means_the_same(trial: Trial, x: Tensor) -> bool:
    """Say whether the shape operand gives the same result for *x*: a 0 may copy another dimension.

    A shape that is computed may hold a 0 as well, unless it is known that it does not.
    """
    node, facts = trial.node, trial.facts
    if trial.opset >= 14 and node.attr("allowzero", 0):
        return True
    shape = ints(node, "shape", 1)
    if shape is None:
        return False
    before, after = facts.shape(x), facts.shape(node.inputs[0])
    copied = [axis for axis, dim in enumerate(shape) if dim == 0]
    if not copied:
        return True
    if before is None or after is None:
        return False
    return all(a < len(before) and facts.equal(before[a], after[a]) for a in copied)


def _all_axes(trial: Trial, x: Tensor) -> list[int] | None:
    """Return the axes of one Unsqueeze in place of two, all counted from the front."""
    node, inner = trial.node, trial.above(trial.node.inputs[0], "Unsqueeze")
    if node.operator != "Unsqueeze" or inner is None or inner.inputs[0] is not x:
        return None
    first, second = ints(inner, "axes", 1), ints(node, "axes", 1)
    if first is None or second is None or min(*first, *second) < 0:
        return None
    free = (axis for axis in range(max(*first, *second) + len(first) + 1) if axis not in second)
    places = list(free)
    return sorted([*second, *(places[axis] for axis in first)])


def _constant_shape(trial: Trial, x: Tensor) -> list[int] | None:
    """Write the shape of the output as one for Reshape: at most one -1, or else copied dimensions.

    With a -1 nothing is copied: it means nothing where a copied dimension is 0.
    """
    before, after = trial.facts.dims(x), trial.facts.dims(trial.out)
    if after is None or 0 in after:
        return None
    unknown = [axis for axis, dim in enumerate(after) if not isinstance(dim, int)]
    if len(unknown) <= 1:
        return [dim if isinstance(dim, int) else -1 for dim in after]
    if before is None or any(a >= len(before) or before[a] != after[a] for a in unknown):
        return None
    return [dim if isinstance(dim, int) else 0 for dim in after]


@dataclass(frozen=True)
class MergeReshapes(TrialPass):
    """Merge chains of Reshape, Flatten, Squeeze and Unsqueeze."""

    name = "merge-reshapes"
    effect = Effect.EXACT
    rules: ClassVar[Mapping[str, TrialRule]] = dict.fromkeys((*FAMILY, "Transpose"), _merge)
