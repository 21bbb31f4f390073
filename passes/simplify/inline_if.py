"""An If that can only go one way."""

from __future__ import annotations

from onnxslim import ir
from onnxslim.base import Context, Effect, Pass
from onnxslim.errors import Declined
from onnxslim.ir import Graph, Model, Node
from onnxslim.passes.simplify._same import same_body
from onnxslim.passes.simplify._values import known
from onnxslim.shapes import Facts


class InlineIf(Pass):
    """Replace an If by the branch that is taken, if that is known, or if both do the same."""

    name = "inline-if"
    effect = Effect.EXACT

    def apply(self, model: Model, context: Context) -> int:
        """Sweep every graph once, outermost first."""
        if not context.find(model, ("If",)):
            return 0
        facts, changes = context.facts(model), 0
        for root in (model.graph, *model.functions):
            scope, pinned = ir.Scope(model, root), model.pinned()
            queue = [root]
            for graph in queue:
                changes += _inline(graph, scope, pinned, facts, context)
                queue += [inner for node in graph.nodes for inner in node.subgraphs()]
        return changes


def _inline(
    graph: Graph, scope: ir.Scope, pinned: frozenset[int], facts: Facts, context: Context
) -> int:
    """Inline the branches in *graph*, and what those hold."""
    changes, stack, nodes = 0, graph.nodes[::-1], list[Node]()
    while stack:
        node = stack.pop()
        branch = _taken(node, facts) if node.operator == "If" and not node.erased else None
        if branch is not None:
            try:
                stack += ir.absorb(node, branch, (), scope, pinned)[::-1]
                changes += 1
                continue
            except Declined as verdict:
                context.decline(node, str(verdict))
        nodes.append(node)
    graph.nodes = nodes
    graph.compact()
    return changes


def _taken(node: Node, facts: Facts) -> Graph | None:
    """Return the only branch of *node* that can run."""
    yes, no = node.attr("then_branch"), node.attr("else_branch")
    condition = known(facts, node.inputs[0])
    if condition is not None and condition.size == 1:
        taken = yes if condition.any() else no
    else:
        taken = yes if same_body(yes, no) else None
    return taken if isinstance(taken, Graph) else None
