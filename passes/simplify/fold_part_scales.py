"""A number that multiplies one part of what a layer computes, such as the queries of attention.

One MatMul makes queries, keys and values, which are then split; the queries are scaled. The
columns of the weights that make them can be scaled before the model runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxslim.base import Effect
from onnxslim.errors import Declined
from onnxslim.ir import Array, Node, Tensor, has_parameters
from onnxslim.passes.simplify._numbers import combine, number
from onnxslim.passes.simplify._operands import ints
from onnxslim.passes.simplify._reshape import FAMILY
from onnxslim.passes.simplify._scale import scale_factor
from onnxslim.passes.simplify._trial import Results, Trial, TrialPass, TrialRule

_MOVES = (*FAMILY, "Transpose")
_LONGEST = 12
"""How many nodes are climbed to the part."""


@dataclass
class _Part:
    """A tensor, and which of its elements along one axis are the part that is scaled."""

    tensor: Tensor
    axis: int
    chosen: Array


def _fold(trial: Trial) -> Results | None:
    factor = scale_factor(trial)
    part = None if factor is None else _part(trial, factor[0])
    if factor is None or part is None:
        return None
    sums: list[Node] = []
    while not sums or sums[-1].operator == "Add":
        above = _step(trial, part, sums)
        if above is None:
            return None
        part = above
    x, scale = factor
    factors = np.where(part.chosen, scale, np.ones((), scale.dtype))
    return {**{node.outputs[0]: _scaled(trial, node, factors) for node in sums}, trial.out: x}


def _step(trial: Trial, part: _Part, sums: list[Node]) -> _Part | None:
    """Climb one node; a sum or a layer joins *sums*."""
    node = trial.above(part.tensor, *_MOVES, "Add", "Gemm", "MatMul")
    if node is None or node.graph is not trial.graph:
        return None
    if node.operator in _MOVES:
        above = _moved(trial, node, part)
        return above if above is not None and trial.private(above.tensor) else None
    if part.axis != (trial.facts.rank(part.tensor) or 0) - 1:
        return None
    sums.append(node)
    operands = [t for t in node.inputs if number(t) is None]
    if len(operands) != 1 or (node.operator == "Add" and not trial.private(operands[0])):
        return None
    return _Part(operands[0], part.axis, part.chosen)


def _part(trial: Trial, tensor: Tensor) -> _Part | None:
    """Climb to where a tensor is taken out of a larger one; products of it scale as it does."""
    for _ in range(_LONGEST):
        node = trial.above(tensor, *_MOVES, "MatMul", "Gather") or _split(tensor)
        if node is None or not trial.private(tensor) or node.graph is not trial.graph:
            return None
        source: Tensor = node.inputs[0]
        if node.operator == "Split":
            return _of_split(trial, node, tensor)
        if node.operator == "Gather" and not trial.private(source):
            return _of_gather(trial, node)
        if node.operator == "Gather" or number(source) is not None:
            return None
        tensor = source
    return None


def _split(tensor: Tensor) -> Node | None:
    node: Node | None = tensor.inputs[0] if tensor.inputs else None
    if node is None or node.operator != "Split" or has_parameters(node):
        return None
    return node


def _of_split(trial: Trial, node: Node, tensor: Tensor) -> _Part | None:
    dims, source = trial.facts.dims(node.inputs[0]), node.inputs[0]
    if dims is None or not trial.private(source):
        return None
    axis = node.attr("axis", 0) % len(dims)
    sizes = []
    for output in node.outputs:
        shape = trial.facts.dims(output)
        sizes.append(None if shape is None else shape[axis])
    if not all(isinstance(size, int) for size in sizes):
        return None
    owners = np.repeat(np.arange(len(sizes)), np.array(sizes, int))
    return _Part(source, axis, owners == [t is tensor for t in node.outputs].index(True))


def _of_gather(trial: Trial, node: Node) -> _Part | None:
    """Look at a Gather beside others that take other elements along the same axis."""
    source = node.inputs[0]
    dims = trial.facts.dims(source)
    if dims is None or not trial.read_only_by(source, "Gather"):
        return None
    if any(map(has_parameters, source.outputs)):
        return None
    axis = node.attr("axis", 0)
    size = dims[axis]
    taken = [ints(reader, "", 1) for reader in source.outputs]
    along = all(reader.attr("axis", 0) == axis for reader in source.outputs)
    if not along or not isinstance(size, int) or None in taken:
        return None
    count, chosen = np.zeros(size, int), np.zeros(size, bool)
    for reader, indices in zip(source.outputs, taken, strict=True):
        places = np.unique(np.asarray(indices) % size)
        count[places] += 1
        if reader is node:
            chosen[places] = True
    return _Part(source, axis % len(dims), chosen) if (count[chosen] == 1).all() else None


def _moved(trial: Trial, node: Node, part: _Part) -> _Part | None:
    """Return the same part of what *node* moves."""
    before, after = trial.facts.dims(node.inputs[0]), trial.facts.dims(node.outputs[0])
    if before is None or after is None:
        return None
    if node.operator == "Transpose":
        perm = node.attr("perm", range(len(after))[::-1])
        return _Part(node.inputs[0], perm[part.axis], part.chosen)
    width = before[-1] if before else 1
    for first in range(part.axis + 1):
        block = [dim for dim in after[first:] if isinstance(dim, int)]
        if len(block) == len(after) - first and math.prod(block) == width:
            line = np.moveaxis(part.chosen[(None,) * (len(block) - 1)], -1, part.axis - first)
            chosen = np.broadcast_to(line, block).reshape(-1)
            return _Part(node.inputs[0], len(before) - 1, chosen)
    return None


def _scaled(trial: Trial, node: Node, factors: Array) -> Tensor:
    """Make *node* anew with the last axis of its constants scaled."""
    inputs: list[Tensor | Array] = list(node.inputs)
    constants = range(len(inputs)) if node.operator == "Add" else range(1, len(inputs))
    for slot in constants:
        values = number(node.inputs[slot])
        if values is None and node.operator == "Add":
            continue
        turned = node.operator == "Gemm" and slot == 1 and node.attr("transB", 0)
        column = factors[:, None] if turned else factors
        if values is None or values.dtype != factors.dtype:
            raise Declined("the weights are computed, or of another type than the scale")
        if values.ndim < column.ndim or values.shape[-column.ndim] != len(factors):
            raise Declined("the weights have another shape than what they make")
        inputs[slot] = combine(np.multiply, values, column)
    return trial.new.like(node, *inputs)


class FoldPartScales(TrialPass):
    """Multiply some columns of weights by the number that multiplies what comes of them."""

    name = "fold-part-scales"
    effect = Effect.ROUNDING
    rules: ClassVar[Mapping[str, TrialRule]] = {"Mul": _fold, "Div": _fold}
