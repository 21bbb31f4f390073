"""Inlining: what a node holds or calls takes its place.

`absorb` moves the nodes of a subgraph into the graph around it, `Call` copies the body of a local
function; both return the nodes to put where the node was, which is erased.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto

from onnxslim.errors import Declined
from onnxslim.ir import graph as g
from onnxslim.ir.graph import Constant, Function, Graph, Node, Opaque, Tensor, Variable, absent
from onnxslim.ir.model import Model, Names
from onnxslim.ir.surgery import erase, replace_producer, replace_uses, walk
from onnxslim.ir.weights import Array, Store

_UNSET = object()
_VALUES = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}


class Scope(Names):
    """The names in a graph and all graphs inside it.

    A clash of tensors is resolved by another name; of two nodes of one name, which onnxruntime does
    not load, one loses it.
    """

    def __init__(self, model: Model, root: Graph) -> None:
        """Note which names occur below *root*, and how many tensors bear each."""
        tensors = {t for graph in walk(root) for t in _tensors(graph)}
        self.count = Counter(tensor.name for tensor in tensors)
        for graph in walk(root):
            self.count.update((*graph.value_info.keys(), *graph.undefined_info))
        self.nodes = Counter(n.name for graph in walk(root) for n in graph.nodes if n.name)
        super().__init__(lambda: set(self.count))
        self._everywhere = model.names

    def fresh(self, hint: str) -> str:
        """Return *hint* if it is free here, else a new name like it."""
        found = super().fresh(hint)
        self._everywhere.take(found)
        return found

    def make_unique(self, tensor: Tensor, declared: Iterable[str]) -> None:
        """Rename *tensor* if another bears its name; *declared* names count twice for it."""
        if self.count[tensor.name] > 1 + (tensor.name in declared):
            self.count[tensor.name] -= 1
            tensor.name = self.fresh(tensor.name)

    def make_node_unique(self, node: Node, is_counted: bool) -> None:
        """Take the name of *node* away if another bears it; say whether it counts already."""
        if self.nodes[node.name] > is_counted:
            self.nodes[node.name] -= is_counted
            node.name = ""
        elif not is_counted:
            self.nodes[node.name] += bool(node.name)


def _tensors(graph: Graph) -> Iterable[Tensor]:
    yield from (*graph.inputs, *graph.outputs, *graph.initializers)
    for node in graph.nodes:
        yield from (*node.inputs, *node.outputs)


# Subgraphs ----------------------------------------------------------------------------------------


def absorb(
    node: Node, body: Graph, actual: Sequence[Tensor], scope: Scope, pinned: frozenset[int]
) -> list[Node]:
    """Replace *node* by the nodes of its subgraph *body*, whose inputs become *actual*.

    Raises Declined, before anything is touched, for bodies whose tensors cannot be moved.
    """
    graph = node.graph
    assert graph is not None
    if any(isinstance(tensor, Variable) for tensor in body.initializers):
        raise Declined("the body holds sparse or overridable initializers")
    if body.source is not None and body.source.quantization_annotation:
        raise Declined("the body holds quantization annotations")
    for inner, outer in zip(body.inputs, actual, strict=True):
        replace_uses(inner, outer)
    stands_for = dict(zip(body.inputs, actual, strict=True))
    results = [stands_for.get(tensor, tensor) for tensor in body.outputs]
    own = [*body.initializers, *(t for item in body.nodes for t in item.outputs if t.name)]
    for tensor in own:
        scope.make_unique(tensor, body.value_info)
    for item in body.nodes:
        item.graph = graph
        scope.make_node_unique(item, is_counted=True)
    graph.initializers += body.initializers
    nodes = [item for item in body.nodes if not item.erased]
    body.nodes, body.outputs, body.initializers = [], [], []
    inside = pinned - {id(tensor) for tensor in own}
    nodes += _hand_over(node, results, set(nodes), inside)
    erase([node], inside)
    return nodes


def _hand_over(
    node: Node, results: Sequence[Tensor], made: set[Node], pinned: frozenset[int]
) -> list[Node]:
    """Let *results* take the place of the outputs of *node*; return the Identity nodes it takes."""
    added: list[Node] = []
    moved: dict[Tensor, Tensor] = {}
    for slot, (old, result) in enumerate(zip(list(node.outputs), results, strict=False)):
        new = moved.get(result, result)
        source = new.inputs[0] if new.inputs else None
        if not old.name:
            continue
        if id(old) not in pinned:
            replace_uses(old, new)
        elif source in made and not isinstance(new, Constant) and id(new) not in pinned:
            replace_producer(old, new, source)
            moved[new] = old
        else:
            node.outputs[slot] = absent()
            copy = Node("Identity", "", {}, [new], [old])
            copy.graph = node.graph
            added.append(copy)
    return added


# Functions ----------------------------------------------------------------------------------------


class Call:
    """One call of a local function, about to be replaced by a copy of the function's body."""

    def __init__(self, node: Node, function: Function, scope: Scope) -> None:
        """Prepare to copy *function* to where *node* calls it."""
        assert node.graph is not None
        self.node, self.function, self.scope = node, function, scope
        self.graph: Graph = node.graph
        given = [*node.inputs, *(absent() for _ in function.inputs)]
        self._map: dict[Tensor, Tensor] = dict(zip(function.inputs, given, strict=False))
        self._defaults = {a.name: a for a in function.proto.attribute_proto}

    def refusal(self) -> str | None:
        """Say why this call cannot be replaced, if it cannot."""
        for graph in walk(self.function):
            if any(isinstance(tensor, Variable) for tensor in graph.initializers):
                return "the function holds sparse initializers"
            for item in graph.nodes:
                reason = _other_meaning(item, self.function, self.graph)
                if reason is not None:
                    return reason
        if self.node.subgraphs():
            return "the call hands a graph to the function"
        return None

    def replace(self, pinned: frozenset[int]) -> list[Node]:
        """Copy the body and erase the call; return the copies."""
        results = {}
        for inner, outer in zip(self.function.outputs, self.node.outputs, strict=False):
            computed = inner.inputs and not isinstance(inner, Constant) and inner not in self._map
            if outer.name and computed:  # the copy computes the result under its name
                self._map[inner] = outer
                list.clear(outer.inputs)
            elif outer.name:
                results[outer] = inner
        made = [self._copy(item, self.graph) for item in self.function.nodes if not item.erased]
        given = list(self.node.outputs)
        for slot, outer in enumerate(given):
            if outer not in results and outer.name:
                list.__setitem__(self.node.outputs, slot, absent())
        found = [self._tensor(results[o]) if o in results else o for o in given]
        made += _hand_over(self.node, found, set(), pinned)
        erase([self.node], pinned)
        return made

    # Copies

    def _copy(self, item: Node, graph: Graph) -> Node:
        inputs = [self._tensor(tensor) for tensor in item.inputs]
        outputs = [self._tensor(tensor) for tensor in item.outputs]
        resolved = {name: self._value(name, value, graph) for name, value in item.attrs.items()}
        attrs = {name: value for name, value in resolved.items() if value is not _UNSET}
        node = Node(item.op, item.name, attrs, inputs, outputs, item.domain)
        node.graph, node.source, node.calls_function = graph, item.source, item.calls_function
        self.scope.make_node_unique(node, is_counted=False)
        if item.source is not None:
            node.store = item.store
        if node.operator == "Constant":
            _know_value(node)
        return node

    def _tensor(self, tensor: Tensor) -> Tensor:
        """Return what stands for a tensor of the function where it is called."""
        if not tensor.name:
            return absent()
        found = self._map.get(tensor)
        if found is None:
            name = self.scope.fresh(tensor.name)
            found = self._map[tensor] = _renamed(tensor, name)
        return found

    def _value(self, name: str, value: Any, graph: Graph) -> Any:
        """Return what an attribute of a node in the function is for this call."""
        if isinstance(value, Graph):
            return self._subgraph(value, graph)
        if isinstance(value, (list, tuple)) and value and isinstance(value[0], Graph):
            return [self._subgraph(item, graph) for item in value]
        if not isinstance(value, Opaque) or not value.proto.ref_attr_name:
            return value
        asked = value.proto.ref_attr_name
        given = self.node.attrs.get(asked, _UNSET)
        if given is _UNSET and asked in self._defaults:
            given = g.decode(self._defaults[asked], Store())
        if isinstance(given, Opaque):
            proto = AttributeProto()
            proto.CopyFrom(given.proto)
            proto.name = name
            return Opaque(proto)
        return given

    def _subgraph(self, body: Graph, around: Graph) -> Graph:
        made = Graph(name=body.name, doc_string=body.doc_string)
        made.source, made.opsets = body.source, around.opsets
        made.inputs = [_declared_like(self._tensor(t), t) for t in body.inputs]
        made.input_order = [self._tensor(tensor) for tensor in body.input_order]
        made.initializers = [self._tensor(tensor) for tensor in body.initializers]
        made.nodes = [self._copy(item, made) for item in body.nodes if not item.erased]
        made.outputs = [_declared_like(self._tensor(t), t) for t in body.outputs]
        return made


