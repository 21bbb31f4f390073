"""What a family of structured matrices offers in place of a layer's weight."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

from onnxslim.ir import Array, Tensor, Variable
from onnxslim.passes.factorize._build import Place
from onnxslim.passes.factorize._layers import Layer
from onnxslim.passes.factorize._metric import Metric
from onnxslim.passes.factorize._speed import aligned
from onnxslim.rewrite import Builder

Aim = Literal["bytes", "speed"]
Run = Callable[[Place, Sequence[Tensor]], Variable]
"""Computes the outputs of a layer from the stored parts."""
Expand = Callable[[Builder, Layer, Sequence[Tensor]], Variable]
"""Computes a weight, in its stored form, from the stored parts."""
Family = Callable[[Layer, Metric, "Wanted"], Iterable["Candidate"]]
_FASTER = 0.9
"""How much of the estimated time a layer that runs as factors may take: estimates are that good."""


class Wanted(NamedTuple):
    """What a family is asked for."""

    sizes: tuple[int, ...] = ()
    """Numbers of parameters: the best that takes no more, for each."""
    rank: int | None = None
    """Of one rank, whatever that is for the family."""
    error: float | None = None
    """Where the family knows at once: the smallest with no more error."""


class Candidate(NamedTuple):
    """One structured weight of one size, made in full only if it is chosen.

    Either `run` or `expand` is given.
    """

    family: str
    size: str
    """What the report says of its size."""
    parameters: int
    """How many numbers are stored."""
    error: float
    """How far the outputs move, of their own size, in the metric of the data."""
    parts: Callable[[], Sequence[Array]]
    """Makes what is stored; floats are then rounded to the type of the weights."""
    approximation: Callable[[Sequence[Array]], Array]
    """Makes W in float64, (K, M), of the rounded parts."""
    run: Run | None = None
    time: float = 0.0
    """Estimated microseconds if it runs as factors."""
    macs: int = 0
    """Multiply-accumulates of one run if it runs as factors."""
    expand: Expand | None = None

    def suits(self, layer: Layer, aim: Aim) -> bool:
        """Say whether the layer would get smaller and no slower; for speed, faster."""
        if self.parameters >= layer.parameters:
            return False
        if self.run is None:
            return aim == "bytes"
        return is_faster(self.time, layer)


def is_faster(time: float, layer: Layer) -> bool:
    """Say whether a layer that should take so many microseconds surely gains by it."""
    return time <= _FASTER * layer.time


def fast(layer: Layer, rank: int, step: int, time: Callable[[Layer, int], float]) -> int:
    """Return the largest rank up to *rank* that runs fast, and faster than the layer; else 0."""
    rank = aligned(rank, step)
    while rank and not is_faster(time(layer, rank), layer):
        rank = aligned(rank - 1, step)
    return rank
