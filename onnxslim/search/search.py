"""Looking for the best model inside a budget."""

from __future__ import annotations

import functools
import itertools
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from onnxslim import workers
from onnxslim.api import Data, Source, as_model, calibration
from onnxslim.cost import Stats, measure
from onnxslim.data import Calibration, input_specs
from onnxslim.errors import BudgetMissed, InputError, MissingData
from onnxslim.ir import Model
from onnxslim.metrics import metric as metric_of
from onnxslim.pipeline import MADE_UP, Progress, silent, versions
from onnxslim.runtime import Session, lent
from onnxslim.search import mixture
from onnxslim.search.budget import Budget
from onnxslim.search.front import front, write_front
from onnxslim.search.judge import Candidate, Task, answers, flat, judged, split
from onnxslim.search.judge import seconds as run_seconds
from onnxslim.search.methods import methods
from onnxslim.search.state import State

_JUDGES = 2000
"""Samples that judge, at most."""
_FITTING = 512
"""Samples to calibrate on where nothing is tuned."""
_LATE = "the time is up; other candidates were not tried"


@dataclass(frozen=True)
class Result:
    """What a search came to."""

    model: Model
    best: Candidate
    candidates: tuple[Candidate, ...]
    front: tuple[Candidate, ...]
    metric: str
    judges: int
    """Samples that judged, which nothing was fitted to."""
    seconds: float
    before: Stats
    after: Stats
    notes: tuple[str, ...] = ()
    sensitivity: list[dict[str, str | int | float | None]] = field(default_factory=list)
    """What every level adds to the noise of the outputs, layer by layer."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, ready for ``json.dumps``; its keys are stable."""
        return {
            "before": asdict(self.before),
            "after": asdict(self.after),
            "best": _plain(self.best),
            "candidates": [_plain(one) for one in self.candidates],
            "front": [one.spec for one in self.front],
            "metric": self.metric,
            "judges": self.judges,
            "sensitivity": self.sensitivity,
            "seconds": round(self.seconds, 6),
            "notes": list(self.notes),
            "versions": versions(),
        }


def _plain(one: Candidate) -> dict[str, Any]:
    """Return what is known of a candidate; the file may be gone by now, and no JSON is infinite."""
    known = asdict(one)
    del known["path"]
    if one.failed is not None:
        known.update(size=None, drop=None, bound=None)
    return known


