"""What the layers that read channels would lose without them, on calibration data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from onnxslim.base import Context
from onnxslim.ir import Array, Model
from onnxslim.moments import Moments, Rows, moved
from onnxslim.passes.channels._analysis import Analysis
from onnxslim.passes.channels._values import Sets
from onnxslim.sites import Site, find, is_summed_by_layers

_READERS = ("Conv", "Gemm", "MatMul")
Read = tuple[Site, Array]
"""The weights of a layer that reads channels, and the Gram matrix of what it reads."""


def observed(model: Model, context: Context) -> list[Read]:
    """Return the layers whose weights multiply channels, as far as they can be observed."""
    found = (site for site in find(model, context) if site.node.operator in _READERS)
    sites = [site for site in found if site.slot == 1 and is_summed_by_layers(site)]
    moments = Moments(context)
    moments.observe(model, sites)
    return [(s, moments.grams[s.node]) for s in sites if s.node in moments.grams]


def losses(reads: Sequence[Read], analysis: Analysis, sets: Sets) -> dict[int, float]:
    """Return by set how much the outputs of its readers move without it, relative to their power.

    What channels have in common is left out: the loss of one is that of its own block of the Gram
    matrix. Source: Luo et al. 2017, ThiNet.
    """
    found: dict[int, float] = {}
    for site, gram in reads:
        known = analysis.channels.get(site.node.inputs[0])
        if known is None or known.axis != (1 if site.node.operator == "Conv" else known.rank - 1):
            continue
        lost = _by_channel(site, gram)
        if len(lost) == len(known.places):
            for number, loss in zip(sets.of(known.places).tolist(), lost.tolist(), strict=True):
                found[number] = found.get(number, 0.0) + loss
    return found


def _by_channel(site: Site, gram: Array) -> Array:
    """Return what the outputs of a layer lose without each channel that it reads."""
    groups, length = gram.shape[:2]
    channels = site.tensor.shape[1] if site.node.operator == "Conv" else length
    rows = Rows(site.tensor.shape, site.summed, groups).of(site.values.astype(np.float64))
    lost = np.concatenate(list(_blocks(rows, gram, channels)))
    power = sum(moved(one, each).sum() for one, each in zip(rows, gram, strict=True))
    return lost / power if power > 0 else lost


def _blocks(rows: Array, gram: Array, channels: int) -> Iterator[Array]:
    """Yield for each group by channel Σ w G wᵀ, over outputs, of the channel's own inputs."""
    for one, each in zip(rows, gram, strict=True):
        parts = one.reshape(len(one), channels, -1)
        block = each.reshape(channels, parts.shape[2], channels, -1)
        own = block[np.arange(channels), :, np.arange(channels)]
        yield np.einsum("oct,cts,ocs->c", parts, own, parts, optimize=True)
