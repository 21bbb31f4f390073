"""Small numbers in few bits, and the values that they stand for.

A word of one or two bytes holds as many numbers below a base as fit, as the digits of one number.
It is taken apart when the model is loaded, by a table with a row for every word, which costs one
lookup a word where Div and Mod cost two operations a number. Where the model's opset has types of
four or two bits, these hold numbers without a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np
from onnx import TensorProto

from onnxslim.ir import Array, Model, Tensor
from onnxslim.passes.share._pieces import Pieces, ints
from onnxslim.rewrite import Builder

_WORDS = (np.uint8, np.uint16)
_MOST_DIGITS = 16
_RANGE_FROM = 11
"""The opset that has Range; before it, every word of a table stands in the file."""
_WORTH_IT = 64
"""How many words of two bytes a table may have for every one that is looked up in it."""
_WORTH_ITS_OWN = 2
"""The same of a table of one weight's own values; the table of numbers serves all weights."""
_NATIVE = ((4, 25, 13, ml_dtypes.uint2), (16, 21, 10, ml_dtypes.uint4))
"""How many numbers a type has, the opset and the IR version that know it, and the type."""
_SMALL = 1 << 14
"""So many numbers are read no slower in types of a few bits than by a table; more are."""


@dataclass(frozen=True)
class Packing:
    """So many numbers below *base* as the digits of a word, the first the lowest."""

    base: int
    count: int
    kind: type

    @property
    def used(self) -> int:
        """How many words there are."""
        return int(self.base**self.count)

    @property
    def powers(self) -> Array:
        """What the digits are worth."""
        return np.array([self.base**place for place in range(self.count)], np.int64)

    def words(self, codes: Array) -> Array:
        """Return words that hold *codes*; zeros fill the last."""
        filled = np.pad(codes.reshape(-1), (0, -codes.size % self.count))
        return np.asarray(filled.reshape(-1, self.count) @ self.powers).astype(self.kind)


