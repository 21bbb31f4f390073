"""A second opinion: what onnx's reference implementation computes in double precision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from benchmarks.fuzz.values import Feed

_SINGLE = (TensorProto.FLOAT, TensorProto.FLOAT16)
_CLOSE = 1e-5


def agree_in_double(original: ModelProto, result: ModelProto, feeds: Sequence[Feed]) -> bool:
    """Say whether both compute the same; False where the reference cannot run one of them.

    Feeds that it refuses for the original alone do not count: they break the model's own rules.
    """
    try:
        old, new = (ReferenceEvaluator(_widened(proto)) for proto in (original, result))
        verdicts = [_agree(old, new, feed) for feed in feeds]
    except Exception:  # the reference's errors have no common base
        return False
    return any(verdicts) and False not in verdicts


def _agree(old: ReferenceEvaluator, new: ReferenceEvaluator, feed: Feed) -> bool | None:
    """Compare on one feed; None where the original does not take it."""
    doubled = {name: _doubled(value) for name, value in feed.items()}
    try:
        expected = old.run(None, doubled)
    except ValueError:  # shapes that do not fit
        return None
    return all(map(_close, expected, new.run(None, doubled)))


def _close(expected: Any, found: Any) -> bool:
    if isinstance(expected, list):
        return len(expected) == len(found) and all(map(_close, expected, found))
    if np.shape(expected) != np.shape(found):
        return False
    if np.asarray(expected).dtype.kind not in "fiu":
        return bool(np.array_equal(expected, found))
    old, new = np.asarray(expected, np.float64), np.asarray(found, np.float64)
    scale = float(np.abs(old).max(where=np.isfinite(old), initial=0.0)) or 1.0
    return bool(np.allclose(old, new, rtol=0.0, atol=_CLOSE * scale, equal_nan=True))


def _doubled(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype in (np.float32, np.float16):
        return value.astype(np.float64)
    return value


# Models in double ---------------------------------------------------------------------------------


def _widened(proto: ModelProto) -> ModelProto:
    """Return the model with doubles wherever it has shorter floats."""
    wide = ModelProto()
    wide.CopyFrom(proto)
    for graph in _graphs(wide.graph):
        del graph.value_info[:]
        for info in (*graph.input, *graph.output):
            _widen_type(info.type)
        for tensor in graph.initializer:
            _widen_tensor(tensor)
        for node in graph.node:
            _widen_node(node)
    for function in wide.functions:
        for node in function.node:
            _widen_node(node)
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


def _widen_tensor(tensor: TensorProto) -> None:
    if tensor.data_type in _SINGLE:
        wide = numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))


def _widen_node(node: NodeProto) -> None:
    for attribute in node.attribute:
        if attribute.type == AttributeProto.TENSOR:
            _widen_tensor(attribute.t)
        elif attribute.name in ("to", "dtype", "output_dtype") and attribute.i in _SINGLE:
            attribute.i = TensorProto.DOUBLE
        elif node.op_type == "Constant" and attribute.name == "value_float":
            held = numpy_helper.from_array(np.array(attribute.f, np.float64))
            attribute.CopyFrom(onnx.helper.make_attribute("value", held))
        elif node.op_type == "Constant" and attribute.name == "value_floats":
            held = numpy_helper.from_array(np.array(attribute.floats, np.float64))
            attribute.CopyFrom(onnx.helper.make_attribute("value", held))
