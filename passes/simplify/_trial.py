"""Try a replacement; keep it only where it pays: fewer nodes, and not one byte more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from onnx import TensorProto, helper

from onnxslim import ir
from onnxslim.base import Context, Pass
from onnxslim.errors import Declined
from onnxslim.ir import Array, Constant, Graph, Model, Node, Tensor
from onnxslim.passes.simplify._carriers import Carriers
from onnxslim.passes.simplify._cone import cone, cone_bytes
from onnxslim.rewrite import Builder, Site

Results = Mapping[Tensor, Tensor]
"""What takes the place of what."""
Pool = dict[tuple[tuple[int, ...], tuple[int, ...]], Constant]
"""Initializers of a few int64 numbers, by shape and elements."""
_FEW = 16


@dataclass
class Trial(Site):
    """A node under a rule, and the builder of what may take its place."""

    new: Builder
    pool: Pool
    carriers: Carriers
    even: bool = False
    """Set by a rule whose result is better even if it has as many nodes as before."""
    _made: dict[tuple[tuple[int, ...], tuple[int, ...]], Tensor] = field(default_factory=dict)

    def above(self, tensor: Tensor, *operators: str) -> Node | None:
        """Return the node of one of these operators that computes *tensor* as its first output."""
        node = ir.producer(tensor)
        if node is None or node.operator not in operators or node.outputs[0] is not tensor:
            return None
        return None if ir.has_parameters(node) else node

    def private(self, tensor: Tensor) -> bool:
        """Say whether *tensor* is read once, by a node of this graph, and is no graph output."""
        free = id(tensor) not in self.pinned and len(tensor.outputs) == 1
        return free and tensor.outputs[0].graph is self.graph

    def read_only_by(self, tensor: Tensor, *operators: str) -> bool:
        """Say whether all readers of *tensor* are nodes of these operators."""
        free = id(tensor) not in self.pinned
        return free and all(reader.operator in operators for reader in tensor.outputs)

    def ints(self, values: Sequence[int] | int) -> Tensor:
        """Return int64 numbers, or one, as a constant: as one that is in the file if possible."""
        array = np.asarray(values, np.int64)
        found = self.pool.get(_key(array))
        if found is not None and found.outputs:
            return found
        made = self._made.get(_key(array))
        if made is None:
            made = self._made[_key(array)] = self.new.tensor(array)
        return made

    @property
    def out(self) -> Tensor:
        """The first output of the node."""
        return self.node.outputs[0]  # type: ignore[no-any-return]


TrialRule = Callable[[Trial], Tensor | Results | None]
"""Returns what takes the place of the node's first output, or of several tensors; else None."""


class TrialPass(Pass):
    """Replace nodes by rules, one for each operator, where the replacement pays."""

    rules: ClassVar[Mapping[str, TrialRule]]
    """What to try, by the operator of the node to replace."""

    def apply(self, model: Model, context: Context) -> int:
        """Sweep every graph once, first node first."""
        found = context.find(model, self.rules)
        if not found:
            return 0
        pinned, pool = context.once(model, Model.pinned), dict(context.once(model, _pool))
        inline = model.graphs_without_initializers()
        context.facts(model)
        changes = 0
        for graph, nodes in found:
            usable = pool if graph is model.graph else {}
            sweep = _Sweep(self.rules, graph, graph in inline, usable, model, pinned, context)
            changes += sweep.run(nodes)
        if changes:
            context.memory.forget()
        return changes


def _pool(model: Model) -> Pool:
    pool: Pool = {}
    for node in model.graph.nodes:
        for tensor in node.inputs:
            if isinstance(tensor, Constant) and not tensor.inputs:
                _remember(pool, tensor)
    return pool


def _remember(pool: Pool, tensor: Constant) -> None:
    """Add *tensor* to the pool if it is small and in use."""
    if tensor.elem_type == TensorProto.INT64 and tensor.size <= _FEW and tensor.outputs:
        known = pool.setdefault(_key(tensor.values), tensor)
        if not known.outputs:
            pool[_key(tensor.values)] = tensor


def _key(array: Array) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return array.shape, tuple(array.reshape(-1).tolist())


