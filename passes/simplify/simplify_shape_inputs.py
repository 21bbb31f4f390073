"""Shapes that a model computes at run time though a constant says as much.

In a Reshape, 0 copies a dimension and one -1 takes what is left; in an Expand, 1 keeps a dimension;
in a Slice, a huge end is the end. So most chains of Shape, Gather and Concat need not be.

Source: Reshape-5, Expand-8 and Slice-10 of the ONNX operator specification, and their successors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from onnxslim import ir
from onnxslim.base import Context, Effect, Pass
from onnxslim.errors import Declined
from onnxslim.ir import Array, Constant, Model, Node, Tensor
from onnxslim.passes.simplify._cone import cone, cone_bytes
from onnxslim.shapes import Expr, Facts
from onnxslim.shapes.expr import lower

_Numbers = list[int]
_LONGER = 3
"""Bytes by which a number makes a name longer."""


class _Use(NamedTuple):
    """An input of a node, and the constant that can take its place."""

    node: Node
    slot: int
    value: Array


class SimplifyShapeInputs(Pass):
    """Give Reshape, Expand and Slice constants in place of computed shapes that say the same."""

    name = "simplify-shape-inputs"
    effect = Effect.EXACT

    def apply(self, model: Model, context: Context) -> int:
        """Look at every computed shape and at all that read it."""
        if not context.find(model, _RULES):
            return 0
        facts, pinned, changes = context.facts(model), model.pinned(), 0
        found: dict[Tensor, list[_Use]] = {}
        for use in _uses(model, facts, context):
            found.setdefault(use.node.inputs[use.slot], []).append(use)
        for tensor, uses in found.items():
            grows = _growth(tensor, uses, pinned, inline=model.ir_version < 4)
            if grows > 0:
                for use in uses:
                    context.decline(use.node, f"the file would grow by {grows} bytes")
                continue
            _replace(tensor, uses, model, pinned)
            changes += len(uses)
        for graph in list(model.graphs()):
            graph.compact()
        return changes


def _uses(model: Model, facts: Facts, context: Context) -> Iterator[_Use]:
    """Yield what a constant can replace; function bodies know no shapes."""
    for graph in ir.walk(model.graph):
        for node in graph.nodes:
            for slot, rule in _RULES.get(node.operator, {}).items():
                tensor = node.input(slot)
                if node.erased or tensor is None or isinstance(tensor, Constant):
                    continue
                try:
                    numbers = rule(node, facts)
                except Declined as verdict:
                    context.decline(node, str(verdict))
                    continue
                if numbers is not None:
                    dtype = ir.numpy_type(facts.elem_type(tensor))
                    yield _Use(node, slot, np.asarray(numbers, dtype))


def _growth(tensor: Tensor, uses: list[_Use], pinned: frozenset[int], inline: bool) -> int:
    """Return by how many bytes the file grows when *uses* read constants, not *tensor*."""
    constants = {use.value.tobytes(): ir.constant(tensor.name, use.value) for use in uses}
    added = sum(map(ir.initializer_bytes, constants.values()))
    if inline:
        added = sum(ir.constant_node_bytes("", ir.initializer_bytes(c)) for c in constants.values())
    source = ir.producer(tensor)
    others = () if source is None else (t for t in source.outputs if t is not tensor)
    stays = len(uses) < len(tensor.outputs) or any(t.outputs or id(t) in pinned for t in others)
    if source is None or stays or id(tensor) in pinned:
        return added
    renamed = sum(use.value.tobytes() != uses[0].value.tobytes() for use in uses)
    added += _LONGER * (len(constants) - 1 + renamed)
    return added - cone_bytes(cone([source], pinned), pinned)


def _replace(tensor: Tensor, uses: list[_Use], model: Model, pinned: frozenset[int]) -> None:
    """Let constants be read; the first takes the name of *tensor*, which goes."""
    made: dict[bytes, Constant] = {}
    for node, slot, value in uses:
        key = value.tobytes()
        if key not in made:
            name = model.names.fresh(tensor.name) if made else tensor.name
            made[key] = ir.constant(name, value)
        node.inputs[slot] = made[key]
        if node.attr("allowzero", 0):  # here, 0 copies
            del node.attrs["allowzero"]
    ir.release([tensor], pinned)


# What a constant can say --------------------------------------------------------------------------


def _reshape(node: Node, facts: Facts) -> _Numbers | None:
    """Copy dimensions that stay where they are; one other may depend on the run.

    That one becomes -1, which means nothing where a copied dimension is 0.
    """
    before, after = facts.dims(node.inputs[0]), facts.dims(node.outputs[0])
    if after is None:
        return None
    copied = [i < len(before or ()) and before[i] == dim for i, dim in enumerate(after)]  # type: ignore[index]
    numbers = [
        dim if isinstance(dim, int) and dim else 0 if same else -1
        for dim, same in zip(after, copied, strict=True)
    ]
    if numbers.count(-1) > 1:
        return None
    if -1 in numbers:
        return _with_rest(numbers, after, facts.value(node.inputs[1]))
    return numbers


def _with_rest(
    numbers: _Numbers, after: tuple[Expr, ...], said: tuple[Expr, ...] | Expr | None
) -> _Numbers | None:
    """Allow the -1 in *numbers* if it was there before, or if no copied dimension can be 0."""
    rest = numbers.index(-1)
    was_there = isinstance(said, tuple) and len(said) == len(numbers) and said[rest] == -1
    filled = all((lower(dim) or 0) >= 1 for dim, n in zip(after, numbers, strict=True) if n == 0)
    if not was_there and not filled:
        raise Declined("a dimension that may be 0 leaves -1 without a meaning")
    return numbers


def _expand(node: Node, facts: Facts) -> _Numbers | None:
    """Write 1 for the dimensions that the input has already."""
    before, after = facts.dims(node.inputs[0]), facts.dims(node.outputs[0])
    if before is None or after is None:
        return None
    new = len(after) - len(before)
    numbers: _Numbers = []
    for axis, dim in enumerate(after):
        if axis >= new and before[axis - new] == dim:
            numbers.append(1)
        elif isinstance(dim, int):
            numbers.append(dim)
        else:
            return None
    return numbers


_Rule = Callable[[Node, Facts], "_Numbers | None"]


def _ends(node: Node, facts: Facts) -> _Numbers | None:
    """Write the largest number for an end that is the dimension, and -k for k before it."""
    dims, ends = facts.dims(node.inputs[0]), facts.value(node.inputs[2])
    axes = node.constant(3) if node.input(3) is not None else np.arange(len(dims or ()))
    steps = node.constant(4) if node.input(4) is not None else np.ones(1)
    if dims is None or axes is None or steps is None or not (steps > 0).all():
        return None
    if not isinstance(ends, tuple):
        return None
    last = int(np.iinfo(ir.numpy_type(facts.elem_type(node.inputs[2]))).max)
    numbers: _Numbers = []
    for end, axis in zip(ends, axes, strict=False):
        left = dims[axis] - end
        if isinstance(end, int):
            numbers.append(end)
        elif isinstance(left, int) and left <= 0:
            numbers.append(last)
        elif isinstance(left, int) and (lower(end) or 0) >= 0:
            numbers.append(-left)
        else:
            return None
    return numbers


_RULES: Mapping[str, Mapping[int, _Rule]] = {
    "Reshape": {1: _reshape},
    "Expand": {1: _expand},
    "Slice": {2: _ends},
}
