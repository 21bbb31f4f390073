"""What was tried, on disk, so that a search that was killed goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from onnxslim.ir import Model
from onnxslim.pipeline import versions
from onnxslim.search.judge import Candidate, Task

_VERSION = 2


class State:
    """A folder with the original and the candidates of one search, a file each."""

    def __init__(self, folder: Path, task: Task, original: Model) -> None:
        """Open or make *folder*; what other models, data, options or versions left there stays."""
        self.folder = folder / _fingerprint(task, original)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.task = replace(task, model=self.folder / "original.onnx")
        """*task*, with the original's file, for whoever sees the folder."""
        if not self.task.model.exists():
            original.save(self.task.model)

    def place(self, spec: str) -> Path:
        """Return where the model of *spec* belongs."""
        return self.folder / f"{hashlib.sha256(spec.encode()).hexdigest()[:24]}.onnx"

    def recall(self, spec: str) -> Candidate | None:
        """Return what *spec* came to; None where it was not tried."""
        try:
            found = json.loads(self._record(spec).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        candidate = Candidate(**found)
        there = candidate.failed is not None or Path(candidate.path).exists()
        return candidate if there else None

    def keep(self, candidate: Candidate) -> None:
        """Write down what a candidate came to, at once or not at all."""
        path = self._record(candidate.spec)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(asdict(candidate)), encoding="utf-8")
        os.replace(part, path)

    def _record(self, spec: str) -> Path:
        return self.place(spec).with_suffix(".json")


def _fingerprint(task: Task, original: Model) -> str:
    made_by = " ".join(versions().values())  # others make other models
    told = f"{_VERSION} {made_by} {task.metric} {task.timed} {task.seed}"
    digest = hashlib.sha256(told.encode())
    for piece in original.stream():
        digest.update(piece)
    for part in (task.fitting, task.judging, [{"": task.labels}]):
        digest.update(f"{len(part)} samples".encode())
        for feed in part:
            for name in sorted(feed):
                digest.update(name.encode() + _content(feed[name]))
    return digest.hexdigest()[:24]


def _content(value: object) -> bytes:
    """Return bytes that are others for other values."""
    if not isinstance(value, np.ndarray) or value.dtype == object:
        return repr(value if not isinstance(value, np.ndarray) else value.tolist()).encode()
    return f"{value.dtype} {value.shape}".encode() + np.ascontiguousarray(value).tobytes()
