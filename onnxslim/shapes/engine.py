"""One walk over the graphs, in order: what ONNX inferred, refined by rules on expressions."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, TypeProto, helper, numpy_helper

from onnxslim.ir import Graph, Model, Node, Tensor, producer
from onnxslim.shapes import dims, equations, expr, failures, inferred, sequences, values
from onnxslim.shapes.equations import Solution
from onnxslim.shapes.expr import Expr
from onnxslim.shapes.inferred import Dim, Inferred, Type
from onnxslim.shapes.site import (
    FLOATS,
    INTEGERS,
    TRACKED,
    Known,
    Loose,
    Shape,
    Site,
    Unknown,
    Value,
    is_small,
)

_NONE: Mapping[Tensor, bool] = MappingProxyType({})
_MOST_FORKS = 8
"""Conditions that are tried: each takes as long as two inferences."""
_MALFORMED = (Unknown, ArithmeticError, LookupError, TypeError, ValueError)
"""What a rule raises when it cannot say anything, or meets a node that no runtime would accept."""


def run(model: Model, trust_names: bool = False, skeleton: onnx.ModelProto | None = None) -> Known:
    """Return what is known of the tensors of *model*; see `onnxslim.shapes.infer`."""
    start = inferred.infer(model, trust_names, skeleton)
    names = {text: expr.name(text) for text in start.names}
    sure: dict[Tensor, bool] = {}
    solution = Solution()
    while True:  # what turns out equal can prove more; every round has fewer atoms
        engine = Engine(start, names, sure, solution)
        engine.graph(model.graph)
        if equations.solve(engine.known.equations, model.graph, solution):
            continue
        forced = _forced(engine, model.graph)
        if not forced:
            return engine.known
        sure = {**sure, **forced}


def _forced(engine: Engine, graph: Graph) -> dict[Tensor, bool]:
    """Return conditions that must hold, or must not, since a node would fail otherwise.

    Nodes of the same graph prove it, which are computed whenever the condition is.
    """
    found: dict[Tensor, bool] = {}
    for node, condition in engine.forks[:_MOST_FORKS]:
        assert node.graph is not None
        computed = equations.always_computed(node.graph)
        if computed.isdisjoint(engine.doubtful):
            continue
        wrong = []
        for value in (True, False):
            trial = engine.supposing({**found, condition: value})
            trial.graph(graph)
            if not computed.isdisjoint(trial.failing - engine.failing):
                wrong.append(value)
        if len(wrong) == 1:
            found[condition] = not wrong[0]
    return found


class Engine:
    """Adds to what is known, node by node."""

    def __init__(
        self,
        start: Inferred,
        names: Mapping[str, Expr],
        sure: Mapping[Tensor, bool] = _NONE,
        solution: Solution | None = None,
    ) -> None:
        """Start from what ONNX found out, with *names* for the dimensions of the inputs.

        The conditions in *sure* are what is said there, and *solution* tells what is equal.
        """
        self.known, self._inferred, self._sure = Known(), start, sure
        self._solution = Solution() if solution is None else solution
        self.forks: list[tuple[Node, Tensor]] = []
        """Ifs whose branches give tensors of different ranks, and their conditions."""
        self.failing: set[Node] = set()
        self.doubtful: set[Node] = set()
        """Nodes that fail for the ranks of what they read, and those that may."""
        self._given, self._names = names, dict(names)
        self._spelled: dict[str, Expr] = {}
        self._sharper: set[Tensor] = set()
        """Tensors of which more is known than ONNX knew when it looked at their readers."""

    def supposing(self, sure: Mapping[Tensor, bool]) -> Engine:
        """Return an engine that starts from the same, but is told more conditions."""
        return Engine(self._inferred, self._given, {**self._sure, **sure}, self._solution)

    def graph(self, graph: Graph) -> None:
        """Look at every node of *graph*."""
        for tensor in (*graph.inputs, *graph.initializers):
            self._note(tensor, None)
        for node in graph.nodes:
            if not node.erased:
                self._node(node)

    def _node(self, node: Node) -> None:
        for inner in node.subgraphs():
            self.graph(inner)
        if node.operator in inferred.REPEATED:
            self._repeated(node)
        elif node.operator == "If":
            self._if(node)
        else:
            self._plain(node)

    def _plain(self, node: Node) -> None:
        site, operator = Site(node, self.known), node.operator
        if operator in failures.RULES:
            if failures.RULES[operator](site):
                self.failing.add(node)
            elif failures.is_doubtful(site):
                self.doubtful.add(node)
        if operator in sequences.RULES:
            with contextlib.suppress(*_MALFORMED):
                self.known.sequences[node.outputs[0]] = sequences.RULES[operator](site)
        if all(self._is_settled(tensor) for tensor in node.outputs):
            shapes: Sequence[Loose | None] = []
        else:
            shapes = self._shapes(site, dims.RULES.get(operator))
        for index, tensor in enumerate(node.outputs):
            self._note(tensor, shapes[index] if index < len(shapes) else None)
            if tensor in self._sure:
                self._assume(tensor)
        if operator in values.RULES and node.outputs[0] not in self._sure:
            self._follow(site, values.RULES[operator])

    def _assume(self, condition: Tensor) -> None:
        """Note what a condition is."""
        shape = self.known.shape(condition)
        if shape is not None and is_small(shape):
            value: Value = np.empty(math.prod(map(int, shape)), object)  # type: ignore[arg-type]
            value[:] = self._sure[condition]
            self.known.values[condition] = value.reshape(shape)  # type: ignore[arg-type]

    def _is_settled(self, tensor: Tensor) -> bool:
        """Say whether ONNX knows all there is to know of a type."""
        known = self._inferred.types.get(tensor)
        if known is None or known.shape is None or not known.elem_type:
            return not tensor.name
        return _is_static(known.shape)

    def _shapes(self, site: Site, rule: dims.Rule | None) -> Sequence[Loose | None]:
        """Ask the rule for the shapes of the outputs, else ONNX; add element types it missed."""
        node, said = site.node, None
        if rule is not None:
            with contextlib.suppress(*_MALFORMED):
                said = rule(site)
        typed = all(t in self.known.types or self._inferred_type(t) for t in node.outputs if t.name)
        if said is not None and typed:
            return said
        if said is not None and self._keeps_type(node):
            self.known.types[node.outputs[0]] = self.known.elem_type(node.inputs[0])
            return said
        found = self._ask_again(node)
        return [self._loose(item) for item in found] if said is None else said

    def _keeps_type(self, node: Node) -> bool:
        """Say whether the result has the type of the first input, though ONNX does not know."""
        if node.operator.startswith(dims.UNKNOWN_TO_ONNX):
            return True
        proto = self._inferred.protos.get(node)
        return proto is not None and proto.domain == inferred.MISREAD

    def _inferred_type(self, tensor: Tensor) -> int:
        return self._inferred.types.get(tensor, Type(0, None)).elem_type

    def _follow(self, site: Site, rule: values.Rule) -> None:
        """Note the elements of the outputs, if there are few."""
        first = site.node.outputs[0]
        kind = self.known.elem_type(first)
        if kind not in TRACKED or not is_small(self.known.shape(first)):
            return
        try:
            found = rule(site)
        except _MALFORMED:
            return
        for tensor, value in zip(site.node.outputs, found, strict=False):
            if value is not None:
                self._note_value(tensor, value, kind)

    def _note_value(self, tensor: Tensor, value: Value, kind: int) -> None:
        if value.shape != self.known.shape(tensor):
            return
        if self._solution:
            value = _mapped(self._solution.apply, value)
        if any(expr.is_large(element) for element in value.flat):
            return
        if kind in FLOATS and not values.is_exact(value, kind):
            return
        self.known.values[tensor] = value

    # What ONNX knew and what the rules say --------------------------------------------------------

    def _note(self, tensor: Tensor, said: Loose | None) -> None:
        """Note the shape of *tensor*: what a rule *said*, or else what ONNX inferred."""
        if not tensor.name:
            return
        known = self._inferred.types.get(tensor, Type(0, None))
        if known.elem_type:
            self.known.types[tensor] = known.elem_type
        shape = known.shape
        if said is None and shape is None:
            return
        if shape is not None and _is_static(shape):
            self.known.dims[tensor] = shape  # type: ignore[assignment]
            return
        if said is None or (shape is not None and len(shape) != len(said)):
            said = [None] * len(shape or ())
        pairs = zip(shape or [None] * len(said), said, strict=True)
        self.known.dims[tensor] = tuple(self._dimension(dim, found) for dim, found in pairs)
        self._sharper.add(tensor)

    def _dimension(self, dim: Dim, said: Expr | None) -> Expr:
        if isinstance(dim, int):
            return dim
        if said is None or expr.is_large(said) or (isinstance(said, int) and said < 0):
            said = self.known.fresh() if dim is None else self._named(dim)
        return self._solution.apply(said)

    def _named(self, text: str) -> Expr:
        """Return the dimension that ONNX calls *text*."""
        if text in self._inferred.vague:
            return self.known.fresh()
        found = self._names.get(text)
        if found is None:
            found = self._names[text] = self.known.fresh()
        return found

    # Subgraphs ------------------------------------------------------------------------------------

    def _repeated(self, node: Node) -> None:
        """Believe only numbers: other dimensions may change between iterations, or need one."""
        for tensor in node.outputs:
            known = self._inferred.types.get(tensor)
            if known is not None and known.shape is not None:
                fixed = [dim if isinstance(dim, int) else None for dim in known.shape]
                self._inferred.types[tensor] = Type(known.elem_type, tuple(fixed))
            self._note(tensor, None)

    def _if(self, node: Node) -> None:
        """Keep what both branches agree on, or what the branch says that is taken."""
        branches = list(self._branches(node))
        for index, tensor in enumerate(node.outputs):
            results = [branch.outputs[index] for branch in branches]
            shapes = [self.known.shape(result) for result in results]
            self._note(tensor, _common(shapes))
            if len({len(shape) for shape in shapes if shape is not None}) > 1:
                self._fork(node)
            kinds = {self.known.elem_type(result) for result in results}
            if tensor.name and len(kinds) == 1 and 0 not in kinds:
                self.known.types.setdefault(tensor, *kinds)
            found = [self.known.value(result) for result in results]
            first = found[0] if found else None
            same = first is not None and all(_same_value(first, other) for other in found)
            if first is not None and same and len(kinds) == 1:
                self._note_value(tensor, first, kinds.pop())

    def _fork(self, node: Node) -> None:
        """Remember an If that can go either way, where its graph alone decides which."""
        condition = node.inputs[0]
        source = producer(condition)
        known = condition in self._sure or any(condition is other for _, other in self.forks)
        if source is not None and source.graph is node.graph and not known:
            self.forks.append((node, condition))

    def _branches(self, node: Node) -> Iterable[Graph]:
        condition = node.input(0)
        value = None if condition is None else self.known.value(condition)
        taken = None if value is None or value.size != 1 else value.reshape(-1)[0]
        for name, when in (("then_branch", True), ("else_branch", False)):
            branch = node.attr(name)
            if isinstance(branch, Graph) and taken in (None, when):
                yield branch

    # Operators without a rule ---------------------------------------------------------------------

    def _ask_again(self, node: Node) -> Sequence[TypeProto | None]:
        """Let ONNX infer one node once more, if more is known of its inputs by now."""
        proto = self._inferred.protos.get(node)
        if proto is None or node.calls_function:
            return []
        if not any(tensor in self._sharper for tensor in node.inputs):
            return []
        try:
            found = self._infer_node(node, proto)
        except Exception:  # no schema, or a node that ONNX finds malformed
            return []
        types = [found.get(name) for name in proto.output]
        for tensor, made in zip(node.outputs, types, strict=True):
            if made is not None and made.tensor_type.elem_type:
                self.known.types.setdefault(tensor, made.tensor_type.elem_type)
        return types

    def _infer_node(self, node: Node, proto: NodeProto) -> dict[str, TypeProto]:
        domain = node.domain or ""
        opsets = node.graph.opsets if node.graph is not None else {}
        version = opsets.get(domain, 1) if domain else node.graph.version  # type: ignore[union-attr]
        schema = onnx.defs.get_schema(proto.op_type, version, domain)
        types: dict[str, TypeProto] = {}
        data: dict[str, TensorProto] = {}
        for tensor in node.inputs:
            if tensor.name:
                types[tensor.name] = self._type_proto(tensor)
                made = _tensor_proto(self.known.value(tensor), self.known.elem_type(tensor))
                if made is not None:
                    data[tensor.name] = made
        return onnx.shape_inference.infer_node_outputs(schema, proto, types, data)

    def _type_proto(self, tensor: Tensor) -> TypeProto:
        shape = self.known.shape(tensor)
        spelled: list[int | str] | None = None
        if shape is not None:
            spelled = []
            for dim in shape:
                spelled.append(dim if isinstance(dim, int) else str(dim))
                self._spelled[str(dim)] = dim
        return helper.make_tensor_type_proto(self.known.elem_type(tensor), spelled)

    def _loose(self, found: TypeProto | None) -> Loose | None:
        if found is None or not found.tensor_type.HasField("shape"):
            return None
        said = (inferred.dimension(dim) for dim in found.tensor_type.shape.dim)
        return [self._spelled.get(dim) if isinstance(dim, str) else dim for dim in said]


def _is_static(shape: Sequence[Dim]) -> bool:
    return all(isinstance(dim, int) for dim in shape)


def _common(shapes: Sequence[Shape | None]) -> Loose | None:
    first = shapes[0] if shapes else None
    if first is None or any(shape is None or len(shape) != len(first) for shape in shapes):
        return None
    columns = zip(*(shape or () for shape in shapes), strict=True)
    return [column[0] if len(set(column)) == 1 else None for column in columns]


def _mapped(function: Callable[[Any], Any], value: Value) -> Value:
    made = np.empty(value.shape, object)
    for index in np.ndindex(value.shape):
        made[index] = function(value[index])
    return made


def _same_value(first: Value, other: Value | None) -> bool:
    return other is not None and first.shape == other.shape and list(first.flat) == list(other.flat)


def _tensor_proto(value: Value | None, kind: int) -> TensorProto | None:
    if value is None or kind not in INTEGERS:
        return None
    if not all(isinstance(element, int) for element in value.flat):
        return None
    dtype: Any = helper.tensor_dtype_to_np_dtype(kind)
    return numpy_helper.from_array(np.asarray(value.tolist(), dtype).reshape(value.shape))
