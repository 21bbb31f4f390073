"""What a model declares of its inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TypeProto, helper

Array = npt.NDArray[Any]
Feed = dict[str, Any]
"""Values by input name: arrays, lists of arrays for sequences, None for an absent optional."""
Dim = int | str | None


@dataclass(frozen=True)
class InputSpec:
    """What a model declares of an input."""

    name: str
    elem_type: int = 0
    """``TensorProto.DataType`` of the elements; 0 where nobody knows."""
    shape: tuple[Dim, ...] | None = None
    """Sizes; a name where symbolic, None where unknown. None for an unknown rank."""
    kind: str = "tensor"
    """``tensor``, ``sequence``, ``optional``, ``optional sequence``, ``sparse_tensor``, ``map``."""
    low: int | None = None
    high: int | None = None
    """Range of whole numbers that index or measure something: ``low <= value < high``."""
    nan: bool = False
    """Whether NaN means something to the model."""


_NAN_READERS = ("IsNaN", "Imputer", "TreeEnsemble")


def input_specs(proto: onnx.ModelProto) -> list[InputSpec]:
    """Return what must be fed: the graph inputs that no initializer gives a value.

    *proto* may lack its weights.
    """
    given = {tensor.name for tensor in proto.graph.initializer}
    given.update(sparse.values.name for sparse in proto.graph.sparse_initializer)
    nan = any(node.op_type.startswith(_NAN_READERS) for node in proto.graph.node)
    return [_spec(info, nan) for info in proto.graph.input if info.name not in given]


def _spec(info: onnx.ValueInfoProto, nan: bool) -> InputSpec:
    kinds, declared = list[str](), info.type
    kind = declared.WhichOneof("value")
    while kind in ("optional_type", "sequence_type"):
        kinds.append(kind.removesuffix("_type"))
        declared = getattr(declared, kind).elem_type
        kind = declared.WhichOneof("value")
    if kind not in (None, "tensor_type"):
        kinds.append(kind.removesuffix("_type"))
    elem, shape = _tensor_type(declared)
    return InputSpec(info.name, elem, shape, " ".join(kinds) or "tensor", nan=nan)


def _tensor_type(declared: TypeProto) -> tuple[int, tuple[Dim, ...] | None]:
    kind = declared.WhichOneof("value")
    if kind not in ("tensor_type", "sparse_tensor_type"):
        return 0, None
    tensor = getattr(declared, kind)
    if not tensor.HasField("shape"):
        return tensor.elem_type, None
    return tensor.elem_type, tuple(
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None
        for dim in tensor.shape.dim
    )


def numpy_type(elem_type: int) -> np.dtype[Any]:
    """Return the type in which NumPy holds values of *elem_type*."""
    return np.dtype(helper.tensor_dtype_to_np_dtype(elem_type))


def is_float(dtype: np.dtype[Any]) -> bool:
    """Say whether *dtype* is one of floats, those of few bits included."""
    return dtype.name.startswith(("float", "bfloat"))


def is_integer(dtype: np.dtype[Any]) -> bool:
    """Say whether *dtype* is one of integers, those of few bits included."""
    return dtype.name.startswith(("int", "uint"))
