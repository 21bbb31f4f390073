"""Signs, reciprocals and roots that another operator can take over.

Source: Neg, Add, Sub, Mul, Div, Reciprocal, Sqrt and Pow of the ONNX operator specification, from
opset 7 on, when operands began to broadcast.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from onnxslim.base import Effect
from onnxslim.ir import Constant, Tensor, numpy_type
from onnxslim.passes.simplify._numbers import is_scalar, number
from onnxslim.passes.simplify._trial import Trial, TrialPass, TrialRule
from onnxslim.pattern import is_all


def _add(trial: Trial) -> Tensor | None:
    """Write a + (-b) as a - b."""
    for a, b in (trial.node.inputs, trial.node.inputs[::-1]):
        x = _negated(trial, b)
        if x is not None and x is not a and trial.opset >= 7:
            return trial.new.Sub(a, x)
    return None


def _negated(trial: Trial, tensor: Tensor) -> Tensor | None:
    """Return what *tensor* is the negation of, or the product with -1."""
    node = trial.above(tensor, "Neg", "Mul")
    if node is None or node.operator == "Neg":
        return None if node is None else node.inputs[0]
    operands: list[Tensor] = list(node.inputs)
    for x, factor in (operands, operands[::-1]):
        value = number(factor)
        scalar = value is not None and is_scalar(value, trial.facts.rank(x))
        if scalar and isinstance(factor, Constant) and is_all(factor, -1):
            return x
    return None


def _sub(trial: Trial) -> Tensor | None:
    """Write a - (-b) as a + b."""
    negated = _negated(trial, trial.node.inputs[1])
    if negated is None or trial.opset < 7:
        return None
    return trial.new.Add(trial.node.inputs[0], negated)


def _neg(trial: Trial) -> Tensor | None:
    """Write -(a - b) as b - a."""
    inner = trial.above(trial.node.inputs[0], "Sub")
    return None if inner is None or trial.opset < 7 else trial.new.Sub(*inner.inputs[::-1])


def _mul(trial: Trial) -> Tensor | None:
    """Write a * (1 / b) as a / b, and (-a) * (-b) as a * b."""
    a, b = trial.node.inputs
    if trial.opset < 7:
        return None
    for left, right in ((a, b), (b, a)):
        inverse = _inverse(trial, right)
        if inverse is not None and inverse is not left:
            return trial.new.Div(left, inverse)
    return _both_negated(trial)


def _div(trial: Trial) -> Tensor | None:
    """Write a / (1 / b) as a * b."""
    if trial.opset < 7:
        return None
    inverse = _inverse(trial, trial.node.inputs[1])
    if inverse is not None:
        return trial.new.Mul(trial.node.inputs[0], inverse)
    return _both_negated(trial)


def _inverse(trial: Trial, tensor: Tensor) -> Tensor | None:
    """Return what *tensor* is the reciprocal of."""
    node = trial.above(tensor, "Reciprocal", "Div")
    if node is None:
        return None
    x: Tensor = node.inputs[-1]
    if node.operator == "Reciprocal":
        return x
    one = node.inputs[0]
    is_one = isinstance(one, Constant) and one.shape == () and is_all(one, 1)
    return x if is_one and isinstance(one, Constant) and one.dtype.kind == "f" else None


def _both_negated(trial: Trial) -> Tensor | None:
    """Integers have one number whose negation is itself, which a quotient would show."""
    a, b = (trial.above(operand, "Neg") for operand in trial.node.inputs)
    kind = trial.facts.elem_type(trial.out)
    if a is None or b is None or not kind or numpy_type(kind).kind != "f":
        return None
    return trial.new.like(trial.node, a.inputs[0], b.inputs[0])


class SimplifyArithmetic(TrialPass):
    """Simplify sums, differences, products and quotients of negations and reciprocals."""

    name = "simplify-arithmetic"
    effect = Effect.ROUNDING
    rules: ClassVar[Mapping[str, TrialRule]] = {
        "Add": _add,
        "Div": _div,
        "Mul": _mul,
        "Neg": _neg,
        "Sub": _sub,
    }
