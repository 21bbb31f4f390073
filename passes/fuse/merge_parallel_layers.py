"""Convolutions or products of one input, such as the queries, keys and values of attention.

Source: Split-2 of the ONNX operator specification and its successors. onnxruntime copies what it
splits, on one thread of a processor in about the time that the merged layer saves
(docs/fusions.md): the pass is not in a recipe.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from onnxslim import ir
from onnxslim.base import Context, Effect, Pass
from onnxslim.errors import Declined
from onnxslim.ir import Graph, Model
from onnxslim.passes.fuse._parallel import Layer, below, built
from onnxslim.rewrite import Builder
from onnxslim.shapes import Facts


class MergeParallelLayers(Pass):
    """Make one Conv, Gemm or MatMul of several of one input, and Split what it computes."""

    name = "merge-parallel-layers"
    effect = Effect.ROUNDING
    may_grow = True

    def apply(self, model: Model, context: Context) -> int:
        """Sweep every graph once."""
        pinned, changes = model.pinned(), 0
        for graph in list(model.graphs()):
            for layers in _families(graph, pinned):
                new = Builder(model.names, graph)
                try:
                    _merge(new, layers, context.facts(model), pinned)
                    graph.nodes += new.nodes
                    changes += 1
                except Declined as verdict:
                    for node in new.nodes:
                        ir.set_inputs(node, ())
                    context.decline(layers[0].head, str(verdict))
            graph.compact()
        if changes:
            model.sort()
        return changes


def _families(graph: Graph, pinned: frozenset[int]) -> list[list[Layer]]:
    """Return the layers of a graph that can be one, two or more together."""
    found: dict[Hashable, list[Layer]] = {}
    for node in graph.nodes:
        if node.operator in ("Conv", "Gemm", "MatMul") and len(node.inputs[0].outputs) > 1:
            layer = below(node, pinned)
            if layer is not None:
                found.setdefault(layer.key(), []).append(layer)
    return [layers for layers in found.values() if len(layers) > 1]


def _merge(new: Builder, layers: Sequence[Layer], facts: Facts, pinned: frozenset[int]) -> None:
    _require_own_weights(layers, pinned)
    result = built(new, layers)
    axis = 1
    if layers[0].head.operator == "MatMul":
        rank = facts.rank(layers[0].head.outputs[0])
        if rank is None:
            raise Declined("the rank is not known")
        axis = rank - 1
    widths = [layer.width for layer in layers]
    if new.version >= 13:
        operands, attrs = [result, new.tensor(np.array(widths, np.int64), "n")], {}
    else:
        operands, attrs = [result], {"split": widths}
    new.node("Split", operands, {"axis": axis, **attrs}, outputs=len(layers))
    split = new.nodes[-1]
    for slot, layer in enumerate(layers):
        out, last = layer.out, layer.nodes[-1]
        last.outputs[0] = ir.absent()
        split.outputs[slot] = out
    ir.erase([layer.nodes[-1] for layer in layers], pinned)


def _require_own_weights(layers: Sequence[Layer], pinned: frozenset[int]) -> None:
    for layer in layers:
        weight = layer.head.inputs[1]
        if len(weight.outputs) > 1 or id(weight) in pinned:
            raise Declined("others use the weights too")
