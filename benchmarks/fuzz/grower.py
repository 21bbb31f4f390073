"""A random model that grows node by node, each run by onnxruntime as it is added."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from benchmarks.fuzz.values import (
    EXACT,
    FLOATS,
    LARGEST,
    MOST,
    TYPES,
    Array,
    Feed,
    Value,
    declaration,
    is_float,
    jumps,
    load,
)  # fmt: skip

LOCAL = "local"
"""The domain of local functions."""
OPSETS = (7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26)
DEEPEST = 8
"""Bodies in bodies."""
SIZES = {"N": (2, 1, 3), "M": (3, 4, 1), "K": (4, 2, 0)}
"""Symbolic dimensions, and what they are on each feed."""
Dims = tuple[int | str | None, ...]


class Refused(Exception):
    """A node cannot be added."""


class Scope:
    """The graph that is being grown: the main one, a body, or a function."""

    def __init__(self, outer: Scope | None = None, function: bool = False) -> None:
        """Start an empty graph inside *outer*."""
        self.outer, self.function = outer, function
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []
        self.values: list[Value] = []
        self.depth: int = 0 if outer is None else outer.depth + 1

    def visible(self) -> list[Value]:
        """Return what a node here may read, the innermost last."""
        above = [] if self.outer is None or self.function else self.outer.visible()
        return above + self.values


@dataclass
class Input:
    """An input of the main graph: its declared shape, and its value on each feed."""

    value: Value
    dims: Dims
    held: list[Any]


class Dice:
    """Random choices; everything follows from the seed."""

    def __init__(self, seed: int) -> None:
        """Seed both generators."""
        self.random = random.Random(seed)
        self.numbers = np.random.default_rng(seed)

    def flip(self, chance: float = 0.5) -> bool:
        """Return true as often as *chance* says."""
        return self.random.random() < chance

    def choose(self, *options: Any) -> Any:
        """Return one of *options*."""
        return self.random.choice(options)

    def shape(self) -> tuple[int, ...]:
        """Make up a shape, of four dimensions more often than of others."""
        rank = self.choose(0, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 4, 5)
        return tuple(self.random.choices((1, 2, 3, 4, 0), (3, 4, 4, 4, 0.1), k=rank))

    def array(self, kind: str, shape: Sequence[int]) -> Array:
        """Make up small numbers of few digits."""
        if kind == "tensor(string)":
            words = np.array(["a", "b", "", "cat"], object)
            return np.asarray(words[self.numbers.integers(0, 4, shape)], object).reshape(shape)
        dtype = helper.tensor_dtype_to_np_dtype(TYPES[kind])
        if kind == "tensor(bool)":
            return np.asarray(self.numbers.random(shape) < 0.5)
        if kind not in FLOATS:
            low = self.choose(0, 0, 0, 1) if "uint" in kind else self.choose(0, 0, 0, 1, -2)
            return np.asarray(self.numbers.integers(low, 4, shape)).astype(dtype)
        style = self.random.randrange(3)
        if style == 0:
            return np.asarray(self.numbers.integers(-3, 4, shape)).astype(dtype)
        low = 1 if style == 1 else -12
        return np.asarray(self.numbers.integers(low, 13, shape) / 4).astype(dtype)


class Grower(Dice):
    """A model under construction."""

    def __init__(self, seed: int, opset: int | None = None) -> None:
        """Choose what holds for all of the model; it has no node yet."""
        super().__init__(seed)
        self.opset = opset or self.choose(*OPSETS)
        self.ir = self.choose(3, 4, 5, 6, 7, 8, 8, 9, 10, 10)
        self.float = self.random.choices(FLOATS, (8, 2, 1))[0]
        self.symbolic = self.flip(0.6)
        self.main = self.scope = Scope()
        self.inputs: list[Input] = []
        self.overridable: list[Value] = []
        self.functions: list[onnx.FunctionProto] = []
        self.counters = [itertools.count() for _ in range(DEEPEST + 1)]
        for _ in range(self.choose(1, 1, 2, 3)):
            self.input(self.float)

    def grow(self) -> None:
        """Add a few motifs."""
        for _ in range(self.choose(2, 4, 6, 8, 10)):
            self.step()

    def step(self) -> None:
        """Add one motif, or what of it onnxruntime accepts."""
        motif = self.random.choices(MOTIFS, WEIGHTS)[0]
        with contextlib.suppress(Refused, IndexError, ValueError):  # nothing to choose from
            motif(self)

    # Choosing

    def pick(self, kind: str | None = None, ok: Callable[[Value], bool] = lambda _: True) -> Value:
        """Return a visible value of a type, recent ones more often; raises Refused."""
        kind = kind or self.float
        return self._recent(v for v in self.scope.visible() if v.type == kind and ok(v))

    def any_tensor(self) -> Value:
        """Return a visible tensor of any type; raises Refused."""
        return self._recent(v for v in self.scope.visible() if v.type.startswith("tensor"))

    def _recent(self, values: Iterator[Value]) -> Value:
        found = [value for value in values if not value.known]
        if not found:
            raise Refused
        return found[-1 - min(int(self.random.expovariate(0.4)), len(found) - 1)]

    # Making

    def name(self) -> str:
        """Return a new name; names of inner graphs say how deep they are."""
        depth = self.scope.depth
        return f"{'t' if not depth else f'b{depth}_'}{next(self.counters[depth])}"

    def input(self, kind: str, shape: Sequence[int] | None = None) -> Value:
        """Add an input to the main graph, some of its dimensions symbolic."""
        shape = self.shape() if shape is None else shape
        dims: list[int | str | None] = list(shape)
        actual = [list(shape) for _ in range(3)]
        for axis in range(len(shape)):
            if self.symbolic and self.flip(0.4):
                name = self.choose(*SIZES)
                dims[axis] = name if self.flip(0.9) else None
                for feed, size in zip(actual, SIZES[name], strict=True):
                    feed[axis] = size
        held = [self.array(kind, sizes) for sizes in actual]
        value = Value(f"x{len(self.inputs)}", kind, held[0])
        self.inputs.append(Input(value, tuple(dims), held))
        self.main.values.append(value)
        return value

    def constant(self, array: Any, kind: str | None = None) -> Value:
        """Make a constant: an initializer, here or outside, or a node, or one with a default."""
        kind = kind or self.float
        if kind == "tensor(string)":
            made = np.asarray(array, object)
            if not all(isinstance(text, str) for text in made.flat):
                raise Refused
        else:
            made = np.asarray(array).astype(helper.tensor_dtype_to_np_dtype(TYPES[kind]))
        value = Value(self.name(), kind, made, known=True)
        proto = numpy_helper.from_array(made, value.name)
        style = self._style_of_constant(kind)
        if style == "node":
            proto.name = ""
            self.scope.nodes.append(helper.make_node("Constant", [], [value.name], value=proto))
        elif style == "initializer":
            self.scope.weights.append(proto)
        else:
            value.name = proto.name = f"w{len(self.main.weights)}_{value.name}"
            self.main.weights.append(proto)
            if style == "overridable" and self.ir >= 4:
                self.overridable.append(value)
        self.scope.values.append(value)
        return value

    def _style_of_constant(self, kind: str) -> str:
        style = str(self.choose("initializer", "initializer", "node", "outer", "overridable"))
        bound = self.ir < 4 and self.scope is not self.main and style == "initializer"
        rare = style in ("outer", "overridable") and self.flip(0.6)
        if not (self.scope.function or bound or rare or style == "node"):
            return style
        if self.opset >= 9 or kind in FLOATS:
            return "node"
        if self.scope.function:
            raise Refused  # before opset 9, a Constant node holds floats only
        return "outer"

    def ints(self, *numbers: int) -> Value:
        """Make a constant vector of integers."""
        return self.constant(list(numbers), "tensor(int64)")

    def scalar(self, number: float, kind: str | None = None) -> Value:
        """Make a constant without dimensions."""
        return self.constant(number, kind)

    def node(
        self,
        op: str,
        inputs: Sequence[Value | None],
        outputs: int = 1,
        domain: str = "",
        refer: str | None = None,
        **attrs: Any,
    ) -> Value:
        """Add a node and return its first output; raises Refused if it does not run.

        In a function, the attribute *refer* is what the caller gives as ``alpha``.
        """
        rough = any(v is not None and v.rough for v in inputs)
        safe = op == "Div" and inputs[1] is not None and inputs[1].known
        if rough and jumps(op, attrs) and not safe:
            raise Refused
        names = [self.name() for _ in range(outputs)]
        read = ["" if v is None else v.name for v in inputs]
        attrs = {key: value for key, value in attrs.items() if value != []}
        made = helper.make_node(op, read, names, domain=domain or None, **attrs)
        if self.flip(0.2):
            made.name = f"n_{names[0]}"
        return self.add([made], inputs, rough, refer)[0]

    def add(
        self,
        nodes: Sequence[NodeProto],
        inputs: Sequence[Value | None],
        rough: bool,
        refer: str | None = None,
    ) -> list[Value]:
        """Add nodes that are run together; return the outputs of the last one."""
        feed = {v.name: v for v in inputs if v is not None}
        inner = {name for node in nodes for name in outer_names(node)}
        feed |= {v.name: v for v in self.scope.visible() if v.name in inner}
        rough |= any(v.rough for v in feed.values())
        rough |= any(node.op_type not in EXACT and node.domain != LOCAL for node in nodes)
        held, types = self.run(nodes, list(feed.values()))
        made = [
            Value(name, kind, value, rough and is_float(kind))
            for name, kind, value in zip(nodes[-1].output, types, held, strict=True)
        ]
        if refer is not None:
            attribute = next(a for a in nodes[-1].attribute if a.name == refer)
            attribute.CopyFrom(
                AttributeProto(name=refer, ref_attr_name="alpha", type=AttributeProto.FLOAT)
            )
        self.scope.values += made
        self.scope.nodes += nodes
        return made

    def run(self, nodes: Sequence[NodeProto], feed: Sequence[Value]) -> tuple[list[Any], list[str]]:
        """Run nodes; return the values and types of the last one's outputs. Raises Refused."""
        inputs = [declaration(v.name, v.type, v.shape) for v in feed]
        outputs = [onnx.ValueInfoProto(name=name) for name in nodes[-1].output]
        graph = helper.make_graph(nodes, "one", inputs, outputs)
        try:
            session = load(self.wrap(graph, 8))
            held = session.run(None, {v.name: v.held for v in feed})
        except Exception as error:  # onnxruntime's errors have no common base
            raise Refused from error
        types = [item.type for item in session.get_outputs()]
        if not all(map(is_welcome, held, types)):
            raise Refused
        return list(held), types

    def wrap(self, graph: onnx.GraphProto, ir: int | None = None) -> ModelProto:
        """Make a model of *graph*."""
        imports = [helper.make_opsetid("", self.opset)]
        if self.functions:
            imports.append(helper.make_opsetid(LOCAL, 1))
        ir = ir or (max(self.ir, 8) if self.functions else self.ir)
        return helper.make_model(
            graph, opset_imports=imports, ir_version=ir, functions=self.functions
        )

    def versioned(
        self, since: int, op: str, x: Value, name: str, numbers: Sequence[int], outputs: int = 1
    ) -> Value:
        """Add a node whose parameter was an attribute before opset *since*, then an input."""
        if self.opset < since:
            attrs: dict[str, Any] = {name: list(numbers)}
            return self.node(op, [x], outputs, **attrs)
        return self.node(op, [x, self.ints(*numbers)], outputs)

    def within(self, scope: Scope, grow: Callable[[], Any]) -> Any:
        """Grow another scope."""
        before = self.scope
        if scope.depth > DEEPEST:
            raise Refused
        if not scope.function:
            self.counters[scope.depth] = itertools.count()
        self.scope = scope
        try:
            return grow()
        finally:
            self.scope = before

    # The result

    def result(self) -> tuple[ModelProto, list[Feed]] | None:
        """Return the model and its feeds; None where it has no node."""
        outputs = self._outputs()
        if not outputs:
            return None
        if self.flip(0.9):
            self._sweep({v.name for v in outputs})
        main = self.main
        fixed = all(isinstance(d, int) for item in self.inputs for d in item.dims)
        exactly = fixed and self.flip()
        made = {name for node in main.nodes for name in node.output}
        infos = [v for v in main.values if v.name in made and not v.known and v not in outputs]
        graph = helper.make_graph(
            main.nodes, "fuzz",
            [*(self._declared(item.value, False) for item in self.inputs), *self._defaults()],
            [self._declared(value, exactly) for value in outputs],
            main.weights,
            value_info=[self._declared(value, True) for value in infos] if exactly else [],
        )  # fmt: skip
        feeds = [{item.value.name: item.held[i] for item in self.inputs} for i in range(3)]
        return self.wrap(graph), feeds

    def _outputs(self) -> list[Value]:
        """Choose among what nobody reads, and rarely something else too."""
        main = self.main
        made = {name for node in main.nodes for name in node.output}
        read = {name for node in main.nodes for name in (*node.input, *outer_names(node))}
        ends = [v for v in main.values if v.name in made - read and not v.known]
        if not ends:
            return []
        outputs = self.random.sample(ends, min(len(ends), self.choose(1, 9, 9, 9)))
        if self.flip(0.2):
            outputs.append(self.random.choice([v for v in main.values if not v.known]))
        return list(dict.fromkeys(outputs))

    def _sweep(self, read: set[str]) -> None:
        """Remove what nothing in the main graph reads, such as operands of refused nodes."""
        main, nodes = self.main, list[NodeProto]()
        for node in reversed(main.nodes):
            if read.intersection(node.output):
                read |= {*node.input, *outer_names(node)}
                nodes.insert(0, node)
        main.nodes = nodes
        main.weights = [w for w in main.weights if w.name in read]
        self.overridable = [v for v in self.overridable if v.name in read]
        self.inputs = [i for i in self.inputs if i.value.name in read] or self.inputs[:1]

    def _declared(self, value: Value, exactly: bool) -> onnx.ValueInfoProto:
        for item in self.inputs:
            if item.value is value:
                return declaration(value.name, value.type, item.dims)
        return declaration(value.name, value.type, value.shape if exactly else [None] * value.rank)

    def _defaults(self) -> list[onnx.ValueInfoProto]:
        """Declare the inputs that have defaults; before IR 4, all initializers are such."""
        weights = {weight.name: weight for weight in self.main.weights}
        bound = weights if self.ir < 4 and not self.functions else {}
        names = dict.fromkeys([*bound, *(value.name for value in self.overridable)])
        return [
            helper.make_tensor_value_info(name, weights[name].data_type, weights[name].dims)
            for name in names
        ]


