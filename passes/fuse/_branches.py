"""Convolutions of one input as terms of a sum, and what they make together.

Source: Conv-1, Conv-11 and Conv-22 of the ONNX operator specification: taps that read the same
element add up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from onnxslim.errors import Declined
from onnxslim.ir import Array, Node, Tensor
from onnxslim.passes.fuse._batchnorm import as_type_of
from onnxslim.passes.fuse._convolution import Geometry, grouped, regrouped
from onnxslim.rewrite import Builder


class Branch(NamedTuple):
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


def joined_all(family: Iterable[Branch]) -> list[Branch]:
    """Return what becomes of branches of one input; declines where none can be joined."""
    found: list[Branch] = []
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


def _joined(one: Branch, two: Branch) -> Branch:
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
    return Branch(base.x, weight, bias, groups, base.at, base.conv, terms)


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


def built(new: Builder, branch: Branch) -> Tensor:
    """Make the Conv that a branch is."""
    conv = branch.conv
    assert conv is not None
    like: Array = conv.inputs[1].values
    bias = None if branch.bias is None else new.tensor(as_type_of(branch.bias, like), "b")
    weight = new.tensor(as_type_of(branch.weight, like), "w")
    return new.like(conv, branch.x, weight, bias, **grouped(conv, branch.groups))
