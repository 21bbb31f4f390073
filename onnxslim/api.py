"""One call: a model in, a smaller one out, with a report."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from onnxslim.base import Pass
from onnxslim.data import Calibration, Feed, input_specs
from onnxslim.errors import InputError, OutputError
from onnxslim.ir import Model, fix_input_shapes, replace_file
from onnxslim.pipeline import Check, Pipeline, Progress, Report, silent
from onnxslim.registry import parse

Source = str | os.PathLike[str] | onnx.ModelProto | Model
"""A path, a ModelProto (left untouched), or a Model (left untouched)."""
Data = str | os.PathLike[str] | Calibration | Iterable[Feed]


@dataclass(frozen=True)
class Outcome:
    """A slimmed model and what was done to it."""

    model: Model
    report: Report

    def save(self, path: str | os.PathLike[str], external_data: bool = False) -> None:
        """Write the model to *path* atomically; *external_data* puts weights beside it.

        A model that nothing changed is copied byte by byte. Raises OutputError.
        """
        original = self.model.path
        verbatim = self.model.pristine and not self.model.store.external and not external_data
        if verbatim and original is not None:
            replace_file(Path(path), original)
        else:
            self.model.save(path, external=True if external_data else None)


def run(
    model: Source,
    passes: str | Sequence[Pass] = "lossless",
    *,
    data: Data | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    check: Check = "end",
    seed: int = 0,
    progress: Progress = silent,
) -> Outcome:
    """Rewrite *model* by *passes* and return the result with its report.

    Raises InputError (a ModelError, DataError or SpecError) for input that cannot be used, and
    BrokenModel when no result could be found that computes the same.
    """
    steps = parse(passes) if isinstance(passes, str) else tuple(passes)
    loaded = _load(model)
    if input_shapes:
        loaded = loaded.copy() if isinstance(model, Model) else loaded
        fix_input_shapes(loaded, input_shapes)
    feeds = None if data is None else _calibration(data, loaded)
    result, report = Pipeline(steps, check=check, seed=seed)(loaded, feeds, progress)
    return Outcome(result, report)


def slim(
    model: Source,
    output: str | os.PathLike[str] | None = None,
    passes: str | Sequence[Pass] = "lossless",
    *,
    data: Data | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    check: Check = "end",
    seed: int = 0,
    external_data: bool = False,
) -> onnx.ModelProto:
    """Return *model* made smaller, validated against the original; write it to *output* if given.

    *passes* is a recipe or a list such as ``"fuse-conv-bn,drop-dead"``; *data* are inputs to
    compare on (an ``.npz``, a folder of ``test_data_set_*``, or feeds); *input_shapes* fixes
    dimensions, e.g. ``{"image": (1, 3, 224, 224)}``; *check* is ``"each"``, ``"end"`` or ``"off"``.
    A model over 2 GiB comes back with its weights left in the external data of *output*.
    """
    if output is not None:
        must_be_writable(Path(output))
    outcome = run(model, passes, data=data, input_shapes=input_shapes, check=check, seed=seed)
    if output is not None:
        outcome.save(output, external_data)
    if outcome.model.fits_one_file():
        return outcome.model.proto()
    if output is None:
        raise InputError("the model is over 2 GiB: give an output path to write it to")
    return onnx.load(os.fspath(output), load_external_data=False)


def _load(model: Source) -> Model:
    if isinstance(model, Model):
        return model
    if isinstance(model, onnx.ModelProto):
        return Model.from_proto(model)
    return Model.load(model)


def _calibration(data: Data, model: Model) -> Calibration:
    if isinstance(data, Calibration):
        return data
    if isinstance(data, (str, os.PathLike)):
        return Calibration.load(Path(data), input_specs(model.skeleton()))
    return Calibration.of(data)


def must_be_writable(path: Path) -> None:
    """Fail before the work rather than after it."""
    folder = path.parent
    if path.is_dir():
        raise OutputError(f"{path} is a directory; name the output file")
    if not folder.is_dir():
        raise OutputError(f"{folder} does not exist; make the folder first")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{folder} is not writable; choose another output")
