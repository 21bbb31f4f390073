"""What is done to every channel by a node with a constant: a scale and a shift."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from onnxslim.errors import Declined
from onnxslim.ir import Array, Constant, Node, Tensor
from onnxslim.passes.fuse._batchnorm import as_type_of, scale_and_shift
from onnxslim.pattern import Match, Op, Operand, const, op
from onnxslim.rewrite import Builder


class Affine(NamedTuple):
    """x * scale + shift, in float64, with one number for all channels or one for each.

    None stands for what changes nothing.
    """

    scale: Array | None
    shift: Array | None


def arithmetic(of: Operand) -> list[Op]:
    """Return the patterns of sums, products, differences and quotients with a constant c."""
    c = const("c")
    return [op.Mul(of, c) | op.Add(of, c), op.Sub(of, c) | op.Div(of, c), op.Sub(c, of)]


def normalization(of: Operand) -> Op:
    """Return the pattern of a BatchNormalization."""
    return op.BatchNormalization(of, "scale", "beta", "mean", "var")


def affine(m: Match, node: Node, version: int, axis: int, rank: int | None) -> Affine:
    """Return what the matched *node* does along *axis* of a tensor of *rank*.

    Declines constants that vary along another axis, that have more dimensions than the tensor, and
    that are no finite floating-point numbers.
    """
    m.require(version >= 7, "needs opset 7, since when operands broadcast")
    if node.operator == "BatchNormalization":
        m.require(axis == 1 or rank == 2, "the channels are not the last dimension")
        scale, shift = scale_and_shift(replace(m, root=node), version)
        return Affine(scale, shift if shift.any() else None)
    c = m.tensors["c"]
    m.require(c.dtype.kind == "f", f"{c.dtype} is no floating-point type")
    vector = _along(m.constant("c"), axis, rank).astype(np.float64)
    made = _STEPS[node.operator](vector)
    if node.operator == "Sub" and node.inputs[0] is c:
        made = Affine(np.full(1, -1.0), vector)
    finite = all(values is None or np.isfinite(values).all() for values in made)
    m.require(finite, "the constant is not finite")
    return made


def _quotient(c: Array) -> Affine:
    with np.errstate(divide="ignore"):
        return Affine(1 / c, None)


_STEPS: dict[str, Callable[[Array], Affine]] = {
    "Add": lambda c: Affine(None, c),
    "Div": _quotient,
    "Mul": lambda c: Affine(c, None),
    "Sub": lambda c: Affine(None, -c),
}


def _along(values: Array, axis: int, rank: int | None) -> Array:
    """Return *values*, which must vary along *axis* alone, as a vector."""
    if values.ndim > (1 if rank is None else rank) or (rank is None and axis != -1):
        raise Declined("the rank is not known, or the constant has a higher one")
    shape = (1,) * ((rank or 1) - values.ndim) + values.shape
    others = [dim for i, dim in enumerate(shape) if i != axis % len(shape)]
    if any(dim != 1 for dim in others):
        raise Declined("the constant varies along other dimensions than the channels")
    return values.reshape(-1)


def scaled(
    new: Builder,
    weights: Constant,
    scale: Array | None,
    axis: int,
    groups: int = 1,
    spread: int = 0,
) -> Tensor:
    """Multiply *weights* by a scale along *axis*.

    In groups, the groups of the scale follow each other along the axis *spread* of the weights.
    """
    if scale is None:
        return weights
    values = weights.values
    count = values.shape[axis]
    fit(scale, count * groups)
    shape = [1] * values.ndim
    shape[axis] = count if scale.size > 1 else 1
    wide = values.astype(np.float64)
    if groups > 1 and scale.size > 1:
        split = (*values.shape[:spread], groups, -1, *values.shape[spread + 1 :])
        shape[spread : spread + 1] = [groups, 1]
        wide = wide.reshape(split)
    wide = (wide * scale.reshape(shape)).reshape(values.shape)
    return new.tensor(as_type_of(wide, values), "w")


def fit(values: Array, channels: int) -> None:
    """Decline where a vector has another length than there are channels."""
    if values.size not in (1, channels):
        raise Declined("the constant has more elements than there are channels")


def transformed(new: Builder, values: Array, step: Affine, channels: int, like: Array) -> Tensor:
    """Scale and shift *values*, whose last dimension is that of the channels; round as *like*."""
    for operand, operation in ((step.scale, np.multiply), (step.shift, np.add)):
        if operand is not None:
            fit(operand, channels)
            values = operation(values, operand)
    return new.tensor(as_type_of(values, like), "b")
