"""Pooling: the largest, the mean or a norm of every window."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from onnxslim.tune.operators.table import Call, Value, operator, pads_of
from onnxslim.tune.operators.windows import Window

_MAXIMA: Any = (None, functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)
_MEANS: Any = (None, functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)
_SUMS: Any = (None, functional.conv1d, functional.conv2d, functional.conv3d)


def _window(call: Call, x: Value) -> tuple[Window, tuple[int, ...]]:
    """Return the window, and what its last place needs beyond the padding."""
    window = Window.of(call, x.shape[2:])
    call.require(len(window.kernel) < 4, f"it has {len(window.kernel)} spatial axes")
    ceil = call.attr("ceil_mode", 0) and call.attr("auto_pad", "NOTSET") == "NOTSET"
    return window, window.ceiled(x.shape[2:]) if ceil else (0,) * len(window.kernel)


def _pad(x: Value, window: Window, more: tuple[int, ...], fill: float) -> Value:
    half = len(more)
    ends = [pad + extra for pad, extra in zip(window.pads[half:], more, strict=True)]
    pads = [*window.pads[:half], *ends]
    return functional.pad(x, pads_of(pads), value=fill) if any(pads) else x


@operator("MaxPool")
def _max_pool(call: Call, x: Value) -> Value:
    call.require(not call.reads(1), "the places of its maxima are read")
    window, more = _window(call, x)
    pool = _MAXIMA[len(window.kernel)]
    around = _pad(x if x.is_floating_point() else x.float(), window, more, -torch.inf)
    found = pool(around, window.kernel, window.strides, 0, window.dilations)
    return found.to(x.dtype)


@operator("AveragePool")
def _average_pool(call: Call, x: Value) -> Value:
    window, more = _window(call, x)
    everywhere = call.attr("count_include_pad", 0) or not any(window.pads)
    if everywhere and not any(more) and set(window.dilations) == {1}:
        pool = _MEANS[len(window.kernel)]
        return pool(_pad(x, window, more, 0.0), window.kernel, window.strides)
    ones = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype)
    if call.attr("count_include_pad", 0):
        counted = functional.pad(ones, pads_of(window.pads), value=1.0)
        counts = _summed(functional.pad(counted, pads_of([0] * len(more) + list(more))), window)
    else:
        counts = _summed(_pad(ones, window, more, 0.0), window)
    return _summed(_pad(x, window, more, 0.0), window) / counts


@operator("LpPool")
def _lp_pool(call: Call, x: Value) -> Value:
    window, more = _window(call, x)
    p = call.attr("p", 2)
    return _summed(_pad(x.abs() ** p, window, more, 0.0), window) ** (1 / p)


def _summed(x: Value, window: Window) -> Value:
    """Add up every window of a padded tensor."""
    planes = x.reshape(-1, 1, *x.shape[2:])
    kernel = torch.ones((1, 1, *window.kernel), dtype=x.dtype)
    found = _SUMS[len(window.kernel)](planes, kernel, None, window.strides, 0, window.dilations)
    return found.reshape(*x.shape[:2], *found.shape[2:])


@operator("GlobalAveragePool")
def _global_average(call: Call, x: Value) -> Value:
    return x.mean(list(range(2, x.dim())), keepdim=True)


@operator("GlobalMaxPool")
def _global_max(call: Call, x: Value) -> Value:
    return x.amax(list(range(2, x.dim())), keepdim=True)


@operator("GlobalLpPool")
def _global_lp(call: Call, x: Value) -> Value:
    axes = list(range(2, x.dim()))
    return torch.linalg.vector_norm(x, call.attr("p", 2), axes, keepdim=True)
