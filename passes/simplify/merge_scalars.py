"""Additions of constants one after the other, and multiplications.

Source: Add-7, Sub-7, Mul-7, Div-7 and Neg-6 of the ONNX operator specification and their
successors; integers wrap around, so their sums and products may be regrouped too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, NamedTuple

import numpy as np

from onnxslim.base import Effect
from onnxslim.ir import Array, Node, Tensor
from onnxslim.passes.simplify._numbers import combine, is_scalar, number
from onnxslim.passes.simplify._trial import Trial, TrialPass, TrialRule

_TERMS = ("Add", "Sub")
_FACTORS = ("Mul", "Div")


class _Step(NamedTuple):
    """What a node does to *x*: a sum, a product or a quotient with *constant*."""

    x: Tensor
    constant: Array
    flipped: bool
    """Whether x is negated in a sum, or the constant divides."""


def _step(node: Node) -> _Step | None:
    a, b = node.inputs
    left, right = number(a), number(b)
    if (left is None) == (right is None):
        return None
    if right is not None:
        if node.operator == "Sub":
            return _Step(a, np.asarray(np.negative(right)), flipped=False)
        return _Step(a, right, flipped=node.operator == "Div")
    if left is None or node.operator == "Div":
        return None
    return _Step(b, left, flipped=node.operator == "Sub")


def _sum(trial: Trial) -> Tensor | None:
    """Add the sum of two constants: (±x + t1) + t2 and t2 - (±x + t1)."""
    found = _two(trial, _TERMS)
    if found is None:
        return None
    first, second = found
    operation = np.subtract if second.flipped else np.add
    total = combine(operation, second.constant, first.constant)
    if first.flipped == second.flipped:
        return trial.new.Add(first.x, total)
    return trial.new.Sub(total, first.x)


def _product(trial: Trial) -> Tensor | None:
    """Multiply by the product of two constants, or divide by it."""
    found = _two(trial, _FACTORS)
    if found is None:
        return None
    first, second = found
    if first.constant.dtype.kind != "f" and (first.flipped or second.flipped):
        return None
    if first.flipped and second.flipped:
        return trial.new.Div(first.x, combine(np.multiply, first.constant, second.constant))
    operation: Callable[[Array, Array], Array] = np.multiply
    if second.flipped:
        operation = np.divide
    elif first.flipped:
        first, second = second._replace(x=first.x), first
        operation = np.divide
    return trial.new.Mul(first.x, combine(operation, first.constant, second.constant))


def _factor(trial: Trial) -> Tensor | None:
    return _product(trial) or _quotient(trial) or _of_negation(trial)


def _quotient(trial: Trial) -> Tensor | None:
    """Divide one constant: (c1 / x) * c2, (c1 / x) / c2, c2 / (x * c1) and c2 / (x / c1)."""
    outer = _step(trial.node) if trial.opset >= 7 else None
    if outer is not None:
        inner = trial.above(outer.x, "Div")
        top = None if inner is None else number(inner.inputs[0])
        if (
            inner is None
            or top is None
            or top.dtype.kind != "f"
            or number(inner.inputs[1]) is not None
        ):
            return None
        operation = np.divide if outer.flipped else np.multiply
        return trial.new.Div(combine(operation, top, outer.constant), inner.inputs[1])
    above = trial.above(trial.node.inputs[1], *_FACTORS)
    top, below = number(trial.node.inputs[0]), None if above is None else _step(above)
    if trial.node.operator != "Div" or top is None or below is None or top.dtype.kind != "f":
        return None
    operation = np.multiply if below.flipped else np.divide
    return trial.new.Div(combine(operation, top, below.constant), below.x)


def _of_negation(trial: Trial) -> Tensor | None:
    """Multiply by, or divide by, the opposite number instead of negating first."""
    step = _step(trial.node) if trial.opset >= 7 else None
    inner = None if step is None else trial.above(step.x, "Neg")
    return None if step is None or inner is None else _opposite(trial, step, inner.inputs[0])


def _negated(trial: Trial) -> Tensor | None:
    """Multiply by, or divide by, the opposite number instead of negating afterwards."""
    inner = trial.above(trial.node.inputs[0], *_FACTORS) if trial.opset >= 7 else None
    step = None if inner is None else _step(inner)
    return None if step is None else _opposite(trial, step, step.x)


def _opposite(trial: Trial, step: _Step, x: Tensor) -> Tensor | None:
    if step.constant.dtype.kind != "f":
        return None
    operator = "Div" if step.flipped else "Mul"
    return trial.new.node(operator, [x, np.negative(step.constant)], {})


def _two(trial: Trial, operators: tuple[str, ...]) -> tuple[_Step, _Step] | None:
    """Return what the node above and the node itself do."""
    second = _step(trial.node) if trial.opset >= 7 else None
    inner = None if second is None else trial.above(second.x, *operators)
    first = None if inner is None else _step(inner)
    return None if first is None or second is None else (first, second)


def _scale(trial: Trial) -> Tensor | None:
    """Scale a product of matrices once: its result and its operands by one number in all."""
    node, operands, scales = trial.node, list(trial.node.inputs), []
    if trial.opset < 7:
        return None
    for slot, operand in enumerate(operands):
        inner = trial.above(operand, *_FACTORS)
        step = None if inner is None else _step(inner)
        if step is not None and is_scalar(step.constant, trial.facts.rank(step.x)):
            operands[slot] = step.x
            scales.append(step)
    if len(scales) < 2 or scales[0].constant.dtype.kind != "f":
        return None
    one = np.ones((), scales[0].constant.dtype)
    factors = [combine(np.divide if s.flipped else np.multiply, one, s.constant) for s in scales]
    if one.dtype == np.float16 and any((abs(factor) > 1).any() for factor in factors):
        return None  # the larger operand might overflow
    factor = combine(np.multiply, *factors).reshape(())
    slot = _smaller(trial, operands)
    operands[slot] = trial.new.Mul(operands[slot], factor)
    return trial.new.like(node, *operands)


def _smaller(trial: Trial, operands: list[Tensor]) -> int:
    sizes = [trial.facts.size(operand) for operand in operands]
    left, right = sizes
    return int(isinstance(left, int) and isinstance(right, int) and right < left)


class MergeScalars(TrialPass):
    """Merge additions, multiplications and divisions by constants."""

    name = "merge-scalars"
    effect = Effect.ROUNDING
    rules: ClassVar[Mapping[str, TrialRule]] = {
        "Add": _sum,
        "Sub": _sum,
        "Mul": _factor,
        "Div": _factor,
        "Neg": _negated,
        "MatMul": _scale,
    }
