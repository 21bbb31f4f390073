"""An average over a part of the image after a convolution that looks at one element at a time.

Source: AveragePool-1 to -22, GlobalAveragePool-1, ReduceMean-1 to -18 and Conv-1 to -22 of the ONNX
operator specification: both are linear, one mixes channels only, the other elements only. A bias is
its own average as long as only elements are counted, and no padding.
"""

from __future__ import annotations

import math

from onnxslim.base import Effect
from onnxslim.ir import Array, Node, Tensor
from onnxslim.passes.fuse._convolution import geometry, is_pointwise
from onnxslim.pattern import Match, const, op, opt
from onnxslim.rewrite import Builder, FormsPass
from onnxslim.shapes import Facts

_CONV = op.Conv("x", const("weight"), opt("bias"))


def _hoist(new: Builder, m: Match, facts: Facts) -> Tensor:
    pool, conv = m.nodes
    weight = m.constant("weight")
    if pool.operator == "ReduceMean":
        m.require(_is_over_image(m, weight.ndim), "the mean is not over the image alone")
    m.require(is_pointwise(weight), "the kernel has several elements")
    at = geometry(conv, weight.shape[2:])
    m.require(set(at.strides) <= {1} and not any(at.pads), "the Conv skips or pads")
    if "bias" in m.tensors and not _counts_elements(pool):
        m.require(not m.constant("bias").any(), "the bias is averaged with padding")
    _require_cheaper(m, weight, facts)
    averaged = new.named(new.like(pool, m.tensor("x"), *pool.inputs[1:]), "p")
    return new.like(conv, averaged, m.tensors["weight"], m.tensors.get("bias"))


def _is_over_image(m: Match, rank: int) -> bool:
    axes = m.root.attr("axes", m.constant("axes", ()))
    image = {int(axis) % rank for axis in axes} == set(range(2, rank))
    return image and bool(m.root.attr("keepdims", 1))


def _counts_elements(pool: Node) -> bool:
    """Say whether the average of equal numbers is that number everywhere."""
    if pool.operator != "AveragePool":
        return True
    if pool.attr("ceil_mode", 0):
        return False
    return not (_pads(pool) and pool.attr("count_include_pad", 0))


def _pads(pool: Node) -> bool:
    automatic = pool.attr("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    return automatic or any(pool.attr("pads", ()))


def _require_cheaper(m: Match, weight: Array, facts: Facts) -> None:
    """Decline where averages of more channels cost more than the Conv saves.

    What is counted is additions and multiplications for one image.
    """
    pool, conv = m.nodes
    added = weight.shape[1] * conv.attr("group", 1) - len(weight)
    many, few = _elements(m, facts)
    kernel = pool.attr("kernel_shape")
    window = many // few if kernel is None else math.prod(kernel)
    m.require(few < many, "there are as many averages as elements")
    cheaper = added * window * few < (many - few) * weight.size
    m.require(cheaper, "averages of the input cost more than the Conv saves")


def _elements(m: Match, facts: Facts) -> tuple[int, int]:
    """Return how many elements are averaged to how many, or in what proportion."""
    pool, conv = m.nodes
    shapes = [facts.dims(node.outputs[0]) for node in (conv, pool)]
    images = [[dim for dim in (dims or ())[2:] if isinstance(dim, int)] for dims in shapes]
    count = m.tensors["weight"].values.ndim - 2
    if all(len(image) == count for image in images):
        return math.prod(images[0]), math.prod(images[1])
    if pool.operator != "AveragePool":
        return 4, 1
    kernel = pool.attr("kernel_shape")
    strides = pool.attr("strides") or [1] * len(kernel)
    apart = all(size >= step for size, step in zip(kernel, strides, strict=True))
    certain = apart and not _pads(pool) and not pool.attr("ceil_mode", 0)
    m.require(certain, "the shapes are not known")
    return math.prod(strides), 1


class HoistAveragePool(FormsPass):
    """Average before a Conv of single elements where that takes less work."""

    name = "hoist-average-pool"
    effect = Effect.ROUNDING
    forms = (
        (op.AveragePool(_CONV), _hoist),
        (op.GlobalAveragePool(_CONV), _hoist),
        (op.ReduceMean(_CONV, opt(const("axes"))), _hoist),
    )
