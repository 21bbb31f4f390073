"""How good, how large and how fast a candidate is, on samples that nothing was fitted to."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from onnxslim.data import Array, Calibration, Feed, InputSpec, input_specs
from onnxslim.errors import DataError, OnnxslimError
from onnxslim.ir import Model
from onnxslim.metrics import METRICS, Metric, metric
from onnxslim.pipeline import Pipeline
from onnxslim.registry import parse
from onnxslim.runtime import Session, latency_ratio, lent
from onnxslim.validate import check_structure

_BATCH = 64
_RESAMPLED = 200
_LEVEL = 0.95
_ROUNDING = 1e-9
"""Noise over signal that is rounding."""
_RUNS = 20
_SECONDS = 1.0
"""How long latencies are measured."""


@dataclass(frozen=True)
class Candidate:
    """A model that was tried."""

    spec: str
    method: str
    size: int
    """Bytes of the file; 0 where there is none."""
    drop: float
    """How much worse than the original it scores on the samples that judge."""
    bound: float
    """95 % of such samples would show a drop below."""
    latency: float | None = None
    """Time of a run as a part of the original's."""
    seconds: float = 0.0
    """What it took to make and to judge it."""
    failed: str | None = None
    """Why there is none."""
    path: str = ""


@dataclass(frozen=True)
class Task:
    """What every candidate is made from and judged by; it goes to other processes."""

    model: Path
    """The file of the original."""
    fitting: list[Feed]
    judging: list[Feed]
    labels: Array | None
    """Of those that judge, (feeds, samples of a feed, …)."""
    metric: str
    timed: bool
    seed: int
    synthetic: bool = False
    expected: list[Mapping[str, Any]] = field(default_factory=list)
    """What the original answers to the samples that judge."""

    def calibration(self) -> Calibration:
        """Return the samples that candidates may be fitted to."""
        made = Calibration.of(self.fitting)
        made.synthetic = self.synthetic
        return made


def split(data: Calibration, most: int, seed: int) -> tuple[list[int], list[int]]:
    """Return the places of the samples to fit to, and of up to *most* to judge by.

    With fewer than eight, all of them serve for both.
    """
    count = sum(1 for _ in data)
    if count < 8:
        return list(range(count)), list(range(count))
    order = np.random.default_rng(seed).permutation(count)
    held = min(count // 2, most)
    return sorted(map(int, order[held:])), sorted(map(int, order[:held]))


def flat(labels: Array | None) -> Array | None:
    """Return labels of feeds as labels of samples."""
    return None if labels is None else np.concatenate(labels)


def answers(session: Session, feeds: Sequence[Feed], specs: Sequence[InputSpec]) -> list[Feed]:
    """Return what a model answers to each of *feeds*; computed many at a time where that can be."""
    found: list[Feed] = []
    for batch in _batches(feeds, specs):
        if len(batch) == 1:
            found.append(session.run(batch[0]))
            continue
        made = session.run({k: np.concatenate([feed[k] for feed in batch]) for k in batch[0]})
        ends = np.cumsum([len(next(iter(feed.values()))) for feed in batch])[:-1]
        parts = {name: np.split(np.asarray(value), ends) for name, value in made.items()}
        found += [{name: part[i] for name, part in parts.items()} for i in range(len(batch))]
    return found


def _batches(feeds: Sequence[Feed], specs: Sequence[InputSpec]) -> Iterator[list[Feed]]:
    free = all(spec.kind == "tensor" and spec.shape and not isinstance(spec.shape[0], int)
               for spec in specs)  # fmt: skip
    batch: list[Feed] = []
    for feed in feeds:
        if batch and (not free or len(batch) == _BATCH or not _alike(batch[0], feed)):
            yield batch
            batch = []
        batch.append(feed)
    if batch:
        yield batch


def _alike(one: Feed, other: Feed) -> bool:
    return all(np.shape(one[k])[1:] == np.shape(other[k])[1:] for k in one)


def bound(measure: Metric, found: list[Any], expected: list[Any], labels: Array | None,
          seed: int) -> float:  # fmt: skip
    """Return what 95 % of resampled drops are below (the percentile bootstrap of Efron 1979).

    Of answers that may differ at all it is no less than what so few judges could have overlooked.
    """
    dice, count = np.random.default_rng(seed), len(found)
    drops = []
    for _ in range(_RESAMPLED):
        places = dice.integers(0, count, count)
        right = None if labels is None else flat(labels[places])
        ours, theirs = ([side[i] for i in places] for side in (found, expected))
        drops.append(measure.drop(ours, theirs, right))
    seen = float(np.quantile(drops, _LEVEL))
    if measure.counts and METRICS["sqnr"].drop(found, expected, None) > _ROUNDING:
        seen = max(seen, _unseen(found))
    return seen


def _unseen(found: Sequence[Mapping[str, Any]]) -> float:
    """Return how many worse answers there may be of which 5 % of judges see none (Hanley 1983)."""
    count = sum(math.prod(np.shape(next(iter(one.values())))[:1]) for one in found)
    return float(1 - (1 - _LEVEL) ** (1 / max(1, count)))


def judged(task: Task, spec: str, method: str, target: Path) -> Candidate:
    """Make the model of *spec*, write it to *target*, and judge it."""
    start = time.perf_counter()

    def failed(why: str) -> Candidate:
        seconds = time.perf_counter() - start
        return Candidate(spec, method, 0, math.inf, math.inf, seconds=seconds, failed=why)

    model, measure = Model.load(task.model), metric(task.metric)
    try:
        made, report = Pipeline(parse(spec), check="off", seed=task.seed)(model, task.calibration())
        if not report.changed:
            return failed("nothing changed")
        made.save(target)
        specs = input_specs(made.skeleton())
        with lent(made) as source:
            check_structure(model, made, source)
            found = answers(Session(source, optimize=True), task.judging, specs)
            expected = task.expected
            drop = measure.drop(found, expected, flat(task.labels))
            plain = answers(Session(source, optimize=False), task.judging, specs)
            drop = max(drop, measure.drop(plain, expected, flat(task.labels)))
            taken = None
            if task.timed:
                with lent(model) as original:
                    taken = latency_ratio(source, original, task.judging[:8], _SECONDS)
    except DataError:
        raise
    except OnnxslimError as error:
        return failed(str(error))
    size = sum(path.stat().st_size for path in target.parent.glob(f"{target.name}*"))
    if size > model.disk_size():
        return failed("it is larger than the original")
    above = bound(measure, found, list(expected), task.labels, task.seed)
    seconds = time.perf_counter() - start
    return Candidate(
        spec, method, size, drop, max(drop, above), taken, seconds, path=str(target)
    )  # fmt: skip


def seconds(model: Model, feeds: Sequence[Feed]) -> float:
    """Return the median time of a run with all of onnxruntime's optimizations on one thread."""
    taken = []
    with lent(model) as source:
        session = Session(source, optimize=True)
        for turn in range(_RUNS):
            start = time.perf_counter()
            session.run(feeds[turn % len(feeds)])
            taken.append(time.perf_counter() - start)
    return float(np.median(taken))
