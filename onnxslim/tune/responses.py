"""How far the outputs of a model move when tensors inside of it do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch

from onnxslim.data import Calibration
from onnxslim.ir import Array, Model
from onnxslim.tune.executor import Executor
from onnxslim.tune.operators import Value
from onnxslim.tune.parameters import tunable
from onnxslim.tune.samples import Samples, session_of

_SAMPLES, _BATCH = 512, 32
_PROBES = 4
"""Random directions of the outputs for each batch."""


def responses(
    model: Model, data: Calibration, channels: Mapping[str, int], seed: int = 0
) -> dict[str, Array]:
    """Return the mean of JᵀJ, (M, M) in float64, of tensors by name.

    J says how the outputs, each relative to its root mean square over samples, move with the M
    channels of the tensor, which lie along the axis that *channels* names; places of the same
    channels are added up. Random combinations of the outputs stand for all of them (Hutchinson
    1990), on up to 512 samples. Tensors that no weight reaches, that reach no output of floats, or
    where gradients are not finite, are missing. Raises CannotRun, and CannotTune where gradients
    cannot go through the model.
    """
    executor = Executor(model, tunable(model), list(channels))
    samples = Samples(data, with_labels=False)
    samples.stack((model, session_of(model)))
    scales = _scales(executor, samples)
    found: dict[str, Array] = {}
    dice, count = torch.Generator().manual_seed(seed), 0
    for size, feed in _batches(samples):
        values, count = executor(feed), count + size
        inner = {n: values[n] for n in channels if values[n].requires_grad}
        outputs = {n: values[n] / scales[n] for n in scales if values[n].requires_grad}
        for name, slope in _slopes(inner, outputs, dice):
            rows = np.moveaxis(slope.double().numpy(), channels[name], -1)
            rows = rows.reshape(-1, rows.shape[-1])
            found[name] = found.get(name, 0.0) + rows.T @ rows
    means = {name: total / (count * _PROBES) for name, total in found.items()}
    return {name: mean for name, mean in means.items() if np.isfinite(mean).all()}


def _slopes(
    inner: Mapping[str, Value], outputs: Mapping[str, Value], dice: torch.Generator
) -> Iterator[tuple[str, Value]]:
    """Yield the gradients of random combinations of *outputs* that arrive at *inner* tensors."""
    for _ in range(_PROBES if inner and outputs else 0):
        mixed = sum(
            (torch.randn(value.shape, generator=dice, dtype=value.dtype) * value).sum()
            for value in outputs.values()
        )
        slopes = torch.autograd.grad(mixed, [*inner.values()], retain_graph=True, allow_unused=True)
        yield from ((n, s) for n, s in zip(inner, slopes, strict=True) if s is not None)


def _batches(samples: Samples) -> Iterator[tuple[int, Mapping[str, Array]]]:
    """Yield the number of samples and the feed of each batch."""
    places = np.arange(min(_SAMPLES, len(samples.feeds)))
    for step in samples.batches(places, _BATCH):
        for batch in step:
            yield len(batch.places), batch.feed


def _scales(executor: Executor, samples: Samples) -> dict[str, float]:
    """Return the root mean square, over samples, of the norms of the outputs of floats."""
    squares: dict[str, float] = {}
    count = 0
    with torch.no_grad():
        for size, feed in _batches(samples):
            count += size
            values = executor(feed)
            for name in executor.types:
                if values[name].is_floating_point():
                    power = float(values[name].double().square().sum())
                    squares[name] = squares.get(name, 0.0) + power
    means = {name: (total / count) ** 0.5 for name, total in squares.items()}
    return {name: mean for name, mean in means.items() if np.isfinite(mean) and mean > 0}
