"""A convolution as three: 1x1 to r channels, the kernel on each of them alone, 1x1 from there.

The weight (M, C, taps) is a sum of r products of three vectors, found by alternating least squares
in the metric of the channels; the last factor is fitted to the data. Sources: Carroll and Chang
1970, Harshman 1970 (CANDECOMP, PARAFAC); Lebedev et al. 2015, who split the kernel as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from onnxslim.ir import Array, Tensor, Variable
from onnxslim.passes.factorize._build import Place, convolutions
from onnxslim.passes.factorize._candidates import Candidate, Wanted, fast
from onnxslim.passes.factorize._layers import Layer
from onnxslim.passes.factorize._metric import Metric
from onnxslim.passes.factorize._speed import Convolution, chain
from onnxslim.passes.factorize._tensors import along, balanced, fitted, tensor

_STEP = 8
_SWEEPS = 20


def candidates(layer: Layer, metric: Metric, wanted: Wanted) -> Iterator[Candidate]:
    """Yield chains with as many channels between as fit."""
    if layer.values.ndim < 3 or layer.kernel == (1,) * len(layer.kernel):
        return
    outputs, channels, taps = tensor(layer).shape
    each = outputs + channels + taps
    most = (layer.parameters - 1) // each
    if wanted.rank is not None:
        ranks = {wanted.rank} if wanted.rank <= most else set()
    else:
        ranks = {fast(layer, min(size // each, most), _STEP, _time) for size in wanted.sizes}
    for rank in sorted(ranks - {0}):
        yield _candidate(layer, metric, rank)


def _time(layer: Layer, rank: int) -> float:
    outputs, channels, taps = tensor(layer).shape
    before = Convolution(layer.seen, channels, rank, 1)
    each = Convolution(layer.rows, rank, rank, taps, depthwise=True)
    return chain(layer.convolution, (before, each, Convolution(layer.rows, rank, outputs, 1)))


def _candidate(layer: Layer, metric: Metric, rank: int) -> Candidate:
    filters = tensor(layer)
    outputs, channels, taps = filters.shape
    factor = along(metric, channels).factor
    white = filters if factor is None else np.einsum("oct,cd->odt", filters, factor)
    _, inner, kernels = _three_factors(white, rank)
    if factor is not None:
        inner = np.linalg.solve(factor.T, inner)
    features = (inner[:, None] * kernels[None]).reshape(-1, rank)
    after = fitted(features, metric, layer.matrix).T
    return Candidate(
        "1x1, depthwise, 1x1",
        f"rank {rank}",
        rank * (outputs + channels + taps),
        metric.error(layer.matrix, features @ after.T),
        partial(_parts, layer.kernel, after, inner, kernels),
        _approximation,
        _run,
        _time(layer, rank),
        rank * (layer.seen * channels + layer.rows * (taps + outputs)),
    )


def _three_factors(filters: Array, rank: int) -> tuple[Array, Array, Array]:
    """Return A (M, r), B (C, r) and D (taps, r) whose products sum to about *filters*."""
    rng = np.random.default_rng(0)
    outputs, channels, taps = filters.shape
    by_channel = filters.transpose(1, 0, 2).reshape(channels, -1)
    inner = np.linalg.svd(by_channel, full_matrices=False)[0][:, :rank]
    missing = rank - inner.shape[1]
    inner = np.concatenate([inner, rng.standard_normal((channels, missing))], axis=1)
    kernels = rng.standard_normal((taps, rank))
    outer = np.zeros((outputs, rank))
    by_tap = np.ascontiguousarray(filters.transpose(2, 0, 1))
    for _ in range(_SWEEPS):
        taken = (by_tap @ inner) * kernels[:, None]
        outer = _solved(taken.sum(0), inner, kernels)
        taken = (by_tap.transpose(0, 2, 1) @ outer) * kernels[:, None]
        inner = _solved(taken.sum(0), outer, kernels)
        kernels = _solved(((by_tap @ inner) * outer).sum(1), outer, inner)
    outer, inner, kernels = balanced(outer, inner, kernels)
    return outer, inner, kernels


def _solved(right: Array, first: Array, second: Array) -> Array:
    """Return the least-squares factor beside two given ones."""
    normal = (first.T @ first) * (second.T @ second)
    normal += 1e-9 * (np.trace(normal) / len(normal) or 1.0) * np.eye(len(normal))
    return np.asarray(np.linalg.solve(normal, right.T).T)


def _parts(kernel: Sequence[int], after: Array, inner: Array, kernels: Array) -> Sequence[Array]:
    rank, ones = inner.shape[1], [1] * len(kernel)
    outer, inner, kernels = balanced(after, inner, kernels)
    return (
        inner.T.reshape(rank, -1, *ones),
        kernels.T.reshape(rank, 1, *kernel),
        outer.reshape(-1, rank, *ones),
    )


def _approximation(parts: Sequence[Array]) -> Array:
    inner, kernels, outer = (part.reshape(len(part), -1) for part in parts)
    filters = np.einsum("or,rt,rc->cto", outer, kernels, inner, optimize=True)
    return np.asarray(filters.reshape(-1, len(outer)))


def _run(place: Place, parts: Sequence[Tensor]) -> Variable:
    spatial, rank = range(len(place.layer.kernel)), parts[1].shape[0]
    return convolutions(place, parts, [(), spatial, ()], [1, rank, 1])
