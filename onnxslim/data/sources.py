"""Where data come from: files, folders, Python, or nowhere."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onnxslim.data import arrays, folders, functions, generated, images
from onnxslim.data.specs import InputSpec
from onnxslim.data.stream import Stream
from onnxslim.errors import DataError

SETTINGS = "data.toml"
"""File in a folder of data that says what there is and how images become arrays."""
_UNREADABLE = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def opened(
    source: str | os.PathLike[str],
    specs: Sequence[InputSpec],
    options: Mapping[str, Any],
    seed: int,
) -> Stream:
    """Return the feeds of *source* for inputs *specs*; *options* are those of images.

    Raises DataError.
    """
    path = Path(source)
    if isinstance(source, str):
        count = generated.requested(source)
        if count is not None:
            _no_images(source, options)
            return generated.made_up(specs, count, seed)
        if functions.is_reference(source) and not path.exists():
            _no_images(source, options)
            return functions.called(source)
    if not path.exists():
        raise DataError(f"{path} does not exist")
    try:
        return _read(path, specs, options)
    except _UNREADABLE as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _read(path: Path, specs: Sequence[InputSpec], options: Mapping[str, Any]) -> Stream:
    settings = path / SETTINGS if path.is_dir() else path
    if settings.suffix != ".toml" or not settings.exists():
        return _data(path, specs, options)
    import tomllib  # one source in many is such a file

    said = tomllib.loads(settings.read_text(encoding="utf-8"))
    target = settings.parent / str(said.pop("path", "."))
    if not target.exists():
        raise DataError(f"{settings}: there is no {target}; path is relative to this file")
    return _data(target, specs, {**said, **options})


def _data(path: Path, specs: Sequence[InputSpec], options: Mapping[str, Any]) -> Stream:
    found = images.files(path) if path.is_dir() and not folders.holds_sets(path) else []
    if found:
        return images.load(path, found, specs, options)
    _no_images(path, options)
    return folders.load(path, specs) if path.is_dir() else arrays.load(path, specs)


def _no_images(source: str | Path, options: Mapping[str, Any]) -> None:
    if options:
        names = ", ".join(options)
        raise DataError(f"{source} is no folder of images, which alone is changed by: {names}")
