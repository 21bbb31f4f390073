"""Casts, reshapes, moves and pooling that change nothing.

Each rule follows from the operator's definition in the ONNX specification, for every version.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from onnxslim.base import Effect
from onnxslim.ir import Array, Tensor, numpy_type
from onnxslim.rewrite import BypassPass, Rule, Site

_FAR = 2**31 - 1
"""Slice ends from here on mean "to the end" in every exporter."""


def _cast(site: Site) -> Tensor | None:
    """The type stays."""
    x = site.node.inputs[0]
    kind = site.facts.elem_type(x)
    return x if kind and kind == site.node.attr("to") else None


def _cast_like(site: Site) -> Tensor | None:
    x, like = site.node.inputs[:2]
    kind = site.facts.elem_type(x)
    return x if kind and kind == site.facts.elem_type(like) else None


def _same_shape(site: Site) -> Tensor | None:
    """Same elements in the same order, unless the shape differs: it does not."""
    x = site.node.inputs[0]
    return x if site.facts.same_shape(x, site.node.outputs[0]) else None


def _transpose(site: Site) -> Tensor | None:
    """Only dimensions of size 1 change places, if any, and the shape stays."""
    x: Tensor = site.node.inputs[0]
    shape, perm = site.facts.shape(x), site.node.attr("perm")
    if perm is not None and perm == sorted(perm):
        return x
    if shape is None:
        return None
    order = range(len(shape))[::-1] if perm is None else perm
    if len(order) != len(shape):
        return None
    moved = [axis for axis in order if shape[axis] != 1]
    return x if moved == sorted(moved) and [shape[a] for a in order] == list(shape) else None


def _pad(site: Site) -> Tensor | None:
    """Every pad is 0."""
    node = site.node
    if site.opset >= 11:
        pads = node.constant(1)
    else:
        pads = np.asarray(node.attr("pads", node.attr("paddings", [1])))
    return node.inputs[0] if pads is not None and not pads.any() else None


def _slice(site: Site) -> Tensor | None:
    """Forward in steps of 1, either from 0 to the end or onto the same static shape."""
    node, x = site.node, site.node.inputs[0]
    if site.opset >= 10:
        starts, ends = node.constant(1), node.constant(2)
        steps: Array | None = np.ones(1, np.int64) if node.input(4) is None else node.constant(4)
    else:
        starts, ends = np.asarray(node.attr("starts")), np.asarray(node.attr("ends"))
        steps = np.ones(1, np.int64)
    if steps is None or (steps != 1).any():
        return None
    whole = starts is not None and ends is not None and not starts.any() and (ends >= _FAR).all()
    return x if whole or site.facts.same_shape(x, node.outputs[0]) else None


def _concat(site: Site) -> Tensor | None:
    """All but one input are empty along the axis."""
    inputs: list[Tensor] = site.node.inputs
    if len(inputs) == 1:
        return inputs[0]
    axis = site.node.attr("axis", 1)
    shapes = [site.facts.shape(x) for x in inputs]
    if any(shape is None or not -len(shape) <= axis < len(shape) for shape in shapes):
        return None
    filled = [x for x, shape in zip(inputs, shapes, strict=True) if shape and shape[axis] != 0]
    return filled[0] if len(filled) == 1 else None


def _single_input(site: Site) -> Tensor | None:
    return site.node.inputs[0] if len(site.node.inputs) == 1 else None


def _split(site: Site) -> Tensor | None:
    return site.node.inputs[0] if len(site.node.outputs) == 1 else None


def _resize(site: Site) -> Tensor | None:
    """Scales of exactly 1, or sizes that are the input's, in a mode that then copies."""
    node, x = site.node, site.node.inputs[0]
    mode = node.attr("coordinate_transformation_mode", "half_pixel")
    policy = node.attr("keep_aspect_ratio_policy", "stretch")
    if mode in ("tf_crop_and_resize", "tf_half_pixel_for_nn") or policy != "stretch":
        return None
    if site.node.operator == "Upsample":
        scales = node.constant(1) if site.opset >= 9 else np.asarray(node.attr("scales", [0.0]))
    else:
        scales = node.constant(1 if site.opset < 11 else 2)
    if scales is not None and scales.size:
        return x if (scales == 1).all() else None
    return x if node.input(3) is not None and site.facts.same_shape(x, node.outputs[0]) else None


def _blocks(site: Site) -> Tensor | None:
    return site.node.inputs[0] if site.node.attr("blocksize") == 1 else None


def _pooled(site: Site) -> Tensor | None:
    """Every window is one element, and every element a window."""
    node = site.node
    sizes = (node.attr(name) or [1] for name in ("kernel_shape", "strides"))
    pads = node.attr("auto_pad", "NOTSET") != "NOTSET" or any(node.attr("pads") or [])
    return None if pads or any(size != 1 for sized in sizes for size in sized) else node.inputs[0]


def _pooled_whole(site: Site) -> Tensor | None:
    """The whole space is one element."""
    shape = site.facts.shape(site.node.inputs[0])
    whole = shape is not None and len(shape) > 2 and all(dim == 1 for dim in shape[2:])
    return site.node.inputs[0] if whole else None


def _clip(site: Site) -> Tensor | None:
    """No bound at all; of floats, even then infinite ones become the largest finite number."""
    x = site.node.inputs[0]
    unbounded = site.node.input(1) is None and site.node.input(2) is None
    kind = site.facts.elem_type(x)
    return x if unbounded and kind and numpy_type(kind).kind in "iu" else None


class DropNoopMovement(BypassPass):
    """Drop Cast, Reshape, Transpose, Pad, Slice, Concat, pooling and others that change nothing."""

    name = "drop-noop-movement"
    effect = Effect.EXACT
    rules: ClassVar[Mapping[str, Rule]] = {
        "AveragePool": _pooled,
        "Cast": _cast,
        "CastLike": _cast_like,
        "Clip": _clip,
        "Concat": _concat,
        "DepthToSpace": _blocks,
        "Expand": _same_shape,
        "Flatten": _same_shape,
        "GlobalAveragePool": _pooled_whole,
        "GlobalMaxPool": _pooled_whole,
        "Max": _single_input,
        "MaxPool": _pooled,
        "Mean": _single_input,
        "Min": _single_input,
        "Pad": _pad,
        "ReduceMax": _same_shape,
        "ReduceMean": _same_shape,
        "ReduceMin": _same_shape,
        "ReduceProd": _same_shape,
        "ReduceSum": _same_shape,
        "Reshape": _same_shape,
        "Resize": _resize,
        "Slice": _slice,
        "SpaceToDepth": _blocks,
        "Split": _split,
        "Squeeze": _same_shape,
        "Sum": _single_input,
        "Tile": _same_shape,
        "Transpose": _transpose,
        "Upsample": _resize,
    }
