"""From what was seen of a tensor to the range that 256 numbers shall cover.

Sources: Migacz 2017, 8-bit Inference with TensorRT, for the entropy of a clipped histogram; Banner
et al. 2019, Post-training 4-bit quantization of convolution networks, for clipping where the
squared errors of clipping and of rounding are least.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from onnxslim.ir import Array
from onnxslim.observe import Observation

Calibrator = Literal["minmax", "percentile", "entropy", "mse"]
SMALLEST = 2.0**-60
"""No scale is smaller, so that products of two are normal numbers."""
_STEPS = 255
_LEVELS = 64
"""Fewer than there are, because a histogram has few bins for each."""
_TAIL = 1e-5
"""Share of the values that the percentile leaves out at either end."""
_SHARES = np.linspace(0.3, 1.0, 71)
"""Shares of the observed bounds that are tried."""


@dataclass(frozen=True)
class Grid:
    """The 256 numbers that a tensor may take: scale * (0 … 255 - zero)."""

    scale: np.float32
    zero: int

    @classmethod
    def over(cls, low: float, high: float) -> Grid:
        """Cover a range, and zero exactly; where zero is the lower end, never more than *high*."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = np.float32(max((high - low) / _STEPS, SMALLEST))
        if low == 0.0 and _STEPS * float(scale) > high > 0.0:
            scale = np.nextafter(scale, np.float32(0))
        return cls(scale, int(np.clip(round(-low / float(scale)), 0, _STEPS)))

    def quantized(self, values: Array) -> Array:
        """Return the numbers of the grid nearest to *values*, as whole numbers from 0."""
        made = np.rint(values / float(self.scale)) + self.zero
        return np.asarray(np.clip(made, 0, _STEPS))


def bounds(seen: Observation, how: Calibrator) -> tuple[float, float]:
    """Return the range to cover."""
    low, high = float(seen.minimum), float(seen.maximum)
    histogram = seen.histogram
    if how == "minmax" or histogram is None or not histogram.limit:
        return low, high
    low, high = min(low, 0.0), max(high, 0.0)
    return _CHOOSERS[how](histogram.counts, histogram.edges, low, high)


def _percentile(counts: Array, edges: Array, low: float, high: float) -> tuple[float, float]:
    below = np.cumsum(counts)
    total = below[-1]
    first = int(np.searchsorted(below, total * _TAIL, side="right"))
    last = int(np.searchsorted(below, total * (1 - _TAIL)))
    return max(low, float(edges[first])), min(high, float(edges[last + 1]))


def _mse(counts: Array, edges: Array, low: float, high: float) -> tuple[float, float]:
    """Try pairs of bounds: errors of clipping add up with those of rounding, step² / 12."""
    centres, total = (edges[:-1] + edges[1:]) / 2, counts.sum()

    def cost(lower: float, upper: float) -> float:
        beyond = np.maximum(centres - upper, 0) + np.maximum(lower - centres, 0)
        inside = counts[beyond == 0].sum() - counts[len(counts) // 2]
        step = (upper - lower) / _STEPS
        return float((counts @ beyond**2 + inside * step**2 / 12) / total)

    return min(_candidates(low, high), key=lambda pair: cost(*pair))


def _candidates(low: float, high: float) -> Iterator[tuple[float, float]]:
    if not low or not high:
        yield from ((low * share, high * share) for share in _SHARES[::-1])
        return
    coarse = _SHARES[::-5]
    yield from ((low * a, high * b) for a in coarse for b in coarse)


def _entropy(counts: Array, edges: Array, low: float, high: float) -> tuple[float, float]:
    """Keep the share of the range whose clipped histogram says most about the whole."""

    def divergence(share: float) -> float:
        return _divergence(counts, edges, low * share, high * share)

    best = min(_SHARES[::-1], key=divergence)
    return low * float(best), high * float(best)


def _divergence(counts: Array, edges: Array, low: float, high: float) -> float:
    """Return the Kullback-Leibler divergence of a histogram from its clipped, quantized self."""
    centres = (edges[:-1] + edges[1:]) / 2
    inside = (centres >= low) & (centres <= high)
    if not inside.any():
        return float(np.inf)
    kept = counts[inside].astype(np.float64)
    clipped = kept.copy()
    first, last = np.flatnonzero(inside)[[0, -1]]
    clipped[0] += counts[:first].sum()
    clipped[-1] += counts[last + 1 :].sum()
    levels = np.floor((centres[inside] - low) / max(high - low, 1e-30) * _LEVELS).astype(int)
    levels = np.clip(levels, 0, _LEVELS - 1)
    filled = (kept > 0).astype(np.float64)
    sums, widths = np.bincount(levels, kept), np.bincount(levels, filled)
    spread = filled * (sums / np.maximum(widths, 1))[levels]
    p, q = clipped / clipped.sum(), spread / max(spread.sum(), 1e-30)
    used = p > 0
    return float((p[used] * np.log(p[used] / np.maximum(q[used], 1e-12))).sum())


_Chooser = Callable[[Array, Array, float, float], tuple[float, float]]
_CHOOSERS: Mapping[str, _Chooser] = {"percentile": _percentile, "entropy": _entropy, "mse": _mse}
