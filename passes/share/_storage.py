"""How a model stores weights that share values, so that onnxruntime restores them at load."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from onnx import TensorProto

from onnxslim import ir
from onnxslim.base import Context
from onnxslim.ir import Array, Constant, Model, Tensor, Variable
from onnxslim.passes.share._codebook import Codebook
from onnxslim.rewrite import Builder
from onnxslim.sites import Site

_LONGEST_GAP = 255
_SPARSE_FROM = 11
"""The opset that has CumSum and ScatterElements."""


@dataclass
class Store:
    """Puts nodes that restore weights in the places of weights, in the form of fewest bytes."""

    model: Model
    context: Context
    written: list[Site] = field(default_factory=list)
    tables: dict[tuple[str, bytes], Constant] = field(default_factory=dict)
    """Codebooks by type and content, for weights that share them too."""
    paid: set[Constant] = field(default_factory=set)
    """Those that are in the file."""

    def put(self, site: Site, book: Codebook) -> str | None:
        """Store *site* as *book* says; return the form, None where that takes no fewer bytes."""
        made = {name: self._built(site, book, form) for name, form in self._forms(site, book)}
        sizes = {name: self._size(new) for name, (new, _) in made.items()}
        best = min(sizes, key=lambda name: sizes[name])
        gain = ir.stored_bytes(site.tensor) - sizes[best]
        for name, (new, _) in made.items():
            if name != best or gain <= 0:
                for node in new.nodes:
                    ir.set_inputs(node, ())
        if gain <= 0:
            self.context.decline(site.node, f"the file would grow by {-gain} bytes")
            return None
        new, value = made[best]
        self.paid |= self._read(new)
        ir.replace_uses(site.tensor, value)
        ir.release([site.tensor], self.model.pinned())
        site.graph.nodes = [*new.nodes, *site.graph.nodes]
        self.written.append(site)
        return best

    def finish(self) -> int:
        """Return how many weights were stored."""
        if self.written:
            for graph in self.model.graphs():
                graph.compact()
            self.context.forget()
        return len(self.written)

    def _forms(self, site: Site, book: Codebook) -> list[tuple[str, _Form]]:
        forms: list[tuple[str, _Form]] = [("dense", _dense)]
        if book.zero is not None and site.graph.version >= _SPARSE_FROM:
            forms += [("gaps", _gaps), ("mask", _mask)]
        return forms

    def _built(self, site: Site, book: Codebook, form: _Form) -> tuple[Builder, Variable]:
        new = Builder(self.model.names, site.graph)
        value = form(new, self._table(new, book), book)
        return new, new.Reshape(value, np.array(site.tensor.shape))

    def _table(self, new: Builder, book: Codebook) -> Tensor:
        """Return the codebook; one of long rows has them in a row, so that it is no layer's."""
        flat = book.table.reshape(-1)
        key = flat.dtype.name, flat.tobytes()
        if key not in self.tables:
            self.tables[key] = ir.constant(self.model.names.fresh("values"), flat)
        table = self.tables[key]
        return table if book.table.shape[1] == 1 else new.Reshape(table, np.array(book.table.shape))

    def _size(self, new: Builder) -> int:
        return new.size() + sum(map(ir.initializer_bytes, self._read(new) - self.paid))

    def _read(self, new: Builder) -> set[Constant]:
        """Return the codebooks that *new* reads."""
        inputs = {tensor for node in new.nodes for tensor in node.inputs}
        return {table for table in self.tables.values() if table in inputs}


_Form = Callable[[Builder, Tensor, Codebook], Variable]


def _dense(new: Builder, table: Tensor, book: Codebook) -> Variable:
    """Look every code up."""
    return new.Gather(table, _digits(new, book.codes, len(book.table)))


def _gaps(new: Builder, table: Tensor, book: Codebook) -> Variable:
    """Scatter what is not zero to places that are sums of the gaps between them."""
    places, codes = _with_short_gaps(np.flatnonzero(book.codes != book.zero), book)
    gaps = np.diff(places, prepend=0).astype(np.uint8)
    at = new.CumSum(new.Cast(gaps, to=TensorProto.INT32), np.array(0, np.int32))
    values = new.Gather(table, _digits(new, codes, len(book.table)))
    empty = new.ConstantOfShape(
        np.array([book.codes.size]), value=ir.constant("", np.zeros(1, book.table.dtype))
    )
    return new.ScatterElements(empty, at, values)


def _with_short_gaps(places: Array, book: Codebook) -> tuple[Array, Array]:
    """Return *places*, and zeros between them where they lie too far apart, with their codes."""
    gaps = np.diff(places, prepend=0)
    between = [
        np.arange(place - gap + _LONGEST_GAP, place, _LONGEST_GAP)
        for place, gap in zip(places, gaps, strict=True)
        if gap > _LONGEST_GAP
    ]
    every = np.sort(np.concatenate((places, *between)))
    return every, book.codes[every]


def _mask(new: Builder, table: Tensor, book: Codebook) -> Variable:
    """Say of each weight whether it is zero, and number those that are not."""
    moving = book.codes != book.zero
    flags = _digits(new, moving.astype(np.int64), 2)
    numbers = new.Mul(new.CumSum(flags, np.array(0, np.int32)), flags)
    codes = np.concatenate((np.full(1, book.zero), book.codes[moving]))
    values = new.Gather(table, _digits(new, codes, len(book.table)))
    return new.Gather(values, numbers)


def _digits(new: Builder, codes: Array, base: int) -> Variable:
    """Return *codes*, which are below *base*, as int32; several are stored in a byte."""
    count = max((n for n in range(1, 9) if base**n <= 256), default=1)
    if count == 1:
        kind = np.uint8 if base <= 256 else np.uint16
        return new.Cast(codes.astype(kind), to=TensorProto.INT32)
    padded = np.pad(codes, (0, -codes.size % count)).reshape(-1, count)
    powers = base ** np.arange(count, dtype=np.int32)
    packed = (padded @ powers).astype(np.uint8)[:, None]
    spread = new.Div(new.Cast(packed, to=TensorProto.INT32), powers)
    digits = new.Reshape(new.Mod(spread, np.array(base, np.int32)), np.array([-1]))
    if codes.size == padded.size:
        return digits
    return new.Slice(digits, np.array([0]), np.array([codes.size]))
