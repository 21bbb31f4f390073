"""Transfer functions of the layers that mix channels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from onnxslim import ir
from onnxslim.errors import Declined
from onnxslim.ir import Array, Constant, Node, Tensor
from onnxslim.passes.channels._analysis import FLOATS, Site, Transfer
from onnxslim.passes.channels._linear import Linear, unit_roundoff
from onnxslim.passes.channels._values import ONE, Channels
from onnxslim.rewrite import Builder


def _weight(site: Site, slot: int) -> Constant:
    weight = site.weight(slot)
    site.require(weight is not None and weight.elem_type in FLOATS, "its weights are no floats")
    assert weight is not None
    site.require(weight.size, "its weights are empty")
    site.require(len(set(weight.outputs)) == 1, "its weights are shared")
    return weight


def _bias(site: Site, slot: int, count: int) -> Array:
    bias = site.weight(slot)
    return np.zeros(count) if bias is None else bias.values.astype(np.float64).reshape(-1)


def _register(site: Site, linear: Linear) -> Linear:
    site.analysis.linears.append(linear)
    return linear


# What comes out of a layer ------------------------------------------------------------------------


def _results(site: Site, linear: Linear, uniform: bool, rank: int, axis: int) -> Channels:
    """Number the outputs of a layer; a *uniform* one turns constants into constants."""
    known = linear.inputs.constant.reshape(-1)
    harmless = known & ((linear.scale == 0) | uniform)
    constant = linear.idle(~harmless) if harmless.any() or _may_be_idle(linear) else None
    base = _numbers(site, linear)
    scale, slack = np.ones(len(base)), np.zeros(len(base))
    if constant is not None and constant.any():
        base[constant] = ONE
        scale[constant], slack[constant] = _sums(linear, harmless, constant)
    size = np.where(base == ONE, np.abs(scale), 0.0)
    shape = [1] * rank
    shape[axis % rank] = len(base)
    made = Channels(base, scale, slack, size).each(lambda array: array.reshape(shape))
    return made.at(axis % rank, linear.rows)


def _may_be_idle(linear: Linear) -> bool:
    return bool((linear.weight[:, :1, :1] == 0).any())


def _sums(linear: Linear, columns: Array, rows: Array) -> tuple[Array, Array]:
    """Return what constant *columns* and the bias add up to in *rows*, and how far off it is."""
    total, slack = linear.bias.copy(), np.zeros(len(rows))
    for channel in np.flatnonzero(columns & ((linear.scale != 0) | (linear.slack > 0))).tolist():
        weights = linear.column(channel)
        total[linear.group(channel)] += weights.sum(1) * linear.scale[channel]
        slack[linear.group(channel)] += np.abs(weights).sum(1) * linear.slack[channel]
    return total[rows], slack[rows]


def _numbers(site: Site, linear: Linear) -> Array:
    """Give equal outputs equal numbers: the same weights over the same inputs, the same bias."""
    rows, width = linear.weight.shape[0], linear.weight.shape[1]
    height = rows // linear.groups
    sample = linear.weight[:, :: max(1, width // 4)][:, :4].reshape(rows, -1)
    seen: dict[object, list[int]] = {}
    for row in range(rows):
        columns = slice(row // height * width, (row // height + 1) * width)
        inputs = (linear.base[columns].tobytes(), linear.scale[columns].tobytes())
        key = (hash(inputs) if linear.groups > 1 else 0, linear.bias[row], sample[row].tobytes())
        seen.setdefault(key, []).append(row)
    numbers = site.values.moved(np.arange(rows))
    for members in seen.values():
        if len(members) > 1:
            _unify(linear, members, numbers)
    return numbers


def _unify(linear: Linear, members: list[int], numbers: Array) -> None:
    height, width = linear.weight.shape[0] // linear.groups, linear.weight.shape[1]
    first: dict[object, int] = {}
    for row in members:
        columns = slice(row // height * width, (row // height + 1) * width)
        inputs = (linear.base[columns].tobytes(), linear.scale[columns].tobytes())
        numbers[row] = numbers[first.setdefault((inputs, linear.weight[row].tobytes()), row)]


# Convolutions -------------------------------------------------------------------------------------


def is_padded(node: Node) -> bool:
    """Say whether a convolution or pooling node reads beyond the border of its input."""
    automatic = node.attr("auto_pad", "NOTSET")
    return automatic not in ("NOTSET", "VALID") or (
        automatic == "NOTSET" and any(node.attr("pads", ()))
    )


def _conv(site: Site) -> list[Channels]:
    node, weight = site.node, _weight(site, 1)
    outputs, width = weight.shape[:2]
    groups, rank = int(node.attr("group", 1)), len(weight.shape)
    site.require(groups > 0 and outputs % groups == 0 and len(weight.shape) > 2, "odd weights")
    view = weight.values.reshape(outputs, width, -1)
    inputs, bias = site.along(0, 1, width * groups), _bias(site, 2, outputs)
    tail = weight.shape[2:]
    linear = Linear(
        node,
        view,
        lambda kept: kept.reshape(*kept.shape[:2], *tail),
        inputs,
        _rows(site, inputs, outputs, groups, view),
        bias,
        not is_padded(node),
        unit_roundoff(weight),
        groups,
    )
    if groups == 1 or width > 1:
        _register(site, linear)
    return [_results(site, linear, not is_padded(node), rank, 1)]


def _rows(site: Site, inputs: Channels, outputs: int, groups: int, view: Array) -> Array:
    """Return places for the outputs of a convolution; groups keep the same shape as each other.

    Without mixing (one input channel a group), outputs are cut with their input.
    """
    width, size = view.shape[1], view.nbytes // outputs
    if groups > 1 and width == 1:
        return np.repeat(inputs.places, outputs // groups)
    rows = site.places.rows(outputs, size)
    if groups > 1:
        for places, height in ((inputs.places, width), (rows, outputs // groups)):
            table = places.reshape(groups, height)
            for other in table[1:]:
                site.places.tie(table[0], other)
    return rows


def _cut_conv(site: Site, new: Builder) -> None:
    node = site.node
    linear = linear_of(site)
    rows, columns = _masks(site)
    if linear is not None:
        weights, bias = linear.without(_filled(columns, linear.base), _filled(rows, linear.rows))
        _set_weights(site, 1, weights, new)
        _set_bias(site, 2, bias, new)
        return
    weight = site.weight(1)
    assert weight is not None
    assert rows is not None
    assert columns is not None
    site.replace(1, weight.values[rows], new)
    bias_tensor = site.weight(2)
    if bias_tensor is not None:
        site.replace(2, bias_tensor.values[rows], new)
    node.attrs = {**node.attrs, "group": int(columns.sum())}


def linear_of(site: Site) -> Linear | None:
    """Return what the forward sweep noted of the node."""
    for linear in site.analysis.linears:
        if isinstance(linear, Linear) and linear.node is site.node:
            return linear
    return None


def _masks(site: Site) -> tuple[Array | None, Array | None]:
    """Return which outputs and inputs stay; None where all do."""
    rows, columns = site.mask(site.node.outputs[0]), site.mask(site.node.inputs[0])
    return None if rows is None else rows[1], None if columns is None else columns[1]


def _filled(mask: Array | None, like: Array) -> Array:
    return np.ones(len(like), bool) if mask is None else mask


def _set_weights(site: Site, slot: int, weights: Array, new: Builder) -> None:
    tensor = site.node.inputs[slot]
    assert isinstance(tensor, Constant)
    if weights.shape != tensor.shape or not np.array_equal(weights, tensor.values):
        site.replace(slot, weights, new)


def _set_bias(site: Site, slot: int, bias: Array, new: Builder) -> None:
    """Write *bias* (float64) where it is new."""
    present, weight = site.weight(slot), site.node.inputs[1]
    if present is None and not bias.any():
        return
    made = bias.astype(weight.dtype)
    if present is None or made.shape != present.shape or not np.array_equal(made, present.values):
        site.replace(slot, made, new)


def _conv_transpose(site: Site) -> list[Channels]:
    node, weight = site.node, _weight(site, 1)
    rank, groups = len(weight.shape), int(node.attr("group", 1))
    site.require(rank > 2 and groups == 1, "it is grouped")
    width, outputs = weight.shape[:2]
    tail = weight.shape[2:]
    inputs = site.along(0, 1, width)
    linear = Linear(
        node,
        weight.values.reshape(width, outputs, -1).transpose(1, 0, 2),
        lambda kept: kept.transpose(1, 0, 2).reshape(kept.shape[1], kept.shape[0], *tail),
        inputs,
        site.places.rows(outputs, weight.nbytes // outputs),
        _bias(site, 2, outputs),
        False,
        unit_roundoff(weight),
    )
    return [_results(site, _register(site, linear), False, rank, 1)]


# Products of matrices -----------------------------------------------------------------------------


def _gemm(site: Site) -> list[Channels]:
    node, weight = site.node, _weight(site, 1)
    transposed, alpha, beta = (
        node.attr("transB", 0),
        node.attr("alpha", 1.0),
        node.attr("beta", 1.0),
    )
    site.require(len(weight.shape) == 2 and alpha and beta, "it is scaled by zero")
    view = weight.values if transposed else weight.values.T
    outputs, width = view.shape
    bias = site.weight(2)
    shape = () if bias is None else bias.shape
    site.require(math.prod(shape[:-1]) == 1 and shape[-1:] in ((), (1,), (outputs,)), "odd bias")
    values = np.zeros(1) if bias is None else bias.values.astype(np.float64).reshape(-1)
    inputs = site.along(0, 0 if node.attr("transA", 0) else 1, width)
    linear = Linear(
        node,
        view[..., None],
        lambda kept: kept[..., 0] if transposed else kept[..., 0].T,
        inputs,
        site.places.rows(outputs, weight.nbytes // outputs),
        np.broadcast_to(values * (beta / alpha), (outputs,)).copy(),
        True,
        unit_roundoff(weight),
    )
    found = _results(site, _register(site, linear), True, 2, 1)
    return [_rescaled(found, alpha)]


def _rescaled(known: Channels, factor: float) -> Channels:
    scaled = Channels(
        known.base,
        np.where(known.constant, known.scale * factor, known.scale),
        known.slack * abs(factor),
        known.size * abs(factor),
    )
    return scaled.at(known.axis, known.places)


def _cut_gemm(site: Site, new: Builder) -> None:
    linear = linear_of(site)
    assert linear is not None
    rows, columns = _masks(site)
    weights, bias = linear.without(_filled(columns, linear.base), _filled(rows, linear.rows))
    _set_weights(site, 1, weights, new)
    ratio = site.node.attr("alpha", 1.0) / site.node.attr("beta", 1.0)
    present = site.node.input(2)
    if present is not None and present.shape[-1:] == (1,) and np.ptp(bias, axis=0) == 0:
        bias = bias[:1]
    if present is not None:
        bias = bias.reshape((*present.shape[:-1], -1)) if present.shape else bias
    _set_bias(site, 2, bias * ratio, new)


def _matmul(site: Site) -> list[Channels]:
    left, right = site.node.inputs[0], site.node.inputs[1]
    if isinstance(right, Constant):
        return _matmul_by(site, 1, -1)
    if isinstance(left, Constant):
        return _matmul_by(site, 0, -2)
    return _contraction(site)


def _matmul_by(site: Site, slot: int, axis: int) -> list[Channels]:
    """Multiply by constant weights, over the dimension *axis* of the other operand."""
    weight = _weight(site, slot)
    site.require(len(weight.shape) == 2, "its weights are no matrix")
    other = site.of(1 - slot)
    site.require(other.rank >= 2, "a vector is multiplied")
    view = weight.values.T if slot else weight.values
    outputs, width = view.shape
    linear = Linear(
        site.node,
        view[..., None],
        lambda kept: kept[..., 0].T if slot else kept[..., 0],
        site.along(1 - slot, axis, width),
        site.places.rows(outputs, weight.nbytes // outputs),
        np.zeros(outputs),
        True,
        unit_roundoff(weight),
    )
    return [_results(site, _register(site, linear), True, other.rank, axis)]


def _cut_matmul(site: Site, new: Builder) -> None:
    linear = linear_of(site)
    if linear is None:
        return
    slot = 1 if isinstance(site.node.inputs[1], Constant) else 0
    rows, columns = site.mask(site.node.outputs[0]), site.mask(site.node.inputs[1 - slot])
    kept = (None if mask is None else mask[1] for mask in (columns, rows))
    weights, bias = linear.without(*map(_filled, kept, (linear.base, linear.rows)))
    dtype = site.node.inputs[slot].dtype
    _set_weights(site, slot, weights, new)
    if bias.astype(dtype).any():
        shift = bias.astype(dtype) if slot else bias.astype(dtype)[:, None]
        append(site, new, lambda result: new.Add(result, shift))


def append(site: Site, new: Builder, then: Callable[[Tensor], Tensor]) -> None:
    """Let what *then* makes of the node's output take its place."""
    node = site.node
    target = node.outputs[0]
    inner = ir.Variable(site.analysis.model.names.fresh(target.name))
    node.outputs[0] = inner
    result = then(inner)
    source = ir.producer(result)
    assert source is not None
    source.outputs[0] = target


