"""Weights as products of two thin matrices: W = U V of rank r.

In the metric of the data the best one follows from the singular vectors of Sᵀ W, where S Sᵀ = H:
projecting W on the r first right ones, V, minimises ‖X (W - U V)‖. Source: Wang et al. 2024,
SVD-LLM. No inverse is needed, because U = W Vᵀ.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from onnxslim.ir import Array, Tensor, Variable
from onnxslim.passes.factorize._build import (
    Place,
    convolutions,
    expanded_product,
    two_products,
)
from onnxslim.passes.factorize._candidates import Candidate
from onnxslim.passes.factorize._layers import Layer
from onnxslim.passes.factorize._metric import Metric
from onnxslim.passes.factorize._speed import convolution, product

_LARGE = 1024
"""The smaller side from which on few singular vectors are found by random projections."""
_EXTRA = 16
"""Random directions beyond the wanted ones."""


@dataclass(frozen=True)
class Spectrum:
    """The right singular vectors of Sᵀ W, and what each of them keeps of the outputs."""

    matrix: Array
    right: Array
    """Orthonormal rows, (n, M), the most important first."""
    energy: Array
    """The power of the outputs along each of them."""
    rest: float
    """The power along none of them."""

    @cached_property
    def left(self) -> Array:
        """W on the right vectors, (K, n)."""
        return np.asarray(self.matrix @ self.right.T)

    @cached_property
    def errors(self) -> Array:
        """By rank, from 0 on, how far the outputs move, of their own size."""
        tails = np.append(np.cumsum(self.energy[::-1])[::-1], 0.0) + self.rest
        return np.asarray(np.sqrt(tails / (tails[0] or 1.0)))

    def factors(self, rank: int) -> tuple[Array, Array]:
        """Return U (K, r) and V (r, M), whose columns and rows are of the same length."""
        left, right = self.left[:, :rank], self.right[:rank]
        scale = np.sqrt(np.linalg.norm(left, axis=0))
        scale = np.where(scale > 0, scale, 1.0)
        return left / scale, right * scale[:, None]


def spectrum(matrix: Array, metric: Metric, most: int, seed: int = 0) -> Spectrum:
    """Return the right singular vectors of *matrix* in the metric, *most* of them at least.

    Of large matrices only those are computed, by random projections; what the outputs lose is
    measured on them in any case. Source: Halko et al. 2011, Finding Structure with Randomness.
    """
    white = metric.whitened(matrix)
    small = min(matrix.shape)
    if small > _LARGE and most + _EXTRA < small // 3:
        from sklearn.utils.extmath import randomized_svd  # takes a second to import

        *_, right = randomized_svd(white, most, n_oversamples=_EXTRA, n_iter=4, random_state=seed)
    else:
        *_, right = np.linalg.svd(white, full_matrices=False)
    left = matrix @ right.T
    moved = left if metric.moments is None else metric.moments @ left
    energy = np.maximum((moved * left).sum(0), 0.0)
    rest = metric.power(matrix) - float(energy.sum()) if len(right) < small else 0.0
    return Spectrum(matrix, right, energy, max(0.0, rest))


def most(layer: Layer) -> int:
    """Return the largest rank with fewer weights than the layer has."""
    inputs, outputs = layer.shape
    return max(0, -(-inputs * outputs // (inputs + outputs)) - 1)


def candidates(
    layer: Layer, found: Spectrum, ranks: Sequence[int], runs: bool
) -> Iterator[Candidate]:
    """Yield U V for every rank, running as factors or multiplied out at load."""
    inputs, outputs = layer.shape
    for rank in ranks:
        error = float(found.errors[rank])
        yield Candidate(
            "low rank" if not layer.is_convolution else "channel SVD",
            f"rank {rank}",
            rank * (inputs + outputs),
            error,
            partial(_parts, layer, found, rank, runs),
            partial(_approximation, layer, runs),
            (_convolve if layer.is_convolution else two_products) if runs else None,
            _time(layer, rank),
            None if runs else expanded_product,
        )


def _parts(layer: Layer, found: Spectrum, rank: int, runs: bool) -> Sequence[Array]:
    first, second = found.factors(rank)
    if runs and layer.is_convolution:
        channels, ones = layer.values.shape[1], [1] * len(layer.kernel)
        return first.T.reshape(rank, channels, *layer.kernel), second.T.reshape(-1, rank, *ones)
    if runs:
        return (first, second) if layer.slot else (first.T, second.T)
    return (second.T, first.T) if layer.flipped else (first, second)


def _approximation(layer: Layer, runs: bool, parts: Sequence[Array]) -> Array:
    first, second = parts
    if runs and layer.is_convolution:
        rank = len(first)
        return np.asarray(first.reshape(rank, -1).T @ second.reshape(-1, rank).T)
    if runs:
        return np.asarray(first @ second if layer.slot else (second @ first).T)
    return np.asarray((first @ second).T if layer.flipped else first @ second)


def _convolve(place: Place, parts: Sequence[Tensor]) -> Variable:
    """Return a convolution to r channels and one of 1x1 from them."""
    return convolutions(place, parts, [range(len(place.layer.kernel)), ()])


def _time(layer: Layer, rank: int) -> float:
    inputs, outputs = layer.shape
    if not layer.is_convolution:
        return product(layer.rows, inputs, rank) + product(layer.rows, rank, outputs)
    taps = math.prod(layer.kernel)
    first = convolution(layer.rows, layer.values.shape[1], rank, taps)
    return first + convolution(layer.rows, rank, outputs, 1)
