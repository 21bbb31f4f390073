"""Shapes that are known before the model runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxslim import ir
from onnxslim.base import Context, Effect, Pass
from onnxslim.ir import Array, Constant, Model, Node
from onnxslim.shapes import Facts

_OPERATORS = frozenset({"Shape", "Size"})


@dataclass(frozen=True)
class FoldShapes(Pass):
    """Replace Shape and Size of tensors with a known shape by constants."""

    name = "fold-shapes"
    effect = Effect.EXACT

    def apply(self, model: Model, context: Context) -> int:
        """Sweep the main graph and its subgraphs once; function bodies know no shapes."""
        if not any(node.operator in _OPERATORS for node in model.nodes()):
            return 0
        facts, pinned, changes = context.facts(model), model.pinned(), 0
        for graph in list(ir.walk(model.graph)):
            for node in graph.nodes:
                value = None if node.erased else _value(node, facts)
                if value is None:
                    continue
                constant = ir.constant(node.outputs[0].name, value)
                reason = _refusal(node, constant, pinned, inline=model.ir_version < 4)
                if reason is not None:
                    context.decline(node, reason)
                    continue
                ir.replace_uses(node.outputs[0], constant)
                ir.erase([node], pinned)
                changes += 1
            graph.compact()
        return changes


def _refusal(node: Node, constant: Constant, pinned: frozenset[int], inline: bool) -> str | None:
    if id(node.outputs[0]) in pinned:
        return "the shape is a graph output"
    size = ir.initializer_bytes(constant)
    grows = (ir.constant_node_bytes("", size) if inline else size) - ir.node_bytes(node)
    return f"the file would grow by {grows} bytes" if grows > 0 else None


def _value(node: Node, facts: Facts) -> Array | None:
    """Return what a Shape or Size node computes, if that is known."""
    if node.operator not in _OPERATORS:
        return None
    shape = facts.static(node.inputs[0])
    if shape is None:
        return None
    if node.operator == "Size":
        return np.asarray(np.prod(shape, dtype=np.int64))
    rank = len(shape)
    start, end = (_clamp(node.attr(k, d), rank) for k, d in (("start", 0), ("end", rank)))
    return np.asarray(shape[start : max(start, end)], np.int64)


def _clamp(index: int, rank: int) -> int:
    """Resolve a bound as Shape-15 does: negative ones count from the end."""
    return min(max(index + rank if index < 0 else index, 0), rank)
