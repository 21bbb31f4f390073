"""The types of all tensors of a model, written as ONNX's operator schemas write them.

Shape facts know element types in graphs. What they do not know is worked out here: sequences and
optionals, the bodies of local functions, and results of operators that only onnxruntime defines.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import onnx
import onnx.defs
from onnx import AttributeProto, SparseTensorProto, TensorProto, TypeProto, helper

from onnxslim import runtime, shapes
from onnxslim.ir import (
    STANDARD_DOMAINS,
    Constant,
    Function,
    Graph,
    Model,
    Node,
    Opaque,
    Tensor,
    Variable,
    elem_type,
    walk,
)

TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype", "output_datatype")
"""Attributes that name the element type of an output."""
WINDOWS = frozenset({"BlackmanWindow", "HammingWindow", "HannWindow", "MelWeightMatrix"})
RANDOM = frozenset({"RandomNormal", "RandomUniform"})
LIKE = frozenset({"RandomNormalLike", "RandomUniformLike", "EyeLike", "Bernoulli"})
_FLOATS = frozenset({"tensor(float)", "tensor(float16)"})
_VALUE_TYPES = {
    "value_float": "tensor(float)",
    "value_floats": "tensor(float)",
    "value_int": "tensor(int64)",
    "value_ints": "tensor(int64)",
}


def is_standard(node: Node) -> bool:
    """Say whether *node* is one of ONNX's own operators, and no call of a function."""
    return node.domain in (None, *STANDARD_DOMAINS) and not node.calls_function


def schema_of(node: Node) -> onnx.defs.OpSchema | None:
    """Return the definition of the operator in the version that *node* means."""
    graph = node.graph
    if graph is None or node.calls_function:
        return None
    if is_standard(node):
        return _schema(str(node.op), graph.version, "")
    return _schema(str(node.op), graph.opsets.get(str(node.domain), 1), str(node.domain))


@functools.cache
def _schema(op: str, version: int, domain: str) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(op, version, domain)
    except onnx.defs.SchemaError:
        return None


def formal(parameters: Sequence[Any], slot: int) -> Any:
    """Return the formal parameter that an operand belongs to; None where there is none."""
    if slot < len(parameters):
        return parameters[slot]
    variadic = onnx.defs.OpSchema.FormalParameterOption.Variadic
    return parameters[-1] if parameters and parameters[-1].option == variadic else None


# Types as texts -----------------------------------------------------------------------------------


def type_name(elem: int) -> str:
    """Return the type of tensors of a ``TensorProto.DataType``; "" where it is none."""
    known = elem in TensorProto.DataType.values() and elem != TensorProto.UNDEFINED
    return f"tensor({TensorProto.DataType.Name(elem).lower()})" if known else ""


def named_type(value: Any) -> str:
    """Return the type that an attribute names: by number, or before opset 6 by name."""
    if isinstance(value, str):
        return f"tensor({value.lower()})"
    return type_name(value) if isinstance(value, int) else ""


def type_text(proto: TypeProto) -> str:
    """Return a type as ONNX's operator schemas write it, "" where it is unknown."""
    kind = proto.WhichOneof("value")
    if kind in ("tensor_type", "sparse_tensor_type"):
        return type_name(getattr(proto, kind).elem_type)
    if kind in ("sequence_type", "optional_type"):
        inner = type_text(getattr(proto, kind).elem_type)
        return inner and f"{'seq' if kind == 'sequence_type' else 'optional'}({inner})"
    return ""


def type_proto(text: str, shape: Sequence[int | str | None] | None = None) -> TypeProto | None:
    """Return the type that *text* says, with a *shape* for tensors; None for unknown ones."""
    outer, _, inner = text.removesuffix(")").partition("(")
    if outer == "tensor":
        return helper.make_tensor_type_proto(TensorProto.DataType.Value(inner.upper()), shape)
    made = type_proto(inner) if outer in ("seq", "optional") else None
    if made is None:
        return None
    wrap = helper.make_sequence_type_proto if outer == "seq" else helper.make_optional_type_proto
    return wrap(made)


def element(text: str) -> str:
    """Return the tensor type in a sequence, an optional or both; for a tensor, its own type."""
    while text.startswith(("seq(", "optional(")):
        text = _item(text)
    return text


def _item(kind: str) -> str:
    """Return the type of the items of a sequence or optional type."""
    return kind.partition("(")[2][:-1]


def _wrapped(outer: str, kind: str) -> str:
    return kind and f"{outer}({kind})"


