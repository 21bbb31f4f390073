"""A width for every weight, by what its noise does to the outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from onnxslim.base import Context, Effect, Pass, holds_initializers
from onnxslim.errors import MissingData, PassError
from onnxslim.ir import Model
from onnxslim.passes.quantize._allocation import (
    Choice,
    narrowest,
    spent,
    until_quiet,
    widened,
    within,
)
from onnxslim.passes.quantize._rounding import Rounder, Rounding
from onnxslim.passes.quantize._widths import Trial
from onnxslim.sites import Site, find, reads_narrow_weights

_DEFAULT_SQNR = 30.0
_ATTEMPTS = 8


@dataclass(frozen=True)
class AllocateBits(Pass):
    """Give every weight as many bits as the outputs need: 2 to 8 in small steps, 16 or all.

    The budget is one of *sqnr*, the signal-to-noise ratio of the worst output in dB (30 where none
    is given); *bits*, the mean over all weights; *bytes* of the file. What a layer adds to the
    noise is measured by rounding it alone, on the calibration data or made-up inputs. Where the
    whole is noisier than the sum of its parts, the layer that hurts most is widened until the
    budget holds. Source: Lin et al. 2016, Fixed Point Quantization of Deep Convolutional Networks.
    """

    name = "allocate-bits"
    effect = Effect.LOSSY
    by_layer = True
    preconditions = (holds_initializers,)

    sqnr: float | None = None
    bits: float | None = None
    bytes: int | None = None
    block: int = 0
    rounding: Rounding = "nearest"

    def __post_init__(self) -> None:
        """Refuse two budgets."""
        if sum(budget is not None for budget in (self.sqnr, self.bits, self.bytes)) > 1:
            raise ValueError("give one budget: sqnr, bits or bytes")

    def apply(self, model: Model, context: Context) -> int:
        """Measure, choose, check and store."""
        if reads_narrow_weights(model, context):
            return 0
        sites = find(model, context)
        if not sites:
            return 0
        try:
            return self._allocate(model, context, sites)
        except MissingData as reason:
            context.decline(sites[0].node, str(reason))
            return 0

    def _allocate(self, model: Model, context: Context, sites: list[Site]) -> int:
        rounder = Rounder(context, self.rounding)
        rounder.observe(model, sites)
        trial = Trial(model, context, sites, rounder, self.block)
        chosen = self._choose(trial)
        trial.note(chosen)
        return trial.write(model, sites, context, chosen)

    def _choose(self, trial: Trial) -> Choice:
        if self.bits is not None:
            total = self.bits * sum(layer.count for layer in trial.layers)
            least = spent(trial.layers, narrowest(trial.layers, "bits"), "bits")
            _must_be_possible("sum of bits", least, total)
            chosen = trial.settled(partial(within, kind="bits", budget=total))
            return _quietest(chosen, trial, lambda even: spent(trial.layers, even, "bits") <= total)
        if self.bytes is not None:
            budget = self.bytes
            chosen = _fitting(budget, trial)
            return _quietest(chosen, trial, lambda even: trial.size(even) <= budget)
        sqnr = _DEFAULT_SQNR if self.sqnr is None else self.sqnr
        return _quiet(10 ** (-sqnr / 10), trial)


def _quietest(chosen: Choice, trial: Trial, fits: Callable[[Choice], bool]) -> Choice:
    """Return *chosen*, or the same width for all where that does better after all."""
    even = next((choice for choice in trial.even() if fits(choice)), chosen)
    return min(chosen, even, key=trial.noise)


def _quiet(noise: float, trial: Trial) -> Choice:
    """Choose for a noise, which where it does not add up is known only when all is rounded."""
    chosen = trial.settled(partial(until_quiet, noise=noise - trial.base))
    while trial.noise(chosen) > noise:
        wider = widened(trial.layers, chosen)
        if wider is None:
            break
        chosen = wider
    return chosen


def _must_be_possible(what: str, least: float, budget: float) -> None:
    if least > budget:
        raise PassError(f"the smallest {what} is {least:g}, more than {budget:g}; allow more")


def _fitting(budget: int, trial: Trial) -> Choice:
    """Choose for a file of *budget* bytes, whose size is known only when it is written."""
    chosen = narrowest(trial.layers, "bytes")
    least = trial.size(chosen)
    _must_be_possible("file", least, budget)
    allowed = budget - least + spent(trial.layers, chosen, "bytes")
    for _ in range(_ATTEMPTS):
        other = trial.settled(partial(within, kind="bytes", budget=allowed))
        excess = trial.size(other) - budget
        if excess <= 0 and trial.expected(other) <= trial.expected(chosen):
            chosen = other
        allowed -= excess
    return chosen
