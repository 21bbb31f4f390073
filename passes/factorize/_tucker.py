"""A convolution as three: 1x1 to r channels, the kernel from r to s channels, 1x1 from there.

The factors of the channels come from singular vectors, the kernel between them is fitted to the
data. Source: Kim et al. 2016, Compression of Deep Convolutional Neural Networks (Tucker-2).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from onnxslim.ir import Array, Tensor, Variable
from onnxslim.passes.factorize._build import Place, convolutions
from onnxslim.passes.factorize._candidates import Candidate, Wanted, is_faster
from onnxslim.passes.factorize._layers import Layer
from onnxslim.passes.factorize._lowrank import Spectrum, spectrum
from onnxslim.passes.factorize._metric import Metric
from onnxslim.passes.factorize._speed import Convolution, aligned, chain
from onnxslim.passes.factorize._tensors import Projection, along, tensor

_STEP = 8


def candidates(layer: Layer, metric: Metric, wanted: Wanted) -> Iterator[Candidate]:
    """Yield for every size the pair of ranks that should move the outputs least."""
    if layer.values.ndim < 3 or layer.kernel == (1,) * len(layer.kernel):
        return
    channels, taps = layer.values.shape[1], layer.shape[0] // layer.values.shape[1]
    unfolded = tensor(layer).transpose(1, 0, 2).reshape(channels, -1)
    before = spectrum(unfolded, along(metric, channels), channels)
    after = spectrum(layer.matrix, metric, len(layer.values))
    if wanted.rank is not None:
        pairs = {(min(wanted.rank, channels), min(wanted.rank, len(layer.values)))}
    else:
        chosen = (_pair(layer, before, after, taps, size) for size in wanted.sizes)
        pairs = {pair for pair in chosen if pair is not None}
    for pair in sorted(pairs):
        yield _candidate(layer, metric, before, after, *pair)


def _size(layer: Layer, first: int, second: int) -> int:
    inputs, outputs = layer.shape
    channels = int(layer.values.shape[1])
    return first * channels + first * second * (inputs // channels) + second * outputs


def _time(layer: Layer, first: int, second: int) -> float:
    outputs, channels = layer.values.shape[:2]
    before = Convolution(layer.seen, channels, first, 1)
    core = layer.convolution._replace(inputs=first, outputs=second)
    return chain(layer.convolution, (before, core, Convolution(layer.rows, second, outputs, 1)))


def _pair(
    layer: Layer, before: Spectrum, after: Spectrum, taps: int, limit: int
) -> tuple[int, int] | None:
    """Return the ranks that fit and lose least along inputs and outputs, summed."""
    outputs, channels = layer.values.shape[:2]
    found = []
    for first in sorted({aligned(rank, _STEP) for rank in range(1, channels)}):
        second = (limit - first * channels) // (first * taps + outputs)
        second = aligned(min(second, outputs - 1, len(after.right)), _STEP)
        while second > 0 and not is_faster(_time(layer, first, second), layer):
            second = aligned(second - 1, _STEP)
        if second > 0 and first <= len(before.right):
            lost = before.errors[first] ** 2 + after.errors[second] ** 2
            found.append((float(lost), first, second))
    return min(found)[1:] if found else None


def _candidate(
    layer: Layer, metric: Metric, before: Spectrum, after: Spectrum, first: int, second: int
) -> Candidate:
    outputs, channels = layer.values.shape[:2]
    taps = layer.shape[0] // channels
    inputs = before.left[:, :first] / np.linalg.norm(before.left[:, :first], axis=0)
    features = Projection(inputs, taps)
    core = features.fitted(metric, after.left[:, :second])
    macs = layer.seen * channels * first
    macs += layer.rows * (first * second * taps + second * outputs)
    return Candidate(
        "Tucker-2",
        f"ranks {first}, {second}",
        _size(layer, first, second),
        metric.error(layer.matrix, features.up(core @ after.right[:second])),
        partial(_parts, layer, inputs, core, after.right[:second]),
        _approximation,
        _run,
        _time(layer, first, second),
        macs,
    )


def _parts(layer: Layer, inputs: Array, core: Array, right: Array) -> Sequence[Array]:
    ones, first = [1] * len(layer.kernel), inputs.shape[1]
    return (
        inputs.T.reshape(first, -1, *ones),
        core.T.reshape(-1, first, *layer.kernel),
        right.T.reshape(-1, len(right), *ones),
    )


def _approximation(parts: Sequence[Array]) -> Array:
    before, core, after = parts
    first, second = len(before), len(core)
    kernel = core.reshape(second, first, -1)
    filters = np.einsum(
        "os,srt,rc->cto", after.reshape(-1, second), kernel, before.reshape(first, -1),
        optimize=True,
    )  # fmt: skip
    return np.asarray(filters.reshape(-1, len(after)))


def _run(place: Place, parts: Sequence[Tensor]) -> Variable:
    return convolutions(place, parts, [(), range(len(place.layer.kernel)), ()])
