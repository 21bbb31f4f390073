"""Another version of ONNX's own operator set.

Newer opsets have operators that older ones spell out (LayerNormalization 17, Gelu 20), so that a
converted model can become smaller than the original could.
"""

from __future__ import annotations

from dataclasses import dataclass

from onnxslim import versions
from onnxslim.base import Context, Effect, Pass
from onnxslim.ir import Model


@dataclass(frozen=True)
class ConvertOpset(Pass):
    """Convert the model to opset `target`, where every operator has an exact counterpart there.

    0 leaves the opset as it is. Function bodies that cannot be converted alone are inlined.
    """

    name = "convert-opset"
    effect = Effect.ROUNDING
    may_grow = True

    target: int = 0

    def apply(self, model: Model, context: Context) -> int:
        """Convert everything, or raise PassError."""
        return versions.convert(model, self.target) if self.target else 0
