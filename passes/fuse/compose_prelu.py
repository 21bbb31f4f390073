"""Rectifiers with a slope below 0, written out.

Source: LeakyRelu-6 and PRelu-7 of the ONNX operator specification and their successors.
"""

from __future__ import annotations

from onnxslim.base import Effect
from onnxslim.ir import Tensor
from onnxslim.passes.fuse._forms import require_float, require_shape_of
from onnxslim.pattern import Match, const, either, op
from onnxslim.rewrite import Build, Builder, FormsPass
from onnxslim.shapes import Facts

_BELOW = op.Relu(op.Neg("x"))
"""-x where x is below 0."""
_ABOVE = op.Relu("x")
_TWICE = op.Sub("x", op.Abs("x"))
"""2x where x is below 0."""
_STEEP = op.Mul("x", const("slope"))


def _rectifier(factor: int = 1, steep: bool = True) -> Build:
    """Return what makes the operator; its slope is *factor* times the constant in the formula."""

    def build(new: Builder, m: Match, facts: Facts) -> Tensor:
        x, slope = m.tensor("x"), m.tensors["slope"]
        require_float(slope, m, "float32", "float16")
        values = m.constant("slope")
        m.require(steep or ((values >= 0) & (values <= 1)).all(), "the slope is not from 0 to 1")
        require_shape_of("x", m, facts)
        if values.size == 1:
            return new.LeakyRelu(x, alpha=factor * float(values.reshape(-1)[0]))
        m.require(new.version >= 7, "needs opset 7")
        return new.PRelu(x, slope if factor == 1 else values * values.dtype.type(factor))

    return build


_PLAIN = _rectifier()


class ComposePrelu(FormsPass):
    """Make one LeakyRelu or PRelu of its formula."""

    name = "compose-prelu"
    effect = Effect.ROUNDING
    forms = (
        (op.Where(either(op.Greater("x", 0), op.GreaterOrEqual("x", 0)), "x", _STEEP), _PLAIN),
        (op.Where(either(op.Less("x", 0), op.LessOrEqual("x", 0)), _STEEP, "x"), _PLAIN),
        (op.Max("x", _STEEP), _rectifier(steep=False)),
        (op.Sub(_ABOVE, op.Mul(_BELOW, const("slope"))), _PLAIN),
        (op.Add(_ABOVE, op.Mul(op.Neg(_BELOW), const("slope"))), _PLAIN),
        (op.Add(_ABOVE, op.Mul(_BELOW, const("slope"))), _rectifier(-1)),
        (op.Add(_ABOVE, op.Mul(op.Min("x", 0), const("slope"))), _PLAIN),
        (op.Add(_ABOVE, op.Mul(_TWICE, const("slope"))), _rectifier(2)),
        (op.Add(_ABOVE, op.Mul(op.Mul(_TWICE, const("slope")), 0.5)), _PLAIN),
        (op.Add(_ABOVE, op.Mul(op.Mul(_TWICE, 0.5), const("slope"))), _PLAIN),
    )