def _contraction(site: Site) -> list[Channels]:
    """Multiply two computed matrices: their inner dimensions are cut together."""
    left, right = site.of(0), site.of(1)
    result = site.unknown()
    site.require(left.rank >= 2 and right.rank >= 2, "a vector is multiplied")
    rank = max(left.rank, right.rank)
    left, right = left.leading(rank), right.leading(rank)
    axis = left.axis
    if axis == rank - 1 or right.axis == rank - 2:
        _tie_inner(site, left, right, rank)
    elif axis == rank - 2 and right.axis is None:
        return [_vanishing(site, result, left, rank - 2).at(rank - 2, left.places)]
    elif right.axis == rank - 1 and axis is None:
        return [_vanishing(site, result, right, rank - 1).at(rank - 1, right.places)]
    elif axis is not None and axis == right.axis and len(left.places) == len(right.places):
        site.places.tie(left.places, right.places)
        return [result.at(axis, left.places)]
    else:
        raise Declined("MatMul reads it along another axis")
    return [result]


def _vanishing(site: Site, result: Channels, known: Channels, axis: int) -> Channels:
    """Say that the rows or columns of a product are zero that are zero in an operand."""
    zero = _zero_along(known, axis)
    if not zero.any():
        return result
    wide = site.values.spread(result, axis, len(zero), broadcasts=False)
    zero = zero.reshape(wide.base.shape)
    return replace(wide, base=np.where(zero, ONE, wide.base), scale=np.where(zero, 0.0, wide.scale))


