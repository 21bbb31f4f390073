"""Slim random models until time is up, and shrink each one that comes out different.

    python benchmarks/fuzz.py [--seconds 60] [--seed 0] [--jobs 2] [--output DIR]

A model grows node by node; each node is run by onnxruntime as it is added, so that shapes and
values are known and a node that onnxruntime refuses is left out again. Half of the nodes come in
the forms that passes look for, the rest from the whole ONNX schema. What is checked: no pass
crashes; the result is valid, loads and runs wherever the original does, computes the same within
rounding and is not larger; a second run changes no byte, and neither does a repeated first one.

Each kind of failure is shrunk and written to DIR as ``.txt`` (ONNX text) and ``.onnx``; with any,
the exit status is 1. ``--seed S --seconds 0`` repeats one model.
"""

# ruff: noqa: D102, D103, SIM905 (what a motif is called says what it makes)

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import math
import multiprocessing
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.printer
import onnxruntime as ort
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, defs, helper, numpy_helper

from onnxslim import api
from onnxslim.base import Effect, Pass
from onnxslim.data import Calibration
from onnxslim.errors import BrokenModel, OnnxslimError
from onnxslim.ir import Model
from onnxslim.registry import parse
from onnxslim.validate import Reference, check_structure

Array = npt.NDArray[Any]
Feed = dict[str, Any]
FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
LOCAL = "local"
LARGEST, MOST = 1e4, 2048
"""Nodes that compute larger numbers, or more of them, are left out."""

# Values and types ---------------------------------------------------------------------------------

TYPES = {
    f"tensor({name.lower()})": number
    for name, number in TensorProto.DataType.items()
    if name != "UNDEFINED"
}
FLOATS = ("tensor(float)", "tensor(double)", "tensor(float16)")
MADE = {
    *FLOATS, "tensor(int64)", "tensor(int32)", "tensor(bool)", "tensor(uint8)", "tensor(int8)",
    "tensor(string)", "tensor(uint64)", "tensor(int16)", "tensor(uint32)", "tensor(uint16)",
}  # fmt: skip
"""Types that inputs and constants may have."""


@dataclass(eq=False)
class Value:
    """A tensor or sequence, and what it holds when the first feed is run."""

    name: str
    type: str
    held: Any
    rough: bool = False
    """Whether it was rounded, so that a comparison with it proves nothing."""
    known: bool = False
    """Whether it is a constant."""

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.held.shape) if isinstance(self.held, np.ndarray) else ()

    @property
    def rank(self) -> int:
        return len(self.shape)


def type_proto(kind: str, shape: Sequence[int | str | None] | None) -> onnx.TypeProto:
    """Translate ``tensor(float)`` or ``seq(tensor(float))``."""
    if kind.startswith("seq("):
        return helper.make_sequence_type_proto(type_proto(kind[4:-1], None))
    return helper.make_tensor_type_proto(TYPES[kind], shape)


def declaration(
    name: str, kind: str, shape: Sequence[int | str | None] | None
) -> onnx.ValueInfoProto:
    """Declare a value of a graph."""
    return helper.make_value_info(name, type_proto(kind, shape))


def load(proto: ModelProto, optimize: bool = False) -> ort.InferenceSession:
    """Load a model on one thread; raises what onnxruntime raises."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    source = proto.SerializeToString()
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


# Rounding -----------------------------------------------------------------------------------------

EXACT = set(
    "Identity Reshape Transpose Squeeze Unsqueeze Slice Concat Split Gather GatherElements "
    "GatherND Expand Pad Tile Flatten Relu Neg Abs Min Max Where Dropout DepthToSpace Shape "
    "SpaceToDepth Size Add Sub Mul Sum If Loop ConstantOfShape ScatterND ReduceMax ReduceMin "
    "ScatterElements MaxPool Trilu ReverseSequence EyeLike Compress Floor Ceil Round Sign "
    "Clip Range OneHot TopK SequenceConstruct SequenceAt ConcatFromSequence SplitToSequence "
    "SequenceInsert Constant Cast SequenceErase CenterCropPad Unique DequantizeLinear CastLike "
    "Scatter".split()
)
"""What rounds nothing when it is given small numbers with few digits."""
JUMPY = set(
    "Floor Ceil Round Sign Greater Less Equal GreaterOrEqual LessOrEqual ArgMax ArgMin TopK Mod "
    "QuantizeLinear DynamicQuantizeLinear Unique NonZero Hardmax NonMaxSuppression Shrink IsInf "
    "ThresholdedRelu Range GridSample RoiAlign MaxRoiPool Resize Upsample MaxPool MaxUnpool Where "
    "ImageDecoder StringNormalizer Multinomial Bernoulli OneHot IsNaN Log Sqrt Reciprocal Div "
    "GlobalLpPool LpNormalization LpPool Acos Acosh Atanh Asin Tan Binarizer Not Det".split()
)
"""What a difference in the last digit can throw far off, and what has poles."""
UNWELCOME = set(
    "RandomNormal RandomNormalLike RandomUniform RandomUniformLike Bernoulli Multinomial If Loop "
    "Scan SequenceMap Optional OptionalGetElement OptionalHasElement ImageDecoder Constant "
    "StringNormalizer TfIdfVectorizer Attention".split()
)
"""What random operators are not taken from the schema."""


def jumps(op: str, attrs: dict[str, Any]) -> bool:
    if op in ("Cast", "CastLike"):
        return attrs.get("to") not in (FLOAT, TensorProto.DOUBLE)
    return op in JUMPY


# Growing ------------------------------------------------------------------------------------------


class Scope:
    """The graph that is being grown: the main one, a body, or a function."""

    def __init__(self, outer: Scope | None = None, function: bool = False) -> None:
        self.outer, self.function = outer, function
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []
        self.values: list[Value] = []
        self.depth: int = 0 if outer is None else outer.depth + 1

    def visible(self) -> list[Value]:
        above = [] if self.outer is None or self.function else self.outer.visible()
        return above + self.values


class Grower:
    """A random model; everything follows from the seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.numbers = np.random.default_rng(seed)
        self.opset = self.random.choice(
            (7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 23)
        )
        self.ir = self.random.choice((3, 4, 5, 6, 7, 8, 8, 9, 10, 10))
        self.float = self.random.choices(FLOATS, (8, 2, 1))[0]
        self.sizes = {"N": (2, 1, 3), "M": (3, 4, 1), "K": (4, 2, 0)}
        self.symbolic = self.random.random() < 0.6
        self.main = self.scope = Scope()
        self.inputs: list[tuple[Value, tuple[int | str | None, ...], list[Any]]] = []
        self.overridable: list[Value] = []
        self.functions: list[onnx.FunctionProto] = []
        self.counters = [itertools.count() for _ in range(9)]
        for _ in range(self.random.choice((1, 1, 2, 3))):
            self.input(self.float)
        for _ in range(self.random.choice((2, 4, 6, 8, 10))):
            self.step()

    def step(self) -> None:
        """Add one motif, or what of it onnxruntime accepts."""
        motif = self.random.choices(MOTIFS, WEIGHTS)[0]
        with contextlib.suppress(
            Refused, IndexError, ValueError
        ):  # there is nothing to choose from
            motif(self)

    # Choosing

    def flip(self, chance: float = 0.5) -> bool:
        return self.random.random() < chance

    def choose(self, *options: Any) -> Any:
        return self.random.choice(options)

    def pick(self, kind: str | None = None, ok: Callable[[Value], bool] = lambda _: True) -> Value:
        """Return a visible value of a type, recent ones more often."""
        kind = kind or self.float
        found = [v for v in self.scope.visible() if v.type == kind and ok(v) and not v.known]
        if not found:
            raise Refused
        return found[-1 - min(int(self.random.expovariate(0.4)), len(found) - 1)]

    def any_tensor(self) -> Value:
        """Return a visible tensor."""
        found = [v for v in self.scope.visible() if v.type.startswith("tensor") and not v.known]
        if not found:
            raise Refused
        return found[-1 - min(int(self.random.expovariate(0.4)), len(found) - 1)]

    def shape(self) -> tuple[int, ...]:
        rank = self.choose(0, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 4, 5)
        return tuple(self.random.choices((1, 2, 3, 4, 0), (3, 4, 4, 4, 0.05), k=rank))

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

    # Making

    def name(self) -> str:
        depth = self.scope.depth
        return f"{'t' if not depth else f'b{depth}_'}{next(self.counters[depth])}"

    def input(self, kind: str) -> Value:
        """Add an input to the main graph, some of its dimensions symbolic."""
        shape = self.shape()
        names: list[int | str | None] = list(shape)
        actual = [list(shape) for _ in range(3)]
        for axis in range(len(shape)):
            if self.symbolic and self.flip(0.4):
                name = self.choose(*self.sizes)
                names[axis] = name if self.flip(0.9) else None
                for feed, size in zip(actual, self.sizes[name], strict=True):
                    feed[axis] = size
        held = [self.array(kind, s) for s in actual]
        value = Value(f"x{len(self.inputs)}", kind, held[0])
        self.inputs.append((value, tuple(names), held))
        self.main.values.append(value)
        return value

    def constant(self, array: Any, kind: str | None = None) -> Value:
        """Make a constant: an initializer, here or outside, or a node, or one with a default."""
        kind = kind or self.float
        if kind == "tensor(string)":
            made = np.asarray(array, object)
        else:
            made = np.asarray(array).astype(helper.tensor_dtype_to_np_dtype(TYPES[kind]))
        value = Value(self.name(), kind, made, known=True)
        proto = numpy_helper.from_array(made, value.name)
        style = self.choose("initializer", "initializer", "node", "outer", "overridable")
        if self.scope.function:
            style = "node"
        if style == "initializer" and self.ir < 4 and self.scope is not self.main:
            style = "node"
        if style in ("outer", "overridable") and self.flip(0.6):
            style = "node"
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

    def ints(self, *numbers: int) -> Value:
        return self.constant(list(numbers), "tensor(int64)")

    def scalar(self, number: float, kind: str | None = None) -> Value:
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
        """Add a node and return its first output; raises Refused if it does not run."""
        rough = any(v is not None and v.rough for v in inputs)
        safe = op == "Div" and inputs[1] is not None and inputs[1].known
        if rough and jumps(op, attrs) and not safe:
            raise Refused
        names = [self.name() for _ in range(outputs)]
        read = ["" if v is None else v.name for v in inputs]
        attrs = {key: value for key, value in attrs.items() if value != []}
        made = helper.make_node(op, read, names, domain=domain or None, **attrs)
        feed = {v.name: v for v in inputs if v is not None}
        bodies = set(outer_names(made))
        feed |= {v.name: v for v in self.scope.visible() if v.name in bodies}
        rough |= any(v.rough for v in feed.values())
        held, types = self.run(made, list(feed.values()))
        rounds = op not in EXACT and domain != LOCAL
        for name, kind, value in zip(names, types, held, strict=True):
            inexact = (rough or rounds) and is_float(kind)
            self.scope.values.append(Value(name, kind, value, inexact))
        if refer is not None:
            attribute = next(a for a in made.attribute if a.name == refer)
            attribute.CopyFrom(
                AttributeProto(name=refer, ref_attr_name="alpha", type=AttributeProto.FLOAT)
            )
        if self.flip(0.2):
            made.name = f"n_{names[0]}"
        self.scope.nodes.append(made)
        return self.scope.values[-outputs]

    def run(self, node: NodeProto, feed: Sequence[Value]) -> tuple[list[Any], list[str]]:
        """Run one node; raises Refused."""
        inputs = [declaration(v.name, v.type, v.shape) for v in feed]
        outputs = [onnx.ValueInfoProto(name=name) for name in node.output]
        graph = helper.make_graph([node], "one", inputs, outputs)
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
        before, self.scope = self.scope, scope
        if scope.depth >= len(self.counters):
            self.scope = before
            raise Refused
        if not scope.function:
            self.counters[scope.depth] = itertools.count()
        try:
            return grow()
        finally:
            self.scope = before

    # The result

    def sweep(self, read: set[str]) -> None:
        """Remove what nothing in the main graph reads, such as operands of refused nodes."""
        main, nodes = self.main, list[NodeProto]()
        for node in reversed(main.nodes):
            if read.intersection(node.output):
                read |= {*node.input, *outer_names(node)}
                nodes.insert(0, node)
        main.nodes = nodes
        main.weights = [w for w in main.weights if w.name in read]
        self.overridable = [v for v in self.overridable if v.name in read]
        self.inputs = [i for i in self.inputs if i[0].name in read] or self.inputs[:1]
        made = {name for node in nodes for name in node.output}
        main.values = [v for v in main.values if v.name in made]

    def result(self) -> tuple[ModelProto, list[Feed]] | None:
        """Return the model and its feeds; None where it has no node."""
        main = self.main
        made = {name for node in main.nodes for name in node.output}
        read = {name for node in main.nodes for name in (*node.input, *outer_names(node))}
        ends = [v for v in main.values if v.name in made - read and not v.known]
        others = [v for v in main.values if not v.known]
        outputs = self.random.sample(ends, min(len(ends), self.choose(1, 9, 9, 9)))
        outputs += [v for v in [self.random.choice(others)] if self.flip(0.2)]
        if not ends:
            return None
        if self.flip(0.9):
            self.sweep({v.name for v in outputs})
        fixed = not any(isinstance(d, str) or d is None for _, dims, _ in self.inputs for d in dims)
        exactly = fixed and self.flip()

        def declared(value: Value) -> onnx.ValueInfoProto:
            for own, dims, _ in self.inputs:
                if own is value:
                    return declaration(value.name, value.type, dims)
            return declaration(value.name, value.type, value.shape if exactly else None)

        inputs = [declared(value) for value, _, _ in self.inputs]
        weights = {w.name: w for w in main.weights}
        late = list(weights) if self.ir < 4 and not self.functions else []
        for name in dict.fromkeys([*late, *(v.name for v in self.overridable)]):
            tensor = weights[name]
            inputs.append(helper.make_tensor_value_info(name, tensor.data_type, tensor.dims))
        infos = [declared(v) for v in main.values if v.name in made and not v.known and exactly]
        graph = helper.make_graph(
            main.nodes, "fuzz", inputs,
            [declared(v) for v in dict.fromkeys(outputs)],
            main.weights, value_info=[i for i in infos if i.name not in {v.name for v in outputs}],
        )  # fmt: skip
        feeds = [{v.name: held[i] for v, _, held in self.inputs} for i in range(3)]
        return self.wrap(graph), feeds


