"""Edits that change what a model is, because the user asks: its ends, or its float type.

`cut` makes other tensors the inputs and outputs of a model. `convert_floats` computes in half
precision instead of single, or back. Both change a `Model` in place.
"""

from __future__ import annotations

import difflib
import functools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import onnx
import onnx.defs
from onnx import AttributeProto, SparseTensorProto, TensorProto, TypeProto, ValueInfoProto

from onnxslim.errors import InputError
from onnxslim.ir import (
    STANDARD_DOMAINS,
    Array,
    Constant,
    Function,
    Graph,
    Model,
    Node,
    Opaque,
    Tensor,
    Variable,
    elem_type,
    erase,
    numpy_type,
    producer,
    replace_uses,
    set_inputs,
    walk,
    weights,
)
from onnxslim.ir.surgery import captured

Float = Literal["fp16", "fp32"]

# Other ends ---------------------------------------------------------------------------------------


def cut(model: Model, inputs: Sequence[str] | None, outputs: Sequence[str] | None) -> None:
    """Make the named tensors of the main graph the inputs and outputs of *model*, in this order.

    None leaves the inputs or outputs as they are, except that inputs nobody needs any more go.
    Raises InputError for unknown names, for tensors whose type nobody knows, and when the outputs
    also need an input that is not named.
    """
    if inputs is None and outputs is None:
        return
    graph, tensors = model.graph, _tensors(model.graph)
    starts = None if inputs is None else _named(inputs, "input", tensors, model)
    ends = graph.outputs if outputs is None else _named(outputs, "output", tensors, model)
    live, needed = _behind(ends, frozenset(starts or ()), graph)
    if starts is None:
        kept = [t for t in graph.inputs if t in needed or not t.outputs or outputs is None]
    else:
        kept = [*starts, *(t for t in graph.inputs if t in needed and t.default is not None)]
        missing = [t.name for t in graph.inputs if t in needed and t not in set(kept)]
        if missing:
            raise InputError(
                f"the outputs {_listed(t.name for t in ends)} also need {_listed(missing)}; "
                "name them among the inputs, or choose inputs that lie behind them"
            )
    infos = _declarations(model, {*(starts or ()), *ends}, inferred=True)
    for tensor in starts or ():
        _detach(tensor, model)
    for tensor, info in infos.items():
        if isinstance(tensor, Variable) and tensor.source is None:
            _declare(tensor, info)
    fixed = [tensor for tensor in graph.input_order if isinstance(tensor, Constant)]
    graph.inputs, graph.input_order = list(kept), [*kept, *fixed]
    graph.outputs, graph.output_info = list(ends), [_info_of(t, infos) for t in ends]
    for tensor in (*graph.inputs, *graph.outputs):
        graph.value_info.pop(tensor.name, None)
    erase([node for node in graph.nodes if node not in live], model.pinned())
    model.compact()
    model.pristine = False


def _tensors(graph: Graph) -> dict[str, Tensor]:
    """Return the tensors of one graph by name, those of its subgraphs left out."""
    made = (tensor for node in graph.nodes for tensor in node.outputs)
    found = {t.name: t for t in (*graph.inputs, *graph.initializers, *made) if t.name}
    return found


def _named(
    names: Sequence[str], kind: str, tensors: Mapping[str, Tensor], model: Model
) -> list[Any]:
    if not names:
        raise InputError(f"no {kind} is named; name at least one, or leave the {kind}s alone")
    for name, count in Counter(names).items():
        if count > 1:
            raise InputError(f"{kind} {name!r} is named {count} times")
        if name not in tensors:
            if any(name in _tensors(graph) for graph in model.graphs()):
                raise InputError(f"{kind} {name!r} is a tensor of a subgraph or function body")
            close = difflib.get_close_matches(name, tensors, 3)
            hint = f"; did you mean {' or '.join(close)}?" if close else ""
            raise InputError(f"no tensor is called {name!r}, which shall be an {kind}{hint}")
    return [tensors[name] for name in names]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _behind(
    ends: Iterable[Tensor], stops: frozenset[Tensor], graph: Graph
) -> tuple[set[Node], set[Tensor]]:
    """Return the nodes and tensors that *ends* need when *stops* are given."""
    inner, nodes, seen = captured(graph), set[Node](), set[Tensor]()
    stack = list(ends)
    while stack:
        tensor = stack.pop()
        if tensor in seen or tensor in stops:
            continue
        seen.add(tensor)
        for node in tensor.inputs:
            if node not in nodes:
                nodes.add(node)
                stack += [*node.inputs, *inner.get(node, ())]
    return nodes, seen


