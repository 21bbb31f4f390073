"""Bytes that are no numbers, by general compressors, in bounded memory."""

from __future__ import annotations

import lzma
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Protocol

from onnxslim.errors import ModelError
from onnxslim.pack.dictionary import DICTIONARY
from onnxslim.pack.libraries import zstandard

Bytes = bytes | memoryview

PLAIN, ZSTD, ZSTD_WITH_DICTIONARY, LZMA = range(4)
WAYS = 4
CHUNK, _SPOOLED = 1 << 20, 1 << 23
_LEVEL, _QUICK, _WINDOW = 19, 6, 1 << 23
_DICTIONARY_UP_TO = 1 << 16
_LZMA = [{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": _WINDOW, "lc": 4, "pb": 0}]


def spool() -> IO[bytes]:
    """Return a file that stays in memory while it is small."""
    return tempfile.SpooledTemporaryFile(_SPOOLED)


def chunks(file: IO[bytes]) -> Iterator[bytes]:
    """Yield what *file* holds."""
    file.seek(0)
    while piece := file.read(CHUNK):
        yield piece


def squeeze(text: Callable[[], Iterable[Bytes]], target: IO[bytes]) -> int:
    """Write *text* in the fewest bytes to *target*, and return in which of `WAYS`."""
    size = sum(len(piece) for piece in text())
    best, ways = PLAIN, [ZSTD, LZMA]
    if size <= _DICTIONARY_UP_TO:
        ways.append(ZSTD_WITH_DICTIONARY)
    with spool() as fewest, spool() as tried:
        fewest.writelines(text())
        for way in ways:
            tried.seek(0)
            _write(way, text(), size, tried)
            if tried.tell() < fewest.tell():
                fewest.seek(0)
                tried.truncate()
                fewest.writelines(chunks(tried))
                fewest.truncate()
                best = way
        target.writelines(chunks(fewest))
    return best


def worth_searching(text: Callable[[], Iterable[Bytes]], rival: int) -> bool:
    """Say whether a long search might bring *text* below *rival* bytes.

    It finds much more than a quick one only in what is repetitive.
    """
    size = sum(len(piece) for piece in text())
    compressor = _zstd(size, level=_QUICK).compressobj(size)
    quick = sum(len(compressor.compress(piece)) for piece in text()) + len(compressor.flush())
    return quick <= max(1.08 * rival, size / 2)


def _write(way: int, pieces: Iterable[Bytes], size: int, target: IO[bytes]) -> None:
    compressor = (
        lzma.LZMACompressor(lzma.FORMAT_RAW, filters=_LZMA)
        if way == LZMA
        else _zstd(size, way).compressobj(size)
    )
    target.writelines(map(compressor.compress, pieces))
    target.write(compressor.flush())


def _zstd(size: int, way: int = ZSTD, level: int = _LEVEL) -> zstandard.ZstdCompressor:
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level,
        source_size=size,
        format=zstandard.FORMAT_ZSTD1_MAGICLESS,
        write_content_size=False,
        write_dict_id=False,
    )
    return zstandard.ZstdCompressor(compression_params=parameters, dict_data=_dictionary(way))


def _dictionary(way: int) -> zstandard.ZstdCompressionDict | None:
    if way != ZSTD_WITH_DICTIONARY:
        return None
    return zstandard.ZstdCompressionDict(DICTIONARY, zstandard.DICT_TYPE_RAWCONTENT)


def zstd(data: Bytes) -> bytes:
    """Compress *data*, to be read by `Zstd`."""
    return _zstd(len(data)).compress(data)


class Source(Protocol):
    """What bytes are read from, from the front."""

    def read(self, count: int) -> bytes:
        """Return the next *count* bytes. Raises ModelError where there are fewer."""


class Plain:
    """Bytes as they are."""

    def __init__(self, data: memoryview) -> None:
        """Read *data*."""
        self._data = data

    @property
    def left(self) -> int:
        """How many bytes were not read yet."""
        return len(self._data)

    def take(self, count: int) -> memoryview:
        """Return the next *count* bytes without copying them."""
        if count > len(self._data):
            raise ModelError("cut short")
        taken, self._data = self._data[:count], self._data[count:]
        return taken

    def read(self, count: int) -> bytes:
        """Return the next *count* bytes."""
        return bytes(self.take(count))


class Zstd:
    """Bytes that zstandard compressed."""

    def __init__(self, data: memoryview, way: int = ZSTD) -> None:
        """Read *data*, compressed in a *way* of `WAYS`."""
        self._reader = zstandard.ZstdDecompressor(
            dict_data=_dictionary(way),
            max_window_size=_WINDOW,
            format=zstandard.FORMAT_ZSTD1_MAGICLESS,
        ).stream_reader(data)

    def read(self, count: int) -> bytes:
        """Return the next *count* bytes."""
        pieces, missing = list[bytes](), count
        while missing:
            try:
                piece = self._reader.read(missing)
            except zstandard.ZstdError as error:
                raise ModelError(f"a compressed part is damaged: {error}") from error
            if not piece:
                raise ModelError("a compressed part ends early")
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)


class Lzma:
    """Bytes that lzma compressed."""

    def __init__(self, data: memoryview) -> None:
        """Read *data*."""
        self._data, self._held = data, b""
        self._expander = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_LZMA)

    def read(self, count: int) -> bytes:
        """Return the next *count* bytes."""
        while len(self._held) < count:
            given, self._data = self._data[:CHUNK], self._data[CHUNK:]
            if not given and self._expander.needs_input:
                raise ModelError("a compressed part ends early")
            try:
                self._held += self._expander.decompress(given, max(count, 1 << 12))
            except (lzma.LZMAError, EOFError) as error:
                raise ModelError(f"a compressed part is damaged: {error}") from error
        found, self._held = self._held[:count], self._held[count:]
        return found


def reader(data: memoryview, way: int) -> Source:
    """Return what reads *data*, which `squeeze` wrote in that *way*."""
    if way == LZMA:
        return Lzma(data)
    return Zstd(data, way) if way else Plain(data)
