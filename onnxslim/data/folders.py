"""Feeds from folders of ``test_data_set_*``, the form of ONNX's own test data."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, numpy_helper

from onnxslim.data.specs import Feed, InputSpec
from onnxslim.data.stream import Stream
from onnxslim.errors import DataError


def holds_sets(path: Path) -> bool:
    """Say whether *path* is a folder of ``test_data_set_*`` or one of these."""
    return bool(_sets(path))


def load(path: Path, specs: Sequence[InputSpec]) -> Stream:
    """Return the feeds of ``test_data_set_*`` in a folder, or of one that is named so."""
    sets = _sets(path)
    if not sets:
        raise DataError(f"{path}: holds no folder test_data_set_* and no images")

    def feeds() -> Iterator[Feed]:
        return (_load_set(folder, specs) for folder in sets)

    return Stream(feeds, str(path), len(sets), recorded=True)


def _sets(path: Path) -> list[Path]:
    if path.name.startswith("test_data_set_"):
        return [path]
    return sorted(path.glob("test_data_set_*"), key=_number)


def _number(path: Path) -> tuple[int, str]:
    digits = re.search(r"(\d+)\D*$", path.name)
    return int(digits[1]) if digits else -1, path.name


def _load_set(folder: Path, specs: Sequence[InputSpec]) -> Feed:
    by_name = {spec.name: spec for spec in specs}
    feed: Feed = {}
    for file in sorted(folder.glob("input_*.pb"), key=_number):
        index = _number(file)[0]
        if not 0 <= index < len(specs):
            raise DataError(f"{file}: the model has {len(specs)} inputs")
        name, value = _read_value(file, specs[index].kind)
        feed[name if name in by_name else specs[index].name] = value
    return feed


def _optional(proto: onnx.OptionalProto) -> Any:
    """Decode an optional; onnx's own function fails on an empty one of a known type."""
    held = ("tensor_value", "sequence_value", "map_value", "optional_value")
    return numpy_helper.to_optional(proto) if any(map(proto.HasField, held)) else None


_MESSAGES: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "tensor": (TensorProto, numpy_helper.to_array),
    "sequence": (onnx.SequenceProto, numpy_helper.to_list),
    "optional": (onnx.OptionalProto, _optional),
    "optional sequence": (onnx.OptionalProto, _optional),
    "map": (onnx.MapProto, numpy_helper.to_dict),
}


def _read_value(file: Path, kind: str) -> tuple[str, Any]:
    if kind not in _MESSAGES:
        raise DataError(f"{file}: a {kind} cannot be read from a file")
    message, decode = _MESSAGES[kind]
    try:
        proto = message.FromString(file.read_bytes())
        return proto.name, decode(proto)
    except (DecodeError, ValueError, TypeError, OSError) as error:
        raise DataError(f"{file} cannot be read: {error}") from error
