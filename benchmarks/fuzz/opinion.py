"""A second opinion on a difference: what onnx itself says of the model and computes with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper
from onnx.inliner import inline_local_functions
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from benchmarks.fuzz.grower import outer_names
from benchmarks.fuzz.values import TYPES, Feed, declaration, load
from onnxslim.shapes import say_clearly

_SINGLE = (TensorProto.FLOAT, TensorProto.FLOAT16)
_CLOSE, _CLOSE_HALVES = 1e-5, 3e-2
"""Relative differences that are none, the second for constants that passes rounded to halves, of
which sums may keep little but the rounding."""
_WANTS_SCALARS = {"BlackmanWindow", "HammingWindow", "HannWindow", "Range"}
"""Operators whose inputs onnxruntime takes as vectors of one element too, as does ONNX while it
knows no values."""
_MOVES = 8
"""How often the floats of a feed are moved, or a feed is answered again."""
_CANCELLED = 1e-10
"""What is left of a difference that is zero but for rounding is smaller, in double precision."""
_ROUNDED, _ROUNDED_HALVES = 2.0**-22, 2.0**-9
"""What rounding constants to single and to half precision leaves of the largest number on the way:
four times the rounding of one of them."""
_HALF_A_UNIT = 2.0**-11
"""How far rounding takes a constant in half precision from what was meant."""


class BatchNormalization(OpRun):
    """What ONNX's reference cannot run before opset 9, and takes for training up to 13."""

    def _run(self, x: Any, scale: Any, bias: Any, mean: Any, var: Any, **given: Any) -> Any:
        if not given.get("spatial", 1):
            raise NotImplementedError
        shape = (-1, *[1] * (x.ndim - 2))
        scale, bias, mean, var = (a.reshape(shape) for a in (scale, bias, mean, var))
        return ((x - mean) / np.sqrt(var + given["epsilon"]) * scale + bias,)


class MeanVarianceNormalization(OpRun):
    """What ONNX's reference computes with a single-precision constant, and not for doubles."""

    def _run(self, x: Any, axes: Any = None) -> Any:
        over = tuple((0, 2, 3) if axes is None else axes)
        apart = x - x.mean(over, keepdims=True)
        return (apart / (np.sqrt(np.square(apart).mean(over, keepdims=True)) + 1e-9),)


class Optional(OpRun):
    """What ONNX's reference takes for a list of one element."""

    def _run(self, x: Any = None, type: Any = None) -> Any:
        return ([None] if x is None else x,)


def _version(proto: ModelProto) -> int:
    return next((o.version for o in proto.opset_import if not o.domain), 1)


def _evaluator(proto: ModelProto) -> ReferenceEvaluator:
    ours: list[type[OpRun]] = [MeanVarianceNormalization, Optional]
    if 7 <= _version(proto) < 14:
        ours.append(BatchNormalization)
    return ReferenceEvaluator(proto, new_ops=ours)


def agree_in_double(original: ModelProto, result: ModelProto, feeds: Sequence[Feed]) -> bool:
    """Say whether both compute the same; False where the reference cannot run one of them.

    Feeds that it refuses for the original alone do not count: they break the model's own rules.
    """
    try:
        old, new = (_evaluator(_widened(proto)) for proto in (original, result))
        if _has_halves(original.graph):
            off = _evaluator(_widened(original, _HALF_A_UNIT))
            close, rounded = _CLOSE_HALVES, _ROUNDED_HALVES
        else:
            off, close, rounded = old, _CLOSE, _ROUNDED
        verdicts = [
            _agree(old, new, off, feed, close, rounded * _largest(original, feed)) for feed in feeds
        ]
    except Exception:  # the reference's errors have no common base
        return False
    return any(verdicts) and False not in verdicts


def _has_halves(graph: GraphProto) -> bool:
    kinds = [info.type.tensor_type.elem_type for info in (*graph.input, *graph.output)]
    return TensorProto.FLOAT16 in (*kinds, *(tensor.data_type for tensor in graph.initializer))


