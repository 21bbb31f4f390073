"""One element along an axis: taken by a Slice or a Split and squeezed, or gathered and unsqueezed.

Source: Gather-1, Gather-11, Slice-10, Split-13, Squeeze-13 and Unsqueeze-13 of the ONNX operator
specification, and the versions around them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from onnxslim.base import Effect
from onnxslim.ir import Constant, Node, Tensor
from onnxslim.passes.simplify._operands import ints
from onnxslim.passes.simplify._slice import Cut, cuts
from onnxslim.passes.simplify._trial import Results, Trial, TrialPass, TrialRule


def _squeezed_slice(trial: Trial) -> Tensor | None:
    """Gather one index instead of slicing it out and dropping the axis."""
    inner = trial.above(trial.node.inputs[0], "Slice")
    if inner is None:
        return None
    taken = cuts(trial, inner)
    if taken is None or len(taken) != 1:
        return None
    ((axis, cut),) = taken.items()
    if not _is_one(cut, trial.opset) or not _is_axis(trial, trial.node, axis, inner.outputs[0]):
        return None
    return _gather(trial, inner.inputs[0], cut.start, axis)


def _gather(trial: Trial, x: Tensor, index: int, axis: int) -> Tensor:
    return trial.new.Gather(x, trial.ints(index), **({"axis": axis} if axis else {}))


def _is_one(cut: Cut, opset: int) -> bool:
    """Say whether *cut* takes one element; counted from the end, Gather knows it from opset 11."""
    if cut.start < 0 and opset < 11:
        return False
    return cut.end == cut.start + 1 or (cut.start == -1 and cut.end > 0)


def _is_axis(trial: Trial, node: Node, axis: int, before: Tensor) -> bool:
    """Say whether the only axis of a Squeeze or Unsqueeze is *axis*; *before* has its rank."""
    axes = ints(node, "axes", 1)
    if axes is None or len(axes) != 1:
        return False
    rank = trial.facts.rank(before)
    return axes[0] == axis or (rank is not None and axes[0] + rank == axis)


def _squeezed_split(trial: Trial) -> Results | None:
    """Gather each index instead of splitting a tensor up and dropping the axis of each part."""
    node = trial.node
    axis, sizes = node.attr("axis", 0), ints(node, "split", 1)
    if sizes is None:
        shapes = [trial.facts.shape(output) for output in node.outputs]
        if axis < 0 or any(shape is None or shape[axis] != 1 for shape in shapes):
            return None
    elif any(size != 1 for size in sizes) or axis < 0:
        return None
    readers: list[tuple[int, Node]] = []
    for index, output in enumerate(node.outputs):
        if not trial.read_only_by(output, "Squeeze"):
            return None
        readers += [(index, reader) for reader in output.outputs]
    if not all(_fits(trial, reader, axis) for _, reader in readers):
        return None
    x = node.inputs[0]
    return {reader.outputs[0]: _gather(trial, x, index, axis) for index, reader in readers}


def _fits(trial: Trial, reader: Node, axis: int) -> bool:
    same = reader.graph is trial.graph and reader.outputs[0].name != ""
    return same and _is_axis(trial, reader, axis, reader.inputs[0])


def _unsqueezed_gather(trial: Trial) -> Tensor | None:
    """Gather a vector of one index instead of a scalar that is made an axis again."""
    inner = trial.above(trial.node.inputs[0], "Gather")
    if inner is None:
        return None
    index, axis = inner.inputs[1], inner.attr("axis", 0)
    if not isinstance(index, Constant) or index.shape != () or axis < 0:
        return None
    if not _is_axis(trial, trial.node, axis, trial.out):
        return None
    return trial.new.like(inner, inner.inputs[0], trial.ints([int(index.values)]))


def _gather_transposed(trial: Trial) -> Tensor | None:
    """Gather along another axis before a Transpose that then has nothing left to do."""
    inner = trial.above(trial.node.inputs[0], "Transpose")
    index = trial.node.inputs[1]
    perm = None if inner is None else inner.attr("perm")
    if inner is None or perm is None or trial.facts.rank(index) != 0:
        return None
    axis = trial.node.attr("axis", 0)
    left = [place for i, place in enumerate(perm) if i != axis % len(perm)]
    if left != sorted(left):
        return None
    trial.even = trial.read_only_by(trial.node.inputs[0], "Gather")
    return trial.new.like(trial.node, inner.inputs[0], index, axis=perm[axis])


class MergeGathers(TrialPass):
    """Merge Slice or Split with Squeeze, Transpose with Gather, and Gather with Unsqueeze."""

    name = "merge-gathers"
    effect = Effect.EXACT
    rules: ClassVar[Mapping[str, TrialRule]] = {
        "Gather": _gather_transposed,
        "Split": _squeezed_split,
        "Squeeze": _squeezed_slice,
        "Unsqueeze": _unsqueezed_gather,
    }
