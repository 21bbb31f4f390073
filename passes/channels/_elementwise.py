"""Transfer functions of operators that work element by element, broadcasting included."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from onnxslim import ir
from onnxslim.errors import Declined
from onnxslim.ir import Array, Constant, Tensor
from onnxslim.passes.channels._analysis import FLOATS, Site, Transfer
from onnxslim.passes.channels._expansion import Expansion
from onnxslim.passes.channels._values import ONE, Channels, distinct
from onnxslim.rewrite import Builder


def _elementwise(site: Site, operands: int | None) -> list[Channels]:
    """Combine the first *operands* inputs (None: all); the others are parameters."""
    node = site.node
    count = len(node.inputs) if operands is None else operands
    _keep_parameters(site, node.inputs[count:])
    site.require(len(node.inputs) >= count, "an input is missing")
    given = [site.of(slot) for slot in range(count)]
    rank = max(known.rank for known in given)
    wide = [known.leading(rank) for known in given]
    axis, places = _tied(site, wide, rank)
    extents = [max(known.base.shape[a] for known in wide) for a in range(rank)]
    for a, extent in enumerate(extents):
        wide = [
            site.values.spread(known, a, extent, _is_single(site, slot, a - rank))
            for slot, known in enumerate(wide)
        ]
    return [_combine(site, wide, extents).at(axis, places)]


def _keep_parameters(site: Site, tensors: Sequence[Tensor]) -> None:
    for tensor in tensors:
        if tensor.name and not isinstance(tensor, Constant):
            site.analysis.keep(tensor, f"{site.node.operator} reads it as a parameter")


def _is_single(site: Site, slot: int, axis: int) -> bool:
    """Say whether an input has one element along *axis*, counted from the end."""
    tensor = site.node.inputs[slot]
    rank = site.of(slot).rank
    return -axis > rank or site.dim(tensor, axis) == 1


def _tied(site: Site, given: Sequence[Channels], rank: int) -> tuple[int | None, Array]:
    """Cut the channels of all operands together."""
    axes = {known.axis for known in given if known.axis is not None}
    tracked = [known for known in given if known.axis is not None]
    if len(axes) != 1:
        for known in tracked:
            site.places.keep(known.places, "it is combined with channels of another axis")
        return None, tracked[0].places if tracked else np.zeros(0, np.int64)
    (axis,) = axes
    places = tracked[0].places
    expansions = _expansions(site, given)
    if len(expansions) == len(tracked):
        places = site.places.fresh(len(places))
    else:
        places = next(
            k.places for s, k in enumerate(given) if k.axis is not None and s not in expansions
        )
    for expansion in expansions.values():
        expansion.rows = places
    site.analysis.linears += expansions.values()
    for slot, known in enumerate(given):
        if slot in expansions:
            continue
        if known.axis is not None:
            site.require(len(known.places) == len(places), "operands are not of one size")
            site.places.tie(places, known.places)
        elif not isinstance(site.node.inputs[slot], Constant) and not _is_single(
            site, slot, axis - rank
        ):
            site.places.keep(places, f"{site.node.operator} combines it with what cannot be cut")
    return axis, places


def _expansions(site: Site, given: Sequence[Channels]) -> dict[int, Expansion]:
    """Return the operands that are read without their constant channels."""
    found: dict[int, Expansion] = {}
    if len(given) != 2 or not _computes_floats(site):
        return found
    for slot, known in enumerate(given):
        others = [n for a, n in enumerate(known.base.shape) if a != known.axis]
        full = site.of(slot).rank == known.rank and max(others, default=1) == 1
        computed = not any(isinstance(tensor, Constant) for tensor in site.node.inputs)
        if known.axis is not None and full and computed:
            expansion = Expansion(site.node, slot, known, known.places)
            if _is_worth_it(site, expansion, alone=not found):
                found[slot] = expansion
    return found


def _is_worth_it(site: Site, expansion: Expansion, alone: bool) -> bool:
    """Say whether an operand becomes a constant as a whole, or saves more bytes than it costs.

    A constant may stand beside an operand of the shape of the result. Putting channels back takes
    time, so the caller must want that; sums are where branches meet that have other channels.
    """
    if expansion.constant.all():
        other = site.node.inputs[1 - expansion.slot]
        return alone and site.facts.same_shape(other, site.node.outputs[0])
    wanted = site.analysis.expands and site.node.operator == "Add"
    return wanted and expansion.gain(site.places.weights(expansion.inputs.places)) > 0


# Values -------------------------------------------------------------------------------------------


def _combine(site: Site, given: Sequence[Channels], shape: Sequence[int]) -> Channels:
    """Number the results; those of constants are computed."""
    full = [known.each(lambda a: np.broadcast_to(a, shape).reshape(-1)) for known in given]
    count = full[0].base.size
    known = np.logical_and.reduce([operand.constant for operand in full])
    base, scale = np.full(count, ONE, np.int64), np.ones(count)
    slack, size = np.zeros(count), np.zeros(count)
    if known.any() and _computes_floats(site):
        scale[known], slack[known] = _constants(site, [o.each(lambda a: a[known]) for o in full])
        known &= np.isfinite(scale) & np.isfinite(slack)
        size[known] = np.abs(scale[known])
    else:
        known[:] = False
    if not known.all():
        rest = [operand.each(lambda a: a[~known]) for operand in full]
        size[~known] = _size(site.node.operator, rest)
        base[~known], scale[~known], slack[~known] = _unknown(site, rest)
    return Channels(base, scale, slack, size).each(lambda array: array.reshape(shape))


def _computes_floats(site: Site) -> bool:
    tensors = (*site.node.inputs, site.node.outputs[0])
    return all(site.facts.elem_type(t) in FLOATS for t in tensors if t.name)


def _constants(site: Site, operands: Sequence[Channels]) -> tuple[Array, Array]:
    """Compute constants, and how far they may be off: functions are smooth at that scale."""
    columns = [known.scale for known in operands]
    first, index = distinct(columns)
    value = site.compute([column[first] for column in columns])[index]
    moved = [slot for slot, known in enumerate(operands) if known.slack.any()]
    site.require(len(moved) <= 2, "several operands are only nearly constant")
    slack = np.zeros(len(value))
    for signs in itertools.product((-1, 1), repeat=len(moved)):
        if moved:
            shifted = list(columns)
            for slot, sign in zip(moved, signs, strict=True):
                shifted[slot] = columns[slot] + sign * operands[slot].slack
            slack = np.maximum(slack, np.abs(site.compute(shifted) - value))
    return value, slack


Numbers = tuple[Array, Array]


def _unknown(site: Site, given: Sequence[Channels]) -> tuple[Array, Array, Array]:
    """Number results that are no constants.

    What is only nearly constant is taken as unknown, but for products with what has a known size.
    """
    algebra = _ALGEBRA.get(site.node.operator, _opaque)
    base, scale = algebra(site, given)
    slack = np.zeros(len(base))
    vague = np.logical_or.reduce([known.slack > 0 for known in given])
    if vague.any():
        bounded = np.zeros(len(base), bool)
        if site.node.operator == "Mul":
            left, right = given
            bounded = (left.size > 0) & (right.size > 0)
            slack = _MARGIN * (left.slack * right.size + right.slack * left.size)
        opaque, _ = _opaque(site, given)
        base = np.where(vague & ~bounded, opaque, base)
        scale = np.where(vague & ~bounded, 1.0, scale)
        slack = np.where(bounded, slack, 0.0)
    return base, scale, slack


def _opaque(site: Site, given: Sequence[Channels]) -> Numbers:
    """Say of results only that equal operands give equal ones."""
    columns = [array for known in given for array in (known.base, known.scale)]
    parameters = tuple(
        t.values.tobytes() if isinstance(t, Constant) else id(t)
        for t in site.node.inputs[len(given) :]
        if t.name
    )
    base = site.values.numbers((site.signature(), parameters), *columns)
    return base, np.ones(len(base))


def _same(site: Site, given: Sequence[Channels]) -> Numbers:
    return given[0].base, given[0].scale


def _positively_homogeneous(site: Site, given: Sequence[Channels]) -> Numbers:
    """f(s x) = s f(x) for every s > 0."""
    (x,) = given
    sign = np.where(x.scale < 0, -1.0, 1.0)
    base = site.values.numbers(site.signature(), x.base, sign)
    return base, np.abs(x.scale)


def _negated(site: Site, given: Sequence[Channels]) -> Numbers:
    return given[0].base, -given[0].scale


def _product(site: Site, given: Sequence[Channels]) -> Numbers:
    left, right = given
    low, high = np.minimum(left.base, right.base), np.maximum(left.base, right.base)
    base = site.values.numbers(("Mul", _kind(site)), low, high)
    base = np.where(left.base == ONE, right.base, np.where(right.base == ONE, left.base, base))
    return _vanishing(base, left.scale * right.scale)


def _quotient(site: Site, given: Sequence[Channels]) -> Numbers:
    left, right = given
    if (right.scale == 0).any():
        raise Declined("it is divided by zero")
    base = site.values.numbers(("Div", _kind(site)), left.base, right.base)
    base = np.where(right.base == ONE, left.base, base)
    return _vanishing(base, left.scale / right.scale)


def _vanishing(base: Array, scale: Array) -> Numbers:
    """0 · x is the constant 0: outputs are compared where the original's are finite."""
    return np.where(scale == 0, ONE, base), scale


