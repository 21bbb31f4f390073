"""The graph: graphsurgeon's classes with identity, source messages and lazy weights.

``Node``, ``Variable``, ``Constant`` and ``Graph`` subclass their namesakes in onnx-graphsurgeon,
so its idioms (``node.inputs[0] = t``, ``t.outputs``, ``node.attrs``) work. What they add: equality
is identity, every object remembers the message it came from (so that export repeats it verbatim),
and weights stay in their files until somebody looks at them.

A tensor whose value is known is a `Constant`, whether it is an initializer (no producer) or the
output of a Constant node (``inputs`` holds that node). Initializers that the caller may override
(also graph inputs, IR version 4 and later) and sparse ones are Variables.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_graphsurgeon as gs
from onnx import AttributeProto
from onnx_graphsurgeon.ir.tensor import LazyValues
from onnx_graphsurgeon.util.misc import SynchronizedList

from onnxslim.ir.weights import Array, Store, Weight, elem_type, spooled

STANDARD_DOMAINS = ("", "ai.onnx")


class _Identity:
    """Equality and hash of a thing itself, not of its name."""

    __eq__ = object.__eq__
    __ne__ = object.__ne__
    __hash__ = object.__hash__


class Variable(_Identity, gs.Variable):
    """A tensor whose value is known only when the model runs."""

    source: onnx.ValueInfoProto | None = None
    """The declaration this tensor came with; repeated verbatim while `seen` still holds."""
    seen: tuple[Any, ...] | None = None
    default: onnx.TensorProto | onnx.SparseTensorProto | None = None
    """An initializer that is no constant: overridable by the caller, or sparse."""

    def __init__(
        self, name: str, dtype: Any = None, shape: Any = None, type: str = "tensor_type"
    ) -> None:
        """Make a tensor: what graphsurgeon does, in a quarter of the time."""
        inputs, outputs = linked(self, "outputs"), linked(self, "inputs")
        put(self, name=name, inputs=inputs, outputs=outputs, dtype=dtype, shape=shape, type=type)

    def to_constant(self, values: Array, export_dtype: Any = None) -> Constant:
        """Turn this tensor into a constant in place."""
        super().to_constant(_read_only(values), export_dtype=export_dtype)
        self.__class__ = Constant  # type: ignore[assignment]
        return self  # type: ignore[return-value]


class Constant(_Identity, gs.Constant):
    """A tensor whose value is known; its array is read-only."""

    source: onnx.TensorProto | None = None
    value_info: onnx.ValueInfoProto | None = None
    dropped = False
    """Set when the last reader went: the initializer is not exported while nobody reads it."""
    assigned = False
    """Whether `values` was set, so that a Constant node must be written anew."""

    def __init__(
        self, name: str, values: Any, data_location: int | None = None, export_dtype: Any = None
    ) -> None:
        """Make a constant; see onnx-graphsurgeon."""
        inputs, outputs = linked(self, "outputs"), linked(self, "inputs")
        put(self, name=name, inputs=inputs, outputs=outputs, _values=_read_only(values))
        put(self, data_location=data_location, _export_dtype=export_dtype)

    @property
    def values(self) -> Array:
        """The value, as a read-only array; memory-mapped, not copied, where possible."""
        stored = self._values
        return stored.load() if isinstance(stored, LazyValues) else stored

    @values.setter
    def values(self, values: Any) -> None:
        self._values, self.assigned = _read_only(values), True

    @property
    def held(self) -> object:
        """What holds the value: the same object until `values` is set."""
        return self._values

    @property
    def shape(self) -> tuple[int, ...]:
        """Dimensions."""
        return tuple(self._values.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy (or ml_dtypes) type."""
        return self._values.dtype  # type: ignore[no-any-return]

    @property
    def elem_type(self) -> int:
        """``TensorProto.DataType`` of the elements."""
        stored = self._values
        if isinstance(stored, Weight):
            return int(stored.tensor.data_type)
        return elem_type(stored.dtype)

    @property
    def nbytes(self) -> int:
        """Bytes of the value."""
        return int(self._values.nbytes)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def twin(self, name: str) -> Constant:
        """Return a constant of the same value, which is not copied."""
        return Constant(name, self._values)

    def to_variable(self, dtype: Any = None, shape: Any = ()) -> Variable:
        """Turn this tensor into a variable in place."""
        super().to_variable(dtype, list(shape))
        self.__class__ = Variable  # type: ignore[assignment]
        self.type = "tensor_type"
        return self  # type: ignore[return-value]


