"""The elements of small integer tensors, by operator: the arithmetic that exporters do on shapes.

A rule sees a `Site` and returns the elements of every output, None for outputs it does not know.
It raises `Unknown` where it cannot say anything. Element types are the caller's business: rules are
asked only where the result is int32, int64, bool, float or double.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from onnx import TensorProto

from onnxslim.ir import Constant
from onnxslim.shapes import expr
from onnxslim.shapes.dims import product, reduced_axes, shape_slice, slices
from onnxslim.shapes.expr import Sym, floor_div, is_at_least
from onnxslim.shapes.site import (
    FLOATS,
    INTEGERS,
    LARGEST,
    Known,
    Site,
    Unknown,
    Value,
    axis_of,
    is_short,
    places_of_slice,
    whole,
)

Rule = Callable[[Site], "Sequence[Value | None]"]
RULES: dict[str, Rule] = {}


def rule(*operators: str) -> Callable[[Rule], Rule]:
    """Make a function the rule of *operators*."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(operators, function))
        return function

    return register


def array(elements: Sequence[Any]) -> Value:
    """Return a vector of objects."""
    made = np.empty(len(elements), object)
    made[:] = elements
    return made


# From shapes --------------------------------------------------------------------------------------


@rule("Shape")
def _shape(at: Site) -> Sequence[Value | None]:
    return [array(at.dims(0)[shape_slice(at)])]


@rule("Size")
def _size(at: Site) -> Sequence[Value | None]:
    return [_scalar(product(at.dims(0)))]


def _scalar(element: Any) -> Value:
    made = np.empty((), object)
    made[()] = element
    return made


@rule("ConstantOfShape")
def _constant_of_shape(at: Site) -> Sequence[Value | None]:
    value = at.node.attr("value")
    if value is not None and not isinstance(value, Constant):
        raise Unknown
    filler = at.known.value(value) if isinstance(value, Constant) else array([0])
    if filler is None:
        raise Unknown
    return [np.full(at.output_dims(), filler.reshape(-1)[0], object)]


@rule("Range")
def _range(at: Site) -> Sequence[Value | None]:
    start, limit, delta = (at.integers(slot)[0] for slot in range(3))
    numbers = range(start, limit, delta) if delta else ()
    if not numbers or len(numbers) > LARGEST:
        raise Unknown
    return [array(numbers)]


# Moving elements ----------------------------------------------------------------------------------


@rule("Identity")
def _identity(at: Site) -> Sequence[Value | None]:
    return [at.value(0)]


@rule("Flatten", "Reshape", "Squeeze", "Unsqueeze")
def _reshape(at: Site) -> Sequence[Value | None]:
    return [at.value(0).reshape(at.output_dims())]


@rule("Expand")
def _expand(at: Site) -> Sequence[Value | None]:
    return [np.broadcast_to(at.value(0), at.output_dims())]


@rule("Tile")
def _tile(at: Site) -> Sequence[Value | None]:
    at.output_dims()
    return [np.tile(at.value(0), at.integers(1))]


@rule("Transpose")
def _transpose(at: Site) -> Sequence[Value | None]:
    return [np.transpose(at.value(0), at.node.attr("perm"))]


@rule("Gather")
def _gather(at: Site) -> Sequence[Value | None]:
    value = at.value(0)
    axis = axis_of(at.number("axis", 0), value.ndim)
    picked = at.value(1)
    whole(picked.flat)
    return [_box(np.take(value, picked.astype(np.int64), axis=axis))]


def _box(value: Any) -> Value:
    return value if isinstance(value, np.ndarray) else _scalar(value)


@rule("Slice")
def _slice(at: Site) -> Sequence[Value | None]:
    value = at.value(0)
    for axis, start, end, step in slices(at, value.ndim):
        start, end = whole((start, end))
        places = places_of_slice(value.shape[axis], start, end, step)
        value = value.take(np.array(places, int), axis)
    return [value]


@rule("Concat")
def _concat(at: Site) -> Sequence[Value | None]:
    at.output_dims()
    parts = [at.known.value_or_unknowns(at.input(i)) for i in range(len(at.node.inputs))]
    axis = at.number("axis", 1 if at.opset < 4 else 0)
    return [np.concatenate(parts, axis=axis_of(axis, parts[0].ndim))]


@rule("Split")
def _split(at: Site) -> Sequence[Value | None]:
    value = at.value(0)
    axis = axis_of(at.number("axis", 0), value.ndim)
    shapes = [at.known.shape(tensor) or () for tensor in at.node.outputs]
    ends = np.cumsum(whole(shape[axis] for shape in shapes))
    if ends[-1] != value.shape[axis]:
        raise Unknown
    return np.split(value, ends[:-1], axis=axis)


