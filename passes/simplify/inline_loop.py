"""A Loop whose body runs once, or never.

Its inputs are the largest number of rounds, whether to start, and the values carried from round to
round. The body gets the round, whether to go on, and those values; it computes the latter two anew,
and one row each of the outputs that gather what the rounds compute. Source: Loop-1 to Loop-24 of
the ONNX operator specification.
"""

from __future__ import annotations

import numpy as np

from onnxslim import ir
from onnxslim.base import Context, Effect, Pass
from onnxslim.errors import Declined
from onnxslim.ir import Array, Graph, Model, Node, Tensor
from onnxslim.passes.simplify._values import known
from onnxslim.rewrite import Builder
from onnxslim.shapes import Facts


class InlineLoop(Pass):
    """Replace a Loop that runs once by its body, and one that never runs by what it starts from."""

    name = "inline-loop"
    effect = Effect.EXACT

    def apply(self, model: Model, context: Context) -> int:
        """Sweep every graph once, outermost first."""
        if not context.find(model, ("Loop",)):
            return 0
        facts, changes = context.facts(model), 0
        for root in (model.graph, *model.functions):
            scope = ir.Scope(model, root)
            for graph in list(ir.walk(root)):
                changes += _inline(graph, model, scope, facts, context)
        return changes


def _inline(graph: Graph, model: Model, scope: ir.Scope, facts: Facts, context: Context) -> int:
    changes, nodes = 0, list[Node]()
    for node in graph.nodes:
        rounds = _rounds(node, facts) if node.operator == "Loop" and not node.erased else None
        try:
            if rounds is None:
                nodes.append(node)
                continue
            nodes += (_once if rounds else _never)(node, graph, model, scope)
            changes += 1
        except Declined as verdict:
            context.decline(node, str(verdict))
            nodes.append(node)
    graph.nodes = nodes
    graph.compact()
    return changes


def _rounds(node: Node, facts: Facts) -> int | None:
    """Return how often the body runs, if that is never or once."""
    body = node.attr("body")
    if not isinstance(body, Graph) or len(node.inputs) < 2:
        return None
    most, start = (_scalar(node.input(slot), facts) for slot in (0, 1))
    if (most is not None and most <= 0) or (start is not None and not start):
        return 0
    starts = bool(start) if node.input(1) is not None else True
    if not starts:
        return None
    if most is not None and most == 1:
        return 1
    stops = known(facts, body.outputs[0])
    endless = node.input(0) is None or most is not None
    return 1 if endless and stops is not None and not stops.any() else None


def _scalar(tensor: Tensor | None, facts: Facts) -> int | None:
    value: Array | None = None if tensor is None else known(facts, tensor)
    return None if value is None or value.size != 1 else int(value.reshape(-1)[0])


def _never(node: Node, graph: Graph, model: Model, scope: ir.Scope) -> list[Node]:
    """Hand the initial values on; outputs that gather rounds would be empty tensors."""
    carried, pinned = list(node.inputs[2:]), model.pinned()
    for output in node.outputs[len(carried) :]:
        if output.outputs or id(output) in pinned:
            raise Declined("an output that gathers what the rounds compute is read")
    for output in node.outputs:
        if id(output) in pinned:
            raise Declined("an initial value would be a graph output, which needs a node")
    for output, start in zip(node.outputs, carried, strict=False):
        ir.replace_uses(output, start)
    ir.erase([node], pinned)
    return []


def _once(node: Node, graph: Graph, model: Model, scope: ir.Scope) -> list[Node]:
    """Put the body in the place of the Loop; outputs that gather rounds gather one."""
    body, carried = node.attrs["body"], list(node.inputs[2:])
    if len(body.inputs) != 2 + len(carried) or len(body.outputs) < 1 + len(carried):
        raise Declined("the body does not fit the Loop")
    new = Builder(scope, graph)
    first = [new.tensor(np.asarray(0, np.int64), "round"), new.tensor(np.asarray(True), "go")]
    gathered = body.outputs[1 + len(carried) :]
    rows = [_row(new, tensor) for tensor in gathered]
    pinned = model.pinned()
    del body.outputs[0]
    body.outputs[len(carried) :] = rows
    body.nodes += new.nodes
    return ir.absorb(node, body, [*first, *carried], scope, pinned)


def _row(new: Builder, tensor: Tensor) -> Tensor:
    """Make one round's result the only row."""
    if new.version >= 13:
        return new.Unsqueeze(tensor, np.asarray([0], np.int64))
    return new.Unsqueeze(tensor, axes=[0])
