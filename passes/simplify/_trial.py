"""Try a replacement; keep it only where it pays: fewer nodes, and not one byte more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from onnx import helper

from onnxslim import ir
from onnxslim.base import Context, Pass
from onnxslim.errors import Declined
from onnxslim.ir import Constant, Function, Graph, Model, Node, Tensor
from onnxslim.passes.simplify._cone import cone_bytes
from onnxslim.rewrite import Builder, Site

Results = Mapping[Tensor, Tensor]
"""What takes the place of what."""


@dataclass
class Trial(Site):
    """A node under a rule, and the builder of what may take its place."""

    new: Builder
    even: bool = False
    """Set by a rule whose result is better even if it has as many nodes as before."""

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

    @property
    def out(self) -> Tensor:
        """The first output of the node."""
        return self.node.outputs[0]  # type: ignore[no-any-return]


TrialRule = Callable[[Trial], Tensor | Results | None]
"""Returns what takes the place of the node's first output, or of several tensors; else None."""


@dataclass(frozen=True)
class TrialPass(Pass):
    """Replace nodes by rules, one for each operator, where the replacement pays."""

    rules: ClassVar[Mapping[str, TrialRule]]
    """What to try, by the operator of the node to replace."""

    def apply(self, model: Model, context: Context) -> int:
        """Sweep every graph once, first node first."""
        if not any(node.operator in self.rules for node in model.nodes()):
            return 0
        context.facts(model)
        pinned = model.pinned()
        return sum(
            _Sweep(self.rules, graph, inline, model, pinned, context).run()
            for root in (model.graph, *model.functions)
            for inline in [model.ir_version < 4 or isinstance(root, Function)]
            for graph in list(ir.walk(root))
        )


@dataclass
class _Sweep:
    rules: Mapping[str, TrialRule]
    graph: Graph
    inline: bool
    """Whether new constants will be Constant nodes."""
    model: Model
    pinned: frozenset[int]
    context: Context

    def run(self) -> int:
        made: dict[Node, list[Node]] = {}
        for node in self.graph.nodes:
            rule = self.rules.get(node.operator)
            if rule is not None and not node.erased and not ir.has_parameters(node):
                new = self._try(node, rule)
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
        new = Builder(self.model.names, self.graph)
        facts = self.context.facts(self.model)
        trial = Trial(node, self.graph, facts, self.pinned, new)
        try:
            found = rule(trial)
            if found is None:
                _discard(new)
                return None
            results = found if isinstance(found, Mapping) else {trial.out: found}
            self._weigh(trial, results)
            self._splice(new, results)
        except Declined as verdict:
            _discard(new)
            self.context.decline(node, str(verdict))
            return None
        return new

    def _weigh(self, trial: Trial, results: Results) -> None:
        """Decline what saves no node or takes more bytes."""
        new, roots = trial.new, _makers(results)
        for root in roots:
            others = (t for t in root.outputs if t not in results)
            if any(t.outputs or id(t) in self.pinned for t in others):
                raise Declined("another output of the node is read as well")
        gone = _superfluous(roots, self.pinned, frozenset(results.values()))
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
        ir.erase(roots, self.pinned)


def _makers(results: Results) -> list[Node]:
    made = (ir.producer(old) for old in results)
    return list(dict.fromkeys(node for node in made if node is not None))


def _slot(node: Node, tensor: Tensor) -> int:
    return [output is tensor for output in node.outputs].index(True)


def _discard(new: Builder) -> None:
    for node in new.nodes:
        ir.set_inputs(node, ())


def _superfluous(
    roots: Iterable[Node], pinned: frozenset[int], kept: frozenset[Tensor]
) -> set[Node]:
    """Return *roots* and all nodes that only they need, but not the makers of *kept*."""
    found = set(roots)
    queue = list(found)
    while queue:
        for tensor in queue.pop().inputs:
            source = ir.producer(tensor)
            if source is None or source in found:
                continue
            if all(
                id(t) not in pinned and t not in kept and found.issuperset(t.outputs)
                for t in source.outputs
            ):
                found.add(source)
                queue.append(source)
    return found


def _made_bytes(new: Builder, results: Results, inline: bool) -> int:
    """Return what the new nodes and constants take in the file."""
    names = {result: old.name for old, result in results.items()}
    total = 0
    for node in new.nodes:
        attrs = {k: v for k, v in node.attrs.items() if isinstance(v, (int, float, str, list))}
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