def _tie_inner(site: Site, left: Channels, right: Channels, rank: int) -> None:
    """Cut inner channels that are zero on one side on both."""
    matched = left.axis == rank - 1 and right.axis == rank - 2
    if not matched or len(left.places) != len(right.places):
        raise Declined("MatMul sums over it")
    site.places.tie(left.places, right.places)
    zero = _zero_along(left, rank - 1) | _zero_along(right, rank - 2)
    site.places.keep(left.places[~zero], "MatMul sums over it")


def _zero_along(known: Channels, axis: int) -> Array:
    """Return where *known* is zero whatever its other indices; its slack must be nil."""
    zero = known.constant & (known.scale == 0) & (known.slack == 0)
    others = tuple(a for a in range(known.rank) if a != axis)
    mask = zero.all(others)
    return np.broadcast_to(mask, (len(known.places),))


# Recurrent layers ---------------------------------------------------------------------------------


def _recurrent(site: Site) -> list[Channels]:
    weight, _, bias = _weight(site, 1), site.weight(2), site.weight(3)
    directions, height, width = weight.shape
    inputs = site.along(0, 2, width)
    values = np.zeros((directions, 2 * height)) if bias is None else bias.values.astype(np.float64)
    linear = Linear(
        site.node,
        weight.values.reshape(directions * height, width, 1),
        lambda kept: kept.reshape(directions, height, -1),
        inputs,
        np.zeros(directions * height, np.int64),
        values[:, :height].reshape(-1).copy(),
        True,
        unit_roundoff(weight),
    )
    _register(site, linear)
    for slot in range(4, len(site.node.inputs)):
        if site.node.input(slot) is not None:
            site.analysis.keep(site.node.inputs[slot], f"{site.node.operator} reads it as a state")
    return []


