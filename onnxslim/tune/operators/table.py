"""Which operators can be tuned through: a function for each, and what it is told of its node.

Functions take torch tensors, None for an input that is left out, in the form that operators have
since opset 22; older nodes are brought to it before (`onnxslim.versions`).

Types that torch computes badly are carried by others. Half precision is carried by single
precision, rounded where the graph casts. Integers of quantized values are carried by floats, so
that gradients pass; `Call.types` says what they stand for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeAlias

import torch
from onnx import TensorProto

from onnxslim.errors import Declined
from onnxslim.tune.rounding import Rounding

Value: TypeAlias = torch.Tensor
Function = Callable[..., Any]
"""``function(call, *inputs)`` returns a tensor, or a tuple of them."""

TABLE: dict[str, Function] = {}
"""Functions by `Node.operator`."""


@dataclass(frozen=True)
class Call:
    """What a function is told of the node that it computes."""

    op: str
    name: str
    attrs: dict[str, Any]
    types: tuple[int, ...]
    """``TensorProto.DataType`` of each output; 0 where nobody knows."""
    wanted: tuple[bool, ...]
    """Whether somebody may read each output."""
    rounding: Rounding = field(default_factory=Rounding)

    def attr(self, name: str, default: Any = None) -> Any:
        """Return an attribute, or *default* where the node does not set it."""
        return self.attrs.get(name, default)

    def decline(self, reason: str) -> NoReturn:
        """Say why this node cannot be computed."""
        raise Declined(reason)

    def require(self, condition: object, reason: str) -> None:
        """Decline unless *condition* holds."""
        if not condition:
            self.decline(reason)

    def reads(self, slot: int) -> bool:
        """Say whether somebody may read this output."""
        return slot < len(self.wanted) and self.wanted[slot]


def operator(*names: str) -> Callable[[Function], Function]:
    """Register the function below for operators of these *names*."""

    def register(function: Function) -> Function:
        for name in names:
            if name in TABLE:
                raise RuntimeError(f"two functions for {name}")
            TABLE[name] = function
        return function

    return register


def plain(**functions: Callable[..., Value]) -> None:
    """Register functions of tensors alone, which need to know nothing of the node."""
    for name, function in functions.items():
        operator(name)(_without_call(function))


def _without_call(function: Callable[..., Value]) -> Function:
    return lambda call, *inputs: function(*inputs)


# Types --------------------------------------------------------------------------------------------

_CARRIERS: dict[int, torch.dtype] = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.FLOAT16: torch.float32,
    TensorProto.BFLOAT16: torch.float32,
    TensorProto.DOUBLE: torch.float64,
    TensorProto.BOOL: torch.bool,
    TensorProto.INT8: torch.int8,
    TensorProto.UINT8: torch.uint8,
    TensorProto.INT16: torch.int16,
    TensorProto.UINT16: torch.int32,
    TensorProto.INT32: torch.int32,
    TensorProto.UINT32: torch.int64,
    TensorProto.INT64: torch.int64,
    TensorProto.UINT64: torch.int64,
    TensorProto.INT4: torch.int8,
    TensorProto.UINT4: torch.uint8,
    TensorProto.INT2: torch.int8,
    TensorProto.UINT2: torch.uint8,
}

BOUNDS: dict[int, tuple[int, int]] = {
    TensorProto.INT8: (-128, 127),
    TensorProto.UINT8: (0, 255),
    TensorProto.INT16: (-(1 << 15), (1 << 15) - 1),
    TensorProto.UINT16: (0, (1 << 16) - 1),
    TensorProto.INT4: (-8, 7),
    TensorProto.UINT4: (0, 15),
    TensorProto.INT2: (-2, 1),
    TensorProto.UINT2: (0, 3),
}
"""Integers of a quantized type."""


def carrier(elem_type: int) -> torch.dtype:
    """Return torch's type for values of *elem_type*. Raises Declined."""
    if elem_type not in _CARRIERS:
        name = TensorProto.DataType.Name(elem_type) if elem_type else "an unknown type"
        raise Declined(f"values of {name} cannot be computed with")
    return _CARRIERS[elem_type]


def is_float(elem_type: int) -> bool:
    """Say whether *elem_type* is one of floats that are computed with."""
    return elem_type in _CARRIERS and bool(_CARRIERS[elem_type].is_floating_point)


# Shapes and axes ----------------------------------------------------------------------------------


def ints(value: Value | None) -> list[int] | None:
    """Return the integers of an input; None where it is left out."""
    return None if value is None else [int(item) for item in value.reshape(-1).tolist()]


def axes_of(value: Value | None, rank: int) -> list[int]:
    """Return axes counted from the front; all of them where the input is left out or empty."""
    given = ints(value)
    return [axis % rank for axis in given] if given else list(range(rank))


def aligned(value: Value, rank: int, axis: int) -> Value:
    """Return a vector along *axis* of tensors of *rank*; scalars stay."""
    if value.numel() == 1:
        return value.reshape(())
    return value.reshape([-1 if at == axis % rank else 1 for at in range(rank)])


def index(value: Value, size: int) -> Value:
    """Return indices as torch wants them, counted from the front of *size* entries."""
    whole = value.long()
    return torch.where(whole < 0, whole + size, whole)


def pads_of(pads: Sequence[int]) -> list[int]:
    """Return ONNX's pads, all begins before all ends, in torch's order: last axis first."""
    half = len(pads) // 2
    return [pads[at + end] for at in reversed(range(half)) for end in (0, half)]
