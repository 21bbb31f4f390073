"""Common subexpressions."""

from __future__ import annotations

from collections.abc import Hashable

from onnxslim import ir
from onnxslim.base import Context, Effect, Pass
from onnxslim.errors import Declined
from onnxslim.ir import Graph, Model, Node
from onnxslim.passes.simplify._same import frozen


class MergeDuplicateNodes(Pass):
    """Compute only once what several nodes compute from the same inputs."""

    name = "merge-duplicate-nodes"
    effect = Effect.EXACT

    def apply(self, model: Model, context: Context) -> int:
        """Number values in topological order; bodies may reuse what surrounds them."""
        pinned = model.pinned()
        return sum(_merge(root, {}, pinned, context) for root in (model.graph, *model.functions))


Known = dict[Hashable, Node]


def _merge(graph: Graph, outer: Known, pinned: frozenset[int], context: Context) -> int:
    known, changes = dict(outer), 0
    for node in graph.nodes:
        for inner in node.subgraphs():
            changes += _merge(inner, known, pinned, context)
        if not node.inputs or not ir.is_deterministic(node):
            continue
        twin = known.setdefault(_key(node), node)
        if twin is not node:
            try:
                _redirect(node, twin, graph, pinned)
                changes += 1
            except Declined as verdict:
                context.decline(node, str(verdict))
    graph.compact()
    return changes


def _redirect(node: Node, twin: Node, graph: Graph, pinned: frozenset[int]) -> None:
    """Let the readers of *node* read *twin*; nothing changes when one output declines."""
    pairs = [(a, b) for a, b in zip(node.outputs, twin.outputs, strict=True) if a.name]
    outputs = [a for a, _ in pairs if id(a) in pinned]
    if len(outputs) > 1:
        raise Declined("several outputs of the node are graph outputs")
    for mine, other in sorted(pairs, key=lambda pair: id(pair[0]) not in pinned):
        ir.substitute(mine, other, graph, pinned)
    ir.erase([node], pinned)


def _key(node: Node) -> Hashable:
    """Return what decides what *node* computes; that may include which outputs it has.

    So it is for Split, and for BatchNormalization before opset 14.
    """
    attrs = tuple(sorted((name, frozen(value)) for name, value in node.attrs.items()))
    inputs = tuple(tensor if tensor.name else None for tensor in node.inputs)
    return node.operator, inputs, attrs, tuple(bool(tensor.name) for tensor in node.outputs)
