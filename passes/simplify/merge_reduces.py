"""Reductions and the dimensions of size 1 that they leave or do not leave.

Source: the Reduce operators 1 to 20, ArgMax, ArgMin and GlobalAveragePool of the ONNX operator
specification. Their axes are an attribute until opset 17, of ReduceSum until opset 12.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from onnxslim.base import Effect
from onnxslim.ir import Node, Tensor, numpy_type
from onnxslim.passes.simplify._operands import from_front, ints, is_given
from onnxslim.passes.simplify._trial import Trial, TrialPass, TrialRule

_ARGS = ("ArgMax", "ArgMin")
_REDUCES = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare",
)  # fmt: skip
_TWICE = ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum")
"""Reductions that may be done axis by axis."""


def _axes(trial: Trial, node: Node) -> list[int] | None:
    """Return the reduced axes from the front; None where they or the rank are not known."""
    rank = trial.facts.rank(node.inputs[0])
    if rank is None:
        return None
    if node.operator in _ARGS:
        return from_front([node.attr("axis", 0)], rank)
    if not is_given(node, "axes", 1):
        return None if node.attr("noop_with_empty_axes", 0) else list(range(rank))
    axes = ints(node, "axes", 1)
    return sorted(from_front(axes, rank)) if axes else None


def _keep(trial: Trial) -> Tensor | None:
    """Keep the dimensions that a reduction drops and an Unsqueeze or Reshape makes again."""
    inner = trial.above(trial.node.inputs[0], *_REDUCES, *_ARGS)
    if inner is None or inner.attr("keepdims", 1) != 0:
        return None
    axes, before = _axes(trial, inner), trial.facts.dims(inner.inputs[0])
    if axes is None or before is None:
        return None
    kept = tuple(1 if axis in axes else dim for axis, dim in enumerate(before))
    return _like(trial, inner, 1) if trial.facts.dims(trial.out) == kept else None


def _drop(trial: Trial) -> Tensor | None:
    """Drop the dimensions that a reduction keeps and a Squeeze or Reshape drops."""
    inner = trial.above(trial.node.inputs[0], *_REDUCES, *_ARGS)
    if inner is None or inner.attr("keepdims", 1) != 1:
        return None
    axes, before = _axes(trial, inner), trial.facts.dims(inner.inputs[0])
    if axes is None or before is None:
        return None
    left = tuple(dim for axis, dim in enumerate(before) if axis not in axes)
    return _like(trial, inner, 0) if trial.facts.dims(trial.out) == left else None


def _drop_pooled(trial: Trial) -> Tensor | None:
    """Take the mean in place of a global average whose dimensions of size 1 are dropped."""
    inner = trial.above(trial.node.inputs[0], "GlobalAveragePool")
    before = None if inner is None else trial.facts.dims(inner.inputs[0])
    if inner is None or before is None or trial.facts.dims(trial.out) != before[:2]:
        return None
    return _made(trial, "ReduceMean", inner.inputs[0], list(range(2, len(before))), 0)


def _made(trial: Trial, operator: str, x: Tensor, axes: list[int], keepdims: int) -> Tensor:
    attrs: dict[str, Any] = {"keepdims": keepdims}
    if trial.opset < (13 if operator == "ReduceSum" else 18):
        return trial.new.node(operator, [x], {**attrs, "axes": axes})
    return trial.new.node(operator, [x, trial.ints(axes)], attrs)


def _squeeze(trial: Trial) -> Tensor | None:
    return _drop(trial) or _drop_pooled(trial)


def _reshape(trial: Trial) -> Tensor | None:
    return _keep(trial) or _squeeze(trial)


def _like(trial: Trial, node: Node, keepdims: int) -> Tensor:
    return trial.new.like(node, *node.inputs, keepdims=keepdims)


def _twice(trial: Trial) -> Tensor | None:
    """Reduce all axes at once."""
    node = trial.node
    inner = trial.above(node.inputs[0], node.operator)
    if inner is None or inner.attr("keepdims", 1) != node.attr("keepdims", 1):
        return None
    kind = trial.facts.elem_type(trial.out)
    if node.operator == "ReduceMean" and (not kind or numpy_type(kind).kind in "iu"):
        return None  # a mean of integers is rounded
    first, second = _axes(trial, inner), _axes(trial, node)
    rank = trial.facts.rank(inner.inputs[0])
    if first is None or second is None or rank is None:
        return None
    if not node.attr("keepdims", 1):
        left = [axis for axis in range(rank) if axis not in first]
        second = [left[axis] for axis in second]
    axes = sorted({*first, *second})
    keepdims = node.attr("keepdims", 1)
    return _made(trial, node.operator, inner.inputs[0], axes, keepdims)


class MergeReduces(TrialPass):
    """Merge reductions and pooling with each other and with Squeeze, Unsqueeze and Reshape."""

    name = "merge-reduces"
    effect = Effect.ROUNDING
    rules: ClassVar[Mapping[str, TrialRule]] = {
        **dict.fromkeys(_TWICE, _twice),
        "Flatten": _drop_pooled,
        "Reshape": _reshape,
        "Squeeze": _squeeze,
        "Unsqueeze": _keep,
    }
