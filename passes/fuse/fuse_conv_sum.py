"""Convolutions of one input that are added, as in RepVGG, with the input itself among the terms.

Source: Conv-1, Conv-11 and Conv-22 of the ONNX operator specification. The input, and its
BatchNormalization, are convolutions too: of one element, with a group for every channel.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np

from onnxslim import ir
from onnxslim.base import Effect
from onnxslim.ir import Node, Tensor, producer
from onnxslim.passes.fuse._affine import normalization
from onnxslim.passes.fuse._batchnorm import scale_and_shift
from onnxslim.passes.fuse._branches import Branch, built, joined_all
from onnxslim.passes.fuse._convolution import Geometry, geometry
from onnxslim.pattern import Match, match, op, rest
from onnxslim.rewrite import Builder, FormsPass
from onnxslim.shapes import Facts

_SUMS = ("Add", "Sum")
_MOST = 64
"""How many sums are looked through at most."""


def _fuse(new: Builder, m: Match, _: Facts) -> Tensor | None:
    terms = [] if _is_inner_sum(m) else _terms(m)
    convs = [conv for conv in (_conv(m, term) for term in terms) if conv is not None]
    families: dict[Tensor, list[Branch]] = {conv.x: [] for conv in convs}
    for conv in convs:
        families[conv.x].append(conv)
    for term in terms:
        plain = _without_kernel(m, term, families, new.version)
        if plain is not None:
            families[plain.x].append(plain)
    if all(len(family) == 1 for family in families.values()):
        return None
    m.require(new.version >= 7, "needs opset 7, since when operands broadcast")
    made = [branch for family in families.values() for branch in joined_all(family)]
    for branch in made:
        m.take(node for node in map(producer, branch.own_terms()) if node is not None)
        for term in branch.terms:
            terms.remove(term)
    return _sum(new, m.root, [*(built(new, branch) for branch in made), *terms])


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


def _conv(m: Match, term: Tensor) -> Branch | None:
    node = producer(term)
    if node is None or node.operator != "Conv" or not m.owns(node) or ir.has_parameters(node):
        return None
    weight, bias = node.constant(1), node.constant(2)
    if weight is None or (bias is None and node.input(2) is not None):
        return None
    at, groups = geometry(node, weight.shape[2:]), node.attr("group", 1)
    return Branch(node.inputs[0], weight, bias, groups, at, node, (term,))


def _without_kernel(
    m: Match, term: Tensor, families: Mapping[Tensor, list[Branch]], version: int
) -> Branch | None:
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
    return Branch(x, weight, shift, channels, Geometry(ones, ones, ones, none, none), None, (term,))


def _sum(new: Builder, root: Node, terms: list[Tensor]) -> Tensor:
    if root.op == "Sum" and len(terms) > 1:
        return new.Sum(*terms)
    return functools.reduce(lambda total, term: new.Add(total, term), terms)


class FuseConvSum(FormsPass):
    """Make one Conv of several of one input that are added, and of the input where it is a term."""

    name = "fuse-conv-sum"
    effect = Effect.ROUNDING
    forms = ((op.Add(rest("terms")) | op.Sum(rest("terms")), _fuse),)
