"""A convolution of a convolution, one of which looks at one element at a time.

Source: Conv-1, Conv-11 and Conv-22 of the ONNX operator specification. With a kernel of one element
first, every tap of the second sees a product of channels; with it last, only channels are mixed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from onnxslim.base import Effect
from onnxslim.cost import macs
from onnxslim.ir import Array, Node, Tensor
from onnxslim.passes.fuse._batchnorm import as_type_of
from onnxslim.passes.fuse._convolution import geometry, grouped, is_pointwise, regrouped
from onnxslim.pattern import Match, const, op, opt
from onnxslim.rewrite import Builder, FormsPass
from onnxslim.shapes import Facts


def _fuse(new: Builder, m: Match, facts: Facts) -> Tensor:
    outer, inner = m.nodes
    first, second = m.constant("first"), m.constant("second")
    spatial, attrs = _place(m, inner, outer)
    groups = math.gcd(inner.attr("group", 1), outer.attr("group", 1))
    channels = first.shape[1] * inner.attr("group", 1) // groups
    kernel = second.shape[2:] if spatial is outer else first.shape[2:]
    _require_cheaper(m, facts, len(second) * channels * math.prod(kernel))
    left, right = _blocks(inner, first, groups), _blocks(outer, second, groups)
    filters = np.einsum("gmip,gomq->goipq", left, right, optimize=True)
    filters = as_type_of(filters.reshape(len(second), channels, *kernel), second)
    operands = [new.tensor(filters, "w"), new.tensor(_bias(m, right), "b")]
    return new.like(spatial, m.tensor("x"), *operands, **attrs, **grouped(spatial, groups))


def _place(m: Match, inner: Node, outer: Node) -> tuple[Node, dict[str, Any]]:
    """Return the Conv that moves over the input as both do, and what to change of it."""
    first, second = m.constant("first"), m.constant("second")
    m.require(is_pointwise(first) or is_pointwise(second), "no kernel is of one element")
    at, then = geometry(inner, first.shape[2:]), geometry(outer, second.shape[2:])
    if is_pointwise(second) and not any(then.pads):
        if set(then.strides) <= {1}:
            return inner, {}
        strides = [a * b for a, b in zip(at.strides, then.strides, strict=True)]
        return inner, {"strides": strides, "pads": at.pads, "auto_pad": None}
    m.require(is_pointwise(first), "the second Conv pads what the first one makes")
    m.require(set(at.strides) <= {1} and not any(at.pads), "the first Conv skips or pads")
    biased = m.constant("first bias", np.zeros(1)).any()
    m.require(not any(then.pads) or not biased, "the padding has no bias")
    return outer, {}


def _require_cheaper(m: Match, facts: Facts, size: int) -> None:
    """Decline where the one Conv takes more weights or more multiplications than the two."""
    outer, inner = m.nodes
    second = m.tensors["second"].size
    old = m.tensors["first"].size + second
    m.require(size <= old, "one Conv would take more weights than two")
    work = macs(outer, facts)
    m.require(work, "the shapes are not known")
    cheaper = work * size // second <= work + macs(inner, facts)
    m.require(cheaper, "one Conv would take more multiplications")


def _blocks(node: Node, weight: Array, groups: int) -> Array:
    """Return filters (groups, C_out / groups, C_in / groups, taps)."""
    dense = regrouped(weight, node.attr("group", 1), groups)
    return dense.reshape(groups, len(weight) // groups, dense.shape[1], -1)


def _bias(m: Match, right: Array) -> Array | None:
    """Return the second bias and what the second Conv makes of the first one."""
    if not {"first bias", "second bias"} & m.tensors.keys():
        return None
    groups, _, inner, _ = right.shape
    before = m.constant("first bias", np.zeros(groups * inner)).astype(np.float64)
    moved = np.einsum("gomq,gm->go", right, before.reshape(groups, inner)).reshape(-1)
    return as_type_of(moved + m.constant("second bias", np.zeros(1)), m.constant("second"))


class FuseConvConv(FormsPass):
    """Make one Conv of two in a row where that takes no more weights and multiplications."""

    name = "fuse-conv-conv"
    effect = Effect.ROUNDING
    forms = (
        (
            op.Conv(
                op.Conv("x", const("first"), opt("first bias")), const("second"), opt("second bias")
            ),
            _fuse,
        ),
    )
