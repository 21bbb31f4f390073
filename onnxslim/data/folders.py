"""Feeds from folders of ``test_data_set_*``, the form of ONNX's own test data."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
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
        name, value = read_value(file, specs[index].kind)
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


def read_value(file: Path, kind: str) -> tuple[str, Any]:
    """Return the name and the value in a file of a *kind* as `kind_of` tells. Raises DataError."""
    if kind not in _MESSAGES:
        raise DataError(f"{file}: a {kind} cannot be read from a file")
    message, decode = _MESSAGES[kind]
    try:
        proto = message.FromString(file.read_bytes())
        return proto.name, _with_texts(decode(proto))
    except (DecodeError, ValueError, TypeError, OSError) as error:
        raise DataError(f"{file} cannot be read: {error}") from error


def _with_texts(value: Any) -> Any:
    """Return *value* with texts as the keys of maps, where onnx leaves their bytes."""
    if isinstance(value, list):
        return [_with_texts(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {k.decode() if isinstance(k, bytes) else k: v for k, v in value.items()}


def kind_of(value: Any) -> str:
    """Return what a value is to ONNX: ``tensor``, ``sequence``, ``map`` or ``optional``."""
    if value is None:
        return "optional"
    if isinstance(value, list):
        return "sequence"
    return "map" if isinstance(value, dict) else "tensor"


def write_value(file: Path, name: str, value: Any) -> None:
    """Write *value* as ONNX's test data have it, under a *name*. Raises OSError."""
    file.write_bytes(_encoded(value, name).SerializeToString())


def _encoded(value: Any, name: str = "") -> Any:
    """Encode a value; onnx's own function fails on maps from texts."""
    if value is None:
        return onnx.OptionalProto(name=name)
    if isinstance(value, dict):
        return _map(value, name)
    if not isinstance(value, list):
        return numpy_helper.from_array(np.asarray(value), name)
    items = [_encoded(item) for item in value]
    kind = kind_of(value[0]) if value else "tensor"
    proto = onnx.SequenceProto(name=name, elem_type=getattr(onnx.SequenceProto, kind.upper()))
    getattr(proto, f"{kind}_values").extend(items)
    return proto


def _map(value: dict[Any, Any], name: str) -> onnx.MapProto:
    proto = onnx.MapProto(name=name, values=_encoded(list(value.values())))
    if all(isinstance(key, str) for key in value):
        proto.key_type = TensorProto.STRING
        proto.string_keys.extend(key.encode() for key in value)
    else:
        proto.key_type = TensorProto.INT64
        proto.keys.extend(map(int, value))
    return proto
