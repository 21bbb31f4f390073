"""Channels of like power, and how many groups of them are worth codebooks of their own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from onnxslim.ir import Array
from onnxslim.passes.share._codebook import Codebook
from onnxslim.passes.share._codebook import fit as clusters
from onnxslim.passes.share._storage import Offer, Part, Store
from onnxslim.sites import Site

Fit = Callable[[Array, Array], Codebook]
"""Makes a codebook of weights in rows, and of what their errors count."""

_NUMBERS = (2, 4, 8, 16)
_DECIBELS = 20 * math.log10(2)
"""What a bit more for every weight brings. Source: Gersho & Gray 1992, Vector Quantization and
Signal Compression, high-resolution theory."""


def offered(store: Store, site: Site, counts: Array, fit: Fit) -> tuple[Offer, list[Part]]:
    """Return *site* in as many groups as pay for themselves.

    More codebooks pay where they lower the error, which *counts* weigh, by more than the same
    bytes would if codes took them. *site* has one axis of channels.
    """
    best: tuple[float, Offer, list[Part]] | None = None
    (axis,) = channel_axes(site)
    for parts in _divisions(site, axis, counts, fit):
        offer = store.offer(site, parts, axis)
        cost = _cost(site, axis, parts, counts, offer)
        if best is not None and best[0] <= cost:
            offer.discard()
            break
        if best is not None:
            best[1].discard()
        best = cost, offer, parts
    assert best is not None
    return best[1], best[2]


def channel_axes(site: Site) -> list[int]:
    """Return the axes that outputs are not sums over."""
    return [axis for axis in range(len(site.tensor.shape)) if axis not in site.summed]


def _divisions(site: Site, axis: int, counts: Array, fit: Fit) -> Iterator[list[Part]]:
    """Yield the channels in more and more groups, each of like strength."""
    weights = site.values
    strength = np.sqrt(np.square(weights.astype(np.float64)).mean(site.summed))[:, None]
    yield [Part(fit(weights.reshape(-1, 1), counts.reshape(-1)), weights.shape)]
    for number in _NUMBERS:
        codes = clusters(strength, np.ones(len(strength)), number, "kmeans", 0).codes
        groups = [np.flatnonzero(codes == group) for group in np.unique(codes)]
        if len(groups) > 1:
            yield [_part(group, weights, counts, axis, fit) for group in groups]


def _part(channels: Array, weights: Array, counts: Array, axis: int, fit: Fit) -> Part:
    chosen = weights.take(channels, axis)
    book = fit(chosen.reshape(-1, 1), counts.take(channels, axis).reshape(-1))
    return Part(book, chosen.shape, channels)


def _cost(site: Site, axis: int, parts: list[Part], counts: Array, offer: Offer) -> float:
    """Return the error in decibels, with what the bytes of *offer* are worth in codes."""
    error = math.fsum(
        float((part.of(counts, axis) * np.square(part.missed(site.values, axis))).sum())
        for part in parts
    )
    codes = max(1, int(np.count_nonzero(site.values)))
    least = float(np.finfo(np.float64).tiny)
    return 10 * math.log10(max(error, least)) + _DECIBELS * 8 * offer.size / codes
