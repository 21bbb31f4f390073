"""Which dimensions are equal, because the model fails where they are not.

Concatenated tensors agree in all other dimensions, matrices in the one that is summed over. A node
that is always computed proves that for every run that comes to an end, and only those count. An
equation is solved for one of its atoms, a name or a quotient, and the others take its place: where
a map of ⌊n/16⌋ rows is joined with one of 2⌊n/32⌋, the latter is what ⌊n/16⌋ stands for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from onnxslim.ir import Graph, Node, Tensor, walk
from onnxslim.shapes import expr
from onnxslim.shapes.expr import AnyExpr, Atom, Expr, Sym

_MOST = 64
"""How many atoms are replaced."""
_DEEPEST = 8
"""How often what takes the place of an atom is looked at again."""


class Equation(NamedTuple):
    """Two dimensions that are equal wherever *node* does not fail."""

    node: Node
    left: Expr
    right: Expr


class Solution:
    """Atoms, and what each is equal to."""

    def __init__(self) -> None:
        """Hold everything different."""
        self._instead: dict[Atom, Expr] = {}
        self._known: dict[Sym, Expr] = {}

    def __len__(self) -> int:
        return len(self._instead)

    def apply(self, value: Expr) -> Expr:
        """Return *value* with other atoms in the place of those that are solved for."""
        if not self._instead or not isinstance(value, Sym):
            return value
        found = self._known.get(value)
        if found is None:
            found = self._known[value] = self._replaced(value)
        return found

    def add(self, left: Expr, right: Expr) -> bool:
        """Let two expressions be equal, if that can be solved for an atom; say whether it could."""
        difference = self.apply(left) - self.apply(right)
        if not isinstance(difference, Sym) or expr.is_vague(difference) or len(self) >= _MOST:
            return False
        solved = _solved(difference)
        if solved is None or solved[0] in self._instead:
            return False
        atom, instead = solved
        self._instead[atom] = instead
        self._known.clear()
        return True

    def _replaced(self, value: Sym) -> Expr:
        for _ in range(_DEEPEST):
            try:
                now = expr.substitute(value, self._instead)
            except ZeroDivisionError:  # a quotient that no run asks for
                return value
            if not isinstance(now, Sym) or now == value:
                return now
            value = now
        return value


def solve(equations: Iterable[Equation], graph: Graph, known: Solution) -> bool:
    """Add to *known* what *equations* prove in the main *graph*; say whether that is more."""
    live: set[Node] | None = None
    more = False
    for node, left, right in equations:
        if known.apply(left) != known.apply(right):
            live = always_computed(graph) if live is None else live
            more |= node in live and known.add(left, right)
    return more


def _solved(difference: Sym) -> tuple[Atom, Expr] | None:
    """Solve ``difference == 0`` for the least simple atom that the others tell all about."""
    found: list[tuple[Atom, Expr]] = []
    for monomial, coefficient in difference.terms:
        if len(monomial) == 1:
            (atom,) = monomial
            rest = difference - expr.single(atom) * coefficient
            instead = expr.divide(rest * -1, coefficient)
            if instead is not None and _tells_all(instead, atom):
                found.append((atom, instead))
    return max(found, key=lambda pair: expr.simplicity(expr.single(pair[0])), default=None)


def _tells_all(instead: AnyExpr, atom: Atom) -> bool:
    """Say whether *instead* is free of *atom*, and bounded from below as it is."""
    least = expr.lower(instead)
    bounded = atom.low is None or (least is not None and least >= atom.low)
    return bounded and atom not in expr.atoms(instead)


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
