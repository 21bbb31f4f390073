"""Another version of ONNX's own operator set.

Newer opsets have operators that older ones spell out (LayerNormalization 17, Gelu 20), so that a
converted model can become smaller than the original could.
"""

from __future__ import annotations

from dataclasses import dataclass

from onnxslim import versions
from onnxslim.base import Context, Effect, Pass
from onnxslim.errors import PassError
from onnxslim.ir import Model


@dataclass(frozen=True)
class ConvertOpset(Pass):
    """Convert the model to opset `target`, where every operator has an exact counterpart there.

    Function bodies that cannot be converted without their callers are inlined.
    """

    name = "convert-opset"
    effect = Effect.ROUNDING
    may_grow = True

    target: int = 21

    def apply(self, model: Model, context: Context) -> int:
        """Convert everything, or nothing."""
        try:
            versions.convert(model.copy(), self.target)
        except PassError as reason:
            context.declined[str(reason)] += 1
            return 0
        return versions.convert(model, self.target)
