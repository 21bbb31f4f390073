"""Convolutions as a sum over taps: which elements of the input they read, and with what weights.

Source: Conv-1, Conv-11 and Conv-22 of the ONNX operator specification.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from onnxslim.errors import Declined
from onnxslim.ir import Array, Node


class Geometry(NamedTuple):
    """Along every spatial axis, what output o reads with tap i.

    That is element ``o * stride + i * dilation - begin``.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]

    @property
    def pads(self) -> list[int]:
        """The padding, as an attribute."""
        return [*self.begins, *self.ends]

    def rest(self, axis: int) -> int:
        """Return the size of the result less that of the input, where the stride is 1."""
        reach = (self.kernel[axis] - 1) * self.dilations[axis]
        return self.begins[axis] + self.ends[axis] - reach


def geometry(node: Node, kernel: tuple[int, ...]) -> Geometry:
    """Return where a Conv with this *kernel* reads; declines what the size of the input decides."""
    count = len(kernel)
    strides = tuple(node.attr("strides") or (1,) * count)
    dilations = tuple(node.attr("dilations") or (1,) * count)
    pads = list(node.attr("pads") or [0] * 2 * count)
    automatic = node.attr("auto_pad", "NOTSET")
    if automatic == "VALID":
        pads = [0] * 2 * count
    elif automatic != "NOTSET":
        if set(strides) != {1}:
            raise Declined("the padding depends on the size of the input")
        total = [(size - 1) * step for size, step in zip(kernel, dilations, strict=True)]
        less, more = [size // 2 for size in total], [size - size // 2 for size in total]
        pads = less + more if automatic == "SAME_UPPER" else more + less
    return Geometry(kernel, strides, dilations, tuple(pads[:count]), tuple(pads[count:]))


def is_pointwise(weight: Array) -> bool:
    """Say whether filters (C_out, C_in / group, …) look at one element at a time."""
    return all(size == 1 for size in weight.shape[2:])


def regrouped(weight: Array, groups: int, wanted: int) -> Array:
    """Write filters in *groups* in fewer groups, in float64: the blocks between are 0."""
    ratio = groups // wanted
    wide = weight.astype(np.float64)
    if ratio == 1:
        return wide
    channels, inner, *kernel = weight.shape
    parts = wide.reshape(wanted, ratio, channels // groups, inner, *kernel)
    made = np.zeros((wanted, ratio, channels // groups, ratio, inner, *kernel))
    for i in range(ratio):
        made[:, i, :, i] = parts[:, i]
    return made.reshape(channels, ratio * inner, *kernel)


def grouped(node: Node, groups: int) -> dict[str, int | None]:
    """Return what to change of a Conv so that it has as many *groups*."""
    if groups == node.attr("group", 1):
        return {}
    return {"group": groups if groups > 1 else None}
