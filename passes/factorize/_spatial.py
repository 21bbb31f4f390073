"""A convolution over height and width as one over height and one over width.

Source: Jaderberg et al. 2014, Speeding up Convolutional Neural Networks with Low Rank Expansions.
The first one comes from singular vectors, the second is fitted to the data.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from onnxslim.ir import Array, Tensor, Variable
from onnxslim.passes.factorize._build import Place, convolutions
from onnxslim.passes.factorize._candidates import Candidate, Wanted, fast
from onnxslim.passes.factorize._layers import Layer
from onnxslim.passes.factorize._lowrank import Spectrum, spectrum
from onnxslim.passes.factorize._metric import Metric
from onnxslim.passes.factorize._speed import Convolution, chain
from onnxslim.passes.factorize._tensors import Projection, along

_STEP = 8


def candidates(layer: Layer, metric: Metric, wanted: Wanted) -> Iterator[Candidate]:
    """Yield pairs of convolutions with as many channels between as fit."""
    if len(layer.kernel) != 2 or min(layer.kernel) < 2:
        return
    outputs, channels, height, width = layer.values.shape
    rows, columns = channels * height, outputs * width
    most = min(rows, columns, (layer.parameters - 1) // (rows + columns))
    if wanted.rank is not None:
        ranks = {wanted.rank} if wanted.rank <= most else set()
    else:
        upper = {min(size // (rows + columns), most) for size in wanted.sizes}
        ranks = {fast(layer, rank, _STEP, _time) for rank in upper}
    if not ranks - {0}:
        return
    unfolded = layer.matrix.reshape(rows, width, outputs).reshape(rows, columns)
    found = spectrum(unfolded, along(metric, rows), max(ranks))
    for rank in sorted(ranks - {0}):
        yield _candidate(layer, metric, found, rank)


def _between(layer: Layer) -> int:
    """Return how many places the first convolution makes, which skips along one axis alone."""
    return math.isqrt(layer.seen * layer.rows)


def _time(layer: Layer, rank: int) -> float:
    outputs, channels, height, width = layer.values.shape
    down = Convolution(_between(layer), channels, rank, height)
    return chain(layer.convolution, (down, Convolution(layer.rows, rank, outputs, width)))


def _candidate(layer: Layer, metric: Metric, found: Spectrum, rank: int) -> Candidate:
    outputs, channels, height, width = layer.values.shape
    lengths = np.linalg.norm(found.left[:, :rank], axis=0)
    first = found.left[:, :rank] / np.where(lengths > 0, lengths, 1.0)
    features = Projection(first, width)
    second = features.fitted(metric, layer.matrix)
    return Candidate(
        "spatial SVD",
        f"rank {rank}",
        rank * (channels * height + outputs * width),
        metric.error(layer.matrix, features.up(second)),
        partial(_parts, layer.values.shape, first, second),
        _approximation,
        _run,
        _time(layer, rank),
        rank * (_between(layer) * channels * height + layer.rows * outputs * width),
    )


def _parts(shape: Sequence[int], first: Array, second: Array) -> Sequence[Array]:
    outputs, channels, height, width = shape
    rank = first.shape[1]
    return (
        first.T.reshape(rank, channels, height, 1),
        second.reshape(rank, width, outputs).transpose(2, 0, 1).reshape(outputs, rank, 1, width),
    )


def _approximation(parts: Sequence[Array]) -> Array:
    first, second = parts[0][..., 0], parts[1][:, :, 0]
    filters = np.einsum("rch,orw->chwo", first, second, optimize=True)
    return np.asarray(filters.reshape(-1, len(second)))


def _run(place: Place, parts: Sequence[Tensor]) -> Variable:
    return convolutions(place, parts, [(0,), (1,)])
