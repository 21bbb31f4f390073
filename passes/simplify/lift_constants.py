"""Constant nodes."""

from __future__ import annotations

from onnxslim import ir
from onnxslim.base import Context, Effect, Pass
from onnxslim.ir import Constant, Graph, Model


def free_initializers(model: Model) -> str | None:
    """Ask for a file format in which initializers need not be inputs."""
    if model.ir_version >= 4:
        return None
    return f"IR version {model.ir_version} wants every initializer among the inputs"


class LiftConstants(Pass):
    """Store Constant nodes as initializers, which take fewer bytes."""

    name = "lift-constants"
    effect = Effect.EXACT
    preconditions = (free_initializers,)

    def apply(self, model: Model, context: Context) -> int:
        """Detach each Constant node from its tensor; export then declares the tensor."""
        pinned = model.pinned()
        return sum(_lift(graph, pinned, context) for graph in list(ir.walk(model.graph)))


def _lift(graph: Graph, pinned: frozenset[int], context: Context) -> int:
    count = 0
    for node in graph.nodes:
        tensor = node.outputs[0] if node.outputs else None
        if node.operator != "Constant" or not isinstance(tensor, Constant) or not tensor.outputs:
            continue
        if id(tensor) in pinned:
            context.decline(node, "the constant is a graph output")
        elif ir.initializer_bytes(tensor) > ir.node_bytes(node):
            context.decline(node, "an initializer would take more bytes")
        else:
            list.clear(tensor.inputs)
            node.erased = True
            count += 1
    graph.compact()
    return count
