"""What is known so far, and a node as the rules see it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from onnxslim.ir import Constant, Node, Tensor, Variable
from onnxslim.shapes import expr
from onnxslim.shapes.equations import Equation
from onnxslim.shapes.expr import Expr

Shape = tuple[Expr, ...]
Loose = Sequence[Expr | None]
"""A shape, None in the place of dimensions that are not known."""
Value = npt.NDArray[Any]
"""Elements as objects: `Expr`, `Fraction` in float tensors, True, False or None in boolean ones."""

INTEGERS = frozenset({TensorProto.INT64, TensorProto.INT32})
FLOATS = frozenset({TensorProto.FLOAT, TensorProto.DOUBLE})
TRACKED = INTEGERS | FLOATS | {TensorProto.BOOL}
LARGEST = 64
"""Only tensors of at most so many elements have their values followed."""
ENDLESS = 2**31 - 1
"""Slices to here or beyond go to the end: exporters write one of several such numbers."""


class Unknown(Exception):
    """A rule needs something that is not known."""


class Known:
    """Shapes, element types and values by tensor; what is not in here is not known."""

    def __init__(self) -> None:
        """Know nothing but what constants say of themselves."""
        self.dims: dict[Tensor, Shape] = {}
        self.types: dict[Tensor, int] = {}
        self.values: dict[Tensor, Value | None] = {}
        self.sequences: dict[Tensor, list[Shape]] = {}
        """The shapes of the elements of sequences."""
        self.equations: list[Equation] = []
        """Nodes that fail where two dimensions are not equal, and these dimensions."""
        self._count = 0

    def fresh(self, low: int | None = 0) -> Expr:
        """Return a number that nothing is known of but that it is not below *low*."""
        self._count += 1
        return expr.unknown(self._count, low)

    def shape(self, tensor: Tensor) -> Shape | None:
        """Return the dimensions of *tensor*."""
        return tensor.shape if isinstance(tensor, Constant) else self.dims.get(tensor)

    def elem_type(self, tensor: Tensor) -> int:
        """Return the ``TensorProto.DataType`` of *tensor*, 0 if unknown."""
        return tensor.elem_type if isinstance(tensor, Constant) else self.types.get(tensor, 0)

    def value(self, tensor: Tensor) -> Value | None:
        """Return the elements of *tensor*."""
        if isinstance(tensor, Constant) and tensor not in self.values:
            self.values[tensor] = _constant(tensor)
        return self.values.get(tensor)

    def value_or_unknowns(self, tensor: Tensor) -> Value:
        """Return the elements of *tensor*, unknowns where nothing is known of a few integers."""
        value, shape = self.value(tensor), self.shape(tensor)
        if value is None:
            if self.elem_type(tensor) not in INTEGERS or not is_small(shape):
                raise Unknown
            value = np.empty(shape, object)  # type: ignore[arg-type]
            for index in np.ndindex(value.shape):
                value[index] = self.fresh(None)
            self.values[tensor] = value
        return value

    def agrees(self, other: Known, tensor: Variable) -> bool:
        """Say whether *other* knows the same of *tensor*, in which no unknown number occurs."""
        mine = self._told(tensor)
        return mine == other._told(tensor) and not any(map(expr.is_vague, mine))

    def _told(self, tensor: Variable) -> list[Any]:
        """Return all that is known of *tensor*: numbers, expressions, None."""
        dims, value = self.dims.get(tensor), self.values.get(tensor)
        told: list[Any] = [self.types.get(tensor), None if dims is None else len(dims)]
        told += dims or ()
        for shape in self.sequences.get(tensor, ()):
            told += (len(shape), *shape)
        if value is not None:
            told += (*value.shape, *value.flat)
        return told


def is_small(shape: Shape | None) -> bool:
    """Say whether a tensor of this shape has few elements, and a number of them that is known."""
    if shape is None or not all(isinstance(dim, int) for dim in shape):
        return False
    return math.prod(shape) <= LARGEST  # type: ignore[operator]


def is_short(number: int | Fraction) -> bool:
    """Say whether sizes can be multiplied by *number* in float32 without rounding."""
    power_of_two = number.denominator & (number.denominator - 1) == 0
    return power_of_two and number.denominator <= 64 and abs(number.numerator) <= 1024


def _constant(tensor: Constant) -> Value | None:
    kind = tensor.elem_type
    if kind not in TRACKED or tensor.size > LARGEST:
        return None
    array = tensor.values
    if kind not in FLOATS:
        return array.astype(object)
    if not np.isfinite(array).all():
        return None
    made = np.empty(array.shape, object)
    for index in np.ndindex(array.shape):
        number = Fraction(float(array[index]))
        made[index] = number.numerator if number.denominator == 1 else number
    return made


class Site:
    """A node, and what is known of its inputs; asking for what is not known raises `Unknown`."""

    __slots__ = ("known", "node")

    def __init__(self, node: Node, known: Known) -> None:
        """Look at *node* with what is *known* so far."""
        self.node, self.known = node, known

    @property
    def opset(self) -> int:
        """The version of ONNX's own operators here."""
        return self.node.graph.version if self.node.graph is not None else 0

    def has(self, slot: int) -> bool:
        """Say whether the input is there."""
        return self.node.input(slot) is not None

    def input(self, slot: int) -> Tensor:
        """Return an input."""
        tensor = self.node.input(slot)
        if tensor is None:
            raise Unknown
        return tensor

    def dims(self, slot: int) -> Shape:
        """Return the dimensions of an input."""
        shape = self.known.shape(self.input(slot))
        if shape is None:
            raise Unknown
        return shape

    def value(self, slot: int) -> Value:
        """Return the elements of an input."""
        value = self.known.value(self.input(slot))
        if value is None:
            raise Unknown
        return value

    def sequence(self, slot: int) -> list[Shape]:
        """Return the shapes of the elements of an input that is a sequence."""
        shapes = self.known.sequences.get(self.input(slot))
        if shapes is None:
            raise Unknown
        return shapes

    def elements(self, slot: int) -> list[Any]:
        """Return the elements of an input in a row."""
        return list(self.value(slot).flat)

    def integers(self, slot: int) -> list[int]:
        """Return the elements of an input, all of them plain numbers."""
        return whole(self.elements(slot))

    def length(self, slot: int) -> int:
        """Return the number of elements of a vector."""
        shape = self.dims(slot)
        if len(shape) != 1 or not isinstance(shape[0], int):
            raise Unknown
        return shape[0]

    def equate(self, left: Sequence[Expr], right: Sequence[Expr]) -> None:
        """Note that the node fails where two rows of dimensions are not equal."""
        if left != right:
            pairs = zip(left, right, strict=True)
            self.known.equations += [Equation(self.node, a, b) for a, b in pairs if a != b]

    def number(self, name: str, default: int) -> int:
        """Return an attribute that is an integer."""
        return whole([self.node.attr(name, default)])[0]

    def numbers(self, name: str, default: list[int] | None = None) -> list[int]:
        """Return an attribute that is a list of integers."""
        value = self.node.attr(name, default)
        if not isinstance(value, list):
            raise Unknown
        return whole(value)

    def listed(self, name: str, slot: int) -> list[int] | None:
        """Return integers that are an attribute in old opsets and an input in new ones."""
        if name in self.node.attrs:
            return self.numbers(name)
        return self.integers(slot) if self.has(slot) else None

    def output_dims(self) -> tuple[int, ...]:
        """Return the dimensions of the first output, all of them numbers, with a small product."""
        shape = self.known.shape(self.node.outputs[0])
        if shape is None or not is_small(shape):
            raise Unknown
        return shape  # type: ignore[return-value]


def whole(values: Iterable[Any]) -> list[int]:
    """Return *values* if all are plain integers."""
    found = list(values)
    if not all(isinstance(value, int) for value in found):
        raise Unknown
    return found


def axis_of(axis: int, rank: int) -> int:
    """Return *axis* counted from the front."""
    if not -rank <= axis < rank:
        raise Unknown
    return axis % rank if rank else 0


def places_of_slice(size: int, start: int, end: int, step: int) -> range:
    """Return the places that a Slice takes of an axis of *size*.

    They are those of Python, but that a backward slice begins inside the axis (Slice-13).
    """
    return range(size)[max(start, -size) if step < 0 else start : end : step]
