"""Batch normalizations that scale a channel by next to nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from onnxslim import ir
from onnxslim.base import Context, Effect, Pass
from onnxslim.errors import MissingData
from onnxslim.ir import Array, Constant, Model, Node


@dataclass(frozen=True)
class NearZero(Pass):
    """Set the smallest gammas of batch normalizations to zero, as many as the outputs allow.

    Gammas go in the order of their share of the largest one beside them, for as long as no output
    moves by more than *tolerance* of its scale on the data; a binary search finds how many those
    are. Run it before the recipe that removes the channels: ``near-zero{tolerance=0.01},lossless``.
    Source: Liu et al. 2017, Learning Efficient Convolutional Networks through Network Slimming.
    """

    name = "near-zero"
    effect = Effect.LOSSY

    tolerance: float = 1e-3

    def apply(self, model: Model, context: Context) -> int:
        """Search the longest prefix that stays within the tolerance."""
        found = sorted(_candidates(model), key=lambda one: one[0])
        try:
            fits = self._fitting(model, found, context)
        except MissingData as reason:
            nodes = list(model.nodes())
            context.decline(nodes[found[0][1]], str(reason))
            return 0
        return _zero(model, _chosen(found[:fits]))

    def _fitting(self, model: Model, found: Sequence[Candidate], context: Context) -> int:
        """Return how many of *found* stay within the tolerance."""
        fits, fails = 0, len(found) + 1
        while fails - fits > 1:
            middle = (fits + fails) // 2
            trial = model.copy()
            _zero(trial, _chosen(found[:middle]))
            if context.distance(trial) <= self.tolerance:
                fits = middle
            else:
                fails = middle
        return fits


Candidate = tuple[float, int, int]
"""The share of a gamma, its node and its channel."""


def _candidates(model: Model) -> Iterator[Candidate]:
    """Yield share, node and channel of every gamma that is not zero, some of each kept."""
    for index, node in enumerate(model.nodes()):
        gamma = _gamma(node)
        if gamma is not None and gamma.size:
            share = np.abs(gamma) / max(np.abs(gamma).max(), np.finfo(np.float32).tiny)
            for channel in np.flatnonzero((gamma != 0) & (share < 1)).tolist():
                yield float(share[channel]), index, channel


def _gamma(node: Node) -> Array | None:
    if node.operator != "BatchNormalization" or ir.has_parameters(node):
        return None
    gamma = node.constant(1)
    return None if gamma is None else gamma.astype(np.float64)


def _chosen(found: Sequence[Candidate]) -> dict[int, list[int]]:
    channels: dict[int, list[int]] = {}
    for _, index, channel in found:
        channels.setdefault(index, []).append(channel)
    return channels


def _zero(model: Model, channels: dict[int, list[int]]) -> int:
    """Set gammas to zero, by node and channel; return how many."""
    for index, node in enumerate(list(model.nodes())):
        if index in channels:
            before = node.inputs[1]
            assert isinstance(before, Constant)
            values = np.array(before.values)
            values[channels[index]] = 0
            if len(before.outputs) == 1:
                before.values = values
            else:
                made = ir.constant(model.names.fresh(before.name), values)
                ir.set_input(node, 1, made)
    return sum(map(len, channels.values()))
