"""Run passes to a fixed point, check the result against the original, and tell what happened."""

from __future__ import annotations

import functools
import importlib.metadata
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

from onnxslim import cost, runtime, shapes
from onnxslim.base import Context, Effect, HeldOut, Memory, Notebook, Pass
from onnxslim.cost import Stats
from onnxslim.data import Calibration
from onnxslim.errors import (
    BrokenModel,
    BudgetMissed,
    DataError,
    MissingData,
    OnnxslimError,
    Unfused,
)
from onnxslim.ir import Array, Model, collect_young, no_collection
from onnxslim.runtime import lent as _source
from onnxslim.shapes import Facts
from onnxslim.validate import Difference, Reference, adjustable, check_structure

logger = logging.getLogger(__name__)

Check = Literal["each", "end", "off"]
MAX_ERROR = 0.1
"""What lossy passes may move outputs by, relative to their scale, where nothing else is said."""
MADE_UP = "calibrated on made-up data: expect a loss of accuracy"


class Progress(Protocol):
    """Is told what a pipeline is doing."""

    def __call__(self, what: str, done: int, total: int) -> None:
        """*what* starts now, as item *done* of *total*; 0 of 0 where nobody knows."""


def silent(what: str, done: int, total: int) -> None:
    """Report no progress."""


