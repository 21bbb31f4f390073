"""Operators that compute element by element."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch.nn import functional

from onnxslim.tune.operators.table import Call, Value, carrier, is_float, operator, plain
from onnxslim.tune.rounding import through

plain(
    Abs=torch.abs, Acos=torch.acos, Acosh=torch.acosh, And=torch.logical_and, Asin=torch.asin,
    Asinh=torch.asinh, Atan=torch.atan, Atanh=torch.atanh, BitwiseAnd=torch.bitwise_and,
    BitwiseNot=torch.bitwise_not, BitwiseOr=torch.bitwise_or, BitwiseXor=torch.bitwise_xor,
    Cos=torch.cos, Cosh=torch.cosh, Equal=torch.eq, Erf=torch.erf, Exp=torch.exp,
    Greater=torch.gt, GreaterOrEqual=torch.ge, HardSwish=functional.hardswish,
    IsNaN=torch.isnan, Less=torch.lt, LessOrEqual=torch.le, Log=torch.log, Mish=functional.mish,
    Neg=torch.neg, Not=torch.logical_not, Or=torch.logical_or, Reciprocal=torch.reciprocal,
    Relu=torch.relu, Sigmoid=torch.sigmoid, Sign=torch.sign, Sin=torch.sin, Sinh=torch.sinh,
    Softplus=functional.softplus, Softsign=functional.softsign, Sqrt=torch.sqrt, Tan=torch.tan,
    Tanh=torch.tanh, Where=torch.where, Xor=torch.logical_xor,
)  # fmt: skip


# Rounding: gradients pass straight through --------------------------------------------------------


@operator("Round")
def _round(call: Call, x: Value) -> Value:
    return call.rounding.integer(x)


@operator("Floor")
def _floor(call: Call, x: Value) -> Value:
    return through(x, torch.floor(x.detach()))


@operator("Ceil")
def _ceil(call: Call, x: Value) -> Value:
    return through(x, torch.ceil(x.detach()))


# Arithmetic ---------------------------------------------------------------------------------------


def _folded(combine: Callable[[Value, Value], Value]) -> Callable[..., Value]:
    return lambda call, *values: functools.reduce(combine, values)


operator("Add", "Sum")(_folded(torch.add))
operator("Mul")(_folded(torch.mul))
operator("Sub")(_folded(torch.sub))
operator("Max")(_folded(torch.maximum))
operator("Min")(_folded(torch.minimum))


@operator("Mean")
def _mean(call: Call, *values: Value) -> Value:
    return functools.reduce(torch.add, values) / len(values)


@operator("Div")
def _div(call: Call, a: Value, b: Value) -> Value:
    whole = not is_float(call.types[0]) if call.types[0] else not a.is_floating_point()
    return torch.div(a, b, rounding_mode="trunc") if whole else a / b


@operator("Mod")
def _mod(call: Call, a: Value, b: Value) -> Value:
    return torch.fmod(a, b) if call.attr("fmod", 0) else torch.remainder(a, b)


@operator("Pow")
def _pow(call: Call, base: Value, exponent: Value) -> Value:
    return torch.pow(base, exponent).to(base.dtype)


@operator("BitShift")
def _bit_shift(call: Call, x: Value, by: Value) -> Value:
    left = call.attr("direction") == "LEFT"
    return torch.bitwise_left_shift(x, by) if left else torch.bitwise_right_shift(x, by)


@operator("IsInf")
def _is_inf(call: Call, x: Value) -> Value:
    above = torch.isposinf(x) if call.attr("detect_positive", 1) else torch.zeros_like(x).bool()
    return above | torch.isneginf(x) if call.attr("detect_negative", 1) else above


@operator("Clip")
def _clip(call: Call, x: Value, low: Value | None = None, high: Value | None = None) -> Value:
    x = x if low is None else torch.maximum(x, low)
    return x if high is None else torch.minimum(x, high)


# Activations --------------------------------------------------------------------------------------


@operator("LeakyRelu")
def _leaky_relu(call: Call, x: Value) -> Value:
    return functional.leaky_relu(x, call.attr("alpha", 0.01))


@operator("PRelu")
def _prelu(call: Call, x: Value, slope: Value) -> Value:
    return torch.where(x < 0, x * slope, x)


@operator("Elu")
def _elu(call: Call, x: Value) -> Value:
    return functional.elu(x, call.attr("alpha", 1.0))


@operator("Celu")
def _celu(call: Call, x: Value) -> Value:
    return functional.celu(x, call.attr("alpha", 1.0))


@operator("Selu")
def _selu(call: Call, x: Value) -> Value:
    alpha, gamma = (
        call.attr("alpha", 1.67326319217681884765625),
        call.attr("gamma", 1.05070102214813),
    )
    return gamma * functional.elu(x, alpha)


@operator("ThresholdedRelu")
def _thresholded_relu(call: Call, x: Value) -> Value:
    return torch.where(x > call.attr("alpha", 1.0), x, torch.zeros_like(x))


@operator("HardSigmoid")
def _hard_sigmoid(call: Call, x: Value) -> Value:
    return torch.clamp(call.attr("alpha", 0.2) * x + call.attr("beta", 0.5), 0, 1)


@operator("Shrink")
def _shrink(call: Call, x: Value) -> Value:
    bias, lambd = call.attr("bias", 0.0), call.attr("lambd", 0.5)
    return torch.where(x < -lambd, x + bias, torch.where(x > lambd, x - bias, torch.zeros_like(x)))


@operator("Swish")
def _swish(call: Call, x: Value) -> Value:
    return x * torch.sigmoid(call.attr("alpha", 1.0) * x)


@operator("Gelu", "com.microsoft::Gelu")
def _gelu(call: Call, x: Value) -> Value:
    return functional.gelu(x, approximate=call.attr("approximate", "none"))


@operator("com.microsoft::FastGelu")
def _fast_gelu(call: Call, x: Value, bias: Value | None = None) -> Value:
    return functional.gelu(x if bias is None else x + bias, approximate="tanh")


@operator("com.microsoft::QuickGelu")
def _quick_gelu(call: Call, x: Value) -> Value:
    return x * torch.sigmoid(call.attr("alpha", 1.702) * x)


@operator("Softmax")
def _softmax(call: Call, x: Value) -> Value:
    return torch.softmax(x, call.attr("axis", -1))


@operator("LogSoftmax")
def _log_softmax(call: Call, x: Value) -> Value:
    return torch.log_softmax(x, call.attr("axis", -1))


@operator("Hardmax")
def _hardmax(call: Call, x: Value) -> Value:
    axis = call.attr("axis", -1)
    return torch.zeros_like(x).scatter(axis, x.argmax(axis, keepdim=True), 1)


# Types --------------------------------------------------------------------------------------------


@operator("Cast")
def _cast(call: Call, x: Value) -> Value:
    return cast(call, x, int(call.attr("to")))


@operator("CastLike")
def _cast_like(call: Call, x: Value, like: Value) -> Value:
    return cast(call, x, call.types[0])


_NARROW = {10: torch.float16, 16: torch.bfloat16}


def cast(call: Call, x: Value, elem_type: int) -> Value:
    """Convert; a float that becomes an integer and needs a gradient is carried by a float."""
    dtype = carrier(elem_type)
    if elem_type in _NARROW and x.is_floating_point():
        return call.rounding.narrow(x, _NARROW[elem_type]).to(dtype)
    if dtype.is_floating_point or not x.requires_grad or dtype is torch.bool:
        return x.to(dtype)
    return through(x, torch.trunc(x.detach()))


@operator("Identity", "Dropout")
def _identity(call: Call, x: Value, *rest: Value | None) -> Value:
    call.require(not call.reads(1), "its mask is read")
    call.require(len(rest) < 2 or rest[1] is None or not bool(rest[1]), "it trains")
    return x
