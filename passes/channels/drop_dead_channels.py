"""Channels that no output depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from onnxslim.base import Context, Effect, Pass
from onnxslim.ir import Model
from onnxslim.passes.channels._removal import Wanted, remove


@dataclass(frozen=True)
class DropDeadChannels(Pass):
    """Remove channels that nobody reads, or only through weights of zero.

    *align* is ``"speed"`` (counts that onnxruntime runs fast) or ``"bytes"`` (the fewest).
    """

    name = "drop-dead-channels"
    effect = Effect.ROUNDING

    align: Literal["speed", "bytes"] = "speed"

    def apply(self, model: Model, context: Context) -> int:
        """Cut producers, everything between and readers together."""
        return remove(model, context, Wanted(align=self.align))
