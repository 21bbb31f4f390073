"""Elementwise arithmetic, bounds, comparisons and reductions."""

# ruff: noqa: D103 (what a motif is called says what it makes)

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.fuzz.grower import Grower, Refused, motif
from benchmarks.fuzz.values import BOOL, TYPES, Value


def operand_shape(g: Grower, shape: Sequence[int]) -> tuple[int, ...]:
    """Return a shape that broadcasts to *shape*."""
    rank = len(shape)
    style = g.random.randrange(5)
    if style == 0 or not rank:
        return g.choose((), (1,), (1,) * rank, (1,) * (rank + 1))  # type: ignore[no-any-return]
    if style == 1:
        return tuple(shape)
    if style == 2:
        return tuple(dim if axis == 1 else 1 for axis, dim in enumerate(shape))
    if style == 3:
        return tuple(shape[-1:])
    return tuple(dim if g.flip() else 1 for dim in shape)


def with_constant(g: Grower, x: Value) -> Value:
    op = g.choose("Add", "Mul", "Sub", "Div", "Add", "Mul", "Min", "Max", "Pow")
    shape = operand_shape(g, x.shape)
    special = g.choose(0, 1, -1, 2, 0.5, None, None, None, None)
    if op == "Pow":
        special = g.choose(0, 1, 2, 3, 0.5, -1)
    array = np.full(shape, special) if special is not None else g.array(x.type, shape)
    if op == "Div":
        array = np.where(array == 0, 1, array)
    read = [x, g.constant(array, x.type)]
    return g.node(op, read[::-1] if g.flip(0.3) else read)


@motif(5)
def arithmetic(g: Grower) -> None:
    """Chains of arithmetic with constants."""
    x = g.any_tensor() if g.flip(0.2) else g.pick()
    if x.type in ("tensor(string)", "tensor(bool)"):
        raise Refused
    for _ in range(g.choose(1, 2, 3, 4)):
        x = with_constant(g, x)


UNARY = (
    *("Relu", "Neg", "Abs", "Tanh", "Sigmoid", "Exp", "Sqrt", "Log", "Erf", "Floor", "Ceil"),
    *("Round", "Sign", "Softplus", "Softsign", "Reciprocal", "LeakyRelu", "Elu", "Selu", "Not"),
    *("HardSigmoid", "Sin", "Cos", "Identity", "HardSwish", "Celu", "Mish", "Gelu", "Swish"),
    *("ThresholdedRelu", "Tan", "Sinh", "Cosh", "Asinh", "Atan", "BitwiseNot"),
)


@motif(2)
def unary(g: Grower) -> None:
    """Elementwise chains, the same operator twice included."""
    x = g.any_tensor()
    op = g.choose(*UNARY)
    x = g.node(op, [x])
    for _ in range(g.choose(0, 1, 2)):
        x = g.node(op if g.flip() else g.choose(*UNARY), [x])


@motif(2)
def clip(g: Grower) -> None:
    """Bounds, in a row."""
    x = g.pick() if g.flip(0.8) else g.any_tensor()
    for _ in range(g.choose(1, 2, 3)):
        op = g.choose("Clip", "Clip", "Relu", "Min", "Max")
        bounds = [g.choose(None, 0.0, 6.0, 1.0, -1.0, 3.0) for _ in range(2)]
        if op == "Relu":
            x = g.node(op, [x])
        elif op != "Clip":
            x = g.node(op, [x, g.scalar(g.choose(0, 1, 6, -1), x.type)])
        elif g.opset < 11:
            names = zip(("min", "max"), bounds, strict=True)
            x = g.node(op, [x], **{name: bound for name, bound in names if bound is not None})
        else:
            x = g.node(op, [x, *(b if b is None else g.scalar(b, x.type) for b in bounds)])


@motif(3)
def binary(g: Grower) -> None:
    """Two computed values together."""
    x = g.any_tensor()
    y = g.pick(x.type)
    op = g.choose("Add", "Mul", "Sub", "Div", "Max", "Min", "Sum", "Mean", "MatMul", "PRelu", "Pow")
    z = g.node(op, [x, y] if op not in ("Sum", "Max") else [x, y, x][: g.choose(1, 2, 3)])
    if g.flip(0.4):
        g.node(g.choose("Add", "Sub", "Mul", "Max", op), [z, g.choose(x, y)])


REDUCE = (
    *("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2"),
    *("ReduceSumSquare", "ReduceLogSumExp"),
)


def reduced(g: Grower, op: str, x: Value, axes: Sequence[int] | None, **attrs: Any) -> Value:
    since = 13 if op == "ReduceSum" else 18
    if axes is None:
        return g.node(op, [x], **attrs)
    if g.opset < since:
        axes = axes if g.opset >= 11 else [axis % x.rank for axis in axes]
        return g.node(op, [x], axes=list(axes), **attrs)
    return g.node(op, [x, g.ints(*axes)], **attrs)


@motif(3)
def comparison(g: Grower) -> None:
    """Comparisons, logic, Where."""
    x = g.any_tensor()
    other = g.constant(g.array(x.type, operand_shape(g, x.shape)), x.type)
    read = [x, other][:: g.choose(1, -1)] if g.flip(0.9) else [x, x]
    truth = g.node(g.choose("Greater", "Less", "Equal", "GreaterOrEqual", "LessOrEqual"), read)
    for _ in range(g.choose(0, 1, 2)):
        op = g.choose("Not", "Not", "And", "Or", "Xor", "Cast", "Equal")
        if op == "Not":
            truth = g.node(op, [truth])
        elif op == "Cast":
            number = g.node(op, [truth], to=TYPES[g.choose("tensor(int32)", g.float)])
            truth = g.node(op, [number], to=BOOL)
        else:
            second = g.scalar(g.flip(), "tensor(bool)") if g.flip(0.6) else g.pick("tensor(bool)")
            truth = g.node(op, [truth, second])
    if g.flip(0.7) and g.opset >= 9:
        y = g.pick(x.type)
        z = g.constant(g.array(x.type, operand_shape(g, x.shape)), x.type) if g.flip() else x
        g.node("Where", [truth, *([y, z] if g.flip() else [z, y])])
