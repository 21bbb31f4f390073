"""Layers on 8-bit integers: weights, and what they make of samples of their inputs.

The weights of one output are one row, (groups, outputs, K), as `observe.layer_rows` has its inputs.
Without VNNI, x86 adds pairs of products of 8-bit numbers in 16 bits, which saturate: a pair of
activations of 255 and weights above 64. Where samples say that this costs more than 7-bit weights
do, those are taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxslim.ir import Array, Node
from onnxslim.passes.quantize._calibrate import SMALLEST, Grid

FULL, REDUCED = 127, 64
"""Largest weights; the pairs of products of the smaller ones never saturate."""
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


def outputs(samples: Array, grid: Grid, weights: Weights, order: Array) -> Array:
    """Return what the integer layer makes of *samples*, (groups, rows, outputs), bias aside.

    Pairs of products, taken in *order* of the weights of a row, saturate.
    """
    integers = grid.quantized(samples)
    sums = (integers - grid.zero) @ weights.rows.transpose(0, 2, 1)
    for group in range(len(sums)):
        _saturate(sums[group], integers[group][:, order], weights.rows[group][:, order])
    return sums * (float(grid.scale) * weights.scales.astype(np.float64))[:, None, :]


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