def _sum(site: Site, given: Sequence[Channels]) -> Numbers:
    return _weighted(site, given, 1.0)


def _difference(site: Site, given: Sequence[Channels]) -> Numbers:
    return _weighted(site, given, -1.0)


def _weighted(site: Site, given: Sequence[Channels], sign: float) -> Numbers:
    left, right = given
    zero_left = left.constant & (left.scale == 0) & (left.slack == 0)
    zero_right = right.constant & (right.scale == 0) & (right.slack == 0)
    key = ("Add", _kind(site))
    base = site.values.numbers(key, left.base, left.scale, right.base, sign * right.scale)
    base = np.where(zero_left, right.base, np.where(zero_right, left.base, base))
    scale = np.where(zero_left, sign * right.scale, np.where(zero_right, left.scale, 1.0))
    return base, scale


def _kind(site: Site) -> int:
    """Keep integers apart from floats: they divide and overflow otherwise."""
    kind = site.facts.elem_type(site.node.outputs[0])
    return kind if kind in FLOATS else -id(site.node)


Algebra = Callable[[Site, Sequence[Channels]], Numbers]
_ALGEBRA: dict[str, Algebra] = {
    "Abs": _positively_homogeneous,
    "Add": _sum,
    "Div": _quotient,
    "Dropout": _same,
    "Identity": _same,
    "LeakyRelu": _positively_homogeneous,
    "Mul": _product,
    "Neg": _negated,
    "Relu": _positively_homogeneous,
    "Sub": _difference,
}
"""What is known beyond: equal operands, equal results."""

