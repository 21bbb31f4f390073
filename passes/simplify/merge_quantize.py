"""Tensors that are dequantized only to be quantized again as they were, perhaps after a move.

Rounding undoes what float arithmetic does to (q - zero point) * scale, as long as an error of one
part in the precision of the scale's type stays below one half for the largest q. So 8-bit numbers
come back for scales of every float type, 16-bit numbers for float32.

Source: QuantizeLinear-10 and DequantizeLinear-10 of the ONNX operator specification and their
successors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from onnx import TensorProto

from onnxslim.base import Effect
from onnxslim.ir import Array, Constant, Node, Tensor
from onnxslim.passes.simplify._trial import Results, Trial, TrialPass, TrialRule

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
    if _changes_type(node):
        return None
    moves, tensor = _moves(trial, node.inputs[0])
    joined = trial.above(tensor, "Concat")
    operands = [tensor] if joined is None else list(joined.inputs)
    packed = [_packed(trial, node, operand) for operand in operands]
    if None in packed:
        return None
    if (moves or joined) and node.inputs[1].shape not in ((), (1,)):
        return None
    result = packed[0] if joined is None else trial.new.like(joined, *packed)
    for move in reversed(moves):
        result = trial.new.like(move, result, *move.inputs[1:])
    return result


def _packed(trial: Trial, node: Node, tensor: Tensor) -> Tensor | None:
    """Return what *tensor* is dequantized from, as *node* would quantize it."""
    inner = trial.above(tensor, "DequantizeLinear")
    return inner.inputs[0] if inner is not None and _are_inverse(trial, inner, node) else None


def _split(trial: Trial) -> Results | None:
    """Split what is dequantized where every part is quantized as it was."""
    node = trial.node
    parts = [part for part in node.outputs if part.outputs or id(part) in trial.pinned]
    readers = [reader for part in parts for reader in part.outputs]
    if not all(trial.read_only_by(part, "QuantizeLinear") for part in parts):
        return None
    packed = [_packed(trial, reader, node.inputs[0]) for reader in readers]
    if not readers or None in packed or readers[0].inputs[1].shape not in ((), (1,)):
        return None
    if any(r.graph is not trial.graph or _changes_type(r) for r in readers):
        return None
    operands = [packed[0], *node.inputs[1:]]
    trial.new.node("Split", operands, node.attrs, outputs=len(node.outputs))
    made = dict(zip(node.outputs, trial.new.nodes[-1].outputs, strict=True))
    return {reader.outputs[0]: made[reader.inputs[0]] for reader in readers}


def _changes_type(node: Node) -> bool:
    return bool(len(node.inputs) < 2 or node.attr("output_dtype", 0) or node.attr("precision", 0))


def _moves(trial: Trial, tensor: Tensor) -> tuple[list[Node], Tensor]:
    """Return the nodes that only move elements, last one first, and what they move."""
    found: list[Node] = []
    while len(found) < _CHAIN:
        node = trial.above(tensor, *_MOVES, "MaxPool", "Resize")
        if node is None or not trial.private(tensor) or not _moves_bytes(trial, node):
            break
        found.append(node)
        tensor = node.inputs[0]
    return found, tensor


def _moves_bytes(trial: Trial, node: Node) -> bool:
    """Say whether onnxruntime does to whole numbers of 8 bits what *node* does to floats."""
    if node.operator not in ("MaxPool", "Resize"):
        return True
    if trial.facts.elem_type(trial.out) not in (TensorProto.INT8, TensorProto.UINT8):
        return False
    if node.operator == "Resize":
        mode = node.attr("coordinate_transformation_mode", "half_pixel")
        plain = node.attr("mode", "nearest") == "nearest" and mode != "tf_crop_and_resize"
        return plain and trial.opset >= 11
    return trial.opset >= 12 and len(node.outputs) == 1


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
    if not same or any(blocks) or trial.facts.elem_type(node.outputs[0]) != kind:
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


class MergeQuantize(TrialPass):
    """Drop a DequantizeLinear and the QuantizeLinear that undoes it, moves in between aside."""

    name = "merge-quantize"
    effect = Effect.EXACT
    rules: ClassVar[Mapping[str, TrialRule]] = {"QuantizeLinear": _undo, "Split": _split}
