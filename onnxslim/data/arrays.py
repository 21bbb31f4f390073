"""Feeds from ``.npz`` and ``.npy`` files, which stay on disk."""

from __future__ import annotations

import shutil
import struct
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from onnxslim.data.checks import check_names
from onnxslim.data.specs import Array, Feed, InputSpec
from onnxslim.data.stream import Stream
from onnxslim.errors import DataError

LABELS = "labels"
"""Array of an ``.npz`` file that holds the right answers, where no input has this name."""


def load(path: Path, specs: Sequence[InputSpec]) -> Stream:
    """Return the feeds in an ``.npz`` or ``.npy`` file. Raises DataError."""
    names = [spec.name for spec in specs]
    if path.suffix == ".npz":
        arrays = _npz(path)
    elif path.suffix == ".npy":
        if len(specs) != 1:
            raise DataError(
                f"{path}: one array, but the model has {len(specs)} inputs; "
                f"give an .npz file with arrays named {', '.join(names)}"
            )
        with path.open("rb") as file:
            arrays = {names[0]: _mapped(file)}
    else:
        raise DataError(
            f"{path}: give an .npz or .npy file, or a folder of test_data_set_* or images"
        )
    labels = None if LABELS in names else arrays.pop(LABELS, None)
    try:
        check_names(arrays, specs)
        units = _units(arrays, specs)
        count = _count(arrays, units)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None

    def feeds() -> Iterator[Feed]:
        for i in range(count):
            yield {name: _sample(arrays[name], i, unit) for name, unit in units.items()}

    if labels is not None and labels.ndim:
        labels = labels[: count * _samples_of_a_feed(arrays, units, len(labels))]
    return Stream(feeds, str(path), count, labels)


def _samples_of_a_feed(
    arrays: Mapping[str, Array], units: Mapping[str, int | None], labels: int
) -> int:
    """Return how many of the *labels* belong to a feed: one for each sample."""
    sizes = (unit for name, unit in units.items() if unit and len(arrays[name]) == labels)
    return max(sizes, default=1)


def _sample(array: Array, index: int, unit: int | None) -> Array:
    if unit is None:
        return np.array(array[index])
    return np.array(array[index * unit : (index + 1) * unit])


def _units(arrays: Mapping[str, Array], specs: Sequence[InputSpec]) -> dict[str, int | None]:
    """Return how many entries of each array make a feed; None for one without its axis."""
    fixed: dict[str, int] = {}
    for spec in specs:
        if spec.kind != "tensor":
            raise DataError(
                f"input {spec.name!r} is a {spec.kind}; give a folder of test_data_set_* instead"
            )
        if arrays[spec.name].ndim == 0:
            raise DataError(f"array {spec.name!r} has no axes; its first one counts samples")
        if spec.shape and isinstance(spec.shape[0], int) and spec.shape[0]:
            fixed[spec.name] = spec.shape[0]
    sizes = {size for size in fixed.values() if size > 1}
    common = sizes.pop() if len(sizes) == 1 else 1
    return {
        spec.name: None
        if spec.shape is not None and arrays[spec.name].ndim == len(spec.shape) + 1
        else fixed.get(spec.name, common)
        for spec in specs
    }


def _count(arrays: Mapping[str, Array], units: Mapping[str, int | None]) -> int:
    """Return how many feeds there are."""
    counts = {name: len(arrays[name]) // (unit or 1) for name, unit in units.items()}
    for name, count in counts.items():
        if not count:
            raise DataError(
                f"array {name!r} holds {len(arrays[name])} samples, a feed takes {units[name] or 1}"
            )
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise DataError(f"the arrays disagree on the number of samples: {told}")
    return next(iter(counts.values()), 1)


def _npz(path: Path) -> dict[str, Array]:
    """Map the arrays of an ``.npz`` file; compressed ones by way of an unlinked file."""
    arrays: dict[str, Array] = {}
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        for entry in archive.infolist():
            name = entry.filename.removesuffix(".npy")
            if entry.compress_type == zipfile.ZIP_STORED:
                file.seek(entry.header_offset)
                lengths = struct.unpack("<26xHH", file.read(30))
                file.seek(sum(lengths), 1)
                arrays[name] = _mapped(file)
            else:
                with archive.open(entry) as packed, tempfile.TemporaryFile() as unpacked:
                    shutil.copyfileobj(packed, unpacked, 1 << 20)
                    unpacked.seek(0)
                    arrays[name] = _mapped(unpacked)
    return arrays


def _mapped(file: IO[bytes]) -> Array:
    """Map the ``.npy`` data that *file* stands at, without reading them."""
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    version = npy.read_magic(file)
    if version not in readers:
        raise ValueError("the array holds records, not numbers")
    shape, fortran, dtype = readers[version](file)
    if dtype.hasobject:
        raise ValueError("an array holds Python objects; save texts as NumPy's str type")
    if 0 in shape or not shape:
        return np.zeros(shape, dtype)
    order: Any = "F" if fortran else "C"
    return np.memmap(file, dtype, "r", offset=file.tell(), shape=shape, order=order)
