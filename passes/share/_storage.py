"""How a model stores weights that share values, so that onnxruntime restores them at load."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from onnx import TensorProto

from onnxslim import ir
from onnxslim.base import Context
from onnxslim.ir import Array, Model, Tensor, Variable
from onnxslim.passes.share._codebook import Codebook
from onnxslim.passes.share._lookup import Lookup, may_be_native
from onnxslim.passes.share._pieces import Pieces, ints
from onnxslim.rewrite import Builder
from onnxslim.sites import Site

_GAPS = (16, 40, 256)
"""Gaps between weights are numbers below these, of which two bytes hold four, three or two."""
Aim = Literal["file", "packed"]
"""Which file shall be small, the model or what the coder of ``onnxslim pack`` makes of it."""
_SPARSE_FROM = 11
"""The opset that has CumSum and ScatterElements."""


@dataclass(frozen=True, eq=False)
class Part:
    """Some channels of a weight, or all of them, that share a codebook."""

    book: Codebook
    shape: tuple[int, ...]
    channels: Array | None = None
    """Which ones, where there are others."""

    def of(self, values: Array, axis: int) -> Array:
        """Return what *values*, of the shape of the weight, hold for these channels."""
        return values if self.channels is None else values.take(self.channels, axis)

    def missed(self, values: Array, axis: int) -> Array:
        """Return what the codebook misses of these channels of *values*."""
        exact = self.of(values, axis).astype(np.float64)
        return np.asarray(exact - self.book.table[self.book.codes].reshape(exact.shape))


@dataclass(frozen=True, eq=False)
class Offer:
    """Nodes that would restore a weight."""

    value: Variable
    builders: tuple[Builder, ...]
    size: int
    """The bytes they add to the file."""
    form: str

    def discard(self) -> None:
        """Take the nodes out of the use lists."""
        for new in self.builders:
            new.discard()


@dataclass
class Store:
    """Puts nodes that restore weights in the places of weights, in the form of fewest bytes."""

    model: Model
    context: Context
    aim: Aim = "file"
    written: list[Site] = field(default_factory=list)
    pieces: Pieces = field(init=False)

    def __post_init__(self) -> None:
        """Begin with nothing that weights share."""
        self.pieces = Pieces(self.model)

    def offer(self, site: Site, parts: Sequence[Part], axis: int = 0) -> Offer:
        """Return what would restore *site*, whose *parts* are channels along *axis*."""
        offers = [self._shortest(site, part) for part in parts]
        if len(offers) == 1:
            return offers[0]
        new = self.builder(site)
        whole = new.Concat(*(offer.value for offer in offers), axis=axis)
        channels = [part.channels for part in parts if part.channels is not None]
        order = np.argsort(np.concatenate(channels))
        kind = np.uint8 if len(order) <= 256 else np.uint16 if len(order) <= 65536 else np.int32
        value = new.Gather(whole, new.Cast(order.astype(kind), to=TensorProto.INT32), axis=axis)
        forms = dict.fromkeys(offer.form for offer in offers)
        builders = *(each for offer in offers for each in offer.builders), new
        return self.priced(value, builders, ", ".join(forms))

    def builder(self, site: Site) -> Builder:
        """Return what makes the nodes of *site*."""
        return Builder(self.model.names, site.graph, terse=True)

    def priced(self, value: Variable, builders: Sequence[Builder], form: str) -> Offer:
        """Return the nodes of *builders* with what they cost."""
        size = sum(new.size() for new in builders) + self.pieces.unpaid_bytes(builders)
        return Offer(value, tuple(builders), size, form)

    def put(self, site: Site, offer: Offer) -> bool:
        """Restore *site* by *offer*, if that takes fewer bytes; say whether it does."""
        grown = offer.size + ir.renaming_bytes(site.tensor, offer.value)
        gain = ir.stored_bytes(site.tensor) - grown
        if gain <= 0:
            offer.discard()
            self.context.decline(site.node, f"the file would grow by {-gain} bytes")
            return False
        self.pieces.pay(offer.builders)
        ir.replace_uses(site.tensor, offer.value)
        ir.release([site.tensor], self.model.pinned())
        nodes = [node for new in offer.builders for node in new.nodes]
        site.graph.nodes = [*nodes, *site.graph.nodes]
        self.written.append(site)
        return True

    def finish(self) -> int:
        """Return how many weights were stored."""
        self.pieces.finish()
        if self.written:
            for graph in self.model.graphs():
                graph.compact()
            self.context.forget()
        return len(self.written)

    def _shortest(self, site: Site, part: Part) -> Offer:
        """Return the form of *part* that takes the fewest bytes."""
        offers = []
        for name, form in self._forms(site, part):
            for native in (False, True)[: 1 + may_be_native(self.model, part.book.codes.size)]:
                new = self.builder(site)
                value = form(new, Lookup(self.pieces, native, self.aim == "packed"), part)
                assert isinstance(value, Variable)
                offers.append(self.priced(value, (new,), name))
        best = min(offers, key=lambda offer: offer.size)
        for offer in offers:
            if offer is not best:
                offer.discard()
        return best

    def _forms(self, site: Site, part: Part) -> Iterator[tuple[str, _Form]]:
        yield "dense", _dense
        if part.book.zero is not None and site.graph.version >= _SPARSE_FROM:
            yield "mask", _mask
            if part.book.table.shape[1] == 1:
                for limit in _GAPS if self.aim == "file" else _GAPS[-1:]:
                    yield "gaps", _gaps(limit)


_Form = Callable[[Builder, Lookup, Part], Tensor]


def _dense(new: Builder, lookup: Lookup, part: Part) -> Tensor:
    """Look every code up."""
    return lookup.values(new, part.book.table, part.book.codes, part.shape)


def _gaps(limit: int) -> _Form:
    """Scatter what is not zero to places that are sums of the gaps, below *limit*, between them."""

    def form(new: Builder, lookup: Lookup, part: Part) -> Tensor:
        book, pieces = part.book, lookup.pieces
        places = _with_short_gaps(np.flatnonzero(book.codes != book.zero), limit - 1)
        gaps = lookup.numbers(new, np.diff(places, prepend=0), limit)
        at = new.CumSum(gaps, pieces.constant(np.array(0, np.int32)))
        values = lookup.values(new, book.table, book.codes[places], (len(places),))
        zero = ir.constant("", np.zeros(1, book.table.dtype))
        empty = new.ConstantOfShape(pieces.constant(ints(book.codes.size)), value=zero)
        flat = new.ScatterElements(empty, at, values)
        return new.Reshape(flat, pieces.constant(ints(*part.shape)))

    return form


def _with_short_gaps(places: Array, longest: int) -> Array:
    """Return *places*, and more of them between those that lie too far apart."""
    gaps = np.diff(places, prepend=0)
    wide = np.flatnonzero(gaps > longest)
    between = [
        np.arange(places[at] - gaps[at] + longest, places[at], longest) for at in wide.tolist()
    ]
    return np.sort(np.concatenate((places, *between)))


def _mask(new: Builder, lookup: Lookup, part: Part) -> Tensor:
    """Say of each weight whether it is zero, and number those that are not."""
    book, pieces = part.book, lookup.pieces
    moving = book.codes != book.zero
    flags = lookup.numbers(new, moving.astype(np.int64), 2)
    numbers = new.Mul(new.CumSum(flags, pieces.constant(np.array(0, np.int32))), flags)
    codes = np.concatenate((np.full(1, book.zero), book.codes[moving]))
    width = book.table.shape[1]
    shape = (len(codes),) if width == 1 else (len(codes), width)
    values = lookup.values(new, book.table, codes, shape)
    return new.Reshape(new.Gather(values, numbers), pieces.constant(ints(*part.shape)))
