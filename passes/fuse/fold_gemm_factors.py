"""The factors alpha and beta of a Gemm.

Source: Gemm-7 of the ONNX operator specification and its successors.
"""

from __future__ import annotations

import numpy as np

from onnxslim import ir
from onnxslim.base import Context, Effect, Pass
from onnxslim.errors import Declined
from onnxslim.ir import Constant, Model, Node
from onnxslim.passes.fuse._batchnorm import as_type_of


class FoldGemmFactors(Pass):
    """Multiply the constants of a Gemm by its alpha and beta."""

    name = "fold-gemm-factors"
    effect = Effect.ROUNDING

    def apply(self, model: Model, context: Context) -> int:
        """Sweep every node once."""
        pinned, changes = context.once(model, Model.pinned), 0
        gemms = (node for _, nodes in context.find(model, ("Gemm",)) for node in nodes)
        for node in gemms:
            if not ir.has_parameters(node):
                try:
                    changes += _fold(model, node, "alpha", (1, 0), pinned)
                    changes += _fold(model, node, "beta", (2,), pinned)
                except Declined as verdict:
                    context.decline(node, str(verdict))
        return changes


def _fold(
    model: Model, node: Node, name: str, slots: tuple[int, ...], pinned: frozenset[int]
) -> bool:
    """Multiply the first constant in *slots* by an attribute; drop it if there is no operand."""
    factor = node.attr(name, 1.0)
    if factor == 1:
        return False
    for slot in slots:
        old = node.input(slot)
        if isinstance(old, Constant) and old.dtype.kind == "f":
            if len(old.outputs) > 1 or id(old) in pinned:
                raise Declined("others use the constant too")
            new = as_type_of(old.values.astype(np.float64) * factor, old.values)
            inputs = list(node.inputs)
            inputs[slot] = ir.constant(model.names.fresh(old.name), new)
            ir.set_inputs(node, inputs)
            ir.release([old], pinned)
            break
    else:
        if node.input(slots[0]) is not None:
            return False
    node.attrs = {key: value for key, value in node.attrs.items() if key != name}
    return True