def _detach(tensor: Any, model: Model) -> None:
    """Make *tensor* one that no node computes and no initializer gives."""
    for node in list(tensor.inputs):
        slot = next(i for i, item in enumerate(node.outputs) if item is tensor)
        _set_output(node, slot, Variable(model.names.fresh(tensor.name)))
    if isinstance(tensor, Constant):
        info = onnx.helper.make_tensor_value_info(tensor.name, tensor.elem_type, tensor.shape)
        model.graph.input_order = [t for t in model.graph.input_order if t is not tensor]
        _declare(tensor.to_variable(), info)
    if tensor not in model.graph.inputs:
        model.graph.initializers = [t for t in model.graph.initializers if t is not tensor]


def _set_output(node: Node, slot: int, tensor: Tensor) -> None:
    """Make *node* compute *tensor*, which nobody else does, in place of its output."""
    list.clear(node.outputs[slot].inputs)
    list.__setitem__(node.outputs, slot, tensor)
    list.append(tensor.inputs, node)


def _declarations(
    model: Model, wanted: Iterable[Tensor], inferred: bool
) -> dict[Tensor, ValueInfoProto]:
    """Return the declared types of *wanted*, or else those that ONNX infers."""
    infos, found = dict[Tensor, ValueInfoProto](), dict[str, ValueInfoProto]()
    for tensor in wanted:
        if isinstance(tensor, Constant):
            continue
        info = tensor.source
        if info is None or not info.type.WhichOneof("value"):
            found = found or _inferred(model)
            info = found.get(tensor.name)
        if info is None or not info.type.WhichOneof("value"):
            raise InputError(f"the type of {tensor.name!r} is not declared and cannot be inferred")
        infos[tensor] = info
    return infos


def _inferred(model: Model) -> dict[str, ValueInfoProto]:
    """Return the types that ONNX knows of the main graph's tensors."""
    skeleton = model.skeleton()
    try:
        graph = onnx.shape_inference.infer_shapes(skeleton, data_prop=True).graph
    except Exception:  # what it cannot read; then declared types are all there is
        graph = skeleton.graph
    return {info.name: info for info in (*graph.input, *graph.value_info, *graph.output)}


def _info_of(tensor: Tensor, infos: Mapping[Tensor, ValueInfoProto]) -> ValueInfoProto:
    if tensor in infos:
        return infos[tensor]
    assert isinstance(tensor, Constant)
    return onnx.helper.make_tensor_value_info(tensor.name, tensor.elem_type, tensor.shape)


def _declare(variable: Variable, info: ValueInfoProto) -> None:
    """Give *variable* the type that *info* declares."""
    dtype, shape, kind = None, None, info.type.WhichOneof("value") or "tensor_type"
    if kind == "tensor_type":
        declared = info.type.tensor_type
        dtype = numpy_type(declared.elem_type)
        if declared.HasField("shape"):
            dims = declared.shape.dim
            shape = [d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in dims]
    variable.dtype, variable.shape, variable.type = dtype, shape, kind
    variable.source, variable.seen = info, _snapshot(variable)


def _snapshot(variable: Variable) -> tuple[Any, ...]:
    return variable.dtype, None if variable.shape is None else tuple(variable.shape), variable.type


# Types of tensors ---------------------------------------------------------------------------------

_TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype", "output_datatype")
"""Attributes that name the element type of an output."""
_WINDOWS = frozenset({"BlackmanWindow", "HammingWindow", "HannWindow", "MelWeightMatrix"})
_RANDOM = frozenset({"RandomNormal", "RandomUniform"})
_LIKE = frozenset({"RandomNormalLike", "RandomUniformLike", "EyeLike", "Bernoulli"})
_VALUE_TYPES = {
    "value_float": "tensor(float)",
    "value_floats": "tensor(float)",
    "value_int": "tensor(int64)",
    "value_ints": "tensor(int64)",
}


def _type_name(elem: int) -> str:
    return f"tensor({TensorProto.DataType.Name(elem).lower()})"


def _type_of(proto: TypeProto) -> str:
    """Return a type as ONNX's operator schemas write it, "" where it is unknown."""
    kind = proto.WhichOneof("value")
    if kind in ("tensor_type", "sparse_tensor_type"):
        elem = getattr(proto, kind).elem_type
        return _type_name(elem) if elem in weights.KNOWN_TYPES else ""
    if kind == "sequence_type":
        return f"seq({_type_of(proto.sequence_type.elem_type)})"
    if kind == "optional_type":
        return f"optional({_type_of(proto.optional_type.elem_type)})"
    return ""


@functools.cache
def _schema(op: str, version: int, domain: str) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(op, version, domain)
    except onnx.defs.SchemaError:
        return None


