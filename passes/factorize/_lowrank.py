"""Weights as products of two thin matrices: W = U V of rank r.

In the metric of the data the best one follows from the singular vectors of Sᵀ W, where S Sᵀ = H:
projecting W on the r first right ones, V, minimises ‖X (W - U V)‖. Source: Wang et al. 2024,
SVD-LLM. No inverse is needed, because U = W Vᵀ. Where T Tᵀ = G says what later layers make of the
outputs, it is those of Sᵀ W T, and U V = W T Vᵀ V T⁻¹. A convolution becomes one to r channels,
with the kernel, and one of 1x1 from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np

from onnxslim.ir import Array, Tensor, Variable
from onnxslim.passes.factorize._build import (
    Place,
    convolutions,
    expanded_product,
    two_products,
)
from onnxslim.passes.factorize._candidates import Candidate, Wanted, fast, is_faster
from onnxslim.passes.factorize._layers import Layer
from onnxslim.passes.factorize._metric import Metric
from onnxslim.passes.factorize._speed import Convolution, chain, product

_LARGE = 1024
"""The smaller side from which on few singular vectors are found by random projections."""
_EXTRA = 16
"""Random directions beyond the wanted ones."""


class Factors(NamedTuple):
    """U and V, exactly W."""

    left: Array
    right: Array

    @property
    def errors(self) -> Array:
        """By rank, how far the outputs move: not at all at this one."""
        return np.zeros(len(self.right) + 1)

    def factors(self, rank: int) -> tuple[Array, Array]:
        """Return U and V."""
        return self.left, self.right


@dataclass(frozen=True)
class Spectrum:
    """Columns and rows whose products sum up to W, and what each of them keeps of the outputs."""

    left: Array
    """W T on the right singular vectors of Sᵀ W T, (K, n), the most important first."""
    right: Array
    """These vectors times T⁻¹, (n, M)."""
    energy: Array
    """The power of the outputs along each of them."""
    rest: float
    """The power along none of them."""
    relative: bool = True
    """Whether errors are of the power that the outputs have; else that is 1."""

    @cached_property
    def errors(self) -> Array:
        """By rank, from 0 on, how far the outputs move, of their own size."""
        tails = np.append(np.cumsum(self.energy[::-1])[::-1], 0.0) + self.rest
        return np.asarray(np.sqrt(tails / ((tails[0] or 1.0) if self.relative else 1.0)))

    def rank(self, error: float) -> int:
        """Return the smallest rank with no more *error*; the largest where none has."""
        return min(int(np.argmax(np.append(self.errors <= error, True))), len(self.right))

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
    left, rows = matrix @ right.T, right
    if metric.response is not None:
        left = matrix @ (metric.response @ right.T)
        rows = np.linalg.solve(metric.response.T, right.T).T
    moved = left if metric.moments is None else metric.moments @ left
    energy = np.maximum((moved * left).sum(0), 0.0)
    rest = metric.power(matrix) - float(energy.sum()) if len(right) < small else 0.0
    return Spectrum(left, rows, energy, max(0.0, rest), metric.responses is None)


def candidates(layer: Layer, metric: Metric, wanted: Wanted) -> Iterator[Candidate]:
    """Yield U V running as factors, of a rank that runs fast, and multiplied out at load."""
    size = sum(layer.shape)
    most = (layer.parameters - 1) // size
    if wanted.rank is not None:
        ranks = [wanted.rank] if wanted.rank <= most else []
    else:
        ranks = sorted({min(limit // size, most) for limit in wanted.sizes} - {0})
    limit = most if wanted.error is not None else max(ranks, default=0)
    if not limit:
        return
    found = spectrum(layer.matrix, metric, limit)
    if wanted.error is not None:
        ranks = [found.rank(wanted.error)]
    step = 8 if layer.is_convolution else 16
    for rank in ranks:
        yield _multiplied_out(layer, found, rank)
        if wanted.rank is not None:
            running = {rank}
        elif wanted.error is not None:
            up = -(-rank // step) * step if rank > step else rank
            running = {rank, min(up, most)}
        else:
            running = {fast(layer, rank, step, _time)} - {0}
            if not layer.is_convolution and is_faster(_time(layer, rank), layer):
                running.add(rank)
        yield from (_running(layer, found, r) for r in sorted(running))


def _multiplied_out(layer: Layer, found: Spectrum, rank: int) -> Candidate:
    return Candidate(
        "low rank",
        f"rank {rank}",
        rank * sum(layer.shape),
        float(found.errors[rank]),
        lambda: _turned(layer.flipped, *found.factors(rank)),
        lambda parts: (parts[0] @ parts[1]).T if layer.flipped else parts[0] @ parts[1],
        expand=expanded_product,
    )


def fastest(layer: Layer) -> int:
    """Return the largest rank with fewer weights and less time than the layer."""
    most = (layer.parameters - 1) // sum(layer.shape)
    return fast(layer, most, 8 if layer.is_convolution else 16, _time)


def of_factors(layer: Layer, left: Array, right: Array) -> Candidate:
    """Return what runs as factors that are known to be exact."""
    return _running(layer, Factors(left, right), len(right))


def _running(layer: Layer, found: Spectrum | Factors, rank: int) -> Candidate:
    inputs, outputs = layer.shape
    shared = (f"rank {rank}", rank * (inputs + outputs), float(found.errors[rank]))
    macs = layer.rows * rank * (inputs + outputs)
    if layer.is_convolution:
        filters, matrix = partial(_filters, layer, found, rank), partial(_of_filters, rank)
        return Candidate(
            "channel SVD", *shared, filters, matrix, _convolve, _time(layer, rank), macs
        )
    left = layer.slot == 0
    return Candidate(
        "low rank", *shared,
        lambda: _turned(left, *found.factors(rank)),
        lambda parts: (parts[0] @ parts[1]).T if left else parts[0] @ parts[1],
        _multiply, _time(layer, rank), macs,
    )  # fmt: skip


def _time(layer: Layer, rank: int) -> float:
    inputs, outputs = layer.shape
    if not layer.is_convolution:
        return product(layer.rows, inputs, rank) + product(layer.rows, rank, outputs)
    first = layer.convolution._replace(outputs=rank)
    return chain(layer.convolution, (first, Convolution(layer.rows, rank, outputs, 1)))


def _turned(flip: bool, first: Array, second: Array) -> tuple[Array, Array]:
    return (second.T, first.T) if flip else (first, second)


def _multiply(place: Place, parts: Sequence[Tensor]) -> Variable:
    """Multiply by U, then by V, which are stored as Vᵀ and Uᵀ where y = W x."""
    return two_products(place, parts if place.layer.slot else parts[::-1])


def _filters(layer: Layer, found: Spectrum | Factors, rank: int) -> Sequence[Array]:
    first, second = found.factors(rank)
    shape = rank, *layer.values.shape[1:]
    return first.T.reshape(shape), second.T.reshape(-1, rank, *[1] * len(layer.kernel))


def _of_filters(rank: int, parts: Sequence[Array]) -> Array:
    first, second = parts
    return np.asarray(first.reshape(rank, -1).T @ second.reshape(-1, rank).T)


def _convolve(place: Place, parts: Sequence[Tensor]) -> Variable:
    """Return a convolution to r channels and one of 1x1 from them."""
    return convolutions(place, parts, [range(len(place.layer.kernel)), ()])
