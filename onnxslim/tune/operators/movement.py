"""Operators that move elements, or measure shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from onnxslim.shapes import places_of_slice
from onnxslim.tune.operators.table import (
    Call,
    Value,
    axes_of,
    carrier,
    index,
    ints,
    operator,
    pads_of,
)

# Shapes -------------------------------------------------------------------------------------------


@operator("Shape")
def _shape(call: Call, x: Value) -> Value:
    start, end = call.attr("start", 0), call.attr("end")
    return torch.tensor(list(x.shape)[start:end], dtype=torch.int64)


@operator("Size")
def _size(call: Call, x: Value) -> Value:
    return torch.tensor(x.numel(), dtype=torch.int64)


@operator("Reshape")
def _reshape(call: Call, x: Value, shape: Value) -> Value:
    wanted = ints(shape) or []
    if not call.attr("allowzero", 0):
        wanted = [x.shape[at] if size == 0 else size for at, size in enumerate(wanted)]
    if -1 in wanted and x.numel() == 0:
        known = math.prod(size for size in wanted if size != -1)
        wanted = [x.numel() // known if size == -1 and known else max(size, 0) for size in wanted]
    return x.reshape(wanted)


@operator("Flatten")
def _flatten(call: Call, x: Value) -> Value:
    axis = call.attr("axis", 1)
    rows = math.prod(x.shape[: axis + x.dim() if axis < 0 else axis])
    return x.reshape(rows, -1 if x.numel() else x.numel() // max(rows, 1))


@operator("Squeeze")
def _squeeze(call: Call, x: Value, axes: Value | None = None) -> Value:
    if axes is None:
        return x.squeeze()
    dropped = axes_of(axes, x.dim()) if axes.numel() else []
    return x.reshape([size for at, size in enumerate(x.shape) if at not in dropped])


@operator("Unsqueeze")
def _unsqueeze(call: Call, x: Value, axes: Value) -> Value:
    for axis in sorted(at % (x.dim() + axes.numel()) for at in ints(axes) or []):
        x = x.unsqueeze(axis)
    return x


@operator("Transpose")
def _transpose(call: Call, x: Value) -> Value:
    return x.permute(call.attr("perm") or list(reversed(range(x.dim()))))


@operator("Expand")
def _expand(call: Call, x: Value, shape: Value) -> Value:
    return x.expand(torch.broadcast_shapes(x.shape, ints(shape) or []))


@operator("Tile")
def _tile(call: Call, x: Value, repeats: Value) -> Value:
    return x.repeat(ints(repeats) or [])


# Parts --------------------------------------------------------------------------------------------


@operator("Concat")
def _concat(call: Call, *values: Value) -> Value:
    return torch.cat(values, call.attr("axis"))


@operator("Split")
def _split(call: Call, x: Value, sizes: Value | None = None) -> tuple[Value, ...]:
    axis, count = call.attr("axis", 0), len(call.wanted)
    each = ints(sizes)
    if each is None:
        size = x.shape[axis]
        part = -(-size // count)
        each = [max(0, min(part, size - part * at)) for at in range(count)]
    return tuple(torch.split(x, each, axis))


@operator("Slice")
def _slice(
    call: Call, x: Value, starts: Value, ends: Value,
    axes: Value | None = None, steps: Value | None = None,
) -> Value:  # fmt: skip
    begins, stops = ints(starts) or [], ints(ends) or []
    along = ints(axes) if axes is not None else list(range(len(begins)))
    strides = ints(steps) if steps is not None else [1] * len(begins)
    for axis, begin, stop, step in zip(along or [], begins, stops, strides or [], strict=True):
        if step > 0:
            x = x[(*[slice(None)] * (axis % x.dim()), slice(begin, stop, step))]
        else:
            taken = places_of_slice(x.shape[axis], begin, stop, step)
            x = x.index_select(axis, torch.tensor(taken, dtype=torch.int64))
    return x


@operator("Pad")
def _pad(
    call: Call, x: Value, pads: Value, fill: Value | None = None, axes: Value | None = None
) -> Value:
    along, given = axes_of(axes, x.dim()), ints(pads) or []
    around = [0] * 2 * x.dim()
    for at, axis in enumerate(along):
        around[axis], around[axis + x.dim()] = given[at], given[at + len(along)]
    mode = call.attr("mode", "constant")
    if mode == "constant":
        value = 0.0 if fill is None else fill.item()
        return functional.pad(x, pads_of(around), value=value)
    for axis in range(x.dim()):
        x = _continued(x, axis, around[axis], around[axis + x.dim()], mode)
    return x


def _continued(x: Value, axis: int, begin: int, end: int, mode: str) -> Value:
    """Repeat or mirror one axis beyond its ends."""
    if begin == end == 0:
        return x
    size = x.shape[axis]
    places = torch.arange(-begin, size + end)
    if mode == "edge":
        places = places.clamp(0, size - 1)
    elif mode == "wrap":
        places = places % size
    else:
        period = max(2 * (size - 1), 1)
        places = places % period
        places = torch.minimum(places, period - places)
    return x.index_select(axis, places)


@operator("Compress")
def _compress(call: Call, x: Value, condition: Value) -> Value:
    axis = call.attr("axis")
    x, axis = (x.reshape(-1), 0) if axis is None else (x, axis)
    return x.index_select(axis, condition.reshape(-1).nonzero().reshape(-1))


@operator("Trilu")
def _trilu(call: Call, x: Value, k: Value | None = None) -> Value:
    diagonal = 0 if k is None else int(k)
    return torch.triu(x, diagonal) if call.attr("upper", 1) else torch.tril(x, diagonal)


# Gathering and scattering -------------------------------------------------------------------------


@operator("Gather")
def _gather(call: Call, x: Value, places: Value) -> Value:
    axis = call.attr("axis", 0) % x.dim()
    taken = x.index_select(axis, index(places, x.shape[axis]).reshape(-1))
    return taken.reshape(x.shape[:axis] + places.shape + x.shape[axis + 1 :])


@operator("GatherElements")
def _gather_elements(call: Call, x: Value, places: Value) -> Value:
    axis = call.attr("axis", 0)
    return x.gather(axis, index(places, x.shape[axis]))


@operator("GatherND")
def _gather_nd(call: Call, x: Value, places: Value) -> Value:
    batch = call.attr("batch_dims", 0)
    if batch:
        shape = x.shape[:batch]
        rows, tuples = x.reshape(-1, *x.shape[batch:]), places.reshape(-1, *places.shape[batch:])
        found = [row[_tuple(row, at)] for row, at in zip(rows, tuples, strict=True)]
        return torch.stack(found).reshape(shape + found[0].shape)
    return x[_tuple(x, places)]


def _tuple(x: Value, places: Value) -> tuple[Value, ...]:
    return tuple(index(places[..., at], x.shape[at]) for at in range(places.shape[-1]))


_REDUCE = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


@operator("ScatterElements")
def _scatter_elements(call: Call, x: Value, places: Value, updates: Value) -> Value:
    axis, how = call.attr("axis", 0), call.attr("reduction", "none")
    at = index(places, x.shape[axis])
    if how == "none":
        return x.scatter(axis, at, updates)
    return x.scatter_reduce(axis, at, updates, _REDUCE[how])


@operator("ScatterND")
def _scatter_nd(call: Call, x: Value, places: Value, updates: Value) -> Value:
    how, depth = call.attr("reduction", "none"), places.shape[-1]
    sizes, inner = x.shape[:depth], math.prod(x.shape[depth:])
    row = torch.zeros(places.shape[:-1], dtype=torch.int64)
    for at, size in enumerate(sizes):
        row = row * size + index(places[..., at], size)
    flat, values = x.reshape(-1, inner), updates.reshape(-1, inner)
    rows = row.reshape(-1, 1).expand(-1, inner)
    if how == "none":
        return flat.scatter(0, rows, values).reshape(x.shape)
    return flat.scatter_reduce(0, rows, values, _REDUCE[how]).reshape(x.shape)


@operator("OneHot")
def _one_hot(call: Call, places: Value, depth: Value, values: Value) -> Value:
    size = int(depth.reshape(()))
    axis = call.attr("axis", -1) % (places.dim() + 1)
    at = places.long().unsqueeze(axis)
    at = torch.where(at < 0, at + size, at)
    shape = [size if place == axis else 1 for place in range(at.dim())]
    hits = at == torch.arange(size).reshape(shape)
    return torch.where(hits, values[1], values[0])


@operator("NonZero")
def _non_zero(call: Call, x: Value) -> Value:
    return x.nonzero().T


# Making -------------------------------------------------------------------------------------------


@operator("ConstantOfShape")
def _constant_of_shape(call: Call, shape: Value) -> Value:
    value: Any = call.attr("value")
    filled = torch.zeros(1) if value is None else _tensor(value)
    return filled.reshape(()).expand(ints(shape) or []).clone()


def _tensor(value: Any) -> Value:
    dtype = carrier(value.elem_type)
    return torch.tensor(value.values.tolist(), dtype=dtype)


@operator("Range")
def _range(call: Call, start: Value, limit: Value, delta: Value) -> Value:
    count = max(math.ceil((limit - start).item() / delta.item()), 0)
    return start + torch.arange(count, dtype=start.dtype) * delta


@operator("EyeLike")
def _eye_like(call: Call, x: Value) -> Value:
    shape, by = x.shape, call.attr("k", 0)
    rows, columns = torch.arange(shape[0])[:, None], torch.arange(shape[1])
    dtype = carrier(call.attr("dtype")) if call.attr("dtype") else x.dtype
    return (columns - rows == by).to(dtype)


# Rearranging --------------------------------------------------------------------------------------


def _rearranged(x: Value, shape: Sequence[int], order: Sequence[int], to: Sequence[int]) -> Value:
    return x.reshape(list(shape)).permute(list(order)).reshape(list(to))


@operator("DepthToSpace")
def _depth_to_space(call: Call, x: Value) -> Value:
    n, c, h, w = x.shape
    b = call.attr("blocksize")
    to = (n, c // (b * b), h * b, w * b)
    if call.attr("mode", "DCR") == "CRD":
        return _rearranged(x, (n, to[1], b, b, h, w), (0, 1, 4, 2, 5, 3), to)
    return _rearranged(x, (n, b, b, to[1], h, w), (0, 3, 4, 1, 5, 2), to)


@operator("SpaceToDepth")
def _space_to_depth(call: Call, x: Value) -> Value:
    n, c, h, w = x.shape
    b = call.attr("blocksize")
    to = (n, c * b * b, h // b, w // b)
    depth_first = call.attr("mode", "DCR") == "DCR"
    order = (0, 3, 5, 1, 2, 4) if depth_first else (0, 1, 3, 5, 2, 4)
    return _rearranged(x, (n, c, to[2], b, to[3], b), order, to)


@operator("ReverseSequence")
def _reverse_sequence(call: Call, x: Value, lengths: Value) -> Value:
    steps, batch = call.attr("time_axis", 0), call.attr("batch_axis", 1)
    moved = x.movedim((batch, steps), (0, 1))
    at = torch.arange(moved.shape[1]).expand(moved.shape[:2])
    ends = lengths.reshape(-1, 1)
    at = torch.where(at < ends, ends - 1 - at, at)
    rows = torch.arange(moved.shape[0]).reshape(-1, 1)
    return moved[rows, at].movedim((0, 1), (batch, steps))


@operator("CumSum")
def _cum_sum(call: Call, x: Value, axis: Value) -> Value:
    along = int(axis.reshape(()))
    turned = x.flip(along) if call.attr("reverse", 0) else x
    total = torch.cumsum(turned, along, dtype=x.dtype)
    total = total - turned if call.attr("exclusive", 0) else total
    return total.flip(along) if call.attr("reverse", 0) else total


@operator("TopK")
def _top_k(call: Call, x: Value, k: Value) -> tuple[Value, Value]:
    axis, largest = call.attr("axis", -1), bool(call.attr("largest", 1))
    order = torch.sort(x, dim=axis, descending=largest, stable=True)
    count = int(k.reshape(()))
    return order.values.narrow(axis, 0, count), order.indices.narrow(axis, 0, count)
