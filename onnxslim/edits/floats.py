"""Another float type: a model computes in half precision instead of single, or back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
from onnx import AttributeProto, SparseTensorProto, TensorProto

from onnxslim import shapes
from onnxslim.edits.kept import is_always_single, is_stored_half, note_kept
from onnxslim.edits.types import (
    TYPE_ATTRIBUTES,
    Types,
    element,
    formal,
    has_casts,
    is_standard,
    named_type,
    schema_of,
    type_name,
)
from onnxslim.errors import InputError
from onnxslim.ir import (
    Array,
    Constant,
    Graph,
    Model,
    Names,
    Node,
    Opaque,
    Tensor,
    Variable,
    change_elem_type,
    elem_type,
    erase,
    numpy_type,
    producer,
    replace_uses,
    retype,
    set_input,
    set_output,
    walk,
    with_elem_type,
)

Float = Literal["fp16", "fp32"]

_ELEM: dict[str, int] = {"fp16": TensorProto.FLOAT16, "fp32": TensorProto.FLOAT}
_UNSUITED = "no rules or kernels for the other type"


class Conversion(NamedTuple):
    """What a conversion did."""

    changed: bool
    notes: list[str]


def convert_floats(model: Model, dtype: Float, keep_io_types: bool = False) -> Conversion:
    """Compute in another float type: ``fp16`` for what was single precision, ``fp32`` for halves.

    Weights, types and attributes change, in subgraphs and functions too. What cannot be computed in
    the other type, and what would overflow in it, stays as it was between Casts. *keep_io_types*
    leaves the types of inputs and outputs alone. The result is another function: the notes say what
    was done. Raises InputError for sequences where only a tensor can be cast.
    """
    if dtype not in _ELEM:
        raise InputError(f"no float type is called {dtype!r}; choose fp16 or fp32")
    return _Rewriter(model, dtype, keep_io_types).run()


class _Rewriter:
    """One conversion of one model; answers the questions of the rules in `edits.kept`."""

    def __init__(self, model: Model, dtype: Float, keep_io: bool) -> None:
        model.sort()
        self.model, self.dtype, self.keep_io = model, dtype, keep_io
        self.to_half = dtype == "fp16"
        self.old_elem, self.new_elem = _ELEM["fp32" if self.to_half else "fp16"], _ELEM[dtype]
        self.old, self.new = type_name(self.old_elem), type_name(self.new_elem)
        self.types = Types(model, shapes.infer(model))
        self.constants = _Constants(self.old_elem, self.new_elem)
        self.apart: set[Tensor] = set()
        """Tensors that keep the old type."""
        self.kept: dict[Node, str] = {}
        """Nodes that compute in the old type, and why."""
        self.original: dict[Tensor, Tensor] = {}
        """What tensors were cast from, that some node computes in the old type."""
        self.casts: dict[tuple[Tensor, Graph], Tensor] = {}
        self.stays: Counter[tuple[str, str]] = Counter()

    def run(self) -> Conversion:
        """Convert the model."""
        bodies = [body for body in self.types.called if body not in self.types.frozen]
        roots: list[Graph] = [self.model.graph, *bodies]
        floats = any(self.is_old(tensor) for root in roots for tensor in _all_tensors(root))
        if not floats or not has_casts(self.model.graph):
            return Conversion(False, [f"there is nothing to convert to {self.dtype}"])
        head, tail = (self._keep_inputs(), self._keep_outputs()) if self.keep_io else ([], [])
        graphs = [graph for root in roots for graph in walk(root)]
        for graph in graphs if self.to_half else ():
            note_kept(graph, self, self.kept)
        for root in roots:
            self._graph(root)
        self.model.graph.nodes = [*head, *self.model.graph.nodes, *self._joined(tail)]
        self.constants.convert(self.model.names)
        for graph in graphs:
            self._declarations(graph)
        self._drop_unread_casts()
        self.model.compact()
        self.model.sort()
        self.model.pristine = False
        return Conversion(True, self._notes())

    # What may change

    def is_old(self, tensor: Tensor) -> bool:
        """Say whether *tensor* has the type that shall go."""
        return tensor not in self.apart and element(self.types[tensor]) == self.old

    def is_cast(self, tensor: Tensor) -> bool:
        """Say whether *tensor* is computed in the old type and cast to the new one."""
        source = producer(tensor)
        if tensor in self.original or source is None or not self.is_old(tensor):
            return tensor in self.original
        return not self._accepts(source, source.outputs, source.outputs.index(tensor))

    def converts(self, node: Node, slot: int) -> bool:
        """Say whether the input of *node* may have the new type."""
        return self._accepts(node, node.inputs, slot)

    def _accepts(self, node: Node, tensors: Sequence[Tensor], slot: int) -> bool:
        """Say whether the operand in *slot* of *tensors*, of *node*, may have the new type."""
        if node.calls_function:
            return self.types.frozen.isdisjoint(self.types.bodies(node))
        if not is_standard(node) or self._reason(node):
            return False
        schema = schema_of(node)
        if schema is None or (node.op == "Constant" and tensors is node.outputs):
            return False
        parameter = formal(schema.inputs if tensors is node.inputs else schema.outputs, slot)
        wanted = self.types[tensors[slot]].replace(self.old, self.new)
        return parameter is not None and wanted in parameter.types

    def _reason(self, node: Node) -> str:
        """Return why the standard operator of *node* stays as it is; "" where it does not."""
        fixed = is_always_single(node) if self.to_half else node.op == "BitCast"
        return self.kept.get(node, _UNSUITED if fixed else "")

    # Nodes

    def _graph(self, graph: Graph) -> None:
        nodes: list[Node] = []
        for node in list(graph.nodes):
            if node.op == "Constant" and isinstance(node.outputs[0], Constant):
                nodes.append(node)  # its readers decide
            else:
                self._node(node, graph, nodes)
        graph.nodes = nodes
        for tensor in graph.outputs:
            if isinstance(tensor, Constant) and self.is_old(tensor):
                self.constants.change(tensor)

    def _node(self, node: Node, graph: Graph, nodes: list[Node]) -> None:
        """Convert *node* of *graph*, and append it to *nodes* with the Casts that it needs."""
        closed = bool(list(node.subgraphs())) and not is_standard(node)
        if closed:
            self._close(node, graph, nodes)
        old = [slot for slot, tensor in enumerate(node.inputs) if self.is_old(tensor)]
        made = [slot for slot, tensor in enumerate(node.outputs) if self.is_old(tensor)]
        staying = [slot for slot in old if not self.converts(node, slot)]
        cast = [slot for slot in made if not self._accepts(node, node.outputs, slot)]
        if len(staying) + len(cast) == len(old) + len(made) > 0:
            self.stays[self._reason(node) or _UNSUITED, node.operator] += 1
        for slot in old:
            if slot in staying:
                self._keep_input(node, slot, graph, nodes)
            elif isinstance(node.inputs[slot], Constant):
                self.constants.change(node.inputs[slot])
        nodes.append(node)
        for slot in cast:
            nodes.append(self._cast_output(node, slot, graph))
        if not closed:
            self._inside(node, graph)

    def _keep_input(self, node: Node, slot: int, graph: Graph, nodes: list[Node]) -> None:
        tensor = node.inputs[slot]
        if not isinstance(tensor, Constant):
            set_input(node, slot, self._in_old(tensor, graph, nodes))
        elif is_stored_half(node) and node not in self.kept:
            self.constants.change(tensor)
            set_input(node, slot, self._in_old(tensor, graph, nodes))
        else:
            self.constants.keep(tensor, node, slot)

    def _cast_output(self, node: Node, slot: int, graph: Graph) -> Node:
        tensor = node.outputs[slot]
        made = self.original[tensor] = self._apart(tensor)
        set_output(node, slot, made)
        return self._cast(made, tensor, self.new_elem, graph)

    def _close(self, node: Node, graph: Graph, nodes: list[Node]) -> None:
        """Keep the subgraphs of *node*, of whose operator nobody knows how it works otherwise."""
        inner = [item for outer in node.subgraphs() for item in walk(outer)]
        for item in inner:
            self.apart.update(item.inputs, item.initializers, *(n.outputs for n in item.nodes))
        for item in inner:
            for reader in item.nodes:
                for slot, tensor in enumerate(reader.inputs):
                    if self.is_old(tensor):
                        self._keep_input(reader, slot, graph, nodes)
            item.outputs = [
                self._in_old(t, graph, nodes) if self.is_old(t) else t for t in item.outputs
            ]

    def _inside(self, node: Node, graph: Graph) -> None:
        """Convert what *node* holds, except where it stays as it is."""
        for inner in node.subgraphs():
            self._graph(inner)
        if not is_standard(node) or self._reason(node):
            return
        for name in TYPE_ATTRIBUTES if node.op != "Constant" else ():
            if named_type(node.attr(name)) == self.old:
                node.attrs[name] = _spelled(self.new_elem, graph)
        if node.op == "ConstantOfShape":
            self._fill(node)
        elif node.op == "SequenceEmpty" and self.to_half:
            node.attrs.setdefault("dtype", self.new_elem)
        elif node.op == "Optional" and isinstance(node.attr("type"), Opaque):
            changed = AttributeProto()
            changed.CopyFrom(node.attrs["type"].proto)
            change_elem_type(changed.tp, self.old_elem, self.new_elem)
            node.attrs["type"] = Opaque(changed)

    def _fill(self, node: Node) -> None:
        value = node.attr("value", np.zeros(1, np.float32))
        if elem_type(value.dtype) == self.old_elem:
            values = getattr(value, "values", value)
            node.attrs["value"] = values.astype(numpy_type(self.new_elem))

    # Casts

    def _cast(self, tensor: Tensor, result: Tensor, elem: int, graph: Graph) -> Node:
        kind = self.types[tensor]
        if kind != self.old:
            raise InputError(
                f"the type of {tensor.name!r}, {kind}, would have to be cast, and only tensors can "
                "be; convert without keep_io_types, or cut the model there"
            )
        node = Node("Cast", "", {"to": _spelled(elem, graph)}, [tensor], [result])
        node.graph = graph
        return node

    def _like(self, tensor: Tensor) -> Variable:
        made = Variable(self.model.names.fresh(tensor.name))
        self.types.of[made] = self.types[tensor]
        return made

    def _apart(self, tensor: Tensor) -> Variable:
        made = self._like(tensor)
        self.apart.add(made)
        return made

    def _in_old(self, tensor: Tensor, graph: Graph, nodes: list[Node]) -> Tensor:
        """Return *tensor* in the old type, for a node of *graph* that comes after *nodes*."""
        if tensor in self.original:
            return self.original[tensor]
        key = tensor, graph
        if key not in self.casts:
            self.casts[key] = self._apart(tensor)
            nodes.append(self._cast(tensor, self.casts[key], self.old_elem, graph))
        return self.casts[key]

    def _drop_unread_casts(self) -> None:
        pinned = self.model.pinned()
        unread = [t for t in self.original if not t.outputs and id(t) not in pinned]
        erase([source for source in map(producer, unread) if source is not None], pinned)

    # Interface

    def _keep_inputs(self) -> list[Node]:
        """Let everybody read the inputs through Casts; return these."""
        graph, casts = self.model.graph, list[Node]()
        for tensor in filter(self.is_old, list(graph.inputs)):
            inner = self._like(tensor)
            self._replace(tensor, inner)
            casts.append(self._cast(tensor, inner, self.new_elem, graph))
            self.original[inner] = tensor
            self.apart.add(tensor)
        return casts

    def _keep_outputs(self) -> list[Node]:
        """Let Casts compute the outputs; return these."""
        graph, casts = self.model.graph, list[Node]()
        for tensor in filter(self.is_old, dict.fromkeys(graph.outputs)):
            source = producer(tensor)
            if isinstance(tensor, Constant):
                self._keep_constant_output(tensor)
            elif source is not None:
                inner = self._like(tensor)
                set_output(source, source.outputs.index(tensor), inner)
                self._replace(tensor, inner)
                casts.append(self._cast(inner, tensor, self.old_elem, graph))
                self.apart.add(tensor)
        return casts

    def _keep_constant_output(self, constant: Constant) -> None:
        """Let everybody else read a twin of *constant*, which is an output."""
        if constant.outputs:
            self._replace(constant, constant.twin(self.model.names.fresh(constant.name)))
        self.apart.add(constant)

    def _joined(self, tail: list[Node]) -> Iterator[Node]:
        """Yield the Casts to outputs but those of what nodes compute in the old type anyway."""
        for cast in tail:
            (inner,), (tensor,) = cast.inputs, cast.outputs
            made = self.original.get(inner)
            source = None if made is None else producer(made)
            if made is None or source is None:
                yield cast
                continue
            set_input(cast, 0, Variable(""))
            set_output(cast, 0, Variable(""))
            set_output(source, source.outputs.index(made), tensor)
            self._replace(made, tensor)
            self.original[inner] = tensor

    def _replace(self, old: Tensor, new: Tensor) -> None:
        """Let every reader of *old* read *new*, but for the outputs of the main graph."""
        replace_uses(old, new)
        for inner in walk(self.model.graph):
            if inner is not self.model.graph:
                inner.outputs = [new if tensor is old else tensor for tensor in inner.outputs]

    # Declarations

    def _declarations(self, graph: Graph) -> None:
        made = (tensor for node in graph.nodes for tensor in node.outputs)
        declared = {t.name: t for t in (*graph.inputs, *graph.initializers, *made, *graph.outputs)}
        moved = {name for name, tensor in declared.items() if self._moved(tensor)}
        for name in moved:
            tensor = declared[name]
            if isinstance(tensor, Variable):
                retype(tensor, self.old_elem, self.new_elem)
                self._convert_default(tensor)
            if name in graph.value_info:
                info = graph.value_info[name]
                graph.value_info[name] = with_elem_type(info, self.old_elem, self.new_elem)
        graph.output_info = [
            with_elem_type(info, self.old_elem, self.new_elem) if info.name in moved else info
            for info in graph.output_info
        ]

    def _moved(self, tensor: Tensor) -> bool:
        if isinstance(tensor, Constant):
            return tensor in self.constants.changed
        return self.is_old(tensor)

    def _convert_default(self, tensor: Variable) -> None:
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
        values = self.constants.converted(self.model.decoded(tensor), tensor.name)
        return self.model.encoded(values, tensor.name)

    def _notes(self) -> list[str]:
        effect = "lossy: weights and results are rounded" if self.to_half else "weights are widened"
        notes = [f"{self.dtype}: {self.constants.count:,} constant values converted; {effect}"]
        for reason in dict.fromkeys(reason for reason, _ in sorted(self.stays)):
            nodes = sorted((op, n) for (why, op), n in self.stays.items() if why == reason)
            listed = ", ".join(f"{n} x {op}" for op, n in nodes)
            notes.append(f"{self.dtype}: still {self.old[7:-1]}, {reason}: {listed}")
        if self.types.frozen:
            names = _listed(sorted(str(body.name) for body in self.types.frozen))
            notes.append(f"{self.dtype}: functions whose types differ by call stay: {names}")
        if self.constants.clamped:
            notes.append(f"{self.dtype}: clamped to ±65504: {_listed(self.constants.clamped)}")
        return notes


class _Constants:
    """The constants of a conversion: which of them change, and who reads them unchanged."""

    def __init__(self, old: int, new: int) -> None:
        self.old, self.new = old, new
        self.changed: dict[Constant, None] = {}
        self.old_readers: dict[Constant, list[tuple[Node, int]]] = {}
        self.clamped: list[str] = []
        self.count = 0

    def change(self, constant: Constant) -> None:
        """Convert *constant*, at the end."""
        self.changed[constant] = None

    def keep(self, constant: Constant, node: Node, slot: int) -> None:
        """Let *node* read *constant* as it is."""
        self.old_readers.setdefault(constant, []).append((node, slot))

    def convert(self, names: Names) -> None:
        """Convert what changes; those who read it as it was get a twin."""
        for constant in self.changed:
            readers = self.old_readers.get(constant, [])
            if readers:
                twin = constant.twin(names.fresh(constant.name))
                for node, slot in readers:
                    set_input(node, slot, twin)
            self.count += constant.size
            constant.values = self.converted(constant.values, constant.name)
            if constant.value_info is not None:
                constant.value_info = with_elem_type(constant.value_info, self.old, self.new)

    def converted(self, values: Array, name: str) -> Array:
        """Return *values* in the new type; what would overflow is clamped."""
        with np.errstate(over="ignore", invalid="ignore"):
            converted: Array = values.astype(numpy_type(self.new))
            if (
                self.new == TensorProto.FLOAT16
                and (np.isinf(converted) & np.isfinite(values)).any()
            ):
                limit = np.finfo(np.float16).max
                finite = np.clip(values, -limit, limit).astype(np.float16)
                converted = np.where(np.isfinite(values), finite, converted)
                self.clamped.append(name)
        return converted


def _spelled(elem: int, graph: Graph) -> int | str:
    """Return how an attribute of Cast names a type: before opset 6 by its name."""
    return elem if graph.version >= 6 else TensorProto.DataType.Name(elem)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _all_tensors(root: Graph) -> Iterator[Tensor]:
    for graph in walk(root):
        yield from (*graph.inputs, *graph.initializers, *graph.outputs)
        for node in graph.nodes:
            yield from (*node.inputs, *node.outputs)