Tensor = Variable | Constant


class Opaque:
    """An attribute value that has no Python form here (sparse, type, reference); kept verbatim."""

    def __init__(self, proto: AttributeProto) -> None:
        """Hold *proto*."""
        self.proto = proto


class Node(_Identity, gs.Node):
    """An operator call; attributes are decoded when first read."""

    source: onnx.NodeProto | None = None
    store: Store
    graph: Graph | None = None
    """The graph that the node belongs to."""
    calls_function = False
    """Whether the node calls one of the model's local functions, whatever its operator's name."""
    erased = False
    """Set by `surgery.erase`; the graph forgets such nodes at the next `Graph.compact`."""
    _attrs: dict[str, Any] | None = None

    @property
    def attrs(self) -> dict[str, Any]:
        """Attribute values by name; change them in place or assign a new dict."""
        if self._attrs is None:
            put(self, _attrs={} if self.source is None else decode_all(self))
        return self._attrs  # type: ignore[return-value]

    @attrs.setter
    def attrs(self, values: dict[str, Any]) -> None:
        put(self, _attrs=values)

    @property
    def operator(self) -> str:
        """``"Conv"`` for ONNX's own operators, ``"domain::Name"`` for any other."""
        domain = self.domain
        if self.calls_function:
            return f"{domain or ''}::{self.op}"
        if not domain or domain in STANDARD_DOMAINS:
            return str(self.op)  # bytes in damaged files
        return f"{domain}::{self.op}"

    def attr(self, name: str, default: Any = None) -> Any:
        """Return one attribute, or *default* where the node does not set it."""
        return self.attrs.get(name, default)

    def subgraphs(  # type: ignore[override]  # a generator takes longer
        self, recursive: bool = False
    ) -> Sequence[Graph]:
        """Return the graphs in this node's attributes."""
        if not self._attrs:  # attributes with graphs are decoded on import
            return ()
        found: list[Graph] = []
        for value in self._attrs.values():
            if isinstance(value, Graph):
                found.append(value)
            elif type(value) in (list, tuple) and value and isinstance(value[0], Graph):
                found += value
        if recursive:
            for graph in found:  # which grows meanwhile
                found += (inner for node in graph.nodes for inner in node.subgraphs())
        return found

    def input(self, index: int) -> Tensor | None:
        """Return an input, or None where it is absent or left out."""
        if index >= len(self.inputs) or not self.inputs[index].name:
            return None
        return self.inputs[index]  # type: ignore[no-any-return]

    def constant(self, index: int) -> Array | None:
        """Return the value of an input that is a constant, else None."""
        tensor = self.input(index)
        return tensor.values if isinstance(tensor, Constant) else None


class Graph(_Identity, gs.Graph):
    """A graph, subgraph or function body."""

    source: onnx.GraphProto | None = None
    """The message without its nodes and tensors."""
    initializers: list[Constant | Variable]
    """Declared here, in file order; constants made by passes are declared on export."""
    input_order: list[Tensor]
    value_info: dict[str, onnx.ValueInfoProto]
    """Declared types, in file order; those of tensors that are gone are left out on export."""
    undefined_info: set[str]
    """Names in `value_info` or quantization annotations that no tensor of this graph bears."""
    output_info: list[onnx.ValueInfoProto]
    annotated: list[Tensor]
    """Parameters of quantization annotations: kept alive, never renamed."""
    opsets: dict[str, int]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Make a graph; see onnx-graphsurgeon."""
        super().__init__(*args, **kwargs)
        self._remember_nothing()

    def _remember_nothing(self) -> None:
        self.initializers, self.input_order, self.value_info = [], [], {}
        self.undefined_info, self.output_info = set(), []
        self.annotated, self.opsets = [], {}

    @property
    def version(self) -> int:
        """Version of ONNX's own operator set in this graph."""
        return self.opsets.get("", self.opsets.get("ai.onnx", 1))

    def compact(self) -> None:
        """Forget erased nodes and the initializers that only they read."""
        if any(node.erased for node in self.nodes):
            self.nodes = [node for node in self.nodes if not node.erased]


class Function(Graph):
    """A local function: a graph with a name, called by nodes."""

    proto: onnx.FunctionProto

    @property
    def key(self) -> tuple[str, str, str]:
        """Domain, name and overload."""
        return self.proto.domain, self.proto.name, self.proto.overload


