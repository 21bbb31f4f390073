"""Transfer functions of operators that treat every channel by itself: norms, pooling, resizing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from onnxslim import ir
from onnxslim.errors import Declined
from onnxslim.ir import Array, Constant, Node
from onnxslim.passes.channels._analysis import FLOATS, Site, Transfer, nothing
from onnxslim.passes.channels._layers import append, is_padded, linear_of
from onnxslim.passes.channels._linear import SPREAD, Linear, unit_roundoff
from onnxslim.passes.channels._movement import renumbered
from onnxslim.passes.channels._seeds import is_near
from onnxslim.passes.channels._values import ONE, Channels
from onnxslim.rewrite import Builder


def _parameters(site: Site, slots: Sequence[int]) -> list[Array]:
    found = []
    for slot in slots:
        weight = site.weight(slot)
        site.require(weight is not None and len(weight.shape) == 1, "its parameters are odd")
        assert weight is not None
        found.append(weight.values.astype(np.float64))
    site.require(all(np.isfinite(values).all() for values in found), "a parameter is not finite")
    return found


def _cut_parameters(slots: Sequence[int]) -> Callable[[Site, Builder], None]:
    def cut(site: Site, new: Builder) -> None:
        mask = site.mask(site.node.outputs[0])
        if mask is None:
            return
        for slot in slots:
            tensor = site.node.inputs[slot]
            assert isinstance(tensor, Constant)
            site.replace(slot, tensor.values[mask[1]], new)

    return cut


def _batch_norm(site: Site) -> list[Channels]:
    """Y = gamma · (x - mean) / sqrt(var + epsilon) + beta, from running statistics."""
    node = site.node
    site.require(not _trains(node, site.version), "BatchNormalization is in training mode")
    site.require(site.version >= 9 or node.attr("spatial", 1), "its statistics are per element")
    gamma, beta, mean, var = _parameters(site, range(1, 5))
    x = site.along(0, 1, len(gamma))
    shape = x.base.shape
    with np.errstate(all="ignore"):
        scale = gamma / np.sqrt(var + node.attr("epsilon", 1e-5))
    site.require(np.isfinite(scale).all(), "its statistics are not finite")
    gamma, beta, mean, scale = (v.reshape(shape) for v in (gamma, beta, mean, scale))
    base = site.values.numbers(("affine",), x.base, x.scale * scale, beta - mean * scale)
    size = np.abs(gamma) + np.abs(beta)
    spread = np.abs(gamma) * SPREAD
    near = is_near(gamma, size) & ~x.constant
    values = np.where(x.constant, (x.scale - mean) * scale + beta, np.where(near, beta, 1.0))
    slack = np.where(x.constant, x.slack * np.abs(scale), np.where(near, spread, 0.0))
    weight = node.inputs[1]
    assert isinstance(weight, Constant)
    slack = np.where(slack < unit_roundoff(weight) / 2 * np.abs(values), 0.0, slack)
    made = Channels(np.where(x.constant | near, ONE, base), values, slack, size)
    return [made.at(x.axis, x.places)]


def _trains(node: Node, version: int) -> bool:
    if version >= 14:
        return bool(node.attr("training_mode", 0))
    if version >= 7:
        return sum(bool(tensor.name) for tensor in node.outputs) > 1
    return not node.attr("is_test", 0)


def _instance_norm(site: Site) -> list[Channels]:
    """A constant channel has no deviation: what is left is the bias."""
    gamma, beta = _parameters(site, (1, 2))
    x = site.along(0, 1, len(gamma))
    gamma, beta = gamma.reshape(x.base.shape), beta.reshape(x.base.shape)
    known = (x.constant & (x.slack == 0)) | (gamma == 0)
    base = site.values.numbers(("norm", id(site.node)), x.base, gamma, beta)
    made = Channels(
        np.where(known, ONE, base),
        np.where(known, beta, 1.0),
        np.zeros(beta.shape),
        np.abs(gamma) + np.abs(beta),
    )
    return [made.at(x.axis, x.places)]


# Pooling and resizing -----------------------------------------------------------------------------


def _per_channel(site: Site, constant: bool) -> list[Channels]:
    """Treat the channels of axis 1 alike, over all other axes but the first.

    *constant* says whether a constant channel stays what it is.
    """
    known = site.of(0)
    site.require(known.axis in (None, 0, 1), f"{site.node.operator} works along it")
    for axis in range(2, known.rank):
        known = site.values.flat(known, axis)
    moved = renumbered(site, known)
    if constant:
        return [moved]
    fresh = site.values.numbers(("pooled", id(site.node)), known.base, known.scale)
    zero = known.constant & (known.scale == 0)
    opaque = replace(
        moved,
        base=np.where(zero, ONE, fresh),
        scale=np.where(zero, moved.scale, 1.0),
    )
    return [opaque.at(moved.axis, moved.places)]


def _average_pool(site: Site) -> list[Channels]:
    counts = site.node.attr("count_include_pad", 0) and is_padded(site.node)
    return _per_channel(site, constant=not counts and not site.node.attr("ceil_mode", 0))


def _max_pool(site: Site) -> list[Channels]:
    indices = len(site.node.outputs) > 1 and site.node.outputs[1].outputs
    site.require(not indices, "the indices of MaxPool are read")
    return _per_channel(site, constant=True)


def _kept_constant(site: Site) -> list[Channels]:
    return _per_channel(site, constant=True)


def _not_constant(site: Site) -> list[Channels]:
    return _per_channel(site, constant=False)


def _resize(site: Site) -> list[Channels]:
    """Channels must keep their number; interpolating a constant gives the constant."""
    node = site.node
    mode = node.attr("coordinate_transformation_mode", "half_pixel")
    site.require(mode != "tf_crop_and_resize", "it is cropped")
    for other in node.inputs[1:]:
        site.require(not other.name or isinstance(other, Constant), "its size is computed")
    known = site.of(0)
    for axis in range(known.rank):
        before, after = (site.facts.dims(t) for t in (node.inputs[0], node.outputs[0]))
        same = before is not None and after is not None and before[axis] == after[axis]
        if not same:
            site.require(known.axis != axis, "it is resized along the channels")
            known = site.values.flat(known, axis)
    return [renumbered(site, known)]


def _cut_resize(site: Site, new: Builder) -> None:
    cut, sizes = site.mask(site.node.outputs[0]), site.node.constant(3)
    if cut is None or sizes is None:
        return
    axis, kept = cut
    axes = list(site.node.attr("axes", range(len(sizes))))
    if axis in axes:
        values = np.array(sizes)
        values[axes.index(axis)] = int(kept.sum())
        site.replace(3, values, new)


# Reductions and the like --------------------------------------------------------------------------


def _reduced_axes(site: Site, rank: int) -> list[int]:
    node = site.node
    since = 13 if node.op == "ReduceSum" else 18
    if site.version < since:
        axes = node.attr("axes", range(rank))
    else:
        tensor = node.input(1)
        site.require(tensor is None or isinstance(tensor, Constant), "its axes are computed")
        given = node.constant(1)
        none = given is None or not given.size
        site.require(not (none and node.attr("noop_with_empty_axes", 0)), "it reduces nothing")
        axes = range(rank) if none else given
    return sorted(int(a) % rank for a in axes)


_ZERO_STAYS = frozenset({"ReduceL1", "ReduceL2", "ReduceSum", "ReduceSumSquare"})
_CONSTANT_STAYS = frozenset({"ReduceMean", "ReduceMax", "ReduceMin"})


def _reduce(site: Site) -> list[Channels]:
    known, operator = site.of(0), site.node.operator
    axes = _reduced_axes(site, known.rank)
    if known.axis in axes:
        _read_all(site, known)
    kept = [a for a in range(known.rank) if a not in axes or site.node.attr("keepdims", 1)]
    flat = known
    for axis in axes:
        flat = site.values.flat(flat, axis)
    base = site.values.numbers(("reduced", id(site.node)), flat.base, flat.scale)
    stays = flat.constant & (operator in _CONSTANT_STAYS)
    stays |= flat.constant & (flat.scale == 0) & (flat.slack == 0) & (operator in _ZERO_STAYS)
    made = replace(
        flat,
        base=np.where(stays, ONE, base),
        scale=np.where(stays, flat.scale, 1.0),
        slack=np.where(stays, flat.slack, 0.0),
        size=flat.size if operator in _CONSTANT_STAYS else np.abs(flat.scale) * stays,
    )
    shape = [made.base.shape[a] for a in kept]
    place = kept.index(known.axis) if known.axis in kept and known.axis not in axes else None
    return [made.each(lambda array: array.reshape(shape)).at(place, known.places)]


def _read_all(site: Site, known: Channels) -> None:
    """Note that the channels are summed over: zeros need not be, nor do constants of a mean."""
    operator, axis = site.node.operator, known.axis
    floats = site.facts.elem_type(site.node.inputs[0]) in FLOATS
    if operator not in (*_ZERO_STAYS, "ReduceMean") or axis is None or not floats:
        raise Declined(f"{operator} reads it")
    count = len(known.places)
    mean = operator == "ReduceMean"
    dtype = site.dtype(site.node.inputs[0])
    unit = unit_roundoff(ir.constant("", np.zeros(1, dtype)))
    weight = np.broadcast_to(np.float64(1 / count if mean else 1.0), (1, count, 1))
    site.analysis.linears.append(
        Linear(
            site.node,
            weight,
            lambda kept: kept,
            site.along(0, axis, count),
            np.zeros(1, np.int64),
            np.zeros(1),
            mean,
            unit,
            rewritable=False,
        )
    )


def _cut_reduce(site: Site, new: Builder) -> None:
    """Correct a mean for the channels that are no longer there."""
    cut = site.mask(site.node.inputs[0])
    linear = linear_of(site)
    if cut is None or linear is None or site.node.operator != "ReduceMean":
        return
    _, kept = cut
    dtype = site.dtype(site.node.inputs[0])
    _, bias = linear.without(kept, np.ones(1, bool))
    factor = np.asarray(kept.sum() / len(kept)).astype(dtype)
    shift = bias[0].astype(dtype)
    append(
        site,
        new,
        lambda result: (
            new.Add(new.Mul(result, factor), shift) if shift else new.Mul(result, factor)
        ),
    )


def _along_axis(site: Site, default: int) -> list[Channels]:
    """Treat all axes but one alike, element by element: Softmax and its kin."""
    known = site.of(0)
    axis = int(site.node.attr("axis", default)) % known.rank
    site.require(site.version >= 13 or axis == known.rank - 1, "it works along several axes")
    site.require(known.axis != axis, f"{site.node.operator} works along it")
    flat = site.values.flat(known, axis)
    base = site.values.numbers(("along", id(site.node)), flat.base, flat.scale)
    made = replace(flat, base=base, scale=np.ones(base.shape), slack=np.zeros(base.shape))
    return [made.at(known.axis, known.places)]


def _softmax(site: Site) -> list[Channels]:
    return _along_axis(site, -1 if site.version >= 13 else 1)


def _tile(site: Site) -> list[Channels]:
    known, repeats = site.of(0), site.node.constant(1)
    site.require(repeats is not None and len(repeats) == known.rank, "its repeats are computed")
    assert repeats is not None
    for axis in np.flatnonzero(repeats != 1).tolist():
        site.require(known.axis != axis, "it is repeated along the channels")
        known = site.values.flat(known, axis)
    return [renumbered(site, known)]


FEATURES = {
    "AveragePool": Transfer(_average_pool, nothing),
    "BatchNormalization": Transfer(_batch_norm, _cut_parameters(range(1, 5))),
    "GlobalAveragePool": Transfer(_kept_constant, nothing),
    "GlobalLpPool": Transfer(_not_constant, nothing),
    "GlobalMaxPool": Transfer(_kept_constant, nothing),
    "InstanceNormalization": Transfer(_instance_norm, _cut_parameters((1, 2))),
    "LogSoftmax": Transfer(_softmax, nothing),
    "LpPool": Transfer(_not_constant, nothing),
    "MaxPool": Transfer(_max_pool, nothing),
    **{
        f"Reduce{kind}": Transfer(_reduce, _cut_reduce)
        for kind in (
            *("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum"),
            "SumSquare",
        )
    },
    "Resize": Transfer(_resize, _cut_resize),
    "Softmax": Transfer(_softmax, nothing),
    "Tile": Transfer(_tile, nothing),
    "Upsample": Transfer(_resize, nothing),
}
