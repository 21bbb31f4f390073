"""Sequences whose elements are known tensors.

A sequence that the graph itself builds, or splits a tensor into, is read at fixed places: then its
readers can have the tensors. Source: the sequence operators of ONNX since opset 11.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from onnxslim import ir
from onnxslim.base import Context, Effect, Pass
from onnxslim.errors import Declined
from onnxslim.ir import Graph, Model, Node, Tensor
from onnxslim.rewrite import Builder
from onnxslim.shapes import Facts

_MOST_PIECES = 256


class UnpackSequences(Pass):
    """Read the tensors in a sequence directly where they are known."""

    name = "unpack-sequences"
    effect = Effect.EXACT

    def apply(self, model: Model, context: Context) -> int:
        """Sweep every graph once, first node first."""
        if not context.find(model, _RULES):
            return 0
        inline, pinned = model.graphs_without_initializers(), model.pinned()
        return sum(
            _Unpacking(graph, model, graph in inline, pinned, context).run()
            for graph in list(model.graphs())
        )


@dataclass
class _Unpacking:
    """The sequences of one graph."""

    graph: Graph
    model: Model
    inline: bool
    """Whether new constants will be Constant nodes."""
    pinned: frozenset[int]
    context: Context
    splits: dict[Node, Node | None] = field(default_factory=dict)
    """The Split that takes the place of a SplitToSequence; None where it would not pay."""
    rows: dict[Node, bool] = field(default_factory=dict)
    """Whether a Gather is to take the place of each reader of a SplitToSequence."""

    def __post_init__(self) -> None:
        self.new = Builder(self.model.names, self.graph)
        self.facts = self.context.facts(self.model)

    def run(self) -> int:
        changes, nodes = 0, list[Node]()
        for node in self.graph.nodes:
            rule = _RULES.get(node.operator)
            if rule is not None and not node.erased:
                changes += self._try(rule, node)
            nodes += [*self.new.nodes, node]  # what is made now reads what comes before the node
            self.new.nodes.clear()
        if changes:
            self.graph.nodes = nodes
            self.graph.compact()
        return changes

    def _try(self, rule: Rule, node: Node) -> bool:
        try:
            found = rule(self, node)
            if found is None:
                return False
            self._put(node, found)
        except Declined as verdict:
            self.context.decline(node, str(verdict))
            return False
        ir.erase([node], self.pinned)
        return True

    def _put(self, node: Node, found: Tensor) -> None:
        """Let *found* take the place of what *node* computes."""
        target, source = node.outputs[0], ir.producer(found)
        if source is not None and source in self.new.nodes and len(source.outputs) == 1:
            node.outputs[0] = ir.absent()
            source.outputs[0] = target
        else:
            ir.substitute(target, found, self.graph, self.pinned)

    # Elements

    def elements(self, sequence: Tensor) -> list[Tensor] | None:
        """Return the tensors in *sequence*, None where they are not known."""
        node = ir.producer(sequence)
        if node is None or ir.has_parameters(node):
            return None
        rule = _ELEMENTS.get(node.operator)
        return None if rule is None else rule(self, node)

    def inserted(self, node: Node) -> list[Tensor] | None:
        before = self.elements(node.inputs[0])
        at = len(before or ()) if node.input(2) is None else self.index(node, 2)
        if before is None or at is None or not -len(before) <= at <= len(before):
            return None
        at = at + len(before) if at < 0 else at
        return [*before[:at], node.inputs[1], *before[at:]]

    def erased(self, node: Node) -> list[Tensor] | None:
        before = self.elements(node.inputs[0])
        at = -1 if node.input(1) is None else self.index(node, 1)
        if before is None or at is None or not -len(before) <= at < len(before):
            return None
        return [t for i, t in enumerate(before) if i != at % len(before)]

    def split(self, node: Node) -> list[Tensor] | None:
        """Return the outputs of a Split that does what a SplitToSequence *node* does."""
        if node not in self.splits:
            sizes = self._sizes(node)
            if sizes is None or not self._is_unpacked(node, len(sizes)):
                return None
            self.splits[node] = self._split(node, sizes)
        made = self.splits[node]
        return None if made is None else list(made.outputs)

    def _is_unpacked(self, node: Node, count: int) -> bool:
        """Say whether nobody will need the sequence that *node* makes any more."""
        if node.graph is not self.graph or id(node.outputs[0]) in self.pinned:
            return False
        pinned: list[int] = []  # elements that become graph outputs: each can be only one
        for reader in node.outputs[0].outputs:
            is_output = id(reader.outputs[0]) in self.pinned
            index = self.index(reader, 1) if reader.operator == "SequenceAt" else None
            if index is not None and -count <= index < count:
                pinned += [index % count] * is_output
            elif reader.operator == "SequenceLength":
                pinned += [-1] * 2 * is_output
            elif reader.operator != "ConcatFromSequence" or reader.attr("new_axis", 0):
                return False
        return len(set(pinned)) == len(pinned)

    def _sizes(self, node: Node) -> list[int] | None:
        """Return the lengths of the pieces."""
        split, dims = node.constant(1), self.facts.dims(node.inputs[0])
        if split is None:
            return None
        if split.ndim:
            return [int(n) for n in split]
        axis, step = node.attr("axis", 0), int(split)
        total = dims[axis] if dims is not None and -len(dims) <= axis < len(dims) else None
        if not isinstance(total, int) or step < 1 or total > step * _MOST_PIECES:
            return None
        return [min(step, total - at) for at in range(0, total, step)]

    def _split(self, node: Node, sizes: list[int]) -> Node | None:
        axis, x = node.attr("axis", 0), node.inputs[0]
        new, operands, attrs = Builder(self.model.names, self.graph), [x], {"axis": axis}
        if new.version >= 13:
            operands.append(np.asarray(sizes, np.int64))
        else:
            attrs["split"] = sizes
        new.node("Split", operands, attrs, outputs=len(sizes))
        (made,) = new.nodes
        made.name = node.name
        readers = node.outputs[0].outputs
        joined = sum(reader.operator == "ConcatFromSequence" for reader in readers)
        listed = joined * sum(len(output.name) + 2 for output in made.outputs)
        if not self._pays(new, [node, *(r for r in readers if r.operator == "SequenceAt")], listed):
            new.discard()
            return None
        self.new.nodes += new.nodes
        return made

    def are_rows(self, split: Node) -> bool:
        """Say whether to read rows of a tensor where readers take them from its *split*."""
        if split not in self.rows:
            readers, new = split.outputs[0].outputs, Builder(self.model.names, self.graph)
            places = [self.index(r, 1) if r.operator == "SequenceAt" else None for r in readers]
            known = [place for place in places if place is not None]
            for place in known:
                _gathered(new, split, place)
            self.rows[split] = len(known) == len(readers) and self._pays(new, [split, *readers])
            new.discard()
        return self.rows[split]

    def _pays(self, new: Builder, gone: Iterable[Node], more: int = 0) -> bool:
        """Say whether *new* nodes, and *more* bytes, take no more than those that are *gone*."""
        return new.size(self.inline) + more <= sum(map(ir.node_bytes, gone))

    def index(self, node: Node, slot: int) -> int | None:
        """Return an input that is a constant number."""
        value = node.constant(slot)
        return None if value is None or value.size != 1 else int(value.reshape(-1)[0])


# What reads sequences -----------------------------------------------------------------------------


def _at(u: _Unpacking, node: Node) -> Tensor | None:
    index, source = u.index(node, 1), ir.producer(node.inputs[0])
    if index is None:
        return None
    if source is not None and source.operator == "SplitToSequence" and source.input(1) is None:
        return _row(u, source, index)
    found = u.elements(node.inputs[0])
    return found[index] if found is not None and -len(found) <= index < len(found) else None


def _row(u: _Unpacking, split: Node, index: int) -> Tensor | None:
    """Take one of the pieces of length 1 that a SplitToSequence makes, if that pays."""
    fixed = ir.has_parameters(split) or id(split.outputs[0]) in u.pinned
    return None if fixed or not u.are_rows(split) else _gathered(u.new, split, index)


def _gathered(new: Builder, split: Node, index: int) -> Tensor:
    """Take a row of what *split* parts."""
    at = np.asarray([index] if split.attr("keepdims", 1) else index, np.int64)
    return new.Gather(split.inputs[0], at, axis=split.attr("axis", 0))


def _length(u: _Unpacking, node: Node) -> Tensor | None:
    found = u.elements(node.inputs[0])
    return None if found is None else u.new.tensor(np.asarray(len(found), np.int64))


def _concat(u: _Unpacking, node: Node) -> Tensor | None:
    if node.attr("new_axis", 0):
        return None
    found, axis = u.elements(node.inputs[0]), node.attr("axis")
    if not found or not _fit(u.facts, found, axis):
        return None
    return u.new.Concat(*found, axis=axis)


def _fit(facts: Facts, tensors: list[Tensor], axis: int) -> bool:
    """Say whether Concat takes them, for all that is known.

    onnxruntime lets empty tensors of any shape pass in a sequence; ONNX does not in a Concat.
    """
    shapes = [shape for shape in map(facts.shape, tensors) if shape is not None]
    if len({len(shape) for shape in shapes}) > 1:
        return False
    columns = list(zip(*shapes, strict=True))
    return all(
        len({dim for dim in dims if isinstance(dim, int)}) <= 1
        for i, dims in enumerate(columns)
        if i != axis % len(columns)
    )


Rule = Callable[[_Unpacking, Node], Tensor | None]
_RULES: Mapping[str, Rule] = {
    "ConcatFromSequence": _concat,
    "SequenceAt": _at,
    "SequenceLength": _length,
}
_ELEMENTS: Mapping[str, Callable[[_Unpacking, Node], list[Tensor] | None]] = {
    "Identity": lambda u, node: u.elements(node.inputs[0]),
    "SequenceConstruct": lambda _, node: list(node.inputs),
    "SequenceEmpty": lambda _, node: [],
    "SequenceErase": _Unpacking.erased,
    "SequenceInsert": _Unpacking.inserted,
    "SplitToSequence": _Unpacking.split,
}