@dataclass(frozen=True)
class Step:
    """What one pass did, over all rounds."""

    name: str
    effect: str
    changes: int = 0
    seconds: float = 0.0
    skipped: str | None = None
    declined: dict[str, int] = field(default_factory=dict)
    places: tuple[tuple[str, str], ...] = ()
    difference: Difference | None = None
    notes: tuple[dict[str, Any], ...] = ()
    """Rows of the table that the pass made, as of the last round in which it changed something."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain data with the documented keys."""
        return {
            "pass": self.name,
            "effect": self.effect,
            "changes": self.changes,
            "seconds": round(self.seconds, 6),
            "skipped": self.skipped,
            "declined": self.declined,
            "difference": None if self.difference is None else self.difference.as_dict(),
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class OutputError:
    """How far an output moved, in itself and relative to its scale, and how far rounding may."""

    name: str
    max_abs: float
    relative: float | None
    """None where integers or texts differ."""
    allowed: float | None


@dataclass(frozen=True)
class Validation:
    """How the result compares with the original model."""

    feeds: int = 0
    max_abs: float | None = None
    relative: float | None = None
    allowed: float | None = None
    onnxruntime: float | None = None
    """What onnxruntime's own optimizations change on the original, relative; None where they do
    not run, and where many nodes make it slow to measure and the verdict does not hang on it."""
    passed: bool | None = None
    """None where nothing was compared; `reason` then says why."""
    sqnr: float | None = None
    """Signal-to-noise ratio of the worst output in dB, measured after lossy passes."""
    reason: str | None = None
    held_out: HeldOut | None = None
    """How the result answers on samples that were not learned from, after tuning."""
    outputs: tuple[OutputError, ...] = ()
    """Each output by itself; those above are of the worst."""


@dataclass(frozen=True)
class Report:
    """What a pipeline did, measured."""

    before: Stats
    after: Stats
    steps: tuple[Step, ...]
    validation: Validation
    seconds: float
    warnings: tuple[str, ...] = ()

    @property
    def versions(self) -> dict[str, str]:
        """The versions of onnxslim and of what it computes with."""
        return versions()

    @property
    def changed(self) -> bool:
        """Whether any pass changed the model."""
        return any(step.changes for step in self.steps)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, ready for ``json.dumps``; its keys are stable."""
        return {
            "before": asdict(self.before),
            "after": asdict(self.after),
            "steps": [step.as_dict() for step in self.steps],
            "validation": asdict(self.validation),
            "seconds": round(self.seconds, 6),
            "warnings": list(self.warnings),
            "versions": self.versions,
        }


def versions() -> dict[str, str]:
    """Return the versions of onnxslim and of what it computes with."""
    names = ("onnxslim", "onnx", "onnxruntime", "onnx-graphsurgeon", "numpy", "scikit-learn")
    return {name: _version(name) for name in names}


@functools.cache
def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


@contextmanager
def _original(model: Model) -> Iterator[runtime.Source]:
    """Lend the original: its own file where it has one."""
    if model.path is not None and model.pristine:
        yield model.path
        return
    with _source(model) as source:
        yield source


@dataclass(frozen=True)
class Pipeline:
    """Passes in order, repeated until none changes anything; the input model is not touched.

    *check* says when the result is compared with the original: after every pass, at the end (then a
    failing pass is found by a second run and left out), or never. *rounds* bounds the repetition.
    Lossy passes may move outputs by *budget*, relative to their scale (0.1 if nothing is given),
    and down to a signal-to-noise ratio of *min_sqnr* dB at the worst output of floats. *importance*
    is the Fisher information of weights, by initializer, for the passes that ask for it.
    """

    passes: tuple[Pass, ...]
    rounds: int = 20
    check: Check = "end"
    budget: float | None = None
    seed: int = 0
    min_sqnr: float | None = None
    importance: Mapping[str, Array] | None = None

    @property
    def effect(self) -> Effect:
        """The largest effect of any pass."""
        return max((step.effect for step in self.passes), default=Effect.EXACT)

    @property
    def max_error(self) -> float:
        """What lossy passes may move outputs by."""
        if self.budget is not None:
            return self.budget
        return MAX_ERROR if self.min_sqnr is None else math.inf

    def __call__(
        self, model: Model, data: Calibration | None = None, progress: Progress = silent
    ) -> tuple[Model, Report]:
        """Return the rewritten model and the report.

        Raises MissingData when a pass needs calibration data, BrokenModel when the result differs
        from the original although every pass alone was checked, ModelError for an invalid input.
        """
        for wanting in self.passes:
            lacking = wanting.lacking(data is not None, self.importance is not None)
            if lacking is not None:
                raise MissingData(f"{wanting.name} needs {lacking}")
        return _Run(self, model, data, progress)()


class _Run:
    """One run of a pipeline on one model."""

    def __init__(
        self, pipeline: Pipeline, model: Model, data: Calibration | None, progress: Progress
    ) -> None:
        self.pipeline, self.model, self.data, self.progress = pipeline, model, data, progress
        self.done = [_Tally(step) for step in pipeline.passes]
        self.warnings: list[str] = []
        self.checked = False
        """Whether every pass was checked, so that a second run would tell nothing new."""
        self.resigned = False
        """Whether fusions were looked after as far as that goes."""
        self.facts: tuple[Model, Facts] | None = None
        self.asked = False
        """Whether a pass of this round has seen `facts`, so that they stay until its end."""
        self.memory = Memory()
        self.revision = 0
        """How often passes have changed something."""
        self.agreement: tuple[Facts, Facts, bool] | None = None
        """Whether these two say the same of the model."""
        self.reference: Reference | None = None

    def __call__(self) -> tuple[Model, Report]:
        start = time.perf_counter()
        current = self.model.copy()
        current.check()
        skeleton = None if current.sort() else self.model.skeleton()
        self.facts = (current, shapes.infer(current, skeleton=skeleton))
        before = cost.measure(current, self._infer(current), self.model.disk_size())
        with _original(self.model) as source:
            if self.pipeline.check == "each":
                result = self._checked(source, current)
            else:
                result = self._unchecked(source, current)
            result, after, validation = self._finished(result, source, before)
        self._warn_of_made_up_data()
        steps = tuple(tally.step() for tally in self.done)
        seconds = time.perf_counter() - start
        return result, Report(before, after, steps, validation, seconds, tuple(self.warnings))

    # Running passes

    def _copy(self) -> Model:
        current = self.model.copy()
        current.sort()
        return current

    def _unchecked(self, source: runtime.Source, current: Model) -> Model:
        """Run all passes on *current*; on a crash start over, checking each."""
        try:
            with no_collection():
                self._rounds(lambda: current, lambda tally: self._apply(tally, current))
        except _Guilty as guilty:
            logger.info("%s; starting over, checking each pass", guilty)
            return self._checked(source, self._copy())
        return current

    def _checked(self, source: runtime.Source, current: Model) -> Model:
        """Run all passes, each on a copy that is kept if it ends well and passes the checks."""
        self.done, self.checked = [_Tally(step) for step in self.pipeline.passes], True

        def attempt(tally: _Tally) -> int:
            nonlocal current
            candidate, changes = current.copy(), 0
            try:
                changes = self._apply(tally, candidate)
                if changes:
                    candidate.sort()
                    if self.pipeline.check != "off":
                        self._accept(tally, candidate, source)
                    current = candidate
                return changes
            except (_Guilty, BrokenModel) as reason:
                tally.take_back(changes)
                tally.skip(f"left out on this model: {reason}")
                self.warnings.append(f"{tally.kind.name} was left out on this model: {reason}")
                return 0

        self._rounds(lambda: current, attempt)
        return current

    def _fused(self, source: runtime.Source) -> Model:
        """Run all passes again, but leave out those that cost a fusion of onnxruntime.

        Only passes that changed something before are looked at.
        """
        suspects = {tally.kind.name for tally in self.done if tally.changes}
        self.done = [_Tally(step) for step in self.pipeline.passes]
        current = self._copy()

        def attempt(tally: _Tally) -> int:
            nonlocal current
            if tally.kind.name not in suspects:
                return self._apply(tally, current)
            candidate = current.copy()
            changes = self._apply(tally, candidate)
            if changes:
                candidate.sort()
                with _source(candidate) as content:
                    lost = self._reference(source).fuses_less(content)
                if lost is not None:
                    tally.take_back(changes)
                    tally.skip(f"left out on this model: {lost}")
                    return 0
                current = candidate
            return changes

        try:
            with no_collection():
                self._rounds(lambda: current, attempt)
        except (_Guilty, BrokenModel) as reason:
            logger.info("%s; starting over, checking each pass", reason)
            return self._checked(source, self._copy())
        return current

    def _rounds(self, current: Callable[[], Model], run: Callable[[_Tally], int]) -> None:
        for round_ in range(self.pipeline.rounds):
            self.asked, changes = False, 0
            for index, tally in enumerate(self.done):
                self.progress(f"round {round_ + 1}: {tally.kind.name}", index, len(self.done))
                rests = tally.skipped or (round_ and tally.kind.once)
                changes += 0 if rests else run(tally)
            if not changes:
                return
            self.facts = None

    def _apply(self, tally: _Tally, model: Model) -> int:
        step = tally.kind
        for precondition in step.preconditions:
            reason = precondition(model)
            if reason is not None:
                tally.skip(reason)
                return 0
        if self._is_idle(tally, model):
            return 0
        context, start = self._context(tally), time.perf_counter()
        changes = self._changes(step, model, context)
        collect_young()
        tally.add(changes, time.perf_counter() - start, context)
        self.revision += bool(changes)
        tally.idle = None if changes else _Idle(model, self.revision, context.known)
        if changes and (step.effect is Effect.LOSSY or not self.asked):
            self.facts = None
        logger.info("%s: %d changes", step.name, changes)
        return changes

    def _context(self, tally: _Tally) -> Context:
        return Context(
            self.data,
            self.pipeline.seed,
            original=self.model,
            importance=self.pipeline.importance,
            infer=self._lend,
            outdate=self._outdate,
            run=runtime.evaluate,
            memory=self.memory,
            vain=tally.vain,
            compare=self._distance,
            measure_noise=self._noise,
            measure_noises=self._noises,
            progress=self.progress,
        )

    def _changes(self, step: Pass, model: Model, context: Context) -> int:
        """Apply *step* and put the graph in order. Raises _Guilty where that fails."""
        try:
            changes = step.apply(model, context)
            if changes:
                self.memory.forget()
                model.compact()
                model.sort()
                model.names.renew()
        except DataError:
            raise  # wherever a pass meets it, what the user gave cannot be used
        except OnnxslimError as error:
            raise _Guilty(f"{step.name}: {error}") from error
        except Exception as error:
            logger.debug("%s crashed", step.name, exc_info=True)
            raise _Guilty(f"{step.name} crashed: {type(error).__name__}: {error}") from error
        return changes

    def _is_idle(self, tally: _Tally, model: Model) -> bool:
        """Say whether a pass that found nothing to do would see again what it saw then."""
        idle = tally.idle
        if idle is None or idle.model is not model or idle.revision != self.revision:
            return False
        if idle.facts is None:
            return True
        return self._agree(idle.facts, self._lend(model), model)

    def _agree(self, before: Facts, now: Facts, model: Model) -> bool:
        """Say whether facts still are what they were *before*."""
        if before is now:
            return True
        if self.agreement is None or self.agreement[:2] != (before, now):
            self.agreement = before, now, before.says_the_same(now, model)
        return self.agreement[2]

    def _infer(self, model: Model) -> Facts:
        """Infer shapes once a round: rewriting keeps facts true, only new tensors lack them.

        What was inferred before the round serves as long as nothing has changed.
        """
        if self.facts is None or self.facts[0] is not model:
            self.facts = (model, shapes.infer(model))
        return self.facts[1]

    def _lend(self, model: Model) -> Facts:
        """Infer for a pass, which makes the facts those of the round."""
        self.asked = True
        return self._infer(model)

    def _outdate(self) -> None:
        """Drop the facts, because shapes of tensors that they tell of changed."""
        self.facts = None

    def _warn_of_made_up_data(self) -> None:
        if self.data is None or not self.data.synthetic:
            return
        for tally in self.done:
            if tally.kind.effect is Effect.LOSSY and tally.calibrated and tally.changes:
                self.warnings.append(f"{tally.kind.name}: {MADE_UP}")

    # Checking results

    def _distance(self, model: Model) -> float:
        """Compare for a pass that judges by the outputs."""
        with self._compared(model) as (reference, content):
            return reference.compare(content, Effect.LOSSY).relative

    def _noise(self, model: Model) -> float:
        """Measure for a pass that judges by the noise of the outputs."""
        with self._compared(model) as (reference, content):
            return reference.noise(content)

    def _noises(
        self,
        model: Model,
        names: Collection[str],
        variants: Iterable[Mapping[str, Array]],
        feeds: int | None,
    ) -> Iterator[float]:
        """Measure for a pass that tries values for constants of a model."""
        with self._compared(adjustable(model, names)) as (reference, content):
            yield from reference.noises(content, variants, feeds)

    @contextmanager
    def _compared(self, model: Model) -> Iterator[tuple[Reference, runtime.Source]]:
        with _original(self.model) as source, _source(model) as content:
            reference = self._reference(source)
            if reference.reason is not None:
                raise MissingData(f"nothing to compare with: {reference.reason}")
            yield reference, content

    def _never_larger(self, result: Model, before: Stats) -> tuple[Model, Stats]:
        """Return the input where the result would be no gain; with the result's stats."""
        if not any(tally.changes for tally in self.done):
            return self.model, before
        exported = result.copy()
        size = exported.size()
        grows = any(tally.kind.may_grow and tally.changes for tally in self.done)
        if size <= before.bytes or grows:
            return exported, cost.measure(result, self._infer(result), size)
        self.warnings.append(
            f"the result would take {size - before.bytes} bytes more than the input; "
            "the input is returned"
        )
        return self.model, before

    def _finished(
        self, result: Model, source: runtime.Source, before: Stats
    ) -> tuple[Model, Stats, Validation]:
        """Return the result, measured and compared; if it fails, that of a run with checks."""
        result, after = self._never_larger(result, before)
        if self.pipeline.check == "off":
            return result, after, Validation(reason="switched off")
        if result is self.model:
            return result, after, Validation(reason="nothing changed")
        try:
            return result, after, self._compare(result, source)
        except Unfused as error:
            logger.info("%s; looking for the pass that did it", error)
            self.resigned = True
            result = self._fused(source)
        except BrokenModel as error:
            if self.checked:
                raise
            logger.warning("%s; looking for the pass that did it", error)
            result = self._checked(source, self._copy())
        return self._finished(result, source, before)

    def _accept(self, tally: _Tally, candidate: Model, source: runtime.Source) -> None:
        with _source(candidate) as content:
            check_structure(self.model, candidate, content)
            reference = self._reference(source)
            if reference.reason is None:
                tally.difference = self._difference(reference, content)

    def _compare(self, result: Model, source: runtime.Source) -> Validation:
        self.progress("validating", 0, 0)
        with _source(result) as content:
            check_structure(self.model, result, content)
            reference = self._reference(source)
            if reference.reason is not None:
                self.warnings.append(f"not validated: {reference.reason}")
                return Validation(passed=None, reason=reference.reason)
            found = self._difference(reference, content)
            if self.resigned and reference.unfused is not None:
                self.warnings.append(f"no single pass is to blame, but {reference.unfused}")
            allowed, sqnr = found.allowed, None
            if self.pipeline.effect is Effect.LOSSY:
                allowed = max(allowed, self._max_error())
                sqnr = self._sqnr(reference, content)
        return Validation(
            reference.count, found.max_abs, found.relative, _finite(allowed), found.onnxruntime,
            passed=True, sqnr=_finite(sqnr), reason=reference.note, held_out=self._held_out(),
            outputs=tuple(map(_output_error, found.outputs)),
        )  # fmt: skip

    def _difference(self, reference: Reference, content: runtime.Source) -> Difference:
        """Compare by what the pipeline may do. Raises BrokenModel where that is exceeded."""
        found = reference.compare(content, self.pipeline.effect)
        moved = f"output {found.output!r} moved by {found.relative:.2g} of its scale"
        if self.pipeline.effect is not Effect.LOSSY:
            if not found.passed:
                raise BrokenModel(f"{moved}, allowed is {found.allowed:.2g}")
            if reference.unfused is not None and not self.resigned:
                raise Unfused(reference.unfused)
            return found
        least, allowed = self.pipeline.min_sqnr, self._max_error()
        sqnr = None if least is None else self._sqnr(reference, content)
        if least is not None and sqnr is None:
            allowed = min(allowed, MAX_ERROR)
        if found.relative > max(allowed, found.allowed):
            raise BrokenModel(f"{moved}, more than {allowed:.2g}{_way_out(found.relative)}")
        if least is not None and sqnr is not None and sqnr < least:
            raise BrokenModel(
                f"the signal-to-noise ratio of an output is {sqnr:.1f} dB, less than {least:g}; "
                f"--min-sqnr {math.floor(sqnr)} would allow it"
            )
        return found

    def _max_error(self) -> float:
        """Return how far outputs may move.

        Where nothing is said, a pass that judges by samples it held out has the last word: its
        own measure must not be worse than `MAX_ERROR`. Raises BudgetMissed where it is.
        """
        if self.pipeline.budget is not None or self.pipeline.min_sqnr is not None:
            return self.pipeline.max_error
        if any(t.kind.judges and not (t.ran or t.skipped) for t in self.done):
            return math.inf  # whatever it is now, the judge is still to come
        held = self._held_out()
        if held is None:
            return self.pipeline.max_error
        if not held.loss <= MAX_ERROR:
            allowed = 1 - MAX_ERROR if held.metric == "agreement" else MAX_ERROR
            raise BudgetMissed(
                f"on samples that were held out, the {held.metric} with the original is "
                f"{held.score:.1%}, allowed is {allowed:.0%}; take away less, tune for longer, or "
                "allow all with --max-error inf"
            )
        return math.inf

    def _held_out(self) -> HeldOut | None:
        """Return what the last pass that changed the function measured, if it judges."""
        for tally in reversed(self.done):
            if tally.held_out is not None or (tally.changes and tally.kind.effect is Effect.LOSSY):
                return tally.held_out
        return None

    def _sqnr(self, reference: Reference, content: runtime.Source) -> float | None:
        """Return the signal-to-noise ratio of the worst output in dB, None without floats."""
        try:
            noise = reference.noise(content)
        except MissingData:
            return None
        if not math.isfinite(noise):
            return -math.inf
        return -10 * math.log10(noise) if noise else math.inf

    def _reference(self, source: runtime.Source) -> Reference:
        if self.reference is None:
            self.reference = Reference(source, self.model, self.data, self.pipeline.seed)
        return self.reference


def _output_error(found: Difference) -> OutputError:
    relative, allowed = (_finite(value) for value in (found.relative, found.allowed))
    return OutputError(found.output, found.max_abs, relative, allowed)


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def _way_out(moved: float) -> str:
    """Say which option would allow outputs to move so far."""
    if math.isinf(moved):
        return ": integers, texts, infinities or NaN differ"
    digits = 1 - math.floor(math.log10(moved))
    return f"; --max-error {math.ceil(moved * 10**digits) / 10**digits:g} would allow it"


class _Guilty(Exception):
    """A pass could not finish."""


@dataclass
class _Idle:
    """What a pass saw that found nothing to do."""

    model: Model
    revision: int
    facts: Facts | None


class _Tally:
    """What a pass has done so far."""

    def __init__(self, kind: Pass) -> None:
        self.kind = kind
        self.changes, self.seconds = 0, 0.0
        self.calibrated = False
        """Whether it looked at the calibration data."""
        self.skipped: str | None = None
        self.declined: Counter[str] = Counter()
        self.places: list[tuple[str, str]] = []
        self.notes: list[dict[str, Any]] = []
        self.difference: Difference | None = None
        self.ran = False
        self.held_out: HeldOut | None = None
        self.idle: _Idle | None = None
        """What it saw the last time, if it found nothing to do."""
        self.vain = Notebook()

    def add(self, changes: int, seconds: float, context: Context) -> None:
        """Count a round; what was declined is what the last one declined.

        Of a lossy pass, which then declines what it did, the first round that changed anything.
        """
        done = self.changes and self.kind.effect is Effect.LOSSY
        self.ran = True
        self.changes += changes
        self.seconds += seconds
        self.calibrated |= context.calibrated
        if not done:
            self.declined, self.places = context.declined, context.places
        if changes or not self.notes:
            self.notes, self.held_out = context.notes, context.held_out

    def take_back(self, changes: int) -> None:
        """Forget changes that were not accepted."""
        self.changes -= changes

    def skip(self, reason: str) -> None:
        """Leave the pass out from now on."""
        self.skipped = reason

    def step(self) -> Step:
        """Return the final account."""
        return Step(
            self.kind.name, self.kind.effect.name.lower(), self.changes, self.seconds,
            self.skipped, dict(self.declined), tuple(self.places), self.difference,
            tuple(self.notes),
        )  # fmt: skip
