"""A folder of references: inputs, what the model made of them, and what may change.

``test_data_set_N/input_M.pb`` and ``output_M.pb`` are ONNX's own form of test data, which other
tools read as well; ``expected.json`` holds tolerances, types and sizes, and may be edited.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper

from onnxslim import api, cost
from onnxslim.data import Array, Calibration, Feed, input_specs, kind_of, read_value, write_value
from onnxslim.errors import BrokenModel, CannotRun, DataError, OutputError
from onnxslim.ir import Model
from onnxslim.pipeline import Progress, silent, versions
from onnxslim.runtime import Session, Source, lent
from onnxslim.validate import distance, repeats, rounding

EXPECTED = "expected.json"
_FORMAT = 1
_MADE_UP = "random:4"


@dataclass(frozen=True)
class Value:
    """An input or output of the recorded model."""

    name: str
    kind: str
    """``tensor``, ``sequence``, ``map`` or ``optional``."""
    type: str
    """As the model declares it, for people and for comparing interfaces."""
    tolerance: float = 0.0
    """Largest difference that is no regression, relative to the scale of an output."""
    random: bool = False
    """Whether an output differs from run to run, so that only its type is compared."""


@dataclass(frozen=True)
class Records:
    """What a folder of references says.

    ``model`` is where the recorded model was, relative to the folder, ``sha256`` that of its file;
    ``size`` its bytes with external data.
    """

    folder: Path
    model: str
    sha256: str
    size: int
    nodes: int
    parameters: int
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    sets: int
    optimizable: bool
    """Whether the recorded model ran with onnxruntime's optimizations, as others then must."""
    versions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Records:
        """Read a folder that `record` made. Raises DataError."""
        folder = Path(folder)
        path = folder / EXPECTED
        if not path.is_file():
            raise DataError(f"{folder} holds no {EXPECTED}; make it with: onnxslim record")
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            if said.pop("format") != _FORMAT:
                raise DataError(f"{path} is of another version of onnxslim; record it again")
            inputs, outputs = (tuple(Value(**v) for v in said.pop(s)) for s in _SIDES)
            found = cls(folder=folder, inputs=inputs, outputs=outputs, **said)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"{path} cannot be read: {error}; record it again") from error
        missing = [n for n in range(found.sets) if not found.set_folder(n).is_dir()]
        if missing or not found.sets:
            raise DataError(f"{folder}: test_data_set_{(missing or [0])[0]} is missing")
        return found

    def set_folder(self, number: int) -> Path:
        """Return where the sample *number* is."""
        return self.folder / f"test_data_set_{number}"

    def samples(self) -> Iterator[tuple[Feed, dict[str, Any]]]:
        """Yield inputs and outputs by name, one sample at a time. Raises DataError."""
        for number in range(self.sets):
            folder = self.set_folder(number)
            yield _read(folder, "input", self.inputs), _read(folder, "output", self.outputs)

    def labels(self) -> Array | None:
        """Return the labels that the data held. Raises DataError."""
        path = self.folder / "labels.npy"
        try:
            return np.load(path) if path.exists() else None
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read: {error}") from error

    def original(self) -> Path | None:
        """Return the recorded model where it still is what and where it was."""
        path = self.folder / self.model
        return path if path.is_file() and _sha256(path) == self.sha256 else None

    def _save(self) -> None:
        said = {"format": _FORMAT, **asdict(self)}
        del said["folder"]
        (self.folder / EXPECTED).write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")


_SIDES = ("inputs", "outputs")


def _read(folder: Path, side: str, values: tuple[Value, ...]) -> dict[str, Any]:
    files = ((folder / f"{side}_{i}.pb", value) for i, value in enumerate(values))
    return {value.name: read_value(file, value.kind)[1] for file, value in files}


def record(
    model: api.Source,
    folder: str | os.PathLike[str],
    data: api.Data | None = None,
    *,
    images: Mapping[str, Any] | None = None,
    count: int = 8,
    tolerance: float | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Records:
    """Run *model* on the first *count* samples of *data* and keep what it answers in *folder*.

    It runs without onnxruntime's optimizations. An output may later move by *tolerance* of its
    scale; where that is not given, by as much as rounding does. Without *data*, inputs are made up.
    An earlier record in *folder* is replaced, when all has been written. Raises InputError where
    something given cannot be used, CannotRun where onnxruntime cannot run the model.
    """
    target = Path(folder)
    _must_be_free(target)
    loaded = api.as_model(model)
    feeds = api.calibration(_MADE_UP if data is None else data, loaded, images, seed)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as made:
        recorder = _Recorder(loaded, Path(made), tolerance)
        records = recorder.run(feeds, count, target, progress)
        _put(Path(made), target)
    return records


def _must_be_free(target: Path) -> None:
    """Refuse to write over what is no record. Raises OutputError."""
    if not target.parent.is_dir():
        raise OutputError(f"{target.parent} does not exist; make the folder first")
    taken = target.exists() and not (target / EXPECTED).is_file()
    if taken and (not target.is_dir() or any(target.iterdir())):
        raise OutputError(f"{target} exists and is no record of references; choose another folder")


def _put(made: Path, target: Path) -> None:
    """Move what is in *made* to *target*, in place of an earlier record."""
    try:
        target.mkdir(exist_ok=True)
        for old in (*target.glob("test_data_set_*"), *target.glob("labels.npy")):
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        for path in sorted(made.iterdir(), key=lambda path: path.name == EXPECTED):
            path.replace(target / path.name)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror or error}") from error


