"""Filters as tensors, and the metric of the data along some of their axes.

A convolution's weight is (M, C, taps) here. Its moments H couple all inputs of an output, channels
and taps. What is factorized along channels alone takes H averaged over taps as its metric there;
the last factor is then fitted to all of H, in which it is linear.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from onnxslim.ir import Array
from onnxslim.passes.factorize._layers import Layer
from onnxslim.passes.factorize._metric import Metric


def tensor(layer: Layer) -> Array:
    """Return the filters in float64, (M, C, taps)."""
    outputs, inputs = layer.values.shape[:2]
    return layer.values.astype(np.float64).reshape(outputs, inputs, -1)


def along(metric: Metric, kept: int) -> Metric:
    """Return the metric of the first of two axes that inputs are counted by, of size *kept*."""
    if metric.moments is None:
        return metric
    rest = len(metric.moments) // kept
    split = metric.moments.reshape(kept, rest, kept, rest)
    return Metric(np.einsum("atbt->ab", split) / rest, metric.source)


@dataclass(frozen=True)
class Projection:
    """Features that mix the first of two axes that inputs are counted by, alike along the other."""

    mixing: Array
    """(kept, r)"""
    rest: int

    def down(self, values: Array) -> Array:
        """Return the features, (r * rest, n), of *values*, (kept * rest, n)."""
        split = values.reshape(len(self.mixing), -1)
        return np.asarray((self.mixing.T @ split).reshape(-1, values.shape[1]))

    def up(self, values: Array) -> Array:
        """Return the weights, (kept * rest, n), that make *values* of the features."""
        split = values.reshape(self.mixing.shape[1], -1)
        return np.asarray((self.mixing @ split).reshape(-1, values.shape[1]))

    def fitted(self, metric: Metric, matrix: Array) -> Array:
        """Return F, (r * rest, M), for which what it makes of the features is nearest to x W."""
        moments = np.eye(len(matrix)) if metric.damped is None else metric.damped
        half = self.down(moments)
        return _solved(self.down(half.T), half @ matrix)


def fitted(features: Array, metric: Metric, matrix: Array) -> Array:
    """Return F, (n, M), for which x P F is nearest to x W; *features* are P, (K, n)."""
    seen = features if metric.damped is None else metric.damped @ features
    return _solved(features.T @ seen, seen.T @ matrix)


def _solved(normal: Array, right: Array) -> Array:
    ridge = 1e-12 * (np.trace(normal) / len(normal) or 1.0)
    return np.asarray(np.linalg.solve(normal + ridge * np.eye(len(normal)), right))


def balanced(*factors: Array) -> list[Array]:
    """Scale factors, whose last axes count the same terms, so that a term is as long in each."""
    lengths = [np.sqrt((f**2).sum(tuple(range(f.ndim - 1)))) for f in factors]
    lengths = [np.where(length > 0, length, 1.0) for length in lengths]
    mean = math.prod(lengths) ** (1 / len(factors))
    return [f * (mean / length) for f, length in zip(factors, lengths, strict=True)]