_MARGIN = 10.0
"""How much larger than its typical size a value is taken to be at most."""
_GATES = frozenset({"Sigmoid", "HardSigmoid", "Tanh", "Softsign", "Erf"})
"""Operators whose results are within 1."""
_CONTRACTIONS = frozenset(
    {"Abs", "Clip", "Dropout", "Elu", "Gelu", "HardSwish", "Identity", "LeakyRelu", "Mish", "Neg"}
    | {"PRelu", "Relu", "Selu", "Swish"}
)
"""Operators whose results are about as large as their first operand, or smaller."""


def _size(operator: str, given: Sequence[Channels]) -> Array:
    sizes = [known.size for known in given]
    if operator in _CONTRACTIONS:
        return sizes[0]
    if operator in _GATES:
        return np.ones(len(sizes[0]))
    if operator in ("Add", "Sub", "Max", "Sum"):
        return np.asarray(np.maximum.reduce(sizes))
    if operator == "Mul":
        return np.asarray(np.multiply.reduce(sizes))
    return np.zeros(len(sizes[0]))


# Cutting ------------------------------------------------------------------------------------------


def _cut(site: Site, new: Builder) -> None:
    """Cut constant operands along the axis of the result."""
    _put_back(site, new)
    cut = site.mask(site.node.outputs[0])
    if cut is None:
        return
    axis, kept = cut
    rank = site.analysis.of(site.node.outputs[0]).rank
    for slot, tensor in enumerate(site.node.inputs):
        if isinstance(tensor, Constant):
            own = axis - (rank - len(tensor.shape))
            if own >= 0 and tensor.shape[own] == len(kept):
                site.replace(slot, np.compress(kept, tensor.values, own), new)


def _put_back(site: Site, new: Builder) -> None:
    """Give the node its operands in full."""
    sets = site.analysis.sets
    assert sets is not None
    for linear in site.analysis.linears:
        if isinstance(linear, Expansion) and linear.node is site.node:
            rows, columns = sets.kept(linear.rows), sets.kept(linear.inputs.places)
            tensor = site.node.inputs[linear.slot]
            made = linear.rewrite(rows, columns, new, tensor, site.dtype(tensor))
            if made is not tensor:
                inputs = list(site.node.inputs)
                inputs[linear.slot] = made
                ir.set_inputs(site.node, inputs)


def _dropout(site: Site) -> list[Channels]:
    site.require(ir.is_inference_dropout(site.node), "Dropout is in training mode")
    mask_read = len(site.node.outputs) > 1 and site.node.outputs[1].outputs
    site.require(not mask_read, "the mask of Dropout is read")
    return _elementwise(site, 1)


def _of(operands: int | None) -> Transfer:
    def forward(site: Site) -> list[Channels]:
        site.require(site.version >= 7, "operands do not broadcast before opset 7")
        return _elementwise(site, operands)

    return Transfer(forward, _cut)


_UNARY = (
    *("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cast", "Ceil", "Celu", "Clip"),
    *("Cos", "Cosh", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity"),
    *("IsInf", "IsNaN", "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu", "Round"),
    *("Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Swish"),
    *("Tan", "Tanh", "ThresholdedRelu"),
)
_BINARY = (
    *("Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Mul"),
    *("Mod", "Or", "PRelu", "Pow", "Sub", "Xor"),
)

ELEMENTWISE: dict[str, Transfer] = {
    **dict.fromkeys(_UNARY, _of(1)),
    **dict.fromkeys(_BINARY, _of(2)),
    "Where": _of(3),
    "Max": _of(None),
    "Min": _of(None),
    "Sum": _of(None),
    "Mean": _of(None),
    "Dropout": Transfer(_dropout, _cut),
}
