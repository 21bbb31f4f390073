"""Take a whole model to another opset.

Every node goes from version to version of its operator, by an adapter where its meaning would
change and unchanged where it would not. Either all of them can, or nothing is touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from onnx import helper
from onnx.defs import OpSchema

from onnxslim import ir, shapes
from onnxslim.errors import Declined, PassError
from onnxslim.ir import STANDARD_DOMAINS, Constant, Function, Graph, Model, Node, Scope
from onnxslim.shapes import Facts
from onnxslim.versions import history
from onnxslim.versions.change import Change, carry_over
from onnxslim.versions.downward import DOWNWARD, LOWEST
from onnxslim.versions.upward import UPWARD


def convert(model: Model, target: int) -> int:
    """Take *model* to opset *target*; return how many places changed.

    Function bodies that cannot be converted without their callers are inlined first, all of them.
    Raises PassError, which names the operator and the reason, where a node has no exact
    counterpart; *model* may be half converted then.
    """
    if target == model.opset:
        return 0
    if target < min(model.opset, LOWEST):
        raise PassError(f"opset {target} is too old: {LOWEST} is as far as a model can go back")
    changes = 0
    if model.functions and not _are_independent(model, target):
        changes += _inline_all(model)
    facts = shapes.infer(model)
    for root in (model.graph, *model.functions):
        changes += _Conversion(model, root, target, facts).run()
    model.set_opset(target, file_format(target))
    return changes + 1


def file_format(opset: int) -> int:
    """Return the IR version that ONNX released *opset* with."""
    return int(helper.find_min_ir_version_for([helper.make_opsetid("", opset)]))


class _Conversion:
    """The main graph or a function body on its way, with all graphs inside."""

    def __init__(self, model: Model, root: Graph, target: int, facts: Facts) -> None:
        self.root, self.target, self.facts, self.names = root, target, facts, model.names
        self.shared: dict[tuple[str, tuple[int, ...], bytes], Constant] = {}
        self.changes = 0

    def run(self) -> int:
        for graph in list(ir.walk(self.root)):
            nodes = (new for node in graph.nodes for new in self._node(node, graph, graph.version))
            graph.nodes = list(nodes)
        return self.changes

    def _node(self, node: Node, graph: Graph, version: int) -> Iterable[Node]:
        """Return what takes the place of *node*, which is one of opset *version*."""
        if node.erased or node.calls_function or node.domain not in (None, *STANDARD_DOMAINS):
            return [node]
        before, after = list[Node](), list[Node]()
        while (step := self._step(node, version)) is not None:
            present, following, version = step
            change = Change(node, graph, present, following, self.facts, self.names, self._share)
            self._adapt(change)
            before += [n for made in change.build.nodes for n in self._node(made, graph, version)]
            after = [n for made in change.after for n in self._node(made, graph, version)] + after
        return (*before, node, *after)

    def _step(self, node: Node, version: int) -> tuple[OpSchema, OpSchema, int] | None:
        """Return the present and the next version of the node's operator, and the next opset."""
        present = history.schema(node.op, version)
        if present is None:
            raise self._error(node, version, f"opset {version} has no such operator")
        if self.target > self.root.version:
            newer = history.following(node.op, version, self.target)
            return None if newer is None else (present, newer, newer.since_version)
        since = present.since_version
        if since <= self.target:
            return None
        older = history.schema(node.op, since - 1)
        if older is None:
            raise self._error(node, since, f"the operator is new in opset {since}")
        return present, older, since - 1

    def _adapt(self, change: Change) -> None:
        node, old, new = change.node, change.old.since_version, change.new.since_version
        table, key = (UPWARD, new) if new > old else (DOWNWARD, old)
        adapter = table.get((node.op, key), carry_over)
        try:
            change.require(
                adapter is carry_over or not ir.has_parameters(node),
                "an attribute is set by the caller of the function",
            )
            adapter(change)
        except Declined as reason:
            raise self._error(node, new - 1 if new > old else old, str(reason)) from None
        self.changes += adapter is not carry_over

    def _error(self, node: Node, reached: int, reason: str) -> PassError:
        name = f"{node.op} {node.name!r}" if node.name else f"{node.op} -> {node.outputs[0].name!r}"
        return PassError(
            f"{name} does not go to opset {self.target}: {reason}; "
            f"opset {reached} is as far as it goes"
        )

    def _share(self, values: Any) -> Constant:
        """Return a constant of *values*, the same one for equal values."""
        array = np.asarray(values, order="C")
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self.shared:
            self.shared[key] = ir.constant(self.names.fresh("c"), array)
        return self.shared[key]


# Functions ----------------------------------------------------------------------------------------


def _are_independent(model: Model, target: int) -> bool:
    """Say whether every function body can be converted without knowing its callers."""
    trial = model.copy()
    try:
        for function in trial.functions:
            _Conversion(trial, function, target, Facts()).run()
    except PassError:
        return False
    return True


def _inline_all(model: Model) -> int:
    """Replace every call of a local function by the function's body; return how many there were."""
    functions, count = {function.key: function for function in model.functions}, 0
    while calls := [node for graph in ir.walk(model.graph) for node in graph.nodes if _calls(node)]:
        scope, pinned = ir.Scope(model, model.graph), model.pinned()
        copies = {node: _inlined(node, functions, scope, pinned) for node in calls}
        for graph in list(ir.walk(model.graph)):
            graph.nodes = [new for old in graph.nodes for new in copies.get(old, (old,))]
        count += len(calls)
    model.functions = []
    return count


def _calls(node: Node) -> bool:
    return node.calls_function and not node.erased


def _inlined(
    node: Node,
    functions: Mapping[tuple[str, str, str], Function],
    scope: Scope,
    pinned: frozenset[int],
) -> list[Node]:
    key = node.domain or "", node.op, "" if node.source is None else node.source.overload
    if key not in functions:
        raise PassError(
            f"{node.operator} calls a function of overload {key[2]!r}, which is not there"
        )
    call = ir.Call(node, functions[key], scope)
    reason = call.refusal()
    if reason is not None:
        raise PassError(f"the function {node.operator} must be inlined first, and cannot: {reason}")
    return call.replace(pinned)
