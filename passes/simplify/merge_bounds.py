"""Clip, Relu, Min and Max by constants, one after the other.

Each clamps to an interval. A clamp of a clamp is a clamp, to where the second one puts the ends of
the first. A bound that a Clip of floats leaves out is the largest finite number of the type; Relu
has no upper bound. All hand on what is not a number.

Source: Relu-6, Max-8, Min-8, Clip-6, Clip-11 and Clip-12 of the ONNX operator specification.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from onnxslim.base import Effect
from onnxslim.ir import Array, Constant, Node, Tensor, numpy_type
from onnxslim.passes.simplify._numbers import number
from onnxslim.passes.simplify._trial import Trial, TrialPass, TrialRule

_CLAMPS = ("Clip", "Max", "Min", "Relu")
_SINCE = {
    "float32": 6,
    **dict.fromkeys(("float16", "float64", "int8", "int32", "int64"), 12),
    **dict.fromkeys(("uint8", "uint32", "uint64"), 12),
}
"""From which opset on onnxruntime clips a type."""


class _Interval(NamedTuple):
    x: Tensor
    low: Any
    high: Any

    def put(self, value: Any) -> Any:
        """Clamp one number; the upper bound wins where the bounds are in the wrong order."""
        return min(max(value, self.low), self.high)


def _interval(node: Node, dtype: np.dtype[Any], opset: int) -> _Interval | None:
    """Return the input of a clamp and its bounds, as Python numbers."""
    least, most = _ends(dtype)
    x = node.inputs[0]
    if node.operator == "Clip":
        low, high = _clip_bounds(node, opset)
        if low is None or high is None:
            return None
        return _Interval(x, _plain(low, least), _plain(high, most))
    floor, ceiling = (-np.inf, np.inf) if dtype.kind == "f" else (least, most)
    if node.operator == "Relu":
        return _Interval(x, 0, ceiling)
    if len(node.inputs) != 2:
        return None
    bound = number(node.inputs[1])
    if bound is None:
        x, bound = node.inputs[1], number(x)
    if bound is None or bound.size != 1 or bound.ndim > 0 or bound != bound:
        return None
    if node.operator == "Max":
        return _Interval(x, bound.item(), ceiling)
    return _Interval(x, floor, bound.item())


def _ends(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """Return the smallest and the largest number of a type."""
    limits: Any = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    return np.asarray(limits.min).item(), np.asarray(limits.max).item()


_NONE = np.empty(0)
"""A bound that is left out."""


def _clip_bounds(node: Node, opset: int) -> tuple[Array | None, Array | None]:
    """Return the bounds, empty where they are left out, None where they are not constant."""
    if opset < 11:
        return np.asarray(node.attr("min", _NONE)), np.asarray(node.attr("max", _NONE))
    slots = (number(node.input(i)) if node.input(i) is not None else _NONE for i in (1, 2))
    low, high = (None if v is None or (v != v).any() else v for v in slots)
    return low, high


def _plain(bound: Array, default: Any) -> Any:
    return bound.reshape(-1)[0].item() if bound.size else default


def _merge(trial: Trial) -> Tensor | None:
    """Clamp once; or not at all, if that is what the tensor above is."""
    kind = trial.facts.elem_type(trial.out)
    if trial.opset < 8 or not kind:
        return None
    dtype = numpy_type(kind)
    if trial.opset < _SINCE.get(dtype.name, 99):
        return None
    second = _interval(trial.node, dtype, trial.opset)
    inner = None if second is None else trial.above(second.x, *_CLAMPS)
    first = None if inner is None else _interval(inner, dtype, trial.opset)
    if first is None or second is None or inner is None:
        return None
    bounds = second.put(first.put(-np.inf)), second.put(first.put(np.inf))
    if bounds == (first.put(-np.inf), first.put(np.inf)):
        return second.x
    return _Clamp(trial, dtype, [trial.node, inner]).of(first.x, *bounds)


class _Clamp(NamedTuple):
    """Makes a clamp, out of the constants of those it replaces where they serve."""

    trial: Trial
    dtype: np.dtype[Any]
    replaced: list[Node]

    def of(self, x: Tensor, low: Any, high: Any) -> Tensor:
        """Clamp *x*; what lets infinity pass is no Clip."""
        new = self.trial.new
        if (low, high) == (0, np.inf):
            return new.Relu(x)
        if high == np.inf:
            return new.Max(x, self._number(low))
        if low == -np.inf:
            return new.Min(x, self._number(high))
        if self.trial.opset < 11:
            return new.Clip(x, min=float(low), max=float(high))
        least, most = _ends(self.dtype)
        bounds = (None if low == least else low, None if high == most else high)
        return new.Clip(x, *(None if v is None else self._number(v) for v in bounds))

    def _number(self, value: Any) -> Tensor | Array:
        for node in self.replaced:
            for tensor in node.inputs:
                if isinstance(tensor, Constant) and tensor.shape == () and tensor.values == value:
                    return tensor
        return np.asarray(value, self.dtype)


class MergeBounds(TrialPass):
    """Merge chains of Clip, Relu, and Min and Max with constants."""

    name = "merge-bounds"
    effect = Effect.ROUNDING
    rules: ClassVar[Mapping[str, TrialRule]] = dict.fromkeys(_CLAMPS, _merge)
