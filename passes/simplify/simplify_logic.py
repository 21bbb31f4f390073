"""Conditions that are negated, constant, or compared with true and false.

A comparison of floats is not negated: no number compares with what is not a number.

Source: Not-1, And-7, Or-7, Equal-7, Where-9 and the comparisons from opset 7 and 12 of the
ONNX operator specification.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from onnx import TensorProto

from onnxslim.base import Effect
from onnxslim.ir import Constant, Tensor
from onnxslim.passes.simplify._trial import Results, Trial, TrialPass, TrialRule

_OPPOSITE = {
    "Less": ("GreaterOrEqual", 12),
    "Greater": ("LessOrEqual", 12),
    "LessOrEqual": ("Greater", 7),
    "GreaterOrEqual": ("Less", 7),
}
"""The comparison that is false when this one is true, and from which opset on it is there."""


_ORDERED = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT32, TensorProto.INT64)
"""What onnxruntime compares in all versions."""


def _operands(trial: Trial) -> list[Tensor]:
    return list(trial.node.inputs)


def _not(trial: Trial) -> Tensor | None:
    """Compare the other way round instead of negating a comparison of integers."""
    inner = trial.above(trial.node.inputs[0], *_OPPOSITE)
    if inner is None:
        return None
    opposite, since = _OPPOSITE[inner.operator]
    kind = trial.facts.elem_type(inner.inputs[0])
    if kind not in (TensorProto.INT32, TensorProto.INT64) or trial.opset < max(since, 9):
        return None
    return trial.new.node(opposite, inner.inputs, {})


def _where(trial: Trial) -> Tensor | None:
    """Choose by a constant condition; swap the operands instead of negating the condition."""
    condition, x, y = _operands(trial)
    if isinstance(condition, Constant) and condition.size:
        values = condition.values
        taken = x if values.all() else y if not values.any() else None
        shape = trial.facts.dims(trial.out)
        same = taken is not None and shape is not None and trial.facts.dims(taken) == shape
        return taken if same else None
    if x is y and trial.facts.same_shape(x, trial.out):
        return x
    inner = trial.above(condition, "Not")
    if inner is None:
        return _decided(trial, condition, x, y)
    trial.even = trial.read_only_by(condition, "Where") and condition not in (x, y)
    return trial.new.like(trial.node, inner.inputs[0], y, x)


def _decided(trial: Trial, condition: Tensor, x: Tensor, y: Tensor) -> Tensor | None:
    """Choose once of what was chosen by the same condition before."""
    outer = trial.facts.dims(trial.out)
    for slot, operand in enumerate((x, y)):
        inner = trial.above(operand, "Where")
        if inner is None or inner.inputs[0] is not condition:
            continue
        taken = [condition, x, y]
        taken[1 + slot] = inner.inputs[1 + slot]
        shapes = [trial.facts.dims(tensor) for tensor in taken]
        if outer is not None and outer in shapes:  # what is left still broadcasts to all of it
            return trial.new.like(trial.node, *taken)
    return None


def _or(trial: Trial) -> Tensor | Results | None:
    """Compare once: less or equal, greater or equal."""
    if trial.opset < 12:
        return _absorbed(True)(trial)
    for a, b in (_operands(trial), _operands(trial)[::-1]):
        strict, equal = trial.above(a, "Less", "Greater"), trial.above(b, "Equal")
        if strict is None or equal is None:
            continue
        same = set(strict.inputs) == set(equal.inputs)
        if same and trial.facts.elem_type(strict.inputs[0]) in _ORDERED:
            return trial.new.node(f"{strict.operator}OrEqual", strict.inputs, {})
    return _absorbed(True)(trial)


def _equal(trial: Trial) -> Tensor | None:
    """A boolean is true where it equals true."""
    for x, other in (_operands(trial), _operands(trial)[::-1]):
        if _is_true(trial, x, other):
            return x
    return None


def _absorbed(value: bool) -> TrialRule:
    """Make the rule for an operator whose result is *value* if an operand is."""

    def rule(trial: Trial) -> Tensor | None:
        for x, other in (_operands(trial), _operands(trial)[::-1]):
            if isinstance(x, Constant) or not isinstance(other, Constant) or not other.size:
                continue
            if (other.values == value).all() and trial.facts.same_shape(other, trial.out):
                return other
        return None

    return rule


def _is_true(trial: Trial, x: Tensor, other: Tensor) -> bool:
    """Say whether *other* is true, and no more dimensions than *x* has."""
    if not isinstance(other, Constant) or other.elem_type != TensorProto.BOOL or other.size != 1:
        return False
    rank = 0 if other.shape == () else trial.facts.rank(x)
    return rank is not None and rank >= len(other.shape) and bool(other.values.all())


class SimplifyLogic(TrialPass):
    """Simplify Not, And, Or, Equal and Where with constants and negations."""

    name = "simplify-logic"
    effect = Effect.EXACT
    rules: ClassVar[Mapping[str, TrialRule]] = {
        "And": _absorbed(False),
        "Equal": _equal,
        "Not": _not,
        "Or": _or,
        "Where": _where,
    }
