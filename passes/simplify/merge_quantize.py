"""Tensors that are dequantized only to be quantized again as they were.

Rounding undoes what float arithmetic does to (q - zero point) * scale, as long as an error of one
part in the precision of the scale's type stays below one half for the largest q. So 8-bit numbers
come back for scales of every float type, 16-bit numbers for float32.

Source: QuantizeLinear-10 and DequantizeLinear-10 of the ONNX operator specification and their
successors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from onnx import TensorProto

from onnxslim.base import Effect
from onnxslim.ir import Array, Constant, Node, Tensor
from onnxslim.passes.simplify._trial import Trial, TrialPass, TrialRule

_BITS: Mapping[int, int] = {
    TensorProto.INT8: 8,
    TensorProto.UINT8: 8,
    TensorProto.INT16: 16,
    TensorProto.UINT16: 16,
}
_MOVES = ("Expand", "Flatten", "Gather", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
"""Operators that move elements of any type; the first operand is what they move."""
_CHAIN = 8


def _undo(trial: Trial) -> Tensor | None:
    """Return what was dequantized, moved on as it was in between."""
    node = trial.node
    if len(node.inputs) < 2 or node.attr("output_dtype", 0) or node.attr("precision", 0):
        return None
    moves, tensor = _moves(trial, node.inputs[0])
    inner = trial.above(tensor, "DequantizeLinear")
    if inner is None or not _are_inverse(trial, inner, node):
        return None
    if moves and inner.inputs[1].shape not in ((), (1,)):
        return None
    result: Tensor = inner.inputs[0]
    for move in reversed(moves):
        result = trial.new.like(move, result, *move.inputs[1:])
    return result


def _moves(trial: Trial, tensor: Tensor) -> tuple[list[Node], Tensor]:
    """Return the nodes that only move elements, last one first, and what they move."""
    found: list[Node] = []
    while len(found) < _CHAIN:
        node = trial.above(tensor, *_MOVES)
        if node is None or not trial.private(tensor):
            break
        found.append(node)
        tensor = node.inputs[0]
    return found, tensor


def _are_inverse(trial: Trial, inner: Node, node: Node) -> bool:
    """Say whether both have the same parameters, for which rounding gives back every number."""
    kind = trial.facts.elem_type(inner.inputs[0])
    scale, zero = inner.constant(1), inner.input(2)
    if kind not in _BITS or scale is None or scale.dtype.kind != "f":
        return False
    same = _is_same(inner.inputs[1], node.inputs[1]) and inner.attr("axis", 1) == node.attr(
        "axis", 1
    )
    blocks = inner.attr("block_size", 0), node.attr("block_size", 0)
    if not same or any(blocks) or trial.facts.elem_type(trial.out) != kind:
        return False
    other = node.input(2)
    if zero is None or other is None:
        present = zero if other is None else other
        zeros = present is None or (isinstance(present, Constant) and not present.values.any())
        return zeros and _is_precise(scale, _BITS[kind])
    return _is_same(zero, other) and _is_precise(scale, _BITS[kind])


def _is_same(left: Tensor, right: Tensor) -> bool:
    if left is right:
        return True
    if not isinstance(left, Constant) or not isinstance(right, Constant):
        return False
    a, b = left.values, right.values
    return (a.shape, a.dtype, a.tobytes()) == (b.shape, b.dtype, b.tobytes())


def _is_precise(scale: Array, bits: int) -> bool:
    """Say whether products with *scale* are normal numbers, precise to less than one half."""
    limits = np.finfo(scale.dtype)
    size = scale.astype(np.float64)
    fits = (size >= limits.tiny) & (size * 2**bits <= limits.max)
    return bool(fits.all()) and 2**bits * float(limits.eps) <= 0.25


@dataclass(frozen=True)
class MergeQuantize(TrialPass):
    """Drop a DequantizeLinear and the QuantizeLinear that undoes it, moves in between aside."""

    name = "merge-quantize"
    effect = Effect.EXACT
    rules: ClassVar[Mapping[str, TrialRule]] = {"QuantizeLinear": _undo}
