"""Activations, written out.

Source: HardSigmoid-6, HardSwish-14, Mish-18, Sigmoid-6 and Softsign-1 of the ONNX operator
specification. The formula of Softplus overflows where Softplus does not. Swish is left alone, and
so is Mish with a Softplus written out: onnxruntime computes their formulas faster.
"""

from __future__ import annotations

import numpy as np

from onnxslim.base import Context, Effect
from onnxslim.ir import Model, Tensor
from onnxslim.passes.fuse._forms import products, require_float, require_shape_of
from onnxslim.pattern import Match, Op, const, either, op, opt
from onnxslim.rewrite import Builder, FormsPass
from onnxslim.shapes import Facts


def _clipped(of: Op) -> Op:
    return op.Clip(of, opt(const("low")), opt(const("high")))


_SHIFTED = _clipped(op.Add("x", const("c")))
_SCALED = either(op.Mul("x", const("factor")), op.Div("x", const("divisor")))
_OVER_SIGMOID = op.Add(op.Exp(op.Neg("x")), const("one", 1))
_RELU6 = _clipped(op.Add("x", const("c", 3)))


def _after_clip(new: Builder, m: Match, facts: Facts) -> Tensor:
    """Write clip(x + c, 0, 1 / a) * a as max(0, min(1, a * x + a * c))."""
    alpha = _factor(m)
    _require(m, facts, top=1 / alpha)
    return _hard_sigmoid(new, m, alpha, alpha * _one(m, "c"))


def _before_clip(new: Builder, m: Match, facts: Facts) -> Tensor:
    """Write clip(x * a + c, 0, 1) as max(0, min(1, a * x + c))."""
    _require(m, facts, top=1)
    return _hard_sigmoid(new, m, _factor(m), _one(m, "c"))


def _hard_sigmoid(new: Builder, m: Match, alpha: float, beta: float) -> Tensor:
    return new.HardSigmoid(m.tensor("x"), alpha=alpha, beta=beta)


def _times_clip(new: Builder, m: Match, facts: Facts) -> Tensor:
    """Write x * clip(x + 3, 0, 6) / 6 as one operator, or as two before version 14."""
    _require(m, facts, top=6)
    if new.version >= 14:
        return new.HardSwish(m.tensor("x"))
    return new.Mul(m.tensor("x"), _hard_sigmoid(new, m, 1 / 6, 0.5))


def _hard_swish(new: Builder, m: Match, _: Facts) -> Tensor:
    gate = m.node("HardSigmoid")
    alpha, beta = gate.attr("alpha", 0.2), gate.attr("beta", 0.5)
    standard = abs(alpha * 6 - 1) < 1e-6 and beta == 0.5
    m.require(standard, "HardSigmoid has other parameters than HardSwish")
    m.require(new.version >= 14, "needs opset 14")
    return new.HardSwish(m.tensor("x"))


def _mish(new: Builder, m: Match, _: Facts) -> Tensor:
    m.require(new.version >= 18, "needs opset 18")
    return new.Mish(m.tensor("x"))


def _sigmoid(new: Builder, m: Match, facts: Facts) -> Tensor:
    """Write 1 / (1 + exp(-x)), or the same of another numerator, with the operator."""
    require_float(m.tensors["one"], m, "float32", "float16", "float64")
    require_shape_of("x", m, facts)
    gate = new.Sigmoid(m.tensor("x"))
    return new.Mul(m["numerator"], gate) if "numerator" in m.tensors else gate


def _softsign(new: Builder, m: Match, facts: Facts) -> Tensor:
    require_float(m.tensors["one"], m, "float32", "float16")
    require_shape_of("x", m, facts)
    return new.Softsign(m.tensor("x"))


def _require(m: Match, facts: Facts, top: float) -> None:
    """Decline unless the Clip goes from 0 to *top*, and all is of a type and shape as expected."""
    c = m.tensors["c"]
    require_float(c, m, "float32", "float16")
    require_shape_of("x", m, facts)
    bounds = m.node("Clip").attrs  # which they were before version 11
    low = _one(m, "low") if "low" in m.tensors else bounds.get("min", -np.inf)
    high = _one(m, "high") if "high" in m.tensors else bounds.get("max", np.inf)
    precision = 1e-3 if c.dtype == np.float16 else 1e-6
    m.require(low == 0 and abs(high - top) <= precision * top, "the Clip has other bounds")


def _factor(m: Match) -> float:
    """Return what x is multiplied by; declines what is not above 0."""
    value = _one(m, "factor") if "factor" in m.tensors else 1 / (_one(m, "divisor") or np.inf)
    m.require(0 < value < np.inf, "the factor is not above 0")
    return value


def _one(m: Match, name: str) -> float:
    values = m.constant(name)
    m.require(values.size == 1, "a constant holds several numbers")
    return float(values.reshape(-1)[0])


class ComposeActivations(FormsPass):
    """Make HardSigmoid, HardSwish, Mish, Sigmoid and Softsign of their formulas."""

    name = "compose-activations"
    effect = Effect.ROUNDING
    forms = (
        (op.Div(op.Mul("x", _RELU6), 6), _times_clip),
        *((product, _times_clip) for product in products("x", _RELU6, 1 / 6)),
        (op.Mul(_RELU6, op.Div("x", 6)), _times_clip),
        (op.Mul("x", op.Div(_RELU6, 6)), _times_clip),
        (op.Div(_SHIFTED, const("divisor")), _after_clip),
        (op.Mul(_SHIFTED, const("factor")), _after_clip),
        (_clipped(op.Add(_SCALED, const("c"))), _before_clip),
        (op.Mul("x", op.HardSigmoid("x")), _hard_swish),
        (op.Mul("x", op.Tanh(op.Softplus("x"))), _mish),
        (op.Div(const(value=1), _OVER_SIGMOID), _sigmoid),
        (op.Reciprocal(_OVER_SIGMOID), _sigmoid),
        (op.Div("numerator", _OVER_SIGMOID), _sigmoid),
        (op.Div("x", op.Add(op.Abs("x"), const("one", 1))), _softsign),
    )

    def apply(self, model: Model, context: Context) -> int:
        """Leave models with SequenceMap alone: in its body, onnxruntime takes no HardSwish."""
        for _, nodes in context.find(model, ("SequenceMap",)):
            context.decline(nodes[0], "onnxruntime takes none of some activations inside")
            return 0
        return super().apply(model, context)
