"""Shape arithmetic with a short cut.

What a chain of Gather, Unsqueeze, Concat, Where and arithmetic computes is often a part of some
tensor's shape, with a few numbers around it. Shapes that the chain reads anyway, and those of the
graph's inputs, are looked through for it; for a dimension that is not there, the tensor that was
computed last before the chain and has it. Source: Shape-1, Shape-15 and Gather-1 of the ONNX
operator specification.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from onnx import TensorProto

from onnxslim import ir
from onnxslim.base import Effect
from onnxslim.ir import Tensor
from onnxslim.passes.simplify._cone import cone
from onnxslim.passes.simplify._trial import Trial, TrialPass, TrialRule
from onnxslim.shapes import Expr, Sym

_FARTHEST = 64
"""How many nodes of a chain are looked at."""
_FIRST_WITH_BOUNDS = 15
"""The opset from which Shape can return a part of a shape."""


class _Part(NamedTuple):
    """Elements of a vector: numbers, or what a tensor holds, or some of its dimensions."""

    elements: Sequence[Expr]
    vector: Tensor | None = None
    source: Tensor | None = None
    axis: int = 0


@dataclass
class _Chain:
    """What the nodes above one node read: shapes, and vectors of sizes."""

    shapes: dict[Tensor, Tensor]
    """Tensors by the result of a Shape node over all their dimensions."""
    vectors: dict[tuple[Expr, ...], Tensor]
    sources: dict[Tensor, tuple[Expr, ...]]


def _look_up(trial: Trial) -> _Chain:
    """Look at the chain above the node of *trial*."""
    chain, facts = _Chain({}, {}, {}), trial.facts
    for tensor in trial.graph.inputs:
        _add_source(chain, trial, tensor)
    queue, seen = [trial.node], {trial.node}
    while queue and len(seen) < _FARTHEST:
        node = queue.pop(0)
        if node.operator == "Shape" and node is not trial.node:
            _add_source(chain, trial, node.inputs[0])
            if not node.attrs:
                chain.shapes.setdefault(node.inputs[0], node.outputs[0])
            continue
        for tensor in node.inputs:
            above = ir.producer(tensor)
            value = facts.value(tensor)
            if above is None or value is None or above in seen:
                continue
            if isinstance(value, tuple) and facts.elem_type(tensor) == TensorProto.INT64:
                chain.vectors.setdefault(value, tensor)
            seen.add(above)
            queue.append(above)
    return chain


def _add_source(chain: _Chain, trial: Trial, tensor: Tensor) -> None:
    dims = trial.facts.dims(tensor)
    if dims is not None and any(isinstance(dim, Sym) for dim in dims):
        chain.sources.setdefault(tensor, dims)


def _add_carriers(chain: _Chain, trial: Trial, value: tuple[Expr, ...]) -> None:
    """Add a tensor for each dimension that the chain does not lead to."""
    for dimension in value:
        if isinstance(dimension, Sym) and not any(dimension in d for d in chain.sources.values()):
            found = trial.carriers.last(dimension, trial.node)
            if found is not None:
                _add_source(chain, trial, found)


def _rebuild(trial: Trial) -> Tensor | None:
    """Take the dimensions from where they come from, if that takes fewer nodes."""
    value = trial.facts.value(trial.out)
    if trial.facts.elem_type(trial.out) != TensorProto.INT64 or len(trial.node.outputs) > 1:
        return None
    if isinstance(value, Sym):
        return _number(trial, value)
    if not isinstance(value, tuple) or not any(isinstance(element, Sym) for element in value):
        return None
    chain = _look_up(trial)
    _add_carriers(chain, trial, value)
    parts = _parts(value, chain)
    if parts is None or not _pays(trial, chain, parts):
        return None
    made = [_made(trial, chain, part) for part in parts]
    return made[0] if len(made) == 1 else trial.new.Concat(*made, axis=0)


def _parts(value: tuple[Expr, ...], chain: _Chain) -> list[_Part] | None:
    """Cut *value* into parts, the longest first; None where a part comes from nowhere."""
    parts: list[_Part] = []
    at = 0
    while at < len(value):
        best = max(
            _candidates(value[at:], chain), key=lambda part: len(part.elements), default=None
        )
        if best is not None:
            parts.append(best)
        elif isinstance(value[at], Sym):
            return None
        elif parts and parts[-1].vector is None and parts[-1].source is None:
            parts[-1] = _Part([*parts[-1].elements, value[at]])
        else:
            parts.append(_Part([value[at]]))
        at += 1 if best is None else len(best.elements)
    return parts


def _candidates(value: tuple[Expr, ...], chain: _Chain) -> list[_Part]:
    """Return what could stand for the start of *value*, without counting on numbers alone."""
    found = [
        _Part(known, vector=tensor)
        for known, tensor in chain.vectors.items()
        if value[: len(known)] == known and any(isinstance(e, Sym) for e in known)
    ]
    for tensor, dims in chain.sources.items():
        for axis in range(len(dims)):
            pairs = list(zip(value, dims[axis:], strict=False))
            length = next((i for i, (a, b) in enumerate(pairs) if a != b), len(pairs))
            if any(isinstance(element, Sym) for element in value[:length]):
                found.append(_Part(value[:length], source=tensor, axis=axis))
    return found


def _pays(trial: Trial, chain: _Chain, parts: list[_Part]) -> bool:
    """Say whether *parts* take fewer nodes than would go."""
    cost, kept = int(len(parts) > 1), {part.vector for part in parts if part.vector is not None}
    shapes = dict(chain.shapes)
    for part in parts:
        if part.source is None:
            continue
        cost += 1
        if trial.opset < _FIRST_WITH_BOUNDS:
            whole = len(part.elements) == len(chain.sources[part.source])
            cost += (part.source not in shapes) - whole
            kept.add(shapes.setdefault(part.source, part.source))
    return cost < len(cone([trial.node], trial.pinned, frozenset(kept)))


def _made(trial: Trial, chain: _Chain, part: _Part) -> Tensor:
    if part.vector is not None:
        return part.vector
    if part.source is None:
        return trial.ints([element for element in part.elements if isinstance(element, int)])
    end = part.axis + len(part.elements)
    whole = len(part.elements) == len(chain.sources[part.source])
    if trial.opset >= _FIRST_WITH_BOUNDS and not whole:
        return trial.new.Shape(part.source, start=part.axis, end=end)
    if part.source not in chain.shapes:
        chain.shapes[part.source] = trial.new.Shape(part.source)
    shape = chain.shapes[part.source]
    return shape if whole else trial.new.Gather(shape, trial.ints(range(part.axis, end)))


def _number(trial: Trial, value: Sym) -> Tensor | None:
    """Take one dimension by its place."""
    chain = _look_up(trial)
    _add_carriers(chain, trial, (value,))
    places = [(t, dims.index(value)) for t, dims in chain.sources.items() if value in dims]
    places.sort(key=lambda place: place[0] not in chain.shapes)
    if not places:
        return None
    tensor, axis = places[0]
    shape = chain.shapes.get(tensor)
    kept = frozenset(() if shape is None else (shape,))
    if 1 + (shape is None) >= len(cone([trial.node], trial.pinned, kept)):
        return None
    return trial.new.Gather(trial.new.Shape(tensor) if shape is None else shape, trial.ints(axis))


_OPERATORS = (
    "Add", "Cast", "Concat", "Div", "Expand", "Gather", "Max", "Min", "Mod", "Mul", "ReduceMax",
    "ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "Slice", "Squeeze", "Sub", "Unsqueeze",
    "Where",
)  # fmt: skip


class RebuildShapeValues(TrialPass):
    """Read dimensions from the tensors that have them where that takes fewer nodes."""

    name = "rebuild-shape-values"
    effect = Effect.EXACT
    rules: ClassVar[Mapping[str, TrialRule]] = dict.fromkeys(_OPERATORS, _rebuild)
