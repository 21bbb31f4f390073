"""What goes when a node goes: the nodes that nothing else needs, and their bytes."""

from __future__ import annotations

from collections.abc import Iterable

from onnxslim import ir
from onnxslim.ir import Constant, Node, Tensor

_LARGEST = 2000
"""How many nodes are looked at."""


def cone(
    roots: Iterable[Node], pinned: frozenset[int], kept: frozenset[Tensor] = frozenset()
) -> set[Node]:
    """Return *roots* and the nodes that only they need; the makers of *kept* tensors stay."""
    found = set(roots)
    queue = list(found)
    while queue and len(found) < _LARGEST:
        for tensor in queue.pop().inputs:
            source = ir.producer(tensor)
            if source is None or source in found:
                continue
            if all(_only_for(output, found, pinned, kept) for output in source.outputs):
                found.add(source)
                queue.append(source)
    return found


def cone_bytes(nodes: set[Node], pinned: frozenset[int]) -> int:
    """Return the bytes that the file no longer needs when *nodes*, a cone, are gone."""
    read = {t for node in nodes for t in node.inputs if isinstance(t, Constant) and not t.inputs}
    freed = sum(ir.initializer_bytes(t) for t in read if _only_for(t, nodes, pinned))
    return freed + sum(map(ir.node_bytes, nodes))


def _only_for(
    tensor: Tensor, nodes: set[Node], pinned: frozenset[int], kept: frozenset[Tensor] = frozenset()
) -> bool:
    free = id(tensor) not in pinned and tensor not in kept
    return free and all(reader in nodes for reader in tensor.outputs)
