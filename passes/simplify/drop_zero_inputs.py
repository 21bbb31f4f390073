"""Biases and initial states of zeros: an operator assumes them where they are left out.

Source: Conv-1, ConvTranspose-1, DeformConv-19, Gemm-11, GRU-7, LSTM-7, LayerNormalization-17,
QLinearConv-10 and RNN-7 of the ONNX operator specification, and their successors.
"""

from __future__ import annotations

from collections.abc import Mapping

from onnxslim import ir
from onnxslim.base import Context, Effect, Pass
from onnxslim.ir import Constant, Model, Node, Tensor

_SLOTS: Mapping[str, tuple[int, ...]] = {
    "Conv": (2,),
    "ConvTranspose": (2,),
    "DeformConv": (3,),
    "GRU": (3, 5),
    "Gemm": (2,),
    "LSTM": (3, 5, 6),
    "LayerNormalization": (2,),
    "QLinearConv": (8,),
    "RNN": (3, 5),
}
"""Inputs that are zero where they are absent."""
_SINCE = {"Gemm": 11, "GRU": 7, "LSTM": 7, "RNN": 7}
_MOVING = frozenset(
    {"Cast", "CastLike", "Expand", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze"}
    | {"Tile", "Transpose", "Unsqueeze"}
)
"""Operators whose results consist of elements of their first input."""
_DEEPEST = 16


class DropZeroInputs(Pass):
    """Leave out biases and initial states that are zero."""

    name = "drop-zero-inputs"
    effect = Effect.ROUNDING

    def apply(self, model: Model, context: Context) -> int:
        """Sweep every graph once."""
        pinned, changes = context.once(model, Model.pinned), 0
        for graph, nodes in context.find(model, _SLOTS):
            for node in nodes:
                if not node.erased and graph.version >= _SINCE.get(node.operator, 1):
                    changes += sum(_drop(node, slot, pinned) for slot in _SLOTS[node.operator])
            graph.compact()
        return changes


def _drop(node: Node, slot: int, pinned: frozenset[int]) -> bool:
    tensor = node.input(slot)
    if tensor is None or not _is_zero(tensor, _DEEPEST):
        return False
    inputs = list(node.inputs)
    inputs[slot] = ir.absent()
    while inputs[-1].is_empty():
        inputs.pop()
    ir.set_inputs(node, inputs)
    ir.release([tensor], pinned)
    return True


def _is_zero(tensor: Tensor, depth: int) -> bool:
    """Say whether all elements of *tensor* are 0, for all that is known."""
    if isinstance(tensor, Constant):
        return tensor.dtype.kind != "O" and not tensor.values.astype(bool).any()
    node = ir.producer(tensor)
    if node is None or not depth or ir.has_parameters(node):
        return False
    if node.operator == "ConstantOfShape":
        value = node.attr("value")
        return value is None or (isinstance(value, Constant) and _is_zero(value, depth))
    if node.operator == "Concat":
        return all(_is_zero(part, depth - 1) for part in node.inputs)
    return node.operator in _MOVING and _is_zero(node.inputs[0], depth - 1)
