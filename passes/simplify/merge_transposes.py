"""Transposes one after the other, and with only reshapes between and around them.

A Reshape after a Transpose that splits dimensions may as well split them before it; what then
precedes the Transpose is a reshape of a reshape, often one that changes nothing. A Transpose after
a Reshape that joins dimensions may as well move them before they are joined.

Source: Transpose-1 and Reshape-5 of the ONNX operator specification, and their successors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from onnxslim.base import Effect
from onnxslim.ir import Node, Tensor
from onnxslim.passes.simplify._reshape import FAMILY, constant_shape, moves_ones, same_order
from onnxslim.passes.simplify._trial import Trial, TrialPass, TrialRule
from onnxslim.shapes import Expr

_Groups = list[list[int]]


def _compose(trial: Trial) -> Tensor | None:
    """Transpose once, or not at all, instead of twice."""
    inner = trial.above(trial.node.inputs[0], "Transpose")
    if inner is None:
        return None
    x: Tensor = inner.inputs[0]
    first, second = inner.attr("perm"), trial.node.attr("perm")
    known = first or second
    if known is None:
        return x  # both reverse all dimensions
    backwards = list(range(len(known)))[::-1]
    first, second = first or backwards, second or backwards
    perm = [first[axis] for axis in second]
    if perm == sorted(perm):
        return x
    trial.even = trial.read_only_by(trial.node.inputs[0], "Transpose")
    return trial.new.like(trial.node, x, perm=perm)


def _join_after(trial: Trial) -> Tensor | None:
    """Transpose once, before the Reshape between two Transposes joins dimensions."""
    join = trial.above(trial.node.inputs[0], *FAMILY)
    inner = None if join is None else trial.above(join.inputs[0], "Transpose")
    if trial.opset < 7 or join is None or inner is None:
        return None
    first, second = inner.attr("perm"), trial.node.attr("perm")
    x: Tensor = inner.inputs[0]
    dims, parts = trial.facts.dims(x), trial.facts.dims(join.inputs[0])
    joined = trial.facts.dims(join.outputs[0])
    if first is None or second is None or dims is None or parts is None or joined is None:
        return None
    groups = _groups(joined, parts)
    if groups is None or len(groups) != len(second):
        return None
    perm = [first[axis] for place in second for axis in groups[place]]
    shape = constant_shape([dims[axis] for axis in perm], trial.facts.dims(trial.out))
    if shape is None:
        return None
    if perm != sorted(perm):
        x = trial.new.like(inner, x, perm=perm)
    return trial.new.Reshape(x, trial.ints(shape))


def _transpose(trial: Trial) -> Tensor | None:
    return _compose(trial) or _join_after(trial)


def _split_before(trial: Trial) -> Tensor | None:
    """Split dimensions before the Transpose, from the farthest tensor of the right shape."""
    node = trial.above(trial.node.inputs[0], "Transpose")
    if trial.opset < 7 or node is None or moves_ones(trial, node):
        return None
    perm = node.attr("perm")
    moved, after = trial.facts.dims(node.outputs[0]), trial.facts.dims(trial.out)
    if perm is None or moved is None or after is None:
        return None
    groups = _groups(moved, after)
    above = same_order(trial, node.inputs[0])
    if groups is None or not above:
        return None
    source = [axis for place in range(len(perm)) for axis in groups[perm.index(place)]]
    split = tuple(after[axis] for axis in source)
    x = _shaped(trial, above, split)
    return None if x is None else _transposed(trial, node, x, source)


def _groups(moved: Sequence[Expr], after: Sequence[Expr]) -> _Groups | None:
    """Return for each dimension of *moved* the axes of *after* that it is split into."""
    groups: _Groups = []
    axis, last = 0, len(after)
    for dim in moved:
        group: list[int] = []
        product: Expr = 1
        while product != dim and axis < last:
            product = product * after[axis]
            group.append(axis)
            axis += 1
        if product != dim:
            return None
        groups.append(group)
    if any(dim != 1 for dim in after[axis:]) or not groups:
        return None
    groups[-1] += range(axis, last)
    return groups


def _shaped(trial: Trial, above: list[Tensor], split: tuple[Expr, ...]) -> Tensor | None:
    """Return one of the tensors *above* that has the shape *split*, or a reshaped one."""
    for x in reversed(above):
        if trial.facts.dims(x) == split:
            return x
    x = above[-1]
    shape = constant_shape(trial.facts.dims(x), split)
    return None if shape is None else trial.new.Reshape(x, trial.ints(shape))


def _transposed(trial: Trial, node: Node, x: Tensor, source: list[int]) -> Tensor:
    perm = [source.index(axis) for axis in range(len(source))]
    return x if perm == sorted(perm) else trial.new.like(node, x, perm=perm)


class MergeTransposes(TrialPass):
    """Merge Transposes, also across reshapes that only split or only join dimensions."""

    name = "merge-transposes"
    effect = Effect.EXACT
    rules: ClassVar[Mapping[str, TrialRule]] = {
        "Transpose": _transpose,
        **dict.fromkeys(FAMILY, _split_before),
    }