class _Recorder:
    """One call of `record`."""

    def __init__(self, model: Model, folder: Path, tolerance: float | None) -> None:
        self.model, self.folder, self.tolerance = model, folder, tolerance
        self.specs = input_specs(model.skeleton())
        self.kinds: dict[str, str] = {}
        self.own: dict[str, float] = {}
        self.random: set[str] = set()
        self.optimizable = True

    def run(self, feeds: Calibration, count: int, target: Path, progress: Progress) -> Records:
        with lent(self.model) as source:
            done = self._sets(source, feeds, count, progress)
        if feeds.labels is not None:
            np.save(self.folder / "labels.npy", np.concatenate(feeds.labels_by_feed()[:done]))
        records = self._records(done, target)
        records._save()
        return records

    def _sets(self, source: Source, feeds: Calibration, count: int, progress: Progress) -> int:
        """Write inputs and outputs, and return how many."""
        plain, done = Session(source, optimize=False), 0
        optimized = _optimized(source)
        for done, feed in enumerate(islice(feeds, count), start=1):
            outputs = plain.run(feed)
            self._write(done - 1, feed, outputs)
            if done == 1:
                again = plain.run(feed)
                self.random = {n for n, v in outputs.items() if not repeats(v, again[n], n)}
            self._measure(outputs, optimized, feed)
            progress("recording", done, min(count, feeds.count or count))
        return done

    def _write(self, number: int, feed: Feed, outputs: Mapping[str, Any]) -> None:
        folder = self.folder / f"test_data_set_{number}"
        folder.mkdir()
        values = {spec.name: feed.get(spec.name) for spec in self.specs}
        for side, named in (("input", values), ("output", outputs)):
            for index, (name, value) in enumerate(named.items()):
                self._kind(name, value)
                write_value(folder / f"{side}_{index}.pb", name, value)

    def _kind(self, name: str, value: Any) -> None:
        kind = kind_of(value)
        before = self.kinds.setdefault(name, kind)
        if kind != before:
            raise DataError(f"{name!r} is a {before} in one sample and a {kind} in another")

    def _measure(self, outputs: Mapping[str, Any], optimized: Session | None, feed: Feed) -> None:
        """Keep what onnxruntime's own optimizations change."""
        try:
            if optimized is None:
                raise CannotRun("not loaded")
            moved = optimized.run(feed)
            found = {name: distance(v, moved[name], name)[0] for name, v in outputs.items()}
        except (CannotRun, BrokenModel):
            self.optimizable = False
            return
        for name, change in found.items():
            if math.isfinite(change):
                self.own[name] = max(self.own.get(name, 0.0), change)

    def _records(self, sets: int, target: Path) -> Records:
        inputs, outputs = self.model.interface()
        names = {spec.name for spec in self.specs}
        stats = cost.measure(self.model, size=self.model.disk_size())
        path = self.model.path
        return Records(
            folder=self.folder,
            model="" if path is None else os.path.relpath(path, target),
            sha256="" if path is None else _sha256(path),
            size=stats.bytes,
            nodes=stats.nodes,
            parameters=stats.parameters,
            inputs=tuple(self._value(info) for info in inputs if info.name in names),
            outputs=tuple(self._value(info, output=True) for info in outputs),
            sets=sets,
            optimizable=self.optimizable,
            versions=versions(),
        )

    def _value(self, info: Any, output: bool = False) -> Value:
        name, kind = info.name, self.kinds[info.name]
        declared = helper.printable_type(info.type)
        if not output:
            return Value(name, kind, declared)
        allowed = self.tolerance
        if allowed is None:
            allowed = rounding(self.model, self.own.get(name, 0.0))
        return Value(name, kind, declared, allowed, name in self.random)


def _optimized(source: Source) -> Session | None:
    try:
        return Session(source, optimize=True)
    except CannotRun:
        return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
