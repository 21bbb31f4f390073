"""Which of the candidates a layer gets: for one limit of its own, or one shared by all layers.

Where a layer that runs as factors takes no less than three quarters of what the best weight that is
only stored as factors may take, and its error is at most half as large again, it runs as factors,
because that is faster too.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

from onnxslim.passes.factorize._candidates import Candidate
from onnxslim.passes.factorize._layers import Layer

Choice = Candidate | None
"""None leaves the layer as it is."""
_ROUNDING = 1e-7
Cost = Callable[[Layer, Choice], int]
_CLOSE, _NEAR = 0.75, 1.5


def closest(candidates: Sequence[Candidate], most: float) -> Choice:
    """Return what moves the outputs least with no more than *most* parameters."""
    fitting = [c for c in candidates if c.parameters <= most]
    best = min(fitting, key=_by_error, default=None)
    if best is None or best.run:
        return best
    enough, near = _CLOSE * best.parameters, _NEAR * best.error + _ROUNDING
    running = (c for c in fitting if c.run and c.parameters >= enough and c.error <= near)
    return min(running, key=_by_error, default=best)


def smallest(candidates: Sequence[Candidate], error: float) -> Choice:
    """Return what takes the fewest parameters and moves the outputs by no more than *error*."""
    fitting = [c for c in candidates if c.error <= error]
    best = min(fitting, key=_by_size, default=None)
    if best is None or best.run:
        return best
    running = (c for c in fitting if c.run and _CLOSE * c.parameters <= best.parameters)
    return min(running, key=_by_size, default=best)


def _by_error(candidate: Candidate) -> tuple[float, int]:
    return candidate.error, candidate.parameters


def _by_size(candidate: Candidate) -> tuple[int, float]:
    return candidate.parameters, candidate.error


def shared(
    offers: Sequence[tuple[Layer, Sequence[Candidate]]], budget: float, cost: Cost
) -> list[Choice]:
    """Return a choice that costs no more than *budget*, if there is any, and adds least error.

    Squared errors, which add up from layer to layer, are spent where they save most: each step
    takes the one that is cheapest for what it saves. Of the last step only as much as is needed.
    """
    chosen: list[Choice] = [None] * len(offers)
    spent = sum(cost(layer, None) for layer, _ in offers)
    hulls = [_hull(layer, candidates, cost) for layer, candidates in offers]
    steps: list[tuple[float, int, int]] = []
    for number, (layer, _) in enumerate(offers):
        _push(steps, number, hulls[number], 0, cost, layer)
    while spent > budget and steps:
        _, number, place = heapq.heappop(steps)
        layer, candidates = offers[number]
        before = cost(layer, chosen[number])
        chosen[number] = hulls[number][place]
        spent += cost(layer, chosen[number]) - before
        _push(steps, number, hulls[number], place, cost, layer)
        if spent <= budget:
            allowed = cost(layer, chosen[number]) + budget - spent
            fitting = [c for c in candidates if cost(layer, c) <= allowed]
            chosen[number] = min(fitting, key=_by_error)
    pairs = zip(offers, chosen, strict=True)
    return [c and closest(candidates, c.parameters) for (_, candidates), c in pairs]


def quietest(
    offers: Sequence[tuple[Layer, Sequence[Candidate]]], power: float, cost: Cost
) -> list[Choice]:
    """Return the choice that costs least and whose squared errors add up to no more than *power*.

    Each step takes what saves most for the error that it adds.
    """
    chosen: list[Choice] = [None] * len(offers)
    hulls = [_hull(layer, candidates, cost) for layer, candidates in offers]
    steps: list[tuple[float, int, int]] = []
    for number, (layer, _) in enumerate(offers):
        _push(steps, number, hulls[number], 0, cost, layer)
    left = power
    while steps:
        _, number, place = heapq.heappop(steps)
        added = _power(hulls[number][place]) - _power(chosen[number])
        if added <= left:
            chosen[number] = hulls[number][place]
            left -= added
            _push(steps, number, hulls[number], place, cost, offers[number][0])
    return chosen


def _push(
    steps: list[tuple[float, int, int]], number: int, hull: list[Choice], place: int, cost: Cost,
    layer: Layer,
) -> None:  # fmt: skip
    """Queue the step from one place of the hull to the next, by the error it adds for a saving."""
    if place + 1 < len(hull):
        slope = _slope(hull[place], hull[place + 1], cost, layer)
        heapq.heappush(steps, (slope, number, place + 1))


def _slope(one: Choice, other: Choice, cost: Cost, layer: Layer) -> float:
    return (_power(other) - _power(one)) / (cost(layer, one) - cost(layer, other))


def _power(choice: Choice) -> float:
    return choice.error**2 if choice else 0.0


def _hull(layer: Layer, candidates: Sequence[Candidate], cost: Cost) -> list[Choice]:
    """Return what no mixture of others beats, from the layer as it is to the cheapest."""
    hull: list[Choice] = [None]
    for candidate in sorted(candidates, key=lambda c: (-cost(layer, c), -c.error)):
        if cost(layer, candidate) >= cost(layer, hull[-1]):
            if hull[-1] is None or candidate.error >= hull[-1].error:
                continue
            hull.pop()
        while len(hull) > 1 and _slope(hull[-2], hull[-1], cost, layer) >= _slope(
            hull[-2], candidate, cost, layer
        ):
            hull.pop()
        hull.append(candidate)
    return hull