@dataclass
class _Sweep:
    rules: Mapping[str, TrialRule]
    graph: Graph
    inline: bool
    """Whether new constants will be Constant nodes."""
    pool: Pool
    model: Model
    pinned: frozenset[int]
    context: Context

    def __post_init__(self) -> None:
        self.names, self.facts = self.model.names, self.context.facts(self.model)
        self.carriers = Carriers(self.graph, self.facts)

    def run(self, nodes: Sequence[Node]) -> int:
        made: dict[Node, list[Node]] = {}
        for node in nodes:
            if not node.erased and not ir.has_parameters(node):
                new = self._try(node, self.rules[node.operator])
                if new is not None:
                    made[node] = new.nodes
        if made:
            self.graph.nodes = [
                node
                for old in self.graph.nodes
                for node in (*made.get(old, ()), *(() if old.erased else (old,)))
            ]
        return len(made)

    def _try(self, node: Node, rule: TrialRule) -> Builder | None:
        new = Builder(self.names, self.graph)
        trial = Trial(node, self.graph, self.facts, self.pinned, new, self.pool, self.carriers)
        try:
            found = rule(trial)
            if found is None:
                new.discard()
                return None
            pairs = found if isinstance(found, Mapping) else {trial.out: found}
            results = self._movable(new, pairs)
            self._weigh(trial, results)
            self._splice(new, results)
        except Declined as verdict:
            new.discard()
            self.context.decline(node, str(verdict))
            return None
        return new

    def _movable(self, new: Builder, pairs: Results) -> Results:
        """Return *pairs*, those of graph outputs last; they give their names to what they equal.

        A copy bears the name where that cannot be, as where two outputs equal one tensor.
        """
        made: dict[Tensor, Tensor] = {}
        for old, result in sorted(pairs.items(), key=lambda pair: id(pair[0]) in self.pinned):
            source = ir.producer(result)
            if id(old) not in self.pinned or any(source is node for node in new.nodes):
                made[old] = result
                continue
            fixed = source is None or source.graph is not self.graph or isinstance(result, Constant)
            named = any(t is result and id(o) in self.pinned for o, t in made.items())
            copied = fixed or named or id(result) in self.pinned
            made[old] = new.Identity(result) if copied else result
        return made

    def _weigh(self, trial: Trial, results: Results) -> None:
        """Decline what saves no node or takes more bytes."""
        new, roots = trial.new, _makers(results)
        for root in roots:
            others = (t for t in root.outputs if t not in results)
            if any(t.outputs or id(t) in self.pinned for t in others):
                raise Declined("another output of the node is read as well")
        gone = cone(roots, self.pinned, frozenset(results.values()))
        if any(map(ir.has_parameters, gone)):
            raise Declined("an attribute is set by the caller of the function")
        saved = sum(node.op != "Constant" for node in gone) - len(new.nodes)
        if saved < 0 or (saved == 0 and not trial.even):
            raise Declined("no node would go: others read the inner results too")
        grows = _made_bytes(new, results, self.inline) - cone_bytes(gone, self.pinned)
        if grows > 0:
            raise Declined(f"the file would grow by {grows} bytes")

    def _splice(self, new: Builder, results: Results) -> None:
        """Let new nodes compute the old tensors, under their names; then drop the old nodes."""
        roots = _makers(results)
        for old, result in results.items():
            source, maker = ir.producer(result), ir.producer(old)
            if source is None or not any(source is node for node in new.nodes):
                ir.substitute(old, result, self.graph, self.pinned)
            elif maker is not None:
                maker.outputs[_slot(maker, old)] = ir.absent()
                source.outputs[_slot(source, result)] = old
                self.names.release([result.name])
        ir.erase(roots, self.pinned)
        if self.graph is self.model.graph:
            for constant in new.constants:
                _remember(self.pool, constant)


def _makers(results: Results) -> list[Node]:
    made = (ir.producer(old) for old in results)
    return list(dict.fromkeys(node for node in made if node is not None))


def _slot(node: Node, tensor: Tensor) -> int:
    return [output is tensor for output in node.outputs].index(True)


def _made_bytes(new: Builder, results: Results, inline: bool) -> int:
    """Return what the new nodes and constants take in the file."""
    names = {result: old.name for old, result in results.items()}
    total = 0
    for node in new.nodes:
        plain = (int, float, str, list)
        attrs: dict[str, Any] = {k: v for k, v in node.attrs.items() if isinstance(v, plain)}
        read, made = ([names.get(t, t.name) for t in ts] for ts in (node.inputs, node.outputs))
        proto = helper.make_node(
            node.op, read, made, node.name or None, domain=node.domain or None, **attrs
        )
        total += proto.ByteSize() + 3
    for constant in new.constants:
        if isinstance(constant, Constant) and constant.outputs:
            size = ir.initializer_bytes(constant)
            total += ir.constant_node_bytes("", size) if inline else size
    return total
