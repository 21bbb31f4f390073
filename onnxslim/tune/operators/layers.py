"""Layers: products, convolutions and normalizations."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from onnxslim.tune.operators.table import Call, Value, aligned, operator, plain
from onnxslim.tune.operators.windows import Window, cropped, padded

plain(MatMul=torch.matmul)

_CONVOLUTIONS: Any = (None, functional.conv1d, functional.conv2d, functional.conv3d)
_TRANSPOSED: Any = (
    None,
    functional.conv_transpose1d,
    functional.conv_transpose2d,
    functional.conv_transpose3d,
)


@operator("Gemm")
def _gemm(call: Call, a: Value, b: Value, c: Value | None = None) -> Value:
    a = a.T if call.attr("transA", 0) else a
    b = b.T if call.attr("transB", 0) else b
    alpha, beta = call.attr("alpha", 1.0), call.attr("beta", 1.0)
    product = a @ b if alpha == 1 else alpha * (a @ b)
    return product if c is None else product + (c if beta == 1 else beta * c)


@operator("Einsum")
def _einsum(call: Call, *values: Value) -> Value:
    return torch.einsum(call.attr("equation").replace(" ", ""), *values)


@operator("Conv")
def _conv(call: Call, x: Value, w: Value, b: Value | None = None) -> Value:
    rank = w.dim() - 2
    call.require(0 < rank < 4, f"it has {rank} spatial axes")
    window = Window.of(call, x.shape[2:], w.shape[2:])
    x, pads = padded(x, window.pads)
    group = call.attr("group", 1)
    return _CONVOLUTIONS[rank](x, w, b, window.strides, pads, window.dilations, group)


@operator("ConvTranspose")
def _conv_transpose(call: Call, x: Value, w: Value, b: Value | None = None) -> Value:
    rank = w.dim() - 2
    call.require(0 < rank < 4, f"it has {rank} spatial axes")
    group = call.attr("group", 1)
    window, extra = Window.transposed(call, x.shape[2:], w.shape[2:])
    full = _TRANSPOSED[rank](x, w, None, window.strides, 0, 0, group, window.dilations)
    full = cropped(full, window.pads, extra)
    return full if b is None else full + aligned(b, full.dim(), 1)


@operator("BatchNormalization")
def _batch_norm(
    call: Call, x: Value, scale: Value, bias: Value, mean: Value, variance: Value
) -> Value:
    call.require(not call.attr("training_mode", 0), "it trains")
    return functional.batch_norm(
        x, mean.to(x.dtype), variance.to(x.dtype), scale.to(x.dtype), bias.to(x.dtype),
        eps=call.attr("epsilon", 1e-5),
    )  # fmt: skip


@operator("InstanceNormalization")
def _instance_norm(call: Call, x: Value, scale: Value, bias: Value) -> Value:
    axes = list(range(2, x.dim()))
    return _affine(_normalized(x, axes, call.attr("epsilon", 1e-5)), scale, bias)


@operator("GroupNormalization")
def _group_norm(call: Call, x: Value, scale: Value, bias: Value) -> Value:
    grouped = x.reshape(x.shape[0], call.attr("num_groups"), -1)
    normal = _normalized(grouped, [2], call.attr("epsilon", 1e-5)).reshape(x.shape)
    return _affine(normal, scale, bias)


@operator("LayerNormalization")
def _layer_norm(call: Call, x: Value, scale: Value, bias: Value | None = None) -> Any:
    axes = list(range(call.attr("axis", -1) % x.dim(), x.dim()))
    mean = x.mean(axes, keepdim=True)
    inverse = torch.rsqrt(x.var(axes, correction=0, keepdim=True) + call.attr("epsilon", 1e-5))
    scaled = (x - mean) * inverse * scale
    return (scaled if bias is None else scaled + bias), mean, inverse


@operator("RMSNormalization")
def _rms_norm(call: Call, x: Value, scale: Value) -> Value:
    axes = list(range(call.attr("axis", -1) % x.dim(), x.dim()))
    power = (x * x).mean(axes, keepdim=True)
    return x * torch.rsqrt(power + call.attr("epsilon", 1e-5)) * scale


@operator("MeanVarianceNormalization")
def _mean_variance_norm(call: Call, x: Value) -> Value:
    axes = call.attr("axes", [0, 2, 3])
    mean = x.mean(axes, keepdim=True)
    return (x - mean) / (torch.sqrt(((x - mean) ** 2).mean(axes, keepdim=True)) + 1e-9)


@operator("LpNormalization")
def _lp_norm(call: Call, x: Value) -> Value:
    axis = call.attr("axis", -1)
    norm = torch.linalg.vector_norm(x, call.attr("p", 2), axis, keepdim=True)
    return torch.where(norm == 0, torch.zeros_like(x), x / norm)


@operator("LRN")
def _lrn(call: Call, x: Value) -> Value:
    size = call.attr("size")
    squares = functional.pad((x * x).movedim(1, -1), ((size - 1) // 2, size - 1 - (size - 1) // 2))
    total = squares.unfold(-1, size, 1).sum(-1).movedim(-1, 1)
    alpha, beta, bias = call.attr("alpha", 1e-4), call.attr("beta", 0.75), call.attr("bias", 1.0)
    return x / (bias + alpha / size * total) ** beta


def _normalized(x: Value, axes: list[int], epsilon: float) -> Value:
    mean = x.mean(axes, keepdim=True)
    return (x - mean) * torch.rsqrt(x.var(axes, correction=0, keepdim=True) + epsilon)


def _affine(x: Value, scale: Value, bias: Value) -> Value:
    return x * aligned(scale, x.dim(), 1) + aligned(bias, x.dim(), 1)
