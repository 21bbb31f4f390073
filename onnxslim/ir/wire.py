"""Protobuf on the wire: lift weights out of a serialised model, and put them back.

A weight of a kilobyte or more never passes through protobuf. `deflate` copies a serialised
``ModelProto`` without those bytes and leaves a *mark* (an external-data reference that only this
module understands) in their place; `inflate` is its exact inverse and returns the pieces of the
file in order, so that saving can stream them.

Source: Protocol Buffers encoding (varints, length-delimited fields); field numbers of onnx.proto.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from onnx import TensorProto

from onnxslim.errors import ModelError

Buffer = npt.NDArray[np.uint8]
"""The raw bytes of one tensor, one-dimensional and read-only."""

MARK = "onnxslim-weight:"
_MARK_BYTES = MARK.encode()
THRESHOLD = 1024
"""Tensors with fewer bytes of raw data stay inside the protobuf message."""

_RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 9, 13, 14
_TENSOR = "tensor"
_ATTRIBUTE = {5: _TENSOR, 6: "graph", 10: _TENSOR, 11: "graph", 22: "sparse", 23: "sparse"}
_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: _TENSOR, 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": _ATTRIBUTE,
    "sparse": {1: _TENSOR, 2: _TENSOR},
}
"""Which field numbers of a message lead to tensors, and through which message."""


class _Field(NamedTuple):
    number: int
    wire: int
    start: int
    value: int
    end: int


def encode_varint(number: int) -> bytes:
    """Encode a non-negative integer."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _varint(data: memoryview, at: int, end: int) -> tuple[int, int]:
    result = shift = 0
    while at < end:
        byte = data[at]
        at += 1
        result |= (byte & 127) << shift
        if byte < 128:
            return result, at
        shift += 7
        if shift > 63:
            break
    raise ModelError("not an ONNX model: a number runs past the end of its message")


_FIXED = {1: 8, 5: 4}


def _fields(data: memoryview, at: int, end: int) -> Iterator[_Field]:
    while at < end:
        start = at
        key, at = _varint(data, at, end)
        wire = key & 7
        if wire == 2:
            length, value = _varint(data, at, end)
            at = value + length
        elif wire == 0:
            value = at
            _, at = _varint(data, at, end)
        elif wire in _FIXED:
            value = at
            at += _FIXED[wire]
        else:
            raise ModelError(f"not an ONNX model: wire type {wire} at byte {start}")
        if at > end or key < 8:
            raise ModelError(f"not an ONNX model, or cut short: a field at byte {start} overruns")
        yield _Field(key >> 3, wire, start, value, at)


def mark(key: str, length: int, explicit: bool) -> TensorProto:
    """Return the fields that stand for a lifted weight.

    *explicit* says that the message set ``data_location`` although it was the default.
    """
    fields = TensorProto(data_location=TensorProto.EXTERNAL)
    pairs = [("location", MARK + key), ("length", str(length))]
    if explicit:
        pairs.append(("explicit", "1"))
    for name, value in pairs:
        fields.external_data.add(key=name, value=value)
    return fields


def deflate(data: memoryview, keep: Callable[[Buffer], str]) -> bytes:
    """Return the serialised model *data* with its large weights lifted out.

    *keep* is given the bytes of each weight (a view into *data*) and returns its key.
    Raises ModelError when *data* is not well-formed.
    """
    whole = np.frombuffer(data, np.uint8)
    pieces = _deflate(data, whole, 0, len(data), "model", keep)
    return b"".join(pieces)


def _deflate(
    data: memoryview, whole: Buffer, at: int, end: int, kind: str, keep: Callable[[Buffer], str]
) -> list[bytes | memoryview]:
    if kind == _TENSOR:
        return _deflate_tensor(data, whole, at, end, keep)
    children, pieces, run = _CHILDREN[kind], list[bytes | memoryview](), at
    for field in _fields(data, at, end):
        child = children.get(field.number)
        if child is None or field.wire != 2 or field.end - field.value < THRESHOLD:
            continue
        inner = _deflate(data, whole, field.value, field.end, child, keep)
        length = sum(map(len, inner))
        if length == field.end - field.value:
            continue
        pieces += (data[run : field.start], header(field.number, length), *inner)
        run = field.end
    pieces.append(data[run:end])
    return pieces


