"""Files of the fewest bytes, for tiny targets."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto

from onnxslim.base import Context, Effect, Pass
from onnxslim.ir import STANDARD_DOMAINS, Array, Model
from onnxslim.passes.share._defaults import redundant, weight_shapes
from onnxslim.passes.share._names import shorten

Body = GraphProto | FunctionProto

_INTEGERS: dict[int, str] = {
    TensorProto.INT64: "int64_data",
    TensorProto.UINT64: "uint64_data",
    TensorProto.INT32: "int32_data",
    TensorProto.UINT32: "uint64_data",
    TensorProto.INT16: "int32_data",
    TensorProto.UINT16: "int32_data",
}
"""Types that take fewer bytes as varints where they are small, and the fields for these."""
_KNOWN = (*STANDARD_DOMAINS, "ai.onnx.ml")
"""Domains whose outputs have types that follow from the definitions of the operators."""


@dataclass(frozen=True)
class Strip(Pass):
    """Write the model in the fewest bytes: shortest names, no comments, no defaults."""

    name = "strip"
    effect = Effect.EXACT

    metadata: bool = False
    """Drop the model's own properties too, such as lists of labels."""

    def apply(self, model: Model, context: Context) -> int:
        """Edit the serialised form, of which most of what goes is a part."""
        proto = model.skeleton()
        changes = self._comments(proto)
        own = {(function.domain, function.name) for function in proto.functions}
        for body, versions in _bodies(proto):
            changes += _strip(model, body, versions, own)
        if proto.training_info:
            context.declined["training information refers to tensors by name"] += 1
        else:
            roots: list[Body] = [proto.graph, *proto.functions]
            changes += sum(map(shorten, roots))
        if changes:
            model.become(proto)
        return changes

    def _comments(self, proto: ModelProto) -> int:
        fields = ["doc_string", "producer_name", "producer_version"]
        return _clear(proto, *fields, *["metadata_props"] * self.metadata)


def _bodies(proto: ModelProto) -> Iterator[tuple[Body, Mapping[str, int]]]:
    """Yield every graph and function, with the versions of operator sets that hold there."""
    roots: list[tuple[Body, Any]] = [(f, f.opset_import) for f in proto.functions]
    for root, imports in ((proto.graph, proto.opset_import), *roots):
        stack: list[Body] = [root]
        while stack:
            body = stack.pop()
            yield body, {entry.domain: entry.version for entry in imports}
            stack += itertools.chain.from_iterable(map(_graphs, body.node))


def _graphs(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _clear(message: Any, *fields: str) -> int:
    """Clear *fields* and return how many held something."""
    held = {field.name for field, _ in message.ListFields()} & {*fields}
    for field in held:
        message.ClearField(field)
    return len(held)


def _strip(
    model: Model, body: Body, versions: Mapping[str, int], own: Collection[tuple[str, str]]
) -> int:
    changes = _clear(body, "doc_string", "metadata_props")
    weights = dict[str, Any]()
    if isinstance(body, GraphProto):
        weights = weight_shapes(body.initializer, [info.name for info in body.input])
        changes += _strip_graph(model, body)
    for node in body.node:
        changes += _clear(node, "name", "doc_string", "metadata_props")
        if (node.domain, node.op_type) not in own:
            for attribute in redundant(node, versions, weights):
                node.attribute.remove(attribute)
                changes += 1
        for attribute in node.attribute:
            changes += _clear(attribute, "doc_string")
            if attribute.HasField("t"):
                changes += _strip_tensor(model, attribute.t)
    return changes + _drop_types(body)


def _strip_graph(model: Model, graph: GraphProto) -> int:
    changes = sum(_clear(i, "doc_string", "metadata_props") for i in (*graph.input, *graph.output))
    if len(graph.name.encode()) > 1:  # a graph must have a name
        graph.name = "g"
        changes += 1
    return changes + sum(_strip_tensor(model, tensor) for tensor in graph.initializer)


def _drop_types(body: Body) -> int:
    """Drop declared types but those of operators that ONNX does not define."""
    foreign = {t for node in body.node if node.domain not in _KNOWN for t in node.output}
    kept = [info for info in body.value_info if info.name in foreign]
    dropped = len(body.value_info) - len(kept)
    if dropped:
        del body.value_info[:]
        body.value_info.extend(kept)
    return dropped


def _strip_tensor(model: Model, tensor: TensorProto) -> int:
    changes = _clear(tensor, "doc_string", "metadata_props")
    if tensor.data_type not in _INTEGERS:
        return changes
    values = model.decoded(tensor)
    best = min(_encodings(tensor, values), key=lambda encoded: encoded.ByteSize())
    if best.ByteSize() < _bytes(tensor, values):
        tensor.CopyFrom(best)
        changes += 1
    return changes


def _bytes(tensor: TensorProto, values: Array) -> int:
    marked = tensor.data_location == TensorProto.EXTERNAL
    return values.nbytes if marked else tensor.ByteSize()


def _encodings(tensor: TensorProto, values: Array) -> Iterator[TensorProto]:
    """Yield *tensor* as varints and as plain bytes."""
    for field in (_INTEGERS[tensor.data_type], "raw_data"):
        made = TensorProto(dims=tensor.dims, data_type=tensor.data_type)
        if tensor.name:
            made.name = tensor.name
        if field == "raw_data":
            made.raw_data = values.astype(values.dtype.newbyteorder("<")).tobytes()
        else:
            getattr(made, field).extend(values.reshape(-1).tolist())
        yield made
