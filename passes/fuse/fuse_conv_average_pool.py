"""An average over windows of what a convolution makes.

Source: AveragePool-1 to -22 and Conv-1 to -22 of the ONNX operator specification: the average of
what a kernel makes at several places is one larger kernel.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from onnxslim.base import Effect
from onnxslim.ir import Array, Tensor
from onnxslim.passes.fuse._batchnorm import as_type_of
from onnxslim.passes.fuse._convolution import geometry
from onnxslim.pattern import Match, const, op, opt
from onnxslim.rewrite import Builder, FormsPass
from onnxslim.shapes import Facts


def _fuse(new: Builder, m: Match, facts: Facts) -> Tensor:
    pool, conv = m.nodes
    weight = m.constant("weight")
    at, window = geometry(conv, weight.shape[2:]), geometry(pool, tuple(pool.attr("kernel_shape")))
    m.require(not any(window.pads), "the pooling pads")
    m.require(not pool.attr("ceil_mode", 0), "windows may reach over the end")
    m.require(set(at.dilations) <= {1}, "the kernel has holes")
    steps = [a * b for a, b in zip(at.strides, window.dilations, strict=True)]
    wide = _averaged(weight, window.kernel, steps)
    _require_cheaper(m, facts, wide.size)
    filters = new.tensor(as_type_of(wide, weight), "w")
    strides = [a * b for a, b in zip(at.strides, window.strides, strict=True)]
    attrs = {"kernel_shape": list(wide.shape[2:]), "strides": strides, "pads": at.pads}
    return new.like(conv, m.tensor("x"), filters, m.tensors.get("bias"), **attrs, auto_pad=None)


def _averaged(weight: Array, window: tuple[int, ...], steps: list[int]) -> Array:
    """Return filters, in float64, that average the filters moved by multiples of *steps*."""
    sizes = zip(weight.shape[2:], window, steps, strict=True)
    kernel = [size + (count - 1) * step for size, count, step in sizes]
    made = np.zeros((*weight.shape[:2], *kernel))
    for place in itertools.product(*map(range, window)):
        starts = [index * step for index, step in zip(place, steps, strict=True)]
        ends = [start + size for start, size in zip(starts, weight.shape[2:], strict=True)]
        block: tuple[Any, ...] = (..., *map(slice, starts, ends))
        made[block] += weight
    return made / math.prod(window)


def _require_cheaper(m: Match, facts: Facts, size: int) -> None:
    """Decline where the larger kernel takes more work, on images of 64 where the size is open."""
    pool, conv = m.nodes
    after, before = (facts.shape(node.outputs[0]) for node in (pool, conv))
    m.require(after and before, "the shapes are not known")
    few, many = (math.prod(facts.extent(dim, 64) for dim in dims or ()) for dims in (after, before))
    cheaper = few * size < many * m.tensors["weight"].size
    m.require(cheaper, "one Conv would take more multiplications")


class FuseConvAveragePool(FormsPass):
    """Make one Conv with larger steps of a Conv and an AveragePool where that takes less work."""

    name = "fuse-conv-average-pool"
    effect = Effect.ROUNDING
    may_grow = True
    forms = ((op.AveragePool(op.Conv("x", const("weight"), opt("bias"))), _fuse),)
