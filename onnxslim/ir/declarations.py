"""Declared types: the `ValueInfoProto` that a tensor came with, or that an edit gives it."""

from __future__ import annotations

from typing import Any

from onnx import TypeProto, ValueInfoProto, helper

from onnxslim.ir import weights
from onnxslim.ir.graph import Constant, Tensor, Variable, put


def declare(variable: Any, info: ValueInfoProto) -> Any:
    """Give *variable* the type that *info* declares, and remember both."""
    kind, dtype, shape = info.type.WhichOneof("value"), None, None
    if kind in ("tensor_type", "sparse_tensor_type"):
        declared = getattr(info.type, kind)
        if declared.elem_type in weights.KNOWN_TYPES:
            dtype = weights.numpy_type(declared.elem_type)
        if declared.HasField("shape"):
            shape = [dim.dim_value or _dimension(dim) for dim in declared.shape.dim]
    kind = kind or "tensor_type"
    seen = dtype, None if shape is None else tuple(shape), kind
    put(variable, dtype=dtype, shape=shape, type=kind, source=info, seen=seen)
    return variable


def _dimension(dim: Any) -> int | str | None:
    if dim.HasField("dim_value"):
        return 0
    return str(dim.dim_param) if dim.HasField("dim_param") else None


def _snapshot(variable: Variable) -> tuple[Any, ...]:
    shape = None if variable.shape is None else tuple(variable.shape)
    return variable.dtype, shape, variable.type


def is_redeclared(tensor: Tensor) -> bool:
    """Say whether a pass changed the declared type of *tensor*."""
    return isinstance(tensor, Variable) and tensor.seen not in (None, _snapshot(tensor))


def value_info(tensor: Tensor) -> ValueInfoProto:
    """Return the declaration of *tensor*: the one it came with, unless a pass changed it."""
    if isinstance(tensor, Constant):
        return helper.make_tensor_value_info(tensor.name, tensor.elem_type, tensor.shape)
    source = tensor.source
    if source is not None and not is_redeclared(tensor):
        if source.name == tensor.name:
            return source
        renamed = ValueInfoProto()
        renamed.CopyFrom(source)
        renamed.name = tensor.name
        return renamed
    if tensor.dtype is None:
        return ValueInfoProto(name=tensor.name)
    return helper.make_tensor_value_info(tensor.name, weights.elem_type(tensor.dtype), tensor.shape)


def with_elem_type(info: ValueInfoProto, old: int, new: int) -> ValueInfoProto:
    """Return *info* with elements of type *new* where it says *old*, in sequences too."""
    changed = ValueInfoProto()
    changed.CopyFrom(info)
    change_elem_type(changed.type, old, new)
    return changed


def change_elem_type(declared: TypeProto, old: int, new: int) -> None:
    """Make *declared* a type of *new* elements where it says *old*."""
    while (kind := declared.WhichOneof("value")) in ("sequence_type", "optional_type"):
        declared = getattr(declared, kind).elem_type
    if kind in ("tensor_type", "sparse_tensor_type") and getattr(declared, kind).elem_type == old:
        getattr(declared, kind).elem_type = new


def retype(variable: Variable, old: int, new: int) -> None:
    """Declare *variable* to hold elements of type *new* where it said *old*."""
    changed = is_redeclared(variable)
    shape = variable.shape
    if variable.source is not None:
        declare(variable, with_elem_type(variable.source, old, new))
    elif variable.dtype is not None and weights.elem_type(variable.dtype) == old:
        variable.dtype = weights.numpy_type(new)
    if changed:  # a shape that was fixed by hand, say
        variable.shape = shape