def _schema_of(node: Node, graph: Graph) -> onnx.defs.OpSchema | None:
    domain = "" if node.domain in (None, *STANDARD_DOMAINS) else str(node.domain)
    version = graph.opsets.get(domain, 1) if domain else graph.version
    return None if node.calls_function else _schema(str(node.op), version, domain)


def _formal(parameters: Sequence[Any], slot: int) -> Any:
    """Return the formal parameter that an operand belongs to; None where there is none."""
    if slot < len(parameters):
        return parameters[slot]
    variadic = onnx.defs.OpSchema.FormalParameterOption.Variadic
    return parameters[-1] if parameters and parameters[-1].option == variadic else None


class _Types:
    """The types of all tensors of a model, written as ONNX's operator schemas write them."""

    def __init__(self, model: Model) -> None:
        """Infer the types of *model*, whose graphs are sorted."""
        self.of: dict[Tensor, str] = {}
        self._known = {name: _type_of(info.type) for name, info in _inferred(model).items()}
        self._bodies: dict[tuple[str, str], list[Function]] = {}
        for body in model.functions:
            self._bodies.setdefault((body.proto.domain, body.proto.name), []).append(body)
        self._calls: dict[tuple[Function, tuple[str, ...]], list[str]] = {}
        self.called: list[Function] = []
        self.frozen: set[Function] = set()
        """Functions that must stay as they are: their types differ from call to call."""
        self._graph(model.graph)
        self._spread()

    def __getitem__(self, tensor: Tensor) -> str:
        if isinstance(tensor, Constant):
            return _type_name(tensor.elem_type)
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

    def _graph(self, graph: Graph, given: Sequence[str] | None = None) -> list[str]:
        for slot, tensor in enumerate(graph.inputs):
            fallback = _type_of(tensor.source.type) if tensor.source is not None else ""
            passed = given[slot] if given is not None and slot < len(given) else ""
            self.of[tensor] = passed or fallback
        for tensor in graph.initializers:
            if isinstance(tensor, Variable) and tensor.default is not None:
                dense = tensor.default
                dense = dense.values if isinstance(dense, SparseTensorProto) else dense
                self.of[tensor] = _type_name(dense.data_type)
        main = not isinstance(graph, Function) and given is None
        for node in graph.nodes:
            found = self._outputs(node, graph)
            for slot, tensor in enumerate(node.outputs):
                if isinstance(tensor, Variable) and tensor.name:
                    kind = found[slot] if slot < len(found) else ""
                    if not kind and tensor.source is not None:
                        kind = _type_of(tensor.source.type)
                    if not kind and main:
                        kind = self._known.get(tensor.name, "")
                    if not kind and _schema_of(node, graph) is None and node.inputs:
                        kind = self[node.inputs[0]]  # what most fused operators do
                    self.of[tensor] = kind
        return [self[tensor] for tensor in graph.outputs]

    def _outputs(self, node: Node, graph: Graph) -> list[str]:
        """Return the types of the outputs of *node*; "" where they are unknown."""
        given = [self[tensor] for tensor in node.inputs]
        if node.calls_function:
            return self._call(node, given)
        graphs = list(node.subgraphs())
        if graphs:
            return self._control(node, graphs, given)
        special = self._special(node, given)
        if special is not None:
            return [special]
        schema, bound = _schema_of(node, graph), dict[str, str]()
        if schema is None:
            return []
        for slot, kind in enumerate(given):
            formal = _formal(schema.inputs, slot)
            if formal is not None and formal.is_homogeneous and kind:
                bound.setdefault(formal.type_str, kind)
        if node.op == "LayerNormalization":
            bound.setdefault("U", _type_name(int(node.attr("stash_type", TensorProto.FLOAT))))
        found: list[str] = []
        for slot in range(len(node.outputs)):
            formal = _formal(schema.outputs, slot)
            name = "" if formal is None else formal.type_str
            found.append(name if "(" in name else bound.get(name, ""))
        return found

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
        if body in self.called or _has_type_parameters(body):
            self.frozen.add(body)
        if body not in self.called:
            self.called.append(body)
        self._calls[key] = self._graph(body, given)
        return self._calls[key]

    def _control(self, node: Node, graphs: list[Graph], given: list[str]) -> list[str]:
        if node.op == "Loop":
            return self._graph(graphs[0], ["tensor(int64)", "tensor(bool)", *given[2:]])[1:]
        if node.op == "Scan":
            lengths = len(given) > len(graphs[0].inputs)  # of version 8
            return self._graph(graphs[0], given[1:] if lengths else given)
        if node.op == "SequenceMap":
            items = [_item(kind) if kind.startswith("seq") else kind for kind in given]
            return [f"seq({kind})" for kind in self._graph(graphs[0], items)]
        found = [self._graph(inner, []) for inner in graphs]
        return found[0] if node.op == "If" else []

    def _special(self, node: Node, given: list[str]) -> str | None:
        """Return the type of the only output of operators whose attributes decide on it."""
        first = given[0] if given else ""
        if node.domain not in (None, *STANDARD_DOMAINS):
            return None
        if node.op in _DECIDES:
            return _DECIDES[node.op](node, given)
        if node.op in _RANDOM | _LIKE:
            default = "tensor(float)" if node.op in _RANDOM else first
            return _named_type(node.attr("dtype")) or default
        if node.op in _WINDOWS:
            return _named_type(node.attr("output_datatype", TensorProto.FLOAT))
        return None


