"""The subgraphs that take the place of a layer, or of its weight.

A layer that *runs* as factors is a chain of smaller layers. A weight that is *expanded* is stored
as factors and multiplied out by nodes on constants, which onnxruntime folds when it loads the
model: the layer then takes the time it always took. Our own constant folding leaves such nodes
alone, because their value is larger than they are.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
from onnx import TensorProto

from onnxslim.errors import Declined
from onnxslim.ir import Node, Tensor, Variable
from onnxslim.passes.factorize._layers import Layer
from onnxslim.rewrite import Builder


class Place(NamedTuple):
    """Where a chain of nodes takes the place of one."""

    new: Builder
    layer: Layer
    node: Node
    rank: int | None
    """The number of dimensions of what the layer reads."""

    @property
    def x(self) -> Tensor:
        """What the layer multiplies by its weight."""
        return self.node.inputs[1 - self.layer.slot]  # type: ignore[no-any-return]

    @property
    def added(self) -> Tensor | None:
        """What is added: the bias of a Conv, C of a Gemm."""
        return self.node.input(2)

    @property
    def turned(self) -> bool:
        """Whether a Gemm reads x transposed."""
        name = "transA" if self.layer.slot else "transB"
        return self.node.operator == "Gemm" and bool(self.node.attr(name, 0))


# Products -----------------------------------------------------------------------------------------


def two_products(place: Place, parts: Sequence[Tensor]) -> Variable:
    """Return x U V, where U (K, r) and V (r, M) are stored transposed if y = W x."""
    first, second = parts
    new, node, slot = place.new, place.node, place.layer.slot
    if not place.turned:
        inner = new.MatMul(*_ordered(slot, place.x, first))
    elif new.version >= 11:
        name = "transA" if slot else "transB"
        inner = new.Gemm(*_ordered(slot, place.x, first), **{name: 1})
    else:
        raise Declined("a Gemm without a bias needs opset 11")
    operands = _ordered(slot, inner, second)
    if node.operator == "MatMul":
        return new.like(node, *operands)
    return new.like(node, *operands, place.added, transA=None, transB=None)


def _ordered(slot: int, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    return (x, weight) if slot else (weight, x)


def stacked_kronecker(
    place: Place, parts: Sequence[Tensor], sizes: tuple[int, int, int, int, int]
) -> Variable:
    """Return x Σ A ⊗ B for *terms* pairs of A (a1, a2) and B (b1, b2).

    *sizes* are a1, b1, a2, b2, terms. *parts* are the stacked Aᵀ, (a2 · terms, a1), in which row
    i · terms + r is column i of the r-th A, and the stacked B, (terms · b1, b2).
    """
    if place.rank is None or place.rank < 2 or not place.layer.slot:
        raise Declined("the number of dimensions of its input must be known, and 2 at least")
    left, right = parts
    a1, b1, a2, b2, terms = sizes
    new, kept = place.new, [0] * (place.rank - 1)
    x = new.Transpose(place.x, perm=[1, 0]) if place.turned else place.x
    rows = new.MatMul(left, new.Reshape(x, np.array([*kept, a1, b1])))
    if terms > 1:
        rows = new.Reshape(rows, np.array([*kept, a2, terms * b1]))
    result = new.Reshape(new.MatMul(rows, right), np.array([*kept, a2 * b2]))
    return finished(place, result)


def finished(place: Place, product: Variable) -> Variable:
    """Return *product* scaled, and with what the layer adds to it."""
    new, node, added = place.new, place.node, place.added
    if node.operator != "Gemm":
        return product
    alpha, beta = (node.attr(name, 1.0) for name in ("alpha", "beta"))
    if alpha != 1.0:
        product = new.Mul(product, place.layer.rounded(np.array(alpha)))
    if added is not None and beta != 1.0:
        added = new.Mul(added, place.layer.rounded(np.array(beta)))
    return product if added is None else new.Add(product, added)


# Convolutions -------------------------------------------------------------------------------------


def convolutions(
    place: Place, parts: Sequence[Tensor], axes: Sequence[Collection[int]],
    groups: Sequence[int] | None = None,
) -> Variable:  # fmt: skip
    """Return one Conv after the other; each moves over the spatial *axes* that are its own.

    Along those it has the strides, the padding and the dilations of the layer; the last one has the
    bias. Every axis along which the layer moves must belong to one of them.
    """
    groups = groups or [1] * len(parts)
    value = place.x
    *_, last = parts
    for part, moving, group in zip(parts, axes, groups, strict=True):
        attrs = geometry(place.node, len(place.layer.kernel), moving)
        attrs["group"] = group if group > 1 else None
        if part is last:
            return place.new.like(place.node, value, part, place.added, **attrs)
        value = place.new.Conv(value, part, **{k: v for k, v in attrs.items() if v is not None})
    raise AssertionError("there is no convolution")


def geometry(node: Node, rank: int, axes: Collection[int]) -> dict[str, Any]:
    """Return the attributes of a Conv that moves as *node* along *axes*, and not along others.

    None stands for an attribute that is left out.
    """
    strides = node.attr("strides") or [1] * rank
    dilations = node.attr("dilations") or [1] * rank
    pads = node.attr("pads") or [0] * 2 * rank
    automatic = node.attr("auto_pad", "NOTSET")
    made = {
        "strides": [strides[a] if a in axes else 1 for a in range(rank)],
        "dilations": [dilations[a] if a in axes else 1 for a in range(rank)],
        "pads": [pads[a] if a % rank in axes else 0 for a in range(2 * rank)],
    }
    usual = {"strides": 1, "dilations": 1, "pads": 0}
    kept: dict[str, Any] = {
        name: values if set(values) != {usual[name]} else None for name, values in made.items()
    }
    padded = automatic not in ("NOTSET", "VALID") and bool(axes)
    if automatic != "NOTSET":
        kept["pads"] = None
    return {**kept, "auto_pad": automatic if padded else None, "kernel_shape": None}


# Weights that are multiplied out at load ----------------------------------------------------------


def expanded_product(new: Builder, layer: Layer, parts: Sequence[Tensor]) -> Variable:
    """Return U V in the form of the layer's weight, of U (K, r) and V (r, M).

    Where the weight is stored with its outputs first, they are given as Vᵀ and Uᵀ.
    """
    return reshaped(new, layer, folded_product(new, layer.values.dtype, *parts))


def folded_product(new: Builder, dtype: Any, left: Any, right: Any) -> Variable:
    """Return the product of constants; onnxruntime folds none of halves, but those of floats."""
    if np.dtype(dtype) != np.float16:
        return new.MatMul(left, right)
    product = new.MatMul(*(new.Cast(t, to=TensorProto.FLOAT) for t in (left, right)))
    return new.Cast(product, to=TensorProto.FLOAT16)


def stored(new: Builder, layer: Layer, matrix: Variable) -> Variable:
    """Return a computed W (K, M) in the form of the layer's weight."""
    return reshaped(new, layer, new.Transpose(matrix, perm=[1, 0]) if layer.flipped else matrix)


def reshaped(new: Builder, layer: Layer, matrix: Variable) -> Variable:
    """Return a computed W, outputs first where the layer has them so, in its very shape."""
    if not layer.is_convolution:
        return matrix
    return new.Reshape(matrix, np.array(layer.values.shape))
