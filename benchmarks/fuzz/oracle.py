"""What must hold of a slimmed model, and what is wrong where it does not."""

from __future__ import annotations

import contextlib
import functools
import logging
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx
from onnx import ModelProto

from benchmarks.fuzz import motifs  # noqa: F401 (importing it offers the motifs to the grower)
from benchmarks.fuzz.grower import Grower
from benchmarks.fuzz.opinion import agree_in_double, hangs_on_last_bits, is_random, lawful
from benchmarks.fuzz.sweep import sweep
from benchmarks.fuzz.values import Feed
from onnxslim import api
from onnxslim.base import Effect, Pass
from onnxslim.data import Calibration
from onnxslim.errors import BrokenModel, CannotRun, OnnxslimError
from onnxslim.ir import Model
from onnxslim.registry import parse
from onnxslim.runtime import Session
from onnxslim.shapes import say_clearly
from onnxslim.validate import Reference, check_structure

DOUBTFUL = ("onnxruntime", "rounding")
"""Kinds of differences that are no fault of a pass; they are counted apart.

``onnxruntime``: the result is right as long as onnxruntime does not optimize it, or onnxruntime
refuses to compute it although it has the kernels, or the original does what ONNX forbids.
``rounding``: it computes something else. Then original and result agree when onnx's reference
implementation computes both in double.
"""
_SECOND_OPINION = {"differs": "rounding", "fails": "onnxruntime", "broken": "onnxruntime"}
_NO_KERNEL = "Could not find an implementation"
"""What onnxruntime says of an operator that it cannot run for these types, or at all."""
_RANKLESS = "the rank of "
"""How a warning begins that is due: nothing says what rank a wanted output has."""
_RARELY = 8
"""Every so many models are slimmed again, and others once more from the start."""
_OPTIMIZED = 4
"""Every so many results are also run with onnxruntime's optimizations."""
GROWING, SLIMMING, COMPARING, OPTIMIZING = range(4)
"""Where a check is, for those who see only that it ended the process."""


@dataclass(frozen=True)
class Find:
    """What is wrong with a model."""

    kind: str
    detail: str

    @property
    def key(self) -> str:
        """The same for what probably has one cause."""
        return re.sub(r"'[^']*'|\d[\d.e+-]*", "_", f"{self.kind}: {self.detail}")[:160]

    @property
    def doubtful(self) -> bool:
        """Whether no pass is at fault."""
        return self.kind in DOUBTFUL


class _Crashes(logging.Handler):
    """Takes down crashes of passes, also of those that end well in a second run."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Take down what a pipeline says of a crash."""
        if str(record.msg).startswith("%s; starting over"):
            self.seen.append(str(record.args[0]) if isinstance(record.args, tuple) else "")


@contextlib.contextmanager
def _watched() -> Iterator[list[str]]:
    """Yield a list that crashes of passes are put into."""
    logger, crashes = logging.getLogger("onnxslim.pipeline"), _Crashes()
    before = logger.level, logger.propagate
    logger.addHandler(crashes)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield crashes.seen
    finally:
        logger.removeHandler(crashes)
        logger.setLevel(before[0])
        logger.propagate = before[1]


@functools.cache
def recipe() -> tuple[Pass, ...]:
    """Return the passes under test."""
    return parse("lossless")


