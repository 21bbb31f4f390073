"""Small numbers in few bits, and the values that they stand for.

A byte holds as many numbers below a base as fit, as the digits of one number. It is taken apart
when the model is loaded, by a table with a row for every byte, which costs one lookup a byte where
Div and Mod cost two operations a number. Where the model's opset has types of four or two bits,
these hold numbers without a table.
"""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np
from onnx import TensorProto

from onnxslim.ir import Array, Model, Tensor
from onnxslim.passes.share._pieces import Pieces, ints
from onnxslim.rewrite import Builder

_BYTES = 256
_RANGE_FROM = 11
"""The opset that has Range."""
_NATIVE = ((4, 25, 13, ml_dtypes.uint2), (16, 21, 10, ml_dtypes.uint4))
"""How many numbers a type has, the opset and the IR version that know it, and the type."""
_SMALL = 1 << 15
"""So many numbers are read no slower in types of a few bits than by a table; more are."""


@dataclass(frozen=True)
class Lookup:
    """Makes nodes that read numbers from few bits."""

    pieces: Pieces
    native: bool = False
    """Whether to use types of four and two bits."""

    def numbers(self, new: Builder, codes: Array, base: int) -> Tensor:
        """Return *codes*, which are below *base*, as int32, in their shape."""
        if self._is_packed(codes, base):
            return self._unpacked(new, self._digits(base), codes, base, codes.shape)
        return new.Cast(self._stored(codes, base), to=TensorProto.INT32)

    def values(self, new: Builder, table: Array, codes: Array, shape: tuple[int, ...]) -> Tensor:
        """Return the rows of *table*, (K, width), at *codes*, in all of the given *shape*."""
        base, width = table.shape
        if self._is_packed(codes, base):
            return self._unpacked(new, self._expanded(table), codes, base, shape)
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

    def _is_packed(self, codes: Array, base: int) -> bool:
        return per_byte(base) > 1 and self._native_type(base) is None

    def _native_type(self, base: int) -> type | None:
        if not self.native:
            return None
        return native_type(self.pieces.model, base)

    def _stored(self, codes: Array, base: int) -> Array:
        """Return *codes* in the smallest type that the model has for them."""
        native = self._native_type(base)
        if native is not None:
            return codes.astype(np.uint8).astype(native)
        return codes.astype(np.uint8 if base <= _BYTES else np.uint16)

    def _unpacked(
        self, new: Builder, rows: Tensor, codes: Array, base: int, shape: tuple[int, ...]
    ) -> Tensor:
        """Look up what every byte of *codes* stands for in *rows*; the last may hold too much."""
        count = per_byte(base)
        found = new.Gather(rows, new.Cast(_packed(codes, base), to=TensorProto.INT32))
        if codes.size % count:
            width = int(np.prod(shape)) // codes.size
            flat = new.Reshape(found, self.pieces.constant(ints(-1)))
            end = self.pieces.constant(ints(codes.size * width))
            found = new.Slice(flat, self.pieces.constant(ints(0)), end)
            if shape == (codes.size * width,):
                return found
        return new.Reshape(found, self.pieces.constant(ints(*shape)))

    def _digits(self, base: int) -> Tensor:
        """Return the numbers that every byte holds, (bytes, numbers a byte) of int32."""
        key = "digits", base
        found = self.pieces.find(key)
        if found is None:
            new = self.pieces.builder()
            powers = self.pieces.constant(base ** np.arange(per_byte(base), dtype=np.int32))
            quotients = new.Div(self._every_byte(new, base), powers)
            made = new.Mod(quotients, self.pieces.constant(np.array(base, np.int32)))
            found = self.pieces.computed(key, new, made)
        return found

    def _every_byte(self, new: Builder, base: int) -> Tensor:
        """Return all bytes that are used, one in a row."""
        used = base ** per_byte(base)
        if new.version < _RANGE_FROM:
            return new.Cast(np.arange(used, dtype=np.uint8)[:, None], to=TensorProto.INT32)
        limits = (self.pieces.constant(np.array(number, np.int32)) for number in (0, used, 1))
        return new.Reshape(new.Range(*limits), self.pieces.constant(ints(-1, 1)))

    def _expanded(self, table: Array) -> Tensor:
        """Return the values that every byte stands for."""
        key = "values", table.dtype.name, table.shape, table.tobytes()
        found = self.pieces.find(key)
        if found is None:
            new = self.pieces.builder()
            made = new.Gather(self.table(table), self._digits(len(table)))
            found = self.pieces.computed(key, new, made)
        return found


def per_byte(base: int) -> int:
    """Return how many numbers below *base* a byte holds, 0 where it holds none."""
    return max((count for count in range(1, 9) if base**count <= _BYTES), default=0)


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


def _packed(codes: Array, base: int) -> Array:
    """Return bytes that hold *codes* as digits, the first the lowest; zeros fill the last."""
    count = per_byte(base)
    filled = np.pad(codes.reshape(-1), (0, -codes.size % count)).reshape(-1, count)
    return np.asarray(filled @ base ** np.arange(count)).astype(np.uint8)
