"""Which dimensions of the model's inputs are equal, because the model fails where they are not.

Concatenated tensors agree in all other dimensions, matrices in the one that is summed over. A node
that is always computed proves that for every run that comes to an end, and only those count.
"""

from __future__ import annotations

from collections.abc import Iterable

from onnxslim.ir import Graph, Node, Tensor, walk
from onnxslim.shapes.expr import Expr, Sym, only_atom, simplicity


class Classes:
    """Names and numbers, those that are equal in one class (union-find)."""

    def __init__(self) -> None:
        """Hold everything different."""
        self._parents: dict[Expr, Expr] = {}

    def find(self, item: Expr) -> Expr:
        """Return the simplest expression that is equal to *item*."""
        while item in self._parents:
            item = self._parents[item]
        return item

    def unite(self, left: Expr, right: Expr) -> None:
        """Let two expressions be equal; two different numbers stay what they are."""
        simple, other = sorted((self.find(left), self.find(right)), key=simplicity)
        if simple != other and not isinstance(other, int):
            self._parents[other] = simple


def solve(equations: Iterable[tuple[Node, Expr, Expr]], graph: Graph) -> Classes:
    """Return the classes of names that *equations* prove equal; *graph* is the main graph."""
    classes, live = Classes(), None
    for node, left, right in equations:
        pair = _pair(left - right)
        if pair is not None:
            live = always_computed(graph) if live is None else live
            if node in live:
                classes.unite(*pair)
    return classes


def _pair(difference: Expr) -> tuple[Expr, Expr] | None:
    """Return two names, or a name and a number, that are equal if *difference* is zero."""
    if not isinstance(difference, Sym) or len(difference.terms) != 2:
        return None
    (first, a), (second, b) = difference.terms
    left = _name(first)
    if left is None:
        return None
    if not second and isinstance(a, int) and isinstance(b, int) and b % a == 0 and b // a < 0:
        return left, -(b // a)
    right = _name(second)
    return (left, right) if right is not None and a == -b else None


def _name(monomial: tuple[object, ...]) -> Sym | None:
    made = Sym(((monomial, 1),)) if len(monomial) == 1 else None  # type: ignore[arg-type]
    atom = only_atom(made) if made is not None else None
    return made if atom is not None and atom.is_name else None


def always_computed(graph: Graph) -> set[Node]:
    """Return the nodes of *graph*, without its subgraphs, that the outputs need."""
    found: set[Node] = set()
    stack: list[Tensor] = list(graph.outputs)
    while stack:
        for node in stack.pop().inputs:
            if node not in found:
                found.add(node)
                stack += node.inputs
                for inner in (g for sub in node.subgraphs() for g in walk(sub)):
                    stack += inner.outputs
                    stack += (tensor for item in inner.nodes for tensor in item.inputs)
    return {node for node in found if node.graph is graph}
