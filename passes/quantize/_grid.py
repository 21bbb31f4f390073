"""The values that a weight of few bits can take: code x scale, by channel or by block."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from onnxslim.ir import Array

_SHRINKING = np.linspace(0.4, 1.15, 16)
"""Scales to try, relative to the one that reaches the largest weight."""
_PRECISE = 128
"""Scales in half precision may be this many times the smallest number, and so far from normal."""
_SEARCHED = 32
"""Up to so many codes the scale of the least squared error is searched for."""


@dataclass(frozen=True)
class Grid:
    """Weight = code x scale + offset, in the type of the weights."""

    levels: int
    """Number of codes; where it is even there is one more below zero than above."""
    shape: tuple[int, ...]
    """Shape of the codes: that of the weights, with an axis more where there are blocks."""
    scale: Array
    offset: Array | None = None

    @property
    def low(self) -> int:
        """The smallest code."""
        return -(self.levels // 2)

    @property
    def high(self) -> int:
        """The largest code."""
        return self.low + self.levels - 1

    def nearest(self, values: Array) -> Array:
        """Return the codes nearest to *values*, as int8."""
        return self.codes(np.rint(self.steps(values)))

    def steps(self, values: Array) -> Array:
        """Return *values* in units of the scale."""
        blocked = values.reshape(self.shape).astype(np.float64)
        offset = 0.0 if self.offset is None else self.offset.astype(np.float64)
        return np.asarray((blocked - offset) / self.scale.astype(np.float64))

    def codes(self, whole: Array) -> Array:
        """Return whole numbers as codes, bounded."""
        return np.clip(whole, self.low, self.high).astype(np.int8)

    def decode(self, codes: Array, shape: Sequence[int]) -> Array:
        """Return the weights that *codes* stand for, as the model will compute them."""
        values = codes.astype(self.scale.dtype) * self.scale
        return np.asarray(values if self.offset is None else values + self.offset).reshape(shape)

    def power(self, values: Array) -> float:
        """Return the sum of squares of what rounding *values* to the nearest changes."""
        return float(_missed(values.reshape(self.shape), self, None).sum(dtype=np.float64))


def fit(
    values: Array, summed: Sequence[int], levels: int, block: int = 0, per_channel: bool = True,
    symmetric: bool = True,
) -> Grid:  # fmt: skip
    """Return the grid that suits *values*.

    There is a scale for every channel, that is, place along the axes that are not *summed*; for
    every *block* of about as many summed weights where `block_size` finds one; or one for all.
    """
    shape, axes = values.shape, tuple(summed)
    if not per_channel:
        axes = tuple(range(len(shape)))
    elif block and block_size(shape, axes, block):
        size = block_size(shape, axes, block)
        inner = math.prod(shape[a] for a in axes)
        shape = (*shape[: axes[0]], inner // size, size, *shape[axes[-1] + 1 :])
        axes = (axes[0] + 1,)
    blocked = values.reshape(shape).astype(np.float64)
    kind = values.dtype
    if not symmetric:
        return _asymmetric(blocked, axes, levels, kind)
    if levels > _SEARCHED:
        largest = np.abs(blocked).max(axes, keepdims=True)
        return Grid(levels, shape, _usable(largest / ((levels - 1) // 2), kind))
    return _searched(values.reshape(shape), axes, levels, kind)


def block_size(shape: Sequence[int], axes: Sequence[int], block: int) -> int:
    """Return the largest block up to *block* that divides the summed weights of an output.

    0 where that would be less than half of it, or these weights do not lie side by side.
    """
    if list(axes) != list(range(axes[0], axes[0] + len(axes))):
        return 0
    inner = math.prod(shape[a] for a in axes)
    sizes = range(min(block, inner), block // 2, -1)
    return next((size for size in sizes if inner % size == 0), 0)


def _usable(scale: Array, kind: np.dtype[Any]) -> Array:
    """Return *scale* in the type of the weights, 1 where they are too small to have one.

    Half the bits are precise enough for scales: they are rounded to them, those out of the range of
    half precision to bfloat16, before the weights are rounded to their multiples.
    """
    half, own = np.finfo(np.float16), np.finfo(kind)
    made = np.asarray(scale).astype(kind)
    tiny = _PRECISE * own.smallest_subnormal if kind == np.float16 else own.tiny
    made = np.where(np.abs(made) < tiny, 1, made).astype(kind)
    if kind == np.float16:
        return made
    magnitudes = np.abs(made)
    if (magnitudes >= half.tiny).all() and (magnitudes < half.max).all():
        return made.astype(np.float16).astype(kind)
    return (made * (1 + 2.0**-8)).astype(ml_dtypes.bfloat16).astype(kind)


def _asymmetric(values: Array, axes: tuple[int, ...], levels: int, kind: np.dtype[Any]) -> Grid:
    least, most = values.min(axes, keepdims=True), values.max(axes, keepdims=True)
    scale = _usable((most - least) / (levels - 1), kind)
    offset = least + (levels // 2) * scale.astype(np.float64)
    return Grid(levels, values.shape, scale, offset.astype(kind))


def _searched(values: Array, axes: tuple[int, ...], levels: int, kind: np.dtype[Any]) -> Grid:
    """Return the grid of the least squared error; its longer side may be either one."""
    best, error = np.ones(1), np.full(1, np.inf)
    for scale in _candidates(values, axes, levels):
        grid = Grid(levels, values.shape, _usable(scale, kind))
        found = _missed(values, grid, axes)
        best, error = np.where(found < error, grid.scale, best), np.minimum(found, error)
    return Grid(levels, values.shape, _usable(best, kind))


def _missed(values: Array, grid: Grid, axes: tuple[int, ...] | None) -> Array:
    """Return the sums of squares of what rounding to the nearest changes, over *axes*."""
    wide = np.promote_types(values.dtype, np.float32)
    scale, offset = grid.scale.astype(wide), 0 if grid.offset is None else grid.offset.astype(wide)
    exact = values.astype(wide) - offset
    made = exact / scale
    np.rint(made, out=made)
    np.clip(made, grid.low, grid.high, out=made)
    made *= scale
    made -= exact
    made *= made
    return np.asarray(made.sum(axes, keepdims=axes is not None, dtype=np.float64))


def _candidates(values: Array, axes: tuple[int, ...], levels: int) -> Iterator[Array]:
    largest = np.abs(values).max(axes, keepdims=True).astype(np.float64) / (levels // 2)
    for part in _SHRINKING:
        yield largest * part
        if levels % 2 == 0:
            yield -largest * part
