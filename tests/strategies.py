"""Random small models, made of the shapes that passes look for and of near misses.

A `Drawing` grows a graph motif by motif. Every motif is valid in every opset it is offered in, so
every drawn model loads and runs; choices that only vary numbers come from a seeded generator, so
that hypothesis has little to shrink. Differences of values are avoided, because what cancels has
no relative error.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import onnx.printer
from hypothesis import note
from hypothesis import strategies as st
from onnx import AttributeProto, TensorProto, helper, numpy_helper

T = TypeVar("T")
Array = npt.NDArray[Any]
Dim = int | str

OPSETS = (7, 9, 11, 13, 15, 17, 18, 20, 21, 23, 23)
LOCAL = "local"
FLOAT, HALF, DOUBLE = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE
INT, BOOL = TensorProto.INT64, TensorProto.BOOL


@dataclass(eq=False)
class Value:
    """A tensor and what is known about it."""

    name: str
    shape: tuple[Dim, ...]
    elem: int
    exact: bool = False
    """Whether no rounding can change it: an input, or made from constants."""
    random: int = 0
    """1 if it follows from a random operator, 2 if it does not differ in every run."""

    @property
    def static(self) -> tuple[int, ...] | None:
        numbers = tuple(dim for dim in self.shape if isinstance(dim, int))
        return numbers if len(numbers) == len(self.shape) else None


NOTHING = Value("", (), 0)
"""An optional input that is left out."""


@dataclass(eq=False)
class Scope:
    """A graph being drawn: the main one, or the body of a control-flow node."""

    outer: Scope | None = None
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    results: list[Value] = field(default_factory=list)
    """Further candidates for outputs, which no other motif reads."""

    @property
    def depth(self) -> int:
        return 0 if self.outer is None else self.outer.depth + 1

    def visible(self) -> list[Value]:
        return ([] if self.outer is None else self.outer.visible()) + self.values


@functools.cache
def _below(count: int) -> st.SearchStrategy[int]:
    """Faster than sampling from ever new sequences."""
    return st.integers(0, count - 1)


class Drawing:
    """A model being drawn."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.opset = self.choose(OPSETS)
        self.elem = self.choose((FLOAT, FLOAT, FLOAT, HALF, DOUBLE))
        self.ir = self.choose((8, 9, 10, 4, 3) if self.opset >= 9 else (8, 9, 10, 4))
        dims: tuple[Dim, ...] = (2, "N")
        self.batch = self.choose(dims)
        self.rng = np.random.default_rng(draw(st.integers(0, 2**16)))
        self.store = self.choose(("initializer", "node", "anywhere"))
        self.inputs: list[Value] = []
        self.overridable: list[Value] = []
        self.functions: dict[str, onnx.FunctionProto] = {}
        self.main = self.scope = Scope()
        self._counters: dict[int, Iterator[int]] = {0: itertools.count()}
        self.input((self.batch, self.choose((4, 2, 3)), 4, 4))

    # Choosing

    def choose(self, options: Sequence[T]) -> T:
        return options[self.draw(_below(len(options)))]

    def flip(self) -> bool:
        return self.draw(st.booleans())

    def shuffled(self, axes: Iterable[int]) -> list[int]:
        return [int(axis) for axis in self.rng.permutation(list(axes))]

    def pick(
        self, like: Value | None = None, ok: Callable[[Value], bool] = lambda _: True
    ) -> Value:
        """Return a visible float value, of the shape of *like*; the first input always qualifies.

        Where nothing is *ok*, a new graph input of two dimensions is made.
        """
        found = [
            value
            for value in self.scope.visible()
            if value.elem == self.elem and ok(value) and (like is None or value.shape == like.shape)
        ]
        return self.choose(found[::-1]) if found else self.input((self.batch, 6))

    # Making

    def name(self) -> str:
        """Return a new name; sibling bodies use the same names, as exporters do."""
        depth = self.scope.depth
        letter = "t" if not depth else f"b{depth}_"
        return f"{letter}{next(self._counters[depth])}"

    def input(self, shape: tuple[Dim, ...], elem: int | None = None) -> Value:
        """Return a new input of the main graph."""
        value = Value(f"x{len(self.inputs)}", shape, elem or self.elem, exact=True)
        self.inputs.append(value)
        self.main.values.append(value)
        return value

    def node(
        self,
        op: str,
        inputs: Iterable[Value],
        shape: Sequence[Dim] = (),
        elem: int | None = None,
        /,
        outputs: int = 1,
        domain: str | None = None,
        exact: bool = False,
        **attrs: Any,
    ) -> Value:
        """Add a node and return its first output, which is *exact* if nothing rounds."""
        read = list(inputs)
        names = [self.name() for _ in range(outputs)]
        label = f"n_{names[0]}" if self.rng.random() < 0.3 else None
        made = helper.make_node(op, [v.name for v in read], names, label, domain=domain, **attrs)
        self.scope.nodes.append(made)
        return Value(
            names[0], tuple(shape), elem or self.elem,
            exact and all(value.exact or not value.name for value in read),
            max([value.random for value in read] + [op.startswith("Random")]),
        )  # fmt: skip

    def keep(self, value: Value) -> Value:
        """Let other motifs read *value*."""
        self.scope.values.append(value)
        return value

    def constant(self, values: npt.ArrayLike, elem: int | None = None) -> Value:
        """Return a constant: an initializer here or outside, or a Constant node."""
        array = np.asarray(values).astype(helper.tensor_dtype_to_np_dtype(elem or self.elem))
        value = Value(self.name(), array.shape, elem or self.elem, exact=True)
        proto = numpy_helper.from_array(array, value.name)
        style = self.store
        if style == "anywhere":
            style = ("initializer", "node", "outer")[self.rng.integers(3)]
        if style == "initializer" and self.ir < 4:  # a body then has no initializers
            style = "outer"
        if style == "node":
            proto.name = ""
            self.scope.nodes.append(helper.make_node("Constant", [], [value.name], value=proto))
        elif style == "outer" and self.scope is not self.main:
            value.name = proto.name = f"{value.name}_w{len(self.main.weights)}"
            self.main.weights.append(proto)
        else:
            self.scope.weights.append(proto)
        return value

    def ints(self, *values: int) -> Value:
        return self.constant(list(values), INT)

    def noise(self, *shape: int, scale: float = 1.0) -> Value:
        """Return a constant of random numbers."""
        return self.constant(self.rng.standard_normal(shape) * scale)

    def versioned(
        self, since: int, op: str, x: Value, name: str, values: Sequence[int], shape: Sequence[Dim]
    ) -> Value:
        """Add a node whose parameter was an attribute before opset *since*, then an input."""
        if self.opset < since:
            attrs: dict[str, Any] = {name: list(values)}
            return self.node(op, [x], shape, exact=True, **attrs)
        return self.node(op, [x, self.ints(*values)], shape, exact=True)

    def cast(self, x: Value, elem: int) -> Value:
        return self.node("Cast", [x], x.shape, elem, exact=True, to=elem)

    def body(
        self, name: str, inputs: Sequence[Value], build: Callable[[], list[Value]]
    ) -> onnx.GraphProto:
        """Draw a subgraph; *build* adds its nodes and returns its outputs."""
        self.scope = Scope(self.scope)
        self._counters[self.scope.depth] = itertools.count()
        self.scope.values.extend(value for value in inputs if value.elem == self.elem)
        try:
            outputs = build()
            return helper.make_graph(
                self.scope.nodes, name, [typed(v, not v.shape) for v in inputs],
                [typed(v, False) for v in outputs], self.scope.weights,
            )  # fmt: skip
        finally:
            assert self.scope.outer is not None
            self.scope = self.scope.outer

    # The result

    def model(self, outputs: Sequence[Value]) -> onnx.ModelProto:
        main = self.main
        shapes = self.flip()
        inputs = [typed(value, True) for value in (*self.inputs, *self.overridable)]
        if self.ir < 4:
            inputs += [
                helper.make_tensor_value_info(w.name, w.data_type, w.dims) for w in main.weights
            ]
        graph = helper.make_graph(
            main.nodes, "random", inputs, [typed(v, shapes) for v in outputs], main.weights,
            value_info=[typed(v, True) for v in self._inner(outputs)] if shapes else [],
        )  # fmt: skip
        imports = [helper.make_opsetid("", self.opset)]
        if self.functions:
            imports.append(helper.make_opsetid(LOCAL, 1))
        return helper.make_model(
            graph,
            opset_imports=imports,
            ir_version=self.ir,
            functions=list(self.functions.values()),
        )

    def _inner(self, outputs: Sequence[Value]) -> list[Value]:
        made = {name for node in self.main.nodes for name in node.output}
        made -= {value.name for value in outputs}
        return [value for value in self.main.values if value.name in made]


def typed(value: Value, shape: bool) -> onnx.ValueInfoProto:
    """Declare *value*, with its shape or only the number of its dimensions."""
    dims = value.shape if shape else [None] * len(value.shape)
    return helper.make_tensor_value_info(value.name, value.elem, dims)


# Motifs -------------------------------------------------------------------------------------------

Motif = Callable[[Drawing], None]


@dataclass(frozen=True)
class Offer:
    """A motif and where it can stand."""

    motif: Motif
    opset: int = 1
    until: int = 99
    ir: int = 1
    max_depth: int = 3
    double: bool = True

    def fits(self, d: Drawing) -> bool:
        return (
            self.opset <= d.opset <= self.until
            and d.ir >= self.ir
            and d.scope.depth <= self.max_depth
            and (self.double or d.elem != DOUBLE)
        )


OFFERS: list[Offer] = []


def motif(often: int = 1, **limits: Any) -> Callable[[Motif], Motif]:
    """Offer a motif, more *often* or less, to the drawings that its *limits* allow."""

    def register(function: Motif) -> Motif:
        OFFERS.extend([Offer(function, **limits)] * often)
        return function

    return register


def is_image(value: Value) -> bool:
    return len(value.shape) == 4 and all(isinstance(dim, int) for dim in value.shape[1:])


def is_matrix(value: Value) -> bool:
    return len(value.shape) == 2 and isinstance(value.shape[1], int)


def _is_known_but_for_batch(value: Value) -> bool:
    return 2 <= len(value.shape) < 5 and all(isinstance(dim, int) for dim in value.shape[1:])


def _width(value: Value, axis: int = 1) -> int:
    dim = value.shape[axis]
    assert isinstance(dim, int)
    return dim