def search(
    model: Source,
    data: Data,
    budget: Budget,
    *,
    metric: str | None = None,
    tune: bool = False,
    pareto: Path | None = None,
    jobs: int = 1,
    backend: workers.Backend = "local",
    scheduler: str | None = None,
    state: Path | None = None,
    time_limit: float | None = None,
    images: Mapping[str, Any] | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Result:
    """Return the best model inside *budget* that any method or mixture of levels makes.

    Half of *data*, chosen by *seed*, is what candidates are fitted to; the other half, up to 2,000
    samples, judges. *metric* is that of `onnxslim.metrics`: top1 where the data have labels,
    agreement where the original chooses among classes, else sqnr. *tune* allows gradient descent
    (PyTorch). With *pareto* all levels are tried, and the models that nothing beats go to that
    folder, with a table and a plot. Candidates are kept in the folder *state*, for a search that
    was killed to go on; after *time_limit* seconds no new ones are begun. *jobs*, *backend* and
    *scheduler* are those of `onnxslim.workers`; the workers of a cluster must see *state*, which
    they write to.
    Raises InputError, and BudgetMissed where no candidate is inside the budget.
    """
    start = time.monotonic()
    if backend != "local" and state is None:
        raise InputError("name a folder that the workers of the cluster see too: --state DIR")
    with tempfile.TemporaryDirectory(prefix="onnxslim-") as folder:
        original = as_model(model)
        feeds = calibration(data, original, images, seed)
        wanted = _task(original, feeds, metric, tune, budget, seed)
        kept = State(state or Path(folder), wanted, original)
        task = kept.task
        run = _Search(task, budget, kept, jobs, backend, scheduler)
        run.notes += _cautions(task)
        run.deadline = None if time_limit is None else start + time_limit
        run.progress = progress
        ladders = dict(methods(tune, task.metric in ("top1", "top5", "agreement")))
        run.climb(ladders, pareto is not None)
        table = run.mix(pareto is not None)
        best = run.best()
        result = Model.load(best.path).copy()  # its weights stay mapped when the file is gone
        found = tuple(run.found.values())
        ends = front(found)
        if pareto is not None:
            write_front(pareto, ends, task.metric)
        return Result(
            result, best, found, tuple(ends), task.metric, len(task.judging),
            time.monotonic() - start, measure(original), measure(result), tuple(run.notes), table,
        )  # fmt: skip


def seconds(
    model: Source, data: Data, images: Mapping[str, Any] | None = None, seed: int = 0
) -> float:
    """Return how long the original takes for a sample, for latencies in seconds."""
    original = as_model(model)
    feeds = itertools.islice(calibration(data, original, images, seed), 8)
    return run_seconds(original, list(feeds))


def _task(
    original: Model, data: Calibration, metric: str | None, tune: bool,
    budget: Budget, seed: int,
) -> Task:  # fmt: skip
    fitting, judging = split(data, _JUDGES, seed)
    chosen = set(fitting if tune else fitting[:: max(1, len(fitting) // _FITTING)])
    feeds = dict(enumerate(data))
    labels = None if data.labels is None else data.labels_by_feed()[judging]
    specs = input_specs(original.skeleton())
    with lent(original) as source:
        given = [feeds[place] for place in judging]
        expected = answers(Session(source, optimize=False), given, specs)
    name = metric or _usual(labels is not None, expected)
    metric_of(name).drop(expected, expected, flat(labels))
    return Task(
        Path(), [feeds[place] for place in sorted(chosen)], given, labels, name,
        budget.latency is not None, seed, data.synthetic, list(expected),
    )  # fmt: skip


def _cautions(task: Task) -> Iterator[str]:
    """Yield what makes the figures of a search doubtful."""
    if task.synthetic:
        yield MADE_UP
    if task.judging and task.judging[0] is task.fitting[0]:
        yield "so few samples that all of them were fitted to and judged"


def _usual(labelled: bool, expected: Sequence[Mapping[str, Any]]) -> str:
    """Return the metric for a model of which nothing is said."""
    outputs = [np.asarray(value) for value in expected[0].values()]
    classes = len(outputs) == 1 and outputs[0].dtype.kind == "f" and outputs[0].ndim == 2
    if not classes or outputs[0].shape[1] < 2:
        return "sqnr"
    return "top1" if labelled else "agreement"


class _Search:
    """The candidates of one search, and which to try next."""

    def __init__(
        self, task: Task, budget: Budget, state: State, jobs: int, backend: workers.Backend,
        scheduler: str | None,
    ) -> None:  # fmt: skip
        self.task, self.budget, self.state = task, budget, state
        self.jobs, self.backend, self.scheduler = jobs, backend, scheduler
        self.found: dict[str, Candidate] = {}
        self.notes: list[str] = []
        self.deadline: float | None = None
        self.progress: Progress = silent

    # Trying

    def climb(self, ladders: Mapping[str, Sequence[str]], everything: bool) -> None:
        """Find for each method the strongest level that is good enough, by bisection."""
        if everything:
            self._try([(spec, name) for name, specs in ladders.items() for spec in specs])
            return
        open_ = {name: (0, len(specs)) for name, specs in ladders.items()}
        while open_ and not self._is_late():
            middle = {name: (low + high) // 2 for name, (low, high) in open_.items()}
            self._try([(ladders[name][place], name) for name, place in middle.items()])
            for name, place in middle.items():
                low, high = open_.pop(name)
                tried = self.found.get(ladders[name][place])
                if tried is None:
                    continue
                low, high = (place + 1, high) if self._may_go_on(tried) else (low, place)
                if low < high:
                    open_[name] = low, high

    def mix(self, everything: bool) -> list[dict[str, str | int | float | None]]:
        """Give every layer a level of its own; return what was measured for that."""
        if self._is_late():
            return []
        self.progress("measuring layers", 0, 0)
        model = Model.load(self.task.model)
        try:
            measured = mixture.measure(model, self.task.calibration(), self.task.seed)
        except MissingData as error:
            self.notes.append(f"layers were not told apart: {error}")
            return []
        if mixture.is_worth_it(measured):
            self.climb({"a level for every layer": measured.specs()}, everything)
        return measured.table()

    def _may_go_on(self, tried: Candidate) -> bool:
        """Say whether a stronger level may be wanted."""
        if tried.failed is not None:
            return tried.failed == "nothing changed"
        if self.budget.max_drop is not None:
            return self._is_good(tried)
        return not self._is_cheap(tried)

    def _try(self, wanted: Sequence[tuple[str, str]]) -> None:
        """Judge candidates that were not judged before."""
        todo = []
        for spec, method in wanted:
            known = self.state.recall(spec)
            if known is not None:
                self.found[spec] = known
            elif spec not in self.found:
                todo.append((spec, method, self.state.place(spec)))
        size = max(1, self.jobs) if self.backend == "local" else len(todo) or 1
        for at in range(0, len(todo), size):
            if self._is_late():
                return
            some = todo[at : at + size]
            self.progress(f"trying {some[0][1]}", len(self.found), 0)
            work = functools.partial(_judged, self.task)
            jobs = self.jobs if len(some) > 1 else 1
            for made in workers.each(work, some, jobs, self.backend, self.scheduler, _lost):
                self.found[made.spec] = made
                self.state.keep(made)

    def _is_late(self) -> bool:
        late = self.deadline is not None and time.monotonic() > self.deadline
        if late and _LATE not in self.notes:
            self.notes.append(_LATE)
        return late

    # Choosing

    def best(self) -> Candidate:
        """Return the best candidate inside the budget. Raises BudgetMissed."""
        made = [one for one in self.found.values() if one.failed is None]
        inside = [one for one in made if self._is_good(one) and self._is_cheap(one)]
        if not inside:
            raise BudgetMissed(self._why(made))
        return min(inside, key=self._key)

    @property
    def _key(self) -> Callable[[Candidate], tuple[float, ...]]:
        if self.budget.latency is not None:
            return lambda one: (one.latency or 0.0, one.size, one.drop)
        if self.budget.max_drop is None:
            return lambda one: (one.drop, one.size)
        return lambda one: (one.size, one.drop)

    def _is_good(self, one: Candidate) -> bool:
        return self.budget.is_good(one.drop, one.bound)

    def _is_cheap(self, one: Candidate) -> bool:
        small = self.budget.size is None or one.size <= self.budget.size
        return small and (self.budget.latency is None or (one.latency or 0) <= self.budget.latency)

    def _why(self, made: Sequence[Candidate]) -> str:
        """Say what came closest."""
        said = ["no model is inside the budget"]
        good = [one for one in made if self._is_good(one)]
        cheap = [one for one in made if self._is_cheap(one)]
        if good and self.budget.size is not None:
            least = min(good, key=lambda one: one.size)
            said.append(f"the smallest that is good enough has {least.size:,} bytes ({least.spec})")
        if good and self.budget.latency is not None:
            fast = min(good, key=lambda one: one.latency or 0.0)
            said.append(f"the fastest takes {fast.latency:.2f} of the time ({fast.spec})")
        if cheap and self.budget.max_drop is not None:
            better = min(cheap, key=lambda one: one.bound if self.budget.sure else one.drop)
            said.append(
                f"the best within the limits drops by {better.drop:.4g}, 95 % below "
                f"{better.bound:.4g} ({better.spec})"
            )
        if not made:
            said.append("no candidate could be made: " + "; ".join(
                dict.fromkeys(str(one.failed) for one in self.found.values())
            ))  # fmt: skip
        return "; ".join(said + self.notes)


def _judged(task: Task, item: tuple[str, str, Path]) -> Candidate:
    spec, method, place = item
    return judged(task, spec, method, place)


def _lost(item: tuple[str, str, Path]) -> Candidate:
    spec, method, _ = item
    return Candidate(spec, method, 0, math.inf, math.inf, failed=workers.LOST)
