"""Ways to write a pass: a pattern and its replacement, or rules by operator.

`RewritePass` replaces what a pattern matches by what `rewrite` builds, `FormsPass` what one of
several patterns matches. `BypassPass` removes nodes whose output equals one of their inputs. All
keep use lists, names and graph outputs right, let go of what nobody needs any more, and decline,
with a reason, what they must not do.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from onnxslim import ir
from onnxslim.base import Context, Effect, Pass
from onnxslim.errors import Declined
from onnxslim.ir import Constant, Graph, Index, Model, Names, Node, Tensor, Variable
from onnxslim.pattern import Match, Op, match, may_occur
from onnxslim.shapes import Facts


class Builder:
    """``new.Conv(x, weight, **attrs)`` makes a node; arrays become constants, None is absent."""

    def __init__(self, names: Names, graph: Graph, terse: bool = False) -> None:
        """Make nodes for *graph*; new tensors get their names from *names*.

        They say what made them, unless *terse* asks for the shortest ones.
        """
        self.nodes: list[Node] = []
        self.constants: list[Constant] = []
        self._names, self._graph, self._terse = names, graph, terse
        self._fresh: list[str] = []

    def _name(self, hint: str) -> str:
        if self._terse:
            return self._names.shortest()
        self._fresh.append(self._names.fresh(hint))
        return self._fresh[-1]

    @property
    def version(self) -> int:
        """Version of ONNX's own operator set where the nodes will stand."""
        return self._graph.version

    def __getattr__(self, op_type: str) -> Callable[..., Variable]:
        if op_type.startswith("_"):
            raise AttributeError(op_type)

        def build(*operands: Any, domain: str | None = None, **attrs: Any) -> Variable:
            return self.node(op_type, operands, attrs, domain=domain)

        return build

    def node(
        self,
        op_type: str,
        operands: Any,
        attrs: Mapping[str, Any],
        domain: str | None = None,
        outputs: int = 1,
    ) -> Variable:
        """Make a node and return its first output, as a rule the only one."""
        inputs = [self.tensor(operand, op_type) for operand in operands]
        while inputs and inputs[-1].is_empty():
            inputs.pop()
        results = [Variable(self._name(op_type.lower())) for _ in range(outputs)]
        node = Node(op_type, "", dict(attrs), inputs, results, domain)
        node.graph = self._graph
        self.nodes.append(node)
        return results[0]

    def like(self, node: Node, *operands: Any, **changed: Any) -> Variable:
        """Make a node like *node*, name and metadata included, over other operands.

        *changed* overwrites attributes; None removes one.
        """
        attrs = {k: v for k, v in {**node.attrs, **changed}.items() if v is not None}
        result = self.node(node.op, operands, attrs, domain=node.domain)
        made = self.nodes[-1]
        made.name, made.source = node.name, node.source
        if node.source is not None:
            made.store = node.store
        return result

    def named(self, result: Variable, hint: str) -> Variable:
        """Give a result of a new node a short name, where every byte counts."""
        self._fresh.append(self._names.fresh(hint))
        result.name = self._fresh[-1]
        return result

    def size(self, inline: bool = False) -> int:
        """Return the bytes that the nodes and the constants they read will take.

        Constants that are *inline* become nodes.
        """
        read = (constant for constant in self.constants if constant.outputs)
        sizes = map(ir.initializer_bytes, read)
        constants = sum(ir.constant_node_bytes("", size) if inline else size for size in sizes)
        return constants + sum(map(ir.node_bytes, self.nodes))

    def discard(self) -> None:
        """Take the nodes, which are not wanted, out of the use lists, and give back all names."""
        for node in self.nodes:
            ir.set_inputs(node, ())
        self._names.release(self._fresh)
        self._fresh = []

    def tensor(self, operand: Any, hint: str = "c") -> Tensor:
        """Return *operand* as a tensor."""
        if isinstance(operand, (Variable, Constant)):
            return operand
        if operand is None:
            return ir.absent()
        made = ir.constant(self._name(f"{hint.lower()}_c"), np.asarray(operand))
        self.constants.append(made)
        return made


class RewritePass(Pass):
    """Replace every place where `pattern` fits by what `rewrite` returns."""

    pattern: ClassVar[Op]

    @abstractmethod
    def rewrite(self, new: Builder, m: Match) -> Tensor | None:
        """Return the tensor that takes the place of the root's output.

        Raise Declined (or call ``m.require``) where the conditions do not hold; return None where
        no reader of the report would expect a rewrite.
        """

    def apply(self, model: Model, context: Context) -> int:
        """Sweep every graph once, last node first."""
        index = context.once(model, Index)
        if not may_occur(self.pattern, index.operators):
            return 0
        inline, changes = model.graphs_without_initializers(), 0
        for graph, nodes in index.find(self.pattern.types):
            changes += _Sweep(self, graph, graph in inline, model, context).run(nodes)
        if changes:
            context.memory.forget()
        return changes