@dataclass
class Case:
    """A model, and feeds for it that run."""

    proto: ModelProto
    feeds: list[Feed]
    edits: dict[str, Any] = field(default_factory=dict)
    """Keywords of `onnxslim.run` that change the model first."""
    turn: int = -1
    """Which of the rarer checks there are: at 0 the result is slimmed again, at 4 the model once
    more; at multiples of 4 the result is also run with onnxruntime's optimizations."""
    careful: bool = False
    """Whether to say where the process ends if a pass is at fault, and where if none is."""
    kept: bool = False
    """Whether the original runs, so that there is something to compare with."""
    reach: Callable[[int], None] = lambda stage: None

    def check(self) -> Find | None:
        """Slim the model; say what is wrong with the result. Sets ``kept``."""
        original = self._original()
        model = Model.from_proto(original)
        source = original.SerializeToString()
        reference = Reference(source, model, Calibration.of(self.feeds))
        self.kept = reference.reason is None
        if not self.kept:
            return None
        self.reach(SLIMMING)
        try:
            with _watched() as crashes:
                outcome = api.run(self.proto, recipe(), check="off", **self.edits)
        except (OnnxslimError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            return Find("crash", f"{type(error).__name__}: {error}")
        if crashes:
            return Find("crash", crashes[0])
        return (
            self._warned(outcome)
            or self._compared(original, outcome.model, reference)
            or self._again(outcome, original)
        )

    def _original(self) -> ModelProto:
        """Return the model as it is to be before any pass: with the edits, made independently."""
        outputs = self.edits.get("outputs")
        if not outputs:
            return self.proto
        edited = ModelProto()
        edited.CopyFrom(self.proto)
        del edited.graph.output[:]
        edited.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
        sweep(edited)
        self.feeds = fitting(self.feeds, edited)
        return edited

    def _warned(self, outcome: api.Outcome) -> Find | None:
        for warning in outcome.report.warnings:
            if warning.startswith(_RANKLESS):
                continue
            changed = " ".join(s.name for s in outcome.report.steps if s.changes)
            if "more than the input" in warning:
                return Find("grows", f"{warning} {changed}")
            return Find("crash", warning)
        return None

    def _compared(self, original: ModelProto, result: Model, reference: Reference) -> Find | None:
        content = result.to_bytes()
        self.reach(COMPARING)
        if self.careful:
            self._survives(original, content)
            self.reach(OPTIMIZING)
        if not self.edits:
            try:
                check_structure(Model.from_proto(original), result, content)
            except BrokenModel as error:
                return self._judged(Find("broken", str(error)), original, content)
        both = self.turn % _OPTIMIZED == 0
        found = _difference(content, reference, both)
        if found is not None and both:
            plain = _difference(content, reference, both=False)
            if plain is None:
                return Find("onnxruntime", found.detail)
            found = plain
        return None if found is None else self._judged(found, original, content)

    def _survives(self, original: ModelProto, content: bytes) -> None:
        """Run what of the result has no second opinion in its favour, whatever comes of it."""
        result = onnx.load_from_string(content)
        for name in [output.name for output in original.graph.output]:
            old, new = cut(original, name), cut(result, name)
            feeds = fitting(self.feeds, new)
            if not agree_in_double(old, new, fitting(self.feeds, old)):
                with contextlib.suppress(CannotRun):
                    session = Session(new.SerializeToString(), optimize=False)
                    for feed in feeds:
                        session.run(feed)

    def _judged(self, found: Find, original: ModelProto, content: bytes) -> Find:
        """Ask for a second opinion, of one output at a time; name the passes at fault."""
        result = onnx.load_from_string(content)
        if _NO_KERNEL in found.detail:
            excused = False
        elif found.kind == "broken":
            excused = not lawful(original, self.feeds)
        else:
            names = [output.name for output in original.graph.output]
            feeds = lawful(original, self.feeds)
            excused = all(excuse(cut(original, name), cut(result, name), feeds) for name in names)
        return Find(_SECOND_OPINION[found.kind], found.detail) if excused else self._blamed(found)

    def _again(self, outcome: api.Outcome, original: ModelProto) -> Find | None:
        """Check what no single run shows; most of it is dear, and done for some models only."""
        if not outcome.report.changed:
            return None
        content = outcome.model.to_bytes()
        if not self.edits and len(content) > original.ByteSize():
            return Find("larger", f"{len(content) - original.ByteSize()} bytes")
        if self.turn == 0:
            second = api.run(onnx.load_from_string(content), recipe(), check="off")
            if second.model.to_bytes() != content:
                changed = " ".join(s.name for s in second.report.steps if s.changes)
                return Find("twice", changed or "no pass, but other bytes")
        if self.turn == _RARELY // 2:
            repeat = api.run(self.proto, recipe(), check="off", **self.edits)
            if repeat.model.to_bytes() != content:
                return Find("random", "another result for the same model")
        return None

    def _blamed(self, found: Find) -> Find:
        """Name the passes that a run with checks leaves out."""
        try:
            checked = api.run(self.proto, recipe(), check="each", data=self.feeds, **self.edits)
        except Exception as error:  # whatever it is, it is no reason to lose the find
            return Find(found.kind, f"{found.detail} ({error})")
        names = [w.split(" ", 1)[0] for w in checked.report.warnings]
        blame = ", ".join(names) or "several passes together"
        return Find(found.kind, f"{found.detail} because of {blame}")


def _difference(content: bytes, reference: Reference, both: bool) -> Find | None:
    """Compare, without onnxruntime's optimizations and, where *both*, also with them."""
    try:
        difference = reference.compare(content, Effect.ROUNDING, both)
    except BrokenModel as error:
        text = str(error)
        return Find("fails" if "does not run" in text else "differs", text)
    if difference.passed:
        return None
    return Find("differs", f"{difference.output!r} by {difference.relative:.2g}")


def excuse(original: ModelProto, result: ModelProto, feeds: list[Feed]) -> bool:
    """Say whether no pass is at fault where the only output of a model is another."""
    feeds = fitting(feeds, original)
    if not feeds:
        return True
    known = {info.name for info in result.graph.input}  # what nothing reads was swept away
    result.graph.input.extend(i for i in original.graph.input if i.name not in known)
    source = original.SerializeToString()
    reference = Reference(source, Model.from_proto(original), Calibration.of(feeds))
    clear = ModelProto.FromString(result.SerializeToString())
    say_clearly(clear)  # what onnxruntime, which infers shapes as ONNX does, misreads
    same = reference.reason is None and any(
        _difference(proto.SerializeToString(), reference, both=False) is None
        for proto in (result, clear)
    )
    excuses = hangs_on_last_bits(original, feeds) or is_random(original, feeds)
    return same or excuses or agree_in_double(original, result, feeds)


def cut(proto: ModelProto, name: str) -> ModelProto:
    """Return the part of a model that computes one of its outputs."""
    part = ModelProto()
    part.CopyFrom(proto)
    for output in [o for o in part.graph.output if o.name != name]:
        part.graph.output.remove(output)
    sweep(part)
    return part


def fitting(feeds: Sequence[Feed], proto: ModelProto) -> list[Feed]:
    """Leave out of *feeds* what is no input."""
    names = {info.name for info in proto.graph.input}
    return [{key: value for key, value in feed.items() if key in names} for feed in feeds]


def grown(seed: int, edits: bool = True) -> Case | None:
    """Grow the model of a seed; None where there is none."""
    grower = Grower(seed)
    grower.grow()
    made = grower.result()
    if made is None:
        return None
    case = Case(*made, turn=seed % _RARELY)
    if edits and seed % 6 == 1:
        _edit(case, random.Random(seed))
    return case


def _edit(case: Case, dice: random.Random) -> None:
    """Let the caller ask for fixed shapes, other outputs or a limit to folding."""
    kind = dice.choice(("input_shapes", "outputs", "size_threshold"))
    if kind == "size_threshold":
        case.edits = {kind: dice.choice((1, 64, 256))}
    elif kind == "input_shapes":
        case.feeds = case.feeds[:1]
        case.edits = {kind: {name: value.shape for name, value in case.feeds[0].items()}}
    else:
        inputs = {info.name for info in case.proto.graph.input}
        for output in [o for o in case.proto.graph.output if o.name in inputs]:
            case.proto.graph.output.remove(output)
        sweep(case.proto)
        case.feeds = fitting(case.feeds, case.proto)
        nodes = [node for node in case.proto.graph.node if node.op_type != "Constant"]
        case.edits = {kind: [dice.choice(nodes).output[0]]}