class Refused(Exception):
    """A node cannot be added."""


def is_float(kind: str) -> bool:
    return "float" in kind or "double" in kind


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

MOTIFS: list[Callable[[Grower], None]] = []
WEIGHTS: list[float] = []


def motif(weight: float) -> Callable[[Callable[[Grower], None]], Callable[[Grower], None]]:
    """Offer a motif as often as *weight* says."""

    def register(function: Callable[[Grower], None]) -> Callable[[Grower], None]:
        MOTIFS.append(function)
        WEIGHTS.append(weight)
        return function

    return register


def some_axes(g: Grower, rank: int) -> list[int]:
    axes = g.random.sample(range(rank), g.random.randint(min(1, rank), rank))
    return [axis - rank if g.flip(0.3) else axis for axis in axes]


def an_axis(g: Grower, rank: int) -> int:
    return g.random.randrange(-rank, rank) if rank else 0


def factors(g: Grower, size: int) -> list[int]:
    """Split a number of elements into a shape."""
    shape = [1] * g.choose(0, 0, 0, 1)
    while size > 1:
        divisor = g.choose(*[d for d in range(2, size + 1) if size % d == 0])
        shape.append(divisor)
        size //= divisor
    if g.flip(0.2):
        shape.insert(g.random.randint(0, len(shape)), 1)
    return shape


def reshape(g: Grower, x: Value) -> Value:
    size = math.prod(x.shape)
    target = factors(g, size) if size and g.flip(0.7) else list(x.shape)
    if g.flip(0.3):
        target = [*target[:-2], math.prod(target[-2:])]
    for axis, dim in enumerate(target):
        if axis < x.rank and dim == x.shape[axis] and g.flip(0.4):
            target[axis] = 0
    if target and g.flip(0.6) and size:
        target[g.random.randrange(len(target))] = -1
    return g.node("Reshape", [x, g.ints(*target)])


def transpose(g: Grower, x: Value) -> Value:
    perm = g.random.sample(range(x.rank), x.rank)
    return g.node("Transpose", [x], perm=perm) if g.flip(0.9) else g.node("Transpose", [x])


def squeeze(g: Grower, x: Value) -> Value:
    ones = [axis for axis, dim in enumerate(x.shape) if dim == 1]
    if not ones or g.flip(0.1):
        return g.node("Squeeze", [x])
    axes = g.random.sample(ones, g.random.randint(1, len(ones)))
    return g.versioned(13, "Squeeze", x, "axes", axes)


def unsqueeze(g: Grower, x: Value) -> Value:
    count = g.choose(1, 1, 2)
    axes = g.random.sample(range(x.rank + count), count)
    if g.opset >= 11 and g.flip(0.3):
        axes[0] -= x.rank + count
    return g.versioned(13, "Unsqueeze", x, "axes", axes)


def cut(g: Grower, x: Value) -> Value:
    """Slice, with every way to say where."""
    axes = [axis % max(x.rank, 1) for axis in some_axes(g, x.rank)] or [0]
    bounds = (0, 0, 1, -1, 2, -2, 2**63 - 1, -(2**63) + 1, 2**31 - 1)
    starts = [g.random.choice(bounds[:6]) for _ in axes]
    ends = [g.random.choice(bounds[2:]) for _ in axes]
    steps = [g.choose(1, 1, 1, 2, -1, -2) for _ in axes]
    if g.opset < 10:
        return g.node("Slice", [x], starts=starts, ends=ends, axes=axes)
    if g.flip(0.3):
        starts, ends, steps = [-1 for _ in axes], [-(2**63) + 1 for _ in axes], [-1 for _ in axes]
    read: list[Value | None] = [x, g.ints(*starts), g.ints(*ends), g.ints(*axes)]
    if g.flip():
        read.append(g.ints(*steps))
    return g.node("Slice", read)


