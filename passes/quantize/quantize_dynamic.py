"""Products whose inputs are rounded to 8 bits while the model runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from onnxslim.base import Context, Effect, opset_at_least
from onnxslim.ir import Array, Model, Node, Tensor
from onnxslim.passes.quantize._grid import fit
from onnxslim.pattern import Match, const, op, opt
from onnxslim.rewrite import Builder, RewritePass
from onnxslim.sites import reads_narrow_weights

_RECURRENT = ("LSTM", "GRU", "RNN")


@dataclass(frozen=True)
class QuantizeDynamic(RewritePass):
    """Multiply by int8 weights, with inputs rounded to 8 bits by the range that they have.

    MatMul and Gemm become DynamicQuantizeLinear, MatMulInteger, Cast and Mul, which onnxruntime
    fuses. No data is needed, because ranges are measured anew at each run. Convolutions stay as
    they are: they would become slower. Processors that sum products of 8 bits in 16 (x86 without
    VNNI) saturate, unless ``reduce_range`` leaves the weights 7 bits; where they do not, 8 bits
    are twice as precise.
    """

    name = "quantize-dynamic"
    effect = Effect.LOSSY
    preconditions = (opset_at_least(11),)
    pattern = op.MatMul("x", const("w"), opt("c")) | op.Gemm("x", const("w"), opt("c"))

    per_channel: bool = True
    reduce_range: bool = True

    def apply(self, model: Model, context: Context) -> int:
        """Say which layers are in integers already or cannot be, and rewrite the others."""
        reads_narrow_weights(model, context)
        for _, nodes in context.find(model, _RECURRENT):
            for node in nodes:
                other = "; quantize-lstm takes onnxruntime's" if node.operator == "LSTM" else ""
                context.decline(node, f"ONNX has no {node.operator} of integers{other}")
        return super().apply(model, context)

    def rewrite(self, new: Builder, m: Match) -> Tensor | None:
        """Multiply in integers; the scales of the input and of the weight go into one Mul."""
        weight, factor = _matrix(m)
        grid = fit(weight, (0,), 128 if self.reduce_range else 256, per_channel=self.per_channel)
        x, scale, zero = _rounded(new, m.tensor("x"))
        product = new.MatMulInteger(x, grid.nearest(weight), zero)
        scales = grid.scale.reshape(-1) * np.float32(factor)
        result = new.Mul(new.Cast(product, to=TensorProto.FLOAT), new.Mul(scale, scales))
        return new.Add(result, _bias(m)) if "c" in m.tensors else result


def _matrix(m: Match) -> tuple[Array, float]:
    """Return the weight as (inputs, outputs) and what its products are multiplied by."""
    weight, node = m["w"], m.root
    m.require(weight.dtype == np.float32, "its weights are not float32")
    m.require(weight.ndim == 2 and weight.size, "its weights are no matrix")
    m.require(np.isfinite(weight).all(), "its weights are not all finite")
    m.require(not node.attr("transA", 0), "its input is transposed")
    return weight.T if node.attr("transB", 0) else weight, node.attr("alpha", 1.0)


def _rounded(new: Builder, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return *x* in 8 bits, its scale and its zero point."""
    new.node("DynamicQuantizeLinear", [x], {}, outputs=3)
    made: Node = new.nodes[-1]
    values, scale, zero = made.outputs
    return values, scale, zero


def _bias(m: Match) -> Tensor | Array:
    beta = m.root.attr("beta", 1.0)
    if beta == 1:
        return m.tensor("c")
    return np.asarray(m.constant("c") * np.float32(beta))
