"""Layers on 8-bit integers: weights, and what they make of samples of their inputs.

The weights of one output are one row, (groups, outputs, K), as `observe.layer_rows` has its inputs.
Without VNNI, x86 adds pairs of products of 8-bit numbers in 16 bits, which saturate: a pair of
activations of 255 and weights above 64. Where samples say that this costs more than smaller
weights do, those are taken, channel by channel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxslim.ir import Array, Node
from onnxslim.passes.quantize import _grid, _rounding
from onnxslim.passes.quantize._calibrate import SMALLEST, Grid

LARGEST = (127, 90, 64)
"""Largest weights that are tried; the pairs of products of the last ones never saturate."""
USUAL = 2 * (8 / 256) ** 2 / 12
"""Noise-to-signal ratio of a layer of 8 bits: of its input and of its weights, were they normal
and covered by 256 numbers up to four standard deviations."""
_INT16 = np.iinfo(np.int16)


@dataclass(frozen=True)
class Weights:
    """Quantized weights: integers in rows, and the scale of every row."""

    rows: Array
    scales: Array

    @property
    def real(self) -> Array:
        """The weights that these stand for."""
        return self.rows * self.scales[..., None].astype(np.float64)


def to_rows(node: Node, weight: Array) -> Array:
    """Return weights as rows, (groups, outputs, K)."""
    if node.operator == "Conv":
        return weight.reshape(int(node.attr("group", 1)), -1, int(np.prod(weight.shape[1:])))
    if node.operator == "Gemm" and node.attr("transB", 0):
        return weight[None]
    return weight.T[None]


def from_rows(node: Node, rows: Array, shape: tuple[int, ...]) -> Array:
    """Undo `to_rows`."""
    if node.operator == "Conv" or (node.operator == "Gemm" and node.attr("transB", 0)):
        return rows.reshape(shape)
    return np.ascontiguousarray(rows[0].T)


def channel_axis(node: Node) -> int:
    """Return the axis of the weights that counts outputs."""
    transposed = node.operator == "Gemm" and node.attr("transB", 0)
    return 0 if node.operator == "Conv" or transposed else 1


def quantize(rows: Array, largest: int, per_channel: bool) -> Weights:
    """Round to the nearest of 2 * *largest* + 1 numbers."""
    magnitudes = np.abs(rows).max(axis=-1, initial=0.0)
    if not per_channel:
        magnitudes = np.full_like(magnitudes, magnitudes.max(initial=0.0))
    usual = magnitudes.max(initial=0.0) or 1.0
    scales = np.where(magnitudes > 0, magnitudes, usual) / largest
    scales = np.maximum(scales, SMALLEST).astype(np.float32)
    integers = np.rint(rows / scales[..., None].astype(np.float64))
    return Weights(np.clip(integers, -largest, largest), scales)


@dataclass(frozen=True)
class Trial:
    """A layer whose weights can be rounded in several ways, and samples of what it reads."""

    real: Array
    integers: Array
    """The samples, on their grid."""
    wanted: Array
    """What the layer makes of the samples."""
    grid: Grid
    order: Array
    corrected: bool
    """Whether the bias will make up for a shift of the outputs."""

    @classmethod
    def of(cls, node: Node, real: Array, samples: Array, grid: Grid, corrected: bool) -> Trial:
        """Collect what there is to know of *node*, whose weights are *real*."""
        wanted = samples @ real.astype(np.float32).transpose(0, 2, 1)
        order = pair_order(node, node.inputs[1].shape)
        return cls(real, grid.quantized(samples), wanted, grid, order, corrected)

    def nearest(self, per_channel: bool) -> Weights:
        """Round to nearest: of every channel, as many bits as saturation leaves useful."""
        made = [quantize(self.real, largest, per_channel) for largest in LARGEST]
        errors = np.stack([self.errors(weights) for weights in made])
        if not per_channel:
            errors[:] = errors.sum((1, 2), keepdims=True)
        best = errors.argmin(0)
        return Weights(
            np.choose(best[..., None], [weights.rows for weights in made]),
            np.choose(best, [weights.scales for weights in made]),
        )

    def simplest(self) -> Weights:
        """Round with one scale for all channels, unless that makes more noise than is usual."""
        one = self.nearest(False)
        moved = self.moved(one)
        if self.corrected:
            moved -= _mean(moved)
        is_usual = np.square(moved).sum() <= USUAL * np.square(self.wanted).sum()
        return one if is_usual else self.nearest(True)

    def second_order(self, nearest: Weights, gram: Array) -> Weights:
        """Round so that errors cancel in the outputs, where that is better; see `_rounding`."""
        made = np.empty_like(nearest.rows)
        for group, scales in enumerate(nearest.scales.astype(np.float64)):
            grid = _grid.Grid(256, made[group].shape, scales[:, None])
            made[group] = _rounding.second_order(
                self.real[group], (1,), grid, gram[group : group + 1]
            )
        largest = np.abs(nearest.rows).max(-1, keepdims=True, initial=0)
        weights = Weights(np.clip(made, -largest, largest), nearest.scales)
        better = self.errors(weights) < self.errors(nearest)
        return Weights(np.where(better[..., None], weights.rows, nearest.rows), nearest.scales)

    def shift(self, weights: Weights) -> Array:
        """Return how far rounding moves the mean of every output, (groups, 1, outputs)."""
        return _mean(self.moved(weights))

    def errors(self, weights: Weights) -> Array:
        """Return by channel how far outputs move, (groups, outputs).

        Fourth powers are added, because saturation is rare but large.
        """
        moved = self.moved(weights)
        if self.corrected:
            moved -= _mean(moved)
        return np.asarray(np.square(np.square(moved)).sum(1))

    def moved(self, weights: Weights) -> Array:
        """Return how far outputs move, (groups, samples, outputs), bias aside."""
        return outputs(self.integers, self.grid, weights, self.order) - self.wanted


def _mean(moved: Array) -> Array:
    return np.asarray(moved.sum(1, keepdims=True) / max(1, moved.shape[1]))


def outputs(integers: Array, grid: Grid, weights: Weights, order: Array) -> Array:
    """Return what a layer makes of *integers* on a grid, (groups, samples, outputs), bias aside.

    Pairs of products, taken in *order* of the weights of a row, saturate.
    """
    rows = weights.rows.astype(np.float32)
    sums = (integers - grid.zero) @ rows.transpose(0, 2, 1)
    for group in range(len(sums)):
        _saturate(sums[group], integers[group][:, order], rows[group][:, order])
    return sums * (float(grid.scale) * weights.scales)[:, None, :]


def pair_order(node: Node, shape: tuple[int, ...]) -> Array:
    """Return the order in which onnxruntime multiplies: channels last in a convolution."""
    if node.operator != "Conv":
        return np.arange(shape[0] if channel_axis(node) else shape[-1])
    return np.arange(int(np.prod(shape[1:]))).reshape(shape[1], -1).T.reshape(-1)


def _saturate(sums: Array, integers: Array, rows: Array) -> None:
    """Take from *sums* what 16 bits cannot hold."""
    if rows.shape[1] % 2:
        integers, rows = (np.pad(a, ((0, 0), (0, 1))) for a in (integers, rows))
    if not integers.size or not rows.size:
        return
    largest = integers.max(axis=0)
    high = sum(largest[i::2] * np.maximum(rows[:, i::2], 0) for i in (0, 1))
    low = sum(largest[i::2] * np.minimum(rows[:, i::2], 0) for i in (0, 1))
    suspect = (high > _INT16.max) | (low < _INT16.min)
    for output in np.flatnonzero(suspect.any(axis=1)):
        pairs = np.flatnonzero(suspect[output])
        products = sum(integers[:, 2 * pairs + i] * rows[output, 2 * pairs + i] for i in (0, 1))
        sums[:, output] += (np.clip(products, _INT16.min, _INT16.max) - products).sum(axis=1)
