"""Transfer functions of operators that rearrange elements: a permutation of channels is one too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from onnxslim.ir import Array, Constant
from onnxslim.passes.channels._analysis import LARGEST, Site, Transfer, nothing
from onnxslim.passes.channels._values import ONE, Channels
from onnxslim.rewrite import Builder
from onnxslim.shapes.expr import Expr


def renumbered(site: Site, known: Channels) -> Channels:
    """Tell results apart from operands: what is at an index now stood at another one."""
    base = np.where(known.base == ONE, ONE, site.values.moved(known.base))
    moved = replace(known, base=base)
    return moved.at(known.axis, known.places)


def _transpose(site: Site) -> list[Channels]:
    known = site.of(0)
    order = list(site.node.attr("perm", range(known.rank)[::-1]))
    site.require(sorted(order) == list(range(known.rank)), "perm does not fit the rank")
    moved = renumbered(site, known.each(lambda array: array.transpose(order)))
    return [moved.at(None if known.axis is None else order.index(known.axis), known.places)]


# Reshape and its kin ------------------------------------------------------------------------------


def _reshape(site: Site) -> list[Channels]:
    before, after = (site.facts.dims(t) for t in (site.node.inputs[0], site.node.outputs[0]))
    site.require(before is not None and after is not None, "its shape is not known")
    assert before is not None
    assert after is not None
    site.require(0 not in before, "it is empty")
    known = full = site.of(0)
    shape, home = [1] * len(after), None
    for old, new in _blocks(before, after):
        if all(known.base.shape[a] == 1 and a != known.axis for a in old):
            continue
        sizes, extents = _numbers(site, before, old), _numbers(site, after, new)
        site.require(math.prod(sizes) == math.prod(extents), "only what is empty fits")
        for a, extent in zip(old, sizes, strict=True):
            full = site.values.spread(full, a, extent, extent == 1)
            site.require(full.base.size <= LARGEST, "too many elements to tell apart")
        for a, extent in zip(new, extents, strict=True):
            shape[a] = extent
        if known.axis in old:
            home = _Block(old.index(known.axis), sizes, new, extents)
    moved = renumbered(site, full.each(lambda array: array.reshape(shape)))
    return [moved if home is None else _placed(site, moved, known.places, home)]


class _Block(NamedTuple):
    """Axes that are reshaped together, one of which holds the channels."""

    axis: int
    sizes: list[int]
    new: list[int]
    extents: list[int]


def _numbers(site: Site, dims: Sequence[Expr], axes: Sequence[int]) -> list[int]:
    found = [dim for dim in (dims[a] for a in axes) if isinstance(dim, int)]
    site.require(len(found) == len(axes), "it is reshaped with a dimension of unknown size")
    return found


def _blocks(before: Sequence[Expr], after: Sequence[Expr]) -> list[tuple[list[int], list[int]]]:
    """Split two shapes of one tensor into the shortest runs of axes of equal size."""
    left, right = _products(before), _products(after)
    blocks, i, j = [], 0, 0
    while (i, j) != (len(before), len(after)):
        ends = [
            (a, b)
            for a in range(i, len(left))
            for b in range(j, len(right))
            if (a, b) != (i, j) and left[a] == right[b]
        ]
        a, b = min(ends, key=sum, default=(len(before), len(after)))
        blocks.append((list(range(i, a)), list(range(j, b))))
        i, j = a, b
    return blocks


def _products(dims: Sequence[Expr]) -> list[Expr]:
    found: list[Expr] = [1]
    for dim in dims:
        found.append(found[-1] * dim)
    return found


def _placed(site: Site, moved: Channels, places: Array, home: _Block) -> Channels:
    """Follow the places through a reshape; where one axis becomes two, only one is cut."""
    shape = [len(places) if i == home.axis else 1 for i in range(len(home.sizes))]
    table = np.broadcast_to(places.reshape(shape), home.sizes).reshape(home.extents)
    varying = [i for i in range(table.ndim) if _varies(table, i)]
    if not varying:
        return moved
    chosen = _most_removable(moved, home.new, varying)
    rows = np.moveaxis(table, chosen, -1).reshape(-1, table.shape[chosen])
    for row in rows[1:]:
        site.places.tie(rows[0], row)
    return moved.at(home.new[chosen], rows[0].copy())


def _varies(places: Array, axis: int) -> bool:
    return bool((places != np.take(places, [0], axis)).any())


def _most_removable(moved: Channels, new: Sequence[int], varying: Sequence[int]) -> int:
    """Choose the axis along which most channels are constant as a whole; else the longest."""

    def gain(index: int) -> tuple[int, int]:
        axis = new[index]
        others = tuple(a for a in range(moved.rank) if a != axis)
        whole = np.asarray(moved.constant.all(others))
        return int(whole.sum()) * moved.base.size // max(1, len(whole)), len(whole)

    return max(varying, key=gain)


def _cut_reshape(site: Site, new: Builder) -> None:
    """Write the new extent into the target shape."""
    cut = site.mask(site.node.outputs[0])
    if cut is None or site.node.operator != "Reshape":
        return
    axis, kept = cut
    if site.version < 5:
        shape = list(site.node.attr("shape"))
        shape[axis] = int(kept.sum()) if shape[axis] > 0 else shape[axis]
        site.node.attrs = {**site.node.attrs, "shape": shape}
        return
    target, before = site.node.inputs[1], site.mask(site.node.inputs[0])
    assert isinstance(target, Constant)
    values = np.array(target.values)
    if before is not None:  # what copies the extent of another axis states its own
        for a in np.flatnonzero(values == 0).tolist():
            if (a == before[0]) != (a == axis):
                values[a] = site.dim(site.node.outputs[0], a) or 0
    if values[axis] > 0:
        values[axis] = int(kept.sum())
    if not np.array_equal(values, target.values):
        site.replace(1, values, new)


def _squeeze(site: Site) -> list[Channels]:
    """Axes that are not named are those of one element, and a cut could leave one."""
    named = site.node.attr("axes") or site.node.input(1)
    site.require(named, "Squeeze takes every axis of one element")
    return _reshape(site)


def _reshape_by_constant(site: Site) -> list[Channels]:
    if site.version >= 5:
        site.require(isinstance(site.node.inputs[1], Constant), "its target shape is computed")
    return _reshape(site)


def _expand(site: Site) -> list[Channels]:
    site.require(isinstance(site.node.inputs[1], Constant), "its target shape is computed")
    return [site.of(0).leading(site.unknown().rank)]


def _cut_expand(site: Site, new: Builder) -> None:
    cut = site.mask(site.node.outputs[0])
    target = site.node.constant(1)
    if cut is None or target is None:
        return
    axis, kept = cut
    rank = site.analysis.of(site.node.outputs[0]).rank
    own = axis - (rank - len(target))
    if own >= 0 and target[own] == len(kept):
        values = np.array(target)
        values[own] = int(kept.sum())
        site.replace(1, values, new)


# Blocks -------------------------------------------------------------------------------------------


def _depth_to_space(site: Site) -> list[Channels]:
    size = int(site.node.attr("blocksize")) ** 2
    extent = site.dim(site.node.inputs[0], 1)
    site.require(extent is not None, "its size is not known")
    assert extent is not None
    known, count = site.along(0, 1, extent), extent // size
    shape = (size, count) if site.node.attr("mode", "DCR") == "DCR" else (count, size)
    blocks = shape.index(size)
    table = known.each(lambda array: array.reshape(1, *shape, 1, 1))
    flat = site.values.flat(table, 1 + blocks).each(lambda a: a.reshape(1, count, 1, 1))
    places = np.moveaxis(known.places.reshape(shape), blocks, 0) if known.axis is not None else None
    moved = renumbered(site, flat)
    if places is None:
        return [moved]
    for row in places[1:]:
        site.places.tie(places[0], row)
    if count == 1:
        site.places.keep(places[0], "a tensor cannot be empty")
    return [moved.at(1, places[0].copy())]


def _space_to_depth(site: Site) -> list[Channels]:
    size = int(site.node.attr("blocksize")) ** 2
    extent = site.dim(site.node.inputs[0], 1)
    site.require(extent is not None, "its size is not known")
    assert extent is not None
    known = site.along(0, 1, extent)
    block = np.repeat(np.arange(size), extent).reshape(1, -1, 1, 1)
    wide = known.each(lambda array: np.tile(array, (1, size, 1, 1)))
    base = site.values.numbers(("block", id(site.node)), wide.base, block)
    moved = replace(wide, base=np.where(wide.base == ONE, ONE, base))
    return [moved.at(None if known.axis is None else 1, np.tile(known.places, size))]


MOVEMENT = {
    "DepthToSpace": Transfer(_depth_to_space, nothing),
    "Expand": Transfer(_expand, _cut_expand),
    "Flatten": Transfer(_reshape, nothing),
    "Reshape": Transfer(_reshape_by_constant, _cut_reshape),
    "SpaceToDepth": Transfer(_space_to_depth, nothing),
    "Squeeze": Transfer(_squeeze, nothing),
    "Transpose": Transfer(_transpose, nothing),
    "Unsqueeze": Transfer(_reshape, nothing),
}
