"""Rounding weights to codes: to the nearest one, at random, or so that the outputs move least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from onnxslim.base import Context
from onnxslim.ir import Array, Model, Node
from onnxslim.moments import Moments, Rows, inverse_factor, moved
from onnxslim.passes.quantize._grid import Grid
from onnxslim.sites import Site

Rounding = Literal["nearest", "gptq", "stochastic"]
_BLOCK = 128


@dataclass
class Rounder:
    """Rounds the weights of one model."""

    context: Context
    kind: Rounding = "nearest"
    moments: Moments = field(init=False)

    def __post_init__(self) -> None:
        """Know nothing of the layers' inputs yet."""
        self.moments = Moments(self.context)

    def observe(self, model: Model, sites: Sequence[Site]) -> None:
        """Collect what second-order rounding must know, or why it cannot be known."""
        if self.kind == "gptq":
            self.moments.observe(model, sites)

    def note(self, site: Site, bits: int) -> None:
        """Tell the report how a weight was rounded."""
        how: str = self.kind
        if site.node in self.moments.missing:
            how = f"nearest: {self.moments.missing[site.node]}"
        self.context.notes.append(
            {"layer": site.label, "weights": site.tensor.size, "bits": bits, "rounding": how}
        )

    def __call__(
        self, node: Node, values: Array, summed: tuple[int, ...], grid: Grid, number: int
    ) -> Array:
        """Return the codes of the weights of *node*; *number* makes random numbers their own."""
        if self.kind == "stochastic":
            return stochastic(values, grid, np.random.default_rng([self.context.seed, number]))
        gram = self.moments.grams.get(node)
        if gram is None:
            return grid.nearest(values)
        missing = values.shape[summed[0]] - gram.shape[-1] if len(summed) == 1 else 0
        if missing:  # rows that were filled up with zeros
            gram = np.pad(gram, [(0, 0), (0, missing), (0, missing)])
        return second_order(values, summed, grid, gram)


def stochastic(values: Array, grid: Grid, random: np.random.Generator) -> Array:
    """Round up with a probability equal to the fraction, so that the mean stays.

    Source: Gupta et al. 2015, Deep Learning with Limited Numerical Precision.
    """
    steps = grid.steps(values)
    return grid.codes(np.floor(steps + random.random(steps.shape)))


def second_order(values: Array, summed: tuple[int, ...], grid: Grid, gram: Array) -> Array:
    """Round every channel by `gptq`, unless that moves its outputs more than rounding to nearest.

    *gram* is (groups, K, K), as `observe.second_moments` returns it.
    """
    rows = Rows(values.shape, summed, len(gram))
    plain = rows.of(grid.nearest(values))
    scale = rows.of(np.broadcast_to(grid.scale.astype(np.float64), grid.shape))
    exact = rows.of(grid.steps(values)) * scale
    codes = np.empty_like(plain)
    for group, moments in enumerate(gram):
        made = gptq(exact[group], scale[group], moments, grid)
        worse = moved(exact[group] - made * scale[group], moments) > moved(
            exact[group] - plain[group] * scale[group], moments
        )
        codes[group] = np.where(worse[:, None], plain[group], made)
    return rows.back(codes).reshape(grid.shape)


def gptq(weights: Array, scale: Array, gram: Array, grid: Grid) -> Array:
    """Return codes whose errors cancel in the outputs.

    *weights* and *scale* are (channels, K). Weights are rounded one after the other, those with the
    largest inputs first, and what each one loses is made up for by those that follow.
    Source: Frantar et al. 2023, GPTQ.
    """
    order = np.argsort(-np.diag(gram), kind="stable")
    upper = inverse_factor(gram[np.ix_(order, order)])
    scale = scale[:, order]
    left = weights[:, order]
    codes = np.empty(weights.shape, np.int8)
    for start in range(0, len(order), _BLOCK):
        stop = min(start + _BLOCK, len(order))
        errors = np.empty((len(weights), stop - start))
        for column in range(start, stop):
            code = grid.codes(np.rint(left[:, column] / scale[:, column]))
            missed = (left[:, column] - code * scale[:, column]) / upper[column, column]
            left[:, column:stop] -= np.outer(missed, upper[column, column:stop])
            codes[:, order[column]] = code
            errors[:, column - start] = missed
        left[:, stop:] -= errors @ upper[start:stop, stop:]
    return codes
