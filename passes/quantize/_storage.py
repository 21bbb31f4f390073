"""How a model stores weights of few bits so that onnxruntime unpacks them when it loads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import ml_dtypes
import numpy as np
from onnx import TensorProto

from onnxslim import ir
from onnxslim.base import Context
from onnxslim.ir import Array, Constant, Model, Tensor, Variable
from onnxslim.passes.quantize._grid import Grid
from onnxslim.passes.quantize._packing import Packing, into_bytes, into_words, out_of_bytes
from onnxslim.rewrite import Builder
from onnxslim.sites import Site

_NATIVE = {4: (21, 10, "int4"), 2: (25, 13, "int2")}
"""Opset, IR version and type that hold so many bits by themselves."""

_FEW = 16
"""So many scales take no fewer bytes as halves, with the node that makes them whole."""


@dataclass(frozen=True, eq=False)
class Packed:
    """Weights as codes of a grid."""

    codes: Array
    grid: Grid
    packing: Packing

    def decode(self, shape: Sequence[int]) -> Array:
        """Return the weights as the model computes them."""
        return self.grid.decode(self.codes, shape)


Stored = Packed | Array
"""Weights as codes, or as they are, in another type perhaps."""


@dataclass(frozen=True, eq=False)
class _Waiting:
    """Nodes for a weight that read tables."""

    site: Site
    new: Builder
    value: Variable
    tables: frozenset[tuple[int, int]]


@dataclass
class Writer:
    """Puts nodes that unpack weights in the places of weights, where that takes fewer bytes."""

    model: Model
    context: Context
    tables: dict[tuple[int, int], Builder] = field(default_factory=dict)
    """What turns bytes into codes, shared by all weights of the same bits and type."""
    shared: dict[tuple[str, tuple[int, ...], bytes], Constant] = field(default_factory=dict)
    """Small constants that many weights are unpacked with, by what they hold."""
    paid: set[Constant] = field(default_factory=set)
    """Those of them that something reads."""
    waiting: list[_Waiting] = field(default_factory=list)
    """Weights that only pay where there are enough of them for a table."""
    written: list[Site] = field(default_factory=list)

    def put(self, site: Site, parts: Sequence[Stored], axis: int = 0) -> None:
        """Store *site*, whose parts follow each other along *axis*."""
        new = self._builder(site)
        value = self._unpacking(new, site, parts, axis)
        keys = (self._table_of(part, site) for part in parts)
        self._settle(_Waiting(site, new, value, frozenset(key for key in keys if key)))

    def size(self, site: Site, part: Packed) -> int:
        """Return the bytes that a part of *site* takes, but for what it shares with others."""
        new = self._builder(site)
        self._unpacked(new, site, part)
        return self._discarded(new)

    def _builder(self, site: Site) -> Builder:
        return Builder(self.model.names, site.graph, terse=True)

    # Nodes

    def _unpacking(self, new: Builder, site: Site, parts: Sequence[Stored], axis: int) -> Variable:
        if len(parts) > 1:
            return new.Concat(*(self._part(new, site, part) for part in parts), axis=axis)
        made = self._part(new, site, parts[0])
        assert isinstance(made, Variable)
        return made

    def _part(self, new: Builder, site: Site, part: Stored) -> Tensor:
        if isinstance(part, Packed):
            return self._unpacked(new, site, part)
        if part.dtype == ir.numpy_type(site.tensor.elem_type):
            return new.tensor(part)
        return new.Cast(part, to=site.tensor.elem_type)

    def _unpacked(self, new: Builder, site: Site, part: Packed) -> Variable:
        """Compute weights from their codes."""
        grid = part.grid
        value = new.Mul(self._codes(new, site, part), self._scale(new, grid.scale))
        if grid.offset is not None:
            value = new.Add(value, _trimmed(grid.offset))
        if len(grid.shape) != len(site.tensor.shape):
            value = new.Reshape(value, self._share(np.array(site.tensor.shape)))
        return value

    def _scale(self, new: Builder, scale: Array) -> Array | Variable:
        """Return scales as they are, or in half the bits where they fit and that takes fewer bytes.

        Casts know bfloat16 since opset 13.
        """
        scale = _trimmed(scale)
        if scale.size > _FEW and scale.dtype.itemsize > 2:
            for dtype in (np.float16, ml_dtypes.bfloat16)[: 1 + (new.version >= 13)]:
                halves = scale.astype(dtype)
                if (halves.astype(scale.dtype) == scale).all():
                    return new.Cast(halves, to=ir.elem_type(scale.dtype))
        return scale

    def _codes(self, new: Builder, site: Site, part: Packed) -> Variable:
        packing, elem_type = part.packing, site.tensor.elem_type
        if packing.bits == 8:
            return new.Cast(part.codes, to=elem_type)
        if self._is_native(packing):
            native = getattr(ml_dtypes, _NATIVE[int(packing.bits)][2])
            return new.Cast(part.codes.astype(native), to=elem_type)
        if packing.per_byte:
            places = into_bytes(part.codes, int(packing.bits))
            table = self._table(int(packing.bits), elem_type)
            values = new.Gather(table, new.Cast(places, to=TensorProto.INT32))
            return self._shaped(new, values, part.codes, packing.per_byte)
        words = into_words(part.codes.astype(np.int64) - part.grid.low, packing)
        base = self._share(np.array(packing.levels, np.int64))
        digits = self._digits(new, new.Div(words, self._share(packing.powers)), base)
        values = new.Cast(digits, to=elem_type)
        low = self._share(np.array(part.grid.low, ir.numpy_type(elem_type)))
        return self._shaped(new, new.Add(values, low), part.codes, packing.per_word)

    def _digits(self, new: Builder, numbers: Variable, base: Constant) -> Variable:
        """Return the last digits of *numbers*; Mod came with opset 10."""
        if new.version >= 10:
            return new.Mod(numbers, base)
        return new.Sub(numbers, new.Mul(new.Div(numbers, base), base))

    def _shaped(self, new: Builder, values: Variable, codes: Array, parts: int) -> Variable:
        """Give *values*, in rows of so many *parts*, the shape of *codes*."""
        if codes.size % parts:
            values = new.Reshape(values, self._share(np.array([-1])))
            ends = np.array([codes.size])
            if new.version >= 10:
                values = new.Slice(values, self._share(np.array([0])), self._share(ends))
            else:
                values = new.Slice(values, starts=[0], ends=ends.tolist())
        return new.Reshape(values, self._share(np.array(codes.shape)))

    def _share(self, array: Array) -> Constant:
        """Return a constant that holds *array*, the same one each time."""
        key = array.dtype.name, array.shape, array.tobytes()
        if key not in self.shared:
            self.shared[key] = ir.constant(self.model.names.shortest(), array)
        return self.shared[key]

    def _is_native(self, packing: Packing) -> bool:
        """Say whether the model's version has a type of so many bits."""
        if packing.bits not in _NATIVE:
            return packing.bits == 8
        opset, format_, _ = _NATIVE[int(packing.bits)]
        return self.model.opset >= opset and self.model.ir_version >= format_

    def _table_of(self, part: Stored, site: Site) -> tuple[int, int] | None:
        if not isinstance(part, Packed):
            return None
        packing = part.packing
        if self._is_native(packing) or not packing.per_byte:
            return None
        return int(packing.bits), site.tensor.elem_type

    def _table(self, bits: int, elem_type: int) -> Variable:
        key = bits, elem_type
        if key not in self.tables:
            self.tables[key] = Builder(self.model.names, self.model.graph, terse=True)
            self.tables[key].Cast(out_of_bytes(bits), to=elem_type)
        table = self.tables[key].nodes[0].outputs[0]
        assert isinstance(table, Variable)
        return table

    # What pays

    def _settle(self, made: _Waiting) -> None:
        gain = self._gain(made)
        if gain <= 0:
            self._drop(made, f"the file would grow by {-gain} bytes")
        elif made.tables:
            self.waiting.append(made)
        else:
            self._replace(made)

    def _gain(self, made: _Waiting) -> int:
        """Return the bytes saved, with shared constants that nothing else has paid for."""
        cost = made.new.size() + sum(map(ir.initializer_bytes, self._used(made) - self.paid))
        return (
            ir.stored_bytes(made.site.tensor)
            - cost
            - ir.renaming_bytes(made.site.tensor, made.value)
        )

    def _used(self, made: _Waiting) -> set[Constant]:
        """Return the shared constants that *made* reads."""
        read = {tensor for node in made.new.nodes for tensor in node.inputs}
        return {constant for constant in self.shared.values() if constant in read}

    def finish(self) -> int:
        """Write what waited for a table where the table pays; return how many weights changed."""
        while any(self._drop_users(key) for key in self.tables):
            pass
        for made in self.waiting:
            self._replace(made)
        for table in self.tables.values():
            if table.nodes[0].outputs[0].outputs:
                self.model.graph.nodes = [*table.nodes, *self.model.graph.nodes]
            else:
                ir.set_inputs(table.nodes[0], ())
        if self.written:
            for graph in self.model.graphs():
                graph.compact()
            self.context.forget()
        return len(self.written)

    def _drop_users(self, key: tuple[int, int]) -> bool:
        """Let go of what reads a table that does not pay; say whether there was anything."""
        users = [made for made in self.waiting if key in made.tables]
        lacking = self.tables[key].size()
        for made in users:
            others = (self.tables[other].size() for other in made.tables - {key})
            lacking -= self._gain(made) - sum(others)
        if lacking < 0:
            return False
        for made in users:
            self._drop(made, f"a table would outweigh the savings by {lacking} bytes")
        self.waiting = [made for made in self.waiting if made not in users]
        return bool(users)

    def _replace(self, made: _Waiting) -> None:
        site, pinned = made.site, self.model.pinned()
        self.paid |= self._used(made)
        ir.replace_uses(site.tensor, made.value)
        ir.release([site.tensor], pinned)
        site.graph.nodes = [*made.new.nodes, *site.graph.nodes]
        self.written.append(site)

    def _drop(self, made: _Waiting, reason: str) -> None:
        self._discarded(made.new)
        self.context.decline(made.site.node, reason)

    @staticmethod
    def _discarded(new: Builder) -> int:
        """Take nodes that are not wanted out of the use lists; return what they would take."""
        size = new.size()
        new.discard()
        return size


def _trimmed(array: Array) -> Array:
    """Return *array* without leading axes of length 1, which broadcasting adds."""
    kept = next((axis for axis, size in enumerate(array.shape) if size > 1), array.ndim)
    return array.reshape(array.shape[kept:])