def _agree(
    old: ReferenceEvaluator,
    new: ReferenceEvaluator,
    off: ReferenceEvaluator,
    feed: Feed,
    close: float,
    least: float,
) -> bool | None:
    """Compare on one feed; None where the original does not take it.

    Outputs may differ by *close*, relative to their scale, by *least*, and by four times what
    those of *off* do, whose constants are rounded otherwise.
    """
    doubled = {name: _doubled(value) for name, value in feed.items()}
    try:
        expected = old.run(None, doubled)
    except Exception:  # shapes that do not fit, and what the reference does not foresee
        return None
    found, moved = new.run(None, doubled), off.run(None, doubled)
    return all(
        _is_close(one, other, close, max(least, 4 * _distance(one, third)))
        for one, other, third in zip(expected, found, moved, strict=True)
    )


def _distance(one: Any, other: Any) -> float:
    """Return how far two arrays of floats are apart; 0 for what cannot be compared so."""
    if not isinstance(one, np.ndarray) or one.dtype.kind != "f" or np.shape(other) != one.shape:
        return 0.0
    apart = np.abs(one - other)
    return float(apart.max(where=np.isfinite(apart), initial=0.0))


def _largest(proto: ModelProto, feed: Feed) -> float:
    """Return the largest magnitude of any number on the way, 0 where the model does not run."""
    found = _everything(proto, feed)
    arrays = [] if found is None else [v for _, v in found.values() if isinstance(v, np.ndarray)]
    floats = [np.abs(v[np.isfinite(v)]) for v in arrays if v.dtype.kind == "f"]
    return max((float(v.max()) for v in floats if v.size), default=0.0)


def _is_close(expected: Any, found: Any, close: float, least: float) -> bool:
    if isinstance(expected, list):
        pairs = list(zip(expected, found, strict=False))
        return len(expected) == len(found) and all(_is_close(*pair, close, least) for pair in pairs)
    if np.shape(expected) != np.shape(found):  # of what is empty, shapes may differ by design
        return np.size(expected) == np.size(found) == 0 and np.ndim(expected) == np.ndim(found)
    if np.asarray(expected).dtype.kind not in "fiu":
        return bool(np.array_equal(expected, found))
    old, new = np.asarray(expected, np.float64), np.asarray(found, np.float64)
    scale = float(np.abs(old).max(where=np.isfinite(old), initial=0.0)) or 1.0
    allowed = max(close * scale, least, _CANCELLED)
    return bool(np.allclose(old, new, rtol=0.0, atol=allowed, equal_nan=True))


