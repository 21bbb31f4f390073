"""Convolutions of one input that are added, as in RepVGG, with the input itself among the terms.

Source: Conv-1, Conv-11 and Conv-22 of the ONNX operator specification: taps that read the same
element add up. The input, and its BatchNormalization, are kernels of one element with a group for
every channel.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from onnxslim import ir
from onnxslim.base import Effect
from onnxslim.errors import Declined
from onnxslim.ir import Array, Node, Tensor, producer
from onnxslim.passes.fuse._affine import normalization
from onnxslim.passes.fuse._batchnorm import as_type_of, scale_and_shift
from onnxslim.passes.fuse._convolution import Geometry, geometry, grouped, regrouped
from onnxslim.passes.fuse._forms import FormsPass
from onnxslim.pattern import Match, match, op, rest
from onnxslim.rewrite import Builder
from onnxslim.shapes import Facts

_SUMS = ("Add", "Sum")
_MOST = 64
"""How many sums are looked through at most."""


@dataclass(frozen=True)
class _Branch:
    """A term, or several together, as a convolution of *x*."""

    x: Tensor
    weight: Array
    bias: Array | None
    groups: int
    at: Geometry
    conv: Node | None
    """The Conv that it moves like; None where it is no Conv at all."""
    terms: tuple[Tensor, ...]

    @property
    def cost(self) -> int:
        """Multiplications for one element of a channel of the result, and weights."""
        return 0 if self.conv is None else self.weight.size

    def own_terms(self) -> list[Tensor]:
        """Return the terms that only the sum needs."""
        return [term for term in self.terms if term is not self.x]


def _fuse(new: Builder, m: Match, _: Facts) -> Tensor | None:
    terms = [] if _is_inner_sum(m) else _terms(m)
    convs = [conv for conv in (_conv(m, term) for term in terms) if conv is not None]
    families: dict[Tensor, list[_Branch]] = {conv.x: [] for conv in convs}
    for conv in convs:
        families[conv.x].append(conv)
    for term in terms:
        plain = _without_kernel(m, term, families, new.version)
        if plain is not None:
            families[plain.x].append(plain)
    if all(len(family) == 1 for family in families.values()):
        return None
    m.require(new.version >= 7, "needs opset 7, since when operands broadcast")
    made = [branch for family in families.values() for branch in _joined_all(family)]
    for branch in made:
        m.take(node for node in map(producer, branch.own_terms()) if node is not None)
        for term in branch.terms:
            terms.remove(term)
    return _sum(new, m.root, [*(_built(new, branch) for branch in made), *terms])


# Finding terms ------------------------------------------------------------------------------------


def _is_inner_sum(m: Match) -> bool:
    """Say whether the sum is only a part of another one."""
    (out,) = m.root.outputs
    readers = set(out.outputs)
    inner = all(node.operator in _SUMS and node.graph is m.root.graph for node in readers)
    return len(readers) == 1 and inner and id(out) not in m.pinned


def _terms(m: Match) -> list[Tensor]:
    """Return what is added in all; the sums between join the match."""
    terms: list[Tensor] = []
    queue = [m.root]
    for node in queue:
        for tensor in node.inputs:
            source = producer(tensor)
            sums = source is not None and source.operator in _SUMS and len(queue) < _MOST
            if source is not None and sums and m.owns(source):
                m.take([source])
                queue.append(source)
            else:
                terms.append(tensor)
    return [] if any(producer(term) in m.nodes for term in terms) else terms


def _conv(m: Match, term: Tensor) -> _Branch | None:
    node = producer(term)
    if node is None or node.operator != "Conv" or not m.owns(node) or ir.has_parameters(node):
        return None
    weight, bias = node.constant(1), node.constant(2)
    if weight is None or (bias is None and node.input(2) is not None):
        return None
    at, groups = geometry(node, weight.shape[2:]), node.attr("group", 1)
    return _Branch(node.inputs[0], weight, bias, groups, at, node, (term,))


def _without_kernel(
    m: Match, term: Tensor, families: Mapping[Tensor, list[_Branch]], version: int
) -> _Branch | None:
    """Return the input of other branches, or its BatchNormalization, as a convolution."""
    node, x = producer(term), term
    normalized = None
    if x not in families:
        if node is None or node.operator != "BatchNormalization" or not m.owns(node):
            return None
        normalized, x = match(normalization("x"), node), node.inputs[0]
        if normalized is None or x not in families or ir.has_parameters(node):
            return None
    like = families[x][0]
    channels, count = like.weight.shape[1] * like.groups, len(like.at.kernel)
    scale, shift = np.ones(channels), None
    if normalized is not None:
        scale, shift = scale_and_shift(normalized, version)
    ones, none = (1,) * count, (0,) * count
    weight = scale.reshape(-1, 1, *ones)
    return _Branch(
        x, weight, shift, channels, Geometry(ones, ones, ones, none, none), None, (term,)
    )


# Adding -------------------------------------------------------------------------------------------


def _joined_all(family: Iterable[_Branch]) -> list[_Branch]:
    """Return what becomes of branches of one input; declines where none can be joined."""
    found: list[_Branch] = []
    why: Declined | None = None
    for branch in sorted(family, key=lambda branch: -branch.cost):
        for i, other in enumerate(found):
            try:
                found[i] = _joined(other, branch)
                break
            except Declined as verdict:
                why = verdict
        else:
            if branch.conv is not None:
                found.append(branch)
    found = [branch for branch in found if len(branch.terms) > 1]
    if not found and why is not None:
        raise why
    return found


def _joined(one: _Branch, two: _Branch) -> _Branch:
    """Add two branches, in float64."""
    base, other = sorted((one, two), key=lambda branch: -math.prod(branch.at.kernel))
    if base.at.strides != other.at.strides:
        raise Declined("the branches have different strides")
    if len(base.weight) != len(other.weight):
        raise Declined("the branches have different numbers of channels")
    taps = [_taps(base.at, other.at, axis) for axis in range(len(base.at.kernel))]
    groups = math.gcd(base.groups, other.groups)
    if base.weight.size * base.groups // groups > base.cost + other.cost:
        raise Declined("one Conv would take more multiplications than the branches")
    weight = regrouped(base.weight, base.groups, groups)
    block = np.ix_(*map(range, weight.shape[:2]), *taps)
    weight[block] += regrouped(other.weight, other.groups, groups)
    biases = [branch.bias.astype(np.float64) for branch in (one, two) if branch.bias is not None]
    bias = sum(biases[1:], start=biases[0]) if biases else None
    terms = (*one.terms, *two.terms)
    return _Branch(base.x, weight, bias, groups, base.at, base.conv, terms)


def _taps(base: Geometry, other: Geometry, axis: int) -> list[int]:
    """Return which taps of *base* read, along an axis, what the taps of *other* read."""
    kernel, step, begin = base.kernel[axis], base.dilations[axis], base.begins[axis]
    if base.rest(axis) != other.rest(axis):
        raise Declined("the branches pad differently")
    reads = [
        tap * other.dilations[axis] - other.begins[axis] + begin
        for tap in range(other.kernel[axis])
    ]
    if any(place % step or not 0 <= place < kernel * step for place in reads):
        raise Declined("no kernel covers the others")
    return [place // step for place in reads]


def _built(new: Builder, branch: _Branch) -> Tensor:
    conv = branch.conv
    assert conv is not None
    like: Array = conv.inputs[1].values
    bias = None if branch.bias is None else new.tensor(as_type_of(branch.bias, like), "b")
    weight = new.tensor(as_type_of(branch.weight, like), "w")
    return new.like(conv, branch.x, weight, bias, **grouped(conv, branch.groups))


def _sum(new: Builder, root: Node, terms: list[Tensor]) -> Tensor:
    if root.op == "Sum" and len(terms) > 1:
        return new.Sum(*terms)
    return functools.reduce(lambda total, term: new.Add(total, term), terms)


@dataclass(frozen=True)
class FuseConvSum(FormsPass):
    """Make one Conv of several of one input that are added, and of the input where it is a term."""

    name = "fuse-conv-sum"
    effect = Effect.ROUNDING
    forms = ((op.Add(rest("terms")) | op.Sum(rest("terms")), _fuse),)
