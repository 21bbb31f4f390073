"""Channels whose value does not depend on the input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from onnxslim.base import Context, Effect, Pass
from onnxslim.ir import Model
from onnxslim.passes.channels._removal import Wanted, remove


@dataclass(frozen=True)
class FoldConstantChannels(Pass):
    """Remove channels that are constant; they move into the bias of what reads them.

    A convolution that pads with zeros sees fewer of them at its border: there one constant channel
    stays and stands for all. Batch normalizations with a gamma of nearly zero count as constant
    where the rest drowns in the rounding errors of what reads them. *align* is ``"speed"`` (counts
    that onnxruntime runs fast) or ``"bytes"`` (the fewest). Source: Liu et al. 2017, Learning
    Efficient Convolutional Networks through Network Slimming, for where such channels come from.
    """

    name = "fold-constant-channels"
    effect = Effect.ROUNDING

    align: Literal["speed", "bytes"] = "speed"

    def apply(self, model: Model, context: Context) -> int:
        """Cut producers, everything between and readers together."""
        return remove(model, context, Wanted(constants=True, align=self.align))