# Element by element -------------------------------------------------------------------------------

_Operation = Callable[[Known, Any, Any], Any]


def _elementwise(*operators: str) -> Callable[[_Operation], _Operation]:
    """Make a function of two elements the rule of *operators*; more inputs are folded."""

    def register(operation: _Operation) -> _Operation:
        @rule(*operators)
        def apply(at: Site) -> Sequence[Value | None]:
            if at.opset < 7:
                raise Unknown
            at.output_dims()
            step = np.frompyfunc(functools.partial(operation, at.known), 2, 1)
            values = [at.known.value_or_unknowns(t) for t in at.node.inputs]
            return [_box(functools.reduce(step, values))]

        return operation

    return register


@_elementwise("Add")
def _add(_: Known, left: Any, right: Any) -> Any:
    return left + right


@_elementwise("Sub")
def _sub(_: Known, left: Any, right: Any) -> Any:
    return left - right


@_elementwise("Mul")
def _mul(_: Known, left: Any, right: Any) -> Any:
    return left * right


@_elementwise("Min")
def _min(_: Known, left: Any, right: Any) -> Any:
    return expr.minimum(left, right)


@_elementwise("Max")
def _max(_: Known, left: Any, right: Any) -> Any:
    return expr.maximum(left, right)


@rule("Div")
def _div(at: Site) -> Sequence[Value | None]:
    at.output_dims()
    is_float = at.known.elem_type(at.node.outputs[0]) in FLOATS
    divide = _ratio if is_float else functools.partial(_truncated, at.known)
    return [_box(np.frompyfunc(divide, 2, 1)(at.value(0), at.value(1)))]


def _ratio(left: Any, right: Any) -> Any:
    if isinstance(right, Sym):
        quotient = expr.divide(left, right)
        if quotient is None:
            raise Unknown
        return quotient
    if not right:
        raise Unknown
    return left * Fraction(right.denominator, right.numerator)


def _truncated(known: Known, left: Any, right: Any) -> Any:
    """Divide as integers do: round towards zero."""
    exact = expr.divide(left, right)
    if exact is not None:
        return exact
    if isinstance(left, int) and isinstance(right, int) and right:
        quotient = abs(left) // abs(right)
        return quotient if (left < 0) == (right < 0) else -quotient
    if is_at_least(right, 1) and is_at_least(left + right, 1):  # what is above -1 rounds to 0
        return floor_div(expr.positive_part(left), right)
    return known.fresh(None)


@rule("Mod")
def _mod(at: Site) -> Sequence[Value | None]:
    at.output_dims()
    rest = functools.partial(_remainder, bool(at.number("fmod", 0)))
    return [_box(np.frompyfunc(rest, 2, 1)(at.value(0), at.value(1)))]


def _remainder(like_c: bool, left: Any, right: Any) -> Any:
    if not is_at_least(right, 1) or (like_c and not is_at_least(left, 0)):
        raise Unknown
    return expr.modulo(left, right)


@rule("Pow")
def _pow(at: Site) -> Sequence[Value | None]:
    at.output_dims()
    return [_box(np.frompyfunc(_power, 2, 1)(at.value(0), at.value(1)))]


def _power(base: Any, exponent: Any) -> Any:
    if not isinstance(exponent, int) or not 0 <= exponent <= 3:
        raise Unknown
    return functools.reduce(lambda total, _: total * base, range(exponent), 1)


# Comparisons and choices --------------------------------------------------------------------------


@_elementwise("Equal")
def _equal(_: Known, left: Any, right: Any) -> Any:
    if isinstance(left, bool) or left is None or right is None:
        return None if left is None or right is None else left == right
    return expr.is_equal(left, right)


@_elementwise("Less")
def _less(_: Known, left: Any, right: Any) -> Any:
    return expr.is_less(left, right)


@_elementwise("Greater")
def _greater(_: Known, left: Any, right: Any) -> Any:
    return expr.is_less(right, left)


@_elementwise("LessOrEqual")
def _less_or_equal(_: Known, left: Any, right: Any) -> Any:
    return _negation(expr.is_less(right, left))


@_elementwise("GreaterOrEqual")
def _greater_or_equal(_: Known, left: Any, right: Any) -> Any:
    return _negation(expr.is_less(left, right))


@_elementwise("And")
def _and(_: Known, left: Any, right: Any) -> Any:
    if left is False or right is False:
        return False
    return None if left is None or right is None else True


@_elementwise("Or")
def _or(_: Known, left: Any, right: Any) -> Any:
    if left is True or right is True:
        return True
    return None if left is None or right is None else False


def _negation(value: Any) -> Any:
    return None if value is None else not value


