"""Products with constant matrices.

Source: MatMul-1 and Gemm-7 of the ONNX operator specification, and their successors.
"""

from __future__ import annotations

import numpy as np

from onnxslim.ir import Array, Node
from onnxslim.pattern import Match


def matrix_of(m: Match, node: Node, name: str) -> Array:
    """Return what a product multiplies by, in float64, with the factor of a Gemm in it."""
    values = m.constant(name)
    m.require(values.ndim == 2, "a factor is no matrix")
    m.require(values.dtype.kind == "f", f"{values.dtype} is no floating-point type")
    wide: Array = values.astype(np.float64) * node.attr("alpha", 1.0)
    transposed = node.operator == "Gemm" and node.attr("transB", 0)
    return np.transpose(wide) if transposed else wide
