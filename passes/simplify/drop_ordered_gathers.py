"""Gathers whose indices count through all there is.

Exporters write a view of a tensor as a Gather of its elements, by indices that are computed from
its shape. Source: Gather-1 and Range-11 of the ONNX operator specification and their successors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from onnxslim.base import Effect
from onnxslim.ir import Tensor
from onnxslim.passes.simplify._affine_index import affine
from onnxslim.passes.simplify._reshape import constant_shape, same_order
from onnxslim.passes.simplify._trial import Trial, TrialPass, TrialRule
from onnxslim.shapes import Expr


def _drop(trial: Trial) -> Tensor | None:
    """Return the gathered tensor itself, or what has its elements in the same order."""
    x: Tensor = trial.node.inputs[0]
    index = trial.node.inputs[1]
    before, counted = trial.facts.dims(x), trial.facts.dims(index)
    axis = trial.node.attr("axis", 0)
    if before is None or not counted or not -len(before) <= axis < len(before):
        return None
    size = before[axis]
    found = affine(trial, index) if _product(counted) == size else None
    if found is None or found.offset != 0 or list(found.steps) != _row_major(counted):
        return None
    if len(counted) == 1:
        return x
    after = trial.facts.dims(trial.out)
    for other in (x, *same_order(trial, x)):
        if trial.facts.dims(other) == after:
            return other
    shape = constant_shape(before, after)
    return None if shape is None else trial.new.Reshape(x, trial.ints(shape))


def _product(dims: tuple[Expr, ...]) -> Expr:
    size: Expr = 1
    for dim in dims:
        size = size * dim
    return size


def _row_major(dims: tuple[Expr, ...]) -> list[Expr]:
    """Return the steps of indices that count through *dims*."""
    return [0 if dim == 1 else _product(dims[at + 1 :]) for at, dim in enumerate(dims)]


class DropOrderedGathers(TrialPass):
    """Drop a Gather that takes all elements in their order."""

    name = "drop-ordered-gathers"
    effect = Effect.EXACT
    rules: ClassVar[Mapping[str, TrialRule]] = {"Gather": _drop}