def _item(kind: str) -> str:
    """Return the type of the items of a sequence or optional type."""
    return kind.partition("(")[2][:-1]


def _named_type(value: Any) -> str:
    """Return the type that an attribute names: by number, or before opset 6 by name."""
    if isinstance(value, str):
        return f"tensor({value.lower()})"
    return _type_name(value) if isinstance(value, int) and value else ""


def _constant_type(node: Node) -> str:
    """Return the type of a Constant node whose value is not known here and now."""
    assert node.source is not None
    for attribute in node.source.attribute:
        if attribute.name in _VALUE_TYPES:
            return _VALUE_TYPES[attribute.name]
        if attribute.type == AttributeProto.SPARSE_TENSOR:
            return _type_name(attribute.sparse_tensor.values.data_type)
        if attribute.HasField("t"):
            return _type_name(attribute.t.data_type)
    return ""


def _filled_type(node: Node) -> str:
    value = node.attr("value")
    return "tensor(float)" if value is None else _type_name(elem_type(value.dtype))


_DECIDES: dict[str, Callable[[Node, list[str]], str]] = {
    "Cast": lambda node, _: _named_type(node.attr("to")),
    "CastLike": lambda _, given: given[1],
    "ConstantOfShape": lambda node, _: _filled_type(node),
    "Constant": lambda node, _: _constant_type(node),
    "SequenceEmpty": lambda node, _: f"seq({_named_type(node.attr('dtype', TensorProto.FLOAT))})",
    "DequantizeLinear": lambda node, given: _named_type(node.attr("output_dtype")) or given[1],
    "SplitToSequence": lambda _, given: f"seq({given[0]})",
    "SequenceConstruct": lambda _, given: f"seq({given[0]})",
    "SequenceAt": lambda _, given: _item(given[0]),
    "ConcatFromSequence": lambda _, given: _item(given[0]),
    "OptionalGetElement": lambda _, given: (
        _item(given[0]) if given[0].startswith("optional") else given[0]
    ),
    "Optional": lambda _, given: f"optional({given[0]})" if given else "",
}
"""Operators whose output type follows from an attribute, or is made of that of an input."""


def _has_type_parameters(body: Function) -> bool:
    """Say whether the caller of *body* chooses types by attributes."""
    nodes = (node for graph in walk(body) for node in graph.nodes)
    return any(isinstance(n.attr(name), Opaque) for n in nodes for name in _TYPE_ATTRIBUTES)


# Another float type -------------------------------------------------------------------------------

_ELEM = {"fp16": TensorProto.FLOAT16, "fp32": TensorProto.FLOAT}
_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
"""Onnxruntime 1.32 has no kernels for halves and crashes; weights are stored as halves anyway."""
_ALWAYS_SINGLE = _RANDOM | _LIKE | _WINDOWS | _RECURRENT | {
    "QuantizeLinear",
    "DequantizeLinear",
    "QLinearMatMul",
    "DFT",
    "STFT",
    "Multinomial",
}  # fmt: skip
"""Standard operators that halves do not suit: scales lose their precision, kernels are missing."""
_ELEMENTWISE = frozenset({
    "Abs", "Add", "Cast", "Ceil", "Concat", "Cos", "Div", "Exp", "Expand", "Floor", "Gather",
    "Identity", "Log", "Max", "Min", "Mod", "Mul", "Neg", "Pow", "Range", "Reciprocal",
    "Reshape", "Round", "Sin", "Slice", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze",
    "Where",
})  # fmt: skip
"""Operators that compute with positions and sizes, where these take part as floats."""


