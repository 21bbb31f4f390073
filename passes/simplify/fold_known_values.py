"""Shape arithmetic whose result is known before the model runs."""

from __future__ import annotations

from onnxslim import ir
from onnxslim.base import Context, Effect, Pass
from onnxslim.ir import Array, Model, Node, Tensor
from onnxslim.passes.simplify._cone import cone, cone_bytes
from onnxslim.passes.simplify._values import NO_NODE, compute_by_constant, known
from onnxslim.shapes import Facts


class FoldKnownValues(Pass):
    """Replace small integer tensors that follow from known shapes by constants."""

    name = "fold-known-values"
    effect = Effect.EXACT

    def apply(self, model: Model, context: Context) -> int:
        """Sweep the main graph and its subgraphs, last node first: results before their sources.

        Function bodies know no shapes.
        """
        facts, pinned, changes = context.facts(model), model.pinned(), 0
        for graph in list(ir.walk(model.graph)):
            for node in list(reversed(graph.nodes)):
                if node.erased or node.operator == "Constant":
                    continue
                values = _values(node, facts, pinned)
                if values is None:
                    continue
                if graph.version < 9 and any(id(tensor) in pinned for tensor in values):
                    context.decline(node, NO_NODE)
                    continue
                grows = _growth(node, values, pinned, inline=model.ir_version < 4)
                if grows > 0:
                    context.decline(node, f"the file would grow by {grows} bytes")
                    continue
                for tensor, value in values.items():
                    compute_by_constant(node, tensor, value, graph, pinned)
                ir.erase([node], pinned)
                changes += 1
            graph.compact()
        return changes


def _values(node: Node, facts: Facts, pinned: frozenset[int]) -> dict[Tensor, Array] | None:
    """Return the value of every output that somebody reads, None if one is not known."""
    found: dict[Tensor, Array] = {}
    for tensor in node.outputs:
        if tensor.outputs or id(tensor) in pinned:
            value = known(facts, tensor)
            if value is None:
                return None
            found[tensor] = value
    return found or None


def _growth(node: Node, values: dict[Tensor, Array], pinned: frozenset[int], inline: bool) -> int:
    added = 0
    for tensor, value in values.items():
        size = ir.initializer_bytes(ir.constant(tensor.name, value))
        if inline or id(tensor) in pinned:
            size = ir.constant_node_bytes(node.name or "", size)
        added += size
    return added - cone_bytes(cone([node], pinned), pinned)
