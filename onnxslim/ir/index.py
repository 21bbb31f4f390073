"""Which nodes of a model have which operator, so that a pass visits only those it looks for."""

from __future__ import annotations

from collections.abc import Collection

from onnxslim.ir.graph import Graph, Node
from onnxslim.ir.model import Model

_Places = dict[str, list[tuple[int, Node]]]
"""Nodes and their places in the graph, by operator."""


class Index:
    """The nodes of a model as they were when it was made."""

    def __init__(self, model: Model) -> None:
        """Look at every node of *model* once."""
        self._graphs = [(graph, _places(graph)) for graph in model.graphs()]
        self.operators = {operator for _, places in self._graphs for operator in places}
        """The operators of all nodes."""

    def find(self, operators: Collection[str]) -> list[tuple[Graph, list[Node]]]:
        """Return the nodes of *operators* by graph, outermost first; empty ones are left out."""
        found = ((graph, _of(places, operators)) for graph, places in self._graphs)
        return [(graph, nodes) for graph, nodes in found if nodes]


def _places(graph: Graph) -> _Places:
    places: _Places = {}
    for at, node in enumerate(graph.nodes):
        if not node.erased:
            places.setdefault(node.operator, []).append((at, node))
    return places


def _of(places: _Places, operators: Collection[str]) -> list[Node]:
    lists = [places[operator] for operator in places if operator in operators]
    found = lists[0] if len(lists) == 1 else sorted(place for part in lists for place in part)
    return [node for _, node in found]