def convert_floats(model: Model, dtype: Float, keep_io_types: bool = False) -> list[str]:
    """Compute in another float type: ``fp16`` for what was single precision, ``fp32`` for halves.

    Weights, types and attributes change, in subgraphs and functions too. What cannot be computed in
    the other type, and what would overflow in it, stays as it was between Casts. *keep_io_types*
    leaves the types of inputs and outputs alone. The result is another function: the notes that are
    returned say what was done. Raises InputError for sequences where only a tensor can be cast.
    """
    if dtype not in _ELEM:
        raise InputError(f"no float type is called {dtype!r}; choose fp16 or fp32")
    return _Conversion(model, dtype, keep_io_types).run()


class _Conversion:
    """One conversion of one model."""

    def __init__(self, model: Model, dtype: Float, keep_io_types: bool) -> None:
        model.sort()
        self.model, self.to_half, self.keep_io = model, dtype == "fp16", keep_io_types
        self.suffix, self.new_elem = dtype, int(_ELEM[dtype])
        self.old_elem = int(_ELEM["fp32" if self.to_half else "fp16"])
        self.old, self.new = _type_name(self.old_elem), _type_name(self.new_elem)
        self.types = _Types(model)
        self.apart: set[Tensor] = set()
        """Tensors that keep the old type."""
        self.original: dict[Tensor, Tensor] = {}
        """For tensors that some node computes in the old type: this result, before the Cast."""
        self.casts: dict[tuple[Tensor, Graph], Tensor] = {}
        self.kept: set[Node] = set()
        self.old_readers: dict[Constant, list[tuple[Node, int]]] = {}
        self.new_constants: dict[Constant, None] = {}
        self.reasons: Counter[str] = Counter()
        self.clamped: list[str] = []
        self._fits: dict[Constant, bool] = {}

    def run(self) -> list[str]:
        bodies = [body for body in self.types.called if body not in self.types.frozen]
        roots: list[Graph] = [self.model.graph, *bodies]
        if not any(self.is_old(t) for root in roots for t in _all_tensors(root)):
            return [f"there is nothing to convert to {self.suffix}"]
        if self.to_half:
            for root in roots:
                for graph in walk(root):
                    self._keep_quantized(graph)
                    self._keep_positions(graph)
                    self._keep_batch_transposes(graph)
        head = self._keep_inputs() if self.keep_io else []
        for root in roots:
            self._graph(root)
        self.model.graph.nodes = [*head, *self.model.graph.nodes]
        if self.keep_io:
            self._keep_outputs()
        self._constants()
        for root in roots:
            for graph in walk(root):
                self._declarations(graph)
        self._drop_unread()
        self.model.compact()
        self.model.sort()
        self.model.pristine = False
        return self._notes()

    def is_old(self, tensor: Tensor) -> bool:
        """Say whether *tensor* has the type that shall go."""
        return tensor not in self.apart and self.old in self.types[tensor]

    # What stays

    def _keep_quantized(self, graph: Graph) -> None:
        """Keep what lies between DequantizeLinear and QuantizeLinear: it runs in integers."""
        inside: set[Tensor] = set()
        for node in graph.nodes:
            if node.operator == "DequantizeLinear":
                inside.update(node.outputs)
                continue
            floats = [t for t in node.inputs if self.is_old(t) and not isinstance(t, Constant)]
            if not floats or not inside.issuperset(floats) or any(True for _ in node.subgraphs()):
                continue
            chained = any(producer(t) in self.kept for t in floats)
            readers = [reader for t in node.outputs for reader in t.outputs]
            if node.operator != "QuantizeLinear" and (
                not chained or all(reader.op == "QuantizeLinear" for reader in readers)
            ):
                self.kept.add(node)
                inside.update(node.outputs)

    def _keep_positions(self, graph: Graph) -> None:
        """Keep what is computed from integers alone: positions and sizes need their precision."""
        inside, casts = set[Tensor](), list[Node]()
        for node in graph.nodes:
            if node.operator not in _ELEMENTWISE:
                continue
            floats = [t for t in node.inputs if self.is_old(t)]
            computed = [t for t in floats if not isinstance(t, Constant)]
            starts = node.op == "Cast" and not floats and any(map(self.is_old, node.outputs))
            if starts or (computed and inside.issuperset(computed)):
                self.kept.add(node)
                inside.update(node.outputs)
                casts += [node] * starts
        for node in casts:
            readers = [(r, i) for r in node.outputs[0].outputs for i, t in enumerate(r.inputs)
                       if t is node.outputs[0]]  # fmt: skip
            if not any(r in self.kept or not self._converts(r, r.inputs, i) for r, i in readers):
                self.kept.discard(node)

    def _keep_batch_transposes(self, graph: Graph) -> None:
        """Keep transposed batches before a MatMul with a matrix: onnxruntime 1.32 crashes on them.

        Its fusion of the two reads past the shape of the matrix once there are Casts around.
        """
        for node in graph.nodes:
            perm = node.attr("perm") if node.operator == "Transpose" else None
            if isinstance(perm, list) and perm and perm[0] != 0:
                readers = [r for r in node.outputs[0].outputs if r.operator == "MatMul"]
                others = [t for r in readers for t in r.inputs if isinstance(t, Constant)]
                if self.is_old(node.outputs[0]) and any(len(t.shape) < len(perm) for t in others):
                    self.kept.add(node)

    def _converts(self, node: Node, tensors: Sequence[Tensor], slot: int) -> bool:
        """Say whether the operand of *node* in *slot* of *tensors* may have the new type."""
        if node.calls_function:
            return self.types.frozen.isdisjoint(self.types.bodies(node))
        if node.domain not in (None, *STANDARD_DOMAINS):
            return False
        if node in self.kept or (self.to_half and node.op in _ALWAYS_SINGLE):
            return False
        graph = node.graph
        schema = None if graph is None else _schema_of(node, graph)
        if schema is None or (node.op == "Constant" and tensors is node.outputs):
            return False
        formal = _formal(schema.inputs if tensors is node.inputs else schema.outputs, slot)
        wanted = self.types[tensors[slot]].replace(self.old, self.new)
        return formal is not None and wanted in formal.types

    def _overflows(self, node: Node) -> bool:
        """Say whether *node* reads a constant that the new type cannot hold."""
        if not self.to_half or node.calls_function or any(True for _ in node.subgraphs()):
            return False
        value = node.attr("value") if node.operator == "ConstantOfShape" else None
        if value is not None and not _fits(np.asarray(getattr(value, "values", value))):
            return True
        return any(
            isinstance(tensor, Constant) and self.is_old(tensor) and not self._holds(tensor)
            for tensor in node.inputs
        )

    def _holds(self, constant: Constant) -> bool:
        if constant not in self._fits:
            self._fits[constant] = _fits(constant.values)
        return self._fits[constant]

    # Nodes

    def _graph(self, graph: Graph) -> None:
        nodes: list[Node] = []
        for node in list(graph.nodes):
            self._node(node, graph, nodes)
        graph.nodes = nodes
        for tensor in graph.outputs:
            held = self.keep_io and graph is self.model.graph
            if isinstance(tensor, Constant) and self.is_old(tensor) and not held:
                self.new_constants[tensor] = None

    def _node(self, node: Node, graph: Graph, nodes: list[Node]) -> None:
        if node.op == "Constant" and isinstance(node.outputs[0], Constant):
            nodes.append(node)
            return
        if node not in self.kept and self._overflows(node):
            self.kept.add(node)
            self.reasons[f"{node.operator} (a constant overflows or vanishes)"] += 1
        stays = False
        for slot, tensor in enumerate(node.inputs):
            if not self.is_old(tensor):
                continue
            if self._converts(node, node.inputs, slot):
                if isinstance(tensor, Constant):
                    self.new_constants[tensor] = None
                continue
            stays = True
            stored = node.operator in _RECURRENT and node not in self.kept
            if isinstance(tensor, Constant) and stored:
                self.new_constants[tensor] = None
                _set_input(node, slot, self._in_old(tensor, graph, nodes))
            elif isinstance(tensor, Constant):
                self.old_readers.setdefault(tensor, []).append((node, slot))
            else:
                _set_input(node, slot, self._in_old(tensor, graph, nodes))
        nodes.append(node)
        for slot, tensor in enumerate(node.outputs):
            if self.is_old(tensor) and not self._converts(node, node.outputs, slot):
                stays = True
                made = self._new(tensor, tensor.name)
                _set_output(node, slot, made)
                self.original[tensor] = made
                nodes.append(self._cast(made, tensor, self.new_elem, graph))
        if stays:
            self.reasons[node.operator] += node not in self.kept
        self._inside(node, graph)

    def _inside(self, node: Node, graph: Graph) -> None:
        """Convert the attributes of *node*, except where it stays as it is."""
        graphs = list(node.subgraphs())
        if node.domain not in (None, *STANDARD_DOMAINS) or node.calls_function:
            if graphs and any(self.is_old(t) for inner in graphs for t in _all_tensors(inner)):
                raise InputError(
                    f"{node.operator} has subgraphs that compute in {self.old}, and no rules say "
                    f"how it works in {self.new}; convert the model before it is fused"
                )
            return
        for inner in graphs:
            self._graph(inner)
        if node in self.kept or (self.to_half and node.op in _ALWAYS_SINGLE):
            return
        for name in _TYPE_ATTRIBUTES if node.op != "Constant" else ():
            if _named_type(node.attr(name)) == self.old:
                node.attrs[name] = self._target(self.new_elem, graph)
        if node.op == "ConstantOfShape":
            value = node.attr("value")
            if value is None and self.to_half:
                node.attrs["value"] = np.zeros(1, np.float16)
            elif value is not None and _type_name(elem_type(value.dtype)) == self.old:
                values = getattr(value, "values", value)
                node.attrs["value"] = values.astype(numpy_type(self.new_elem))

    def _target(self, elem: int, graph: Graph) -> int | str:
        return elem if graph.version >= 6 else TensorProto.DataType.Name(elem)

    def _cast(self, tensor: Tensor, result: Tensor, elem: int, graph: Graph) -> Node:
        kind = self.types[tensor]
        if kind != self.old:
            raise InputError(
                f"{tensor.name!r} is a {kind} and would have to be cast, which works for tensors "
                "only; convert without keep_io_types, or cut the model there"
            )
        node = Node("Cast", "", {"to": self._target(elem, graph)}, [tensor], [result])
        node.graph = graph
        return node

    def _new(self, like: Tensor, hint: str) -> Variable:
        made = Variable(self.model.names.fresh(hint))
        self.types.of[made] = self.types[like]
        self.apart.add(made)
        return made

    def _in_old(self, tensor: Tensor, graph: Graph, nodes: list[Node]) -> Tensor:
        """Return *tensor* in the old type, for a node of *graph* that comes after *nodes*."""
        if tensor in self.original:
            return self.original[tensor]
        key = tensor, graph
        if key not in self.casts:
            self.casts[key] = self._new(tensor, tensor.name)
            nodes.append(self._cast(tensor, self.casts[key], self.old_elem, graph))
        return self.casts[key]

    # Interface

    def _keep_inputs(self) -> list[Node]:
        graph, casts = self.model.graph, list[Node]()
        for tensor in graph.inputs:
            if not self.is_old(tensor):
                continue
            converted = Variable(self.model.names.fresh(tensor.name))
            self.types.of[converted] = self.types[tensor]
            self._replace(tensor, converted)
            casts.append(self._cast(tensor, converted, self.new_elem, graph))
            self.original[converted] = tensor
            self.apart.add(tensor)
        return casts

    def _keep_outputs(self) -> None:
        graph = self.model.graph
        for tensor in dict.fromkeys(graph.outputs):
            source = producer(tensor)
            if not self.is_old(tensor) or isinstance(tensor, Constant) or source is None:
                continue
            converted = Variable(self.model.names.fresh(tensor.name))
            self.types.of[converted] = self.types[tensor]
            slot = next(i for i, item in enumerate(source.outputs) if item is tensor)
            _set_output(source, slot, converted)
            self._replace(tensor, converted)
            given = self.original.get(tensor, converted)
            graph.nodes.append(self._cast(given, tensor, self.old_elem, graph))
            self.apart.add(tensor)

    def _replace(self, old: Tensor, new: Tensor) -> None:
        """Let every reader of *old* read *new*, but for the outputs of the main graph."""
        replace_uses(old, new)
        for inner in walk(self.model.graph):
            if inner is not self.model.graph:
                inner.outputs = [new if tensor is old else tensor for tensor in inner.outputs]

    # Values and declarations

    def _constants(self) -> None:
        pinned = set(self.model.graph.outputs) if self.keep_io else set()
        for constant in self.new_constants:
            old_readers = self.old_readers.get(constant, [])
            converted = self._convert(constant.values, constant.name)
            if constant in pinned:
                twin = Constant(self.model.names.fresh(constant.name), converted)
                stay = {node for node, _ in old_readers}
                for node in dict.fromkeys(constant.outputs):
                    if node not in stay:
                        _replace_input(node, constant, twin)
                self.apart.add(constant)
                continue
            if old_readers:
                twin = Constant(self.model.names.fresh(constant.name), constant._values)
                for node, slot in old_readers:
                    _set_input(node, slot, twin)
            constant.values = converted
            if constant.value_info is not None:
                constant.value_info = self._retyped(constant.value_info)

    def _convert(self, values: Array, name: str) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):
            converted: Array = values.astype(numpy_type(self.new_elem))
            if self.to_half and (np.isinf(converted) & np.isfinite(values)).any():
                limit = np.finfo(np.float16).max
                finite = np.clip(values, -limit, limit).astype(np.float16)
                converted = np.where(np.isfinite(values), finite, converted)
                self.clamped.append(name)
        return converted

    def _declarations(self, graph: Graph) -> None:
        declared: dict[str, Tensor] = {}
        made = (tensor for node in graph.nodes for tensor in node.outputs)
        for tensor in (*graph.inputs, *graph.initializers, *made, *graph.outputs):
            declared[tensor.name] = tensor
        moved = {name for name, tensor in declared.items() if self._moved(tensor)}
        for name in moved:
            tensor = declared[name]
            if isinstance(tensor, Variable):
                self._retype(tensor)
            if name in graph.value_info:
                graph.value_info[name] = self._retyped(graph.value_info[name])
        graph.output_info = [
            self._retyped(info) if info.name in moved else info for info in graph.output_info
        ]

    def _moved(self, tensor: Tensor) -> bool:
        if isinstance(tensor, Constant):
            return tensor in self.new_constants and tensor not in self.apart
        return self.is_old(tensor)

    def _retype(self, tensor: Variable) -> None:
        if tensor.source is not None and self.old not in _type_of(tensor.source.type):
            return  # done already, for another graph that hands it on
        as_declared = tensor.seen == _snapshot(tensor)
        if tensor.dtype is not None:
            tensor.dtype = numpy_type(self.new_elem)
        if tensor.source is not None:
            tensor.source = self._retyped(tensor.source)
        if as_declared:
            tensor.seen = _snapshot(tensor)
        default = tensor.default
        if isinstance(default, SparseTensorProto):
            tensor.default = SparseTensorProto()
            tensor.default.CopyFrom(default)
            tensor.default.values.CopyFrom(self._converted(default.values))
        elif default is not None:
            tensor.default = self._converted(default)

    def _converted(self, tensor: TensorProto) -> TensorProto:
        if tensor.data_type != self.old_elem:
            return tensor
        values = weights.Weight(tensor, self.model.store).load()
        converted = self._convert(values, tensor.name)
        return weights.to_tensor(converted, tensor.name, self.model.store)

    def _retyped(self, info: ValueInfoProto) -> ValueInfoProto:
        changed = ValueInfoProto()
        changed.CopyFrom(info)
        kind = changed.type
        while kind.WhichOneof("value") in ("sequence_type", "optional_type"):
            kind = getattr(kind, str(kind.WhichOneof("value"))).elem_type
        for form in ("tensor_type", "sparse_tensor_type"):
            if kind.HasField(form) and getattr(kind, form).elem_type == self.old_elem:
                getattr(kind, form).elem_type = self.new_elem
        return changed

    def _drop_unread(self) -> None:
        """Erase the Casts back of results that everybody reads before the Cast."""
        pinned = self.model.pinned()
        unread = [t for t in self.original if not t.outputs and id(t) not in pinned]
        erase([source for source in map(producer, unread) if source is not None], pinned)

    def _notes(self) -> list[str]:
        count = sum(constant.size for constant in self.new_constants)
        effect = "lossy: weights and results are rounded" if self.to_half else "weights are widened"
        notes = [f"{self.suffix}: {count:,} constant values converted; {effect}"]
        if self.reasons:
            kept = ", ".join(f"{n} x {op}" for op, n in sorted(self.reasons.items()) if n)
            if kept:
                notes.append(f"{self.suffix}: kept in {self.old[7:-1]} between Casts: {kept}")
        if self.types.frozen:
            names = _listed(sorted(str(body.name) for body in self.types.frozen))
            notes.append(f"{self.suffix}: functions whose types differ by call stay: {names}")
        if self.clamped:
            notes.append(f"{self.suffix}: clamped to ±65504: {_listed(self.clamped)}")
        return notes


