"""The shapes of the elements of sequences that are built and taken apart in plain sight.

A rule returns the shapes of all elements of its output; sequences whose length is not known, or
whose elements change, have none. Source: the operator specifications of ONNX.
"""

from __future__ import annotations

from collections.abc import Callable

from onnxslim.shapes.dims import ceil_div
from onnxslim.shapes.expr import Expr
from onnxslim.shapes.site import LARGEST, Shape, Site, Unknown, axis_of, whole

Rule = Callable[[Site], list[Shape]]


def _construct(at: Site) -> list[Shape]:
    return [at.dims(slot) for slot in range(len(at.node.inputs))]


def _empty(_: Site) -> list[Shape]:
    return []


def _insert(at: Site) -> list[Shape]:
    shapes = list(at.sequence(0))
    index = at.integers(2)[0] if at.has(2) else len(shapes)
    if not -len(shapes) <= index <= len(shapes):
        raise Unknown
    shapes.insert(index, at.dims(1))
    return shapes


def _erase(at: Site) -> list[Shape]:
    shapes = list(at.sequence(0))
    del shapes[axis_of(at.integers(1)[0] if at.has(1) else -1, len(shapes))]
    return shapes


def _split(at: Site) -> list[Shape]:
    dims = at.dims(0)
    axis = axis_of(at.number("axis", 0), len(dims))
    before, after = dims[:axis], dims[axis + 1 :]
    if not at.has(1):  # in slices of one
        count = whole([dims[axis]])[0]
        if count > LARGEST:
            raise Unknown
        kept = (1,) if at.number("keepdims", 1) else ()
        return [(*before, *kept, *after)] * count
    return [(*before, size, *after) for size in _sizes(at, dims[axis])]


def _sizes(at: Site, dim: Expr) -> list[Expr]:
    """Return how long the pieces are: a list says so, a scalar is the length of most."""
    if len(at.dims(1)) == 1:
        return at.elements(1)
    length = at.integers(1)[0]
    (count,) = whole([ceil_div(dim, length)]) if length > 0 else (0,)
    if not 0 < count <= LARGEST:
        raise Unknown
    return [*[length] * (count - 1), dim - length * (count - 1)]


RULES: dict[str, Rule] = {
    "Identity": lambda at: at.sequence(0),
    "SequenceConstruct": _construct,
    "SequenceEmpty": _empty,
    "SequenceErase": _erase,
    "SequenceInsert": _insert,
    "SplitToSequence": _split,
}