def _doubled(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype in (np.float32, np.float16):
        return value.astype(np.float64)
    return value


# Answers that hang on a last bit, or on chance ----------------------------------------------------


def hangs_on_last_bits(original: ModelProto, feeds: Sequence[Feed]) -> bool:
    """Say whether integers come out otherwise as soon as floats that go in move by a few last bits.

    So they do where comparisons, roundings and rankings meet numbers that are equal but for
    rounding. Of models whose outputs are floats nothing is said.
    """
    dice = np.random.default_rng(0)
    try:
        session = load(original)
        for feed in feeds:
            before = session.run(None, feed)
            if any(np.asarray(value).dtype.kind not in "biu" for value in before):
                return False
            for _ in range(_MOVES):
                after = session.run(None, {name: _moved(x, dice) for name, x in feed.items()})
                if not all(map(np.array_equal, before, after)):
                    return True
    except Exception:  # it does not run, or makes sequences
        return False
    return False


def is_random(original: ModelProto, feeds: Sequence[Feed]) -> bool:
    """Say whether a model answers the same feed in several ways; twice the same may be luck."""
    try:
        session = load(original)
        for feed in feeds:
            first, *others = (session.run(None, feed) for _ in range(_MOVES))
            if not all(all(map(_same, first, other)) for other in others):
                return True
    except Exception:  # it does not run
        return False
    return False


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(np.array_equal(one, other, equal_nan=np.asarray(one).dtype.kind == "f"))


def _moved(value: Any, dice: np.random.Generator) -> Any:
    """Return floats, each larger or smaller by four last bits or as it was."""
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        return value
    steps = dice.integers(-1, 2, value.shape) * 4 * float(np.finfo(value.dtype).eps)
    return (value * (1 + steps)).astype(value.dtype)


# Feeds that ONNX allows ---------------------------------------------------------------------------


def lawful(proto: ModelProto, feeds: Sequence[Feed]) -> list[Feed]:
    """Return the feeds on which every node obeys ONNX's rules: onnxruntime takes others too.

    Nor do feeds count from which the model makes infinities or NaN on the way: in another order,
    the same numbers may stay within bounds.
    """
    return [feed for feed in feeds if _is_lawful(proto, feed)]


def _everything(proto: ModelProto, feed: Feed) -> dict[str, tuple[str, Any]] | None:
    """Return the types and values of inputs and of all that nodes compute; None if it fails."""
    probe = ModelProto()
    probe.CopyFrom(proto)
    names = [name for node in probe.graph.node for name in node.output if name]
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    try:
        session = load(probe)
        found = dict(zip(names, session.run(None, feed), strict=True))
    except Exception:  # this feed runs nowhere
        return None
    types = {item.name: item.type for item in (*session.get_inputs(), *session.get_outputs())}
    return {name: (types[name], value) for name, value in {**feed, **found}.items()}


def _is_lawful(proto: ModelProto, feed: Feed) -> bool:
    values = _everything(proto, feed)
    if values is None:
        return False
    made = [value for name, (_, value) in values.items() if name not in feed]
    if all(map(_is_finite, feed.values())) and not all(map(_is_finite, made)):
        return False
    return all(_obeys(proto, node, values) for node in proto.graph.node)


def _is_finite(value: Any) -> bool:
    dense = isinstance(value, np.ndarray) and value.dtype.kind == "f"
    return not dense or bool(np.isfinite(value).all())


def _obeys(proto: ModelProto, node: NodeProto, values: dict[str, tuple[str, Any]]) -> bool:
    """Say whether what onnxruntime made of a node is what ONNX foresees.

    Where ONNX's shape inference says otherwise, its reference implementation decides.
    """
    if not _meets_the_text(node, values, _version(proto)):
        return False
    read = dict.fromkeys((*node.input, *outer_names(node)))
    constants = [n for n in proto.graph.node if n.op_type == "Constant" and n.output[0] in read]
    known = {tensor.name for tensor in proto.graph.initializer} | {n.output[0] for n in constants}
    given = [name for name in read if name in values and name not in known]
    made = [name for name in node.output if name]
    one = ModelProto()
    one.CopyFrom(proto)
    inputs, outputs = ([_declared(name, *values[name]) for name in n] for n in (given, made))
    graph = onnx.helper.make_graph(
        [*constants, node], "one", inputs, outputs, proto.graph.initializer
    )
    one.graph.CopyFrom(graph)
    say_clearly(one)
    ranks = {tensor.name: len(tensor.dims) for tensor in proto.graph.initializer}
    ranks |= {name: len(_shape(values[name][1])) for name in read if name in values}
    if node.op_type in _WANTS_SCALARS and any(ranks.get(name) for name in node.input):
        return False
    if node.op_type == "Gather" and np.asarray(values[node.output[0]][1]).dtype == object:
        return _is_foreseen(one, values, np.array_equal)  # onnxruntime 1.32 miscopies strings
    if node.op_type in ("Concat", "ConcatFromSequence"):  # inference overlooks sizes that differ
        return _is_foreseen(one, values)
    try:
        onnx.shape_inference.infer_shapes(one, strict_mode=True)
    except onnx.shape_inference.InferenceError:
        return _is_foreseen(one, values)
    return True


def _meets_the_text(node: NodeProto, values: dict[str, tuple[str, Any]], version: int) -> bool:
    """Say whether a node obeys what ONNX says of its operator in words alone."""
    shapes = [_shape(values[name][1]) if name in values else () for name in node.input]
    if node.op_type == "PRelu":  # whose slope must fit what it multiplies
        return np.broadcast_shapes(*shapes) == shapes[0]
    if node.op_type == "CenterCropPad":  # which wants a number for every axis
        axes = next((len(a.ints) for a in node.attribute if a.name == "axes"), len(shapes[0]))
        return shapes[1] == (axes,)
    if node.op_type == "OneHot" and version < 11:  # whose indices must not be negative
        known = values.get(node.input[0])
        return known is None or bool(np.min(known[1], initial=0) >= 0)
    return True


def _declared(name: str, kind: str, value: Any) -> onnx.ValueInfoProto:
    if kind in TYPES or kind.startswith("seq(tensor"):
        return declaration(name, kind, None if isinstance(value, list) else np.shape(value))
    return onnx.ValueInfoProto(name=name)


def _shape(value: Any) -> tuple[int, ...]:
    """Return the shape of an array, () for a sequence of them."""
    return () if isinstance(value, list) else tuple(np.shape(value))


def _same_shape(first: Any, second: Any) -> bool:
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_same_shape, first, second))
    return _shape(first) == _shape(second)


