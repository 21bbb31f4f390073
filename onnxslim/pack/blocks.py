"""One block of numbers in the fewest bytes: stored, by zstandard, or as planes of symbols."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from onnxslim.errors import ModelError
from onnxslim.pack.coder import Decoder, Encoder, ways
from onnxslim.pack.planes import Digits, Kind, Numbers, Plane, Symbols, packings
from onnxslim.pack.text import Zstd, worth_searching, zstd

STORED, ZSTD, PLANES = range(3)
LONGEST_TABLE = 1 << 12
"""Tables of distinct numbers are no longer than this."""
_SAMPLE = 1 << 12
_BASES, _PLACES = 257, 9

Groups = npt.NDArray[np.integer[Any]]
CONTEXTS: tuple[Callable[[Sequence[Symbols]], Groups], ...] = (
    lambda before: np.zeros(len(before[0]), np.uint8),
    lambda before: (before[0] == 0).astype(np.uint8),
    lambda before: before[0].astype(np.uint8),
    lambda before: before[-1].astype(np.uint8),
)
"""What tells which symbols of a plane are likely: nothing, whether the first plane is zero there,
the first plane, the plane before."""


class Form(NamedTuple):
    """How numbers become planes: as digits, or as digits of their places in a table."""

    digits: Digits
    table: Numbers | None = None

    def planes(self, values: Numbers) -> list[Plane]:
        """Split *values*."""
        if self.table is not None:
            values = np.searchsorted(self.table, values).astype(np.uint16)
        return list(self.digits.split(values))

    def numbers(self, planes: Sequence[Symbols], width: int) -> Numbers:
        """Undo `planes`."""
        if self.table is None:
            return self.digits.join(planes, width)
        places = self.digits.join(planes, 2)
        if len(places) and int(places.max()) >= len(self.table):
            raise ModelError("a block names a number that is not in its table")
        return self.table[places]


class Coding(NamedTuple):
    """How a plane is coded: its context, and the way of each group that the context makes."""

    bits: float
    context: int
    ways: npt.NDArray[np.intp]


def encode(data: bytes | memoryview, kind: Kind) -> bytes:
    """Return *data* in the fewest bytes; `decode` restores it."""
    values = kind.numbers(data)
    written = ((form, _codings(form.planes(values))) for form in _forms(values, kind))
    form, codings = min(written, key=lambda one: _bits(*one))
    best = min(bytes((STORED,)) + bytes(data), _as_planes(values, form, codings, kind), key=len)
    if worth_searching(lambda: [data], len(best)):
        best = min(best, bytes((ZSTD,)) + zstd(data), key=len)
    return best


def decode(block: memoryview, size: int, kind: Kind) -> bytes:
    """Return the *size* bytes that `encode` made *block* of. Raises ModelError."""
    method, rest = block[0] if len(block) else STORED, block[1:]
    if method == ZSTD:
        return Zstd(rest).read(size)
    if method == PLANES:
        return _from_planes(rest, size // kind.stride, kind)
    if method != STORED or len(rest) != size:
        raise ModelError("a block is damaged")
    return bytes(rest)


def _forms(values: Numbers, kind: Kind) -> Iterator[Form]:
    yield Form(Digits(256, kind.width))
    if kind.width <= 2 and not kind.rotated:
        yield from map(Form, packings(int(values.max(initial=0))))
    sample = np.unique(values[: 2 * _SAMPLE])
    if len(sample) <= _SAMPLE:
        table = np.unique(values)
        if 1 < len(table) <= min(LONGEST_TABLE, len(values) // 2):
            yield Form(Digits(len(table), 1) if len(table) <= 256 else Digits(256, 2), table)


def _bits(form: Form, codings: list[Coding]) -> float:
    table = 0 if form.table is None else 8 * form.table.nbytes
    return table + sum(coding.bits for coding in codings)


def _codings(planes: list[Plane]) -> list[Coding]:
    before, found = list[Symbols](), list[Coding]()
    for plane in planes:
        contexts = range(len(CONTEXTS) if before else 1)
        found.append(min((_coding(plane, before, c) for c in contexts), key=lambda one: one.bits))
        before.append(plane.symbols)
    return found


def _coding(plane: Plane, before: Sequence[Symbols], context: int) -> Coding:
    symbols = plane.symbols.astype(np.int64)
    groups = 1
    if context:
        by = CONTEXTS[context](before)
        groups = int(by.max(initial=0)) + 1
        symbols += by.astype(np.int64) * plane.alphabet
    counts = np.bincount(symbols, minlength=groups * plane.alphabet)
    best, bits = ways(counts.reshape(groups, plane.alphabet))
    return Coding(float(bits.sum()), context, best)


def _groups(context: int, before: Sequence[Symbols], count: int) -> Iterator[tuple[int, Any]]:
    """Yield the groups of a plane that are not empty, and where their symbols are."""
    if not context:
        yield 0, slice(count)
        return
    by = CONTEXTS[context](before)
    order, at = np.argsort(by, kind="stable"), 0
    for group, size in enumerate(np.bincount(by)):
        if size:
            yield group, order[at : at + size]
            at += size


def _as_planes(values: Numbers, form: Form, codings: list[Coding], kind: Kind) -> bytes:
    out = Encoder()
    out.choose(form.table is not None, 2)
    if form.table is None:
        out.choose(form.digits.base, _BASES)
        out.choose(form.digits.places, _PLACES)
    else:
        out.choose(len(form.table) - 1, LONGEST_TABLE)
        out.stored += kind._replace(tagged=False).data(form.table)
    before = list[Symbols]()
    for plane, coding in zip(form.planes(values), codings, strict=True):
        if before:
            out.choose(coding.context, len(CONTEXTS))
        for group, places in _groups(coding.context, before, len(values)):
            out.group(plane.symbols[places], plane.alphabet, int(coding.ways[group]))
        before.append(plane.symbols)
    words = out.words()
    return b"".join((bytes((PLANES,)), len(words).to_bytes(4, "little"), words, out.stored))


def _from_planes(block: memoryview, count: int, kind: Kind) -> bytes:
    length = int.from_bytes(block[:4], "little")
    if length % 4 or length > len(block) - 4:
        raise ModelError("a block is cut short")
    source = Decoder(block[4 + length :], block[4 : 4 + length])
    form = _read_form(source, kind)
    planes = list[Symbols]()
    for _ in range(form.digits.places):
        planes.append(_read_plane(source, planes, count, form.digits.base))
    return kind.data(form.numbers(planes, kind.width))


def _read_form(source: Decoder, kind: Kind) -> Form:
    if source.choose(2):
        length = source.choose(LONGEST_TABLE) + 1
        table = kind._replace(tagged=False).numbers(source.take(length * kind.width))
        return Form(Digits(length, 1) if length <= 256 else Digits(256, 2), table)
    digits = Digits(source.choose(_BASES), source.choose(_PLACES))
    packed = kind.width <= 2 and 2 <= digits.base < 256 and digits.places > 1
    if not packed and digits != (256, kind.width):
        raise ModelError("a block is damaged")
    return Form(digits)


def _read_plane(source: Decoder, before: Sequence[Symbols], count: int, alphabet: int) -> Symbols:
    context = source.choose(len(CONTEXTS)) if before else 0
    symbols = np.empty(count, np.uint8)
    for _, places in _groups(context, before, count):
        size = count if isinstance(places, slice) else len(places)
        symbols[places] = source.group(size, alphabet)
    return symbols
