"""Values that a growing model computes, their types, and what rounds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import ModelProto, TensorProto, helper

Array = npt.NDArray[Any]
Feed = dict[str, Any]
FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
LARGEST, MOST = 1e4, 2048
"""Nodes that compute larger numbers, or more of them, are left out."""

TYPES = {
    f"tensor({name.lower()})": number
    for name, number in TensorProto.DataType.items()
    if name != "UNDEFINED"
}
FLOATS = ("tensor(float)", "tensor(double)", "tensor(float16)")
MADE = {
    *FLOATS, "tensor(int64)", "tensor(int32)", "tensor(bool)", "tensor(uint8)", "tensor(int8)",
    "tensor(string)", "tensor(uint64)", "tensor(int16)", "tensor(uint32)", "tensor(uint16)",
}  # fmt: skip
"""Types that inputs and constants may have."""


@dataclass(eq=False)
class Value:
    """A tensor or sequence, and what it holds when the first feed is run."""

    name: str
    type: str
    held: Any
    rough: bool = False
    """Whether it was rounded, so that a comparison with it proves nothing."""
    known: bool = False
    """Whether it is a constant."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape on the first feed; () for a sequence."""
        return tuple(self.held.shape) if isinstance(self.held, np.ndarray) else ()

    @property
    def rank(self) -> int:
        """How many dimensions it has."""
        return len(self.shape)


def type_proto(kind: str, shape: Sequence[int | str | None] | None) -> onnx.TypeProto:
    """Translate ``tensor(float)`` or ``seq(tensor(float))``."""
    if kind.startswith("seq("):
        return helper.make_sequence_type_proto(type_proto(kind[4:-1], None))
    return helper.make_tensor_type_proto(TYPES[kind], shape)


def declaration(
    name: str, kind: str, shape: Sequence[int | str | None] | None
) -> onnx.ValueInfoProto:
    """Declare a value of a graph."""
    return helper.make_value_info(name, type_proto(kind, shape))


def load(proto: ModelProto, optimize: bool = False) -> ort.InferenceSession:
    """Load a model on one thread; raises what onnxruntime raises."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    source = proto.SerializeToString()
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


# Rounding -----------------------------------------------------------------------------------------

EXACT = frozenset(
    {"Abs", "Add", "Cast", "CastLike", "Ceil", "CenterCropPad", "Clip", "Compress", "Concat"}
    | {"ConcatFromSequence", "Constant", "ConstantOfShape", "DepthToSpace", "DequantizeLinear"}
    | {"Dropout", "Expand", "EyeLike", "Flatten", "Floor", "Gather", "GatherElements", "GatherND"}
    | {"Identity", "If", "Loop", "Max", "MaxPool", "Min", "Mul", "Neg", "OneHot", "Pad", "Range"}
    | {"ReduceMax", "ReduceMin", "Relu", "Reshape", "ReverseSequence", "Round", "Scan", "Scatter"}
    | {"ScatterElements", "ScatterND", "SequenceAt", "SequenceConstruct", "SequenceErase"}
    | {"SequenceInsert", "SequenceMap", "Shape", "Sign", "Size", "Slice", "SpaceToDepth", "Split"}
    | {"SplitToSequence", "Squeeze", "Sub", "Sum", "Tile", "TopK", "Transpose", "Trilu", "Unique"}
    | {"Unsqueeze", "Where"}
)
"""What rounds nothing when it is given small numbers with few digits."""
JUMPY = frozenset(
    {"Acos", "Acosh", "ArgMax", "ArgMin", "Asin", "Atanh", "Binarizer", "Ceil", "Det", "Div"}
    | {"DynamicQuantizeLinear", "Equal", "Floor", "GlobalLpPool", "Greater", "GreaterOrEqual"}
    | {"GridSample", "Hardmax", "IsInf", "IsNaN", "Less", "LessOrEqual", "Log"}
    | {"LpNormalization", "LpPool", "MaxPool", "MaxRoiPool", "MaxUnpool", "Mod"}
    | {"NonMaxSuppression", "NonZero", "Not", "OneHot", "Pow", "QuantizeLinear", "Range"}
    | {"Reciprocal"}
    | {"ReduceLogSum", "Resize", "RoiAlign", "Round", "Shrink", "Sign", "Sqrt", "Tan"}
    | {"ThresholdedRelu", "TopK", "Unique", "Upsample", "Where"}
)
"""What a difference in the last digit can throw far off, and what has poles."""


def jumps(op: str, attrs: dict[str, Any]) -> bool:
    """Say whether a node of this kind must not read what was rounded."""
    if op in ("Cast", "CastLike"):
        return attrs.get("to") not in (FLOAT, TensorProto.DOUBLE)
    return op in JUMPY


def is_float(kind: str) -> bool:
    """Say whether a type holds floats."""
    return "float" in kind or "double" in kind
