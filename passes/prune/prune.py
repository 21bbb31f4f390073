"""Single weights become zeros."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np

from onnxslim import saliency
from onnxslim.base import Context, Effect, Pass
from onnxslim.ir import Array, Model
from onnxslim.moments import Moments
from onnxslim.passes.prune._layers import Layer, measured
from onnxslim.passes.prune._surgery import Choose, without
from onnxslim.saliency import Criterion
from onnxslim.sites import Site, find


@dataclass(frozen=True)
class Prune(Pass):
    """Set the weights of layers to zero that matter least.

    Zeros make no layer faster, but files smaller, once ``share`` or a packed file stores them.
    ``criterion`` says what matters: the magnitude of a weight; what the layer's outputs move by
    without it (obs, which needs calibration data and adjusts the weights that stay); its Fisher
    information (needs --importance); or first magnitude, and Fisher's information for the rest
    (Tu et al. 2016). ``scope=model`` compares weights across layers. ``pattern=2:4`` leaves two of
    every four weights in a row, whatever ``sparsity`` says. ``compensate`` adjusts the weights that
    stay after any choice. Zeros that are there already count, and stay.
    """

    name = "prune"
    effect = Effect.LOSSY
    by_layer = True

    sparsity: float = 0.5
    criterion: Criterion = "magnitude"
    scope: Literal["layer", "model"] = "layer"
    pattern: str = ""
    compensate: bool = False

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if not 0 <= self.sparsity < 1:
            raise ValueError(f"sparsity={self.sparsity} is not in [0, 1)")
        if self.pattern and not re.fullmatch(r"[1-9]\d*:[1-9]\d*", self.pattern):
            raise ValueError(f"pattern={self.pattern} is not of the form 2:4")
        if self.pattern and self._kept[0] >= self._kept[1]:
            raise ValueError(f"pattern={self.pattern} leaves everything as it is")

    @property
    def _kept(self) -> tuple[int, int]:
        """How many weights stay, of how many in a row."""
        kept, among = self.pattern.split(":")
        return int(kept), int(among)

    def lacking(self, data: bool, importance: bool) -> str | None:
        """Say what else must be given."""
        if "fisher" in self.criterion and not importance:
            return "Fisher's information; give it with --importance FILE.npz, see docs/prune.md"
        if (self.compensate or self.criterion == "obs") and not data:
            return "calibration data; give it with -c FILE"
        return None

    def apply(self, model: Model, context: Context) -> int:
        """Choose the weights that go, layer by layer or among all, and let them go."""
        moments, adjust = Moments(context), self.compensate or self.criterion == "obs"
        sites = [site for site in find(model, context) if self._is_layer(site, context)]
        if adjust:
            moments.observe(model, sites)
        found = (
            measured(site, self.criterion, self.sparsity / 2, moments, context) for site in sites
        )
        layers = [layer for layer in found if layer is not None]
        changes = 0
        for layer, count in zip(layers, self._counts(layers), strict=True):
            made = self._pruned(layer, count)
            if (made != layer.weights).any():
                layer.replace(made)
                context.notes.append(layer.note(made))
                changes += 1
                if self.compensate and layer.gram is None:
                    reason = moments.missing[layer.site.node]
                    context.decline(
                        layer.site.node, f"weights that stay are not adjusted: {reason}"
                    )
        if changes:
            context.forget()
        return changes

    @staticmethod
    def _is_layer(site: Site, context: Context) -> bool:
        if site.is_table:
            context.decline(site.node, "it looks rows up, and sums nothing")
            return False
        return True

    def _counts(self, layers: Sequence[Layer]) -> list[int]:
        """Return how many weights of each layer shall be zeros."""
        if self.scope == "layer" or not layers:
            return [self._share_of(layer.weights.size) for layer in layers]
        relative = [saliency.layer_adaptive(layer.scores).reshape(-1) for layer in layers]
        total = self._share_of(sum(map(len, relative)))
        chosen = saliency.lowest(np.concatenate(relative), total)
        ends = np.cumsum([len(one) for one in relative])[:-1]
        return [int(part.sum()) for part in np.split(chosen, ends)]

    def _share_of(self, size: int) -> int:
        """Return how many of *size* weights shall be zeros; 0.07 of 100 are 7, not 8."""
        return math.ceil(Fraction(str(self.sparsity)) * size)

    def _pruned(self, layer: Layer, count: int) -> Array:
        """Return the weights of a layer with *count* zeros, or with what the pattern wants."""
        mask, weights = self._mask(layer.scores, count), layer.weights
        if not (mask & (weights != 0)).any():
            return weights
        if layer.gram is None:
            return np.where(mask, 0.0, weights)
        step = self._kept[1] if self.pattern else 1
        live = np.count_nonzero(weights)
        more = Fraction(int(live + count - weights.size), int(live))
        return np.stack([
            without(one, gram, self._chooser(fixed, one != 0, more), step)
            for one, gram, fixed in zip(weights, layer.gram, mask, strict=True)
        ])  # fmt: skip

    def _mask(self, found: Array, count: int) -> Array:
        if self.pattern:
            kept, among = self._kept
            return saliency.lowest_of_each(found, among - kept, among)
        return saliency.lowest(found, count)

    def _chooser(self, fixed: Array, live: Array, more: Fraction) -> Choose:
        """Return what chooses while others are adjusted, or what was chosen before.

        While others are adjusted the share *more* of the weights goes that are *live*.
        """
        if self.criterion != "obs":
            return lambda found, block: fixed[:, block]

        def choose(found: Array, block: slice) -> Array:
            left = live[:, block]
            going = math.ceil(more * int(np.count_nonzero(left)))
            zeros = int(np.count_nonzero(~left))
            return self._mask(np.where(left, found, -1.0), zeros + going)

        return choose