def _all_tensors(root: Graph) -> Iterator[Tensor]:
    for graph in walk(root):
        yield from (*graph.inputs, *graph.initializers, *graph.outputs)
        for node in graph.nodes:
            yield from (*node.inputs, *node.outputs)


def _fits(values: Array) -> bool:
    """Say whether halves hold *values*: none overflows, and a single number does not vanish."""
    if values.dtype != np.float32 or not values.size:
        return True
    with np.errstate(over="ignore", invalid="ignore"):
        if values.size == 1:
            value = float(values.reshape(-1)[0])
            half = float(np.float16(value))
            return not math.isfinite(value) or (math.isfinite(half) and (half != 0) == (value != 0))
        largest, limit = np.float32(0), np.float32(65520)  # the first that rounds to infinity
        for part in np.array_split(values.reshape(-1), max(1, values.size >> 22)):
            finite = np.where(np.isfinite(part), np.abs(part), np.float32(0))
            largest = max(largest, finite.max(initial=np.float32(0)))
        return bool(largest < limit)


def _set_input(node: Node, slot: int, tensor: Tensor) -> None:
    set_inputs(node, [tensor if i == slot else item for i, item in enumerate(node.inputs)])


def _replace_input(node: Node, old: Tensor, new: Tensor) -> None:
    set_inputs(node, [new if item is old else item for item in node.inputs])