@dataclass(frozen=True)
class Lookup:
    """Makes nodes that read numbers from few bits."""

    pieces: Pieces
    native: bool = False
    """Whether to use types of four and two bits."""
    whole: bool = False
    """Whether no number crosses a byte, as a coder of bytes likes it."""

    def numbers(self, new: Builder, codes: Array, base: int) -> Tensor:
        """Return *codes*, which are below *base*, as int32, in their shape."""
        packing = self._packing(codes, base)
        if packing is not None:
            return self._unpacked(new, self._digits(packing), codes, packing, codes.shape)
        return new.Cast(self._stored(codes, base), to=TensorProto.INT32)

    def values(self, new: Builder, table: Array, codes: Array, shape: tuple[int, ...]) -> Tensor:
        """Return the rows of *table*, (K, width), at *codes*, in all of the given *shape*."""
        base, width = table.shape
        packing = self._packing(codes, base)
        if packing is not None and packing.used <= _WORTH_ITS_OWN * codes.size // packing.count:
            return self._unpacked(new, self._expanded(table, packing), codes, packing, shape)
        whole = width == 1
        places = self.numbers(new, codes.reshape(shape) if whole else codes, base)
        found = new.Gather(self.table(table), places)
        return found if whole else new.Reshape(found, self.pieces.constant(ints(*shape)))

    def table(self, table: Array) -> Tensor:
        """Return *table* as a tensor; long rows are stored in a row, so that it is no layer's."""
        flat = self.pieces.constant(table.reshape(-1))
        if table.shape[1] == 1:
            return flat
        key = "rows", table.dtype.name, table.shape, table.tobytes()
        found = self.pieces.find(key)
        if found is None:
            new = self.pieces.builder()
            made = new.Reshape(flat, self.pieces.constant(ints(*table.shape)))
            found = self.pieces.computed(key, new, made)
        return found

    def _packing(self, codes: Array, base: int) -> Packing | None:
        """Return how words hold *codes*, None where each has one of its own."""
        if self._native_type(base) is not None:
            return None
        only_bytes = self.whole or self.pieces.model.opset < _RANGE_FROM
        return packing(base, codes.size, _WORDS[:1] if only_bytes else _WORDS)

    def _native_type(self, base: int) -> type | None:
        if not self.native:
            return None
        return native_type(self.pieces.model, base)

    def _stored(self, codes: Array, base: int) -> Array:
        """Return *codes* in the smallest type that the model has for them."""
        native = self._native_type(base)
        if native is not None:
            return codes.astype(np.uint8).astype(native)
        return codes.astype(np.uint8 if base <= 256 else np.uint16)

    def _unpacked(
        self, new: Builder, rows: Tensor, codes: Array, packed: Packing, shape: tuple[int, ...]
    ) -> Tensor:
        """Look up what every word of *codes* stands for in *rows*; the last may hold too much."""
        found = new.Gather(rows, new.Cast(packed.words(codes), to=TensorProto.INT32))
        if codes.size % packed.count:
            width = int(np.prod(shape)) // codes.size
            flat = new.Reshape(found, self.pieces.constant(ints(-1)))
            end = self.pieces.constant(ints(codes.size * width))
            found = new.Slice(flat, self.pieces.constant(ints(0)), end)
            if shape == (codes.size * width,):
                return found
        return new.Reshape(found, self.pieces.constant(ints(*shape)))

    def _digits(self, packed: Packing) -> Tensor:
        """Return the numbers that every word holds, (words, numbers a word) of int32."""
        key = packed
        found = self.pieces.find(key)
        if found is None:
            new = self.pieces.builder()
            powers = self.pieces.constant(packed.powers.astype(np.int32))
            quotients = new.Div(self._every_word(new, packed.used), powers)
            made = new.Mod(quotients, self.pieces.constant(np.array(packed.base, np.int32)))
            found = self.pieces.computed(key, new, made)
        return found

    def _every_word(self, new: Builder, used: int) -> Tensor:
        """Return the words below *used*, one in a row."""
        if new.version < _RANGE_FROM:
            return new.Cast(np.arange(used, dtype=np.uint8)[:, None], to=TensorProto.INT32)
        limits = (self.pieces.constant(np.array(number, np.int32)) for number in (0, used, 1))
        return new.Reshape(new.Range(*limits), self.pieces.constant(ints(-1, 1)))

    def _expanded(self, table: Array, packed: Packing) -> Tensor:
        """Return the values that every word stands for."""
        key = packed, table.dtype.name, table.shape, table.tobytes()
        found = self.pieces.find(key)
        if found is None:
            new = self.pieces.builder()
            made = new.Gather(self.table(table), self._digits(packed))
            found = self.pieces.computed(key, new, made)
        return found


def packing(base: int, size: int, words: Sequence[type]) -> Packing | None:
    """Return how words hold *size* numbers below *base* in the fewest bits, shorter words first.

    None where a byte for each is as short, or the table would be large beside what it is for.
    """
    fitting = (Packing(base, _digits_in(base, kind), kind) for kind in words)
    useful = [
        made
        for made in fitting
        if made.count > np.dtype(made.kind).itemsize
        and (made.kind is np.uint8 or made.used <= _WORTH_IT * size // made.count)
    ]
    return max(useful, key=lambda made: made.count / np.dtype(made.kind).itemsize, default=None)


def _digits_in(base: int, kind: type) -> int:
    most, count = int(np.iinfo(kind).max) + 1, 1
    while count < _MOST_DIGITS and base ** (count + 1) <= most:
        count += 1
    return count


def native_type(model: Model, base: int) -> type | None:
    """Return the type of a few bits that holds numbers below *base*, where *model* has one."""
    if base <= 2:
        return None
    fitting = (row for row in _NATIVE if base <= row[0])
    known = (row for row in fitting if model.opset >= row[1] and model.ir_version >= row[2])
    return next((kind for *_, kind in known), None)


def may_be_native(model: Model, count: int) -> bool:
    """Say whether *count* numbers may be stored in types of a few bits, and be read as fast."""
    return count <= _SMALL and native_type(model, _NATIVE[-1][0]) is not None