@motif(often=3, double=False)  # onnxruntime convolves no doubles
def convolution(d: Drawing) -> None:
    """Conv or ConvTranspose in any grouping, often normalised."""
    x = d.pick(ok=is_image)
    if not is_image(x):
        x = d.inputs[0]
    channels, transposed = _width(x), d.flip()
    groups = d.choose([g for g in {1, 2, channels} if channels % g == 0])
    outs = groups * d.choose((1, 2))
    size = d.choose((1, 3))
    shape = (channels, outs // groups) if transposed else (outs, channels // groups)
    weight = d.noise(*shape, size, size, scale=0.3)
    bias = [d.noise(outs, scale=d.choose((1.0, 0.0)))] if d.flip() else []
    pads = [size // 2] * 4
    for _ in range(d.choose((1, 1, 1, 2))):  # once more with the same weights
        attrs: dict[str, Any] = {"group": groups} if groups > 1 or d.flip() else {}
        y = d.node(
            "ConvTranspose" if transposed else "Conv", [x, weight, *bias],
            (x.shape[0], outs, *x.shape[2:]), pads=pads, **attrs,
        )  # fmt: skip
        d.keep(y)
        if d.choose((True, True, False)):
            d.choose((normalise, normalise, scale))(d, y)


def scale(d: Drawing, x: Value) -> None:
    """Multiply and add a number per channel, or one for all, or what is neither."""
    channels, ones = _width(x), [1] * (len(x.shape) - 2)
    for op in d.choose((("Mul", "Add"), ("Mul",), ("Add",), ("Div", "Sub"))):
        shapes: list[Sequence[int]] = [(channels, *ones), (1, channels, *ones), (), (1,)]
        shapes.append((_width(x, -1),))
        x = d.keep(d.node(op, [x, d.constant(d.rng.uniform(0.5, 1.5, d.choose(shapes)))], x.shape))


def normalise(d: Drawing, x: Value) -> None:
    """BatchNormalization, also with zero gammas, shared statistics and a computed parameter."""
    channels = _width(x)
    gamma = d.rng.uniform(0.5, 1.5, channels)
    gamma[d.rng.random(channels) < d.choose((0.0, 0.5, 1.0))] = 0
    scale, mean = d.constant(gamma), d.noise(channels)
    var = d.constant(d.rng.uniform(0.5, 1.5, channels))
    variant = d.choose(("plain", "plain", "plain", "shared", "open", "epsilon"))
    attrs: dict[str, Any] = {"epsilon": 0.1, "momentum": 0.5} if variant == "epsilon" else {}
    if variant == "shared":
        beta = mean
    else:
        beta = d.input((channels,)) if variant == "open" else d.noise(channels)
    d.keep(d.node("BatchNormalization", [x, scale, beta, mean, var], x.shape, **attrs))


@motif(often=4)
def product(d: Drawing) -> None:
    """Gemm in its forms, or MatMul and Add; on matrices perhaps normalised."""
    x = d.pick(ok=is_matrix)
    width, out = _width(x), d.choose((3, 6))
    shape = d.choose(((out,), (1, out), (1,), (), (1, 1)))
    if d.flip():
        attrs: dict[str, Any] = {}
        transposed = d.flip()
        if transposed:
            attrs["transB"] = 1
        if d.flip():
            attrs["beta"] = d.choose((0.5, 0.0, 1.0))
        if d.flip():
            attrs["alpha"] = d.choose((0.5, 1.0))
        operands = [x, d.noise(*((out, width) if transposed else (width, out)), scale=0.4)]
        if d.opset < 11 or d.flip():
            operands.append(d.noise(*shape, scale=d.choose((1.0, 0.0))))
        y = d.node("Gemm", operands, (x.shape[0], out), **attrs)
    else:
        y = d.node("MatMul", [x, d.noise(width, out, scale=0.4)], (x.shape[0], out))
        terms = [d.keep(y), d.noise(*shape)]
        y = d.node("Add", terms if d.flip() else terms[::-1], y.shape)
    d.keep(y)
    if d.choose((True, True, False)):
        d.choose((normalise, normalise, scale))(d, y)


@motif(double=False)
def wide(d: Drawing) -> None:
    """A layer with enough weights to be worth quantizing, and others behind it."""
    width = 48
    x = d.input((d.batch, width))
    y = d.node("MatMul", [x, d.noise(width, width, scale=0.15)], x.shape)
    if d.flip():
        y = d.node("Add", [y, d.noise(width)], x.shape)
    y = d.keep(d.node("Relu", [y], x.shape))
    if d.flip():
        y = d.keep(d.node("Add", [y, d.pick(x)], x.shape))
    weight, bias = d.noise(width, width, scale=0.15), d.noise(width)
    d.keep(d.node("Gemm", [y, weight, bias], x.shape, transB=1))


@motif()
def wide_product(d: Drawing) -> None:
    """A product with enough weights for storing them in fewer bits to pay."""
    x = d.pick(ok=is_matrix)
    width = _width(x)
    wide = max(2, 480 // width)
    d.keep(d.node("MatMul", [x, d.noise(width, wide, scale=0.4)], (x.shape[0], wide)))


@motif(double=False)
def recurrence(d: Drawing) -> None:
    """An LSTM with enough weights for storing them in fewer bits to pay."""
    size, width = 8, 8
    x = d.input((3, d.batch, width))
    weights = [d.noise(1, 4 * size, inner, scale=0.3) for inner in (width, size)]
    bias = [d.noise(1, 8 * size)] if d.flip() else []
    shape = (3, 1, d.batch, size)
    d.keep(d.node("LSTM", [x, *weights, *bias], shape, hidden_size=size))


@motif()
def narrow_product(d: Drawing) -> None:
    """A product with a matrix of rank 1, large enough for two vectors to run faster."""
    x = d.pick(ok=is_matrix)
    width = _width(x)
    wide = 24576 // width
    weight = d.rng.standard_normal((width, 1)) * d.rng.standard_normal(wide)
    d.keep(d.node("MatMul", [x, d.constant(weight)], (x.shape[0], wide)))


@motif()
def structured_product(d: Drawing) -> None:
    """A product with a matrix that is constant along its diagonals."""
    x = d.pick(ok=is_matrix)
    width, wide = _width(x), 24
    places = np.arange(wide) - np.arange(width)[:, None] + width - 1
    weight = d.rng.standard_normal(width + wide - 1)[places]
    d.keep(d.node("MatMul", [x, d.constant(weight)], (x.shape[0], wide)))


@motif()
def chain(d: Drawing) -> None:
    """Elementwise operators."""
    x = d.pick()
    ops = ["Relu", "Abs", "Sigmoid", "Tanh"]
    if d.opset >= 9 and d.elem == FLOAT:
        ops.append("Erf")
    for _ in range(d.choose((1, 2))):
        x = d.keep(d.node(d.choose(ops), [x], x.shape))


@motif()
def combination(d: Drawing) -> None:
    """Two values of one shape: residual connections, or a value with itself."""
    x = d.pick()
    y = d.pick(like=x)
    ops = ["Add", "Sum"]
    if d.elem != HALF and d.opset >= 8:
        ops += ["Mul", "Max"]
    d.keep(d.node(d.choose(ops), [x, y], x.shape))


def split(d: Drawing, x: Value, axis: int, outputs: int = 2) -> list[Value]:
    """Split *x* evenly."""
    part = _width(x, axis) // outputs
    shape = [*x.shape[:axis], part, *x.shape[axis + 1 :]]
    parts = [part] * outputs
    if d.opset >= 18 and d.flip():
        first = d.node(
            "Split", [x], shape, exact=True, axis=axis, num_outputs=outputs, outputs=outputs
        )
    elif d.opset >= 13:
        first = d.node("Split", [x, d.ints(*parts)], shape, exact=True, axis=axis, outputs=outputs)
    else:
        first = d.node("Split", [x], shape, exact=True, axis=axis, split=parts, outputs=outputs)
    names = d.scope.nodes[-1].output
    return [Value(n, tuple(shape), x.elem, first.exact, first.random) for n in names]


def cut(d: Drawing, x: Value, axis: int, start: int, end: int, step: int = 1) -> Value:
    """Slice *x*, whose size along *axis* is known where *end* does not clearly mean all."""
    far = end >= 2**31 - 1
    size = x.shape[axis] if far and not start else len(range(_width(x, axis))[start:end:step])
    shape = [*x.shape[:axis], size, *x.shape[axis + 1 :]]
    if d.opset < 10:
        return d.node("Slice", [x], shape, exact=True, starts=[start], ends=[end], axes=[axis])
    operands = [x, d.ints(start), d.ints(end), d.ints(axis)]
    if step != 1 or d.flip():
        operands.append(d.ints(step))
    return d.node("Slice", operands, shape, exact=True)


@motif()
def branches(d: Drawing) -> None:
    """Parts of a value, put together again in the same order or another."""
    x = d.pick(ok=lambda v: len(v.shape) >= 2 and isinstance(v.shape[1], int))
    width = _width(x)
    if width % 2:
        halves = [cut(d, x, 1, 0, 1), cut(d, x, 1, 1, d.choose((2**31 - 1, width, 2**63 - 1)))]
    elif d.flip():
        halves = split(d, x, 1)
    else:
        halves = [cut(d, x, 1, 0, width // 2), cut(d, x, 1, width // 2, width)]
    if d.flip():
        halves[0] = d.node("Relu", [halves[0]], halves[0].shape)
    used = d.choose(("both", "swapped", "first", "twice"))
    if used == "first":
        d.keep(halves[0])
        return
    parts = {"both": halves, "swapped": halves[::-1], "twice": [halves[0], halves[0]]}[used]
    total = sum(_width(part) for part in parts)
    d.keep(d.node("Concat", parts, [x.shape[0], total, *x.shape[2:]], exact=True, axis=1))


def _pad(d: Drawing, x: Value, *pads: int) -> Value:
    rank = len(x.shape)
    ends = [*pads, *[0] * (rank - len(pads))]
    shape = [dim if not e else int(dim) + e for dim, e in zip(x.shape, ends, strict=True)]
    return d.versioned(11, "Pad", x, "pads", [0] * rank + ends, shape)


def _full(d: Drawing, x: Value, op: str, value: float, *shape: int) -> Value:
    """Add a node that combines *x* with a constant of one number."""
    return d.node(op, [x, d.constant(np.full(shape, value))], x.shape)


def _dropout(d: Drawing, x: Value) -> Value:
    """Dropout that passes its input on, or trains for all one knows."""
    if d.opset < 12:
        return d.node("Dropout", [x], x.shape, exact=True, outputs=d.choose((1, 2)), ratio=0.5)
    training = d.choose((None, "false", "true", "open"))
    if training is None:
        return d.node("Dropout", [x], x.shape, exact=True, outputs=d.choose((1, 2)))
    mode = d.input((), BOOL) if training == "open" else d.constant(training == "true", BOOL)
    y = d.node("Dropout", [x, d.constant(0.5), mode], x.shape, exact=True)
    y.random = max(y.random, {"false": 0, "true": 1, "open": 2}[training])
    return y


@motif()
def dropout(d: Drawing) -> None:
    """Dropout in its modes."""
    d.keep(_dropout(d, d.pick()))


def _resize(d: Drawing, x: Value) -> Value:
    if d.elem == DOUBLE:
        return _clipped(d, x)
    scales = d.constant(np.ones(len(x.shape)), FLOAT)
    if d.opset < 10:
        return d.node("Upsample", [x, scales], x.shape, exact=True, mode="nearest")
    operands = [x, scales] if d.opset < 11 else [x, d.constant([], FLOAT), scales]
    return d.node("Resize", operands, x.shape, exact=True, mode="nearest")


def _squeezed(d: Drawing, x: Value) -> Value:
    """Unsqueeze and Squeeze."""
    wide = d.versioned(13, "Unsqueeze", x, "axes", [1], [x.shape[0], 1, *x.shape[1:]])
    return d.versioned(13, "Squeeze", d.keep(wide), "axes", [1], x.shape)


def _transposed_twice(d: Drawing, x: Value) -> Value:
    perm = d.shuffled(range(len(x.shape)))
    inner = d.node("Transpose", [x], [x.shape[i] for i in perm], exact=True, perm=perm)
    back = [perm.index(i) for i in range(len(perm))]
    return d.node("Transpose", [d.keep(inner)], x.shape, exact=True, perm=back)


def _expanded(d: Drawing, x: Value) -> Value:
    return d.node("Expand", [x, d.ints(*[1] * len(x.shape))], x.shape, exact=True)


def _clipped(d: Drawing, x: Value) -> Value:
    if d.elem == FLOAT or d.opset >= 12:
        return d.node("Clip", [x], x.shape, exact=True)
    return d.node("Identity", [x], x.shape, exact=True)


def _there_and_back(d: Drawing, x: Value, elem: int) -> Value:
    """Two casts; onnxruntime 1.32 breaks models in which only a body reads the second."""
    return d.node("Abs", [d.cast(d.cast(x, elem), d.elem)], x.shape, exact=True)


Step = Callable[[Drawing, Value], Value]
# The opset from which on each can be used, and what does nothing in it.
NOTHINGS: list[tuple[int, Step]] = [
    (7, lambda d, x: d.node("Identity", [x], x.shape, exact=True)),
    (7, lambda d, x: d.cast(x, d.elem)),
    (7, lambda d, x: _full(d, x, "Mul", 1)),
    (7, lambda d, x: _full(d, x, "Add", 0, *[1] * d.choose((0, 1, len(x.shape))))),
    (7, lambda d, x: _full(d, x, "Add", -0.0)),
    (7, lambda d, x: _full(d, x, "Sub", 0)),
    (7, lambda d, x: _full(d, x, "Div", 1, 1)),
    (7, lambda d, x: _full(d, x, "Pow", 1)),
    (7, lambda d, x: d.node("Transpose", [x], x.shape, exact=True, perm=range(len(x.shape)))),
    (7, lambda d, x: d.node("Reshape", [x, d.ints(*[0] * len(x.shape))], x.shape, exact=True)),
    (7, lambda d, x: d.node("Concat", [x], x.shape, exact=True, axis=0)),
    (7, lambda d, x: d.node("Mean" if d.elem == FLOAT else "Sum", [x], x.shape, exact=True)),
    (12, lambda d, x: d.node(d.choose(("Max", "Min")), [x], x.shape, exact=True)),
    (7, lambda d, x: d.node("Tile", [x, d.ints(*[1] * len(x.shape))], x.shape, exact=True)),
    (7, _squeezed),
    (7, _transposed_twice),
    (7, _dropout),
    (7, _pad),
    (7, lambda d, x: cut(d, x, 0, 0, d.choose((2**31 - 1, 2**63 - 1)))),
    (8, _expanded),
    (9, _resize),
    (11, _clipped),
    (15, lambda d, x: d.node("CastLike", [x, x], x.shape, exact=True)),
]
WIDE = (1, 1, 1, 1, 1)
# What looks as if it did nothing.
ALMOST: list[tuple[int, Step]] = [
    (7, lambda d, x: d.node("Mul", [x, d.constant(np.ones((1, *WIDE)[-1 - len(x.shape) :]))],
                            (1, *x.shape))),
    (7, lambda d, x: _full(d, x, "Mul", 1 + 2**-7)),
    (7, lambda d, x: _full(d, x, "Add", 0.125)),
    (7, lambda d, x: d.node("Add", [x, d.constant(np.eye(1, 2)[0] * 0 + [0, 1])], x.shape)
        if x.shape[-1] == 2 else _full(d, x, "Add", 2.0)),
    (7, lambda d, x: d.node("Div", [d.constant(1), d.node("Exp", [d.node("Tanh", [x], x.shape)],
                            x.shape)], x.shape)),
    (7, lambda d, x: d.node("Pow", [d.constant(1), x], x.shape)),
    (7, lambda d, x: _pad(d, x, 0, 1) if len(x.shape) > 1 and x.static else _pad(d, x)),
    (7, lambda d, x: cut(d, x, len(x.shape) - 1, 1, 2**31 - 1)
        if x.static and _width(x, -1) > 1 else cut(d, x, 0, 0, 2**31 - 1)),
    (10, lambda d, x: cut(d, x, 1, 2**31 - 1, -(2**31), -1)
        if is_image(x) else d.node("Identity", [x], x.shape)),
    (7, lambda d, x: d.node("Tile", [x, d.ints(2, *[1] * (len(x.shape) - 1))],
                            (2 * int(x.shape[0]), *x.shape[1:])) if x.static else x),
    (7, lambda d, x: d.node("ReduceMean", [x], (x.shape[0], *[1] * (len(x.shape) - 1)),
                            axes=list(range(1, len(x.shape))))
        if d.opset < 18 and len(x.shape) > 1 else x),
    (7, lambda d, x: _there_and_back(d, x, INT) if x.exact else x),
    (7, lambda d, x: _there_and_back(d, x, HALF) if x.exact else x),
    (7, lambda d, x: _there_and_back(d, x, DOUBLE)),
    (7, lambda d, x: x if d.elem != FLOAT else
        d.node("Clip", [x], x.shape, min=-0.5, max=0.5) if d.opset < 11
        else d.node("Clip", [x, d.constant(-0.5)], x.shape)),
]  # fmt: skip


@motif(often=4)
def nothing(d: Drawing) -> None:
    """Nodes that change nothing."""
    x = d.pick(ok=lambda v: 0 < len(v.shape) < 5)
    for _ in range(d.choose((1, 2))):
        x = d.keep(d.choose([step for since, step in NOTHINGS if since <= d.opset])(d, x))


@motif(often=4)
def almost_nothing(d: Drawing) -> None:
    """Nodes that look as if they changed nothing."""
    x = d.pick(ok=lambda v: 0 < len(v.shape) < 5)
    y = d.choose([step for since, step in ALMOST if since <= d.opset])(d, x)
    if y is not x:
        d.keep(y)


@motif()
def rearrangement(d: Drawing) -> None:
    """Flatten, Reshape with 0 and -1, Transpose."""
    x = d.pick(ok=lambda v: 2 <= len(v.shape) < 5 and not isinstance(v.shape[-1], str))
    inner = [dim for dim in x.shape[1:] if isinstance(dim, int)]
    if len(inner) != len(x.shape) - 1:
        return
    size = int(np.prod(inner))
    kind = d.choose(("flatten", "zero", "rest", "split", "transpose"))
    if kind == "flatten":
        d.keep(d.node("Flatten", [x], (x.shape[0], size), exact=True))
    elif kind == "transpose":
        perm = d.shuffled(range(len(x.shape)))
        shape = [x.shape[i] for i in perm]
        d.keep(d.node("Transpose", [x], shape, exact=True, perm=perm))
    else:
        target = {"zero": [0, -1], "rest": [-1, size], "split": [-1, 1, size]}[kind]
        shape = [x.shape[0], 1, size] if kind == "split" else [x.shape[0], size]
        d.keep(d.node("Reshape", [x, d.ints(*target)], shape, exact=True))


@motif(often=2)
def shape_arithmetic(d: Drawing) -> None:
    """Shape, Gather, Unsqueeze, Concat, Reshape: what exporters write for ``x.view``."""
    x = d.pick(ok=_is_known_but_for_batch)
    size = int(np.prod([int(dim) for dim in x.shape[1:]]))
    variant = d.choose(("view", "view", "slice", "expand", "fill", "range", "size"))
    if variant == "size":
        d.scope.results.append(d.node("Size", [x], (), INT))
        return
    shape = d.node("Shape", [x], (len(x.shape),), INT, exact=True)
    if variant == "fill" and d.opset >= 9:
        value = numpy_helper.from_array(
            np.array([0.5], helper.tensor_dtype_to_np_dtype(d.elem)), "value"
        )
        filled = d.node("ConstantOfShape", [shape], x.shape, value=value)
        d.keep(d.node("Add", [x, filled], x.shape))
        return
    if variant == "expand" and d.opset >= 8:
        d.keep(d.node("Expand", [d.noise(*[1] * len(x.shape)), shape], x.shape))
        return
    if variant == "slice":
        one = cut(d, shape, 0, 0, 1)
    else:
        first = d.node("Gather", [shape, d.constant(0, INT)], (), INT, exact=True, axis=0)
        if variant == "range" and d.opset >= 11:
            ends = [d.constant(0, INT), first, d.constant(1, INT)]
            d.scope.results.append(d.node("Range", ends, x.shape[:1], INT))
            return
        one = d.versioned(13, "Unsqueeze", first, "axes", [0], (1,))
    target = d.node("Concat", [one, d.ints(-1)], (2,), INT, axis=0)
    d.keep(d.node("Reshape", [x, target], (x.shape[0], size), exact=True))


@motif(often=2)
def small_constant(d: Drawing) -> None:
    """A few nodes on constants, whose value is smaller than they are."""
    x = d.pick(ok=lambda v: bool(v.shape) and isinstance(v.shape[-1], int))
    width = _width(x, -1)
    kind = d.choose(("sum", "cast", "transpose", "concat", "gather", "several"))
    if kind == "sum":
        c = d.node("Mul", [d.node("Add", [d.noise(width), d.noise(width)], (width,)), d.noise(1)])
    elif kind == "cast":
        c = d.cast(d.constant(d.rng.integers(0, 9, width), INT), d.elem)
    elif kind == "transpose":
        c = d.node("Transpose", [d.noise(width, 1)], (1, width), perm=[1, 0])
    elif kind == "concat" and width > 1:
        c = d.node("Concat", [d.noise(1), d.noise(width - 1)], (width,), axis=0)
    elif kind == "several" and width < 5:
        wide = d.noise(4, width)
        c = split(d, wide, 0, 4)[d.choose((0, 3))]
        c = d.versioned(13, "Squeeze", c, "axes", [0], (width,))
    else:
        c = d.node("Gather", [d.noise(2, width), d.constant(1, INT)], (width,), axis=0)
    d.keep(d.node("Add", [x, c], x.shape))


@motif(opset=9)
def packed_constant(d: Drawing) -> None:
    """A few nodes that unpack a value much larger than they are: it must stay packed."""
    x = d.pick(ok=is_matrix)
    width = _width(x)
    kind = d.choose(("fill", "expand", "tile", "cast", "scaled"))
    if kind == "fill":
        value = numpy_helper.from_array(np.full(1, 0.5, np.float32), "value")
        c = d.node("ConstantOfShape", [d.ints(width, 40)], (width, 40), FLOAT, value=value)
        c = c if d.elem == FLOAT else d.cast(c, d.elem)
    elif kind == "expand":
        c = d.node("Expand", [d.noise(1, 40), d.ints(width, 1)], (width, 40))
    elif kind == "tile":
        c = d.node("Tile", [d.noise(1, 40), d.ints(width, 1)], (width, 40))
    else:
        bits = d.constant(d.rng.integers(-9, 9, (width, 40)), TensorProto.INT8)
        c = d.cast(bits, d.elem)
        if kind == "scaled":
            c = d.node("Mul", [c, d.noise(40, scale=0.05)], (width, 40))
    d.keep(d.node("MatMul", [x, c], (x.shape[0], 40)))


# Two nodes that can be one ------------------------------------------------------------------------


def _inner(d: Drawing, value: Value) -> Value:
    """Let others read an inner result now and then."""
    return d.keep(value) if d.rng.random() < 0.2 else value


def _number(d: Drawing, x: Value) -> Value:
    """A constant that keeps the shape of *x*; far from 0, for products and quotients."""
    shapes: list[tuple[int, ...]] = [(), (1,), (_width(x, -1),)]
    return d.constant(d.rng.uniform(0.5, 1.5, d.choose(shapes)))


def _clamped(d: Drawing, x: Value) -> Value:
    for _ in range(2):
        kind = d.choose(("Relu", "Max", "Min", "Clip"))
        bound = d.rng.integers(-4, 4) / 4
        if kind == "Relu" or (d.opset < 12 and d.elem != FLOAT):
            x = d.node("Relu", [x], x.shape)
        elif kind != "Clip":
            x = d.node(kind, [x, d.constant(bound)], x.shape)
        elif d.opset < 11:
            x = d.node("Clip", [x], x.shape, min=float(bound), max=2.0)
        else:
            ends = [d.constant(bound), d.constant(2.0)]
            x = d.node("Clip", [x, *d.choose((ends, ends[:1], [NOTHING, ends[1]]))], x.shape)
        x = _inner(d, x)
    return x


def _shifted(d: Drawing, x: Value) -> Value:
    family = d.choose((("Add", "Sub"), ("Mul", "Div"), ("Mul", "Neg")))
    for _ in range(2):
        operands = [x, _number(d, x)]
        op = d.choose(family)
        if op == "Neg":
            operands.pop()
        x = _inner(d, d.node(op, operands[:: d.choose((1, -1)) if op != "Div" else 1], x.shape))
    return x


def _rescaled(d: Drawing, x: Value) -> Value:
    """Sums and products with constants by turns."""
    for op in d.choose(
        (("Div", "Sub", "Div"), ("Add", "Mul", "Add"), ("Sub", "Add", "Mul", "Div"))
    ):
        x = _inner(d, d.node(op, [x, _number(d, x)], x.shape))
    return x


def _reread(d: Drawing, x: Value) -> Value:
    """Parts of a Concat."""
    y = d.node("Relu", [x], x.shape)
    width = _width(x)
    both = _inner(d, d.node("Concat", [x, y], [x.shape[0], 2 * width, *x.shape[2:]], axis=1))
    kind = d.choose(("slice", "split", "gather"))
    if kind == "split":
        return d.keep(split(d, both, 1)[d.choose((0, 1))])
    if kind == "slice":
        return cut(d, both, 1, *d.choose(((width, 2 * width), (0, width), (1, width + 1))))
    index = d.constant(d.choose((0, width)), INT)
    return d.node("Gather", [both, index], [x.shape[0], *x.shape[2:]], axis=1)


def _moved_again(d: Drawing, x: Value) -> Value:
    """Gather, Tile or Pad twice."""
    rest = [int(dim) for dim in x.shape[2:]]
    if d.flip():
        for indices in ([0, -1, 0], [2, 1]):
            shape = (x.shape[0], len(indices), *rest)
            x = _inner(d, d.node("Gather", [x, d.ints(*indices)], shape, exact=True, axis=1))
        return x
    for _ in range(2):
        wide = (x.shape[0], 2 * _width(x), *rest)
        x = d.node("Tile", [x, d.ints(1, 2, *[1] * len(rest))], wide, exact=True)
    return x


def _recast(d: Drawing, x: Value) -> Value:
    """Casts by way of a wider type, or of a narrower one."""
    start = d.cast(x, INT) if x.exact and d.flip() else x
    middle = d.choose((DOUBLE, FLOAT, HALF)) if x.exact else DOUBLE
    end = d.choose((d.elem, TensorProto.INT32)) if x.exact else d.elem
    y = d.cast(_inner_cast(d, start, middle), end)
    return d.node("Abs", [y if end == d.elem else d.cast(y, d.elem)], x.shape, exact=True)


def _inner_cast(d: Drawing, x: Value, elem: int) -> Value:
    made = d.cast(x, elem)
    return _inner(d, made) if elem == d.elem else made


def _recut(d: Drawing, x: Value) -> Value:
    """A Slice of a Slice; parts one after the other."""
    width = _width(x)
    if width < 2:
        return cut(d, cut(d, x, 0, 0, 2**31 - 1), 1, 0, 1)
    if d.flip():
        edges = sorted({0, 1, width // 2, width})
        parts = [cut(d, x, 1, a, b) for a, b in itertools.pairwise(edges)]
        parts[0] = d.node("Relu", [parts[0]], parts[0].shape)
        total = _width(parts[0]) + _width(parts[-1])
        return d.node("Concat", parts[:: len(parts) - 1], [x.shape[0], total, *x.shape[2:]], axis=1)
    part = _inner(d, cut(d, x, 1, d.choose((0, 1)), d.choose((width, 2**31 - 1))))
    return cut(d, part, d.choose((1, len(x.shape) - 1)), 0, 1)


def _rejoined(d: Drawing, x: Value) -> Value:
    """A Concat of Concats."""
    y, axis = d.pick(like=x), d.choose((1, -1 if len(x.shape) == 2 else 1))
    twice = [x.shape[0], 2 * _width(x), *x.shape[2:]]
    inner = _inner(d, d.node("Concat", [x, y], twice, exact=True, axis=1))
    wide = [x.shape[0], 3 * _width(x), *x.shape[2:]]
    return d.node("Concat", [inner, y][:: d.choose((1, -1))], wide, exact=True, axis=axis)


def _taken(d: Drawing, x: Value) -> Value:
    """One element along an axis, which is dropped or kept."""
    left = [x.shape[0], *x.shape[2:]]
    index = d.choose((0, _width(x) - 1))
    kind = d.choose(("slice", "unsqueeze", "transpose", "split"))
    if kind == "slice" or (kind == "split" and _width(x) > 4):
        part = _inner(d, cut(d, x, 1, index, index + 1))
        return d.versioned(13, "Squeeze", part, "axes", [1], left)
    if kind == "split":
        parts = split(d, x, 1, _width(x))
        squeezed = [d.versioned(13, "Squeeze", part, "axes", [1], left) for part in parts]
        return d.node("Sum", squeezed, left)
    if kind == "unsqueeze":
        part = _inner(d, d.node("Gather", [x, d.constant(index, INT)], left, exact=True, axis=1))
        return d.versioned(13, "Unsqueeze", part, "axes", [1], [x.shape[0], 1, *x.shape[2:]])
    perm = [1, 0, *range(2, len(x.shape))]
    moved = [x.shape[i] for i in perm]
    inner = _inner(d, d.node("Transpose", [x], moved, exact=True, perm=perm))
    return d.node("Gather", [inner, d.constant(index, INT)], left, exact=True, axis=0)


def reduce(d: Drawing, op: str, x: Value, axes: Sequence[int], keep: int) -> Value:
    kept = {axis: 1 if axis in axes else dim for axis, dim in enumerate(x.shape)}
    shape = [dim for axis, dim in kept.items() if keep or axis not in axes]
    if d.opset >= (13 if op == "ReduceSum" else 18):
        return d.node(op, [x, d.ints(*axes)], shape, keepdims=keep)
    return d.node(op, [x], shape, axes=list(axes), keepdims=keep)


def _reduced(d: Drawing, x: Value) -> Value:
    """Reductions one after the other, or with a dimension that is made again."""
    op = d.choose(("ReduceMean", "ReduceSum"))
    keep = d.choose((0, 1))
    inner = _inner(d, reduce(d, op, x, [1], keep))
    if len(inner.shape) > 1 and d.flip():
        return reduce(d, op, inner, [len(inner.shape) - 1], keep)
    if keep:
        return d.versioned(13, "Squeeze", inner, "axes", [1], (x.shape[0], *x.shape[2:]))
    return d.versioned(13, "Unsqueeze", inner, "axes", [1], (x.shape[0], 1, *x.shape[2:]))


def _gathered(d: Drawing, x: Value) -> Value:
    """A Sum of Sums, or a Max of Maxes."""
    op = d.choose(("Sum", "Max")) if d.opset >= 12 or d.elem == FLOAT else "Sum"
    inner = _inner(d, d.node(op, [x, d.pick(like=x)], x.shape))
    return d.node(op, [inner, d.pick(like=x)], x.shape)


def _negated(d: Drawing, x: Value) -> Value:
    """Negations and reciprocals; no value and its negation can both be read."""
    kind = d.choose(("sum", "difference", "negated", "product", "inverse", "quotient"))
    if kind in ("inverse", "quotient"):
        under = d.node("Exp", [d.node("Tanh", [x], x.shape)], x.shape)
        if d.flip():
            inverse = d.node("Reciprocal", [under], x.shape)
        else:
            inverse = d.node("Div", [d.constant(1), under], x.shape)
        return d.node("Mul" if kind == "inverse" else "Div", [x, inverse], x.shape)
    c = _number(d, x)
    if kind == "negated":
        return d.node("Neg", [d.node("Sub", [x, c], x.shape)], x.shape)
    minus = d.node("Neg", [x], x.shape)
    if kind == "sum":
        return d.node("Add", [minus, c], x.shape)
    if kind == "difference":
        return d.node("Sub", [c, minus], x.shape)
    return d.node("Div", [minus, d.node("Neg", [c], c.shape)], x.shape)


def _chosen(d: Drawing, x: Value) -> Value:
    """Where, by a condition that is negated, compared or constant."""
    y = d.pick(like=x)
    kind = d.choose(("negated", "constant", "compared", "with true"))
    if kind == "constant":
        when = d.constant(np.full((), d.flip()), BOOL)
    elif kind == "compared":
        ids = next((v for v in d.inputs if v.elem == INT), None) or d.input((d.batch, 3), INT)
        less = d.node(d.choose(("Less", "Greater")), [ids, d.constant(2, INT)], ids.shape, BOOL)
        counted = d.cast(d.node("Not", [less], ids.shape, BOOL), d.elem)
        return d.node("Relu", [counted], ids.shape)
    else:
        when = next((v for v in d.inputs if v.elem == BOOL), None) or d.input((), BOOL)
        if kind == "negated":
            when = d.node("Not", [when], (), BOOL)
        else:
            op = d.choose(("Equal", "Xor", "And", "Or"))
            when = d.node(op, [when, d.constant(d.flip(), BOOL)], (), BOOL)
    return d.node("Where", [when, x, y], x.shape)


def _broadcast(d: Drawing, x: Value) -> Value:
    """An Expand that broadcasting would do as well, and one that it would not."""
    inner = [int(dim) for dim in x.shape[1:]]
    small = d.noise(*[1] * len(x.shape)) if d.flip() else d.noise(1, *inner[:-1], 1)
    if x.static is not None and d.flip():
        small = reduce(d, "ReduceMean", x, [1], 1)
    wide = _inner(d, d.node("Expand", [small, d.ints(1, *inner)], (1, *inner)))
    if small.shape[0] != 1:
        wide.shape = x.shape
    if d.flip():
        wide = d.node("Tanh", [wide], wide.shape)
    return d.node("Add", [wide, x] if d.flip() else [x, wide], x.shape)


def _moved_twice(d: Drawing, x: Value) -> Value:
    """Transposes one after the other, perhaps with a Reshape between."""
    perm = d.shuffled(range(1, len(x.shape)))
    y = d.node("Transpose", [x], [x.shape[i] for i in (0, *perm)], exact=True, perm=[0, *perm])
    y = _inner(d, y)
    inner = [int(dim) for dim in y.shape[1:]]
    if d.flip():
        shape = [0, inner[0], 1, *inner[1:]] if d.flip() else [0, 1, *inner]
        y = d.node("Reshape", [y, d.ints(*shape)], (y.shape[0], *shape[1:]), exact=True)
    again = d.shuffled(range(1, len(y.shape)))
    end = [y.shape[i] for i in (0, *again)]
    return d.node("Transpose", [y], end, exact=True, perm=[0, *again])


def _moved_around(d: Drawing, x: Value) -> Value:
    """Transposes before and after operators that do not care about the order of axes."""
    perm = [0, *d.shuffled(range(1, len(x.shape)))]
    back = [perm.index(i) for i in range(len(perm))]
    shape = [x.shape[i] for i in perm]
    y = d.node("Transpose", [x], shape, exact=True, perm=perm)
    kind = d.choose(("unary", "constant", "both", "reduce", "kept", "slice", "split"))
    if kind == "reduce":
        return reduce(d, "ReduceMean", y, [1], 0)
    if kind == "split" and _width(y) % 2 == 0:
        for part in split(d, y, 1):
            half = [part.shape[i] for i in back]
            y = d.keep(d.node("Transpose", [part], half, exact=True, perm=back))
        return y
    if kind in ("kept", "slice"):
        y = reduce(d, "ReduceMax", y, [1], 1) if kind == "kept" else cut(d, y, 1, 0, 1)
        thin = [shape[0], 1, *shape[2:]]
        return d.node("Transpose", [y], [thin[i] for i in back], exact=True, perm=back)
    if kind == "both":
        other = d.node("Transpose", [d.pick(like=x)], shape, exact=True, perm=perm)
        y = d.node("Add", [y, other], shape)
    elif kind == "constant":
        y = d.node("Add", [y, d.noise(1, int(shape[1]), *[1] * (len(shape) - 2))], shape)
    else:
        y = d.node("Relu", [y], shape)
    return d.node("Transpose", [_inner(d, y)], x.shape, exact=True, perm=back)


def _optional(d: Drawing, x: Value) -> Value:
    """An optional that is opened again."""
    return d.node("OptionalGetElement", [d.node("Optional", [x], x.shape)], x.shape)


def _sequence(d: Drawing, x: Value) -> Value:
    """A sequence that is taken apart again."""
    kind = d.choose(("construct", "split", "concat"))
    if kind == "split":
        parts = d.node("SplitToSequence", [x], x.shape, axis=1, keepdims=1)
        shape = [x.shape[0], 1, *x.shape[2:]]
        return d.node("SequenceAt", [parts, d.constant(0, INT)], shape)
    pair = d.node("SequenceConstruct", [x, d.pick(like=x)], x.shape)
    if kind == "concat":
        shape = [x.shape[0], 2 * _width(x), *x.shape[2:]]
        return d.node("ConcatFromSequence", [pair], shape, axis=1)
    return d.node("SequenceAt", [pair, d.constant(d.choose((0, 1, -1)), INT)], x.shape)


def _gelu(d: Drawing, x: Value) -> Value:
    if d.elem != FLOAT:
        return d.node("Neg", [x], x.shape)
    inner = d.node("Div", [x, d.constant(np.sqrt(2))], x.shape)
    gate = d.node("Add", [d.node("Erf", [inner], x.shape), d.constant(1)], x.shape)
    return d.node("Mul", [d.node("Mul", [x, gate], x.shape), d.constant(0.5)], x.shape)


def _activated(d: Drawing, x: Value) -> Value:
    """Activations, written out."""
    kind = d.choose(
        ("softsign", "swish", "sigmoid", "mish", "gelu", "gelu by tanh", "sigmoid by exp")
    )
    half = d.constant(0.5)
    if kind == "gelu by tanh":
        cube = d.node(
            "Mul", [d.node("Pow", [x, d.constant(3)], x.shape), d.constant(0.044715)], x.shape
        )
        inner = d.node(
            "Mul", [d.node("Add", [x, cube], x.shape), d.constant(np.sqrt(2 / np.pi))], x.shape
        )
        gate = d.node("Add", [d.node("Tanh", [inner], x.shape), d.constant(1)], x.shape)
        return d.node("Mul", [d.node("Mul", [x, half], x.shape), gate], x.shape)
    if kind == "sigmoid by exp":
        power = d.node("Exp", [d.node("Neg", [x], x.shape)], x.shape)
        under = d.node("Add", [power, d.constant(1)], x.shape)
        return d.node("Div", [d.choose((x, d.constant(1))), under], x.shape)
    if kind == "softsign" or d.elem != FLOAT or d.opset < 11:
        under = d.node("Add", [d.node("Abs", [x], x.shape), d.constant(1)], x.shape)
        return d.node("Div", [x, under], x.shape)
    if kind == "mish":
        gate = d.node("Tanh", [d.node("Softplus", [x], x.shape)], x.shape)
        return d.node("Mul", [x, gate], x.shape)
    if kind == "gelu":
        return _gelu(d, x)
    shifted = d.node("Add", [x, d.constant(3)], x.shape)
    gate = d.node("Clip", [shifted, d.constant(0), d.constant(6)], x.shape)
    if kind == "swish":
        gate = d.node("Mul", [x, _inner(d, gate)], x.shape)
    return d.node("Div", [gate, d.constant(6)], x.shape)


def _rectified(d: Drawing, x: Value) -> Value:
    """A slope below 0, written out."""
    slope = d.constant(d.rng.uniform(0.1, 0.9, d.choose(((), (_width(x, -1),)))))
    kind = d.choose(("where", "max", "difference"))
    if kind == "difference":
        below = d.node("Relu", [d.node("Neg", [x], x.shape)], x.shape)
        steep = d.node("Mul", [below, slope], x.shape)
        return d.node("Sub", [d.node("Relu", [x], x.shape), steep], x.shape)
    steep = d.node("Mul", [x, slope], x.shape)
    if kind == "max":
        return d.node("Max", [x, steep], x.shape)
    above = d.node("Greater", [x, d.constant(0)], x.shape, BOOL)
    return d.node("Where", [above, x, _inner(d, steep)], x.shape)


def _normalized_image(d: Drawing, x: Value) -> Value:
    return _normalized(d, x, image=True)


def _normalized(d: Drawing, x: Value, image: bool = False) -> Value:
    """Normalizations, written out; of inputs, because what is all alike is divided by nothing."""
    x = x if x.exact and len(x.shape) == 4 else d.inputs[0]
    axes = [2, 3] if image else d.choose(([3], [3], [2, 3], [1]))
    rms = not image and d.flip()
    scaled_whole = rms and d.opset >= 23 and d.choose((True, True, False))
    if not rms:
        x = d.node("Sub", [x, reduce(d, "ReduceMean", x, axes, 1)], x.shape)
    square = (
        d.node("Pow", [x, d.constant(2)], x.shape) if d.flip() else d.node("Mul", [x, x], x.shape)
    )
    mean = reduce(d, "ReduceMean", square, axes, 1)
    root = d.node("Sqrt", [d.node("Add", [mean, d.constant(1e-2)], mean.shape)], mean.shape)
    y = _inner(d, d.node("Div", [x, root], x.shape))
    whole = scaled_whole or (not image and d.flip())
    shape = (_width(x, 3),) if whole else (_width(x), 1, 1)
    if scaled_whole or image or d.flip():
        y = d.node("Mul", [y, d.noise(*shape)], x.shape)
        if not rms and (image or d.flip()):
            y = d.node("Add", [y, d.noise(*shape)], x.shape)
    return y


def _softmaxed(d: Drawing, x: Value) -> Value:
    """Softmax, written out; also over another axis than the largest is taken over."""
    axis = d.choose((len(x.shape) - 1, 1))
    top = reduce(d, "ReduceMax", x, [axis], 1)
    power = d.node("Exp", [d.node("Sub", [x, top], x.shape)], x.shape)
    total = reduce(d, "ReduceSum", power, [d.choose((axis, axis, 1))], 1)
    return d.node("Div", [power, total], x.shape)


def _classified(d: Drawing, x: Value) -> Value:
    """The place of the largest, of what differs clearly: an input."""
    x = x if x.exact else d.inputs[0]
    axis = len(x.shape) - 1
    scores = d.node(d.choose(("Softmax", "LogSoftmax")), [x], x.shape, axis=axis)
    kept = [*x.shape[:-1], 1]
    return d.cast(d.node("ArgMax", [_inner(d, scores)], kept, INT, axis=axis), d.elem)


def _measured_twice(d: Drawing, x: Value) -> Value:
    """The same dimension by two ways, for two Reshapes."""
    size = int(np.prod([int(dim) for dim in x.shape[1:]]))
    for way in ("Gather", "Slice"):
        shape = d.node("Shape", [x], (len(x.shape),), INT)
        if way == "Gather":
            count = d.node("Gather", [shape, d.ints(0)], (1,), INT)
        else:
            count = cut(d, shape, 0, 0, 1)
        target = d.node("Concat", [count, d.ints(1, -1)], (3,), INT, axis=0)
        x = d.node("Reshape", [x, target], (x.shape[0], 1, size), exact=True)
        x = d.node("Relu", [x], x.shape)
    return x


def _requantized(d: Drawing, x: Value) -> Value:
    """QuantizeLinear after DequantizeLinear, with the same parameters or others."""
    if d.elem != FLOAT:
        return d.node("Abs", [d.node("Abs", [x], x.shape)], x.shape)
    x = x if x.exact else d.inputs[0]
    if d.flip():
        bounded = d.node("Relu", [x], x.shape, exact=True)
        least = d.constant(d.choose((0, 3)), TensorProto.UINT8)
        step = d.constant(0.125)
        packed = d.node(
            "QuantizeLinear", [bounded, step, least], x.shape, TensorProto.UINT8, exact=True
        )
        return d.node("DequantizeLinear", [packed, step, least], x.shape, exact=True)
    scale, zero = d.constant(0.0625), d.constant(3, TensorProto.UINT8)
    steps = [(scale, zero, TensorProto.UINT8)] * 2
    if not d.choose((True, True, False)):  # of one type, onnxruntime would quantize only once
        steps[1] = d.constant(0.125), d.constant(3, TensorProto.INT8), TensorProto.INT8
    for used, least, kind in steps:
        packed = d.node("QuantizeLinear", [x, used, least], x.shape, kind, exact=True)
        x = _inner(d, d.node("DequantizeLinear", [packed, used, least], x.shape, exact=True))
    return x


def _scaled(d: Drawing, x: Value) -> Value:
    """A number that multiplies what a layer computes, with moves and sums between."""
    width = x.shape[-1]
    assert isinstance(width, int)
    y = _inner(d, d.node("MatMul", [x, d.noise(width, 4, scale=0.4)], (*x.shape[:-1], 4)))
    if d.flip():
        y = d.node("Add", [y, d.noise(4)], y.shape)
    if d.flip():
        y = d.versioned(13, "Unsqueeze", y, "axes", [1], (y.shape[0], 1, *y.shape[1:]))
    return d.node(d.choose(("Mul", "Div")), [y, d.constant(d.choose((0.5, 3.0)))], y.shape)


def _image(d: Drawing, x: Value) -> Value:
    return x if is_image(x) else d.inputs[0]


def _padded(d: Drawing, x: Value) -> Value:
    """A Pad before what can pad by itself."""
    x, pads = _image(d, x), [0, 0, 1, 1, 0, 0, 1, 1]
    inner: tuple[Dim, ...] = (x.shape[0], _width(x), _width(x, 2) + 2, _width(x, 3) + 2)
    y = d.versioned(11, "Pad", x, "pads", pads, inner)
    shape = (*x.shape[:2], _width(x, 2), _width(x, 3))
    if d.elem == DOUBLE:  # onnxruntime has no kernels for these
        return y
    if d.flip():
        return d.node("AveragePool", [y], shape, kernel_shape=[3, 3], count_include_pad=1)
    weight = d.noise(_width(x), _width(x), 3, 3, scale=0.3)
    return d.node("Conv", [y, weight], shape)


def _blocks(d: Drawing, x: Value) -> Value:
    """Blocks of channels moved into the image, written out."""
    x = _image(d, x)
    if _width(x) % 4:
        return d.node("Neg", [d.node("Neg", [x], x.shape)], x.shape)
    batch, channels = (2 if d.batch == 2 else -1), _width(x) // 4
    height, width = _width(x, 2), _width(x, 3)
    split, perm = d.choose(
        (
            ([batch, channels, 2, 2, height, width], [0, 1, 4, 2, 5, 3]),
            ([batch, 2, 2, channels, height, width], [0, 3, 4, 1, 5, 2]),
        )
    )
    y = d.node("Reshape", [x, d.ints(*split)], (x.shape[0], *split[1:]), exact=True)
    y = d.node("Transpose", [y], [y.shape[axis] for axis in perm], exact=True, perm=perm)
    wide = (channels, 2 * height, 2 * width)
    return d.node("Reshape", [y, d.ints(batch, *wide)], (x.shape[0], *wide), exact=True)


def _centered(d: Drawing, x: Value) -> Value:
    """Channels that are shifted and then lose their mean; a constant would have no deviation."""
    x = d.inputs[0] if x.exact else _image(d, x)
    channels = _width(x)
    shape = d.choose(((channels, 1, 1), (), (1, channels, 1, 1)))
    y = _inner(d, d.node(d.choose(("Add", "Sub")), [x, d.noise(*shape)], x.shape))
    if d.elem != FLOAT:
        return y
    return d.node("InstanceNormalization", [y, d.noise(channels), d.noise(channels)], x.shape)


def _flattened(d: Drawing, x: Value) -> Value:
    """A product with a matrix, all rows in one dimension or as they are."""
    x = d.inputs[0] if len(x.shape) < 3 else x
    width, rows = _width(x, -1), int(np.prod([int(dim) for dim in x.shape[1:-1]]))
    first = x.shape[0] if isinstance(x.shape[0], int) else -1
    matrix = d.noise(width, 3, scale=0.4)
    count: Dim = first * rows if first > 0 else "rows"
    y = d.node("Reshape", [x, d.ints(-1, width)], (count, width), exact=True)
    y = d.node("MatMul", [y, matrix], (count, 3))
    if d.flip():
        y = d.node("Add", [y, d.noise(3)], (count, 3))
    shape = [int(dim) for dim in x.shape[1:-1]]
    return d.node("Reshape", [y, d.ints(first, *shape, 3)], (x.shape[0], *shape, 3))


def _summed(d: Drawing, x: Value) -> Value:
    """Products in Einstein's notation."""
    x = _image(d, x)
    equation = d.choose(("nchw,wk->nchk", "nchw,kw->nchk", "nchw,ck->nkhw"))
    inner = _width(x, 1 if equation.startswith("nchw,ck") else 3)
    weight = d.noise(*((3, inner) if ",kw" in equation else (inner, 3)), scale=0.4)
    shape = [*x.shape]
    shape[1 if equation.startswith("nchw,ck") else 3] = 3
    return d.node("Einsum", [x, weight], shape, equation=equation)


def _alike(d: Drawing, x: Value) -> Value:
    """A constant, or a shape, of the type of something else."""
    size = d.node("Size", [x], (), INT) if d.flip() else d.constant(3, INT)
    number = d.node("CastLike", [size, x], ())
    return d.node("Mul", [x, number], x.shape)


def _reshaped(d: Drawing, x: Value) -> Value:
    """A sum with a constant, in another shape."""
    x = d.inputs[0] if len(x.shape) < 3 else x
    first, wide = (x.shape[0] if isinstance(x.shape[0], int) else 0), _width(x)
    sizes = [_width(x, axis) for axis in range(1, len(x.shape))]
    y = d.node("Reshape", [x, d.ints(first, wide, -1)], (x.shape[0], wide, 1), exact=True)
    y = d.node("Add", [y, d.noise(*d.choose(((), (1,), (wide, 1))))], y.shape)
    y = _inner(d, d.node("Sigmoid", [y], y.shape))
    return d.node("Reshape", [y, d.ints(first, *sizes)], x.shape)


def _looked_up(d: Drawing, x: Value) -> Value:
    """A table of weights that is read, turned, and added."""
    width = _width(x, -1)
    index = d.constant(d.rng.integers(0, 3, (3, width)), INT)
    kind = d.choose(("Gather", "GatherND"))
    if kind == "GatherND" and d.opset >= 11:
        index = d.constant(d.rng.integers(0, 3, (3, width, 1)), INT)
        table = d.node("GatherND", [d.noise(3, 2), index], (3, width, 2))
    else:
        table = d.node("Gather", [d.noise(3, 2), index], (3, width, 2), axis=0)
    table = d.node("Transpose", [table], (2, 3, width), perm=[2, 0, 1])
    rows = d.node("ReduceSum" if d.opset < 13 else "ReduceMean", [table], (1, 1, 1), keepdims=1)
    total = d.node("Reshape", [rows, d.ints(1)], (1,))
    return d.node("Add", [x, total], x.shape)


def _convolved(d: Drawing, x: Value, outs: int, size: int, groups: int = 1) -> Value:
    """A Conv that keeps the size of the image."""
    weight = d.noise(outs, _width(x) // groups, size, size, scale=0.3)
    bias = [d.noise(outs)] if d.flip() else []
    attrs: dict[str, Any] = {"group": groups} if groups > 1 else {}
    shape = (x.shape[0], outs, *x.shape[2:])
    return d.node("Conv", [x, weight, *bias], shape, pads=[size // 2] * 4, **attrs)


def _convolved_twice(d: Drawing, x: Value) -> Value:
    """A Conv of a Conv, one of them of single elements."""
    x, size = _image(d, x), d.choose((1, 3))
    if d.elem == DOUBLE:  # onnxruntime has no kernel for it
        return d.node("Neg", [x], x.shape)
    first = _inner(d, _convolved(d, x, d.choose((6, 2)), size))
    return _convolved(d, first, d.choose((3, 5)), d.choose((1, 1, 4 - size)))


def _quantized_convolution(d: Drawing, x: Value) -> Value:
    """A Conv whose weights are stored as codes, then a BatchNormalization or a product."""
    x = _image(d, x)
    if d.elem != FLOAT:
        return d.node("Neg", [x], x.shape)
    outs, channels = 3, _width(x)
    codes = d.constant(d.rng.integers(-9, 9, (outs, channels, 3, 3)), TensorProto.INT8)
    attrs: dict[str, Any] = {"axis": 0} if d.flip() else {}
    step = d.constant(d.rng.uniform(0.01, 0.05, outs if attrs else ()))
    weight = _inner(d, d.node("DequantizeLinear", [codes, step], codes.shape, exact=True, **attrs))
    y = d.node("Conv", [x, weight], (x.shape[0], outs, *x.shape[2:]), pads=[1] * 4)
    if d.flip():
        return d.node("Mul", [y, d.noise(outs, 1, 1)], y.shape)
    normalise(d, y)
    return d.scope.values[-1]


def _normalized_layer(d: Drawing, x: Value) -> Value:
    """A product, perhaps with a sum, of a normalization over the last dimension."""
    x = d.inputs[0]
    width, shift = _width(x, -1), d.flip()
    operands = [x, d.noise(width), *([d.noise(width)] if shift else [])]
    y = _inner(d, d.node("LayerNormalization", operands, x.shape, epsilon=1e-2))
    y = d.node("MatMul", [y, d.noise(width, 3, scale=0.4)], (*x.shape[:-1], 3))
    return d.node("Add", [y, d.noise(3)], y.shape) if shift or d.flip() else y


def _side_by_side(d: Drawing, x: Value) -> Value:
    """What layers make of one value, put together or on its own."""
    images = is_image(x) and d.elem != DOUBLE
    activation = d.choose(("Relu", None, "Tanh"))
    parts = []
    for width in (2, 3):
        if images:
            part = _convolved(d, x, width, 3)
        else:
            matrix = d.noise(_width(x, -1), width, scale=0.4)
            part = d.node("MatMul", [x, matrix], (*x.shape[:-1], width))
        part = part if activation is None else d.node(activation, [part], part.shape)
        parts.append(_inner(d, part))
    if d.flip():
        d.keep(parts[0])
        return parts[1]
    axis = 1 if images else len(x.shape) - 1
    shape = [*x.shape[:axis], 5, *(parts[0].shape[axis + 1 :])]
    return d.node("Concat", parts, shape, axis=axis)


def _averaged(d: Drawing, x: Value) -> Value:
    """An average over parts of what a Conv makes, or over all of it."""
    x = _image(d, x)
    if d.elem == DOUBLE:
        return d.node("Neg", [x], x.shape)
    y = _inner(d, _convolved(d, x, d.choose((3, 4)), d.choose((1, 3))))
    height, width = _width(y, 2), _width(y, 3)
    if d.flip() or min(height, width) < 2:
        return d.node("GlobalAveragePool", [y], (*y.shape[:2], 1, 1))
    pads: dict[str, Any] = d.choose(({}, {}, {"pads": [1, 1, 1, 1]}))
    counted: dict[str, Any] = d.choose(({}, {"count_include_pad": 1}))
    shape = (*y.shape[:2], *((size + 2 * len(pads) - 2) // 2 + 1 for size in (height, width)))
    sizes: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2]}
    return d.node("AveragePool", [y], shape, **sizes, **pads, **counted)


def _multiplied_twice(d: Drawing, x: Value) -> Value:
    """Products with matrices in a row, through a wide middle or a narrow one."""
    middle, out = d.choose((6, 1)), d.choose((3, 4))
    for width in (middle, out):
        matrix, shape = d.noise(_width(x, -1), width, scale=0.4), (*x.shape[:-1], width)
        x = d.node("MatMul", [x, matrix], shape)
        if d.flip():
            x = d.node("Add", [x, d.noise(width)], shape)
        x = _inner(d, x)
    return x


def _adapted(d: Drawing, x: Value) -> Value:
    """A product and another one, perhaps of low rank, that is added."""
    width, shape = _width(x, -1), (*x.shape[:-1], 4)
    base = d.node("MatMul", [x, d.noise(width, 4, scale=0.4)], shape)
    if d.flip():
        base = d.node("Add", [base, d.noise(4)], shape)
    inner = d.choose((None, 2))
    y = x
    if inner is not None:
        y = d.node("MatMul", [x, d.noise(width, inner, scale=0.4)], (*x.shape[:-1], inner))
    y = d.node("MatMul", [y, d.noise(_width(y, -1), 4, scale=0.4)], shape)
    return d.node("Add", [_inner(d, base), y], shape)


def _branched(d: Drawing, x: Value) -> Value:
    """Convs of one input that are added, with the input or its BatchNormalization."""
    x = _image(d, x)
    if d.elem == DOUBLE:
        return d.node("Neg", [x], x.shape)
    channels = _width(x)
    groups = d.choose((1, 1, channels))
    branches = [_convolved(d, x, channels, size, groups) for size in d.choose(((3, 1), (3,), (1,)))]
    if len(branches) < 2 or d.flip():
        branches.append(x)
    total = branches[0]
    for branch in branches[1:]:
        total = d.node("Add", [total, branch], x.shape)
    return total


def _counted(d: Drawing, x: Value) -> Value:
    """All elements, gathered by indices that count through them, or not quite."""
    axis = d.choose((0, 1))
    shape = d.node("Shape", [x], (len(x.shape),), INT, exact=True)
    size = d.node("Gather", [shape, d.constant(axis, INT)], (), INT, exact=True, axis=0)
    first, last = d.constant(0, INT), size
    if d.flip():
        first, last = d.constant(1, INT), d.node("Add", [size, d.constant(1, INT)], (), INT)
    index = d.node("Range", [first, last, d.constant(1, INT)], x.shape[axis : axis + 1], INT)
    if first is not last and d.flip():
        index = d.node("Sub", [index, first], index.shape, INT)
    else:
        index = d.node("Mod", [index, size], index.shape, INT)
    return d.node("Gather", [x, index], x.shape, exact=True, axis=axis)


def _resized(d: Drawing, x: Value) -> Value:
    """Sizes that are squeezed out of a shape, added, and used in a shape."""
    wide = _width(x)
    shape = d.node("Shape", [x], (len(x.shape),), INT, exact=True)
    one = cut(d, shape, 0, 1, 2)
    scalar = d.versioned(13, "Squeeze", one, "axes", [0], ())
    total = d.node("Mul", [scalar, d.constant(2, INT)], (), INT)
    total = d.node("Sub", [total, d.constant(wide, INT)], (), INT)
    size = d.versioned(13, "Unsqueeze", total, "axes", [0], (1,))
    target = d.node("Concat", [size, d.ints(-1)], (2,), INT, axis=0)
    return d.node("Reshape", [x, target], (wide, "rest"), exact=True)


def _queried(d: Drawing, x: Value) -> Value:
    """One of the parts that a layer computes, scaled."""
    x = d.inputs[0] if len(x.shape) < 3 else x
    width, lead = _width(x, -1), x.shape[:-1]
    y = d.node("MatMul", [x, d.noise(width, 6, scale=0.4)], (*lead, 6))
    if d.flip():
        y = d.node("Add", [y, d.noise(6)], y.shape)
    axis = len(lead)
    if d.flip():
        part, other = split(d, y, axis, 2)
    else:
        sizes = [dim if isinstance(dim, int) else -1 for dim in lead]
        y = d.node("Reshape", [y, d.ints(*sizes, 2, 3)], (*lead, 2, 3), exact=True)
        ends = [d.constant(value, INT) for value in (0, d.choose((1, 1, -2)))]
        part, other = (d.node("Gather", [y, end], (*lead, 3), axis=axis) for end in ends)
    part = d.node("Mul", [_inner(d, part), d.constant(0.25)], (*lead, 3))
    return d.node("Add", [part, other], (*lead, 3))


def _attended(d: Drawing, x: Value) -> Value:
    """Attention with two heads, masked or not; its keys are turned in one step or in two."""
    x = x if is_image(x) and _width(x, 3) == 4 else d.inputs[0]
    batch, count = x.shape[0], _width(x) * _width(x, 2)
    rows = d.node("Reshape", [x, d.ints(0, count, 4)], (batch, count, 4), exact=True)

    def heads() -> Value:
        shape = (batch, count, 2, 2)
        return d.node("Reshape", [rows, d.ints(0, count, 2, 2)], shape, exact=True)

    apart = (batch, 2, count, 2)
    query, value = (d.node("Transpose", [heads()], apart, perm=[0, 2, 1, 3]) for _ in range(2))
    if d.flip():
        query = d.node("Mul", [query, d.constant(0.5)], apart)
    keys, perm = heads(), [0, 2, 3, 1]
    if d.flip():
        keys, perm = d.node("Transpose", [keys], apart, perm=[0, 2, 1, 3]), [0, 1, 3, 2]
    keys = d.node("Transpose", [keys], (batch, 2, 2, count), perm=perm)
    square = (batch, 2, count, count)
    scores = d.node("MatMul", [query, keys], square)
    if d.flip():
        scores = d.node("Div", [scores, d.constant(2.0)], square)
    if d.flip():
        shape = d.choose(((1, 1, 1, count), (1, 2, count, count), (count,)))
        scores = d.node("Add", [scores, d.noise(*shape)], square)
    weights = d.node("Softmax", [scores], square, axis=3)
    y = d.node("MatMul", [weights, value], apart)
    y = d.node("Transpose", [y], (batch, count, 2, 2), perm=[0, 2, 1, 3])
    return d.node("Reshape", [y, d.ints(0, count, 4)], (batch, count, 4))


PAIRS: list[tuple[int, Step]] = [
    (8, _clamped),
    (7, _shifted),
    (7, _shifted),
    (7, _rescaled),
    (7, _reread),
    (7, _moved_again),
    (9, _recast),
    (7, _recut),
    (7, _rejoined),
    (7, _taken),
    (7, _reduced),
    (8, _gathered),
    (7, _negated),
    (9, _chosen),
    (8, _broadcast),
    (7, _moved_twice),
    (7, _moved_around),
    (7, _activated),
    (20, _gelu),
    (12, _rectified),
    (7, _normalized),
    (7, _normalized_image),
    (7, _softmaxed),
    (7, _classified),
    (11, _sequence),
    (15, _optional),
    (7, _measured_twice),
    (10, _requantized),
    (7, _scaled),
    (7, _padded),
    (11, _blocks),
    (7, _centered),
    (7, _flattened),
    (12, _summed),
    (15, _alike),
    (8, _reshaped),
    (7, _looked_up),
    (7, _convolved_twice),
    (7, _branched),
    (7, _multiplied_twice),
    (11, _counted),
    (8, _resized),
    (7, _queried),
    (23, _normalized),  # RMSNormalization is rarely whole
    (23, _normalized),
    (7, _averaged),
    (7, _side_by_side),
    (13, _quantized_convolution),
    (17, _normalized_layer),
    (7, _adapted),
    (7, _attended),
]


for _since, _step in PAIRS:

    @motif(opset=_since)
    def pair(d: Drawing, step: Step = _step) -> None:
        """Two nodes, or a few, that can be one."""
        d.keep(step(d, d.pick(ok=_is_known_but_for_batch)))


# Layers with superfluous channels -----------------------------------------------------------------


@motif(often=2, double=False)
def superfluous_channels(d: Drawing) -> None:
    """Layers between two convolutions, some of whose channels are constant, equal or not read."""
    x = d.pick(ok=is_image)
    if not is_image(x):
        x = d.inputs[0]
    y = _layer(d, x, d.choose((8, 6)))
    for _ in range(d.choose((1, 2))):
        y = d.choose(_TOPOLOGIES)(d, y)
    weight = d.rng.standard_normal((3, _width(y), 1, 1)) * 0.3
    if d.flip():
        weight[:, d.rng.random(_width(y)) < 0.5] = 0
    d.keep(d.node("Conv", [y, d.constant(weight)], (y.shape[0], 3, *y.shape[2:])))


def _some(d: Drawing, count: int) -> Array:
    """Choose among *count* channels, perhaps all or none."""
    return np.asarray(d.rng.random(count) < d.choose((0.5, 0.0, 1.0)))


def _layer(d: Drawing, x: Value, width: int, groups: int = 1, like: Array | None = None) -> Value:
    """Conv and BatchNormalization; *like* says which channels have a gamma of about zero."""
    size = d.choose((1, 3))
    weight = d.rng.standard_normal((width, _width(x) // groups, size, size)) * 0.3
    gamma, shift = d.rng.uniform(0.5, 1.5, width), d.rng.uniform(0.5, 1.5, width)
    mean, var = d.rng.standard_normal(width), d.rng.uniform(0.5, 1.5, width)
    if d.flip():  # a half that equals the other
        half = np.arange(width) % (width // 2)
        weight, gamma, shift, mean, var = (a[half] for a in (weight, gamma, shift, mean, var))
    gamma[_some(d, width) if like is None else like] = d.choose((0, 1e-40, -1e-41, 1e-9))
    shape, pads = (x.shape[0], width, *x.shape[2:]), [size // 2] * 4
    y = d.node("Conv", [x, d.constant(weight)], shape, pads=pads, group=groups)
    parameters = (gamma, shift * d.choose((1.0, 0.0)), mean, var)
    return d.node("BatchNormalization", [y, *map(d.constant, parameters)], shape)


def _residual(d: Drawing, x: Value) -> Value:
    width = _width(x)
    like = _some(d, width) if d.flip() else None
    y = d.node("Add", [_layer(d, x, width, like=like), _layer(d, x, width, like=like)], x.shape)
    return d.node("Add", [x, y], x.shape) if d.flip() else y


def _joined(d: Drawing, x: Value) -> Value:
    parts = [x, _layer(d, x, 4)]
    shape = (x.shape[0], _width(x) + 4, *x.shape[2:])
    return d.node("Concat", parts if d.flip() else parts[::-1], shape, axis=1)


def _depthwise(d: Drawing, x: Value) -> Value:
    return _layer(d, x, _width(x) * d.choose((1, 2)), groups=_width(x))


def _grouped(d: Drawing, x: Value) -> Value:
    return _layer(d, x, 4, groups=2)


def _shuffled(d: Drawing, x: Value) -> Value:
    batch, half = (2 if d.batch == 2 else -1), _width(x) // 2
    image = [_width(x, axis) for axis in (2, 3)]
    y = d.node("Reshape", [x, d.ints(batch, 2, half, *image)], (x.shape[0], 2, half, *image))
    shape = (x.shape[0], half, 2, *image)
    y = d.node("Transpose", [y], shape, perm=[0, 2, 1, 3, 4])
    return d.node("Reshape", [y, d.ints(batch, 2 * half, *image)], x.shape)


def _gated(d: Drawing, x: Value) -> Value:
    width = _width(x)
    g = d.node("GlobalAveragePool", [x], (x.shape[0], width, 1, 1))
    weight = d.noise(width, width, 1, 1, scale=0.3)
    g = d.node("Sigmoid", [d.node("Conv", [g, weight], g.shape)], g.shape)
    return d.node("Mul", [x, g], x.shape)


def _bordered(d: Drawing, x: Value) -> Value:
    y = _pad(d, x, 0, d.choose((0, 2)), 1, 1)
    return d.node(
        "MaxPool", [y], (*y.shape[:2], *(_width(y, a) - 1 for a in (2, 3))), kernel_shape=[2, 2]
    )


def _halved(d: Drawing, x: Value) -> Value:
    if _width(x) % 4:  # what follows needs an even number
        return _bent(d, x)
    left, right = split(d, x, 1)
    return d.node("Add", [left, right], left.shape) if d.flip() else right


def _bent(d: Drawing, x: Value) -> Value:
    slope = d.constant(d.rng.uniform(0.1, 0.5, (_width(x), 1, 1)))
    op = d.choose(("Relu", "PRelu", "Sigmoid", "Tanh"))
    return d.node(op, [x, slope] if op == "PRelu" else [x], x.shape)


_TOPOLOGIES: tuple[Callable[[Drawing, Value], Value], ...] = (
    *(_residual, _joined, _depthwise, _grouped, _shuffled, _gated, _bordered, _bent, _halved),
)


@motif(often=2)
def duplicates(d: Drawing) -> None:
    """Some nodes of this graph once more, the second reading what the first one's twin makes."""
    values = {value.name: value for value in d.scope.values}
    nodes = [
        n for n in d.scope.nodes
        if len(n.output) == 1 and n.output[0] in values and n.op_type != "Constant"
    ]  # fmt: skip
    if not nodes:
        return
    renamed: dict[str, str] = {}
    first = d.choose(range(len(nodes)))
    for node in nodes[first : first + d.choose((1, 2))]:
        twin = onnx.NodeProto()
        twin.CopyFrom(node)
        twin.ClearField("name")
        old = values[node.output[0]]
        twin.output[0] = renamed[old.name] = d.name()
        for i, name in enumerate(node.input):
            twin.input[i] = renamed.get(name, name)
        d.scope.nodes.append(twin)
        d.keep(Value(twin.output[0], old.shape, old.elem, old.exact, old.random))


@motif()
def twins(d: Drawing) -> None:
    """Two initializers that are equal bit for bit, or nearly."""
    x = d.pick(ok=lambda v: bool(v.shape) and isinstance(v.shape[-1], int))
    width = _width(x, -1)
    first = d.rng.standard_normal(width).astype(helper.tensor_dtype_to_np_dtype(d.elem))
    second = first.copy()
    kind = d.choose(("same", "same", "zero", "nan", "last", "shape"))
    if kind == "zero":
        first[0], second[0] = 0.0, -0.0
    elif kind == "nan":
        first[0] = second[0] = np.nan
        second.view(np.uint8)[0] ^= 1
    elif kind == "last":
        second[-1] += 1
    elif kind == "shape":
        second = second[None]
    for array in (first, second):
        made = d.node("Div", [x, d.constant(array)], x.shape)
        if kind == "same":
            d.keep(made)
        else:
            d.scope.results.append(made)


@motif(opset=12)
def constant_forms(d: Drawing) -> None:
    """Constant nodes of every form."""
    x = d.pick(ok=lambda v: bool(v.shape) and isinstance(v.shape[-1], int))
    width = _width(x, -1)
    kind = d.choose(("float", "floats", "int", "ints", "string", "strings", "sparse", "fields"))

    def make(elem: int, shape: tuple[int, ...], **attrs: Any) -> Value:
        return d.node("Constant", [], shape, elem, exact=True, **attrs)

    if kind == "float":
        c = make(FLOAT, (), value_float=0.5)
    elif kind == "floats":
        c = make(FLOAT, (width,), value_floats=[0.25] * width)
    elif kind == "int":
        c = d.node("Gather", [d.noise(2, width), make(INT, (), value_int=1)], (width,))
    elif kind == "ints":
        c = d.node("Reshape", [d.noise(width), make(INT, (2,), value_ints=[1, -1])], (1, width))
    elif kind == "sparse":
        entries = helper.make_tensor("", FLOAT, [1], [2.0])
        where = helper.make_tensor("", INT, [1], [0])
        c = make(FLOAT, (width,), sparse_value=helper.make_sparse_tensor(entries, where, [width]))
    elif kind == "fields":
        c = make(FLOAT, (width,), value=helper.make_tensor("", FLOAT, [width], [0.75] * width))
    else:
        value = {"value_string": "a"} if kind == "string" else {"value_strings": ["a", "b"]}
        c = make(TensorProto.STRING, () if kind == "string" else (2,), **value)
        d.scope.results.append(d.node("Identity", [c], c.shape, TensorProto.STRING))
        return
    c = c if c.elem == d.elem else d.cast(c, d.elem)
    d.keep(d.node("Mul", [x, c], x.shape))


@motif()
def dead_weight(d: Drawing) -> None:
    """Nodes, initializers and optional outputs that nobody reads."""
    x = d.pick()
    kind = d.choose(("node", "initializer", "chain", "output"))
    if kind == "node":
        d.node("Relu", [x], x.shape)
    elif kind == "initializer":
        d.noise(5)
    elif kind == "chain":
        d.node("Tanh", [d.node("Add", [x, d.noise(1)], x.shape)], x.shape)
    elif is_image(x) and d.opset >= 8 and d.elem != HALF:
        y = d.node("MaxPool", [x], x.shape, outputs=2, kernel_shape=[1, 1])
        d.keep(y)


@motif(until=21)  # onnxruntime 1.32 has no kernels for newer versions
def randomness(d: Drawing) -> None:
    """Random operators, with and without inputs: one drawing each, however often it is read."""
    x = d.pick()
    kind = d.choose(("like", "free", "bernoulli"))
    if kind == "free" and x.static is not None and d.elem != HALF:
        noise = d.node("RandomUniform", [], x.shape, dtype=d.elem, shape=list(x.static))
    elif kind == "bernoulli" and d.opset >= 15:
        chance = d.node("Sigmoid", [x], x.shape)
        noise = d.node("Bernoulli", [chance], x.shape)
        noise.random = 2
    else:
        noise = d.node("RandomNormalLike", [x], x.shape)
    d.keep(noise)
    other = d.node("RandomNormalLike", [x], x.shape) if d.flip() else noise
    d.keep(d.node("Add", [other, noise], x.shape))


@motif(opset=10)
def quantization(d: Drawing) -> None:
    """QuantizeLinear and DequantizeLinear of an input or of weights."""
    if d.elem != FLOAT:
        return
    x = d.pick(ok=lambda v: v.exact)
    x = x if x.exact and d.flip() else d.noise(3, 5)
    parameters = [d.constant(0.0625), d.constant(3, TensorProto.UINT8)]
    packed = d.node("QuantizeLinear", [x, *parameters], x.shape, TensorProto.UINT8, exact=True)
    d.keep(d.node("DequantizeLinear", [packed, *parameters], x.shape, exact=True))


@motif()
def lookup(d: Drawing) -> None:
    """An embedding: rows of a table by integer input."""
    ids = next((v for v in d.inputs if v.elem == INT), None) or d.input((d.batch, 3), INT)
    table = d.noise(4, 6)
    d.keep(d.node("Gather", [table, ids], (*ids.shape, 6), axis=0))


@motif(ir=4, max_depth=0)
def override(d: Drawing) -> None:
    """An initializer that the caller may override, so that it is no constant."""
    x = d.pick(ok=lambda v: bool(v.shape) and isinstance(v.shape[-1], int))
    c = Value(f"default{len(d.overridable)}", (_width(x, -1),), d.elem, exact=True)
    d.overridable.append(c)
    value = d.choose((0.0, 1.0))
    array = np.full(_width(x, -1), value, helper.tensor_dtype_to_np_dtype(d.elem))
    d.main.weights.append(numpy_helper.from_array(array, c.name))
    if d.flip():
        c = d.node("Add", [c, d.constant(1)], c.shape)
    d.keep(d.node(d.choose(("Add", "Mul")), [x, c], x.shape))


def grow(d: Drawing, motifs: int) -> None:
    """Add *motifs* motifs to the present graph."""
    for _ in range(motifs):
        d.choose([offer for offer in OFFERS if offer.fits(d)]).motif(d)


def _result(d: Drawing, like: Value) -> Value:
    """Return a value that this body computes in the shape of *like*; a body may compute none."""
    made = {name for node in d.scope.nodes for name in node.output}
    own = [v for v in d.scope.values if v.shape == like.shape and v.name in made]
    computed = d.flip()
    if own and computed:
        return d.choose(own)
    return d.node("Identity", [d.pick(like=like)], like.shape)


@motif(max_depth=1)
def condition(d: Drawing) -> None:
    """If, whose bodies read what surrounds them."""
    x = d.pick()
    test = d.choose(("input", "constant", "computed"))
    if test == "constant":
        when = d.constant(d.flip(), BOOL)
    else:
        when = next((v for v in d.inputs if v.elem == BOOL), None) or d.input((), BOOL)
        if test == "computed":
            when = d.node("Not", [when], (), BOOL)
    bodies = []
    for name in ("then", "else"):

        def build() -> list[Value]:
            grow(d, d.choose((1, 2, 0)))
            return [_result(d, x)]

        def draw_body(name: str = name, build: Callable[[], list[Value]] = build) -> Any:
            return d.body(name, [], build)

        bodies.append(draw_body())
    y = d.node("If", [when], x.shape, then_branch=bodies[0], else_branch=bodies[1])
    y.random = _randomness(d, bodies)
    d.keep(y)


def _randomness(d: Drawing, bodies: Sequence[onnx.GraphProto]) -> int:
    """Say, to be on the safe side, whether a node with these bodies may give random results."""
    read_by_bodies = any(value.random for value in d.scope.visible())
    return 2 if read_by_bodies or any(map(_is_random, bodies)) else 0


def _is_random(graph: onnx.GraphProto) -> bool:
    return any(
        is_random(node.op_type, len(node.input))
        or any(_is_random(a.g) for a in node.attribute if a.HasField("g"))
        for node in graph.node
    )


def is_random(op: str, inputs: int) -> bool:
    """Say whether a node of these models may be random: Dropout with a mode is."""
    random = ("RandomNormalLike", "RandomUniform", "Bernoulli")
    return op in random or (op == "Dropout" and inputs == 3)


@motif(opset=11, max_depth=1)
def loop(d: Drawing) -> None:
    """Loop with a carried value and a stacked one."""
    x = d.pick()
    rounds = d.choose((2, 1, 0))
    count = d.constant(rounds, INT)
    go_on = d.constant(True, BOOL) if d.flip() else NOTHING
    carried: list[Value] = []

    def build() -> list[Value]:
        grow(d, d.choose((1, 2, 0)))
        still = d.node("Identity", [again], (), BOOL)
        carried.extend((_result(d, x), d.node("Tanh", [state], x.shape)))
        return [still, *carried]

    depth = d.scope.depth + 1
    step = Value(f"i{depth}", (), INT)
    again = Value(f"go{depth}", (), BOOL)
    state = Value(f"s{depth}", x.shape, d.elem)
    body = d.body("body", [step, again, state], build)
    y = d.node("Loop", [count, go_on, x], x.shape, outputs=2, body=body)
    y.random = _randomness(d, [body])
    d.keep(y)
    if rounds:
        rows = d.scope.nodes[-1].output[1]
        d.keep(Value(rows, (rounds, *x.shape), d.elem, random=y.random))


@motif(opset=9, max_depth=0)
def scan(d: Drawing) -> None:
    """Scan over the first axis."""
    x = d.pick(ok=lambda v: len(v.shape) >= 2)

    def build() -> list[Value]:
        grow(d, d.choose((1, 0)))
        return [_result(d, row), d.node("Relu", [row], row.shape)]

    row = Value("row", x.shape[1:], d.elem)
    body = d.body("rows", [row], build)
    y = d.node("Scan", [x], x.shape, outputs=2, body=body, num_scan_inputs=1)
    y.random = _randomness(d, [body])
    d.keep(y)


@motif(ir=8, double=False)
def call(d: Drawing) -> None:
    """Call a local function whose body refers to an attribute of the call."""
    x = d.pick()
    define_functions(d)
    name = d.choose(("bend", "twice"))
    d.keep(d.node(name, [x], x.shape, domain=LOCAL, alpha=d.choose((0.5, 0.0))))


def define_functions(d: Drawing) -> None:
    if not d.functions and d.ir >= 8:
        for function in _functions(d):
            d.functions[function.name] = function


def _functions(d: Drawing) -> Iterator[onnx.FunctionProto]:
    """Make ``bend``, and ``twice``, which calls it."""
    node = helper.make_node
    one = numpy_helper.from_array(np.array(1, helper.tensor_dtype_to_np_dtype(d.elem)))

    def with_alpha(made: onnx.NodeProto, name: str = "alpha") -> onnx.NodeProto:
        made.attribute.add(name=name, ref_attr_name="alpha", type=AttributeProto.FLOAT)
        return made

    bend = [
        node("Constant", [], ["one"], value=one),
        node("Mul", ["x", "one"], ["a"]),
        with_alpha(node("LeakyRelu", ["a"], ["b"])),
        node("Identity", ["b"], ["c"]),
    ]
    if d.flip():
        bend.append(node("Relu", ["x"], ["unused"]))
    if d.opset >= 12 and d.elem == FLOAT:
        bend += [
            with_alpha(node("Constant", [], ["alpha"]), "value_float"),
            node("Add", ["c", "alpha"], ["y"]),
        ]
    else:
        bend.append(node("Add", ["c", "x"], ["y"]))
    twice = [
        with_alpha(node("bend", ["x"], ["a"], domain=LOCAL)),
        node("Identity", ["a"], ["b"]),
        with_alpha(node("bend", ["b"], ["y"], domain=LOCAL)),
    ]
    opsets = [helper.make_opsetid("", d.opset), helper.make_opsetid(LOCAL, 1)]
    for name, nodes in (("bend", bend), ("twice", twice)):
        yield helper.make_function(LOCAL, name, ["x"], ["y"], nodes, opsets, ["alpha"])


# Models -------------------------------------------------------------------------------------------


@st.composite
def graphs(draw: st.DrawFn, motifs: int = 8, random: bool = True) -> onnx.ModelProto:
    """Draw a model of up to *motifs* motifs; without *random* operators if so asked."""
    d = Drawing(draw)
    offers = [offer for offer in OFFERS if random or offer.motif is not randomness]
    if d.choose((False, False, True)):  # which nobody may call
        define_functions(d)
    for _ in range(draw(st.integers(1, motifs))):
        d.choose([offer for offer in offers if offer.fits(d)]).motif(d)
    made = d.model(_outputs(d))
    note(onnx.printer.to_text(made))
    return made


def _outputs(d: Drawing) -> list[Value]:
    """Choose all results that nothing reads, or one of them; and perhaps inner values and inputs.

    What is not random in every run cannot be compared; something must be.
    """
    computed = {name for node in d.main.nodes for name in node.output}
    values = [v for v in (*d.main.values, *d.main.results) if v.random < 2]
    ends = [v for v in values if v.name in computed - set(_read(d.main.nodes))]
    outputs = ends if d.choose((True, True, True, False)) else ends[-1:]
    for _ in range(d.choose((0, 1, 2))):
        outputs = [*outputs, d.choose(values[::-1])]
    if all(value.random for value in outputs):
        outputs = [*outputs, next((v for v in values[::-1] if not v.random), d.inputs[0])]
    return list({value.name: value for value in outputs}.values())


def _read(nodes: Iterable[onnx.NodeProto]) -> Iterator[str]:
    """Yield what *nodes* read, those in their bodies included."""
    for node in nodes:
        yield from node.input
        for attribute in node.attribute:
            yield from _read(attribute.g.node)


SIZES = {"N": (3, 1)}


def feed(proto: onnx.ModelProto, seed: int) -> dict[str, Array]:
    """Make up small inputs for *proto*; the size of symbolic dimensions follows the seed."""
    given = {tensor.name for tensor in proto.graph.initializer}
    rng = np.random.default_rng(seed)
    made: dict[str, Array] = {}
    for info in proto.graph.input:
        if info.name in given:
            continue
        kind = info.type.tensor_type
        shape = [d.dim_value or SIZES[d.dim_param][seed % 2] for d in kind.shape.dim]
        if kind.elem_type == BOOL:
            made[info.name] = np.full(shape, bool(seed % 2))
        elif kind.elem_type == INT:
            made[info.name] = rng.integers(0, 4, shape)
        else:
            dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
            made[info.name] = rng.uniform(-1.5, 1.5, shape).astype(dtype)
    return made
