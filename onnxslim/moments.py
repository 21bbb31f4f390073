"""What the inputs of layers say of their weights: second moments, and what errors cost in them.

With H = XᵀX / n, the Gram matrix of what a layer reads, weights that move by e move the outputs by
e H eᵀ on average. Source: Hassibi & Stork 1993, Optimal Brain Surgeon; Frantar & Alistarh 2023.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from onnxslim.base import Context
from onnxslim.errors import CannotRun
from onnxslim.ir import Array, Model, Node
from onnxslim.observe import second_moments
from onnxslim.sites import Site, is_summed_by_layers

_DAMPING = 0.01
"""Of the mean diagonal element, added to the diagonal of a Gram matrix."""
_LARGEST = 8192
"""Weights of one output beyond which a Gram matrix takes too much memory."""


@dataclass
class Moments:
    """The Gram matrices of what the layers of one model read, (groups, K, K) in float64.

    K is the number of weights of one output; a matrix takes 8 K² bytes.
    """

    context: Context
    grams: dict[Node, Array] = field(default_factory=dict)
    missing: dict[Node, str] = field(default_factory=dict)
    """Why there is none of a layer."""

    def observe(self, model: Model, sites: Sequence[Site]) -> None:
        """Collect the matrices of *sites*, where there are calibration data."""
        usable = [site for site in sites if self._is_usable(model, site)]
        if self.context.data is None:
            for site in usable:
                self.missing[site.node] = "it needs calibration data"
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
            self.missing[site.node] = "what it reads is not observed"
            return False
        if math.prod(site.tensor.shape[axis] for axis in site.summed) > _LARGEST:
            self.missing[site.node] = "its Gram matrix is too large"
            return False
        return True


@dataclass(frozen=True)
class Rows:
    """Weights as (groups, channels, K), the form that fits a Gram matrix, and back."""

    shape: tuple[int, ...]
    summed: tuple[int, ...]
    """The axes that one output is a sum over."""
    groups: int = 1

    def of(self, values: Array) -> Array:
        """Return *values*, of the shape of the weights, as rows."""
        rows = np.moveaxis(values.reshape(self.shape), self.summed, self._last)
        return rows.reshape(self.groups, -1, math.prod(self.shape[axis] for axis in self.summed))

    def back(self, rows: Array) -> Array:
        """Undo `of`."""
        others = [axis for axis in range(len(self.shape)) if axis not in self.summed]
        turned = [self.shape[axis] for axis in (*others, *self.summed)]
        return np.moveaxis(rows.reshape(turned), self._last, self.summed)

    @property
    def _last(self) -> tuple[int, ...]:
        return tuple(range(-len(self.summed), 0))


def moved(errors: Array, gram: Array) -> Array:
    """Return by channel how much outputs move, squared, if the weights move by *errors*."""
    return np.asarray(((errors @ gram) * errors).sum(1))


def inverse_factor(gram: Array) -> Array:
    """Return the upper Cholesky factor of the inverse of the damped Gram matrix, (K, K)."""
    mean = float(np.diag(gram).mean())
    damped = gram + (_DAMPING * mean if mean > 0 else 1.0) * np.eye(len(gram))
    inverse = np.linalg.inv(damped)
    return np.asarray(np.linalg.cholesky((inverse + inverse.T) / 2).T)
