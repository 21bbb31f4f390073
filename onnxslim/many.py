"""Many models in one go, on the cores of this machine or on a cluster."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from onnxslim import api, registry, workers
from onnxslim.errors import InputError, OnnxslimError

_SUFFIXES = (".onnx", ".onnxz")


@dataclass(frozen=True)
class Entry:
    """What became of one model; of what failed, only *error* and the paths are known."""

    source: str
    target: str
    error: str | None = None
    nodes_before: int = 0
    nodes_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    """On disk, external data included."""
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name, for JSON."""
        return asdict(self)


def plan(models: Sequence[Path], folder: Path) -> list[tuple[Path, Path]]:
    """Return what to read and what to write for *models*, files and folders, in order.

    A file keeps its name, and one found in a given folder its path below that folder; what lies in
    *folder* is no model to read. Raises InputError for what is missing, for a folder without
    models, for two models that would be written to the same file, and for one onto itself.
    """
    folder = folder.resolve()
    pairs: dict[Path, Path] = {}
    for given in models:
        for source, name in _found(given, folder):
            target = folder / name
            if pairs.setdefault(target, source) != source:
                raise InputError(f"{source} and {pairs[target]} would both become {target}")
            if target == source:
                raise InputError(f"{source} would be overwritten; choose another folder for -o")
    return [(source, target) for target, source in pairs.items()]


def _found(given: Path, folder: Path) -> list[tuple[Path, Path]]:
    """Return the models that *given* names, each with the path that it keeps."""
    if given.is_file():
        return [(given.resolve(), Path(given.name))]
    if not given.is_dir():
        raise InputError(f"{given} does not exist; name .onnx files or folders of them")
    root = given.resolve()
    below = sorted(path for path in root.rglob("*") if path.suffix in _SUFFIXES and path.is_file())
    found = [(path, path.relative_to(root)) for path in below if not path.is_relative_to(folder)]
    if not found:
        raise InputError(f"{given} holds no .onnx files")
    return found


def many(
    models: Sequence[Path],
    folder: Path,
    passes: str = "lossless",
    *,
    jobs: int = 1,
    backend: workers.Backend = "local",
    scheduler: str | None = None,
    **options: Any,
) -> Iterator[Entry]:
    """Slim *models* into *folder* (see `plan`); yield what became of each, in order.

    *options* are those of `onnxslim.run`, the same for all. *jobs*, *backend* and *scheduler* are
    those of `onnxslim.workers.each`; a cluster's workers must see the same files. A model that
    fails leaves no file, and does not stop the others; with several jobs, not even one over which
    onnxruntime falls. Raises InputError as `plan` does, and for
    *passes* that cannot be read, before any work is done.
    """
    registry.parse(passes)
    pairs = plan(models, folder)
    for _, target in pairs:
        target.parent.mkdir(parents=True, exist_ok=True)
        api.must_be_writable(target)
    work = functools.partial(_slim, passes=passes, options=options)
    return workers.each(work, pairs, jobs, backend, scheduler, _lost)


def _lost(pair: tuple[Path, Path]) -> Entry:
    source, target = map(str, pair)
    return Entry(source, target, workers.LOST)


def _slim(pair: tuple[Path, Path], passes: str, options: Mapping[str, Any]) -> Entry:
    source, target = pair
    try:
        outcome = api.run(source, passes, **options)
        outcome.save(target)
    except OnnxslimError as error:
        return Entry(str(source), str(target), " ".join(str(error).split()))
    report = outcome.report
    return Entry(
        str(source),
        str(target),
        nodes_before=report.before.nodes,
        nodes_after=report.after.nodes,
        bytes_before=report.before.bytes,
        bytes_after=report.after.bytes,
        seconds=report.seconds,
        warnings=tuple(report.warnings),
    )
