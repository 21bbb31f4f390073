"""Shapes that are known before the model runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxslim import ir
from onnxslim.base import Context, Effect, Pass
from onnxslim.ir import Array, Model, Node
from onnxslim.shapes import Facts


@dataclass(frozen=True)
class FoldShapes(Pass):
    """Replace Shape and Size of tensors with a known shape by constants."""

    name = "fold-shapes"
    effect = Effect.EXACT

    def apply(self, model: Model, context: Context) -> int:
        """Sweep every graph once."""
        if not any(node.operator in ("Shape", "Size") for node in model.nodes()):
            return 0
        facts, pinned, changes = context.facts(model), model.pinned(), 0
        for graph in list(model.graphs()):
            for node in graph.nodes:
                value = None if node.erased else _value(node, facts)
                if value is None:
                    continue
                if id(node.outputs[0]) in pinned:
                    context.decline(node, "the shape is a graph output")
                    continue
                constant = ir.constant(model.names.fresh("shape"), value)
                ir.replace_uses(node.outputs[0], constant)
                ir.erase([node], pinned)
                changes += 1
            graph.compact()
        return changes


def _value(node: Node, facts: Facts) -> Array | None:
    """Return what a Shape or Size node computes, if that is known."""
    if node.operator not in ("Shape", "Size"):
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
