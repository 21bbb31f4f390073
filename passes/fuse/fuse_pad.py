"""A Pad before a layer that can pad by itself.

Source: Pad-2, -11, -13 and -18, Conv, AveragePool-7 and MaxPool of the ONNX operator specification.
A Conv pads with 0, an AveragePool with 0 if it counts padding, a MaxPool below all numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxslim.base import Effect
from onnxslim.ir import Tensor, producer
from onnxslim.pattern import Match, op, opt, rest
from onnxslim.rewrite import Builder, FormsPass
from onnxslim.shapes import Facts

_PAD = op.Pad("x", opt("pads"), opt("value"), opt("axes"))
_NEVER_BELOW_0 = frozenset(
    {"Abs", "Exp", "HardSigmoid", "Relu", "Sigmoid", "Softmax", "Softplus", "Sqrt"}
)
_KEEPS_SIGNS = frozenset({"AveragePool", "Concat", "Identity", "MaxPool", "Reshape", "Transpose"})
_DEEPEST = 8


def _conv(new: Builder, m: Match, facts: Facts) -> Tensor:
    m.require(_value(m) == 0, "it pads with something else than 0")
    return new.like(m.root, m.tensor("x"), *m.get("rest", []), pads=_pads(m, facts), auto_pad=None)


def _average_pool(new: Builder, m: Match, facts: Facts) -> Tensor:
    node = m.root
    m.require(_value(m) == 0, "it pads with something else than 0")
    m.require(new.version >= 7, "needs opset 7")
    counts = node.attr("count_include_pad", 0) or not any(node.attr("pads", ()))
    m.require(counts, "the pooling does not count its own padding")
    return new.like(
        node, m.tensor("x"), pads=_pooling_pads(m, facts), auto_pad=None, count_include_pad=1
    )


def _max_pool(new: Builder, m: Match, facts: Facts) -> Tensor:
    value = _value(m)
    never_seen = value == -np.inf or (value <= 0 and _is_never_below_0(m.tensor("x"), _DEEPEST))
    m.require(never_seen, "what it pads with might be the largest")
    m.require(set(m.root.attr("dilations", (1,))) == {1}, "the windows have holes")
    return new.like(m.root, m.tensor("x"), pads=_pooling_pads(m, facts), auto_pad=None)


def _value(m: Match) -> float:
    """Return what the Pad pads with."""
    pad = m.nodes[1]
    m.require(pad.attr("mode", "constant") == "constant", "the Pad repeats elements")
    if "value" not in m.tensors:
        return float(pad.attr("value", 0))
    value = m.constant("value")
    m.require(value.dtype.kind == "f", f"{value.dtype} is no floating-point type")
    return float(value.reshape(-1)[0])


def _is_never_below_0(x: Tensor, depth: int) -> bool:
    node = producer(x)
    if node is None or depth == 0:
        return False
    if node.operator in _NEVER_BELOW_0:
        return True
    operands = node.inputs if node.operator == "Concat" else node.inputs[:1]
    keeps = node.operator in _KEEPS_SIGNS
    return keeps and all(_is_never_below_0(operand, depth - 1) for operand in operands)


def _pooling_pads(m: Match, facts: Facts) -> list[int]:
    """Return the padding; every window has an element that is no padding, as onnxruntime asks."""
    pads, kernel = _pads(m, facts), m.root.attr("kernel_shape", ())
    inside = all(pad < size for pad, size in zip(pads, [*kernel, *kernel], strict=True))
    m.require(inside, "a window might hold nothing but padding")
    m.require(not m.root.attr("ceil_mode", 0), "windows may reach over the end")
    return pads


def _pads(m: Match, facts: Facts) -> list[int]:
    """Return the padding of the layer and the Pad together, as an attribute of the layer."""
    node, pad = m.root, m.nodes[1]
    rank = _rank(m, facts)
    m.require(0 not in (facts.shape(m.tensor("x")) or ()), "onnxruntime pads no empty image there")
    pads = pad.attr("pads") if "pads" not in m.tensors else m.constant("pads").tolist()
    m.require(pads is not None, "it is not known how much is padded")
    axes = m.constant("axes").tolist() if "axes" in m.tensors else range(rank)
    m.require(len(pads) == 2 * len(axes), "the Pad is of another rank")
    around = [0] * 2 * rank
    for i, axis in enumerate(axes):
        around[axis % rank], around[axis % rank + rank] = pads[i], pads[i + len(axes)]
    m.require(min(around) >= 0, "the Pad cuts")
    m.require(not any((*around[:2], *around[rank : rank + 2])), "it pads batches or channels")
    m.require(node.attr("auto_pad", "NOTSET") in ("NOTSET", "VALID"), "the layer pads by its size")
    old: Sequence[int] = node.attr("pads") or [0] * 2 * (rank - 2)
    return [a + b for a, b in zip(old, [*around[2:rank], *around[rank + 2 :]], strict=True)]


def _rank(m: Match, facts: Facts) -> int:
    """Return the rank of the input, which the kernel tells as well."""
    kernel = m.root.attr("kernel_shape")
    rank = facts.rank(m.root.inputs[1]) if kernel is None else len(kernel) + 2
    m.require(rank is not None and rank > 2, "the rank is not known")
    return rank or 0


class FusePad(FormsPass):
    """Let a Conv or a pooling pad instead of a Pad before it."""

    name = "fuse-pad"
    effect = Effect.ROUNDING
    forms = (
        (op.Conv(_PAD, rest("rest")), _conv),
        (op.AveragePool(_PAD), _average_pool),
        (op.MaxPool(_PAD), _max_pool),
    )