def _deflate_tensor(
    data: memoryview, whole: Buffer, at: int, end: int, keep: Callable[[Buffer], str]
) -> list[bytes | memoryview]:
    pieces, lifted, explicit = list[bytes | memoryview](), None, False
    for field in _fields(data, at, end):
        if field.number == _RAW_DATA and field.end - field.value >= THRESHOLD:
            lifted = whole[field.value : field.end]
        elif field.number == _EXTERNAL_DATA:
            return [data[at:end]]  # bytes and a reference to others at once: leave it alone
        elif field.number == _DATA_LOCATION:
            explicit = True
            pieces.append(data[field.start : field.end])
        else:
            pieces.append(data[field.start : field.end])
    if lifted is None:
        return [data[at:end]]
    pieces.append(mark(keep(lifted), len(lifted), explicit).SerializeToString())
    return pieces


class Stored(NamedTuple):
    """Where a tensor's numbers lie one after the other: in the model, or in another file."""

    start: int
    end: int
    elem_type: int
    dims: tuple[int, ...]
    location: str = ""
    """Names the file that `start` and `end` are offsets of; empty for the model itself."""
    tagged: bool = False
    """Whether `FLOATS_TAG` stands before every number."""


_DIMS, _DATA_TYPE, _FLOAT_DATA, _DOUBLE_DATA = 1, 2, 4, 10
_NUMBERS = {_FLOAT_DATA: TensorProto.FLOAT, _RAW_DATA: 0, _DOUBLE_DATA: TensorProto.DOUBLE}
FLOATS_TAG = 7 << 3 | 5
"""The byte before each of the floats of an attribute, which are fields of their own."""
_SHORTEST = 64
_LOCATION = re.compile(rb"\x0a\x08location")


def stored(data: memoryview) -> Iterator[Stored]:
    """Yield where the numbers of the serialised model *data* lie, from 64 bytes on.

    Places in other files are all found. Raises ModelError when *data* is not well-formed.
    """
    shortest = 0 if _LOCATION.search(data) else _SHORTEST
    stack = [(0, len(data), "model")]
    while stack:
        at, end, kind = stack.pop()
        if kind == _TENSOR:
            yield from _stored_tensor(data, at, end)
            continue
        if kind == "attribute":
            yield from _stored_floats(data, at, end)
        for field in _fields(data, at, end):
            child = _CHILDREN[kind].get(field.number)
            if child is not None and field.wire == 2 and field.end - field.value >= shortest:
                stack.append((field.value, field.end, child))


def _stored_tensor(data: memoryview, at: int, end: int) -> Iterator[Stored]:
    dims, elem_type, found = list[int](), 0, list[_Field]()
    for field in _fields(data, at, end):
        if field.number == _DIMS:
            dims += _varints(data, field)
        elif field.number == _DATA_TYPE and field.wire == 0:
            elem_type = _varint(data, field.value, field.end)[0]
        elif field.number in _NUMBERS and field.wire == 2:
            found.append(field)
        elif field.number == _EXTERNAL_DATA:
            yield _elsewhere(data[at:end].tobytes())
            return
    for field in found:
        if field.end - field.value >= _SHORTEST:
            kind = _NUMBERS[field.number] or elem_type
            yield Stored(field.value, field.end, kind, tuple(dims))


def _stored_floats(data: memoryview, at: int, end: int) -> Iterator[Stored]:
    for field in _fields(data, at, end):
        if field.number == 7 and field.wire == 5:
            tags = np.frombuffer(data[field.start : end], np.uint8)[::5]
            others = np.flatnonzero(tags != FLOATS_TAG)
            count = int(others[0]) if len(others) else (end - field.start) // 5
            stop = field.start + 5 * count
            if stop - field.start >= _SHORTEST:
                yield Stored(field.start, stop, TensorProto.FLOAT, (count,), tagged=True)
            return