class _Sweep:
    """One rewrite pass over one graph."""

    def __init__(
        self,
        step: RewritePass,
        graph: Graph,
        inline: bool,
        model: Model,
        context: Context,
    ) -> None:
        self.step, self.graph, self.names = step, graph, model.names
        self.inline = inline  # whether new constants will be Constant nodes
        self.pinned, self.context = context.once(model, Model.pinned), context
        self.made: dict[Node, list[Node]] = {}  # by the node they take the place of

    def run(self, roots: Sequence[Node]) -> int:
        for root in reversed(roots):
            if root.erased:
                continue
            found = match(self.step.pattern, root, self.pinned)
            if found is not None:
                self._replace(found)
        if self.made:
            self.graph.nodes = [
                node
                for old in self.graph.nodes
                for node in self.made.get(old, () if old.erased else (old,))
            ]
        return len(self.made)

    def _replace(self, found: Match) -> None:
        new = Builder(self.names, self.graph)
        try:
            found.require(found.private, "an inner result is read elsewhere too")
            _must_be_fixed(found.nodes)
            together = all(node.graph is self.graph for node in found.nodes)
            found.require(together, "a part of it stands in an outer graph")
            if any(t.outputs or id(t) in self.pinned for t in found.root.outputs[1:]):
                raise Declined("another output of the node is read as well")
            result = self.step.rewrite(new, found)
            if result is None:
                new.discard()
                return
            if not self.step.may_grow:
                self._must_not_grow(new, found, result)
            self._splice(found, result, new)
        except Declined as verdict:
            new.discard()
            self.context.decline(found.root, str(verdict))
            return
        self.made[found.root] = new.nodes

    def _must_not_grow(self, new: Builder, found: Match, result: Tensor) -> None:
        """Decline when what is new outweighs what the file no longer needs."""
        inside = set(found.nodes)
        read = {t for node in found.nodes for t in node.inputs if isinstance(t, Constant)}
        gone = (t for t in read if inside.issuperset(t.outputs) and id(t) not in self.pinned)
        growth = new.size(self.inline) - sum(map(ir.stored_bytes, gone))
        growth -= sum(map(ir.node_bytes, inside))
        if any(ir.producer(result) is node for node in new.nodes):
            growth += _length(found.root.outputs[0]) - _length(result)  # it takes over the name
        if growth > 0:
            raise Declined(f"the file would grow by {growth} bytes: others use the weights too")

    def _splice(self, found: Match, result: Tensor, new: Builder) -> None:
        """Give the root's output, with its name and readers, to the new nodes."""
        target = found.root.outputs[0]
        source = ir.producer(result)
        if source is not None and any(source is node for node in new.nodes):
            found.root.outputs[0] = ir.absent()
            source.outputs[[t is result for t in source.outputs].index(True)] = target
            self.names.release([result.name])
        else:
            ir.substitute(target, result, self.graph, self.pinned)
        ir.erase(found.nodes, self.pinned)


def _must_be_fixed(nodes: Iterable[Node]) -> None:
    if any(map(ir.has_parameters, nodes)):
        raise Declined("an attribute is set by the caller of the function")


def _length(tensor: Tensor) -> int:
    return len(tensor.name.encode())


@dataclass
class Site:
    """A node under a rule, and what is known around it."""

    node: Node
    graph: Graph
    facts: Facts
    pinned: frozenset[int]

    @property
    def opset(self) -> int:
        """Version of ONNX's own operator set where the node stands."""
        return self.graph.version

    def unused(self, index: int) -> bool:
        """Say whether nobody reads output *index*."""
        outputs = self.node.outputs
        return index >= len(outputs) or not (
            outputs[index].outputs or id(outputs[index]) in self.pinned
        )


Rule = Callable[[Site], "Tensor | None"]
"""Returns the tensor that the first output of the node equals, or None."""


class BypassPass(Pass):
    """Remove every node whose first output equals another tensor, by a table of rules."""

    rules: ClassVar[Mapping[str, Rule]]

    def apply(self, model: Model, context: Context) -> int:
        """Sweep every graph once, first node first."""
        found = context.find(model, self.rules)
        if not found:
            return 0
        facts, pinned = context.facts(model), context.once(model, Model.pinned)
        changes = 0
        for graph, nodes in found:
            for node in nodes:
                if not node.erased:
                    site = Site(node, graph, facts, pinned)
                    changes += self._try(self.rules[node.operator], site, context)
            graph.compact()
        if changes:
            context.memory.forget()
        return changes

    def _try(self, rule: Rule, site: Site, context: Context) -> bool:
        node = site.node
        try:
            _must_be_fixed([node])
            same = rule(site)
            if same is None or not all(map(site.unused, range(1, len(node.outputs)))):
                return False
            ir.substitute(node.outputs[0], same, site.graph, site.pinned)
        except Declined as verdict:
            context.decline(node, str(verdict))
            return False
        ir.erase([node], site.pinned)
        return True


Build = Callable[[Builder, Match, Facts], Tensor | None]
"""Returns what takes the place of the root's output; see `RewritePass.rewrite`."""


class FormsPass(Pass):
    """Replace what fits one of several patterns; the first ones go first."""

    forms: ClassVar[Sequence[tuple[Op, Build]]]

    def facts(self, model: Model, context: Context) -> Facts:
        """Return what the forms may take as known of *model*."""
        return context.facts(model)

    def apply(self, model: Model, context: Context) -> int:
        """Sweep every graph once for every form that the operators of the model allow."""
        present = context.once(model, Index).operators
        fitting = [form for form in self.forms if may_occur(form[0], present)]
        if not fitting:
            return 0
        facts = self.facts(model, context)
        return sum(_Form(*form, facts, self).apply(model, context) for form in fitting)


@dataclass(frozen=True)
class _Form(RewritePass):
    """One pattern of several."""

    name = "form"
    effect = Effect.ROUNDING
    pattern: Op  # type: ignore[misc]
    build: Build
    facts: Facts
    whole: FormsPass

    @property
    def may_grow(self) -> bool:  # type: ignore[override]
        """Whether the pass of which this is a form may grow the file."""
        return self.whole.may_grow

    def rewrite(self, new: Builder, m: Match) -> Tensor | None:
        return self.build(new, m, self.facts)
