"""How good a model's answers are: against labels, or against the original's answers.

A score is computed from the outputs for all samples. The *drop* of a model is how much worse it
scores than the original: 0 where it is as good, and in the metric's own unit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxslim.data import Array, imported
from onnxslim.errors import DataError, SpecError

Outputs = Sequence[Mapping[str, Any]]
"""What a model answers to each sample, by output name."""
Score = Callable[[Outputs, Outputs, Array | None], float]
"""From a model's outputs, the original's, and labels where there are any."""


@dataclass(frozen=True)
class Metric:
    """A way to score a model."""

    name: str
    score: Score
    labelled: bool = False
    """Whether it needs labels."""
    falls: bool = False
    """Whether less is better; the original then scores 0 or has a score of its own."""
    counts: bool = False
    """Whether the score is the share of answers that are good."""

    def drop(self, outputs: Outputs, originals: Outputs, labels: Array | None) -> float:
        """Return how much worse *outputs* score than *originals*; negative where better.

        Raises DataError where labels are missing or do not fit.
        """
        if self.labelled and labels is None:
            raise DataError(f"the metric {self.name} needs labels; add an array 'labels' to data")
        scores = [self.score(side, originals, labels) for side in (originals, outputs)]
        worse = scores[1] - scores[0] if self.falls else scores[0] - scores[1]
        return worse if not math.isnan(worse) else math.inf


def metric(name: str) -> Metric:
    """Return a metric by name: one of `METRICS`, or ``module:function``.

    The function takes the outputs for all samples, dicts by name, and the labels or None, and
    returns a number that is larger for better models. Raises SpecError.
    """
    if name in METRICS:
        return METRICS[name]
    if ":" not in name:
        known = ", ".join(METRICS)
        raise SpecError(f"unknown metric {name!r}; there are: {known}, module:function")
    function = imported(name)
    if not callable(function):
        raise SpecError(f"{name} is no function")
    return Metric(name, lambda outputs, _, labels: float(function(outputs, labels)))


def limit(text: str | float) -> float:
    """Read how far a metric may drop: ``0.5%``, ``0.005``, or ``30dB`` of signal over noise.

    Raises SpecError.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(%|dB)?\s*", str(text))
    if found is None:
        raise SpecError(f"{text!r} is no limit; write 0.5%, 0.005 or 30dB")
    number = float(found[1])
    return {"%": number / 100, "dB": 10 ** (-number / 10), None: number}[found[2]]


# Answers ------------------------------------------------------------------------------------------


def answers(outputs: Outputs) -> Array:
    """Return the scores of the classes, (samples, ..., classes): the first output of floats.

    Classes lie along the last axis, in outputs of rank 4 (images) along the second. Raises
    DataError where there is no such output.
    """
    for name in outputs[0]:
        values = [sample[name] for sample in outputs]
        if all(_is_float(value) and value.ndim for value in values):
            images = values[0].ndim == 4
            moved = [np.moveaxis(v, 1, -1) if images else v for v in values]
            return np.concatenate([v.reshape(-1, v.shape[-1]) for v in moved])
    raise DataError("the model has no output of floats to tell classes from")


def _top(count: int) -> Score:
    def score(outputs: Outputs, _: Outputs, labels: Array | None) -> float:
        found = answers(outputs)
        right = np.asarray(labels).reshape(-1)
        if len(right) != len(found):
            raise DataError(f"{len(right)} labels for {len(found)} answers")
        best = np.argsort(-found, axis=-1, kind="stable")[:, :count]
        return float((best == right[:, None]).any(axis=-1).mean())

    return score


def _agreement(outputs: Outputs, originals: Outputs, _: Array | None) -> float:
    found, expected = (answers(side).argmax(axis=-1) for side in (outputs, originals))
    if found.shape != expected.shape:
        raise DataError("the outputs have other sizes than the original's")
    return float((found == expected).mean())


# Signals ------------------------------------------------------------------------------------------


def _pairs(outputs: Outputs, originals: Outputs) -> list[tuple[Array, Array]]:
    """Return every output of floats beside the original's, flat, a row for a sample."""
    names = [name for name, value in originals[0].items() if _is_float(value)]
    if not names:
        raise DataError("the model has no output of floats to compare")
    return [
        (_flat(sample, names), _flat(original, names))
        for sample, original in zip(outputs, originals, strict=True)
    ]


def _is_float(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def _flat(sample: Mapping[str, Any], names: Sequence[str]) -> Array:
    values = [np.asarray(sample[name], np.float64).reshape(-1) for name in names]
    return np.concatenate(values)


def _cosine(outputs: Outputs, originals: Outputs, _: Array | None) -> float:
    angles = []
    for found, expected in _pairs(outputs, originals):
        length = float(np.linalg.norm(found) * np.linalg.norm(expected))
        same = float((found == expected).all())
        angles.append(float(found @ expected) / length if length else same)
    return float(np.mean(angles))


def _noise(outputs: Outputs, originals: Outputs, _: Array | None) -> float:
    """Return the power of the differences over that of the original's outputs."""
    pairs = _pairs(outputs, originals)
    noise = sum(float(((found - expected) ** 2).sum()) for found, expected in pairs)
    signal = sum(float((expected**2).sum()) for _, expected in pairs)
    return noise / signal if signal else (math.inf if noise else 0.0)


def _mse(outputs: Outputs, originals: Outputs, _: Array | None) -> float:
    pairs = _pairs(outputs, originals)
    return float(np.mean(np.concatenate([(f - e) ** 2 for f, e in pairs])))


METRICS = {
    item.name: item
    for item in (
        Metric("top1", _top(1), labelled=True, counts=True),
        Metric("top5", _top(5), labelled=True, counts=True),
        Metric("agreement", _agreement, counts=True),
        Metric("cosine", _cosine),
        Metric("sqnr", _noise, falls=True),
        Metric("mse", _mse, falls=True),
    )
}
"""Metrics by name. ``sqnr`` drops by the ratio of noise to signal: 30 dB is a drop of 0.001."""
