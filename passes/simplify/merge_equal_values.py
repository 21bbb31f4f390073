"""Shape arithmetic that is done twice, by whatever nodes."""

from __future__ import annotations

from collections.abc import Hashable

from onnxslim import ir
from onnxslim.base import Context, Effect, Pass
from onnxslim.errors import Declined
from onnxslim.ir import Graph, Model, Node, Tensor
from onnxslim.shapes import Facts

Known = dict[Hashable | None, Tensor]


class MergeEqualValues(Pass):
    """Compute small integer tensors only once if shape inference finds them equal."""

    name = "merge-equal-values"
    effect = Effect.EXACT

    def apply(self, model: Model, context: Context) -> int:
        """Keep the first of equal ones; bodies may use what surrounds them.

        Function bodies know no shapes.
        """
        return _merge(model.graph, {}, context.facts(model), model.pinned(), context)


def _merge(
    graph: Graph, outer: Known, facts: Facts, pinned: frozenset[int], context: Context
) -> int:
    known, changes = dict(outer), 0
    for node in graph.nodes:
        for inner in node.subgraphs():
            changes += _merge(inner, known, facts, pinned, context)
        used = [t for t in node.outputs if t.outputs or id(t) in pinned]
        keys = [_key(tensor, facts) for tensor in used]
        twins = [_living(known.get(key)) for key in keys]
        if used and all(twin is not None for twin in twins):
            changes += _redirect(node, used, twins, graph, pinned, context)
        else:
            known.update((key, t) for key, t in zip(keys, used, strict=True) if key is not None)
    graph.compact()
    return changes


def _key(tensor: Tensor, facts: Facts) -> Hashable | None:
    """Return what equal tensors have in common; numbers alone are for folding."""
    value = facts.value(tensor)
    elements = value if isinstance(value, tuple) else (value,)
    if value is None or all(isinstance(element, int) for element in elements):
        return None
    return facts.elem_type(tensor), value


def _living(tensor: Tensor | None) -> Tensor | None:
    """Return *tensor* unless its node went with the last one that needed it."""
    return None if tensor is None or ir.producer(tensor) is None else tensor


def _redirect(
    node: Node, used: list[Tensor], twins: list[Tensor | None], graph: Graph,
    pinned: frozenset[int], context: Context,
) -> bool:  # fmt: skip
    """Let the readers of *node* read the twins of what it computes."""
    if sum(id(tensor) in pinned for tensor in used) and len(used) > 1:
        context.decline(node, "one of several outputs is a graph output")
        return False
    try:
        for tensor, twin in zip(used, twins, strict=True):
            assert twin is not None
            ir.substitute(tensor, twin, graph, pinned)
    except Declined as verdict:
        context.decline(node, str(verdict))
        return False
    ir.erase([node], pinned)
    return True
