"""Which bytes of a model are numbers, and how these are gathered into blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from onnx import TensorProto

from onnxslim.ir import wire
from onnxslim.ir.weights import KNOWN_TYPES, bits
from onnxslim.pack.planes import TAGGED, Kind

MOST_SPANS = 1 << 18
LONGEST_BLOCK = 5 << 20
"""Bytes of a block; longer spans are cut."""
_SMALL, _FULL = 1 << 14, 1 << 16
_SHORTEST_INTEGERS = 1 << 10
"""Short lists of wide integers are shapes and the like, at which a text compressor is better."""
_FLOATS: dict[int, int] = {
    TensorProto.FLOAT: 4,
    TensorProto.DOUBLE: 8,
    TensorProto.FLOAT16: 2,
    TensorProto.BFLOAT16: 2,
    TensorProto.COMPLEX64: 4,
    TensorProto.COMPLEX128: 8,
}


class Span(NamedTuple):
    """Numbers that lie one after the other in the content."""

    start: int
    end: int
    kind: Kind


class Block:
    """What is coded together: a part of a long span, or short spans of one kind."""

    def __init__(self, kind: Kind) -> None:
        """Start empty."""
        self.kind = kind
        self.pieces: list[tuple[int, int]] = []
        """Where the numbers lie in the content."""
        self.size = 0

    def add(self, start: int, end: int) -> None:
        """Add what lies from *start* to *end*."""
        self.pieces.append((start, end))
        self.size += end - start


def spans(model: memoryview, members: Mapping[str, tuple[int, int]]) -> list[Span]:
    """Return the numbers in *model* and in its external data, in order.

    *members* says where external data lies in the content, by name: its start and its end.
    Raises ModelError for what is not an ONNX model.
    """
    found = list[Span]()
    for place in wire.stored(model):
        start, limit = members.get(place.location, (0, len(model)))
        inside = 0 <= place.start <= place.end and start + place.end <= limit
        if inside and (place.location in members or not place.location):
            kind = _kind(place)
            if place.end - place.start >= (_SHORTEST_INTEGERS if _is_wide(kind) else 1):
                found.append(Span(start + place.start, start + place.end, kind))
    found.sort()
    return list(_disjoint(found))[:MOST_SPANS]


def _is_wide(kind: Kind) -> bool:
    return kind.width > 2 and not kind.rotated


def _kind(place: wire.Stored) -> Kind:
    size, elem = place.end - place.start, place.elem_type
    if place.tagged:
        return TAGGED
    if elem in _FLOATS:
        kind = Kind(_FLOATS[elem], True)
    else:
        known = elem in KNOWN_TYPES and elem != TensorProto.STRING
        kind = Kind(max(1, bits(elem) // 8) if known else 1, False)
    return kind if size % kind.width == 0 else Kind(1, False)


def _disjoint(found: Iterable[Span]) -> Iterator[Span]:
    end = 0
    for span in found:
        if span.start >= end and span.end > span.start:
            yield span
            end = span.end


def gather(found: Iterable[Span]) -> Iterator[tuple[int, int, Block]]:
    """Yield the pieces of spans in order, each with its block; blocks are complete at the end."""
    open_ = dict[Kind, Block]()
    for start, end, kind in found:
        if end - start < _SMALL:
            block = open_.setdefault(kind, Block(kind))
            block.add(start, end)
            yield start, end, block
            if block.size >= _FULL:
                del open_[kind]
            continue
        for at in range(start, end, LONGEST_BLOCK):
            block = Block(kind)
            block.add(at, min(end, at + LONGEST_BLOCK))
            yield at, min(end, at + LONGEST_BLOCK), block