def concat(g: Grower, x: Value) -> Value:
    others = [v for v in g.scope.visible() if v.type == x.type and v.rank == x.rank and v is not x]
    axis = an_axis(g, x.rank)
    parts = [x]
    for _ in range(g.choose(0, 1, 1, 2)):
        if others and g.flip(0.7):
            parts.append(g.random.choice(others))
        elif g.flip():
            parts.append(g.constant(g.array(x.type, x.shape), x.type))
        else:
            parts.append(x)
    g.random.shuffle(parts)
    return g.node("Concat", parts, axis=axis)


def split(g: Grower, x: Value) -> Value:
    axis = an_axis(g, x.rank)
    size = x.shape[axis] if x.rank else 0
    parts = g.random.randint(1, max(size, 1))
    sizes = [size // parts] * (parts - 1)
    sizes.append(size - sum(sizes))
    if g.flip(0.3) and size % parts == 0:
        extra: dict[str, Any] = {"num_outputs": parts} if g.opset >= 18 else {}
        first = g.node("Split", [x], parts, axis=axis, **extra)
    elif g.opset < 13:
        first = g.node("Split", [x], parts, axis=axis, split=sizes)
    else:
        first = g.node("Split", [x, g.ints(*sizes)], parts, axis=axis)
    if g.flip(0.4):
        pieces = g.scope.values[-parts:]
        return g.node("Concat", g.random.sample(pieces, len(pieces)) if g.flip() else pieces,
                      axis=axis)  # fmt: skip
    return first


def gather(g: Grower, x: Value) -> Value:
    axis = an_axis(g, x.rank)
    size = x.shape[axis] if x.rank else 0
    low = -size if g.opset >= 11 else 0
    shape = g.choose((), (1,), (2,), (3,), (2, 2), (0,))
    indices = g.numbers.integers(low, max(size, 1), shape)
    if g.flip(0.2) and size:
        start = g.random.randrange(size)
        indices = np.arange(start, size)
    if g.flip(0.15) and size:
        indices = np.arange(size)[:: g.choose(1, -1)]
    return g.node("Gather", [x, g.constant(indices, "tensor(int64)")], axis=axis)


def expand(g: Grower, x: Value) -> Value:
    target = [
        dim if dim != 1 and g.flip(0.7) else (1 if dim != 1 else g.choose(1, 2, 3))
        for dim in x.shape
    ]
    target = [g.choose(1, 2)] * g.choose(0, 0, 1) + target
    return g.node("Expand", [x, g.ints(*target)])


def pad(g: Grower, x: Value) -> Value:
    pads = [g.choose(0, 0, 1, 1, 2, -1 if g.flip(0.2) else 0) for _ in range(2 * x.rank)]
    if g.flip(0.15):
        pads = [0] * len(pads)
    mode = g.choose("constant", "constant", "reflect", "edge")
    if g.opset < 11:
        return g.node("Pad", [x], pads=pads, mode=mode, value=g.choose(0.0, 1.0))
    read: list[Value | None] = [x, g.ints(*pads)]
    if g.flip() and mode == "constant":
        read.append(g.constant(g.choose(0, 1, 2), x.type))
    return g.node("Pad", read, mode=mode)


def tile(g: Grower, x: Value) -> Value:
    return g.node("Tile", [x, g.ints(*[g.choose(1, 1, 2, 3) for _ in x.shape])])


def cast(g: Grower, x: Value) -> Value:
    to = g.choose(*FLOATS, "tensor(int64)", "tensor(int32)", "tensor(bool)", g.float, x.type)
    y = g.node("Cast", [x], to=TYPES[to])
    return g.node("Cast", [y], to=TYPES[x.type]) if g.flip() and not y.rough else y


def odd_movement(g: Grower, x: Value) -> Value:
    """Flatten, Identity and block moves."""
    op = g.choose(
        "Flatten", "Identity", "DepthToSpace", "SpaceToDepth", "Dropout", "GatherElements"
    )
    if op == "Flatten":
        return g.node(op, [x], axis=g.random.randint(0, x.rank))
    if op in ("DepthToSpace", "SpaceToDepth"):
        return g.node(op, [x], blocksize=g.choose(1, 2))
    if op == "GatherElements":
        axis = an_axis(g, x.rank)
        indices = g.numbers.integers(0, max(x.shape[axis] if x.rank else 1, 1), x.shape)
        return g.node(op, [x, g.constant(indices, "tensor(int64)")], axis=axis)
    return g.node(op, [x])


MOVES = (
    reshape, reshape, transpose, transpose, squeeze, unsqueeze, cut, cut, concat, split, gather,
    expand, pad, tile, cast, odd_movement,
)  # fmt: skip


@motif(6)
def movement(g: Grower) -> None:
    """Chains of operators that compute nothing, elementwise ones in between."""
    x = g.any_tensor()
    for _ in range(g.choose(1, 2, 3, 4)):
        try:
            x = g.random.choice(MOVES)(g, x)
        except Refused:
            continue
        if g.flip(0.2) and is_float(x.type):
            x = g.node(g.choose("Relu", "Neg", "Abs", "Tanh", "Sigmoid"), [x])


@motif(1.5)
def same_movement_twice(g: Grower) -> None:
    """Two values moved alike and then joined."""
    x = g.pick()
    perm = g.random.sample(range(x.rank), x.rank)
    y = g.node(g.choose("Relu", "Neg", "Abs"), [x])
    a, b = g.node("Transpose", [x], perm=perm), g.node("Transpose", [y], perm=perm)
    z = g.node(g.choose("Add", "Mul", "Max"), [a, b])
    if g.flip():
        z = with_constant(g, z)
    back = [perm.index(axis) for axis in range(x.rank)] if g.flip(0.8) else perm
    if g.flip(0.3) and x.rank:
        z = g.node("ReduceMax", [z], axes=[an_axis(g, x.rank)], keepdims=1) if g.opset < 18 else z
    g.node("Transpose", [z], perm=back)


def operand_shape(g: Grower, shape: Sequence[int]) -> tuple[int, ...]:
    """Return a shape that broadcasts to *shape*."""
    rank = len(shape)
    style = g.random.randrange(5)
    if style == 0 or not rank:
        return g.choose((), (1,), (1,) * rank, (1,) * (rank + 1))  # type: ignore[no-any-return]
    if style == 1:
        return tuple(shape)
    if style == 2:
        return tuple(dim if axis == 1 else 1 for axis, dim in enumerate(shape))
    if style == 3:
        return tuple(shape[-1:])
    return tuple(dim if g.flip() else 1 for dim in shape)


def with_constant(g: Grower, x: Value) -> Value:
    op = g.choose("Add", "Mul", "Sub", "Div", "Add", "Mul", "Min", "Max", "Pow")
    shape = operand_shape(g, x.shape)
    special = g.choose(0, 1, -1, 2, 0.5, None, None, None, None)
    if op == "Pow":
        special = g.choose(0, 1, 2, 3, 0.5, -1)
    array = np.full(shape, special) if special is not None else g.array(x.type, shape)
    if op == "Div":
        array = np.where(array == 0, 1, array)
    read = [x, g.constant(array, x.type)]
    return g.node(op, read[::-1] if g.flip(0.3) else read)


@motif(5)
def arithmetic(g: Grower) -> None:
    """Chains of arithmetic with constants."""
    x = g.any_tensor() if g.flip(0.2) else g.pick()
    if x.type in ("tensor(string)", "tensor(bool)"):
        raise Refused
    for _ in range(g.choose(1, 2, 3, 4)):
        x = with_constant(g, x)


UNARY = (
    "Relu Neg Abs Tanh Sigmoid Exp Sqrt Log Erf Floor Ceil Round Sign Softplus Softsign Reciprocal "
    "LeakyRelu Elu Selu HardSigmoid Sin Cos Identity Not HardSwish Celu Mish Gelu ThresholdedRelu"
).split()


@motif(2)
def unary(g: Grower) -> None:
    """Elementwise chains, the same operator twice included."""
    x = g.any_tensor()
    op = g.choose(*UNARY)
    x = g.node(op, [x])
    for _ in range(g.choose(0, 1, 2)):
        x = g.node(op if g.flip() else g.choose(*UNARY), [x])


@motif(2)
def clip(g: Grower) -> None:
    """Bounds, in a row."""
    x = g.pick() if g.flip(0.8) else g.any_tensor()
    for _ in range(g.choose(1, 2, 3)):
        op = g.choose("Clip", "Clip", "Relu", "Min", "Max")
        bounds = [g.choose(None, 0.0, 6.0, 1.0, -1.0, 3.0) for _ in range(2)]
        if op == "Relu":
            x = g.node(op, [x])
        elif op != "Clip":
            x = g.node(op, [x, g.scalar(g.choose(0, 1, 6, -1), x.type)])
        elif g.opset < 11:
            names = zip(("min", "max"), bounds, strict=True)
            x = g.node(op, [x], **{name: bound for name, bound in names if bound is not None})
        else:
            x = g.node(op, [x, *(b if b is None else g.scalar(b, x.type) for b in bounds)])


@motif(3)
def binary(g: Grower) -> None:
    """Two computed values together."""
    x = g.any_tensor()
    y = g.pick(x.type)
    op = g.choose("Add", "Mul", "Sub", "Div", "Max", "Min", "Sum", "Mean", "MatMul", "PRelu", "Pow")
    z = g.node(op, [x, y] if op not in ("Sum", "Max") else [x, y, x][: g.choose(1, 2, 3)])
    if g.flip(0.4):
        g.node(g.choose("Add", "Sub", "Mul", "Max", op), [z, g.choose(x, y)])


@motif(4)
def shape_arithmetic(g: Grower) -> None:
    """Sizes that are computed and then used."""
    x = g.any_tensor()
    if not x.rank:
        raise Refused
    whole = g.node("Shape", [x])
    dims: list[Value] = []
    for axis in range(x.rank):
        at = axis - x.rank if g.opset >= 11 and g.flip(0.3) else axis
        if g.flip(0.3):
            dims.append(g.ints(x.shape[axis]))
        elif g.flip():
            dim = g.node("Gather", [whole, g.constant(at, "tensor(int64)")], axis=0)
            if g.flip(0.4):
                dim = sized(g, dim)
            dims.append(g.versioned(13, "Unsqueeze", dim, "axes", [0]))
        elif g.flip():
            dims.append(g.node("Gather", [whole, g.ints(at)], axis=0))
        elif g.opset >= 10:
            dims.append(g.node("Slice", [whole, g.ints(axis), g.ints(axis + 1), g.ints(0)]))
        else:
            dims.append(g.node("Slice", [whole], starts=[axis], ends=[axis + 1], axes=[0]))
    if g.flip(0.3):
        at = g.random.randrange(len(dims))
        dims[at] = g.ints(-1)
    use = g.choose("Reshape", "Reshape", "Expand", "ConstantOfShape", "Tile", "Slice", "arith")
    if g.flip(0.3) and len(dims) > 1 and use == "Reshape":
        dims[-2:] = [g.node("Mul", dims[-2:])]
    target = g.node("Concat", dims, axis=0)
    if g.flip(0.15):
        target = g.node("Cast", [g.node("Cast", [target], to=FLOAT)], to=INT)
    use_sizes(g, use, x, target, dims)


def use_sizes(g: Grower, use: str, x: Value, target: Value, dims: Sequence[Value]) -> None:
    if use == "ConstantOfShape":
        made = helper.make_tensor("v", FLOAT, [1], [g.choose(0.0, 1.0, 2.0)])
        y = g.node(use, [target], value=made) if g.flip() else g.node(use, [target])
        if x.type == y.type:
            g.node(g.choose("Add", "Mul", "Sub"), [x, y])
    elif use == "Slice" and g.opset >= 10:
        axis = g.random.randrange(x.rank)
        g.node("Slice", [x, g.ints(0), dims[min(axis, len(dims) - 1)], g.ints(axis)])
    elif use == "arith":
        sized(g, target)
    elif use != "Slice":
        g.node(use, [x, target])


def sized(g: Grower, dim: Value) -> Value:
    """Compute with a size and come back to it, or nearly."""
    op, undo = g.choose(("Mul", "Div"), ("Add", "Sub"), ("Mul", "Mul"), ("Sub", "Add"))
    number = g.scalar(g.choose(1, 2, 3), dim.type)
    y = g.node(op, [dim, number] if g.flip(0.8) else [number, dim])
    return g.node(undo, [y, number]) if g.flip(0.8) else y


def image(g: Grower) -> Value:
    """Return a float value with spatial dimensions."""
    ok = [v for v in g.scope.visible() if v.type == g.float and v.rank in (3, 4) and not v.known]
    if ok and g.flip(0.9):
        return g.random.choice(ok)
    return reshape_to(g, g.pick(), g.choose(3, 4))


def reshape_to(g: Grower, x: Value, rank: int) -> Value:
    """Give *x* so many dimensions."""
    if x.rank == rank:
        return x
    if x.rank > rank:
        return g.node("Reshape", [x, g.ints(*[0] * (rank - 1), -1)])
    return g.versioned(13, "Unsqueeze", x, "axes", list(range(rank - x.rank)))


@motif(6)
def convolution(g: Grower) -> None:
    """Conv, ConvTranspose or a pool among padding, affine steps and normalisation."""
    x = image(g)
    channels, spatial = x.shape[1], x.rank - 2
    if not channels or 0 in x.shape:
        raise Refused
    if g.flip(0.3):
        pads = [0, 0, *(g.choose(0, 1, 2) for _ in range(spatial))] * 2
        x = g.versioned(11, "Pad", x, "pads", pads)
    if g.flip(0.25):
        x = with_constant(g, x)
    op = g.choose("Conv", "Conv", "Conv", "ConvTranspose", "AveragePool", "MaxPool")
    kernel = [g.choose(1, 1, 2, 3) for _ in range(spatial)]
    attrs: dict[str, Any] = {}
    if g.flip(0.3):
        attrs["pads"] = [g.choose(0, 1) for _ in range(2 * spatial)]
    elif g.flip(0.2):
        attrs["auto_pad"] = g.choose("SAME_UPPER", "SAME_LOWER", "VALID")
    if g.flip(0.3):
        attrs["strides"] = [g.choose(1, 2) for _ in range(spatial)]
    if g.flip(0.15) and "Conv" in op:
        attrs["dilations"] = [g.choose(1, 2) for _ in range(spatial)]
    if "Pool" in op:
        if g.flip(0.3) and op == "AveragePool":
            attrs["count_include_pad"] = 1
        y = g.node(op, [x], kernel_shape=kernel, **attrs)
    else:
        y = convolved(g, op, x, kernel, attrs)
    for _ in range(g.choose(0, 1, 2)):
        y = g.choose(with_constant, batch_norm, batch_norm, channel_affine, activated)(g, y)


def convolved(g: Grower, op: str, x: Value, kernel: Sequence[int], attrs: dict[str, Any]) -> Value:
    channels = x.shape[1]
    groups = g.choose(1, 1, channels, *[n for n in (2,) if channels % n == 0])
    outs = groups * g.choose(1, 2)
    first, second = (
        (channels, outs // groups) if op == "ConvTranspose" else (outs, channels // groups)
    )
    weight = g.constant(g.array(x.type, (first, second, *kernel)) / 4)
    bias = [g.constant(g.array(x.type, (outs,)))] if g.flip() else []
    if groups != 1:
        attrs["group"] = groups
    if g.flip():
        attrs["kernel_shape"] = list(kernel)
    return g.node(op, [x, weight, *bias], **attrs)


def batch_norm(g: Grower, x: Value) -> Value:
    channels = x.shape[1] if x.rank > 1 else 1
    read: list[Value | None] = [x, *(g.constant(g.array(x.type, (channels,))) for _ in range(3))]
    read.append(g.constant(np.abs(g.array(x.type, (channels,))) + 0.5))
    attrs: dict[str, Any] = {"epsilon": g.choose(1e-5, 1e-3)} if g.flip() else {}
    if g.opset < 9 and g.flip(0.2):
        attrs["spatial"] = 1
    return g.node("BatchNormalization", read, **attrs)


def channel_affine(g: Grower, x: Value) -> Value:
    for op in g.random.sample(("Mul", "Add", "Div", "Sub"), 2):
        shape = [1] * (x.rank - 1)
        shape[0] = x.shape[1]
        array = g.array(x.type, g.choose(shape, [1, *shape], [1] * x.rank))
        array = np.where(array == 0, 1, array)
        x = g.node(op, [x, g.constant(array)])
    return x


def activated(g: Grower, x: Value) -> Value:
    return g.node(g.choose("Relu", "LeakyRelu", "Sigmoid", "Neg"), [x])


@motif(5)
def linear(g: Grower) -> None:
    """MatMul or Gemm with what may be merged into it."""
    x = g.pick(ok=lambda v: v.rank >= 1 and 0 not in v.shape)
    if g.flip(0.2):
        x = with_constant(g, x)
    width, outs = x.shape[-1] if x.rank else 1, g.choose(1, 2, 3, 4)
    if g.flip(0.4):
        x = reshape_to(g, x, 2)
        y = gemm(g, x, outs)
    else:
        weight = g.array(x.type, g.choose((width, outs), (width, outs), (width,))) / 4
        weight_value = g.constant(weight)
        if g.flip(0.2) and weight.ndim == 2:
            weight_value = g.node("Transpose", [g.constant(weight.T)], perm=[1, 0])
        y = g.node("MatMul", [x, weight_value])
    for _ in range(g.choose(0, 1, 2, 3)):
        y = g.choose(with_constant, last_affine, batch_norm, activated, reshape, linear_again)(g, y)


def gemm(g: Grower, x: Value, outs: int) -> Value:
    attrs: dict[str, Any] = {}
    shape = [x.shape[1], outs]
    if g.flip(0.4):
        attrs["transB"], shape = 1, shape[::-1]
    if g.flip(0.2):
        x = g.node("Transpose", [x], perm=[1, 0])
        attrs["transA"] = 1
    for name in ("alpha", "beta"):
        if g.flip(0.2):
            attrs[name] = g.choose(0.5, 2.0, 1.0, 0.0)
    read = [x, g.constant(g.array(x.type, shape) / 4)]
    if g.opset < 11 or g.flip(0.6):
        read.append(g.constant(g.array(x.type, g.choose((outs,), (1, outs), (), (1,)))))
    return g.node("Gemm", read, **attrs)


def linear_again(g: Grower, x: Value) -> Value:
    weight = g.array(x.type, (x.shape[-1] if x.rank else 1, g.choose(1, 2, 3))) / 4
    return g.node("MatMul", [x, g.constant(weight)])


def last_affine(g: Grower, x: Value) -> Value:
    shape = g.choose(x.shape[-1:], (), (1,), (1, *x.shape[-1:]))
    array = np.asarray(g.array(x.type, shape))
    return g.node(g.choose("Add", "Mul", "Sub"), [x, g.constant(array)])


REDUCE = (
    "ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare "
    "ReduceLogSumExp"
).split()


def reduced(g: Grower, op: str, x: Value, axes: Sequence[int] | None, **attrs: Any) -> Value:
    since = 13 if op == "ReduceSum" else 18
    if axes is None:
        return g.node(op, [x], **attrs)
    if g.opset < since:
        axes = axes if g.opset >= 11 else [axis % x.rank for axis in axes]
        return g.node(op, [x], axes=list(axes), **attrs)
    return g.node(op, [x, g.ints(*axes)], **attrs)


@motif(3)
def reduction(g: Grower) -> None:
    """Reductions, in a row, or with movement behind."""
    x = g.any_tensor() if g.flip(0.3) else g.pick()
    op = g.choose(*REDUCE)
    for _ in range(g.choose(1, 1, 2)):
        axes = some_axes(g, x.rank) if g.flip(0.85) else None
        attrs = {"keepdims": g.choose(0, 1)} if g.flip(0.8) else {}
        if g.flip(0.1) and not x.rough:
            x = g.node(g.choose("ArgMax", "ArgMin"), [x], axis=an_axis(g, x.rank), **attrs)
        else:
            x = reduced(g, op, x, axes, **attrs)
    if g.flip(0.4):
        g.choose(squeeze, unsqueeze, reshape, transpose, with_constant)(g, x)


@motif(5)
def written_out(g: Grower) -> None:
    """What exporters write out that has an operator of its own."""
    x = g.pick(ok=lambda v: v.rank >= 1 and 0 not in v.shape)
    g.choose(layer_norm, rms_norm, softmax, gelu, silu, hard_swish, prelu, instance_norm)(g, x)


def layer_norm(g: Grower, x: Value) -> Value:
    axes = g.choose([-1], [-1], [x.rank - 1], [-2, -1][-x.rank :])
    centred = g.node("Sub", [x, reduced(g, "ReduceMean", x, axes, keepdims=1)])
    if g.flip():
        square = g.node("Mul", [centred, centred])
    else:
        square = g.node("Pow", [centred, g.scalar(2)])
    variance = reduced(g, "ReduceMean", square, axes, keepdims=1)
    return scaled(g, centred, variance, x)


def scaled(g: Grower, centred: Value, variance: Value, x: Value) -> Value:
    """Divide by the root of a variance that is not near zero, then scale and shift."""
    shifted = g.node("Add", [variance, g.scalar(g.choose(1.0, 0.5))])
    shifted.rough = False
    root = g.node("Sqrt", [shifted])
    root.rough = False
    if g.flip(0.7):
        y = g.node("Div", [centred, root]) if not centred.rough else divided(g, centred, root)
    else:
        y = g.node("Mul", [centred, g.node("Reciprocal", [root])])
    y.rough = True
    for op in ("Mul", "Add")[: g.choose(0, 1, 2, 2)]:
        y = g.node(op, [y, g.constant(g.array(x.type, g.choose(x.shape[-1:], (1,), ())))])
    return y


def divided(g: Grower, x: Value, by: Value) -> Value:
    """Divide by what is safely away from zero."""
    x.rough = by.rough = False
    y = g.node("Div", [x, by])
    x.rough = by.rough = y.rough = True
    return y


def rms_norm(g: Grower, x: Value) -> Value:
    square = g.node("Mul", [x, x]) if g.flip() else g.node("Pow", [x, g.scalar(2)])
    return scaled(g, x, reduced(g, "ReduceMean", square, [-1], keepdims=1), x)


def instance_norm(g: Grower, x: Value) -> Value:
    if x.rank < 3:
        raise Refused
    axes = list(range(2, x.rank))
    centred = g.node("Sub", [x, reduced(g, "ReduceMean", x, axes, keepdims=1)])
    square = g.node("Mul", [centred, centred])
    variance = reduced(g, "ReduceMean", square, axes, keepdims=1)
    return channel_affine(g, scaled(g, centred, variance, x))


def softmax(g: Grower, x: Value) -> Value:
    axis = g.choose(-1, -1, 0, x.rank - 1)
    if g.flip(0.3):
        return g.node(g.choose("Softmax", "LogSoftmax"), [x], axis=axis % x.rank)
    if g.flip():
        x = g.node("Sub", [x, reduced(g, "ReduceMax", x, [axis], keepdims=1)])
    powers = g.node("Exp", [x])
    return divided(g, powers, reduced(g, "ReduceSum", powers, [axis], keepdims=1))


def gelu(g: Grower, x: Value) -> Value:
    inner = g.node("Erf", [divided(g, x, g.scalar(math.sqrt(2)))])
    one = g.node("Add", [inner, g.scalar(1)])
    if g.flip():
        return g.node("Mul", [g.node("Mul", [x, one]), g.scalar(0.5)])
    return g.node("Mul", [g.node("Mul", [x, g.scalar(0.5)]), one])


def silu(g: Grower, x: Value) -> Value:
    return g.node("Mul", [x, g.node(g.choose("Sigmoid", "HardSigmoid", "Softplus"), [x])])


def hard_swish(g: Grower, x: Value) -> Value:
    shifted = g.node("Add", [x, g.scalar(3)])
    if g.opset < 11:
        bounded = g.node("Clip", [shifted], min=0.0, max=6.0)
    else:
        bounded = g.node("Clip", [shifted, g.scalar(0), g.scalar(6)])
    sixth = (
        divided(g, bounded, g.scalar(6)) if g.flip() else g.node("Mul", [bounded, g.scalar(1 / 6)])
    )
    return g.node("Mul", [x, sixth]) if g.flip(0.8) else sixth


def prelu(g: Grower, x: Value) -> Value:
    negative = g.node("Neg", [g.node("Relu", [g.node("Neg", [x])])])
    slope = g.constant(g.array(x.type, operand_shape(g, x.shape)))
    return g.node("Add", [g.node("Relu", [x]), g.node("Mul", [negative, slope])])


@motif(3)
def comparison(g: Grower) -> None:
    """Comparisons, logic, Where."""
    x = g.any_tensor()
    other = g.constant(g.array(x.type, operand_shape(g, x.shape)), x.type)
    read = [x, other][:: g.choose(1, -1)] if g.flip(0.9) else [x, x]
    truth = g.node(g.choose("Greater", "Less", "Equal", "GreaterOrEqual", "LessOrEqual"), read)
    for _ in range(g.choose(0, 1, 2)):
        op = g.choose("Not", "Not", "And", "Or", "Xor", "Cast", "Equal")
        if op == "Not":
            truth = g.node(op, [truth])
        elif op == "Cast":
            number = g.node(op, [truth], to=TYPES[g.choose("tensor(int32)", g.float)])
            truth = g.node(op, [number], to=BOOL)
        else:
            second = g.scalar(g.flip(), "tensor(bool)") if g.flip(0.6) else g.pick("tensor(bool)")
            truth = g.node(op, [truth, second])
    if g.flip(0.7) and g.opset >= 9:
        y = g.pick(x.type)
        z = g.constant(g.array(x.type, operand_shape(g, x.shape)), x.type) if g.flip() else x
        g.node("Where", [truth, *([y, z] if g.flip() else [z, y])])


@motif(1.5)
def quantization(g: Grower) -> None:
    """QuantizeLinear and DequantizeLinear, movement in between."""
    if g.opset < 10:
        raise Refused
    x = g.pick("tensor(float)", ok=lambda v: not v.rough)
    kind = g.choose("tensor(uint8)", "tensor(int8)")
    scale, zero = (
        g.scalar(g.choose(0.5, 0.25, 1), "tensor(float)"),
        g.scalar(g.choose(0, 1, 3), kind),
    )
    q = g.node("QuantizeLinear", [x, scale, zero])
    if g.flip(0.6):
        q = g.random.choice(MOVES)(g, q)
    y = g.node("DequantizeLinear", [q, scale, zero])
    if g.flip(0.4):
        y = g.random.choice(MOVES)(g, y)
    if g.flip(0.5):
        y = g.node("QuantizeLinear", [y, *([scale, zero] if g.flip(0.7) else [scale])])
        g.node("DequantizeLinear", [y, *([scale, zero] if g.flip(0.7) else [scale])])


@motif(1)
def einsum(g: Grower) -> None:
    """Einsum over what fits."""
    if g.opset < 12:
        raise Refused
    x = g.pick(ok=lambda v: v.rank in (2, 3))
    equations = {
        2: ("ij,jk->ik", "ij,kj->ik", "ij->ji", "ij->i", "ij,ij->ij", "ij,jk", "ij,j->i", "ii->i"),
        3: ("bij,bjk->bik", "bij,jk->bik", "bij->bji", "bij,bkj->bik", "...j,jk->...k", "bij->ij"),
    }
    equation = g.choose(*equations[x.rank])
    read = [x]
    if "," in equation:
        sizes: dict[str, int] = dict(zip(equation.split(",")[0], x.shape, strict=False))
        term = re.split(",|->", equation)[1]
        shape = [sizes.get(letter, 2) for letter in term if letter != "."]
        read.append(g.constant(g.array(x.type, shape)))
    g.node("Einsum", read, equation=equation)


@motif(1)
def repeated(g: Grower) -> None:
    """A node once more, with the same inputs."""
    made = [n for n in g.scope.nodes if n.op_type not in ("Constant", "If", "Loop")]
    if not made:
        raise Refused
    node = g.random.choice(made)
    visible = {v.name: v for v in g.scope.visible()}
    read = [visible.get(name) if name else None for name in node.input]
    if any(a.ref_attr_name for a in node.attribute):
        raise Refused
    attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    again = g.node(node.op_type, read, len(node.output), node.domain, **attrs)
    first = visible.get(node.output[0])
    if first is not None and first.type in FLOATS and g.flip():
        g.node(g.choose("Add", "Mul", "Max"), [first, again])


@motif(1)
def sequence(g: Grower) -> None:
    """Sequences made and taken apart."""
    if g.opset < 11:
        raise Refused
    x = g.any_tensor()
    y = g.pick(x.type)
    parts = [x, y, x][: g.choose(1, 2, 3)]
    if g.flip(0.7):
        made = g.node("SequenceConstruct", parts)
    else:
        made = g.node("SplitToSequence", [x], axis=an_axis(g, x.rank), keepdims=g.choose(0, 1))
    if g.flip(0.4):
        made = g.node(
            "SequenceInsert", [made, y, *([g.scalar(0, "tensor(int64)")] * g.choose(0, 1))]
        )
    if g.flip(0.2):
        made = g.node("SequenceErase", [made, g.scalar(g.choose(0, -1), "tensor(int64)")])
    use = g.choose("SequenceAt", "ConcatFromSequence", "SequenceLength")
    if use == "SequenceAt":
        g.node(use, [made, g.scalar(g.choose(0, -1, 1), "tensor(int64)")])
    elif use == "SequenceLength":
        g.node(use, [made])
    else:
        g.node(use, [made], axis=an_axis(g, x.rank), new_axis=g.choose(0, 0, 1))


@motif(0.6)
def recurrent(g: Grower) -> None:
    """RNN, GRU or LSTM, some inputs left out."""
    x = reshape_to(g, g.pick(ok=lambda v: v.rank > 0 and 0 not in v.shape), 3)
    op, gates = g.choose(("RNN", 1), ("GRU", 3), ("LSTM", 4))
    hidden, directions = 2, g.choose(1, 2)
    shapes = [(directions, gates * hidden, n) for n in (x.shape[2], hidden)]
    read: list[Value | None] = [x, *(g.constant(g.array(x.type, s) / 4) for s in shapes)]
    if g.flip():
        read.append(g.constant(g.array(x.type, (directions, 2 * gates * hidden)) * g.choose(0, 1)))
        if g.flip():
            read += [None, g.constant(np.zeros((directions, x.shape[1], hidden)))]
    direction = "bidirectional" if directions == 2 else g.choose("forward", "reverse")
    g.node(op, read, g.choose(1, 2), hidden_size=hidden, direction=direction)


# Motifs with bodies -------------------------------------------------------------------------------


def grown_body(g: Grower, name: str, inputs: Sequence[Value], wanted: Sequence[Value | None],
               extra: int = 0) -> onnx.GraphProto:  # fmt: skip
    """Grow a body whose outputs have the types and shapes of *wanted*; None is the condition."""
    scope = Scope(g.scope)
    scope.values = list(inputs)

    def grow() -> onnx.GraphProto:
        for _ in range(g.choose(0, 1, 2, 3)):
            g.step()
        outputs = []
        for like in wanted:
            if like is None:
                outputs.append(g.node("Identity", [inputs[1]]))
                continue
            found = [
                v for v in scope.values
                if v.type == like.type and v.shape == like.shape and not v.rough
            ]  # fmt: skip
            source = g.random.choice(found) if found and g.flip(0.9) else like
            plain = source in scope.values and not source.known and source not in inputs
            outputs.append(
                source if plain and source not in outputs else g.node("Identity", [source])
            )
        for _ in range(extra):
            outputs.append(g.node(g.choose("Relu", "Neg", "Identity"), [g.pick()]))
        return helper.make_graph(
            scope.nodes, name,
            [declaration(v.name, v.type, None if v.rank else ()) for v in inputs],
            [declaration(v.name, v.type, None) for v in outputs], scope.weights,
        )  # fmt: skip

    made: onnx.GraphProto = g.within(scope, grow)
    return made


@motif(1.2)
def branch(g: Grower) -> None:
    """If, its condition known or computed."""
    if g.scope.function or g.scope.depth > 1:
        raise Refused
    x = g.pick()
    if g.flip(0.4):
        when = g.scalar(g.flip(), "tensor(bool)")
    else:
        total = reduced(g, "ReduceMax", g.pick(ok=lambda v: not v.rough and bool(v.held.size)),
                        None, keepdims=0)  # fmt: skip
        when = g.node("Greater", [total, g.scalar(g.choose(0, 1, 9))])
    bodies = [grown_body(g, name, [], [x]) for name in ("then", "else")]
    g.node("If", [when], then_branch=bodies[0], else_branch=bodies[1])


@motif(1.2)
def loop(g: Grower) -> None:
    """Loop with carried and stacked values."""
    if g.scope.function or g.scope.depth > 1 or g.opset < 11:
        raise Refused
    x = g.pick(ok=lambda v: not v.rough)
    count = g.scalar(g.choose(0, 1, 2, 3), "tensor(int64)")
    go = g.scalar(g.choose(True, True, True, False), "tensor(bool)") if g.flip() else None
    depth = g.scope.depth + 1
    inputs = [
        Value(f"i{depth}", "tensor(int64)", np.array(0)),
        Value(f"go{depth}", "tensor(bool)", np.array(True)),
        Value(f"s{depth}", x.type, x.held),
    ]
    extra = 0 if go is not None or not count.held else g.choose(0, 1)  # else no shape is said
    body = grown_body(g, "body", inputs, [None, inputs[2]], extra)
    g.node("Loop", [count, go, x], 1 + extra, body=body)


@motif(1.2)
def call(g: Grower) -> None:
    """Define a local function and call it, often more than once."""
    if g.scope.depth or g.ir < 8:
        raise Refused
    arguments = [g.pick() for _ in range(g.choose(1, 1, 2))]
    scope = Scope(g.scope, function=True)
    formal = [Value(f"a{i}", v.type, v.held, v.rough) for i, v in enumerate(arguments)]
    scope.values = list(formal)
    alpha = g.choose(0.5, 0.0, 0.25)

    def grow() -> Value:
        for _ in range(g.choose(1, 2, 3)):
            g.step()
        y = g.pick()
        if g.flip(0.4):
            y = g.node(g.choose("LeakyRelu", "Elu"), [y], refer="alpha", alpha=alpha)
        return y if y not in formal else g.node("Identity", [y])

    result = g.within(scope, grow)
    made = helper.make_function(
        LOCAL, f"f{len(g.functions)}", [v.name for v in formal], [result.name], scope.nodes,
        [helper.make_opsetid("", g.opset), helper.make_opsetid(LOCAL, 1)], ["alpha"],
    )  # fmt: skip
    g.functions.append(made)
    try:
        y = g.node(made.name, arguments, domain=LOCAL, alpha=alpha)
        y.rough = True
        for _ in range(g.choose(0, 0, 1)):
            again = [g.choose(v, y) if v.shape == y.shape else v for v in arguments]
            g.node(made.name, again, domain=LOCAL, alpha=g.choose(alpha, 0.125)).rough = True
    except Refused:
        if not any(made.name == n.op_type for n in g.main.nodes):
            g.functions.remove(made)
        raise


# The whole schema ---------------------------------------------------------------------------------


@functools.cache
def schemas(opset: int) -> list[defs.OpSchema]:
    """Return the operators of an opset as they were then."""
    newest: dict[str, defs.OpSchema] = {}
    for schema in defs.get_all_schemas_with_history():
        known = newest.get(schema.name)
        if schema.domain or schema.since_version > opset:
            continue
        if known is None or known.since_version < schema.since_version:
            newest[schema.name] = schema
    return [
        schema
        for name, schema in sorted(newest.items())
        if name not in UNWELCOME and not schema.deprecated and schema.inputs
    ]


WORDS: dict[str, tuple[str, ...]] = {
    "auto_pad": ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"),
    "approximate": ("none", "tanh"),
    "reduction": ("none", "add", "mul", "mean", "sum", "max", "min"),
    "direction": ("forward", "reverse", "LEFT", "RIGHT", "bidirectional"),
    "mode": ("constant", "edge", "reflect", "nearest", "linear", "cubic", "DCR", "CRD", "bilinear"),
    "coordinate_transformation_mode": ("half_pixel", "asymmetric", "align_corners"),
    "nearest_mode": ("floor", "ceil", "round_prefer_floor"),
    "padding_mode": ("zeros", "border", "reflection"),
    "equation": ("ij,jk->ik", "ij->ji", "i,i->", "...ij->...ji"),
}


def attribute(g: Grower, name: str, kind: defs.OpSchema.AttrType, rank: int) -> Any:
    """Make up an attribute; None where nothing sensible is known."""
    types = defs.OpSchema.AttrType
    if name in ("axis", "batch_axis", "time_axis"):
        return an_axis(g, rank)
    if name in ("to", "dtype", "output_dtype"):
        return TYPES[g.choose(*FLOATS, "tensor(int64)", "tensor(int32)")]
    lists: dict[str, Callable[[], list[int]]] = {
        "axes": lambda: some_axes(g, rank),
        "perm": lambda: g.random.sample(range(rank), rank),
        "kernel_shape": lambda: [g.choose(1, 2, 3) for _ in range(rank - 2)],
        "strides": lambda: [g.choose(1, 2) for _ in range(rank - 2)],
        "dilations": lambda: [g.choose(1, 2) for _ in range(rank - 2)],
        "pads": lambda: [g.choose(0, 1) for _ in range(2 * (rank - 2))],
    }
    if name in lists:
        return lists[name]()
    if kind == types.INT:
        return g.choose(0, 1, 1, 2, -1)
    if kind == types.FLOAT:
        return g.choose(0.0, 0.5, 1.0, 2.0, -1.0)
    if kind == types.STRING and name in WORDS:
        return g.random.choice(WORDS[name])
    return None


INPUTS: dict[str, Callable[[Grower, Value | None], list[int]]] = {
    "axes": lambda g, x: some_axes(g, x.rank if x else 1),
    "shape": lambda g, x: list(x.shape if x else (1,)),
    "repeats": lambda g, x: [g.choose(1, 2) for _ in range(x.rank if x else 1)],
    "pads": lambda g, x: [g.choose(0, 1) for _ in range(2 * (x.rank if x else 1))],
    "starts": lambda g, x: [g.choose(0, 1)],
    "ends": lambda g, x: [g.choose(1, 2, -1)],
    "k": lambda g, x: [1],
    "K": lambda g, x: [1],
}


def operand(
    g: Grower, formal: defs.OpSchema.FormalParameter, kind: str, first: Value | None
) -> Value:
    """Return something for an input."""
    if formal.name in INPUTS and kind == "tensor(int64)" and g.flip(0.8):
        return g.ints(*INPUTS[formal.name](g, first))
    found = [v for v in g.scope.visible() if v.type == kind]
    alike = [v for v in found if first is not None and v.rank == first.rank]
    if found and g.flip(0.7):
        return g.random.choice(alike if alike and g.flip() else found)
    if kind not in MADE:
        raise Refused
    shape = g.shape() if first is None or g.flip(0.3) else operand_shape(g, first.shape)
    if first is None and g.flip() and len(g.inputs) < 5 and not g.scope.function:
        return g.input(kind)
    return g.constant(g.array(kind, shape), kind)


@motif(4)
def anything(g: Grower) -> None:
    """Any operator of the schema; several attempts, since many are refused."""
    for _ in range(6):
        schema = g.random.choice(schemas(g.opset))
        try:
            random_node(g, schema)
            return
        except Refused:
            continue


def random_node(g: Grower, schema: defs.OpSchema) -> Value:
    bound: dict[str, str] = {}
    kinds = {v.type for v in g.scope.visible() if not v.known}
    read: list[Value | None] = []
    for formal in schema.inputs:
        option = formal.option
        if option == defs.OpSchema.FormalParameterOption.Optional and g.flip():
            read.append(None)
            continue
        several = option == defs.OpSchema.FormalParameterOption.Variadic
        for _ in range(g.choose(1, 2, 3) if several else 1):
            key = formal.type_str
            if key not in bound or (several and not formal.is_homogeneous):
                allowed = sorted(formal.types & MADE) or sorted(formal.types)
                likely = [kind for kind in allowed if kind in kinds]
                bound[key] = g.random.choice(likely if likely and g.flip(0.85) else allowed)
            first = next((v for v in read if v is not None), None)
            read.append(operand(g, formal, bound[key], first))
    while read and read[-1] is None:
        read.pop()
    rank = read[0].rank if read and read[0] is not None else 0
    attrs = {}
    for name, declared in schema.attributes.items():
        if declared.required or g.flip(0.4):
            made = attribute(g, name, declared.type, rank)
            if made is not None:
                attrs[name] = made
    outputs = g.random.randint(schema.min_output or 1, min(schema.max_output, 3) or 1)
    if schema.name == "Split" and outputs > 1:
        raise Refused  # onnxruntime may not survive it
    return g.node(schema.name, read, outputs, **attrs)


# Checking -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Find:
    """What is wrong with a model."""

    kind: str
    detail: str

    @property
    def key(self) -> str:
        """The same for what probably has one cause."""
        return re.sub(r"'[^']*'|\d[\d.e+-]*", "_", f"{self.kind}: {self.detail}")[:160]


@functools.cache
def recipe() -> tuple[Pass, ...]:
    return parse("lossless")


@dataclass
class Case:
    """A model, and feeds for it that run."""

    proto: ModelProto
    feeds: list[Feed]
    often: bool = False
    """Whether to run the passes once more from the start."""
    find: Find | None = None
    kept: bool = False
    on_kept: Callable[[], None] = lambda: None

    def check(self) -> Find | None:
        """Slim the model; say what is wrong with the result. Sets ``kept``."""
        source = self.proto.SerializeToString()
        model = Model.from_proto(self.proto)
        reference = Reference(source, model, Calibration.of(self.feeds))
        self.kept = reference.reason is None
        if not self.kept:
            return None
        self.on_kept()
        try:
            outcome = api.run(self.proto, recipe(), check="off")
            return self._judge(outcome, model, reference)
        except BrokenModel as error:
            return Find("broken", f"{error} {self._guilty()}")
        except (OnnxslimError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            return Find("crash", f"{type(error).__name__}: {error}")

    def _judge(self, outcome: api.Outcome, model: Model, reference: Reference) -> Find | None:
        for warning in outcome.report.warnings:
            changed = " ".join(s.name for s in outcome.report.steps if s.changes)
            kind = "grows" if "more than the input" in warning else "crash"
            return Find(kind, f"{warning} {changed if kind == 'grows' else ''}")
        result = outcome.model
        content = result.to_bytes()
        check_structure(model, result, content)
        difference = reference.compare(content, Effect.ROUNDING)
        if not difference.passed and difference.max_abs > 1e-4:
            return Find(
                "differs", f"{difference.output!r} by {difference.max_abs:.3g} {self._guilty()}"
            )
        if not outcome.report.changed:
            return None
        return self._again(result, content)

    def _again(self, result: Model, content: bytes) -> Find | None:
        if len(content) > self.proto.ByteSize():
            return Find("larger", f"{len(content) - self.proto.ByteSize()} bytes")
        second = api.run(onnx.load_from_string(content), recipe(), check="off")
        if second.model.to_bytes() != content:
            changed = " ".join(s.name for s in second.report.steps if s.changes)
            return Find("twice", changed or "no pass, but other bytes")
        if self.often:
            repeat = api.run(self.proto, recipe(), check="off").model.to_bytes()
            if repeat != content:
                return Find("random", "another result for the same model")
        return None

    def _guilty(self) -> str:
        """Name the passes that a run with checks leaves out."""
        try:
            report = api.run(self.proto, recipe(), check="each", data=self.feeds).report
        except Exception as error:
            return f"({error})"
        names = [w.split(" ", 1)[0] for w in report.warnings]
        return f"because of {', '.join(names) or 'several passes together'}"


# Shrinking ----------------------------------------------------------------------------------------


def shrink(case: Case, find: Find, seconds: float = 20.0) -> Case:
    """Return the smallest variant found that fails in the same way."""
    limit = time.monotonic() + seconds
    progress = True
    while progress and time.monotonic() < limit:
        progress = False
        for variant in smaller(case):
            if time.monotonic() > limit:
                break
            if still_fails(variant, find):
                case, progress = variant, True
                break
    return case


def still_fails(case: Case, find: Find) -> bool:
    try:
        onnx.checker.check_model(case.proto)
        found = case.check()
    except Exception:
        return False
    return (
        found is not None
        and found.key.split(" ")[0] == find.key.split(" ")[0]
        and (find.kind not in ("crash", "broken") or found.key[:60] == find.key[:60])
    )


def smaller(case: Case) -> Iterator[Case]:
    """Yield simpler models."""
    yield from fewer_outputs(case)
    yield from without_nodes(case)
    yield from bypassed(case)
    yield from without_attributes(case)
    yield from fixed_inputs(case)


def variant(case: Case) -> Case:
    copy = ModelProto()
    copy.CopyFrom(case.proto)
    return Case(copy, case.feeds, case.often)


def swept(case: Case) -> Case:
    """Remove what nobody reads."""
    graph = case.proto.graph
    while True:
        read = {name for node in graph.node for name in (*node.input, *outer_names(node))}
        read |= {output.name for output in graph.output}
        dead = [node for node in graph.node if not read.intersection(node.output)]
        if not dead:
            break
        for node in dead:
            graph.node.remove(node)
    for items in (graph.input, graph.initializer):
        for item in [i for i in items if i.name not in read]:
            items.remove(item)  # type: ignore[arg-type]
    used = {n.op_type for n in graph.node} | {
        n.op_type for f in case.proto.functions for n in f.node
    }
    for function in [f for f in case.proto.functions if f.name not in used]:
        case.proto.functions.remove(function)
    names = {i.name for i in graph.input}
    case.feeds = [{k: v for k, v in feed.items() if k in names} for feed in case.feeds]
    del graph.value_info[:]
    return case


def fewer_outputs(case: Case) -> Iterator[Case]:
    if len(case.proto.graph.output) > 1:
        for index in range(len(case.proto.graph.output)):
            made = variant(case)
            keep = made.proto.graph.output[index]
            for output in [o for o in made.proto.graph.output if o.name != keep.name]:
                made.proto.graph.output.remove(output)
            yield swept(made)
    plain = swept(variant(case))
    if plain.proto.ByteSize() < case.proto.ByteSize():
        yield plain


def without_nodes(case: Case) -> Iterator[Case]:
    """Feed what a node computed, or end there."""
    values = every_value(case)
    outputs = {output.name for output in case.proto.graph.output}
    for index in range(len(case.proto.graph.node)):
        node = case.proto.graph.node[index]
        known = [name for name in node.output if name in values]
        if node.op_type == "Constant" or len(known) < len(node.output):
            continue
        if not outputs.intersection(node.output):
            made = variant(case)
            graph = made.proto.graph
            del graph.node[index]
            made.feeds = [dict(feed) for feed in case.feeds[: len(values[known[0]][1])]]
            for name in known:
                kind, held = values[name]
                shapes = [np.shape(h) for h in held]
                same = kind.startswith("tensor") and len({len(s) for s in shapes}) == 1
                dims = [d[0] if len(set(d)) == 1 else None for d in zip(*shapes, strict=False)]
                graph.input.append(declaration(name, kind, dims if same else None))
                for feed, value in zip(made.feeds, held, strict=True):
                    feed[name] = value
            yield swept(made)
        if known[0] not in outputs:
            made = variant(case)
            del made.proto.graph.output[:]
            made.proto.graph.output.append(declaration(known[0], values[known[0]][0], None))
            made = swept(made)
            if len(made.proto.graph.node) < len(case.proto.graph.node):
                yield made


def every_value(case: Case) -> dict[str, tuple[str, list[Any]]]:
    """Return types and values of all that top-level nodes compute, a value for each feed."""
    probe = variant(case).proto
    names = [name for node in probe.graph.node for name in node.output if name]
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    try:
        session = load(probe)
        runs = [session.run(None, feed) for feed in case.feeds]
    except Exception:
        try:
            runs = [session.run(None, case.feeds[0])]
        except Exception:
            return {}
    types = [item.type for item in session.get_outputs()]
    return {
        name: (kind, [run[i] for run in runs])
        for i, (name, kind) in enumerate(zip(names, types, strict=True))
        if kind in TYPES or kind.startswith("seq(tensor")
    }


def bypassed(case: Case) -> Iterator[Case]:
    """Let the readers of a node read one of its inputs."""
    for index, node in enumerate(case.proto.graph.node):
        for name in dict.fromkeys(filter(None, node.input)):
            made = variant(case)
            del made.proto.graph.node[index]
            for other in made.proto.graph.node:
                for position, read in enumerate(other.input):
                    if read == node.output[0]:
                        other.input[position] = name
            yield swept(made)


def without_attributes(case: Case) -> Iterator[Case]:
    for index, node in enumerate(case.proto.graph.node):
        for position in range(len(node.attribute)):
            if not node.attribute[position].HasField("g"):
                made = variant(case)
                del made.proto.graph.node[index].attribute[position]
                yield made


def fixed_inputs(case: Case) -> Iterator[Case]:
    """Use one feed and its sizes."""
    free = any(
        not d.HasField("dim_value")
        for i in case.proto.graph.input
        for d in i.type.tensor_type.shape.dim
    )
    for feed in case.feeds if free or len(case.feeds) > 1 else ():
        made = variant(case)
        made.feeds = [feed]
        for info in made.proto.graph.input:
            if info.name in feed and info.type.HasField("tensor_type"):
                elem = info.type.tensor_type.elem_type
                shape = np.shape(feed[info.name])
                info.CopyFrom(helper.make_tensor_value_info(info.name, elem, shape))
        yield made


# Running ------------------------------------------------------------------------------------------

SLOTS = ("tried", "kept", "nodes", "finds")


def one(seed: int, on_kept: Callable[[], None] = lambda: None) -> Case | None:
    """Grow and check the model of a seed; None where there is none."""
    made = Grower(seed).result()
    if made is None:
        return None
    case = Case(*made, often=seed % 8 == 0, on_kept=on_kept)
    case.find = case.check()
    return case


def work(seed: int, step: int, deadline: float, output: Path, shared: Any, current: Any) -> None:
    """Try one seed after another; runs in a process of its own."""
    known: Counter[str] = Counter()
    first = True
    while first or time.time() < deadline:
        first = False
        current[:] = seed, time.time(), 0
        shared[0] += 1
        case = one(seed, lambda: current.__setitem__(2, 1))
        if case is not None and case.kept:
            shared[1] += 1
            shared[2] += len(case.proto.graph.node)
            if case.find is not None:
                shared[3] += 1
                known[case.find.key] += 1
                if known[case.find.key] <= 2:
                    report(seed, case, case.find, output)
        seed += step


def report(seed: int, case: Case, find: Find, output: Path) -> None:
    """Shrink and write one find."""
    small = shrink(case, find)
    output.mkdir(parents=True, exist_ok=True)
    name = f"{find.kind}-{seed}"
    values = "\n".join(f"# {k} = {np.array2string(np.asarray(v), threshold=60)}"
                       for k, v in small.feeds[0].items())  # fmt: skip
    text = f"# seed {seed}: {find.kind}: {find.detail}\n{values}\n"
    (output / f"{name}.txt").write_text(text + onnx.printer.to_text(small.proto) + "\n")
    (output / f"{name}.onnx").write_bytes(small.proto.SerializeToString())
    print(f"seed {seed}: {find.kind}: {find.detail}"[:300], flush=True)


def watch(options: argparse.Namespace) -> int:
    """Keep the workers going until the time is up; return the number of finds."""
    context = multiprocessing.get_context("fork")
    begin = time.time()
    deadline = begin + options.seconds
    workers: list[Any] = []

    def start(seed: int, shared: Any) -> tuple[Any, Any, Any]:
        current = context.Array("d", 3, lock=False)
        arguments = (seed, options.jobs, deadline, options.output, shared, current)
        process = context.Process(target=work, args=arguments)
        process.start()
        return process, shared, current

    for job in range(options.jobs):
        workers.append(start(options.seed + job, context.Array("q", len(SLOTS), lock=False)))
    while any(process.is_alive() for process, _, _ in workers):
        time.sleep(0.2)
        for index, (process, shared, current) in enumerate(workers):
            hangs = process.is_alive() and current[1] and time.time() - current[1] > 60
            if hangs:
                process.kill()
                process.join()
            if process.exitcode:
                if current[2]:  # else onnxruntime fell over the model as it was
                    what = "hangs" if hangs else "ends the process"
                    print(f"seed {int(current[0])}: {what}", flush=True)
                    shared[3] += 1
                if time.time() < deadline:
                    workers[index] = start(int(current[0]) + options.jobs, shared)
                else:
                    process.close()
                    workers[index] = (_Gone(), shared, current)
    totals = [sum(shared[slot] for _, shared, _ in workers) for slot in range(len(SLOTS))]
    tried, kept, nodes, finds = totals
    seconds = time.time() - begin
    print(
        f"{tried} models, {kept} kept ({kept / max(tried, 1):.0%}), "
        f"{nodes / max(kept, 1):.1f} nodes each, {tried / seconds:.1f} a second, {finds} finds"
    )
    return int(finds)


class _Gone:
    """A process that has ended and is accounted for."""

    exitcode = 0

    def is_alive(self) -> bool:
        return False


def main() -> int:
    """Read the command line and fuzz."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("fuzz"))
    return 1 if watch(parser.parse_args()) else 0


if __name__ == "__main__":
    sys.exit(main())
