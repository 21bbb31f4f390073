"""Resampling: every entry of the output is a weighted sum of a few entries along each axis."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from onnxslim.tune.operators.table import Call, Value, ints, operator


@dataclass(frozen=True)
class _Axis:
    """One axis to resample."""

    size: int
    goal: int
    scale: float
    start: float = 0.0
    end: float = 1.0


@operator("Resize")
def _resize(
    call: Call, x: Value, roi: Value | None = None,
    scales: Value | None = None, sizes: Value | None = None,
) -> Value:  # fmt: skip
    given = call.attr("axes")
    along = [a % x.dim() for a in given] if given else list(range(x.dim()))
    for at, axis in zip(along, _axes(call, x, along, roi, scales, sizes), strict=True):
        cropping = call.attr("coordinate_transformation_mode") == "tf_crop_and_resize"
        if axis.goal != axis.size or axis.scale != 1 or cropping:
            x = _resampled(call, x, at, axis)
    return x


def _axes(
    call: Call, x: Value, along: list[int],
    roi: Value | None, scales: Value | None, sizes: Value | None,
) -> list[_Axis]:  # fmt: skip
    dims = [x.shape[at] for at in along]
    window = [0.0] * len(dims) + [1.0] * len(dims)
    if roi is not None and roi.numel():
        window = roi.reshape(-1).tolist()
    goals = ints(sizes)
    if goals:
        ratios = [goal / dim for goal, dim in zip(goals, dims, strict=True)]
        policy = call.attr("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            ratio = min(ratios) if policy == "not_larger" else max(ratios)
            ratios = [ratio] * len(dims)
            goals = [int(ratio * dim + 0.5) for dim in dims]
    else:
        call.require(scales is not None, "it has neither scales nor sizes")
        ratios = [float(s) for s in scales.reshape(-1).tolist()]  # type: ignore[union-attr]
        spans = [end - begin for begin, end in zip(window[: len(dims)], window[len(dims) :])]  # noqa: B905
        crop = call.attr("coordinate_transformation_mode") == "tf_crop_and_resize"
        goals = [
            int(dim * ratio * (span if crop else 1))
            for dim, ratio, span in zip(dims, ratios, spans, strict=True)
        ]
    half = len(dims)
    return [
        _Axis(dim, goal, ratio, window[at], window[at + half])
        for at, (dim, goal, ratio) in enumerate(zip(dims, goals, ratios, strict=True))
    ]


def _places(call: Call, axis: _Axis) -> Value:
    """Return where the entries of the output lie in the input."""
    mode = call.attr("coordinate_transformation_mode", "half_pixel")
    out = torch.arange(axis.goal, dtype=torch.float64)
    last = axis.size - 1
    if mode == "asymmetric":
        return out / axis.scale
    if mode == "align_corners":
        return out * (last / (axis.goal - 1)) if axis.goal > 1 else out * 0
    if mode == "tf_crop_and_resize":
        if axis.goal == 1:
            return out * 0 + 0.5 * (axis.start + axis.end) * last
        return axis.start * last + out * ((axis.end - axis.start) * last / (axis.goal - 1))
    if mode == "pytorch_half_pixel" and axis.goal == 1:
        return out * 0
    half = (out + 0.5) / axis.scale - 0.5
    if mode == "half_pixel_symmetric":
        adjusted = axis.goal / (axis.scale * axis.size)
        half = half + axis.size / 2 * (1 - adjusted)
    else:
        known = mode in ("half_pixel", "pytorch_half_pixel")
        call.require(known, f"its coordinate_transformation_mode is {mode}")
    return half


def _resampled(call: Call, x: Value, at: int, axis: _Axis) -> Value:
    places = _places(call, axis)
    taps, weights = _TAPS[call.attr("mode", "nearest")](call, places, axis)
    inside = (taps >= 0) & (taps < axis.size)
    if call.attr("exclude_outside", 0):
        weights = torch.where(inside, weights, torch.zeros_like(weights))
    weights = weights / weights.sum(0)
    taps, weights = taps.clamp(0, axis.size - 1), weights.to(x.dtype)
    shape = [-1 if place == at else 1 for place in range(x.dim())]
    made = sum(
        x.index_select(at, tap) * weight.reshape(shape)
        for tap, weight in zip(taps, weights, strict=True)
    )
    if call.attr("coordinate_transformation_mode") != "tf_crop_and_resize":
        return made
    beyond = ((places < 0) | (places > axis.size - 1)).reshape(shape)
    outside = torch.tensor(call.attr("extrapolation_value", 0.0), dtype=x.dtype)
    return torch.where(beyond, outside, made)


def _nearest(call: Call, places: Value, axis: _Axis) -> tuple[Value, Value]:
    mode = call.attr("nearest_mode", "round_prefer_floor")
    rounded = {
        "round_prefer_floor": lambda: torch.ceil(places - 0.5),
        "round_prefer_ceil": lambda: torch.floor(places + 0.5),
        "floor": lambda: torch.floor(places),
        "ceil": lambda: torch.ceil(places),
    }[mode]()
    taps = rounded.long().clamp(0, axis.size - 1)
    return taps[None], torch.ones_like(places)[None]


def _kernel(call: Call, places: Value, axis: _Axis, reach: int) -> tuple[Value, Value]:
    """Return the taps within *reach* of each place, and how far off they are, in its units."""
    shrink = min(axis.scale, 1.0) if call.attr("antialias", 0) else 1.0
    span = int(torch.ceil(torch.tensor(reach / shrink)).item())
    offsets = torch.arange(-span + 1, span + 1).reshape(-1, 1)
    taps = torch.floor(places).long() + offsets
    return taps, (taps - places).abs() * shrink


def _linear(call: Call, places: Value, axis: _Axis) -> tuple[Value, Value]:
    taps, off = _kernel(call, places, axis, 1)
    return taps, torch.clamp(1 - off, min=0)


def _cubic(call: Call, places: Value, axis: _Axis) -> tuple[Value, Value]:
    a = call.attr("cubic_coeff_a", -0.75)
    taps, off = _kernel(call, places, axis, 2)
    near = ((a + 2) * off - (a + 3)) * off * off + 1
    far = ((off - 5) * off + 8) * a * off - 4 * a
    return taps, torch.where(off <= 1, near, torch.where(off < 2, far, torch.zeros_like(off)))


_TAPS = {"nearest": _nearest, "linear": _linear, "cubic": _cubic}


@operator("GridSample")
def _grid_sample(call: Call, x: Value, grid: Value) -> Value:
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(
        call.attr("mode", "linear"), call.attr("mode", "linear")
    )
    call.require(x.dim() == 4 or mode != "bicubic", "it is cubic in three dimensions")
    return functional.grid_sample(
        x, grid, mode, call.attr("padding_mode", "zeros"), bool(call.attr("align_corners", 0))
    )
