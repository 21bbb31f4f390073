"""Parts of large weights, so that a layer with most of the weights can have several widths."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxslim.ir import Array
from onnxslim.sites import Site

_SHARE = 8
"""No part holds more than one in so many of all weights."""
_SMALLEST = 16384
"""Weights of a part: fewer are not worth nodes of their own."""


@dataclass(frozen=True)
class Part:
    """The channels of a weight from *start* to *stop*, which share a width."""

    site: Site
    number: int
    """Of the site."""
    axis: int
    """The axis of channels."""
    start: int
    stop: int

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the weight."""
        return self.stop - self.start == self.site.tensor.shape[self.axis]

    @property
    def values(self) -> Array:
        """The weights."""
        return self.of(self.site.values)

    def of(self, array: Array) -> Array:
        """Return its part of an array like the weight."""
        return array[(slice(None),) * self.axis + (slice(self.start, self.stop),)]

    @property
    def label(self) -> str:
        """What the report calls it."""
        channels = "" if self.is_whole else f"[{self.start}:{self.stop}]"
        return self.site.label + channels


def split(sites: Sequence[Site], block: int) -> list[Part]:
    """Return the parts of all weights, in order."""
    total = sum(site.tensor.size for site in sites)
    largest = max(_SMALLEST, total // _SHARE)
    made = []
    for number, site in enumerate(sites):
        axis, size = _channels(site), site.tensor.size
        count = 1 if block or not _is_divisible(site) else math.ceil(size / largest)
        bounds = np.linspace(0, site.tensor.shape[axis], count + 1).astype(int).tolist()
        pairs = itertools.pairwise(bounds)
        made += [Part(site, number, axis, start, stop) for start, stop in pairs if start < stop]
    return made


def _channels(site: Site) -> int:
    """Return the longest axis that outputs are no sums over."""
    shape = site.tensor.shape
    axes = [axis for axis in range(len(shape)) if axis not in site.summed]
    return max(axes, key=lambda axis: shape[axis], default=0)


def _is_divisible(site: Site) -> bool:
    """Say whether channels have nothing to do with each other: not those of groups."""
    node = site.node
    if node.operator == "Conv":
        return bool(node.attr("group", 1) == 1)
    return node.operator in ("Gemm", "MatMul") and len(site.tensor.shape) == 2


def joined(parts: Sequence[Part], widths: Sequence[float]) -> list[tuple[Part, float]]:
    """Join neighbours of the same weight and width."""
    made: list[tuple[Part, float]] = []
    for part, width in zip(parts, widths, strict=True):
        if made and made[-1][0].site is part.site and made[-1][1] == width:
            last = made.pop()[0]
            part = Part(part.site, part.number, part.axis, last.start, part.stop)
        made.append((part, width))
    return made
