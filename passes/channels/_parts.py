"""Transfer functions of operators that take parts of tensors, or put tensors together."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnxslim import ir
from onnxslim.errors import Declined
from onnxslim.ir import Array, Constant
from onnxslim.passes.channels._analysis import LARGEST, Site, Transfer
from onnxslim.passes.channels._movement import renumbered
from onnxslim.passes.channels._values import ONE, Channels
from onnxslim.rewrite import Builder
from onnxslim.shapes import places_of_slice


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
            sizes = {known.base.shape[a] for known in wide}
            most = max(sizes)
            site.require(sizes <= {1, most}, "what it joins differs in size")
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
    return [joined.at(*_across(site, given))]


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


def _across(site: Site, given: Sequence[Channels]) -> tuple[int | None, Array]:
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
    left = [t for t in site.node.inputs if not isinstance(t, Constant) or t.shape[axis]]
    if len(left) < len(site.node.inputs):
        ir.set_inputs(site.node, left)


def _split(site: Site) -> list[Channels]:
    known = site.of(0)
    axis = int(site.node.attr("axis", 0)) % known.rank
    extents = [site.dim(tensor, axis) for tensor in site.node.outputs]
    if known.base.shape[axis] == 1 and known.axis != axis:
        return [renumbered(site, known) for _ in extents]
    site.require(None not in extents, "it is split into parts of unknown size")
    ends = np.cumsum([0, *extents])
    wide = site.values.spread(known, axis, int(ends[-1]), broadcasts=False)
    site.require(wide.base.shape[axis] == ends[-1], "its parts do not add up")
    return [
        part(site, known, wide, axis, np.arange(start, end))
        for start, end in itertools.pairwise(ends.tolist())
    ]


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
        places = np.array(places_of_slice(extent, start, end, step), int)
        site.require(len(places), "nothing is left of it")
        wide = site.values.spread(result, a, extent, broadcasts=False)
        result = part(site, result, wide, a, places)
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
    chosen = np.array(places_of_slice(len(kept), start, end, step), int)
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


# Padding ------------------------------------------------------------------------------------------


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
        else:  # by copies, or where nothing tells the elements apart
            result = site.values.flat(result, a)
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


PARTS = {
    "Concat": Transfer(_concat, _cut_concat),
    "Gather": Transfer(_gather, _cut_gather),
    "Pad": Transfer(_pad, _cut_pad),
    "Slice": Transfer(_slice, _cut_slice),
    "Split": Transfer(_split, _cut_split),
}
