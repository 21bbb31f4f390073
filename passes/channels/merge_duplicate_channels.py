"""Channels that equal, or are multiples of, other channels of the same tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from onnxslim.base import Context, Effect, Pass
from onnxslim.ir import Model
from onnxslim.passes.channels._removal import Wanted, remove


@dataclass(frozen=True)
class MergeDuplicateChannels(Pass):
    """Remove channels that equal another one, which takes over the weights that read them.

    Multiples of each other count too, such as constants after a division by what is computed.
    *align* is ``"speed"`` (counts that onnxruntime runs fast) or ``"bytes"`` (the fewest).
    """

    name = "merge-duplicate-channels"
    effect = Effect.ROUNDING

    align: Literal["speed", "bytes"] = "speed"

    def apply(self, model: Model, context: Context) -> int:
        """Cut producers, everything between and readers together."""
        return remove(model, context, Wanted(constants=True, duplicates=True, align=self.align))
