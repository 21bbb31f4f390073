"""A quick look at whether a graph may hold anything to remove, before it is analysed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnxslim.ir import Array, Constant, Graph, Node, Store, Tensor
from onnxslim.passes.channels._analysis import FLOATS
from onnxslim.passes.channels._linear import SPREAD
from onnxslim.shapes import Facts

NEAR = 2.0**-10
"""Gammas within this of the largest, after `SPREAD`, are looked at as nearly zero."""

_SCALING = frozenset({"InstanceNormalization", "Mul"})
_PARTS = frozenset({"Gather", "Slice", "Split"})


def is_near(gamma: Array, size: Array) -> Array:
    """Return a mask of gammas whose channels may count as constant."""
    return np.asarray(np.abs(gamma) * SPREAD <= NEAR * size.max(initial=0.0))


def has_constants(graph: Graph, store: Store) -> bool:
    """Say whether a channel may be constant: a gamma of nearly zero, an output without weights."""
    for node in graph.nodes:
        if node.operator == "BatchNormalization":
            gamma, beta = node.constant(1), node.constant(2)
            if gamma is None or beta is None or gamma.shape != beta.shape:
                continue
            if is_near(gamma, np.abs(gamma) + np.abs(beta)).any():
                return True
        elif node.operator in _SCALING and any(map(_holds_zero, node.inputs)):
            return True
    return any((view[:, 0] == 0).any() and _idle(view) for view in _views(graph, store))


def has_duplicates(graph: Graph, store: Store) -> bool:
    """Say whether two outputs of a layer may be equal."""
    return any(_holds_pair(view[:, 0]) and _repeats(view) for view in _views(graph, store))


def has_dead(graph: Graph, store: Store, facts: Facts) -> bool:
    """Say whether a channel may be read by nobody: weights of zero, or parts that are left out."""
    if any((view[0] == 0).any() and _idle(view.T) for view in _views(graph, store)):
        return True
    parts: dict[Tensor, list[Node]] = {}
    for node in graph.nodes:
        if node.operator not in _PARTS or isinstance(node.inputs[0], Constant):
            continue
        if facts.elem_type(node.inputs[0]) in FLOATS:
            parts.setdefault(node.inputs[0], []).append(node)
    return any(_is_partly_read(tensor, nodes, facts) for tensor, nodes in parts.items())


def _holds_zero(tensor: Tensor) -> bool:
    if not isinstance(tensor, Constant) or tensor.elem_type not in FLOATS or tensor.size > 1 << 17:
        return False
    return bool((tensor.values == 0).any())


def _views(graph: Graph, store: Store) -> Iterator[Array]:
    """Yield the weights of every layer as (outputs, inputs x taps), outputs of all groups."""
    for node in graph.nodes:
        for view in _views_of(node):
            yield view
            store.pass_by(view.nbytes)


def _views_of(node: Node) -> Iterator[Array]:
    if node.operator in ("Conv", "ConvTranspose") and _is_weight(node, 1):
        values = node.inputs[1].values
        if node.operator == "ConvTranspose":
            values = np.moveaxis(values, 1, 0)
        elif values.shape[1] == 1 and int(node.attr("group", 1)) > 1:
            return
        yield values.reshape(values.shape[0], -1)
    elif node.operator == "Gemm" and _is_weight(node, 1):
        values = node.inputs[1].values
        yield values if node.attr("transB", 0) else values.T
    elif node.operator in ("GRU", "LSTM", "RNN") and _is_weight(node, 1):
        yield node.inputs[1].values.reshape(-1, node.inputs[1].shape[-1])
    elif node.operator == "MatMul":
        for slot in (0, 1):
            if _is_weight(node, slot) and node.inputs[slot].values.ndim == 2:
                values = node.inputs[slot].values
                yield values.T if slot else values


def _is_weight(node: Node, slot: int) -> bool:
    if len(node.inputs) <= slot:
        return False
    tensor = node.inputs[slot]
    return isinstance(tensor, Constant) and tensor.elem_type in FLOATS and tensor.size > 0


def _idle(view: Array) -> bool:
    """Say whether a row is all zeros."""
    rows = view[view[:, 0] == 0]
    return bool((rows == 0).all(1).any())


def _holds_pair(values: Array) -> bool:
    """Say whether two elements are equal."""
    ordered = np.sort(values)
    return bool((ordered[1:] == ordered[:-1]).any())


def _repeats(view: Array) -> bool:
    """Say whether two rows are equal."""
    sample = view[:, :: max(1, view.shape[1] // 16)]
    return len({row.tobytes() for row in np.ascontiguousarray(sample)}) < len(view)


def _is_partly_read(tensor: Tensor, nodes: list[Node], facts: Facts) -> bool:
    """Say whether the readers of *tensor* leave out part of it."""
    if len(nodes) < len(tensor.outputs):
        return False
    shape = facts.static(tensor)
    whole = 0 if shape is None else int(np.prod(shape))
    read = [facts.static(t) for node in nodes for t in node.outputs if t.outputs]
    if not whole or None in read:
        dims = facts.dims(tensor) or ()
        return any(
            isinstance(dim, int) and not _is_covered(axis, dim, nodes, facts)
            for axis, dim in enumerate(dims)
            if axis
        )
    return sum(int(np.prod(part)) for part in read if part is not None) < whole


def _is_covered(axis: int, dim: int, nodes: list[Node], facts: Facts) -> bool:
    """Say whether *nodes* take all of an axis: one part is the whole, or they add up to *dim*."""
    extents = [extent for node in nodes for extent in _extents(node, axis, dim, facts)]
    return dim in extents or sum(extents) == dim


def _extents(node: Node, axis: int, dim: int, facts: Facts) -> list[int]:
    """Return how many of *dim* elements along *axis* each part has; all, where a run must tell."""
    if node.operator == "Gather":
        indices, rank = node.constant(1), facts.rank(node.inputs[0]) or 1
        along = int(node.attr("axis", 0)) % rank == axis
        return [dim if indices is None or not along else len(set((indices % dim).flat))]
    parts = [facts.dims(tensor) for tensor in node.outputs if tensor.outputs]
    extents = [dim if part is None else part[axis] for part in parts]
    return [extent if isinstance(extent, int) else dim for extent in extents]
