"""How a model stores weights of few bits so that onnxruntime unpacks them when it loads it."""

from __future__ import annotations

from dataclasses import dataclass, field

import ml_dtypes
import numpy as np
from onnx import TensorProto

from onnxslim import ir
from onnxslim.base import Context
from onnxslim.ir import Array, Constant, Model, Variable
from onnxslim.passes.quantize._grid import Grid
from onnxslim.passes.quantize._weight_sites import Site
from onnxslim.rewrite import Builder

_NATIVE = {4: (21, 10, "int4"), 2: (25, 13, "int2")}
"""Opset, IR version and type that hold so many bits by themselves."""


def holds_initializers(model: Model) -> str | None:
    """Ask for initializers that are no inputs: nodes take more bytes than small weights save."""
    return None if model.ir_version >= 4 else "needs IR version 4, for initializers of its own"


@dataclass
class Writer:
    """Puts nodes that unpack weights in the places of weights, where that takes fewer bytes."""

    model: Model
    context: Context
    tables: dict[tuple[int, int], Builder] = field(default_factory=dict)
    """What turns bytes into codes, shared by all weights of the same bits and type."""
    waiting: dict[tuple[int, int], list[tuple[Site, Builder, Variable, int]]] = field(
        default_factory=dict
    )
    """Weights that only pay where there are enough of them for a table."""
    written: list[Site] = field(default_factory=list)

    def refusal(self, grid_bits: int, size: int) -> str | None:
        """Say why *size* weights cannot be packed."""
        per_byte = 8 // grid_bits
        if self.is_native(grid_bits) or size % per_byte == 0:
            return None
        return f"its {size} weights do not fill bytes of {per_byte} each"

    def is_native(self, bits: int) -> bool:
        """Say whether the model's version has a type of so many bits."""
        if bits == 8:
            return True
        opset, format_, _ = _NATIVE[bits]
        return self.model.opset >= opset and self.model.ir_version >= format_

    def size(self, site: Site, codes: Array, grid: Grid) -> int:
        """Return the bytes that *site* would take as *codes*, but for a table."""
        new, _ = self._unpacking(site, codes, grid)
        return _discarded(new)

    def put(self, site: Site, codes: Array, grid: Grid) -> None:
        """Store *site* as *codes*."""
        key = None if self.is_native(grid.bits) else (grid.bits, site.tensor.elem_type)
        self._settle(site, *self._unpacking(site, codes, grid), key)

    def _unpacking(self, site: Site, codes: Array, grid: Grid) -> tuple[Builder, Variable]:
        new = Builder(self.model.names, site.graph)
        value = self._codes(new, codes, grid.bits, site.tensor.elem_type)
        value = new.Mul(value, grid.scale)
        if grid.offset is not None:
            value = new.Add(value, grid.offset)
        if grid.shape != site.tensor.shape:
            value = new.Reshape(value, np.array(site.tensor.shape))
        return new, value

    def put_as(self, site: Site, values: Array) -> None:
        """Store *site* as *values* of another type."""
        new = Builder(self.model.names, site.graph)
        self._settle(site, new, new.Cast(values, to=site.tensor.elem_type), None)

    def _codes(self, new: Builder, codes: Array, bits: int, elem_type: int) -> Variable:
        if bits == 8:
            return new.Cast(codes, to=elem_type)
        if self.is_native(bits):
            return new.Cast(codes.astype(getattr(ml_dtypes, _NATIVE[bits][2])), to=elem_type)
        table = self._table(bits, elem_type)
        places = new.Cast(pack(codes, bits), to=TensorProto.INT32)
        return new.Reshape(new.Gather(table, places), np.array(codes.shape))

    def _table(self, bits: int, elem_type: int) -> Variable:
        key = bits, elem_type
        if key not in self.tables:
            self.tables[key] = Builder(self.model.names, self.model.graph)
            self.tables[key].Cast(unpacked(bits), to=elem_type)
        table = self.tables[key].nodes[0].outputs[0]
        assert isinstance(table, Variable)
        return table

    def _settle(
        self, site: Site, new: Builder, value: Variable, key: tuple[int, int] | None
    ) -> None:
        gain = old_bytes(site.tensor) - new_bytes(new) - _renaming(site.tensor, value)
        if gain <= 0:
            self._drop(site, new, f"the file would grow by {-gain} bytes")
        elif key is None:
            self._replace(site, new, value)
        else:
            self.waiting.setdefault(key, []).append((site, new, value, gain))

    def finish(self) -> int:
        """Write what waited for a table where the table pays; return how many weights changed."""
        for key, items in self.waiting.items():
            table = self.tables[key]
            lacking = new_bytes(table) - sum(gain for *_, gain in items)
            for site, new, value, _ in items:
                if lacking < 0:
                    self._replace(site, new, value)
                else:
                    self._drop(site, new, f"a table would outweigh the savings by {lacking} bytes")
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

    def _replace(self, site: Site, new: Builder, value: Variable) -> None:
        pinned = self.model.pinned()
        ir.replace_uses(site.tensor, value)
        ir.release([site.tensor], pinned)
        site.graph.nodes = [*new.nodes, *site.graph.nodes]
        self.written.append(site)

    def _drop(self, site: Site, new: Builder, reason: str) -> None:
        _discarded(new)
        self.context.decline(site.node, reason)


def pack(codes: Array, bits: int) -> Array:
    """Return codes as bytes, the first in the lowest bits."""
    per_byte = 8 // bits
    parts = codes.reshape(-1, per_byte).astype(np.uint8) & ((1 << bits) - 1)
    shifted = parts << (bits * np.arange(per_byte, dtype=np.uint8))
    return np.asarray(np.bitwise_or.reduce(shifted, axis=1))


def unpacked(bits: int) -> Array:
    """Return the codes in every byte, (256, codes a byte)."""
    values = np.arange(256)[:, None] >> (bits * np.arange(8 // bits))
    values &= (1 << bits) - 1
    return np.where(values >> (bits - 1), values - (1 << bits), values).astype(np.int8)


def old_bytes(tensor: Constant) -> int:
    """Return what *tensor* takes in the file."""
    source = ir.producer(tensor)
    return ir.initializer_bytes(tensor) if source is None else ir.node_bytes(source)


def _renaming(old: Constant, new: Variable) -> int:
    """Return the bytes that readers grow by, which name *new* instead of *old*."""
    longer = max(0, len(new.name.encode()) - len(old.name.encode()))
    return sum((longer + 1) * sum(t is old for t in node.inputs) for node in set(old.outputs))


def _discarded(new: Builder) -> int:
    """Take nodes that are not wanted out of the use lists; return what they would have taken."""
    size = new_bytes(new)
    for node in new.nodes:
        ir.set_inputs(node, ())
    return size


def new_bytes(new: Builder) -> int:
    """Return what the nodes of *new* and their constants will take."""
    return sum(map(ir.initializer_bytes, new.constants)) + sum(map(ir.node_bytes, new.nodes))
