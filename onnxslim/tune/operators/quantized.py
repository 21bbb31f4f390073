"""Quantization: rounding whose gradients pass straight through."""

from __future__ import annotations

import torch
from onnx import TensorProto

from onnxslim.tune.operators.table import BOUNDS, Call, Value, aligned, is_float, operator


@operator("QuantizeLinear")
def _quantize(call: Call, x: Value, scale: Value, zero: Value | None = None) -> Value:
    kind = call.types[0] or call.attr("output_dtype", 0) or TensorProto.UINT8
    call.require(kind in BOUNDS, f"it makes {TensorProto.DataType.Name(kind)}")
    steps = _spread(call, scale, x)
    whole = call.rounding.integer(x / steps)
    shifted = whole if zero is None else whole + _spread(call, zero, x).to(x.dtype)
    return torch.clamp(shifted, *BOUNDS[kind])


@operator("DequantizeLinear")
def _dequantize(call: Call, x: Value, scale: Value, zero: Value | None = None) -> Value:
    call.require(not call.types[0] or is_float(call.types[0]), "it makes no floats")
    values = x.to(scale.dtype)
    shifted = values if zero is None else values - _spread(call, zero, x).to(scale.dtype)
    return shifted * _spread(call, scale, x)


def _spread(call: Call, value: Value, x: Value) -> Value:
    """Bring a scale or zero point, for all or for each slice or block, to the shape of *x*."""
    axis, block = call.attr("axis", 1), call.attr("block_size", 0)
    if value.dim() < 2 and not block:
        return aligned(value, x.dim(), axis) if x.dim() else value.reshape(())
    return value.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])


@operator("DynamicQuantizeLinear")
def _dynamic_quantize(call: Call, x: Value) -> tuple[Value, Value, Value]:
    low, high = torch.clamp(x.amin(), max=0), torch.clamp(x.amax(), min=0)
    scale = (high - low) / 255
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero = call.rounding.integer(torch.clamp(-low / scale, 0, 255))
    whole = torch.clamp(call.rounding.integer(x / scale) + zero, 0, 255)
    return whole, scale, zero


@operator("MatMulInteger")
def _matmul_integer(
    call: Call, a: Value, b: Value, a_zero: Value | None = None, b_zero: Value | None = None
) -> Value:
    left, right = a.double(), b.double()  # which hold products and sums exactly
    if a_zero is not None:
        zero = a_zero.double()
        left = left - (zero if zero.dim() != 1 or zero.numel() == 1 else zero.unsqueeze(-1))
    if b_zero is not None:
        right = right - b_zero.double()
    product = left @ right
    return product if product.requires_grad else product.to(torch.int32)
