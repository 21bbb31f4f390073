"""Import and export without loss: what no pass changed is written back verbatim.

Import wraps every message in an object that remembers it. Export repeats the message and overwrites
only the fields whose Python value changed; so zero passes give identical bytes. A constant is
exported by the graph that declared it, and by nobody else.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import onnx.defs
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, ValueInfoProto, helper

from onnxslim.errors import ModelError
from onnxslim.ir import graph as g
from onnxslim.ir import weights, wire
from onnxslim.ir.declarations import declare, is_redeclared, value_info
from onnxslim.ir.garbage import no_collection
from onnxslim.ir.graph import Constant, Function, Graph, Node, Opaque, Tensor, Variable
from onnxslim.ir.operators import constant_holds
from onnxslim.ir.surgery import walk
from onnxslim.ir.weights import Store, Weight

Lookup = Callable[[str], "Tensor | None"]

_GRAPH_TENSORS = ("node", "initializer", "sparse_initializer", "input", "output", "value_info")
_FIRST_IR_WITH_FREE_INITIALIZERS = 4
_NO_NODE = NodeProto()
_CONSTANT_FIELDS = {
    "value": (AttributeProto.TENSOR, None),
    "value_float": (AttributeProto.FLOAT, np.float32),
    "value_floats": (AttributeProto.FLOATS, np.float32),
    "value_int": (AttributeProto.INT, np.int64),
    "value_ints": (AttributeProto.INTS, np.int64),
}
"""What a Constant node may say its value in, that can be read here and now."""


def _shell(message: Any, without: tuple[str, ...]) -> Any:
    """Copy *message*, leaving out the fields *without*."""
    shell = type(message)()
    for field, value in message.ListFields():
        if field.name in without:
            continue
        if isinstance(value, bytes):  # perhaps a text that is not UTF-8, which cannot be set
            shell.MergeFromString(wire.header(field.number, len(value)) + value)
        elif isinstance(value, (str, int, float)):
            setattr(shell, field.name, value)
        elif field.message_type is None or hasattr(value, "extend"):
            _extend(getattr(shell, field.name), value)
        else:
            getattr(shell, field.name).CopyFrom(value)
    shell.MergeFromString(wire.unknown(message))
    return shell


def _extend(field: Any, values: Any) -> None:
    try:
        field.extend(values)
    except UnicodeDecodeError as error:
        raise ModelError(f"a name in the model is not UTF-8: {error}") from error


# Import -------------------------------------------------------------------------------------------


class Importer:
    """Turns the messages of one model into graphs."""

    def __init__(self, model: ModelProto, store: Store) -> None:
        """Prepare to import *model*, whose lifted weights lie in *store*."""
        self.model, self.store = model, store
        self.called = {(f.domain, f.name) for f in model.functions}
        self.fixed_initializers = model.ir_version < _FIRST_IR_WITH_FREE_INITIALIZERS

    def run(self) -> tuple[Graph, list[Function], ModelProto]:
        """Return the main graph, the local functions and what else the model says."""
        with no_collection():
            opsets = {o.domain: o.version for o in self.model.opset_import}
            main = self.graph(self.model.graph, opsets, lambda _: None)
            functions = [self.function(proto) for proto in self.model.functions]
        return main, functions, _shell(self.model, ("graph", "functions"))

    def graph(self, proto: GraphProto, opsets: dict[str, int], outer: Lookup) -> Graph:
        """Import a graph; *outer* finds the tensors of the graphs around it."""
        graph = Graph(name=proto.name, doc_string=proto.doc_string, ir_version=None)
        graph.source, graph.opsets = _shell(proto, _GRAPH_TENSORS), opsets
        graph.value_info = {info.name: info for info in proto.value_info}
        local: dict[str, Tensor] = {}
        declared = {info.name for info in proto.input}
        self._initializers(graph, proto, declared, local)
        for info in proto.input:
            tensor = local.get(info.name)
            if not isinstance(tensor, Constant):
                variable = local[info.name] = declare(tensor or Variable(info.name), info)
                graph.inputs.append(variable)
                tensor = variable
            else:
                tensor.value_info = info
            graph.input_order.append(tensor)
        types = {**graph.value_info, **{info.name: info for info in proto.output}}
        notes = proto.quantization_annotation
        graph.undefined_info = {*graph.value_info, *(note.tensor_name for note in notes)}
        self._nodes(graph, proto.node, types, local, outer)
        for info in proto.output:
            tensor = local.get(info.name) or outer(info.name)
            if tensor is None:
                tensor = local[info.name] = declare(Variable(info.name), info)
            graph.outputs.append(tensor)
        graph.output_info = list(proto.output)
        for note in notes:
            names = (entry.value for entry in note.quant_parameter_tensor_names)
            found = (local.get(name) or outer(name) for name in names)
            graph.annotated += [tensor for tensor in found if tensor is not None]
        return graph

    def function(self, proto: onnx.FunctionProto) -> Function:
        """Import the body of a local function."""
        body = Function(name=proto.name, doc_string=proto.doc_string)
        body.proto = _shell(proto, ("node", "value_info"))
        body.opsets = {o.domain: o.version for o in proto.opset_import}
        body.value_info = {info.name: info for info in proto.value_info}
        body.undefined_info = set(body.value_info)
        local: dict[str, Tensor] = {}
        for name in proto.input:
            local[name] = Variable(name)
            if name in body.value_info:
                declare(local[name], body.value_info[name])
            body.inputs.append(local[name])
        self._nodes(body, proto.node, body.value_info, local, lambda _: None)
        for name in proto.output:
            body.outputs.append(local.get(name) or local.setdefault(name, Variable(name)))
        return body

    def _initializers(
        self, graph: Graph, proto: GraphProto, declared: set[str], local: dict[str, Tensor]
    ) -> None:
        for tensor in proto.initializer:
            if tensor.name in declared and not self.fixed_initializers:
                made: Constant | Variable = Variable(tensor.name)
                made.default = tensor  # type: ignore[union-attr]
            else:
                made = Constant(tensor.name, Weight(tensor, self.store))
                made.source = tensor
                made.value_info = graph.value_info.get(tensor.name)
            local[tensor.name] = made
            graph.initializers.append(made)
        for sparse in proto.sparse_initializer:
            variable = Variable(sparse.values.name)
            variable.default = sparse
            local[variable.name] = variable
            graph.initializers.append(variable)

    def _nodes(
        self,
        graph: Graph,
        protos: Any,
        types: dict[str, ValueInfoProto],
        local: dict[str, Tensor],
        outer: Lookup,
    ) -> None:
        for proto in protos:  # before any subgraph, which may read what comes later
            value = self._constant_value(proto) if proto.op_type == "Constant" else None
            for name in proto.output:
                if not name or name in local:
                    continue
                if value is not None:
                    local[name] = Constant(name, value)
                    local[name].value_info = types.get(name)  # type: ignore[union-attr]
                    continue
                local[name] = Variable(name)
                if name in types:
                    declare(local[name], types[name])

        if not all(isinstance(name, str) for name in local):
            raise ModelError("the name of a tensor is not UTF-8")
        graph.undefined_info -= local.keys()

        def find(name: str) -> Tensor | None:
            return local.get(name) or outer(name)

        def read(name: str) -> Tensor:
            found = local.get(name)
            if found is None:
                if not name:
                    return Variable("")
                found = outer(name) or local.setdefault(name, Variable(name))
            return found

        for proto in protos:
            graph.nodes.append(self._node(graph, proto, local, read, find))

    def _node(
        self,
        graph: Graph,
        proto: NodeProto,
        local: dict[str, Tensor],
        read: Callable[[str], Tensor],
        find: Lookup,
    ) -> Node:
        node = Node.__new__(Node)
        inputs = g.linked(node, "outputs", map(read, proto.input))
        outputs = [local[name] if name else Variable("") for name in proto.output]
        g.put(
            node,
            op=proto.op_type,
            name=proto.name,
            domain=proto.domain if proto.HasField("domain") else None,
            source=proto,
            store=self.store,
            graph=graph,
            calls_function=bool(self.called) and (proto.domain, proto.op_type) in self.called,
            inputs=inputs,
            outputs=g.linked(node, "inputs", outputs),
        )
        for attribute in proto.attribute:
            if attribute.HasField("g") or attribute.graphs:
                node.attrs = {a.name: self._attribute(a, graph, find) for a in proto.attribute}
                break
        return node

    def _attribute(self, attribute: AttributeProto, around: Graph, find: Lookup) -> Any:
        if attribute.HasField("g"):
            return self.graph(attribute.g, around.opsets, find)
        if attribute.graphs:
            return [self.graph(proto, around.opsets, find) for proto in attribute.graphs]
        return g.decode(attribute, self.store)

    def _constant_value(self, proto: NodeProto) -> Any:
        """Return the value of a Constant node that can be read here and now, else None."""
        if proto.domain not in g.STANDARD_DOMAINS:
            return None
        if len(proto.attribute) != 1 or (proto.domain, "Constant") in self.called:
            return None
        (attribute,) = proto.attribute
        kind, dtype = _CONSTANT_FIELDS.get(attribute.name, (None, None))
        if attribute.ref_attr_name or g.attribute_kind(attribute) != kind:
            return None
        value = g.decode(attribute, self.store)
        if isinstance(value, Constant):
            return value._values
        return weights.spooled(np.array(value, dtype))


# Export -------------------------------------------------------------------------------------------


class Exporter:
    """Turns the graphs of one model back into messages."""

    def __init__(self, shell: ModelProto, store: Store) -> None:
        """Prepare to export under *shell*; large new arrays go to *store*."""
        self.shell, self.store = shell, store
        self.inline_constants = binds_initializers(shell)
        self.bound: set[Constant] = set()
        """New constants that even then are initializers, and inputs: no node can hold them."""

    def run(self, main: Graph, functions: list[Function]) -> ModelProto:
        """Return the model; its large weights are marks that *store* resolves."""
        model = ModelProto()
        model.CopyFrom(self.shell)
        with no_collection():
            self.made = _undeclared_constants(main, functions)
            self.bound = {
                constant
                for constant in self.made.get(main, [])
                if not constant_holds(constant.dtype, main.version)
            }
            self._graph(main, model.graph)
            model.graph.SetInParent()
            for function in functions:
                self._function(function, model.functions.add())
        return model

    def _graph(self, graph: Graph, proto: GraphProto) -> None:
        if graph.source is not None:
            proto.CopyFrom(graph.source)
        if graph.name != proto.name:
            proto.name = graph.name
        if (graph.doc_string or "") != proto.doc_string:
            proto.doc_string = graph.doc_string
        made = self.made.get(graph, [])
        if self.inline_constants:
            proto.node.extend(self._constant_node(c) for c in made if c not in self.bound)
            made = [constant for constant in made if constant in self.bound]
        self._nodes(graph, proto)
        self._initializers(graph, proto, made)
        self._interface(graph, proto)
        if self.inline_constants:
            proto.input.extend(map(value_info, made))
        self._value_info(graph, proto)
        self._annotations(graph, proto)

    def _nodes(self, graph: Graph, proto: Any) -> None:
        """Copy all messages in one call, then bring them up to date."""
        nodes, added = [node for node in graph.nodes if not node.erased], len(proto.node)
        proto.node.extend(_NO_NODE if node.source is None else node.source for node in nodes)
        for node, made in zip(nodes, itertools.islice(proto.node, added, None), strict=True):
            self._update(node, made, graph)

    def _initializers(self, graph: Graph, proto: GraphProto, made: list[Constant]) -> None:
        for tensor in graph.initializers:
            if isinstance(tensor, Constant):
                if is_live(tensor):
                    proto.initializer.append(self.tensor(tensor))
            elif isinstance(tensor.default, onnx.SparseTensorProto):
                proto.sparse_initializer.append(tensor.default)
            elif tensor.default is not None:
                proto.initializer.append(tensor.default)
        proto.initializer.extend(self.tensor(constant) for constant in made)

    def _interface(self, graph: Graph, proto: GraphProto) -> None:
        proto.input.extend(_input_info(graph))
        proto.output.extend(_output_info(graph))

    def _value_info(self, graph: Graph, proto: Any) -> None:
        """Declare types: those of the file in their order, then those that passes added."""
        known = {tensor.name for tensor in (*graph.inputs, *graph.outputs)}
        current: dict[str, Tensor] = {}
        for tensor in graph.initializers:
            if not isinstance(tensor, Constant) or is_live(tensor):
                current[tensor.name] = tensor
        for node in graph.nodes:
            if not node.erased:
                for tensor in node.outputs:
                    current[tensor.name] = tensor
        for name, info in graph.value_info.items():
            held = current.pop(name, None)
            if held is not None and is_redeclared(held):
                proto.value_info.append(value_info(held))
            elif held is not None or name in known or name in graph.undefined_info:
                proto.value_info.append(info)
        for name, tensor in current.items():
            typed = isinstance(tensor, Variable) and tensor.dtype is not None
            if typed and name and name not in known and tensor.source is not None:
                proto.value_info.append(value_info(tensor))

    def _annotations(self, graph: Graph, proto: GraphProto) -> None:
        """Leave out the annotations of tensors that are gone."""
        if not proto.quantization_annotation:
            return
        names = {name for node in proto.node for name in (*node.input, *node.output)}
        names.update(info.name for info in (*proto.input, *proto.output))
        names.update(tensor.name for tensor in proto.initializer)
        names.update(tensor.values.name for tensor in proto.sparse_initializer)
        names.update(graph.undefined_info)
        kept = [a for a in proto.quantization_annotation if a.tensor_name in names]
        if len(kept) != len(proto.quantization_annotation):
            del proto.quantization_annotation[:]
            proto.quantization_annotation.extend(kept)

    def _function(self, function: Function, proto: onnx.FunctionProto) -> None:
        proto.CopyFrom(function.proto)
        proto.node.extend(self._constant_node(c) for c in self.made.get(function, []))
        self._nodes(function, proto)
        inputs = [tensor.name for tensor in function.inputs]
        outputs = [tensor.name for tensor in function.outputs]
        for field, names in ((proto.input, inputs), (proto.output, outputs)):
            if list(field) != names:
                del field[:]
                field.extend(names)
        self._value_info(function, proto)

    def _constant_node(self, constant: Constant) -> NodeProto:
        node = NodeProto(op_type="Constant", output=[constant.name])
        attribute = node.attribute.add(name="value", type=AttributeProto.TENSOR)
        attribute.t.CopyFrom(self.tensor(constant, name=""))
        return node

    def tensor(self, constant: Constant, name: str | None = None) -> onnx.TensorProto:
        """Return a constant as a message: the one it came with, if neither value nor name moved."""
        name = constant.name if name is None else name
        stored = constant._values
        if not isinstance(stored, Weight):
            return weights.to_tensor(np.asarray(stored), name, self.store)
        if stored.tensor.name == name:
            return stored.tensor
        renamed = onnx.TensorProto()
        renamed.CopyFrom(stored.tensor)
        renamed.name = name
        if not name:
            renamed.ClearField("name")
        return renamed

    def node(self, node: Node, proto: NodeProto, graph: Graph) -> None:
        """Write *node*, which belongs to *graph*, to the empty *proto*."""
        if node.source is not None:
            proto.CopyFrom(node.source)
        self._update(node, proto, graph)

    def _update(self, node: Node, proto: NodeProto, graph: Graph) -> None:
        """Overwrite what changed since *node* came from its message, which *proto* repeats."""
        if node.op != proto.op_type:
            proto.op_type = node.op
        if (node.name or "") != proto.name:
            proto.name = node.name or ""
        if node.domain is not None and node.domain != proto.domain:
            proto.domain = node.domain
        for field, tensors in ((proto.input, node.inputs), (proto.output, node.outputs)):
            names = [tensor.name for tensor in tensors]
            if field != names:
                del field[:]
                field.extend(names)
        if node._attrs is not None:
            self._attributes(node, proto, graph)
        if node.op == "Constant" and any(getattr(t, "assigned", False) for t in node.outputs):
            del proto.attribute[:]
            proto.attribute.extend(self._constant_node(node.outputs[0]).attribute)

    def _attributes(self, node: Node, proto: NodeProto, graph: Graph) -> None:
        before = {a.name: a for a in node.source.attribute} if node.source is not None else {}
        unchanged = list(node.attrs) == list(before) and all(
            not _holds_graph(value) and _same(value, before[name], node.store)
            for name, value in node.attrs.items()
        )
        if unchanged:
            return
        made = [
            self._attribute(node, name, value, before.get(name), graph)
            for name, value in node.attrs.items()
        ]
        del proto.attribute[:]
        proto.attribute.extend(made)

    def _attribute(
        self, node: Node, name: str, value: Any, before: AttributeProto | None, graph: Graph
    ) -> AttributeProto:
        if _holds_graph(value):
            made = AttributeProto()
            if before is not None:
                made.CopyFrom(_shell(before, ("g", "graphs")))
            else:
                made.name = name
            if isinstance(value, Graph):
                made.type = AttributeProto.GRAPH if before is None else before.type
                self._graph(value, made.g)
                made.g.SetInParent()
            else:
                made.type = AttributeProto.GRAPHS if before is None else before.type
                for item in value:
                    self._graph(item, made.graphs.add())
            if before is not None and not before.HasField("type"):
                made.ClearField("type")
            return made
        if before is not None and _same(value, before, node.store):
            return before
        return self._new_attribute(node, name, value, graph)

    def _new_attribute(self, node: Node, name: str, value: Any, graph: Graph) -> AttributeProto:
        if isinstance(value, Opaque):
            return value.proto
        if isinstance(value, Constant):
            value = self.tensor(value)
        elif isinstance(value, np.ndarray):
            value = weights.to_tensor(value, "", self.store)
        if isinstance(value, (list, tuple)) and not value:
            kind = _schema_kind(node, name, graph)
            return helper.make_attribute(name, [], attr_type=kind)
        return helper.make_attribute(name, value)


def binds_initializers(shell: ModelProto) -> bool:
    """Say whether initializers must be inputs, so that new constants had better be nodes."""
    return 0 < shell.ir_version < _FIRST_IR_WITH_FREE_INITIALIZERS


def settle(main: Graph, functions: list[Function], inline: bool) -> None:
    """Give new constants the nodes that export would give them, for passes to see their size.

    Those are the constants of functions, and *inline*, all.
    """
    for graph, constants in _undeclared_constants(main, functions).items():
        if not (inline or isinstance(graph, Function)):
            continue
        for value in (c for c in constants if constant_holds(c.dtype, graph.version)):
            made = Node("Constant", "", {"value": Constant("", value._values)}, [], [])
            made.graph = graph
            made.outputs.append(value)
            graph.nodes.insert(0, made)


def is_live(constant: Constant) -> bool:
    """Say whether an initializer belongs in the file."""
    return not constant.dropped or bool(constant.outputs)


def _holds_graph(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return bool(value) and isinstance(value[0], Graph)
    return isinstance(value, Graph)


def _same(value: Any, proto: AttributeProto, store: Store) -> bool:
    """Say whether *value* is what *proto* decodes to."""
    if isinstance(value, Opaque):
        return value.proto is proto
    if isinstance(value, Constant):
        stored = value._values
        return isinstance(stored, Weight) and stored.tensor == proto.t
    decoded = g.decode(proto, store)
    return repr(decoded) == repr(value)  # not ==: NaN is itself, and 0.0 is not -0.0


def _schema_kind(node: Node, name: str, graph: Graph) -> int:
    try:
        schema = onnx.defs.get_schema(node.op, graph.version, node.domain or "")
        return int(schema.attributes[name].type.value)  # type: ignore[attr-defined]
    except (onnx.defs.SchemaError, KeyError):
        return int(AttributeProto.INTS)


def _input_info(graph: Graph) -> Iterator[ValueInfoProto]:
    waiting = dict.fromkeys(graph.inputs)
    for tensor in graph.input_order:
        if isinstance(tensor, Constant):
            if is_live(tensor) and tensor.value_info is not None:
                yield tensor.value_info
        elif tensor in waiting:
            del waiting[tensor]
            yield value_info(tensor)
    yield from map(value_info, waiting)


def _output_info(graph: Graph) -> Iterator[ValueInfoProto]:
    for tensor, info in itertools.zip_longest(graph.outputs, graph.output_info):
        if tensor is not None:
            keep = info is not None and info.name == tensor.name and not is_redeclared(tensor)
            yield info if keep else value_info(tensor)


def interface(graph: Graph) -> tuple[list[ValueInfoProto], list[ValueInfoProto]]:
    """Return the declarations of inputs, without fixed initializers, and of outputs."""
    names = {tensor.name for tensor in graph.inputs}
    return [i for i in _input_info(graph) if i.name in names], list(_output_info(graph))


def declared_interface(
    model: ModelProto,
) -> tuple[list[ValueInfoProto], list[ValueInfoProto]]:
    """Return what `interface` does, of a model that is not imported."""
    fixed: set[str] = set()
    if model.ir_version < _FIRST_IR_WITH_FREE_INITIALIZERS:
        fixed = {tensor.name for tensor in model.graph.initializer}
    return [i for i in model.graph.input if i.name not in fixed], list(model.graph.output)


def _undeclared_constants(main: Graph, functions: list[Function]) -> dict[Graph, list[Constant]]:
    """Return the constants that passes made, by the graph that shall declare them.

    That is the innermost graph around all readers of a constant: further out, its name may be that
    of another one.
    """
    made: dict[Graph, list[Constant]] = {}
    for root in (main, *functions):
        g.adopt(root)
        graphs = list(walk(root))
        declared = {tensor for graph in graphs for tensor in graph.initializers}
        paths: dict[Graph, tuple[Graph, ...]] = {root: (root,)}
        homes: dict[Constant, tuple[Graph, ...]] = {}
        for graph in graphs:
            for inner in (inner for node in graph.nodes for inner in node.subgraphs()):
                paths[inner] = (*paths[graph], inner)
            for tensor in _read_constants(graph):
                if tensor not in declared:
                    path = homes.setdefault(tensor, paths[graph])
                    if path[-1] is not graph:
                        homes[tensor] = _common(path, paths[graph])
        for constant, home in homes.items():
            made.setdefault(home[-1], []).append(constant)
    return made


def _common(a: tuple[Graph, ...], b: tuple[Graph, ...]) -> tuple[Graph, ...]:
    """Return what two paths from the outermost graph share."""
    shared = itertools.takewhile(lambda pair: pair[0] is pair[1], zip(a, b, strict=False))
    return tuple(graph for graph, _ in shared)


def _read_constants(graph: Graph) -> Iterator[Constant]:
    for node in graph.nodes:
        if not node.erased:
            for tensor in node.inputs:
                if isinstance(tensor, Constant) and not tensor.inputs:
                    yield tensor
    for tensor in graph.outputs:
        if isinstance(tensor, Constant) and not tensor.inputs:
            yield tensor


def check_definitions(main: Graph, functions: list[Function]) -> None:
    """Raise ModelError when a tensor is read but not defined, or defined twice."""
    for root in (main, *functions):
        graphs = list(walk(root))
        defined = {t for graph in graphs for t in (*graph.inputs, *graph.initializers)}
        for graph in graphs:
            for node in graph.nodes:
                for tensor in node.inputs:
                    free = tensor.name and not tensor.inputs and tensor not in defined
                    if free and not isinstance(tensor, Constant):  # those are declared on export
                        raise ModelError(
                            f"node {node.name or node.op!r} reads {tensor.name!r}, which nothing "
                            "defines; the file may be cut short"
                        )
                for tensor in node.outputs:
                    if len(tensor.inputs) > 1 or tensor in defined:
                        raise ModelError(f"tensor {tensor.name!r} is defined more than once")
            for tensor in graph.outputs:
                if not tensor.inputs and tensor not in defined:
                    raise ModelError(
                        f"output {tensor.name!r} is computed by no node; the file may be cut short"
                    )
