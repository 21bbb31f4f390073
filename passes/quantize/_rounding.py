"""Rounding weights to codes: to the nearest one, at random, or so that the outputs move least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from onnxslim.base import Context
from onnxslim.errors import CannotRun
from onnxslim.ir import Array, Model, Node
from onnxslim.observe import second_moments
from onnxslim.passes.quantize._grid import Grid
from onnxslim.passes.quantize._weight_sites import Site, is_summed_by_layers

Rounding = Literal["nearest", "gptq", "stochastic"]
_DAMPING = 0.01
"""Of the mean diagonal element, added to the diagonal of a Gram matrix."""
_BLOCK = 128
_LARGEST = 8192
"""Weights of one output beyond which a Gram matrix takes too much memory."""


@dataclass
class Rounder:
    """Rounds the weights of one model."""

    context: Context
    kind: Rounding = "nearest"
    grams: dict[Node, Array] = field(default_factory=dict)
    missing: dict[Node, str] = field(default_factory=dict)
    """Why layers are rounded to nearest although something else was asked for."""

    def observe(self, model: Model, sites: Sequence[Site]) -> None:
        """Collect what second-order rounding must know, or why it cannot be known."""
        if self.kind != "gptq":
            return
        usable = [site for site in sites if self._is_usable(model, site)]
        if self.context.data is None:
            for site in usable:
                self.missing[site.node] = "gptq needs calibration data"
        elif usable:
            try:
                self.grams = second_moments(
                    model, self.context.calibration(), [site.node for site in usable],
                    progress=self.context.progress,
                )  # fmt: skip
            except CannotRun as error:
                self.missing.update((site.node, str(error)) for site in usable)

    def _is_usable(self, model: Model, site: Site) -> bool:
        if site.node.graph is not model.graph or not is_summed_by_layers(site):
            self.missing[site.node] = "gptq does not know the layer"
            return False
        if np.prod([site.tensor.shape[axis] for axis in site.summed]) > _LARGEST:
            self.missing[site.node] = "its Gram matrix is too large"
            return False
        return True

    def note(self, site: Site, bits: int) -> None:
        """Tell the report how a weight was rounded."""
        how: str = self.kind
        if site.node in self.missing:
            how = f"nearest: {self.missing[site.node]}"
        self.context.notes.append(
            {"layer": site.label, "weights": site.tensor.size, "bits": bits, "rounding": how}
        )

    def __call__(
        self, node: Node, values: Array, summed: tuple[int, ...], grid: Grid, number: int
    ) -> Array:
        """Return the codes of the weights of *node*; *number* makes random numbers their own."""
        if self.kind == "stochastic":
            return stochastic(values, grid, np.random.default_rng([self.context.seed, number]))
        gram = self.grams.get(node)
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
    rows = _Rows(values.shape, summed, len(gram))
    plain = rows.of(grid.nearest(values))
    scale = rows.of(np.broadcast_to(grid.scale.astype(np.float64), grid.shape))
    exact = rows.of(grid.steps(values)) * scale
    codes = np.empty_like(plain)
    for group, moments in enumerate(gram):
        made = gptq(exact[group], scale[group], moments, grid)
        worse = _moved(exact[group] - made * scale[group], moments) > _moved(
            exact[group] - plain[group] * scale[group], moments
        )
        codes[group] = np.where(worse[:, None], plain[group], made)
    return rows.back(codes).reshape(grid.shape)


@dataclass(frozen=True)
class _Rows:
    """A weight as (groups, channels, K) and back."""

    shape: tuple[int, ...]
    summed: tuple[int, ...]
    groups: int

    def of(self, values: Array) -> Array:
        values = values.reshape(self.shape)
        rows = values.T if self.summed == (0,) else values
        return rows.reshape(self.groups, rows.shape[0] // self.groups, -1)

    def back(self, rows: Array) -> Array:
        if self.summed == (0,):
            return rows.reshape(self.shape[::-1]).T
        return rows.reshape(self.shape)


def _moved(errors: Array, gram: Array) -> Array:
    """Return by channel how much the outputs move, squared, if the weights move by *errors*."""
    return np.asarray(((errors @ gram) * errors).sum(1))


def gptq(weights: Array, scale: Array, gram: Array, grid: Grid) -> Array:
    """Return codes whose errors cancel in the outputs.

    *weights* and *scale* are (channels, K). Weights are rounded one after the other, those with the
    largest inputs first, and what each one loses is made up for by those that follow.
    Source: Frantar et al. 2023, GPTQ.
    """
    order = np.argsort(-np.diag(gram), kind="stable")
    upper = _factor(gram[np.ix_(order, order)])
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


def _factor(gram: Array) -> Array:
    """Return the upper Cholesky factor of the inverse of the damped Gram matrix."""
    mean = float(np.diag(gram).mean())
    damped = gram + (_DAMPING * mean if mean > 0 else 1.0) * np.eye(len(gram))
    inverse = np.linalg.inv(damped)
    return np.asarray(np.linalg.cholesky((inverse + inverse.T) / 2).T)