# Types of tensors ---------------------------------------------------------------------------------


class Types:
    """The types of all tensors of a model; "" where one is unknown."""

    def __init__(self, model: Model, facts: shapes.Facts) -> None:
        """Find the types of *model*, whose graphs are sorted and of which *facts* are known."""
        self.of: dict[Tensor, str] = {}
        self.guessed: set[Tensor] = set()
        """Results of operators that nobody knows."""
        self.called: list[Function] = []
        self.frozen: set[Function] = set()
        """Functions that cannot change: their types differ from call to call, for one."""
        self._facts = facts
        self._bodies: dict[tuple[str, str], list[Function]] = {}
        for body in model.functions:
            self._bodies.setdefault((body.proto.domain, body.proto.name), []).append(body)
        self._calls: dict[tuple[Function, tuple[str, ...]], list[str]] = {}
        self._graph(model.graph)
        self._spread()

    def __getitem__(self, tensor: Tensor) -> str:
        if isinstance(tensor, Constant):
            return type_name(tensor.elem_type)
        return self.of.get(tensor, "")

    def bodies(self, node: Node) -> list[Function]:
        """Return the functions that *node* may call."""
        return self._bodies.get((node.domain or "", node.op), []) if node.calls_function else []

    def _spread(self) -> None:
        """Freeze what frozen functions call."""
        queue = list(self.frozen)
        for body in queue:
            nodes = (node for graph in walk(body) for node in graph.nodes)
            found = {inner for node in nodes for inner in self.bodies(node)} - self.frozen
            self.frozen |= found
            queue += found

    def _graph(self, graph: Graph, given: Sequence[str] = ()) -> list[str]:
        """Note the types in *graph*, whose inputs have the types *given*; return its outputs'."""
        for slot, tensor in enumerate(graph.inputs):
            passed = given[slot] if slot < len(given) else ""
            self.of[tensor] = passed or self._declared(tensor)
        for tensor in graph.initializers:
            if isinstance(tensor, Variable) and tensor.default is not None:
                dense = tensor.default
                dense = dense.values if isinstance(dense, SparseTensorProto) else dense
                self.of[tensor] = type_name(dense.data_type)
        for node in graph.nodes:
            found = self._outputs(node)
            for slot, tensor in enumerate(node.outputs):
                if isinstance(tensor, Variable) and tensor.name:
                    kind = found[slot] if slot < len(found) else ""
                    self.of[tensor] = kind or self._declared(tensor) or self._guess(node, tensor)
        return [self[tensor] for tensor in graph.outputs]

    def _declared(self, tensor: Variable) -> str:
        declared = "" if tensor.source is None else type_text(tensor.source.type)
        return declared or type_name(self._facts.elem_type(tensor))

    def _guess(self, node: Node, tensor: Variable) -> str:
        """Take an operator that nobody knows to give the float type that it is given."""
        typed = tensor.source is not None and tensor.source.type.WhichOneof("value")
        if typed or node.calls_function or schema_of(node) is not None:
            return ""
        self.guessed.add(tensor)
        return next((self[given] for given in node.inputs if self[given] in _FLOATS), "")

    def _outputs(self, node: Node) -> list[str]:
        """Return the types of the outputs of *node*; "" where they are unknown."""
        given = [self[tensor] for tensor in node.inputs]
        if node.calls_function:
            return self._call(node, given)
        graphs = list(node.subgraphs())
        if graphs:
            return self._control(node, graphs, given)
        if is_standard(node) and node.op in _DECIDES:
            return [_DECIDES[node.op](node, given or [""])]
        schema = schema_of(node)
        if schema is None:
            return runtime.output_types(node, [type_proto(kind) for kind in given])
        return _by_schema(node, schema, given)

    def _call(self, node: Node, given: list[str]) -> list[str]:
        bodies = self.bodies(node)
        if len(bodies) != 1:  # overloads
            self.frozen.update(bodies)
            return []
        (body,) = bodies
        key = body, tuple(given)
        if key in self._calls:
            return self._calls[key]
        self._calls[key] = []  # no function calls itself, but a broken model might
        if body in self.called or _is_generic(body) or not has_casts(body):
            self.frozen.add(body)
        if body not in self.called:
            self.called.append(body)
        self._calls[key] = self._graph(body, given)
        return self._calls[key]

    def _control(self, node: Node, graphs: list[Graph], given: list[str]) -> list[str]:
        op = node.op if is_standard(node) else ""
        if op == "Loop":
            return self._graph(graphs[0], ["tensor(int64)", "tensor(bool)", *given[2:]])[1:]
        if op == "Scan":
            lengths = len(given) > len(graphs[0].inputs)  # of version 8
            return self._graph(graphs[0], given[1:] if lengths else given)
        if op == "SequenceMap":
            items = [_item(kind) if kind.startswith("seq") else kind for kind in given]
            return [_wrapped("seq", kind) for kind in self._graph(graphs[0], items)]
        found = [self._graph(inner) for inner in graphs]
        return found[0] if op == "If" else []