def _cut_recurrent(site: Site, new: Builder) -> None:
    linear = linear_of(site)
    assert linear is not None
    columns = site.mask(site.node.inputs[0])
    everything = np.ones(len(linear.rows), bool)
    before = site.weight(3)
    weights, bias = linear.without(
        _filled(None if columns is None else columns[1], linear.base), everything
    )
    _set_weights(site, 1, weights, new)
    if before is None and not bias.any():
        return
    directions, height = weights.shape[:2]
    held = np.zeros((directions, 2 * height)) if before is None else before.values.astype(float)
    made = np.concatenate([bias.reshape(directions, height), held[:, height:]], 1)
    if before is None or not np.array_equal(made.astype(before.dtype), before.values):
        site.replace(3, made.astype(site.node.inputs[1].dtype), new)


LAYERS = {
    "Conv": Transfer(_conv, _cut_conv),
    "ConvTranspose": Transfer(_conv_transpose, _cut_conv),
    "GRU": Transfer(_recurrent, _cut_recurrent),
    "Gemm": Transfer(_gemm, _cut_gemm),
    "LSTM": Transfer(_recurrent, _cut_recurrent),
    "MatMul": Transfer(_matmul, _cut_matmul),
    "RNN": Transfer(_recurrent, _cut_recurrent),
}
