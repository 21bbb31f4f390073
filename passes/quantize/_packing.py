"""How many codes of a weight go into how many bits.

Where a weight has 256, 16 or 4 codes, bytes hold one, two or four of them. Of any other number of
codes, n, as many as fit go into a word of 64 bits, as the digits of a number of base n, which the
model takes apart by Div and Mod. So there are widths between those of whole bits, and as precise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxslim.ir import Array

_WORD = 64
_LIMIT = 1 << 63
"""Words are int64, the widest type that onnxruntime has long divided."""


@dataclass(frozen=True, order=True)
class Packing:
    """A number of codes, and the bits that each takes."""

    bits: float
    levels: int

    @property
    def per_byte(self) -> int:
        """Codes in a byte, 0 where they are packed into words."""
        return int(8 / self.bits) if self.bits in (2, 4, 8) else 0

    @property
    def per_word(self) -> int:
        """Codes in a word."""
        return round(_WORD / self.bits)

    @property
    def powers(self) -> Array:
        """What the digits of a word are worth."""
        return np.array([self.levels**place for place in range(self.per_word)], np.int64)


def _words(count: int) -> Packing:
    """Return the packing of *count* codes in a word."""
    levels = int(_LIMIT ** (1 / count)) + 1
    while levels**count > _LIMIT:
        levels -= 1
    return Packing(_WORD / count, levels)


BYTES = {bits: Packing(bits, 1 << bits) for bits in (2, 4, 8)}
PACKINGS = tuple(
    sorted([*BYTES.values(), *map(_words, (24, 22, 21, 18, 15, 14, 13, 12, 11, 10, 9))])
)
"""All widths, in ascending order."""


def within(bits: int) -> Packing:
    """Return the packing of most codes that takes no more than *bits*."""
    return [packing for packing in PACKINGS if packing.bits <= bits][-1]


def into_bytes(codes: Array, bits: int) -> Array:
    """Return codes as bytes, the first in the lowest bits; the last byte is filled with zeros."""
    per_byte = 8 // bits
    flat = _filled(codes, per_byte)
    parts = flat.astype(np.uint8) & ((1 << bits) - 1)
    shifted = parts << (bits * np.arange(per_byte, dtype=np.uint8))
    return np.asarray(np.bitwise_or.reduce(shifted, axis=1))


def out_of_bytes(bits: int) -> Array:
    """Return the codes in every byte, (256, codes a byte)."""
    values = np.arange(256)[:, None] >> (bits * np.arange(8 // bits))
    values &= (1 << bits) - 1
    return np.where(values >> (bits - 1), values - (1 << bits), values).astype(np.int8)


def into_words(digits: Array, packing: Packing) -> Array:
    """Return numbers from 0 to the number of codes as words, (words, 1)."""
    flat = _filled(digits, packing.per_word).astype(np.int64)
    return np.asarray((flat * packing.powers).sum(1, dtype=np.int64))[:, None]


def _filled(codes: Array, parts: int) -> Array:
    """Return codes as rows of *parts*, zeros at the end."""
    return np.pad(codes.reshape(-1), (0, -codes.size % parts)).reshape(-1, parts)
