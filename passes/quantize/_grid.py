"""The values that a weight of few bits can take: code x scale, by channel or by block."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxslim.ir import Array

_SHRINKING = np.linspace(0.4, 1.15, 16)
"""Scales to try, relative to the one that reaches the largest weight."""
_SEARCHED = 4
"""Up to this many bits the scale of the least squared error is searched for."""


@dataclass(frozen=True)
class Grid:
    """Weight = code x scale + offset, in the type of the weights."""

    bits: int
    shape: tuple[int, ...]
    """Shape of the codes: that of the weights, with an axis more where there are blocks."""
    scale: Array
    offset: Array | None = None

    @property
    def low(self) -> int:
        """The smallest code; the largest is ``-low - 1``."""
        return -(1 << (self.bits - 1))

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
        return np.clip(whole, self.low, -self.low - 1).astype(np.int8)

    def decode(self, codes: Array, shape: Sequence[int]) -> Array:
        """Return the weights that *codes* stand for, as the model will compute them."""
        values = codes.astype(self.scale.dtype) * self.scale
        return np.asarray(values if self.offset is None else values + self.offset).reshape(shape)


def fit(
    values: Array, summed: Sequence[int], bits: int, block: int = 0, per_channel: bool = True,
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
        return _asymmetric(blocked, axes, bits, kind)
    if bits > _SEARCHED:
        largest = np.abs(blocked).max(axes, keepdims=True)
        return Grid(bits, shape, _usable(largest / ((1 << (bits - 1)) - 1), kind))
    return _searched(blocked, axes, bits, kind)


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
    """Return *scale* in the type of the weights, 1 where they are too small to have one."""
    made = np.asarray(scale).astype(kind)
    tiny = float(np.finfo(kind).tiny)
    return np.where(np.abs(made) < tiny, 1, made).astype(kind)


def _asymmetric(values: Array, axes: tuple[int, ...], bits: int, kind: np.dtype[Any]) -> Grid:
    least, most = values.min(axes, keepdims=True), values.max(axes, keepdims=True)
    scale = _usable((most - least) / ((1 << bits) - 1), kind)
    offset = least + (1 << (bits - 1)) * scale.astype(np.float64)
    return Grid(bits, values.shape, scale, offset.astype(kind))


def _searched(values: Array, axes: tuple[int, ...], bits: int, kind: np.dtype[Any]) -> Grid:
    """Return the grid of the least squared error; its longer side may be either one."""
    best, error = np.ones(1), np.full(1, np.inf)
    for scale in _candidates(values, axes, bits):
        grid = Grid(bits, values.shape, _usable(scale, kind))
        missed = grid.decode(grid.nearest(values), values.shape).astype(np.float64) - values
        found = (missed**2).sum(axes, keepdims=True)
        best, error = np.where(found < error, grid.scale, best), np.minimum(found, error)
    return Grid(bits, values.shape, best.astype(kind))


def _candidates(values: Array, axes: tuple[int, ...], bits: int) -> Iterator[Array]:
    largest = np.abs(values).max(axes, keepdims=True) / (1 << (bits - 1))
    for part in _SHRINKING:
        yield largest * part
        yield -largest * part
