"""What nobody reads."""

from __future__ import annotations

import onnx.defs

from onnxslim import ir
from onnxslim.base import Context, Effect, Pass
from onnxslim.ir import Constant, Graph, Model, Node

_MODE_FOLLOWS_OUTPUTS = frozenset({"BatchNormalization", "Dropout"})
"""Operators whose older versions train when their optional outputs are asked for."""


class DropDead(Pass):
    """Drop nodes, initializers, optional outputs and local functions that nobody needs."""

    name = "drop-dead"
    effect = Effect.EXACT

    def apply(self, model: Model, context: Context) -> int:
        """Mark and sweep, from the outputs of every graph."""
        pinned = model.pinned()
        changes = 0
        for graph in list(model.graphs()):
            changes += _drop_nodes(graph, pinned)
            changes += _drop_initializers(graph, pinned)
            changes += sum(_drop_outputs(node, pinned) for node in graph.nodes)
            changes += len(graph.undefined_info)
            graph.undefined_info = set()
        return changes + _drop_functions(model)


def _drop_nodes(graph: Graph, pinned: frozenset[int]) -> int:
    count = 0
    for node in reversed(graph.nodes):
        if not ir.is_used(node, pinned):
            count += ir.erase([node], pinned)
    graph.compact()
    return count


def _drop_initializers(graph: Graph, pinned: frozenset[int]) -> int:
    """Drop unread initializers, but never one that is an input the caller may set."""
    inputs = set(graph.inputs)
    dead = [
        tensor
        for tensor in graph.initializers
        if not tensor.outputs and id(tensor) not in pinned and tensor not in inputs
    ]
    if not dead:
        return 0
    gone = set(dead)
    graph.initializers = [tensor for tensor in graph.initializers if tensor not in gone]
    graph.input_order = [tensor for tensor in graph.input_order if tensor not in gone]
    return sum(not (isinstance(tensor, Constant) and tensor.dropped) for tensor in dead)


def _drop_outputs(node: Node, pinned: frozenset[int]) -> int:
    """Leave unread optional outputs out; trailing ones vanish, others lose their name."""
    schema = _schema(node)
    if schema is None or node.operator in _MODE_FOLLOWS_OUTPUTS:
        return 0
    optional = onnx.defs.OpSchema.FormalParameterOption.Optional
    count = 0
    for index, tensor in enumerate(node.outputs):
        unread = tensor.name and not tensor.outputs and id(tensor) not in pinned
        if unread and index < len(schema.outputs) and schema.outputs[index].option == optional:
            node.outputs[index] = ir.absent()
            count += 1
    while count and node.outputs[-1].is_empty():
        node.outputs.pop()
    return count


def _schema(node: Node) -> onnx.defs.OpSchema | None:
    if len(node.outputs) < 2 or node.graph is None or node.calls_function:
        return None
    try:
        return onnx.defs.get_schema(node.op, node.graph.version, node.domain or "")
    except onnx.defs.SchemaError:
        return None


def _drop_functions(model: Model) -> int:
    """Drop local functions that no node calls, directly or through others."""
    bodies = {function.key[:2]: function for function in model.functions}
    called: set[tuple[str, str]] = set()
    queue = [model.graph]
    for root in queue:
        for graph in ir.walk(root):
            for node in graph.nodes:
                key = (node.domain or "", node.op)
                if node.calls_function and key not in called:
                    called.add(key)
                    queue.append(bodies[key])
    kept = [function for function in model.functions if function.key[:2] in called]
    dropped = len(model.functions) - len(kept)
    model.functions = kept
    return dropped
