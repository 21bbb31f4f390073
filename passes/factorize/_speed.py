"""How long onnxruntime takes for a layer: a model of what was measured on x86.

What it must get right is which of two forms is faster. A node has a fixed price, sizes are padded
to what kernels compute at once, few rows cannot keep the processor busy, and matrices beyond the
cache wait for memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

NODE = 1.3
"""Microseconds that a node more takes."""
_SLOW, _FAST, _BUSY = 1e4, 3.8e4, 64
"""Multiply-accumulates a microsecond for one row, and for this many rows or more."""
_CACHE = 1 << 21
"""Weights that stay in the cache."""
_UNCACHED = 2.3
"""How many times longer one row takes where they do not."""
_ELEMENT = 0.8e-3
"""Microseconds to write an element of an image."""
_WIDTHS = (8, 16)
"""Channels that a convolution computes at once, with AVX2 and with AVX-512."""
_UNALIGNED = 2.0
"""How many times longer a convolution takes whose input channels are no multiple of 4."""

_MANY = 64
"""Times more rows than are known: where the batch is not, a form must be fast for either."""
_CALL = 0.6
"""Microseconds for every matrix that a constant on the left multiplies."""


def _padded(size: int, step: int) -> int:
    return -(-size // step) * step


def product(rows: int, inputs: int, outputs: int) -> float:
    """Return the microseconds of a product of (rows, inputs) with a constant (inputs, outputs)."""
    busy = min(1.0, (rows - 1) / (_BUSY - 1))
    rate = _SLOW + (_FAST - _SLOW) * busy
    if inputs * outputs > _CACHE and rows < _BUSY:
        rate /= 1 + (_UNCACHED - 1) * (1 - busy)
    step = 16 if outputs > 8 else 8
    return NODE + rows * inputs * _padded(outputs, step) / rate


class Convolution(NamedTuple):
    """A convolution that computes so many *places* of every channel."""

    places: int
    inputs: int
    outputs: int
    taps: int
    depthwise: bool = False

    def time(self, width: int = _WIDTHS[0]) -> float:
        """Return its microseconds where so many channels are computed at once."""
        each = self.taps if self.depthwise else self.inputs * self.taps
        work = self.places * _padded(self.outputs, width) * each / _FAST
        if self.inputs % 4 and self.inputs > 3:
            work *= _UNALIGNED
        return NODE + work + self.places * self.outputs * _ELEMENT


def chain(layer: Convolution, parts: Iterable[Convolution]) -> float:
    """Return the microseconds of convolutions in a row, by what of all widths suits them less.

    That is a share of the time of *layer*, whose place they take: few channels are padded to as
    many as are computed at once.
    """
    parts = tuple(parts)
    share = max(sum(p.time(width) for p in parts) / layer.time(width) for width in _WIDTHS)
    return layer.time() * share


def aligned(size: int, step: int) -> int:
    """Return the largest multiple of *step* up to *size*, which itself is returned up to *step*."""
    return size if size < step else size - size % step


def block_circulant(rows: int, inputs: int, outputs: int, block: int) -> float:
    """Return the microseconds of a product with circulant blocks, by their spectra."""
    numbers = 2 * (block // 2 + 1)
    busy = min(1.0, (rows - 1) / (_BUSY - 1))
    work = (inputs + outputs) * numbers + 2 * numbers * (inputs // block) * (outputs // block)
    moved = (inputs + outputs) * numbers / block * _ELEMENT
    return 11 * NODE + rows * (work / (_SLOW + (_FAST - _SLOW) * busy) + moved)


def slower_share(layer_rows: int, time: Callable[[int], float], size: tuple[int, int]) -> float:
    """Return the share of a product's time, by what of the known rows and many more suits less."""
    return max(time(rows) / product(rows, *size) for rows in (layer_rows, _MANY * layer_rows))


def kronecker(rows: int, factors: Sequence[tuple[int, int]], terms: int) -> float:
    """Return the microseconds of a product with a sum of Kronecker products.

    *factors* are the sizes (inputs, outputs) of each; all but the last multiply from the left.
    """
    nodes = NODE * (2 * len(factors) + (terms > 1))
    done, left, work = 1, math.prod(inputs for inputs, _ in factors), 0
    *first, (inputs, outputs) = factors
    for k, m in first:
        left //= k
        work += done * m * k * _padded(left, 16)
        done *= m
    work += done * inputs * _padded(outputs, 16)
    return nodes + rows * (_CALL * len(first) + terms * work / _FAST)
