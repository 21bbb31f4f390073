"""Which tensors have a dimension, in the order in which a graph computes them."""

from __future__ import annotations

import functools
from bisect import bisect_left
from collections import defaultdict

from onnxslim.ir import Graph, Node, Tensor
from onnxslim.shapes import Expr, Facts, Sym


class Carriers:
    """The tensors that the nodes of a graph compute, by the symbolic dimensions that they have.

    A node that is put in the place of another counts as standing there.
    """

    def __init__(self, graph: Graph, facts: Facts) -> None:
        """Look through *graph* when first asked; it may have changed by then, but not its order."""
        self._nodes, self._facts = list(graph.nodes), facts

    @functools.cached_property
    def _places(self) -> dict[Node, int]:
        return {node: place for place, node in enumerate(self._nodes)}

    @functools.cached_property
    def _by_dimension(self) -> dict[Expr, list[tuple[int, Tensor]]]:
        found: dict[Expr, list[tuple[int, Tensor]]] = defaultdict(list)
        for place, node in enumerate(self._nodes):
            for tensor in node.outputs:
                for dim in dict.fromkeys(self._facts.dims(tensor) or ()):
                    if isinstance(dim, Sym):
                        found[dim].append((place, tensor))
        return found

    def last(self, dimension: Expr, node: Node) -> Tensor | None:
        """Return what is computed last before *node* among the tensors with *dimension*."""
        place = self._places.get(node)
        found = self._by_dimension.get(dimension)
        if place is None or found is None:
            return None
        for _, tensor in reversed(found[: bisect_left(found, place, key=lambda pair: pair[0])]):
            if tensor.inputs and not tensor.inputs[0].erased:
                return tensor
        return None
