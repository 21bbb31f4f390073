"""How many bits each weight gets, so that noise is spent where it saves most.

Noise-to-signal ratios at the output add up over the weights that are rounded. For uniform noise and
any number of bits the least noise then has a closed form: Lin et al. 2016, Fixed Point Quantization
of Deep Convolutional Networks. The runtime has few widths, and their noise is measured, so the
same problem is solved exactly instead, by dynamic programming over what is spent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from onnxslim.ir import Array

Choice = list[float]
"""The width of every weight."""
Cost = Literal["bits", "bytes"]
_UNITS = 1 << 14
"""What may be spent is counted in as many parts."""


@dataclass(frozen=True)
class Layer:
    """A weight, and what every width costs; widths are in ascending order, the last is exact."""

    count: int
    """Number of weights."""
    noise: Mapping[float, float]
    """What the width adds to the noise-to-signal ratio of the output."""
    bytes: Mapping[float, int]
    """What the weight then takes in the file."""

    def cost(self, width: float, kind: Cost) -> float:
        """Return what a width costs."""
        return self.bytes[width] if kind == "bytes" else self.count * width


def spent(layers: Sequence[Layer], chosen: Choice, kind: Cost) -> float:
    """Return what a choice costs."""
    return sum(layer.cost(width, kind) for layer, width in zip(layers, chosen, strict=True))


def narrowest(layers: Sequence[Layer], kind: Cost) -> Choice:
    """Return the widths that cost least."""
    return [min(layer.noise, key=lambda width: layer.cost(width, kind)) for layer in layers]


def until_quiet(layers: Sequence[Layer], noise: float) -> Choice:
    """Return the choice of fewest bytes whose noise adds up to no more than *noise*."""
    exact = [max(layer.noise) for layer in layers]
    table = _Table(layers, "bytes", spent(layers, exact, "bytes"))
    quiet = np.flatnonzero(table.noise <= noise)
    return table.choice(int(quiet[0])) if quiet.size else exact


def within(layers: Sequence[Layer], kind: Cost, budget: float) -> Choice:
    """Return the choice of least noise that costs no more than *budget*."""
    table = _Table(layers, kind, budget)
    for chosen in table.choices():
        if spent(layers, chosen, kind) <= budget:
            return chosen
    return narrowest(layers, kind)


class _Table:
    """The least noise by what is spent; costs are rounded down to units."""

    def __init__(self, layers: Sequence[Layer], kind: Cost, budget: float) -> None:
        self.layers, self.kind, self.unit = layers, kind, max(budget, 1.0) / _UNITS
        self.noise: Array = np.zeros(_UNITS + 1)
        self.picked: list[Array] = []
        for layer in layers:
            options = np.full((len(layer.noise), _UNITS + 1), np.inf)
            for row, (width, noise) in zip(options, layer.noise.items(), strict=True):
                units = self._units(layer, width)
                row[units:] = self.noise[: max(0, _UNITS + 1 - units)] + noise
            self.picked.append(options.argmin(0).astype(np.int8))
            self.noise = options.min(0)

    def _units(self, layer: Layer, width: float) -> int:
        return int(layer.cost(width, self.kind) / self.unit)

    def choice(self, units: int) -> Choice:
        """Return the choice of least noise for so many units."""
        chosen: Choice = []
        for layer, picked in zip(reversed(self.layers), reversed(self.picked), strict=True):
            width = list(layer.noise)[picked[units]]
            chosen.append(width)
            units -= self._units(layer, width)
        return chosen[::-1]

    def choices(self) -> Iterator[Choice]:
        """Yield choices of ever fewer units, until none is left."""
        for units in range(_UNITS, -1, -1):
            if not np.isfinite(self.noise[units]):
                return
            yield self.choice(units)


def widened(layers: Sequence[Layer], chosen: Choice) -> Choice | None:
    """Return the choice with the layer that hurts most one width up; None where all are exact."""
    noises = [layer.noise[width] for layer, width in zip(layers, chosen, strict=True)]
    worst = max(range(len(layers)), key=noises.__getitem__)
    if not noises[worst]:
        return None
    wider = [width for width in layers[worst].noise if width > chosen[worst]]
    return [min(wider) if number == worst else width for number, width in enumerate(chosen)]
