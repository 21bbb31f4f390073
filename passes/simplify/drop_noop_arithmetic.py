"""Neutral elements: x + 0, x · 1, x and true.

The other operand must be a constant that neither widens the shape nor the type. Only x + 0 is not
bit for bit: it turns -0 into 0, as onnxruntime's own optimizer does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from onnxslim.base import Effect
from onnxslim.ir import Constant, Tensor
from onnxslim.rewrite import BypassPass, Rule, Site
from onnxslim.shapes import Facts


def neutral(value: float | bool, either_side: bool) -> Rule:
    """Make the rule for an operator whose neutral element is *value*."""

    def rule(site: Site) -> Tensor | None:
        if site.opset < 7 or len(site.node.inputs) != 2:  # before, operands did not broadcast
            return None
        a: Tensor
        b: Tensor
        a, b = site.node.inputs
        for x, other in ((a, b), (b, a)) if either_side else ((a, b),):
            if _is(other, value) and _keeps_shape(site.facts, x, other):
                return x
        return None

    return rule


def _is(tensor: Tensor, value: float | bool) -> bool:
    if not isinstance(tensor, Constant) or not tensor.size or tensor.dtype.kind == "O":
        return False
    values, sought = tensor.values, np.asarray(value, tensor.dtype)
    return bool(values.flat[0] == sought and (values == sought).all())


def _keeps_shape(facts: Facts, x: Tensor, other: Constant | Tensor) -> bool:
    """Say whether *x* surely has the shape of *x* combined with *other*."""
    wide = facts.static(other)
    if wide is None:
        return False
    if not wide:
        return True
    shape = facts.shape(x)
    if shape is None or len(shape) < len(wide):
        return False
    return all(w in (1, d) for w, d in zip(wide, shape[len(shape) - len(wide) :], strict=True))


class DropNoopArithmetic(BypassPass):
    """Drop x + 0, x - 0, x * 1, x / 1, x ** 1, x and true, x or false, x xor false."""

    name = "drop-noop-arithmetic"
    effect = Effect.ROUNDING
    rules: ClassVar[Mapping[str, Rule]] = {
        "Add": neutral(0, either_side=True),
        "And": neutral(True, either_side=True),
        "BitwiseOr": neutral(0, either_side=True),
        "BitwiseXor": neutral(0, either_side=True),
        "Div": neutral(1, either_side=False),
        "Mul": neutral(1, either_side=True),
        "Or": neutral(False, either_side=True),
        "Pow": neutral(1, either_side=False),
        "Sub": neutral(0, either_side=False),
        "Xor": neutral(False, either_side=True),
    }
