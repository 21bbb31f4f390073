"""The removal: mark what is needed, round the counts, cut everything else in one go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

import numpy as np

from onnxslim import ir
from onnxslim.base import Context
from onnxslim.ir import Array, Constant, Graph, Model, Node, Store, Tensor
from onnxslim.passes.channels._analysis import Analysis, Site
from onnxslim.passes.channels._expansion import Expansion
from onnxslim.passes.channels._linear import Linear, Way
from onnxslim.passes.channels._seeds import has_constants, has_dead, has_duplicates
from onnxslim.passes.channels._table import TRANSFERS
from onnxslim.passes.channels._values import ONE
from onnxslim.rewrite import Builder
from onnxslim.shapes import Facts

Align = Literal["speed", "bytes"]


class Wanted(NamedTuple):
    """Which channels a pass removes besides those that nobody reads."""

    constants: bool = False
    duplicates: bool = False
    align: Align = "speed"


def remove(model: Model, context: Context, wanted: Wanted) -> int:
    """Remove channels from every graph of *model*; return how many sets were cut."""
    changes = 0
    for graph in list(model.graphs()):
        if not _promises(graph, wanted, model.store, context.facts(model)):
            continue
        expands = wanted.constants and wanted.align == "bytes"
        removal = _Removal(_analysed(model, graph, context, expands), wanted)
        removal.mark()
        removal.explain()
        cut = removal.cut()
        if cut:
            context.forget()
        changes += cut
    return changes


def _analysed(model: Model, graph: Graph, context: Context, expands: bool) -> Analysis:
    """Return the analysis of *graph*, which another pass may have made."""
    done, facts = context.once(model, _none), context.facts(model)
    analysis = done.get((graph, expands))
    if analysis is None or analysis.facts is not facts:
        analysis = done[graph, expands] = Analysis(model, graph, facts, context, expands=expands)
        analysis.run(TRANSFERS)
    analysis.context = context
    return analysis


def _none(_: Model) -> dict[tuple[Graph, bool], Analysis]:
    return {}


_MIXING = frozenset({"Conv", "ConvTranspose", "GRU", "Gemm", "LSTM", "MatMul", "RNN"})


def _promises(graph: Graph, wanted: Wanted, store: Store, facts: Facts) -> bool:
    """Say whether an analysis of *graph* may find something."""
    if not any(node.operator in _MIXING for node in graph.nodes):
        return False
    if wanted.constants and has_constants(graph, store):
        return True
    if wanted.duplicates:
        return has_duplicates(graph, store)
    return not wanted.constants and has_dead(graph, store, facts)


class Edit:
    """A node that is rewritten, and what it was before."""

    def __init__(self, node: Node, new: Builder) -> None:
        """Remember what *node* is like; *new* takes what is put beside it."""
        self.node, self.new = node, new
        self.inputs, self._outputs = list(node.inputs), list(node.outputs)
        self._op, self._attrs, self._bytes = node.op, node.attrs, ir.node_bytes(node)

    @property
    def growth(self) -> int:
        """How many bytes were added, not counting constants that nobody reads any more."""
        constants = sum(ir.initializer_bytes(c) for c in self.new.constants if c.outputs)
        nodes = sum(map(ir.node_bytes, (self.node, *self.new.nodes)))
        return constants + nodes - self._bytes

    def undo(self) -> None:
        """Make the node what it was."""
        for node in self.new.nodes:
            ir.set_inputs(node, ())
            node.outputs.clear()
        self.node.op, self.node.attrs = self._op, self._attrs
        ir.set_inputs(self.node, self.inputs)
        for index, tensor in enumerate(self._outputs):
            if self.node.outputs[index] is not tensor:
                self.node.outputs[index] = tensor


def _freed(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of the constants that nobody reads any more."""
    constants = (t for t in tensors if isinstance(t, Constant) and not t.outputs)
    return sum(map(ir.initializer_bytes, constants))


