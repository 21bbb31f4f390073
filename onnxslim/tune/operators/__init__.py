"""The operators that can be tuned through, by kind; `TABLE` holds them all."""

from onnxslim.tune.operators import (  # noqa: F401 (they fill the table)
    arithmetic,
    layers,
    movement,
    pooling,
    quantized,
    recurrent,
    reductions,
    resize,
)
from onnxslim.tune.operators.table import TABLE, Call, Value, carrier

__all__ = ["TABLE", "Call", "Value", "carrier"]
