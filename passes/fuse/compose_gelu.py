"""The Gaussian error linear unit, written out.

Source: Gelu-20 of the ONNX operator specification. x * sigmoid(2 u) is x * (1 + tanh(u)) / 2.
"""

from __future__ import annotations

import math

from onnxslim.base import Effect
from onnxslim.ir import Tensor
from onnxslim.passes.fuse._forms import products, require_float, require_shape_of
from onnxslim.pattern import Match, const, either, op
from onnxslim.rewrite import Builder, FormsPass
from onnxslim.shapes import Facts

_C, _S = 0.044715, math.sqrt(2 / math.pi)

_ERF = op.Erf(
    either(op.Div("x", const("k", math.sqrt(2))), op.Mul("x", const("k", math.sqrt(0.5))))
)
_EXACT = op.Add(_ERF, 1)

_SQUARE = either(op.Pow("x", 2), op.Mul("x", "x"))
_SMALL_CUBE = either(
    op.Mul(either(op.Pow("x", 3), op.Mul("x", _SQUARE)), const("k", _C)),
    op.Mul("x", op.Mul("x", op.Mul("x", const("k", _C)))),
)
_POLYNOMIAL = either(
    op.Add("x", _SMALL_CUBE), op.Mul("x", op.Add(op.Mul(_SQUARE, const("k", _C)), 1))
)
_TANH = op.Add(
    op.Tanh(
        either(
            op.Mul(_POLYNOMIAL, _S),
            op.Mul(op.Mul("x", _S), op.Add(op.Mul(_SQUARE, const("k", _C)), 1)),
        )
    ),
    1,
)
_SIGMOID = op.Mul("x", op.Sigmoid(op.Mul(_POLYNOMIAL, 2 * _S)))


def _gelu(new: Builder, m: Match, facts: Facts, **attrs: str) -> Tensor:
    m.require(new.version >= 20, "needs opset 20")
    require_float(m.tensors["k"], m, "float32", "float16")
    require_shape_of("x", m, facts)
    return new.Gelu(m.tensor("x"), **attrs)


def _tanh(new: Builder, m: Match, facts: Facts) -> Tensor:
    return _gelu(new, m, facts, approximate="tanh")


class ComposeGelu(FormsPass):
    """Make one Gelu of its formula, by the error function or by tanh."""

    name = "compose-gelu"
    effect = Effect.ROUNDING
    forms = (
        *((form, _gelu) for form in products("x", 0.5, _EXACT)),
        (op.Mul("x", op.Add(op.Mul(_ERF, 0.5), 0.5)), _gelu),
        *((form, _tanh) for form in products("x", 0.5, _TANH)),
        (_SIGMOID, _tanh),
    )
