"""The state of a run in a file, to go on from."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch

from onnxslim.errors import InputError, OutputError
from onnxslim.ir.weights import replace

_FORMAT = 1


class Checkpoint:
    """A file for runs with one *fingerprint*: of models, options and data."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        """Use the file at *path*, which need not be there yet."""
        self.path, self.fingerprint = path, fingerprint

    def exists(self) -> bool:
        """Say whether there is something to go on from."""
        return self.path.is_file()

    def save(self, state: dict[str, Any]) -> None:
        """Write *state* atomically. Raises OutputError."""
        buffer = io.BytesIO()
        torch.save({"format": _FORMAT, "of": self.fingerprint, "state": state}, buffer)
        try:
            replace(self.path, [buffer.getbuffer()])
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {error.strerror}") from error

    def load(self) -> dict[str, Any]:
        """Return the state. Raises InputError for a file of another run, or of no run."""
        try:
            found = torch.load(self.path, weights_only=True)
            form, of, state = found["format"], found["of"], found["state"]
        except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.PickleError) as error:
            raise InputError(f"{self.path} is no checkpoint of onnxslim tune") from error
        if form != _FORMAT or of != self.fingerprint:
            raise InputError(
                f"{self.path} belongs to a run with other models, options or data; "
                "repeat those, or start anew without --resume"
            )
        return dict(state)
