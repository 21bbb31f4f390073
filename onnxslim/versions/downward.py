"""Adapters to the version before, for what is exactly the same there.

Below opset 11 axes and indices may not be negative, so conversion ends there. Source: the changelog
of the ONNX operator specification, opsets 11 to 28.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from onnxslim.ir import Constant
from onnxslim.versions.change import Change, carry_over
from onnxslim.versions.upward import REDUCTIONS, Adapter, whole_windows

LOWEST = 11
"""The oldest opset to go back to."""
_VALUES = {"value_float": "f4", "value_floats": "f4", "value_int": "i8", "value_ints": "i8"}


def _axes(change: Change) -> None:
    axes = change.ints(1, "axes")
    change.keep_inputs(1)
    if axes is not None:
        change.put(axes=axes)


def _reduce_axes(change: Change) -> None:
    """Axes become an attribute; an empty list means every axis, or none if the node says so."""
    axes, noop = change.ints(1, "axes"), change.pop("noop_with_empty_axes")
    change.require(axes or not noop, "it reduces nothing where axes are empty")
    change.keep_inputs(1)
    if axes:
        change.put(axes=axes)


def _split(change: Change) -> None:
    sizes = change.ints(1, "sizes")
    change.keep_inputs(1)
    if sizes is not None:
        change.put(split=sizes)


def _split_evenly(change: Change) -> None:
    """The last part may be smaller than the others, and could not before opset 18."""
    if change.pop("num_outputs") is None:
        return
    dims, count = change.facts.dims(change.node.inputs[0]), len(change.node.outputs)
    size = None if dims is None else dims[int(change.attr("axis"))]
    if not isinstance(size, int):
        change.refuse("the size of the axis is not known")
    if size % count:
        part = -(-size // count)
        sizes = [part] * (count - 1) + [size - part * (count - 1)]
        change.require(min(sizes) >= 0, f"{size} is less than its {count} parts need")
        change.feed(change.node.inputs[0], np.asarray(sizes, np.int64))


def _dropout(change: Change) -> None:
    training = change.value(2, "mode")
    change.require(training is None or not training.any(), "it trains")
    change.require(not change.reads(1), "its mask was another before opset 12")
    change.pop("seed")
    change.keep_inputs(1)


def _batch_norm(change: Change) -> None:
    change.require(not change.pop("training_mode"), "it trains")
    change.keep_outputs(1)


def _last_axis(change: Change) -> None:
    """Softmax took all dimensions from the axis on as one: all the same for the last."""
    axis = int(change.attr("axis"))
    if axis != -1:
        rank = change.rank()
        change.require(axis == rank - 1, "its axis is not the last one")
    change.put(axis=axis)


def _constant(change: Change) -> None:
    """A value could be a tensor only, or a sparse one."""
    for name, dtype in _VALUES.items():
        if name in change.node.attrs:
            value = np.asarray(change.pop(name), dtype)
            change.put(value=Constant("", value))
    texts = [name for name in ("value_string", "value_strings") if name in change.node.attrs]
    change.require(not texts, f"it sets {', '.join(texts)}")


def _plain_windows(change: Change) -> None:
    """Windows could not be dilated."""
    change.require(all(step == 1 for step in change.pop("dilations") or ()), "it dilates")
    carry_over(change)


def _grid_modes(change: Change) -> None:
    mode, dims = change.attr("mode"), change.facts.dims(change.node.inputs[0])
    change.require(dims is not None and len(dims) == 4, "its input is not known to be an image")
    change.put(mode={"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode))


def _dft_axis(change: Change) -> None:
    axis = change.ints(2, "axis")
    (place,) = [-2] if axis is None else axis
    place += change.rank() if place < 0 else 0
    change.keep_inputs(2)
    change.put(axis=place)


def _per_tensor(change: Change) -> None:
    change.require(change.facts.rank(change.node.inputs[1]) == 0, "it has a scale for each channel")
    change.pop("axis")
    carry_over(change)


def _pad_axes(change: Change) -> None:
    """Pads were given for every axis."""
    if not change.given(3):
        return
    rank, axes = change.rank(), change.ints(3, "axes") or []
    pads, whole = change.ints(1, "pads") or [], np.zeros((2, rank), np.int64)
    whole[:, axes] = np.reshape(pads, (2, -1))
    change.feed(change.node.inputs[0], whole.reshape(-1), change.node.input(2))


def _no_wrap(change: Change) -> None:
    change.require(change.attr("mode") != "wrap", "it wraps around")
    carry_over(change)


def _reshape(change: Change) -> None:
    if change.pop("allowzero"):
        shape = change.ints(1, "dimensions") or []
        change.require(0 not in shape, "it makes a dimension 0")


def _shape(change: Change) -> None:
    """A part of the dimensions is cut out of all."""
    start, end = change.pop("start"), change.pop("end")
    if start or end is not None:
        bounds = ([start], [np.iinfo(np.int64).max if end is None else end], [0])
        change.then("Slice", *(np.asarray(bound, np.int64) for bound in bounds))


def _resize_modes(change: Change) -> None:
    mode = change.attr("coordinate_transformation_mode")
    change.require(mode != "half_pixel_symmetric", f"it is {mode}")
    carry_over(change)


def _resize_empty(change: Change) -> None:
    """What is left out was an empty tensor."""
    data, *others = (change.node.input(slot) for slot in range(4))
    empty = np.zeros(0, np.float32)
    roi, scales = (empty if tensor is None else tensor for tensor in others[:2])
    change.feed(data, roi, scales, others[2])


def _roi_align(change: Change) -> None:
    mode = change.pop("coordinate_transformation_mode")
    change.require(mode == "output_half_pixel", f"it is {mode}")


def _sum_or_product(change: Change) -> None:
    reduction = change.attr("reduction")
    change.require(reduction not in ("min", "max"), f"it takes the {reduction}")
    carry_over(change)


def _integer_mod(change: Change) -> None:
    """Floats had to be divided with truncation."""
    truncates = bool(change.attr("fmod"))
    change.require(truncates or change.dtype().kind in "iu", "it rounds floats down")
    carry_over(change)


def _small_shifts(change: Change) -> None:
    """Shifts by all bits or more were not defined."""
    width, shifts = 8 * change.dtype().itemsize, change.ints(1, "shifts") or []
    change.require(all(0 <= shift < width for shift in shifts), "it shifts all bits out")
    carry_over(change)


def _whole_mask(change: Change) -> None:
    """A mask could not be shorter than what it masks."""
    change.require(not change.given(3), "its mask may be short")
    carry_over(change)


def _group_norm(change: Change) -> None:
    change.refuse("scale and bias were given for every group")


DOWNWARD: Mapping[tuple[str, int], Adapter] = MappingProxyType(
    {
        ("Attention", 24): _whole_mask,
        ("AveragePool", 19): _plain_windows,
        ("AveragePool", 22): whole_windows,
        ("BatchNormalization", 14): _batch_norm,
        ("BitShift", 28): _small_shifts,
        ("Constant", 12): _constant,
        ("DFT", 20): _dft_axis,
        ("DequantizeLinear", 13): _per_tensor,
        ("Dropout", 12): _dropout,
        ("GridSample", 20): _grid_modes,
        ("GroupNormalization", 21): _group_norm,
        ("Hardmax", 13): _last_axis,
        ("LogSoftmax", 13): _last_axis,
        ("LpPool", 18): _plain_windows,
        ("MaxPool", 22): whole_windows,
        ("Mod", 28): _integer_mod,
        ("Pad", 18): _pad_axes,
        ("Pad", 19): _no_wrap,
        ("QuantizeLinear", 13): _per_tensor,
        **{(f"Reduce{name}", 18): _reduce_axes for name in REDUCTIONS},
        ("ReduceSum", 13): _reduce_axes,
        ("Reshape", 14): _reshape,
        ("Resize", 13): _resize_empty,
        ("Resize", 19): _resize_modes,
        ("RoiAlign", 16): _roi_align,
        ("ScatterElements", 18): _sum_or_product,
        ("ScatterND", 18): _sum_or_product,
        ("Shape", 15): _shape,
        ("Softmax", 13): _last_axis,
        ("Split", 13): _split,
        ("Split", 18): _split_evenly,
        ("Squeeze", 13): _axes,
        ("Unsqueeze", 13): _axes,
    }
)
"""How a node comes to the version of its operator before the one that is new in an opset."""