@rule("Not")
def _not(at: Site) -> Sequence[Value | None]:
    return [_each(_negation, at.value(0))]


@rule("Where")
def _where(at: Site) -> Sequence[Value | None]:
    at.output_dims()
    if at.known.elem_type(at.node.outputs[0]) in FLOATS and None in at.elements(0):
        raise Unknown  # what results is no integer, so that nothing can stand for it
    chosen = (at.known.value_or_unknowns(at.input(slot)) for slot in (1, 2))
    choose = np.frompyfunc(functools.partial(_choice, at.known), 3, 1)
    return [_box(choose(at.value(0), *chosen))]


def _choice(known: Known, condition: Any, left: Any, right: Any) -> Any:
    if condition is not None:
        return left if condition else right
    if left == right:
        return left
    if isinstance(left, bool) or isinstance(right, bool):
        return None
    return known.fresh(0 if is_at_least(left, 0) and is_at_least(right, 0) else None)


# One at a time ------------------------------------------------------------------------------------


def _each(function: Callable[[Any], Any], value: Value) -> Value:
    return _box(np.frompyfunc(function, 1, 1)(value))


@rule("Neg")
def _neg(at: Site) -> Sequence[Value | None]:
    return [_each(lambda element: element * -1, at.value(0))]


@rule("Abs")
def _abs(at: Site) -> Sequence[Value | None]:
    return [_each(lambda element: expr.maximum(element, element * -1), at.value(0))]


@rule("Floor")
def _floor(at: Site) -> Sequence[Value | None]:
    return [_each(lambda element: floor_div(element, 1), at.value(0))]


@rule("Ceil")
def _ceil(at: Site) -> Sequence[Value | None]:
    return [_each(lambda element: floor_div(element * -1, 1) * -1, at.value(0))]


@rule("Sqrt")
def _sqrt(at: Site) -> Sequence[Value | None]:
    return [_each(_root, at.value(0))]


def _root(element: Any) -> Any:
    """Return the root of a square."""
    if isinstance(element, int) and element >= 0:
        root = round(element**0.5)
        if root * root == element:
            return root
    if isinstance(element, Sym) and len(element.terms) == 1:
        ((first, *others), coefficient), *_ = element.terms
        if others == [first] and coefficient == 1 and first.low is not None and first.low >= 0:
            return Sym((((first,), 1),))
    raise Unknown


@rule("Cast", "CastLike")
def _cast(at: Site) -> Sequence[Value | None]:
    value = at.value(0)
    source = at.known.elem_type(at.input(0))
    target = at.known.elem_type(at.node.outputs[0])
    if target == TensorProto.BOOL:
        return [_each(_truth, value)]
    if source == TensorProto.BOOL:
        return [_each(functools.partial(_digit, at.known), value)]
    if source in FLOATS and target in INTEGERS:
        return [_each(_integer, value)]
    return [value]


def _truth(element: Any) -> Any:
    if element is None or isinstance(element, bool):
        return element
    return _negation(expr.is_equal(element, 0))


def _digit(known: Known, element: Any) -> Any:
    if element is None:
        raise Unknown
    return int(element)


def _integer(element: Any) -> Any:
    """Round towards zero."""
    if isinstance(element, int | Fraction):
        return int(element)
    if all(isinstance(coefficient, int) for _, coefficient in element.terms):
        return element
    if is_at_least(element, 0):
        return floor_div(element, 1)
    raise Unknown


# Reductions ---------------------------------------------------------------------------------------


def _reduction(operator: str, operation: Callable[[Any, Any], Any]) -> None:
    @rule(operator)
    def apply(at: Site) -> Sequence[Value | None]:
        value = at.value(0)
        keep = bool(at.number("keepdims", 1))
        axes = tuple(reduced_axes(at, value.ndim))
        if not value.size:
            raise Unknown
        for axis in sorted(axes, reverse=True):
            step = np.frompyfunc(operation, 2, 1)
            value = _box(step.reduce(value, axis=axis, keepdims=keep))
        return [value]


_reduction("ReduceProd", lambda left, right: left * right)
_reduction("ReduceSum", lambda left, right: left + right)
_reduction("ReduceMax", expr.maximum)
_reduction("ReduceMin", expr.minimum)


# Floats -------------------------------------------------------------------------------------------


def is_exact(value: Value, elem_type: int) -> bool:
    """Say whether floating point makes exactly these numbers of sizes below 2**20."""
    exact = np.float32 if elem_type == TensorProto.FLOAT else np.float64
    for element in value.flat:
        if isinstance(element, Sym):
            if not all(is_short(coefficient) for _, coefficient in element.terms):
                return False
        elif Fraction(float(exact(element))) != element:
            return False
    return True
