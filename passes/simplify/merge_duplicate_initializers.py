"""Constants that are stored twice."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from onnxslim import ir
from onnxslim.base import Context, Effect, Pass
from onnxslim.ir import Constant, Graph, Model

_PROBE = 64
"""Leading elements that tell most constants apart before whole arrays are compared."""


class MergeDuplicateInitializers(Pass):
    """Store initializers that are equal bit for bit only once."""

    name = "merge-duplicate-initializers"
    effect = Effect.EXACT

    def apply(self, model: Model, context: Context) -> int:
        """Merge from the outermost graph inwards, so that what is kept is visible."""
        pinned = model.pinned()
        return sum(_merge(root, {}, pinned) for root in (model.graph, *model.functions))


Known = dict[Hashable, list[Constant]]


def _merge(graph: Graph, outer: Known, pinned: frozenset[int]) -> int:
    """Merge the constants of *graph* with each other and with those in *outer*."""
    known: Known = {key: list(constants) for key, constants in outer.items()}
    changes = 0
    for constant in _initializers(graph):
        same = known.setdefault(_probe(constant), [])
        twin = next((other for other in same if _equal(other, constant)), None)
        if twin is None or id(constant) in pinned:
            same.append(constant)
        elif constant.outputs and twin is not constant:
            ir.replace_uses(constant, twin)
            ir.release([constant], pinned)
            changes += 1
    for node in graph.nodes:
        for inner in node.subgraphs():
            changes += _merge(inner, known, pinned)
    return changes


def _initializers(graph: Graph) -> list[Constant]:
    """Return declared initializers, then those that passes made and nodes read."""
    declared = [t for t in graph.initializers if isinstance(t, Constant)]
    read = (t for node in graph.nodes for t in node.inputs if isinstance(t, Constant))
    made = (t for t in read if not t.inputs)
    return list(dict.fromkeys((*declared, *made)))


def _probe(constant: Constant) -> Hashable:
    head = constant.values.reshape(-1)[:_PROBE]
    return constant.elem_type, constant.shape, _bits(head)


def _equal(a: Constant, b: Constant) -> bool:
    """Compare constants whose probes are equal."""
    return a.size <= _PROBE or _same_bits(a.values, b.values)


def _bits(values: ir.Array) -> bytes:
    if values.dtype == object:
        return repr(values.tolist()).encode()
    return np.ascontiguousarray(values).tobytes()


def _same_bits(a: ir.Array, b: ir.Array) -> bool:
    """Compare by bits: 0 and -0 differ, NaN equals itself."""
    if a.dtype == object:
        return bool(a.tolist() == b.tolist())
    left, right = (np.ascontiguousarray(x).reshape(-1).view(np.uint8) for x in (a, b))
    return np.array_equal(left, right)
