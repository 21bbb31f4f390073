"""What the layers that read channels would lose without them, on calibration data."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnxslim.base import Context
from onnxslim.ir import Array, Model, Node
from onnxslim.moments import Moments, Rows, moved
from onnxslim.passes.channels._analysis import Analysis
from onnxslim.passes.channels._values import Sets
from onnxslim.sites import find, is_summed_by_layers

_AXES = {"Conv": 1, "Gemm": -1, "MatMul": -1}
"""The axis of what a layer reads that its weights have a slice for each channel of."""


def losses(moments: Moments, analysis: Analysis, sets: Sets) -> dict[int, float]:
    """Return by set how much the outputs of its readers move without it, relative to their power.

    What channels have in common is left out: the loss of one is that of its own block of the Gram
    matrix. Source: Luo et al. 2017, ThiNet.
    """
    found: dict[int, float] = {}
    for node, gram in moments.grams.items():
        known = analysis.channels.get(node.inputs[0])
        if (
            known is None
            or known.axis is None
            or known.axis - known.rank != _axis(node, known.rank)
        ):
            continue
        lost = _by_channel(node, gram)
        if len(lost) == len(known.places):
            for number, loss in zip(sets.of(known.places).tolist(), lost.tolist(), strict=True):
                found[number] = found.get(number, 0.0) + loss
    return found


def observed(model: Model, context: Context) -> Moments:
    """Return the moments of what layers read whose weights multiply channels."""
    moments = Moments(context)
    sites = (site for site in find(model, context) if site.node.operator in _AXES)
    moments.observe(model, [site for site in sites if site.slot == 1 and is_summed_by_layers(site)])
    return moments


def _axis(node: Node, rank: int) -> int:
    return _AXES[node.operator] - (rank if node.operator == "Conv" else 0)


def _by_channel(node: Node, gram: Array) -> Array:
    """Return what the outputs of a layer lose without each channel that it reads."""
    weight = node.constant(1)
    assert weight is not None
    groups, length = gram.shape[:2]
    channels = weight.shape[1] if node.operator == "Conv" else length
    rows = Rows(weight.shape, _summed(node, weight), groups).of(weight.astype(np.float64))
    lost = np.concatenate(list(_blocks(rows, gram, channels)))
    power = sum(moved(one, each).sum() for one, each in zip(rows, gram, strict=True))
    return lost / power if power > 0 else lost


def _summed(node: Node, weight: Array) -> tuple[int, ...]:
    if node.operator == "Conv":
        return tuple(range(1, weight.ndim))
    return (1,) if node.operator == "Gemm" and node.attr("transB", 0) else (weight.ndim - 2,)


def _blocks(rows: Array, gram: Array, channels: int) -> Iterator[Array]:
    """Yield for each group by channel Σ w G wᵀ, over outputs, of the channel's own inputs."""
    for one, each in zip(rows, gram, strict=True):
        parts = one.reshape(len(one), channels, -1)
        block = each.reshape(channels, parts.shape[2], channels, -1)
        own = block[np.arange(channels), :, np.arange(channels)]
        yield np.einsum("oct,cts,ocs->c", parts, own, parts, optimize=True)
