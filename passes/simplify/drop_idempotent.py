"""Operators that do to a tensor what has been done to it already, or what undoes the one before.

Only the sign of zero may change: Abs turns -0 into 0 where a Relu before it does not.

Source: the operators in the ONNX operator specification, every version.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from onnxslim import ir
from onnxslim.base import Effect
from onnxslim.ir import Node, Tensor, numpy_type
from onnxslim.rewrite import BypassPass, Rule, Site

_NEVER_NEGATIVE = frozenset(
    {"Abs", "Exp", "HardSigmoid", "ReduceL1", "ReduceL2", "ReduceSumSquare", "Relu", "Sigmoid"}
    | {"Softmax", "Softplus", "Sqrt"}
)
_WHOLE = frozenset({"Ceil", "Floor", "Round", "Sign"})


def _above(site: Site) -> Node | None:
    """Return the node that computes the input, if it is an operator with nothing left open."""
    source = ir.producer(site.node.inputs[0])
    return None if source is None or ir.has_parameters(source) else source


def _after(operators: frozenset[str]) -> Rule:
    """Make the rule for an operator that changes nothing after these."""

    def rule(site: Site) -> Tensor | None:
        source = _above(site)
        known = source is not None and source.operator in operators
        return site.node.inputs[0] if known else None

    return rule


def _positive(site: Site) -> Tensor | None:
    """What is never negative; of integers, the absolute value or square of some may be."""
    x: Tensor = site.node.inputs[0]
    source = _above(site)
    if source is None:
        return None
    if source.operator in ("Relu", site.node.operator) or _from_least(site, source):
        return x
    square = source.operator == "Mul" and source.inputs[0] is source.inputs[1]
    kind = site.facts.elem_type(x)
    is_float = bool(kind) and numpy_type(kind).kind == "f"
    return x if is_float and (square or source.operator in _NEVER_NEGATIVE) else None


def _from_least(site: Site, source: Node) -> bool:
    """Say whether *source* dequantizes, and the smallest number of its type means 0."""
    if source.operator != "DequantizeLinear":
        return False
    packed = site.facts.elem_type(source.inputs[0])
    if not packed or numpy_type(packed).kind not in "iu":
        return False
    scale, zero = source.constant(1), source.constant(2)
    if scale is None or not (scale.astype(np.float32) > 0).all():
        return False
    if source.input(2) is None:
        return numpy_type(packed).kind == "u"
    return zero is not None and bool((zero == np.iinfo(numpy_type(packed)).min).all())


def _undone(operator: str) -> Rule:
    """Make the rule for an operator that undoes itself."""

    def rule(site: Site) -> Tensor | None:
        source = _above(site)
        return source.inputs[0] if source is not None and source.operator == operator else None

    return rule


def _same_operands(site: Site) -> Tensor | None:
    """Both operands are the same tensor."""
    inputs = site.node.inputs
    return inputs[0] if len(inputs) == 2 and inputs[0] is inputs[1] else None


class DropIdempotent(BypassPass):
    """Drop operators that repeat or undo the one before: Relu, Abs, Floor, Not, Neg and others."""

    name = "drop-idempotent"
    effect = Effect.ROUNDING
    rules: ClassVar[Mapping[str, Rule]] = {
        "Abs": _positive,
        "And": _same_operands,
        "BitwiseAnd": _same_operands,
        "BitwiseNot": _undone("BitwiseNot"),
        "BitwiseOr": _same_operands,
        "Ceil": _after(_WHOLE),
        "Floor": _after(_WHOLE),
        "Max": _same_operands,
        "Min": _same_operands,
        "Neg": _undone("Neg"),
        "Not": _undone("Not"),
        "Or": _same_operands,
        "Relu": _positive,
        "Round": _after(_WHOLE),
        "Sign": _after(frozenset({"Sign"})),
    }