def _elsewhere(data: bytes) -> Stored:
    """Return where a tensor lies in another file; nowhere in it, if that is not said."""
    try:
        tensor = TensorProto.FromString(data)
        entries = {entry.key: entry.value for entry in tensor.external_data}
        start = int(entries.get("offset", 0))
        end = start + int(entries.get("length", 0))
    except (DecodeError, ValueError) as error:
        raise ModelError(f"not an ONNX model: a bad reference to external data: {error}") from error
    return Stored(start, end, tensor.data_type, tuple(tensor.dims), entries.get("location", ""))


def _varints(data: memoryview, field: _Field) -> Iterator[int]:
    at = field.value
    while at < field.end:
        number, at = _varint(data, at, field.end)
        yield number


def header(number: int, length: int) -> bytes:
    """Return what stands before the *length* bytes of field *number*."""
    return encode_varint(number << 3 | 2) + encode_varint(length)


def unknown(message: Any) -> bytes:
    """Serialise the fields of *message* that this release of onnx does not know."""
    out = bytearray()
    fields: Any = UnknownFieldSet(message)
    for field in fields:
        key = encode_varint(field.field_number << 3 | field.wire_type)
        if field.wire_type == 2:
            out += header(field.field_number, len(field.data)) + field.data
        elif field.wire_type == 0:
            out += key + encode_varint(field.data)
        elif field.wire_type in _FIXED:  # groups, which ONNX has none of, are left behind
            out += key + field.data.to_bytes(_FIXED[field.wire_type], "little")
    return bytes(out)


def view(piece: bytes | memoryview | Buffer) -> memoryview:
    """Return the bytes of *piece* without copying them."""
    return piece.data if isinstance(piece, np.ndarray) else memoryview(piece)


def inflate(skeleton: bytes, weight: Callable[[str], Buffer]) -> list[bytes | memoryview | Buffer]:
    """Return the pieces of the serialised model, weights in place; the inverse of `deflate`.

    *weight* turns a key into the bytes of its tensor.
    """
    return _inflate(memoryview(skeleton), skeleton, 0, len(skeleton), "model", weight)


def _inflate(
    whole: memoryview,
    data: bytes,
    at: int,
    end: int,
    kind: str,
    weight: Callable[[str], Buffer],
) -> list[bytes | memoryview | Buffer]:
    if kind == _TENSOR:
        return _inflate_tensor(whole, at, end, weight)
    children, pieces, run = _CHILDREN[kind], list[bytes | memoryview | Buffer](), at
    here = data.find(_MARK_BYTES, at, end)
    for field in _fields(whole, at, end):
        if here < 0:
            break
        if here >= field.end:
            continue
        child = children.get(field.number)
        if child is not None and field.wire == 2:
            inner = _inflate(whole, data, field.value, field.end, child, weight)
            pieces += (whole[run : field.start], header(field.number, _total(inner)), *inner)
            run = field.end
        here = data.find(_MARK_BYTES, field.end, end)
    pieces.append(whole[run:end])
    return pieces


def _total(pieces: list[bytes | memoryview | Buffer]) -> int:
    return sum(map(len, pieces))


def _inflate_tensor(
    whole: memoryview, at: int, end: int, weight: Callable[[str], Buffer]
) -> list[bytes | memoryview | Buffer]:
    tensor = TensorProto.FromString(whole[at:end].tobytes())
    if not is_marked(tensor):
        return [whole[at:end]]
    key, explicit = marked(tensor)
    buffer = weight(key)
    del tensor.external_data[:]
    tensor.ClearField("data_location")
    if explicit:
        tensor.data_location = TensorProto.DEFAULT
    rest = tensor.SerializeToString(deterministic=True)
    fields = _fields(memoryview(rest), 0, len(rest))
    split = next((field.start for field in fields if field.number > _RAW_DATA), len(rest))
    return [rest[:split], header(_RAW_DATA, len(buffer)), buffer, rest[split:]]


def marked(tensor: TensorProto) -> tuple[str, bool]:
    """Return the key of a marked tensor and whether its data location was explicit."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    return entries["location"].removeprefix(MARK), "explicit" in entries


def is_marked(tensor: TensorProto) -> bool:
    """Say whether the bytes of *tensor* were lifted out."""
    return tensor.data_location == TensorProto.EXTERNAL and any(
        entry.key == "location" and entry.value.startswith(MARK) for entry in tensor.external_data
    )
