"""The file format: a header, the text of the model, and its numbers in blocks (docs/pack.md)."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, NamedTuple

from onnxslim.errors import ModelError
from onnxslim.ir.wire import encode_varint
from onnxslim.pack import blocks
from onnxslim.pack.layout import MOST_SPANS, Block, Span, gather
from onnxslim.pack.planes import KINDS, Kind
from onnxslim.pack.text import (
    CHUNK,
    WAYS,
    Bytes,
    Plain,
    Source,
    chunks,
    reader,
    spool,
    squeeze,
    worth_searching,
)

MAGIC, VERSION = b"ONXZ", 1
_DIGEST = 4
_MOST_MEMBERS, _LONGEST_NAME = 1 << 10, 1 << 12
_RELEASED = 1 << 23


class Member(NamedTuple):
    """A file inside a packed one; the model's own name is empty."""

    name: str
    size: int


class Content:
    """Several files as one, the model first under an empty name."""

    def __init__(self, files: Mapping[str, memoryview], forget: Callable[[], None]) -> None:
        """Take *files* by name; *forget* gives back the memory that reading them took."""
        self.members = [Member(name, len(data)) for name, data in files.items()]
        ends = list(itertools.accumulate(member.size for member in self.members))
        self.places = {
            member.name: (end - member.size, end)
            for member, end in zip(self.members, ends, strict=True)
        }
        """Where the files lie in the content, by name."""
        self.size = ends[-1]
        self._files, self._forget, self._read = files, forget, 0

    def read(self, start: int, end: int) -> Iterator[memoryview]:
        """Yield the bytes from *start* to *end*, piece by piece."""
        for name, (first, last) in self.places.items():
            stop = min(last, end)
            for at in range(max(start, first), stop, CHUNK):
                piece = self._files[name][at - first : min(at + CHUNK, stop) - first]
                yield piece
                self._read += len(piece)
                if self._read > _RELEASED:
                    self._read = 0
                    self._forget()


def _digest(members: Sequence[Member]) -> hashlib.blake2b:
    """Start the checksum that tells whether files come back as they were."""
    names = "".join(f"{name}\0{size}\0" for name, size in members)
    return hashlib.blake2b(names.encode(), digest_size=_DIGEST)


def packed(content: Content, spans: Sequence[Span]) -> Iterator[bytes]:
    """Yield the packed form of *content*, of which *spans* are numbers."""
    digest = _digest(content.members)
    for piece in content.read(0, content.size):
        digest.update(piece)
    yield MAGIC + bytes((VERSION,)) + digest.digest()
    with spool() as text, spool() as coded, spool() as whole:
        _write_text(content, spans, text)
        for block in dict.fromkeys(block for _, _, block in gather(spans)):
            pieces = (part for place in block.pieces for part in content.read(*place))
            data = blocks.encode(b"".join(pieces), block.kind)
            coded.write(encode_varint(len(data)) + data)
        parts = [text, coded]
        if spans and worth_searching(lambda: _text(content, ()), _total(parts)):
            _write_text(content, (), whole)
            parts = min(parts, [whole], key=_total)
        for part in parts:
            yield from chunks(part)


def _total(files: Sequence[IO[bytes]]) -> int:
    return sum(file.tell() for file in files)


def _write_text(content: Content, spans: Sequence[Span], target: IO[bytes]) -> None:
    with spool() as file:
        way = squeeze(lambda: _text(content, spans), file)
        target.write(encode_varint(file.tell() * WAYS + way))
        target.writelines(chunks(file))


def _text(content: Content, spans: Sequence[Span]) -> Iterator[Bytes]:
    """Yield what is not numbers: members, where the numbers are, and the bytes around them."""
    (_, size), *others = content.members
    yield encode_varint(2 * len(spans) + bool(others)) + encode_varint(size)
    if others:
        yield encode_varint(len(others))
    for name, size in others:
        coded = name.encode()
        yield encode_varint(size) + encode_varint(len(coded)) + coded
    at = 0
    for start, end, kind in spans:
        count = (end - start) // kind.stride
        yield encode_varint(start - at) + encode_varint(count) + bytes((kind.code,))
        at = end
    at = 0
    for start, end, _ in spans:
        yield from content.read(at, start)
        at = end
    yield from content.read(at, content.size)


class Packed:
    """A packed file that is being read. Raises ModelError for what no `write` has written."""

    def __init__(self, data: memoryview) -> None:
        """Read the header of *data*."""
        if data[: len(MAGIC)] != MAGIC:
            raise ModelError("not a packed model")
        if len(data) < len(MAGIC) + 1 + _DIGEST:
            raise ModelError("cut short")
        if data[len(MAGIC)] != VERSION:
            raise ModelError(f"format {data[len(MAGIC)]} is unknown; update onnxslim")
        head = Plain(data[len(MAGIC) + 1 :])
        self._digest = head.read(_DIGEST)
        length, way = divmod(_varint(head), WAYS)
        self._text, self._coded = reader(head.take(length), way), head
        self._spans, more = divmod(_varint(self._text), 2)
        self.members = list(self._read_members(more))
        self.size = sum(member.size for member in self.members)

    def _read_members(self, more: int) -> Iterator[Member]:
        yield Member("", _varint(self._text))
        for _ in range(_varint(self._text, _MOST_MEMBERS) if more else 0):
            size = _varint(self._text)
            name = self._text.read(_varint(self._text, _LONGEST_NAME))
            yield Member(name.decode(errors="replace"), size)

    def _read_spans(self) -> Iterator[Span]:
        at = 0
        if self._spans > MOST_SPANS:
            raise ModelError("too many numbers")
        for _ in range(self._spans):
            start = at + _varint(self._text, self.size)
            count, code = _varint(self._text, self.size), self._text.read(1)[0]
            if code >= KINDS:
                raise ModelError("an unknown kind of numbers")
            at = start + count * Kind.of(code).stride
            if at > self.size:
                raise ModelError("numbers beyond the end of the model")
            yield Span(start, at, Kind.of(code))

    def content(self) -> Iterator[Bytes]:
        """Yield the files of `members`, one after the other; compare them at the end."""
        digest = _digest(self.members)
        for piece in self._pieces():
            digest.update(piece)
            yield piece
        if digest.digest() != self._digest or self._coded.left:
            raise ModelError("the checksum is wrong")

    def _pieces(self) -> Iterator[Bytes]:
        at, decoded = 0, dict[Block, memoryview]()
        for start, end, block in list(gather(self._read_spans())):
            yield from self._between(start - at)
            if block not in decoded:
                data = self._coded.take(_varint(self._coded))
                decoded[block] = memoryview(blocks.decode(data, block.size, block.kind))
            numbers = decoded[block]
            yield numbers[: end - start]
            decoded[block] = numbers[end - start :]
            if end - start == len(numbers):
                del decoded[block]
            at = end
        yield from self._between(self.size - at)

    def _between(self, count: int) -> Iterator[bytes]:
        for start in range(0, count, CHUNK):
            yield self._text.read(min(CHUNK, count - start))


def _varint(source: Source, most: int = 1 << 56) -> int:
    result = shift = 0
    while shift < 63:
        byte = source.read(1)[0]
        result |= (byte & 127) << shift
        if byte < 128:
            break
        shift += 7
    if result > most:
        raise ModelError("a number is out of range")
    return result
