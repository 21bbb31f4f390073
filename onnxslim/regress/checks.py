"""What a model answers now, beside what was recorded."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from onnx import helper

from onnxslim import api, metrics
from onnxslim.data import Feed
from onnxslim.errors import BrokenModel, CannotRun, InputError, SpecError
from onnxslim.ir import Model
from onnxslim.regress.records import Records, Value
from onnxslim.runtime import Session, Source, latency_ratio, lent
from onnxslim.validate import distance

_TIMED_FEEDS = 4


@dataclass(frozen=True)
class Limits:
    """How far a model may be from what was recorded.

    ``tolerance`` is the largest difference of an output relative to its scale; None keeps the
    recorded ones. With ``max_drop`` (``0.5%``, ``0.005``, ``30dB``) outputs are judged by
    ``metric`` instead: ``top1`` where there are labels, else ``agreement``, unless one is named.
    ``max_size`` is ``500KB``, ``0.3x`` or ``30%`` of the recorded model's bytes, None what was
    recorded. ``max_latency_ratio`` is relative to ``baseline``, or to the recorded model where it
    still lies there unchanged; None measures nothing.
    """

    tolerance: float | None = None
    max_drop: str | float | None = None
    metric: str | None = None
    max_size: str | int | None = None
    max_latency_ratio: float | None = None
    baseline: str | os.PathLike[str] | None = None


@dataclass(frozen=True)
class Finding:
    """One thing that was compared; ``found`` and ``allowed`` are for people."""

    name: str
    passed: bool
    found: str
    allowed: str


@dataclass(frozen=True)
class Verdict:
    """Everything that was compared of one model."""

    model: str
    references: str
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing regressed."""
        return all(finding.passed for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {"passed": self.passed, **asdict(self)}

    def __str__(self) -> str:
        lines = [f"{self.model} against {self.references}:"]
        for item in self.findings:
            mark = "ok  " if item.passed else "FAIL"
            lines.append(f"  {mark} {item.name}: {item.found} (allowed: {item.allowed})")
        return "\n".join(lines)


def check(
    model: api.Source, references: str | os.PathLike[str], limits: Limits | None = None
) -> Verdict:
    """Run *model* on recorded inputs and compare it with what was recorded in *references*.

    It runs without onnxruntime's optimizations and with all of them, and must pass with both.
    Raises InputError (a DataError, ModelError or SpecError) where something cannot be read.
    """
    records = Records.load(references)
    loaded = api.as_model(model)
    checker = _Checker(loaded, records, limits or Limits())
    name = loaded.path.name if loaded.path is not None else "model"
    return Verdict(name, str(references), tuple(checker.findings()))


def assert_model(
    model: api.Source,
    references: str | os.PathLike[str],
    *,
    tolerance: float | None = None,
    max_drop: str | float | None = None,
    metric: str | None = None,
    max_size: str | int | None = None,
    max_latency_ratio: float | None = None,
    baseline: str | os.PathLike[str] | None = None,
) -> None:
    """Raise AssertionError, with all that was compared, where *model* regressed; see `Limits`."""
    limits = Limits(tolerance, max_drop, metric, max_size, max_latency_ratio, baseline)
    verdict = check(model, references, limits)
    if not verdict.passed:
        raise AssertionError(str(verdict))


def size_limit(text: str | int, recorded: int) -> int:
    """Read a number of bytes: ``500KB``, ``2MB``, ``0.3x`` or ``30%`` of *recorded*.

    KB are 1,000 bytes, KiB 1,024. Raises SpecError.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(x|%|([KMG]i?)?B)?\s*", str(text))
    if found is None:
        raise SpecError(f"{text!r} is no size; write 500KB, 2MB, 0.3x or 30%")
    number, unit = float(found[1]), found[2]
    if unit in ("x", "%"):
        return int(number * recorded / (100 if unit == "%" else 1))
    prefix = found[3] or ""
    base = 1024 if prefix.endswith("i") else 1000
    return int(number * base ** (" KMG".index(prefix[0]) if prefix else 0))


class _Checker:
    """One call of `check`."""

    def __init__(self, model: Model, records: Records, limits: Limits) -> None:
        self.model, self.records, self.limits = model, records, limits
        self.labels = records.labels()
        self.largest = (
            records.size if limits.max_size is None else size_limit(limits.max_size, records.size)
        )
        self.drop = None if limits.max_drop is None else metrics.limit(limits.max_drop)
        self.metric = metrics.metric(
            limits.metric or ("agreement" if self.labels is None else "top1")
        )
        self.baseline = self._baseline() if limits.max_latency_ratio is not None else None

    def _baseline(self) -> Path:
        given = self.limits.baseline
        path = self.records.original() if given is None else Path(given)
        if path is None:
            raise InputError(
                f"latency is relative to the recorded model, and {self.records.model or 'it'} is "
                "gone or has changed; give one with --baseline"
            )
        return path

    def findings(self) -> Iterator[Finding]:
        yield from self._interface()
        yield self._size()
        with lent(self.model) as source:
            try:
                levels = (False, True)[: 1 + self.records.optimizable]
                found = [list(self._answers(Session(source, level))) for level in levels]
            except CannotRun as error:
                yield Finding("runs", False, str(error), "yes")
                return
            yield from self._outputs(found)
            if self.baseline is not None:
                yield self._latency(source, self.baseline)

    def _interface(self) -> Iterator[Finding]:
        inputs, outputs = self.model.interface()
        for side, infos, values in (
            ("inputs", inputs, self.records.inputs),
            ("outputs", outputs, self.records.outputs),
        ):
            known = {value.name for value in values}
            found = {
                info.name: helper.printable_type(info.type)
                for info in infos
                if side == "outputs" or info.name in known or info.name not in self._optional()
            }
            expected = {value.name: value.type for value in values}
            same = list(found.items()) == list(expected.items())
            said = "as recorded" if same else _signature(found)
            yield Finding(side, same, said, _signature(expected))

    def _optional(self) -> set[str]:
        """Return the inputs that have a value of their own."""
        return {tensor.name for tensor in self.model.graph.initializers}

    def _size(self) -> Finding:
        size = self.model.disk_size()
        return Finding("bytes", size <= self.largest, f"{size:,}", f"at most {self.largest:,}")

    def _answers(self, session: Session) -> Iterator[Mapping[str, Any]]:
        for feed, _ in self.records.samples():
            yield session.run(_present(feed))

    def _outputs(self, found: Sequence[metrics.Outputs]) -> Iterator[Finding]:
        """Compare what the model answers, without onnxruntime's optimizations and with them."""
        expected = [outputs for _, outputs in self.records.samples()]
        if self.drop is None:
            compared = [value for value in self.records.outputs if not value.random]
            yield from (self._difference(value, expected, found) for value in compared)
            return
        drop = max(self.metric.drop(answers, expected, self.labels) for answers in found)
        said = f"drop of {drop:.3g}"
        yield Finding(self.metric.name, drop <= self.drop, said, f"at most {self.drop:.3g}")

    def _difference(
        self, value: Value, expected: metrics.Outputs, found: Sequence[metrics.Outputs]
    ) -> Finding:
        """Compare one output over all samples."""
        allowed = value.tolerance if self.limits.tolerance is None else self.limits.tolerance
        name, worst = f"output {value.name}", 0.0
        for answers in found:
            for number, (old, new) in enumerate(zip(expected, answers, strict=True)):
                if value.name not in new:
                    return Finding(name, False, "is gone", "is there")
                try:
                    moved = distance(old[value.name], new[value.name], value.name)[0]
                except BrokenModel as error:
                    return Finding(name, False, f"{error} in test_data_set_{number}", value.type)
                worst = max(worst, moved)
        return Finding(name, worst <= allowed, f"{worst:.1e} of scale", f"at most {allowed:.1e}")

    def _latency(self, source: Source, baseline: Path) -> Finding:
        feeds: list[Feed] = []
        for feed, _ in self.records.samples():
            feeds.append(_present(feed))
            if len(feeds) == _TIMED_FEEDS:
                break
        limit = self.limits.max_latency_ratio or 0.0
        try:
            ratio = latency_ratio(source, baseline, feeds)
        except CannotRun as error:
            return Finding("latency", False, str(error), f"at most {limit:.2f} x")
        return Finding("latency", ratio <= limit, f"{ratio:.2f} x", f"at most {limit:.2f} x")


def _present(feed: Mapping[str, Any]) -> Feed:
    """Return *feed* without the optional inputs that were absent."""
    return {name: value for name, value in feed.items() if value is not None}


def _signature(types: Mapping[str, str]) -> str:
    return ", ".join(f"{name}: {kind}" for name, kind in types.items()) or "(none)"
