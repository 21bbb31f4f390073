"""Transfer functions of operators that move elements: a permutation of channels is one too."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from onnxslim import ir
from onnxslim.errors import Declined
from onnxslim.ir import Array, Constant
from onnxslim.passes.channels._analysis import LARGEST, Site, Transfer, nothing
from onnxslim.passes.channels._values import ONE, Channels
from onnxslim.rewrite import Builder
from onnxslim.shapes.expr import Expr


def renumbered(site: Site, known: Channels) -> Channels:
    """Tell results apart from operands: what is at an index now stood at another one."""
    base = site.values.numbers(("moved", id(site.node)), known.base)
    moved = replace(known, base=np.where(known.base == ONE, ONE, base))
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


# Parts --------------------------------------------------------------------------------------------


def _concat(site: Site) -> list[Channels]:
    count = len(site.node.inputs)
    given = [site.of(slot) for slot in range(count)]
    rank = given[0].rank
    site.require(all(known.rank == rank for known in given), "its operands differ in rank")
    axis = int(site.node.attr("axis", 1)) % rank
    extents = [site.dim(tensor, axis) for tensor in site.node.inputs]
    site.require(None not in extents, "it is joined with something of unknown size")
    wide = [
        site.values.spread(known, axis, int(n or 0), n == 1)
        for known, n in zip(given, extents, strict=True)
    ]
    for a in range(rank):
        if a != axis:
            most = max(known.base.shape[a] for known in wide)
            singles = [site.dim(t, a) == 1 for t in site.node.inputs]
            wide = [
                site.values.spread(known, a, most, single)
                for known, single in zip(wide, singles, strict=True)
            ]
    joined = Channels(
        np.concatenate([known.base for known in wide], axis),
        np.concatenate([known.scale for known in wide], axis),
        np.concatenate([known.slack for known in wide], axis),
        np.concatenate([known.size for known in wide], axis),
    )
    if all(known.axis in (None, axis) for known in given):
        return [joined.at(axis, _joined(site, given, extents))]
    return [joined.at(*_across(site, given, axis))]


def _joined(site: Site, given: Sequence[Channels], extents: Sequence[int | None]) -> Array:
    parts = []
    for slot, (known, extent) in enumerate(zip(given, extents, strict=True)):
        if known.axis is not None:
            parts.append(known.places)
        elif isinstance(site.node.inputs[slot], Constant):
            parts.append(site.places.fresh(extent or 0))
        else:
            parts.append(np.zeros(extent or 0, np.int64))
    return np.concatenate(parts)


def _across(site: Site, given: Sequence[Channels], axis: int) -> tuple[int | None, Array]:
    """Tie channels that lie along another axis than the one that is joined."""
    axes = {known.axis for known in given}
    sizes = {len(known.places) for known in given}
    if len(axes) != 1 or len(sizes) != 1:
        raise Declined("Concat joins it with what cannot be cut")
    for known in given[1:]:
        site.places.tie(given[0].places, known.places)
    return given[0].axis, given[0].places


def _cut_concat(site: Site, new: Builder) -> None:
    """Cut constants that are joined; of some, nothing may be left."""
    cut = site.mask(site.node.outputs[0])
    if cut is None:
        return
    axis, kept = cut
    start = 0
    for slot, tensor in enumerate(site.node.inputs):
        known = site.analysis.of(tensor)
        extent = known.base.shape[axis]
        if isinstance(tensor, Constant):
            extent = tensor.shape[axis]
            mask = kept[start : start + extent]
            if not mask.all():
                site.replace(slot, np.compress(mask, tensor.values, axis), new)
        elif known.axis == axis:
            extent = len(known.places)
        else:
            extent = site.dim(tensor, axis) or 1
        start += extent
    left = [t for t in site.node.inputs if not isinstance(t, Constant) or t.size]
    if len(left) < len(site.node.inputs):
        ir.set_inputs(site.node, left)


def _split(site: Site) -> list[Channels]:
    known = site.of(0)
    axis = int(site.node.attr("axis", 0)) % known.rank
    extents = [site.dim(tensor, axis) for tensor in site.node.outputs]
    if known.base.shape[axis] == 1 and known.axis != axis:
        return [renumbered_part(site, known, slot) for slot in range(len(extents))]
    site.require(None not in extents, "it is split into parts of unknown size")
    ends = np.cumsum([0, *extents])
    wide = site.values.spread(known, axis, int(ends[-1]), broadcasts=False)
    site.require(wide.base.shape[axis] == ends[-1], "its parts do not add up")
    return [
        part(site, known, wide, axis, np.arange(start, end))
        for start, end in itertools.pairwise(ends.tolist())
    ]


def renumbered_part(site: Site, known: Channels, slot: int) -> Channels:
    """Tell the parts of a tensor apart along an axis of which nothing is known."""
    base = site.values.numbers(("part", id(site.node), slot), known.base)
    moved = replace(known, base=np.where(known.base == ONE, ONE, base))
    return moved.at(known.axis, known.places)


def part(site: Site, known: Channels, wide: Channels, axis: int, indices: Array) -> Channels:
    """Take *indices* along *axis* of a tensor whose elements there are told apart."""
    taken = wide.each(lambda array: np.take(array, indices, axis))
    places = known.places[indices] if known.axis == axis else known.places
    if len(places) == 1:
        site.places.keep(places, "it is the only channel of a part")
    return taken.at(known.axis, places)


def _cut_split(site: Site, new: Builder) -> None:
    """Write the sizes of the parts."""
    cut = site.mask(site.node.inputs[0])
    known = site.analysis.of(site.node.inputs[0])
    axis = int(site.node.attr("axis", 0)) % known.rank
    if cut is None or cut[0] != axis:
        return
    sizes, start = [], 0
    for tensor in site.node.outputs:
        extent = site.dim(tensor, axis) or 0
        sizes.append(int(cut[1][start : start + extent].sum()))
        start += extent
    attrs = {k: v for k, v in site.node.attrs.items() if k not in ("split", "num_outputs")}
    if site.version < 13:
        site.node.attrs = {**attrs, "split": sizes}
    else:
        site.node.attrs = attrs
        site.replace(1, np.array(sizes, np.int64), new)


def _gather(site: Site) -> list[Channels]:
    if isinstance(site.node.inputs[0], Constant):
        return _embedding(site)
    known, indices = site.of(0), site.node.constant(1)
    axis = int(site.node.attr("axis", 0)) % known.rank
    if indices is None:
        return _anywhere(site, known, axis)
    extent = site.dim(site.node.inputs[0], axis)
    if known.base.shape[axis] == 1 and known.axis != axis:
        return _anywhere(site, known, axis)
    site.require(extent is not None and indices.ndim <= 1, "it is gathered in an odd way")
    assert extent is not None
    chosen = np.asarray(indices, np.int64).reshape(-1)
    chosen = np.where(chosen < 0, chosen + extent, chosen)
    site.require(((chosen >= 0) & (chosen < extent)).all(), "an index is out of range")
    wide = site.values.spread(known, axis, extent, broadcasts=False)
    taken = part(site, known, wide, axis, chosen)
    if indices.ndim:
        return [taken]
    if known.axis == axis:
        site.places.keep(taken.places, "Gather picks it")
        site.places.keep(known.places[chosen], "Gather picks it")
        taken = taken.at(None, taken.places)
    place = None if taken.axis is None else taken.axis - (taken.axis > axis)
    return [taken.each(lambda array: np.squeeze(array, axis)).at(place, taken.places)]


def _anywhere(site: Site, known: Channels, axis: int) -> list[Channels]:
    """Gather along an axis of which nothing is known; the channels lie along another one."""
    result = site.unknown()
    site.require(known.axis != axis, "Gather picks it by computed indices")
    more = result.rank - known.rank
    if known.base.shape[axis] == 1:
        dims = known.base.shape
        shape = (*dims[:axis], *[1] * (more + 1), *dims[axis + 1 :])
        result = renumbered(site, known.each(lambda array: array.reshape(shape)))
    if known.axis is None:
        return [result]
    place = known.axis if known.axis < axis else known.axis + more
    return [result.at(place, known.places)]


def _embedding(site: Site) -> list[Channels]:
    """Look rows of a constant table up: its columns are channels like the rows of a layer."""
    table = site.node.inputs[0]
    assert isinstance(table, Constant)
    axis, rank = int(site.node.attr("axis", 0)), len(table.shape)
    result = site.unknown()
    if rank != 2 or axis % rank or len(set(table.outputs)) > 1 or table.shape[1] > LARGEST:
        return [result]
    return [result.at(result.rank - 1, site.places.fresh(table.shape[1]))]


def _cut_gather(site: Site, new: Builder) -> None:
    table = site.node.inputs[0]
    if isinstance(table, Constant):
        cut = site.mask(site.node.outputs[0])
        if cut is not None:
            site.replace(0, np.ascontiguousarray(table.values[:, cut[1]]), new)
        return
    _cut_indices(site, new)


def _cut_indices(site: Site, new: Builder) -> None:
    known = site.analysis.of(site.node.inputs[0])
    axis = int(site.node.attr("axis", 0)) % known.rank
    before, indices = site.mask(site.node.inputs[0]), site.node.constant(1)
    if before is None or before[0] != axis or indices is None:
        return
    kept = before[1]
    position = np.cumsum(kept) - 1
    chosen = np.where(indices < 0, indices + len(kept), indices).astype(np.int64)
    made = position[chosen[kept[chosen]]] if chosen.ndim else position[chosen]
    site.replace(1, made, new)


def _slice(site: Site) -> list[Channels]:
    known = site.of(0)
    axes = _axes_of_slice(site, known.rank)
    extents = {a: site.dim(site.node.inputs[0], a) for a in axes}
    result = known
    for a, (start, end, step) in axes.items():
        if known.base.shape[a] == 1 and known.axis != a:
            continue
        extent = extents[a]
        site.require(extent is not None, "it is sliced where its size is not known")
        site.require(step == 1 or len(axes) == 1, "it is sliced in steps along several axes")
        assert extent is not None
        wide = site.values.spread(result, a, extent, broadcasts=False)
        result = part(site, result, wide, a, np.arange(extent)[start:end:step])
    unseen = any(known.base.shape[a] == 1 for a in axes)
    return [renumbered(site, result) if unseen else result]


def _axes_of_slice(site: Site, rank: int) -> dict[int, tuple[int, int, int]]:
    node = site.node
    if site.version < 10:
        starts, ends = list(node.attr("starts")), list(node.attr("ends"))
        axes, steps = list(node.attr("axes", range(len(starts)))), [1] * len(starts)
    else:
        given = [_list(site, slot) for slot in range(1, len(node.inputs))]
        starts, ends = given[:2]
        axes, steps = (*given[2:], [], [])[:2]
        axes, steps = axes or list(range(len(starts))), steps or [1] * len(starts)
    return {
        int(a) % rank: (int(s), int(e), int(t))
        for a, s, e, t in zip(axes, starts, ends, steps, strict=True)
    }


def _list(site: Site, slot: int) -> list[int]:
    tensor = site.node.input(slot)
    site.require(tensor is None or isinstance(tensor, Constant), "its bounds are computed")
    return tensor.values.tolist() if isinstance(tensor, Constant) else []


def _cut_slice(site: Site, new: Builder) -> None:
    cut = site.mask(site.node.inputs[0])
    known = site.analysis.of(site.node.inputs[0])
    axes = _axes_of_slice(site, known.rank)
    if cut is None or cut[0] not in axes:
        return
    axis, kept = cut
    start, end, step = axes[axis]
    chosen = np.arange(len(kept))[start:end:step]
    chosen = (np.cumsum(kept) - 1)[chosen[kept[chosen]]]
    if step == 1:
        bounds = {**axes, axis: (int(chosen[0]), int(chosen[-1]) + 1, 1)}
        _set_bounds(site, new, list(bounds.values()))
    else:
        site.node.op, site.node.attrs = "Gather", {"axis": axis}
        ir.set_inputs(site.node, [site.node.inputs[0], new.tensor(chosen, "indices")])


def _set_bounds(site: Site, new: Builder, bounds: Sequence[tuple[int, int, int]]) -> None:
    starts, ends = ([bound[i] for bound in bounds] for i in (0, 1))
    if site.version < 10:
        site.node.attrs = {**site.node.attrs, "starts": starts, "ends": ends}
        return
    for slot, values in ((1, starts), (2, ends)):
        before = site.node.constant(slot)
        assert before is not None
        site.replace(slot, np.array(values).astype(before.dtype), new)


# More or fewer elements ---------------------------------------------------------------------------


def _pad(site: Site) -> list[Channels]:
    known = site.of(0)
    pads, value, constant = _padding(site, known.rank)
    axis = known.axis
    padded = {a for a in range(known.rank) if pads[a] or pads[a + known.rank]}
    site.require(constant or axis not in padded, "it is padded with other channels")
    result = known
    for a in padded:
        if a == axis or (known.base.shape[a] > 1 and constant):
            result = _padded(site, result, a, pads[a], pads[a + known.rank], value)
    others = padded - {axis}
    if not others:
        return [result]
    moved = renumbered(site, result)
    lost = moved.constant & (moved.scale != value) & constant
    fresh = site.values.numbers(("padded", id(site.node)), moved.scale)
    made = replace(
        moved, base=np.where(lost, fresh, moved.base), scale=np.where(lost, 1.0, moved.scale)
    )
    return [made.at(moved.axis, moved.places)]


def _padding(site: Site, rank: int) -> tuple[list[int], float, bool]:
    """Return pads, the value and whether it is one: begins, then ends, of every axis."""
    node, constant = site.node, site.node.attr("mode", "constant") == "constant"
    if site.version < 11:
        return list(node.attr("pads", ())), float(node.attr("value", 0.0)), constant
    pads, value = node.constant(1), node.constant(2)
    known = pads is not None and (value is not None or node.input(2) is None)
    site.require(known and node.input(3) is None, "its padding is computed")
    assert pads is not None
    site.require(len(pads) == 2 * rank, "its padding does not fit")
    number = 0.0 if value is None else float(value.reshape(-1)[0])
    return [int(pad) for pad in pads], number, constant


def _padded(
    site: Site, known: Channels, axis: int, front: int, back: int, value: float
) -> Channels:
    site.require(front >= 0 and back >= 0, "its padding is negative")

    def around(array: Array, fill: float) -> Array:
        widths = [(front, back) if a == axis else (0, 0) for a in range(array.ndim)]
        return np.pad(array, widths, constant_values=fill)

    extent = site.dim(site.node.inputs[0], axis)
    site.require(extent is not None, "its size is not known")
    wide = site.values.spread(known, axis, extent or 0, broadcasts=False)
    joined = Channels(
        around(wide.base, ONE),
        around(wide.scale, value),
        around(wide.slack, 0.0),
        around(wide.size, abs(value)),
    )
    if known.axis != axis:
        return joined.at(known.axis, known.places)
    edges = site.places.fresh(front), site.places.fresh(back)
    return joined.at(axis, np.concatenate([edges[0], known.places, edges[1]]))


def _cut_pad(site: Site, new: Builder) -> None:
    cut = site.mask(site.node.outputs[0])
    known = site.analysis.of(site.node.inputs[0])
    if cut is None:
        return
    pads, _, _ = _padding(site, known.rank)
    axis, kept = cut
    front, back = pads[axis], pads[axis + known.rank]
    if not (front or back):
        return
    pads[axis] = int(kept[:front].sum())
    pads[axis + known.rank] = int(kept[len(kept) - back :].sum()) if back else 0
    if site.version < 11:
        site.node.attrs = {**site.node.attrs, "pads": pads}
    else:
        site.replace(1, np.array(pads, np.int64), new)


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
    "Concat": Transfer(_concat, _cut_concat),
    "DepthToSpace": Transfer(_depth_to_space, nothing),
    "Expand": Transfer(_expand, _cut_expand),
    "Flatten": Transfer(_reshape, nothing),
    "Gather": Transfer(_gather, _cut_gather),
    "Pad": Transfer(_pad, _cut_pad),
    "Reshape": Transfer(_reshape_by_constant, _cut_reshape),
    "Slice": Transfer(_slice, _cut_slice),
    "SpaceToDepth": Transfer(_space_to_depth, nothing),
    "Split": Transfer(_split, _cut_split),
    "Squeeze": Transfer(_squeeze, nothing),
    "Transpose": Transfer(_transpose, nothing),
    "Unsqueeze": Transfer(_reshape, nothing),
}
