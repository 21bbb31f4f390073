"""A Cast of a Cast whose type in the middle holds every value exactly.

Source: Cast-6 of the ONNX operator specification and its successors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from onnx import TensorProto

from onnxslim.base import Effect
from onnxslim.ir import Tensor
from onnxslim.passes.simplify._trial import Trial, TrialPass, TrialRule

_BITS: Mapping[int, tuple[int, bool]] = {
    TensorProto.BOOL: (1, False),
    TensorProto.UINT8: (8, False),
    TensorProto.UINT16: (16, False),
    TensorProto.UINT32: (32, False),
    TensorProto.UINT64: (64, False),
    TensorProto.INT8: (7, True),
    TensorProto.INT16: (15, True),
    TensorProto.INT32: (31, True),
    TensorProto.INT64: (63, True),
}
"""Bits of the magnitude of integers, and whether they have a sign."""
_EXACT: Mapping[int, int] = {
    TensorProto.BFLOAT16: 8,
    TensorProto.FLOAT16: 11,
    TensorProto.FLOAT: 24,
    TensorProto.DOUBLE: 53,
}
"""Bits of integers that floats hold exactly."""
_NUMBERS = _BITS.keys() | _EXACT.keys()
_WIDER: Mapping[int, frozenset[int]] = {
    TensorProto.FLOAT16: frozenset({TensorProto.FLOAT, TensorProto.DOUBLE}),
    TensorProto.BFLOAT16: frozenset({TensorProto.FLOAT, TensorProto.DOUBLE}),
    TensorProto.FLOAT: frozenset({TensorProto.DOUBLE}),
}


def _holds(wide: int, narrow: int) -> bool:
    """Say whether type *wide* has every value of type *narrow*."""
    if wide == narrow or wide in _WIDER.get(narrow, ()):
        return True
    if narrow not in _BITS:
        return False
    bits, signed = _BITS[narrow]
    if wide in _EXACT:
        return bits <= _EXACT[wide]
    if wide not in _BITS or (signed and not _BITS[wide][1]):
        return False
    return bits <= _BITS[wide][0]


def _merge(trial: Trial) -> Tensor | None:
    inner = trial.above(trial.node.inputs[0], "Cast")
    if inner is None:
        return None
    x: Tensor = inner.inputs[0]
    kind, middle = trial.facts.elem_type(x), inner.attr("to")
    if kind == 0 or not _holds(middle, kind) or trial.node.attr("to") not in _NUMBERS:
        return None
    if trial.node.attr("to") == kind:
        return x
    trial.even = trial.read_only_by(trial.node.inputs[0], "Cast")
    return trial.new.like(trial.node, x)


class MergeCasts(TrialPass):
    """Merge a Cast to a wider type with the Cast that follows it."""

    name = "merge-casts"
    effect = Effect.EXACT
    rules: ClassVar[Mapping[str, TrialRule]] = {"Cast": _merge}