def adopt(graph: Graph) -> None:
    """Take in what a pass put into *graph*: it owns its nodes, whoever made them.

    Graphsurgeon's own objects, which users' passes may have made, become ours.
    """
    _adopt_tensors(itertools.chain(graph.inputs, graph.outputs))
    for node in graph.nodes:
        if type(node) is gs.Node:
            attrs = node.__dict__.pop("attrs", {})
            node.__class__ = Node
            node.attrs = attrs
            _adopt_graphs(attrs.values(), graph)
        if node.graph is not graph:
            node.graph = graph
        _adopt_tensors(itertools.chain(node.inputs, node.outputs))
        for inner in node.subgraphs():
            adopt(inner)


def _adopt_graphs(values: Iterable[Any], around: Graph) -> None:
    for value in values:
        if type(value) is gs.Graph:
            graph: Any = value
            graph.__class__ = Graph
            graph._remember_nothing()
            graph.opsets = around.opsets


def _adopt_tensors(tensors: Iterable[Any]) -> None:
    for tensor in tensors:
        if type(tensor) is gs.Variable:
            tensor.__class__ = Variable
        elif type(tensor) is gs.Constant:
            tensor.__class__ = Constant


class _Links(SynchronizedList[Any]):
    """Graphsurgeon's list without a dict of its own: there are four for every node."""

    __slots__ = ("field_name", "parent_obj")


def linked(parent: Any, field: str, items: Iterable[Any] = ()) -> Any:
    """Return a graphsurgeon list that is wired to its items, without its per-item overhead."""
    made = _Links.__new__(_Links)
    made.parent_obj, made.field_name = parent, field
    list.extend(made, items)
    for item in made:
        list.append(getattr(item, field), parent)
    return made


def put(item: object, **fields: Any) -> None:
    """Set attributes past graphsurgeon's hook, and without making Python keep a dict for them."""
    for name, value in fields.items():
        object.__setattr__(item, name, value)


def constant(name: str, values: npt.ArrayLike) -> Constant:
    """Make a constant whose array nobody can write to."""
    return Constant(name, np.asarray(values))


def _read_only(values: Any) -> Any:
    return values if isinstance(values, LazyValues) else spooled(np.asarray(values))


def absent() -> Variable:
    """Return the placeholder of an optional input that is left out."""
    return Variable("")


# Attributes ---------------------------------------------------------------------------------------

_PLAIN: dict[int, str] = {
    AttributeProto.FLOAT: "f",
    AttributeProto.INT: "i",
    AttributeProto.STRING: "s",
    AttributeProto.TENSOR: "t",
    AttributeProto.GRAPH: "g",
    AttributeProto.FLOATS: "floats",
    AttributeProto.INTS: "ints",
    AttributeProto.STRINGS: "strings",
    AttributeProto.GRAPHS: "graphs",
}


def attribute_kind(proto: AttributeProto) -> int:
    """Return the attribute's type; files of IR version 1 leave it out."""
    if proto.type != AttributeProto.UNDEFINED or proto.ref_attr_name:
        return proto.type
    for kind, field in _PLAIN.items():
        value = getattr(proto, field)
        if proto.HasField(field) if field in "fistg" else len(value):
            return int(kind)
    return int(AttributeProto.UNDEFINED)


def decode(proto: AttributeProto, store: Store) -> Any:
    """Return the Python form of an attribute that holds no graph."""
    kind = attribute_kind(proto)
    if proto.ref_attr_name:
        return Opaque(proto)
    if kind in (AttributeProto.FLOAT, AttributeProto.INT):
        return getattr(proto, _PLAIN[kind])
    if kind in (AttributeProto.FLOATS, AttributeProto.INTS):
        return list(getattr(proto, _PLAIN[kind]))
    if kind == AttributeProto.STRING:
        return _text(proto.s)
    if kind == AttributeProto.STRINGS:
        return [_text(item) for item in proto.strings]
    if kind == AttributeProto.TENSOR:
        return Constant(proto.t.name, Weight(proto.t, store))
    return Opaque(proto)


def decode_all(node: Node) -> dict[str, Any]:
    """Decode the attributes of a node that holds no graphs."""
    assert node.source is not None
    return {proto.name: decode(proto, node.store) for proto in node.source.attribute}


def _text(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw
