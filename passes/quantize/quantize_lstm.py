"""LSTM by int8 weights, as onnxruntime's own operator.

Source: DynamicQuantizeLSTM of onnxruntime's contrib operators.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from onnxslim import ir
from onnxslim.base import Context, Effect, Pass, opset_at_least
from onnxslim.errors import Declined
from onnxslim.ir import Array, Constant, Model, Node, Tensor
from onnxslim.passes.quantize._grid import fit

_DOMAIN = "com.microsoft"
_STATES = 8
"""Inputs of an LSTM, of which onnxruntime's operator has all."""
_NAMES = 150
"""Bytes of what three further constants and the operator are called."""


@dataclass(frozen=True)
class QuantizeLstm(Pass):
    """Compute LSTM with int8 weights, with inputs rounded to 8 bits by the range that they have.

    ONNX has no such operator; this one is onnxruntime's own, com.microsoft::DynamicQuantizeLSTM,
    which no other runtime knows. No data is needed, because ranges are measured anew at each step.
    ``reduce_range`` leaves the weights 7 bits, for processors that sum products of 8 bits in 16.
    """

    name = "quantize-lstm"
    effect = Effect.LOSSY
    preconditions = (opset_at_least(7),)

    per_channel: bool = True
    reduce_range: bool = True

    def apply(self, model: Model, context: Context) -> int:
        """Replace one LSTM after the other."""
        changes = 0
        for _, nodes in context.find(model, ("LSTM",)):
            for node in nodes:
                try:
                    self._replace(node, model)
                except Declined as verdict:
                    context.decline(node, str(verdict))
                else:
                    changes += 1
        if changes:
            model.import_domain(_DOMAIN, 1)
            context.forget()
        return changes

    def _replace(self, node: Node, model: Model) -> None:
        weights = [_weights(node, slot) for slot in (1, 2)]
        codes, scales = zip(*map(self._rounded, weights), strict=True)
        saved = sum(
            3 * weight.size - scale.nbytes for weight, scale in zip(weights, scales, strict=True)
        )
        if saved <= scales[0].size:
            raise Declined("it has so few weights that the file would grow")

        def constant(hint: str, values: Array) -> Constant:
            return ir.constant(model.names.fresh(hint), values)

        zero = constant("zero", np.zeros(scales[0].shape, np.int8))
        inputs: list[Tensor] = [*node.inputs, *(ir.absent() for _ in range(_STATES))][:_STATES]
        inputs[1:3] = (constant("w", codes[0]), constant("r", codes[1]))
        inputs += [constant("scale", scales[0]), zero, constant("scale", scales[1]), zero]
        node.domain, node.op = _DOMAIN, "DynamicQuantizeLSTM"
        node.attrs.pop("layout", None)
        before = list(node.inputs[1:3])
        ir.set_inputs(node, inputs)
        ir.release(before, model.pinned())

    def _rounded(self, weight: Array) -> tuple[Array, Array]:
        """Return the weights as (directions, inputs, outputs) in int8, and their scales."""
        levels = 128 if self.reduce_range else 256
        summed = (2,) if self.per_channel else (1, 2)
        grid = fit(weight, summed, levels)
        codes = np.ascontiguousarray(grid.nearest(weight).transpose(0, 2, 1))
        return codes, grid.scale.reshape(grid.scale.shape[: 2 if self.per_channel else 1])


def _weights(node: Node, slot: int) -> Array:
    """Return the weights of the inputs or of the state, (directions, 4 hidden, inputs)."""
    tensor = node.inputs[slot]
    if ir.has_parameters(node):
        raise Declined("an attribute is set by the caller of the function")
    if node.attr("layout", 0):
        raise Declined("batches stand first")
    if not isinstance(tensor, Constant):
        raise Declined("its weights are computed")
    if tensor.elem_type != TensorProto.FLOAT:
        raise Declined("its weights are not float32")
    values = tensor.values
    if values.ndim != 3 or not np.isfinite(values).all():
        raise Declined("its weights are not all finite")
    return values
