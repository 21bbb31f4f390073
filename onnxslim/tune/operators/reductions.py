"""Operators that make one number of many."""

from __future__ import annotations

from collections.abc import Callable

import torch

from onnxslim.tune.operators.table import Call, Value, axes_of, operator

Reduction = Callable[[Value, list[int], bool], Value]


def _product(x: Value, axes: list[int], keep: bool) -> Value:
    for axis in sorted(axes, reverse=True):
        x = torch.prod(x, axis, keep, dtype=x.dtype)
    return x


def _sum(x: Value, axes: list[int], keep: bool) -> Value:
    return torch.sum(x, axes, keep, dtype=x.dtype)


def _largest(x: Value, axes: list[int], keep: bool) -> Value:
    return _extreme(torch.amax, -torch.inf, x, axes, keep)


def _smallest(x: Value, axes: list[int], keep: bool) -> Value:
    return _extreme(torch.amin, torch.inf, x, axes, keep)


def _extreme(
    find: Callable[..., Value], nothing: float, x: Value, axes: list[int], keep: bool
) -> Value:
    """Find the largest or smallest; of no entries at all it is *nothing*."""
    if not all(x.shape[axis] for axis in axes):
        return torch.full_like(torch.sum(x, axes, keep, dtype=x.dtype), nothing)
    if x.dtype is torch.bool:
        return find(x.to(torch.uint8), axes, keep).bool()
    return find(x, axes, keep)


REDUCTIONS: dict[str, Reduction] = {
    "ReduceSum": _sum,
    "ReduceProd": _product,
    "ReduceMax": _largest,
    "ReduceMin": _smallest,
    "ReduceMean": lambda x, axes, keep: torch.mean(x, axes, keep),
    "ReduceL1": lambda x, axes, keep: _sum(x.abs(), axes, keep),
    "ReduceL2": lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keep),
    "ReduceSumSquare": lambda x, axes, keep: _sum(x * x, axes, keep),
    "ReduceLogSum": lambda x, axes, keep: _sum(x, axes, keep).log(),
    "ReduceLogSumExp": lambda x, axes, keep: torch.logsumexp(x, axes, keep),
}


@operator(*REDUCTIONS)
def _reduce(call: Call, x: Value, axes: Value | None = None) -> Value:
    nothing = axes is None or axes.numel() == 0
    if x.dim() == 0 or (nothing and call.attr("noop_with_empty_axes", 0)):
        return REDUCTIONS[call.op](x.unsqueeze(-1), [x.dim()], False)
    keep = bool(call.attr("keepdims", 1))
    return REDUCTIONS[call.op](x, axes_of(axes, x.dim()), keep)


@operator("ArgMax", "ArgMin")
def _arg(call: Call, x: Value) -> Value:
    axis, keep = call.attr("axis", 0), bool(call.attr("keepdims", 1))
    x = x if call.op == "ArgMax" else -x
    if not call.attr("select_last_index", 0):
        return x.argmax(axis, keep)
    return x.shape[axis] - 1 - x.flip(axis).argmax(axis, keep)
