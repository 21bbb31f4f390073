"""Integers that grow evenly along each axis, such as those that a Range makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from onnxslim.ir import Array, Constant, Node, Tensor
from onnxslim.passes.simplify._reshape import FAMILY
from onnxslim.passes.simplify._trial import Trial
from onnxslim.shapes import Expr

_DEEPEST = 16
_LARGEST = 1 << 20
"""Elements of a constant that are looked at."""

Dims = tuple[Expr, ...]


class Affine(NamedTuple):
    """The element at ``i`` is ``offset + sum(steps * i)``; along axes of size 1 the step is 0."""

    offset: Expr
    steps: tuple[Expr, ...]


def affine(trial: Trial, tensor: Tensor, depth: int = 0) -> Affine | None:
    """Return how the elements of *tensor* grow, None where that is not known."""
    dims = trial.facts.dims(tensor)
    if isinstance(tensor, Constant):
        return _constant(tensor.values) if tensor.size <= _LARGEST else None
    if dims is None or depth > _DEEPEST:
        return None
    value = trial.facts.value(tensor)
    if value is not None and not isinstance(value, tuple):
        return Affine(value, ())
    node = trial.above(tensor, *_RULES)
    return None if node is None else _RULES[node.operator](trial, node, dims, depth + 1)


def _constant(values: Array) -> Affine | None:
    if not values.size or values.dtype.kind not in "iu":
        return None
    first, origin = int(values.reshape(-1)[0]), (0,) * values.ndim
    steps = []
    for axis, size in enumerate(values.shape):
        place = (*origin[:axis], min(1, size - 1), *origin[axis + 1 :])
        steps.append(int(values[place]) - first)
    grid = np.ogrid[tuple(slice(size) for size in values.shape)]
    expected = sum((step * line for step, line in zip(steps, grid, strict=True)), np.array(first))
    return Affine(first, tuple(steps)) if (values == expected).all() else None


def _range(trial: Trial, node: Node, dims: Dims, depth: int) -> Affine | None:
    start, step = (trial.facts.value(node.inputs[slot]) for slot in (0, 2))
    if start is None or step is None or isinstance(start, tuple) or isinstance(step, tuple):
        return None
    return Affine(start, (step if dims[0] != 1 else 0,))


def _moved(trial: Trial, node: Node, dims: Dims, depth: int) -> Affine | None:
    """Look through a Reshape that only makes or drops dimensions of size 1."""
    x = affine(trial, node.inputs[0], depth)
    before = trial.facts.dims(node.inputs[0])
    if x is None or before is None or [d for d in before if d != 1] != [d for d in dims if d != 1]:
        return None
    steps = iter([step for step, dim in zip(x.steps, before, strict=True) if dim != 1])
    return Affine(x.offset, tuple(0 if dim == 1 else next(steps) for dim in dims))


def _sum(trial: Trial, node: Node, dims: Dims, depth: int) -> Affine | None:
    parts = [affine(trial, operand, depth) for operand in node.inputs]
    if trial.opset < 7 or len(parts) != 2 or parts[0] is None or parts[1] is None:
        return None
    sign = -1 if node.operator == "Sub" else 1
    left, right = ((0,) * (len(dims) - len(part.steps)) + part.steps for part in parts if part)
    steps = tuple(a + b * sign for a, b in zip(left, right, strict=True))
    return Affine(parts[0].offset + parts[1].offset * sign, steps)


def _product(trial: Trial, node: Node, dims: Dims, depth: int) -> Affine | None:
    """Multiply by one number."""
    if trial.opset < 7:
        return None
    for x, factor in (node.inputs, node.inputs[::-1]):
        by = affine(trial, factor, depth)
        grown = affine(trial, x, depth) if by is not None and not any(by.steps) else None
        if by is not None and grown is not None and len(grown.steps) == len(dims):
            return Affine(grown.offset * by.offset, tuple(s * by.offset for s in grown.steps))
    return None


def _expanded(trial: Trial, node: Node, dims: Dims, depth: int) -> Affine | None:
    x = affine(trial, node.inputs[0], depth)
    if x is None:
        return None
    return Affine(x.offset, (0,) * (len(dims) - len(x.steps)) + x.steps)


_RULES: Mapping[str, Callable[[Trial, Node, Dims, int], Affine | None]] = {
    **dict.fromkeys(FAMILY, _moved),
    "Add": _sum,
    "Expand": _expanded,
    "Mul": _product,
    "Range": _range,
    "Sub": _sum,
}
