"""Recipes for operators that operands and attributes made up at random seldom fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.fuzz.grower import Grower, Refused
from benchmarks.fuzz.values import Value

Recipe = Callable[[Grower, str], object]
RECIPES: dict[str, Recipe] = {}
"""By operator, what adds a node of it; it is told which operator."""


def recipe(*operators: str) -> Callable[[Recipe], Recipe]:
    """Register a recipe for *operators*."""

    def register(function: Recipe) -> Recipe:
        RECIPES.update(dict.fromkeys(operators, function))
        return function

    return register


def needs(g: Grower, opset: int) -> None:
    """Raise Refused in older opsets."""
    if g.opset < opset:
        raise Refused


def data(g: Grower, shape: Sequence[int], kind: str | None = None) -> Value:
    """Return a value of this shape and type: one that is there, an input or a constant."""
    kind = kind or g.float
    found = [
        value
        for value in g.scope.visible()
        if value.type == kind and value.shape == tuple(shape) and not (value.known or value.rough)
    ]
    if found and g.flip(0.7):
        return g.random.choice(found)
    if len(g.inputs) < 5 and not g.scope.function and g.flip():
        return g.input(kind, shape)
    return g.constant(g.array(kind, shape), kind)


def smooth(g: Grower, *ranks: int) -> Value:
    """Return a float value of one of these ranks that is not empty and was not rounded."""
    return g.pick(ok=lambda v: not v.rough and v.rank in ranks and 0 not in v.shape)


def indices(g: Grower, size: int, shape: Sequence[int], low: int = 0) -> Value:
    """Make constant indices of something of *size*."""
    kind = "tensor(int64)"
    return g.constant(g.numbers.integers(low, max(size, 1), shape), kind)