class _Removal:
    """What is kept, and the cut."""

    def __init__(self, analysis: Analysis, wanted: Wanted) -> None:
        self.analysis, self.places, self.wanted = analysis, analysis.settle(), wanted
        self.readers: dict[int, list[Linear | Expansion]] = {}
        self.done: dict[Linear | Expansion, Array] = {}
        for linear in analysis.linears:
            linear.plan(wanted.constants, wanted.duplicates)
            self.done[linear] = np.zeros(len(linear.rows), bool)
            for root in sorted(set(self.places.of(linear.rows).tolist())):
                self.readers.setdefault(root, []).append(linear)

    # Marking

    def mark(self) -> None:
        """Keep what is needed; then round the number of channels that are left."""
        for linear in self.analysis.linears:
            self._read(linear)
        self._spread()
        self._nonempty()
        while self.wanted.align == "speed" and self._rounded():
            self._spread()
        while self._overflowing():
            self._spread()

    def _spread(self) -> None:
        while news := self.places.news():
            for linear in dict.fromkeys(one for root in news for one in self.readers.get(root, ())):
                self._read(linear)

    def _read(self, linear: Linear | Expansion) -> None:
        """Keep the input channels that the kept outputs of a layer need."""
        if linear.inputs.axis is None:
            return
        rows = self.places.kept(linear.rows) & ~self.done[linear]
        if not rows.any():
            return
        self.done[linear] |= rows
        columns = np.flatnonzero(linear.used(rows))
        places, ways = linear.inputs.places, linear.ways[columns]
        name = f"{linear.node.operator} {linear.node.name or linear.node.outputs[0].name}"
        needed, merged = columns[ways == Way.NOT], columns[ways == Way.MERGE]
        border = np.zeros(len(needed), bool)
        if isinstance(linear, Linear) and self.wanted.constants and not linear.takes_bias:
            border = linear.base[needed] == ONE
        self.places.keep(places[needed[~border]], f"{name} needs it, or one that is tied to it")
        self.places.keep(places[needed[border]], f"{name} pads with zeros, so that one must stay")
        self.places.keep(places[linear.target[merged]], f"{name} reads others through it")

    def _dims(self) -> Iterator[Array]:
        """Yield the sets along every axis that can be cut, each once."""
        seen = set()
        for known in self.analysis.channels.values():
            if known.axis is None:
                continue
            roots = self.places.of(known.places)
            if roots.tobytes() not in seen:
                seen.add(roots.tobytes())
                yield roots

    def _nonempty(self) -> None:
        """Keep one channel of each tensor: none of them may be empty."""
        for roots in list(self._dims()):
            if not self.places.kept(roots).any():
                self.places.keep(roots[:1], "a tensor cannot be empty")
                self._spread()

    def _rounded(self) -> bool:
        """Keep some more channels where their number would run slowly; say whether any."""
        for roots in self._dims():
            kept = self.places.kept(roots)
            count, width = int(kept.sum()), len(roots)
            goal = _fast(count, width)
            if count < goal and _largest_set(roots) <= 2:
                reason = "so that the number of channels runs fast"
                self.places.keep(roots[~kept][: goal - count], reason)
                return True
        return False

    def _overflowing(self) -> bool:
        """Keep what a half-precision layer cannot take over; say whether anything."""
        for linear in self.analysis.linears:
            if not isinstance(linear, Linear) or linear.weight.dtype.itemsize > 2:
                continue
            columns = self.places.kept(linear.inputs.places)
            if not columns.all() and not linear.fits(columns, self.places.kept(linear.rows)):
                self.places.keep(linear.inputs.places, "the weights that take it over overflow")
                return True
        return False

    # Cutting

    def cut(self) -> int:
        """Rewrite weights and attributes; return how many sets of channels are gone."""
        gone = {root for roots in self._dims() for root in roots[~self.places.kept(roots)].tolist()}
        if not gone:
            return 0
        edits = list(self._edits())
        read = dict.fromkeys(tensor for edit in edits for tensor in edit.inputs)
        growth = sum(edit.growth for edit in edits) - _freed(read)
        if growth > 0:
            for edit in edits:
                edit.undo()
            reason = f"the file would grow by {growth} bytes"
            self.analysis.context.decline(edits[0].node, reason)
            return 0
        self._finish(edits)
        ir.release(read, self.analysis.model.pinned())
        return len(gone)

    def _edits(self) -> Iterator[Edit]:
        """Rewrite one node after the other."""
        analysis = self.analysis
        for node in analysis.graph.nodes:
            transfer, site = TRANSFERS.get(node.operator), Site(analysis, node)
            if transfer is not None and self._touches(site):
                edit = Edit(node, Builder(analysis.model.names, analysis.graph))
                transfer.cut(site, edit.new)
                yield edit

    def _finish(self, edits: Iterable[Edit]) -> None:
        """Put new nodes into the graph, and declare the new shapes."""
        graph, made = self.analysis.graph, {edit.node: edit.new.nodes for edit in edits}
        graph.nodes = [n for node in graph.nodes for n in (*made.get(node, ()), node)]
        for node in graph.nodes:
            for tensor in node.outputs:
                self._declare(tensor)

    def _touches(self, site: Site) -> bool:
        return any(
            site.mask(tensor) is not None for tensor in (*site.node.inputs, *site.node.outputs)
        )

    def _declare(self, tensor: Tensor) -> None:
        cut = Site(self.analysis, self.analysis.graph.nodes[0]).mask(tensor)
        if cut is not None and not isinstance(tensor, Constant) and tensor.shape is not None:
            axis, kept = cut
            tensor.shape = [*tensor.shape[:axis], int(kept.sum()), *tensor.shape[axis + 1 :]]

    # Explaining

    def explain(self) -> None:
        """Say why channels stay that could have gone for what they are."""
        for linear in self.analysis.linears:
            self._explain(linear.node.outputs[0])
        for node in self.analysis.graph.nodes:
            if node.operator == "BatchNormalization":
                self._explain(node.outputs[0])

    def _explain(self, tensor: Tensor) -> None:
        known = self.analysis.channels.get(tensor)
        if known is None or known.axis is None or not self.wanted.constants:
            return
        mask = known.constant.all(tuple(a for a in range(known.rank) if a != known.axis))
        mask = np.broadcast_to(mask, (len(known.places),)) & self.places.kept(known.places)
        reasons = Counter(self.places.reason(place) for place in known.places[mask].tolist())
        (node,) = tensor.inputs
        for reason, count in sorted(reasons.items()):
            for _ in range(count):
                self.analysis.context.decline(node, f"a constant channel stays: {reason}")


def _fast(count: int, width: int) -> int:
    """Return the smallest number of channels, *count* or more of *width*, that runs fast.

    Multiples of 8 fill the blocks that onnxruntime convolves; multiples of 4 do nearly as well,
    and others fall back to slower kernels.
    """
    for multiple in (8, 4):
        goal = -(-count // multiple) * multiple
        if goal <= width:
            return goal
    return width


def _largest_set(roots: Array) -> int:
    return int(np.bincount(roots).max())
