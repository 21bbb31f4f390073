"""Local functions.

A call is replaced by a copy of the function's body: attributes that refer to the caller's take the
values given, or their defaults. Functions go innermost first, so that a function is measured with
all that was inlined into it. Source: FunctionProto and "Model Functions" in the ONNX specification.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from onnxslim import ir
from onnxslim.base import Context, Effect, Pass
from onnxslim.ir import Constant, Function, Graph, Model, Node, Tensor

_HEADER = 12
"""Bytes of a function beside its nodes and names, about."""
_SUFFIX = 3
"""Bytes that a tensor's name grows by where another bears it already, about."""


@dataclass(frozen=True)
class InlineFunctions(Pass):
    """Replace calls of local functions by their bodies where the file does not grow.

    With `eager`, what is likely to be folded in a copy, because it depends on constants, shapes and
    types alone, does not count: a function is inlined too if that pays once other passes have
    simplified its copies.
    """

    name = "inline-functions"
    effect = Effect.EXACT

    eager: bool = False

    def apply(self, model: Model, context: Context) -> int:
        """Decide for each function whether all its calls are inlined, and drop it if so."""
        if not model.functions:
            return 0
        roots = (model.graph, *model.functions)
        sites = _sites(roots)
        scopes = {root: ir.Scope(model, root) for root in roots}
        pinned, changes = model.pinned(), 0
        for function in list(_innermost_first(model)):
            calls = [ir.Call(n, function, scopes[r]) for r, n in sites.get(function.key, ())]
            if calls and self._pays(function, calls, context):
                _inline(calls, pinned)
                model.functions = [other for other in model.functions if other is not function]
                changes += len(calls)
        return changes

    def _pays(self, function: Function, calls: list[ir.Call], context: Context) -> bool:
        for call in calls:
            reason = call.refusal()
            if reason is not None:
                context.decline(call.node, reason)
                return False
        copies = sum(_copy_bytes(call, self.eager) - ir.node_bytes(call.node) for call in calls)
        grows = copies - _function_bytes(function)
        if grows > 0:
            times = "once" if len(calls) == 1 else f"{len(calls)} times"
            context.decline(
                calls[0].node,
                f"the function is called {times}: the file would grow by {grows} bytes",
            )
        return grows <= 0


_Key = tuple[str, str, str]


def _sites(roots: Sequence[Graph]) -> dict[_Key, list[tuple[Graph, Node]]]:
    """Return the calls of each function, with the main graph or function body they stand in."""
    found: dict[_Key, list[tuple[Graph, Node]]] = {}
    for root in roots:
        for node in _nodes(root):
            if node.calls_function:
                found.setdefault(_key(node), []).append((root, node))
    return found


def _key(node: Node) -> _Key:
    overload = "" if node.source is None else node.source.overload
    return node.domain or "", node.op, overload


def _nodes(root: Graph) -> Iterator[Node]:
    for graph in ir.walk(root):
        yield from (node for node in graph.nodes if not node.erased)


def _innermost_first(model: Model) -> Iterator[Function]:
    """Yield every function after those that it calls."""
    functions = {function.key: function for function in model.functions}
    done: set[_Key] = set()
    for start in functions:
        stack = [start]
        while stack:
            inner = [k for k in map(_key, _nodes(functions[stack[-1]])) if k in functions]
            todo = next((k for k in inner if k not in done and k not in stack), None)
            if todo is not None:
                stack.append(todo)
                continue
            key = stack.pop()
            if key not in done:
                done.add(key)
                yield functions[key]


def _inline(calls: list[ir.Call], pinned: frozenset[int]) -> None:
    copies = {call.node: call.replace(pinned) for call in calls}
    for graph in dict.fromkeys(call.graph for call in calls):
        graph.nodes = [new for old in graph.nodes for new in copies.get(old, (old,))]


# What pays ----------------------------------------------------------------------------------------


def _function_bytes(function: Function) -> int:
    return function.proto.ByteSize() + sum(map(ir.node_bytes, function.nodes)) + _HEADER


def _copy_bytes(call: ir.Call, eager: bool) -> int:
    """Return the bytes of a copy of the body in the place of *call*."""
    total, fixed = 0, set[Tensor]()
    given = zip(call.function.inputs, call.node.inputs, strict=False)
    fixed.update(inner for inner, outer in given if isinstance(outer, Constant))
    for node in call.function.nodes:
        if eager and _will_fold(node, fixed):
            fixed.update(node.outputs)
            continue
        renamed = sum(t.name in call.scope for t in (*node.inputs, *node.outputs))
        total += ir.node_bytes(node) + _SUFFIX * renamed
    return total


def _will_fold(node: Node, fixed: set[Tensor]) -> bool:
    """Say whether *node* depends on nothing but constants, shapes and types, as far as is known."""
    needed = () if node.operator in _SHAPES else node.inputs[: _NEEDED.get(node.operator)]
    return ir.is_deterministic(node) and all(
        not tensor.name or isinstance(tensor, Constant) or tensor in fixed for tensor in needed
    )


_SHAPES = frozenset({"Shape", "Size"})
_NEEDED = {"CastLike": 1}
"""How many inputs have a value that counts."""