def has_casts(graph: Graph) -> bool:
    """Say whether *graph* may hold ONNX's own operators, such as Cast."""
    return not graph.opsets.keys().isdisjoint(STANDARD_DOMAINS)


def _is_generic(body: Function) -> bool:
    """Say whether the caller of *body* chooses types by attributes."""
    nodes = (node for graph in walk(body) for node in graph.nodes)
    values = (node.attr(name) for node in nodes for name in TYPE_ATTRIBUTES)
    return any(isinstance(value, Opaque) and value.proto.ref_attr_name for value in values)


def _by_schema(node: Node, schema: onnx.defs.OpSchema, given: list[str]) -> list[str]:
    bound, found = dict[str, str](), list[str]()
    for slot, kind in enumerate(given):
        parameter = formal(schema.inputs, slot)
        if parameter is not None and parameter.is_homogeneous and kind:
            bound.setdefault(parameter.type_str, kind)
    if node.op == "LayerNormalization":
        bound.setdefault("U", named_type(node.attr("stash_type", TensorProto.FLOAT)))
    for slot in range(len(node.outputs)):
        parameter = formal(schema.outputs, slot)
        name = "" if parameter is None else parameter.type_str
        found.append(name if "(" in name else bound.get(name, ""))
    return found


# Operators whose output type follows from an attribute, or is made of that of an input

_Decides = Callable[[Node, list[str]], str]


def _named(attribute: str, default: int = 0) -> _Decides:
    return lambda node, _: named_type(node.attr(attribute, default))


def _named_or_given(attribute: str, slot: int = 0) -> _Decides:
    return lambda node, given: named_type(node.attr(attribute)) or "".join(given[slot : slot + 1])


def _constant_type(node: Node, _: list[str]) -> str:
    """Return the type of a Constant node whose value is not known here and now."""
    for name, value in node.attrs.items():
        if name in _VALUE_TYPES:
            return _VALUE_TYPES[name]
        if isinstance(value, Opaque) and value.proto.type == AttributeProto.SPARSE_TENSOR:
            return type_name(value.proto.sparse_tensor.values.data_type)
        if isinstance(value, Constant):
            return type_name(value.elem_type)
    return ""


def _filled_type(node: Node, _: list[str]) -> str:
    value = node.attr("value")
    return "tensor(float)" if value is None else type_name(elem_type(value.dtype))


def _optional_type(node: Node, given: list[str]) -> str:
    declared = node.attr("type")
    if isinstance(declared, Opaque):
        return _wrapped("optional", type_text(declared.proto.tp))
    return _wrapped("optional", given[0])


def _unwrapped(node: Node, given: list[str]) -> str:
    return _item(given[0]) if given[0].startswith("optional") else given[0]


_DECIDES: dict[str, _Decides] = {
    "Cast": _named("to"),
    "BitCast": _named("to"),
    "CastLike": lambda _, given: "".join(given[1:2]),
    "Constant": _constant_type,
    "ConstantOfShape": _filled_type,
    "SequenceEmpty": lambda node, _: _wrapped(
        "seq", named_type(node.attr("dtype", TensorProto.FLOAT))
    ),
    "DequantizeLinear": _named_or_given("output_dtype", 1),
    "SplitToSequence": lambda _, given: _wrapped("seq", given[0]),
    "SequenceConstruct": lambda _, given: _wrapped("seq", given[0]),
    "SequenceAt": lambda _, given: _item(given[0]),
    "ConcatFromSequence": lambda _, given: _item(given[0]),
    "OptionalGetElement": _unwrapped,
    "Optional": _optional_type,
    **dict.fromkeys(RANDOM, _named("dtype", TensorProto.FLOAT)),
    **dict.fromkeys(LIKE, _named_or_given("dtype")),
    **dict.fromkeys(WINDOWS, _named("output_datatype", TensorProto.FLOAT)),
}