def _is_foreseen(
    one: ModelProto,
    values: dict[str, tuple[str, Any]],
    same: Callable[[Any, Any], bool] = _same_shape,
) -> bool:
    """Say whether what the reference makes is the same; where it cannot run, say so too."""
    feed = {info.name: values[info.name][1] for info in one.graph.input}
    try:
        reference = _evaluator(one)
    except Exception:  # it lacks the operator
        return True
    try:
        found = reference.run(None, feed)
    except NotImplementedError:
        return True
    except Exception:  # the reference's errors have no common base
        return False
    expected = [values[info.name][1] for info in one.graph.output]
    return all(map(same, found, expected))


# Models in double ---------------------------------------------------------------------------------


def _widened(proto: ModelProto, off: float = 0.0) -> ModelProto:
    """Return the model with doubles wherever it has shorter floats, in words that onnx reads.

    Constants in half precision become larger by *off*, relative to what they are. Local functions
    are inlined: the reference takes no attribute of a function in all its nodes.
    """
    wide = inline_local_functions(proto)
    say_clearly(wide)
    for graph in _graphs(wide.graph):
        del graph.value_info[:]
        for info in (*graph.input, *graph.output):
            _widen_type(info.type)
        for tensor in graph.initializer:
            _widen_tensor(tensor, off)
        for node in graph.node:
            _widen_node(node, off)
    return wide


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)


def _widen_type(kind: onnx.TypeProto) -> None:
    if kind.HasField("tensor_type") and kind.tensor_type.elem_type in _SINGLE:
        kind.tensor_type.elem_type = TensorProto.DOUBLE
    for name in ("sequence_type", "optional_type"):
        if kind.HasField(name):
            _widen_type(getattr(kind, name).elem_type)


def _widen_tensor(tensor: TensorProto, off: float) -> None:
    if tensor.data_type in _SINGLE:
        factor = 1 + off if tensor.data_type == TensorProto.FLOAT16 else 1.0
        wide = numpy_helper.to_array(tensor).astype(np.float64) * factor
        tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))


def _widen_node(node: NodeProto, off: float) -> None:
    if node.op_type == "ConstantOfShape" and not node.attribute:  # which are floats then
        zero = numpy_helper.from_array(np.zeros(1, np.float64))
        node.attribute.append(onnx.helper.make_attribute("value", zero))
    for attribute in node.attribute:
        if attribute.type == AttributeProto.TENSOR:
            _widen_tensor(attribute.t, off)
        elif attribute.name in ("to", "dtype", "output_dtype") and attribute.i in _SINGLE:
            attribute.i = TensorProto.DOUBLE
        elif node.op_type == "Constant" and attribute.name == "value_float":
            held = numpy_helper.from_array(np.array(attribute.f, np.float64))
            attribute.CopyFrom(onnx.helper.make_attribute("value", held))
        elif node.op_type == "Constant" and attribute.name == "value_floats":
            held = numpy_helper.from_array(np.array(attribute.floats, np.float64))
            attribute.CopyFrom(onnx.helper.make_attribute("value", held))
