"""Adapters to the next version, where the meaning of a node would change.

Source: the changelog of the ONNX operator specification, opsets 7 to 28.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from onnxslim.versions.change import Change, carry_over

Adapter = Callable[[Change], None]

_LOWEST, _HIGHEST = (float(bound) for bound in (np.finfo("f4").min, np.finfo("f4").max))


def _int64(values: Any) -> Any:
    return np.asarray(values, np.int64)


def _inputs_of(change: Change, *names: str) -> None:
    """Turn attributes, lists of integers, into the inputs behind the first."""
    lists = [change.pop(name) for name in names]
    change.feed(change.node.inputs[0], *(None if v is None else _int64(v) for v in lists))


def _axes(change: Change) -> None:
    """Axes become an input."""
    _inputs_of(change, "axes")


def _reduce_axes(change: Change) -> None:
    """Axes become an input; none at all still means every axis."""
    change.feed(change.node.inputs[0], _int64(axes) if (axes := change.pop("axes")) else None)


def _split(change: Change) -> None:
    _inputs_of(change, "split")


def _split_evenly(change: Change) -> None:
    if not change.given(1):
        change.put(num_outputs=len(change.node.outputs))


def _slice(change: Change) -> None:
    starts, ends, axes = (change.pop(name) for name in ("starts", "ends", "axes"))
    axes = list(range(len(starts))) if axes is None else axes
    change.feed(change.node.inputs[0], _int64(starts), _int64(ends), _int64(axes))


def _top_k(change: Change) -> None:
    change.feed(change.node.inputs[0], _int64([change.pop("k")]))


def _clip(change: Change) -> None:
    """Bounds become inputs; those that are the usual ones in float32 are left out."""
    low, high, dtype = change.pop("min"), change.pop("max"), change.dtype()
    single = dtype == np.float32
    with np.errstate(over="ignore"):
        change.feed(
            change.node.inputs[0],
            None if single and low <= _LOWEST else np.asarray(low, dtype),
            None if single and high >= _HIGHEST else np.asarray(high, dtype),
        )


def _pad(change: Change) -> None:
    pads, value = _int64(change.pop("pads")), change.pop("value")
    fill = None if not value else np.asarray(value, change.dtype())
    change.feed(change.node.inputs[0], pads, fill)


def _dropout_mask(change: Change) -> None:
    change.require(not change.reads(1), "its mask is another since opset 10")
    carry_over(change)


def _dropout_ratio(change: Change) -> None:
    change.require(not change.reads(1), "its mask is another since opset 12")
    change.pop("ratio")


def _batch_norm_spatial(change: Change) -> None:
    change.require(change.pop("spatial") == 1, "it has statistics for every point")


def _batch_norm_training(change: Change) -> None:
    change.require(not any(map(change.reads, range(1, 5))), "it trains: statistics are outputs")
    change.keep_outputs(1)


def _upsample_input(change: Change) -> None:
    change.feed(change.node.inputs[0], np.asarray(change.pop("scales"), np.float32))


def _upsample_to_resize(change: Change) -> None:
    change.rename("Resize")


def _resize_modes(change: Change) -> None:
    """Coordinates were asymmetric. How nearest rounds was not said, so it must not matter."""
    if change.attr("mode") == "nearest":
        scales = change.value(1, "scales")
        exact = scales is not None and all(map(_is_plain, scales.reshape(-1)))
        change.require(exact, "opset 10 does not say how nearest rounds at these scales")
    change.put(coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    data, scales = change.node.inputs[:2]
    change.feed(data, np.zeros(0, np.float32), scales)


def _is_plain(scale: float) -> bool:
    """Say whether every sample lies on a point of the input, or between two of a larger output."""
    return scale >= 1 or (scale > 0 and float(np.frexp(scale)[0]) == 0.5)


def _resize_absent(change: Change) -> None:
    """Inputs that are not used were empty and are left out."""
    mode = change.attr("coordinate_transformation_mode")
    change.require(mode != "tf_half_pixel_for_nn", "tf_half_pixel_for_nn is gone since opset 13")
    data, roi, scales, sizes = (change.node.input(slot) for slot in range(4))
    roi = roi if mode == "tf_crop_and_resize" else None
    if sizes is not None:
        change.require(
            scales is None or change.facts.static(scales) == (0,),
            "it has sizes, and scales that may not be empty",
        )
        scales = None
    change.feed(data, roi, scales, sizes)


def _roi_align(change: Change) -> None:
    change.put(coordinate_transformation_mode="output_half_pixel")


def _scatter(change: Change) -> None:
    change.rename("ScatterElements")


def _one_axis(change: Change) -> None:
    """Softmax took all dimensions from the axis on as one; it takes the axis alone since 13."""
    axis, dims = int(change.attr("axis")), change.facts.dims(change.node.inputs[0])
    rank = None if dims is None else len(dims)
    if axis == -1 or rank == axis + 1:
        change.put(axis=-1)
    elif dims is not None and all(dim == 1 for dim in dims[axis % len(dims) + 1 :]):
        change.put(axis=axis)
    else:
        data = change.node.inputs[0]
        shape = change.build.Shape(data)
        change.feed(change.build.Flatten(data, axis=axis))
        change.put(axis=-1)
        change.then("Reshape", shape)


def _grid_modes(change: Change) -> None:
    mode = change.attr("mode")
    change.put(mode={"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode))


def whole_windows(change: Change) -> None:
    """A window that would start in the padding at the end counts no more; here, none can."""
    if change.attr("ceil_mode") and change.attr("auto_pad") in (None, "NOTSET"):
        kernel = change.attr("kernel_shape")
        count = len(kernel)
        steps, spread = (change.attr(name) or [1] * count for name in ("strides", "dilations"))
        pads = (change.attr("pads") or [0] * 2 * count)[count:]
        fits = (
            pad + step <= (size - 1) * wide + 1
            for pad, step, size, wide in zip(pads, steps, kernel, spread, strict=True)
        )
        change.require(all(fits), "its last window may start in the padding, which counts no more")
    carry_over(change)


def _dft_axis(change: Change) -> None:
    data, length = change.node.input(0), change.node.input(1)
    change.feed(data, length, np.asarray(change.pop("axis"), np.int64))


def _group_norm(change: Change) -> None:
    """Scale and bias were given for every group; they are for every channel since 21."""
    data, *affine = change.node.inputs
    groups, shape = int(change.attr("num_groups")), change.facts.dims(data)
    channels = None if shape is None or len(shape) < 2 else shape[1]
    if not isinstance(channels, int):
        change.refuse("the number of its channels is not known")
    each = channels // groups
    change.feed(data, *(_repeated(change, tensor, groups, each) for tensor in affine))


def _repeated(change: Change, tensor: Any, groups: int, each: int) -> Any:
    values = getattr(tensor, "values", None)
    if values is not None:
        return np.repeat(values, each)
    column = change.build.Reshape(tensor, change.share(_int64([groups, 1])))
    block = change.build.Expand(column, change.share(_int64([groups, each])))
    return change.build.Reshape(block, change.share(_int64([groups * each])))


REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
UPWARD: Mapping[tuple[str, int], Adapter] = MappingProxyType(
    {
        ("AveragePool", 22): whole_windows,
        ("BatchNormalization", 9): _batch_norm_spatial,
        ("BatchNormalization", 14): _batch_norm_training,
        ("Clip", 11): _clip,
        ("DFT", 20): _dft_axis,
        ("Dropout", 10): _dropout_mask,
        ("Dropout", 12): _dropout_ratio,
        ("GridSample", 20): _grid_modes,
        ("GroupNormalization", 21): _group_norm,
        ("Hardmax", 13): _one_axis,
        ("LogSoftmax", 13): _one_axis,
        ("MaxPool", 22): whole_windows,
        ("Pad", 11): _pad,
        **{(f"Reduce{name}", 18): _reduce_axes for name in REDUCTIONS},
        ("ReduceSum", 13): _reduce_axes,
        ("Resize", 11): _resize_modes,
        ("Resize", 13): _resize_absent,
        ("RoiAlign", 16): _roi_align,
        ("Scatter", 11): _scatter,
        ("Slice", 10): _slice,
        ("Softmax", 13): _one_axis,
        ("Split", 13): _split,
        ("Split", 18): _split_evenly,
        ("Squeeze", 13): _axes,
        ("TopK", 10): _top_k,
        ("Unsqueeze", 13): _axes,
        ("Upsample", 9): _upsample_input,
        ("Upsample", 10): _upsample_to_resize,
    }
)
"""How a node comes to the version of its operator that is new in an opset, by both."""
