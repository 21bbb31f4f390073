"""Arrays of numbers as planes of symbols, the telling ones first, and back.

* bytes of numbers: floats are rotated by one bit, so that the exponent fills the first byte and the
  sign, which is noise, joins the noise at the end of the mantissa
* digits of packed codes, such as two of four bits in a byte or five to base nine in two
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from onnxslim.ir.wire import FLOATS_TAG

Symbols = npt.NDArray[np.integer[Any]]
Numbers = npt.NDArray[np.unsignedinteger[Any]]


class Plane(NamedTuple):
    """Symbols below *alphabet*, one for each number."""

    symbols: Symbols
    alphabet: int


class Kind(NamedTuple):
    """Numbers of so many bytes; *rotated* ones are floats, *tagged* ones fields of a message."""

    width: int
    rotated: bool
    tagged: bool = False

    @classmethod
    def of(cls, code: int) -> Kind:
        """Undo `code`."""
        return TAGGED if code == _TAGGED else cls(1 << (code >> 1), bool(code & 1))

    @property
    def code(self) -> int:
        """What stands for the kind in a file: below `KINDS`."""
        return _TAGGED if self.tagged else 2 * (self.width.bit_length() - 1) + self.rotated

    @property
    def stride(self) -> int:
        """Bytes from one number to the next."""
        return self.width + self.tagged

    def numbers(self, data: bytes | memoryview) -> Numbers:
        """Return *data* as numbers, rotated to the left where they are floats."""
        raw = np.frombuffer(data, np.uint8).reshape(-1, self.stride)[:, self.tagged :]
        values = np.ascontiguousarray(raw).view(f"<u{self.width}").reshape(-1)
        values = values.astype(f"=u{self.width}")
        one = values.dtype.type(1)
        return values << one | values >> (self._bits - one) if self.rotated else values

    def data(self, values: Numbers) -> bytes:
        """Undo `numbers`."""
        one = values.dtype.type(1)
        values = values >> one | values << (self._bits - one) if self.rotated else values
        raw = values.astype(f"<u{self.width}").view(np.uint8).reshape(-1, self.width)
        return np.pad(raw, [(0, 0), (int(self.tagged), 0)], constant_values=FLOATS_TAG).tobytes()

    @property
    def _bits(self) -> Any:
        return np.dtype(f"u{self.width}").type(8 * self.width)


_TAGGED, KINDS = 8, 9
TAGGED = Kind(4, True, True)
"""Floats of an attribute, which ONNX stores as fields of their own."""


class Digits(NamedTuple):
    """How numbers are written: *places* digits to *base*."""

    base: int
    places: int

    def split(self, values: Numbers) -> Iterator[Plane]:
        """Yield the planes of *values*, the most significant digits first."""
        for place in reversed(range(self.places)):
            if self.base == 256:
                symbols = (values >> values.dtype.type(8 * place)).astype(np.uint8)
            else:
                symbols = (values // self.base**place % self.base).astype(np.uint8)
            yield Plane(symbols, self.base)

    def join(self, planes: Sequence[Symbols], width: int) -> Numbers:
        """Undo `split`; what does not fit *width* bytes is cut off."""
        values = np.zeros(len(planes[0]), f"u{width}")
        for symbols in planes:
            values = values << values.dtype.type(8) if self.base == 256 else values * self.base
            values += symbols.astype(values.dtype)
        return values


def packings(largest: int) -> Iterator[Digits]:
    """Yield the ways in which words up to *largest* may hold several codes each."""
    for count in range(2, 9):
        base = 2
        while base**count <= largest:
            base += 1
        if base ** (count - 1) <= largest:
            yield Digits(base, count)