def _renamed(tensor: Tensor, name: str) -> Tensor:
    if isinstance(tensor, Constant):
        return Constant(name, tensor._values)
    return Variable(name)


def _declared_like(copy: Tensor, tensor: Tensor) -> Tensor:
    """Give *copy* the declared type of *tensor*."""
    if isinstance(copy, Variable) and isinstance(tensor, Variable) and copy.source is None:
        g.put(copy, dtype=tensor.dtype, shape=tensor.shape, type=tensor.type)
        g.put(copy, source=tensor.source, seen=tensor.seen)
    return copy


def _know_value(node: Node) -> None:
    """Turn the output of a Constant node into a constant, if an attribute has become its value."""
    (tensor,) = node.outputs
    if isinstance(tensor, Constant) or len(node.attrs) != 1:
        return
    ((name, value),) = node.attrs.items()
    found: Array | None = None
    if name == "value" and isinstance(value, Constant):
        found = value.values
    elif name in _VALUES and not isinstance(value, Opaque):
        found = np.asarray(value, _VALUES[name])
    if found is not None:
        tensor.to_constant(found)


def _other_meaning(node: Node, function: Function, graph: Graph) -> str | None:
    """Say why *node* of *function* would not mean the same in *graph*, if that is so."""
    domain = node.domain or ""
    inside, outside = _version(function, domain), _version(graph, domain)
    if outside is None:
        return f"the model does not import the domain {domain!r} that the function uses"
    if inside == outside or node.calls_function:
        return None
    try:
        versions = {
            onnx.defs.get_schema(node.op, v or 1, domain).since_version for v in (inside, outside)
        }
    except onnx.defs.SchemaError:
        versions = set()
    if len(versions) == 1:
        return None
    return f"{node.op} of opset {inside} in the function is another than that of opset {outside}"


def _version(graph: Graph, domain: str) -> int | None:
    aliases = ("", "ai.onnx") if domain in g.STANDARD_DOMAINS else (domain,)
    return next((graph.opsets[name] for name in aliases if name in graph.opsets), None)