def is_welcome(held: Any, kind: str) -> bool:
    """Say whether other nodes should read this result."""
    if kind.startswith("seq(tensor"):
        return isinstance(held, list)
    if not isinstance(held, np.ndarray) or kind not in TYPES or held.size > MOST or held.ndim > 6:
        return False
    if held.dtype.kind in "iuf" and held.size:
        return bool(np.isfinite(held).all() and np.abs(held.astype(np.float64)).max() < LARGEST)
    return True


def outer_names(node: NodeProto) -> Iterator[str]:
    """Yield what the bodies of a node read."""
    for attribute in node.attribute:
        for body in (attribute.g,) if attribute.HasField("g") else ():
            yield from (output.name for output in body.output)
            for inner in body.node:
                yield from inner.input
                yield from outer_names(inner)


# Motifs -------------------------------------------------------------------------------------------

Motif = Callable[[Grower], None]
MOTIFS: list[Motif] = []
WEIGHTS: list[float] = []


def motif(weight: float) -> Callable[[Motif], Motif]:
    """Offer a motif as often as *weight* says."""

    def register(function: Motif) -> Motif:
        MOTIFS.append(function)
        WEIGHTS.append(weight)
        return function

    return register


def some_axes(g: Grower, rank: int) -> list[int]:
    """Choose axes, counted from either end."""
    axes = g.random.sample(range(rank), g.random.randint(min(1, rank), rank))
    return [axis - rank if g.flip(0.3) else axis for axis in axes]


def an_axis(g: Grower, rank: int) -> int:
    """Choose one axis, counted from either end."""
    return g.random.randrange(-rank, rank) if rank else 0
