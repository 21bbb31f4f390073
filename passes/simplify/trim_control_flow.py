"""What If and Loop compute in vain, and what a Loop carries around without changing it.

Source: If-1, Loop-1 and their successors in the ONNX operator specification.
"""

from __future__ import annotations

from collections.abc import Sequence

from onnxslim import ir
from onnxslim.base import Context, Effect, Pass
from onnxslim.ir import Graph, Model, Node, Tensor


class TrimControlFlow(Pass):
    """Drop results of If and Loop that nobody reads, and values that no round of a Loop changes."""

    name = "trim-control-flow"
    effect = Effect.EXACT

    def apply(self, model: Model, context: Context) -> int:
        """Sweep every graph once, outermost first."""
        pinned, changes = context.once(model, Model.pinned), 0
        for _, nodes in context.find(model, ("If", "Loop")):
            for node in nodes:
                if not node.erased:
                    changes += (_trim_if if node.operator == "If" else _trim_loop)(node, pinned)
        return changes


def _is_read(tensor: Tensor, pinned: frozenset[int]) -> bool:
    return bool(tensor.outputs) or id(tensor) in pinned


def _trim_if(node: Node, pinned: frozenset[int]) -> int:
    branches = list(node.subgraphs())
    if any(len(branch.outputs) != len(node.outputs) for branch in branches):
        return 0
    unread = [i for i, tensor in enumerate(node.outputs) if not _is_read(tensor, pinned)]
    if len(unread) == len(node.outputs):  # a node needs an output; this one is useless altogether
        return 0
    for index in reversed(unread):
        del node.outputs[index]
        for branch in branches:
            _drop_output(branch, index)
    return len(unread)


def _drop_output(graph: Graph, index: int) -> None:
    del graph.outputs[index]
    del graph.output_info[index : index + 1]


def _trim_loop(node: Node, pinned: frozenset[int]) -> int:
    body, count = node.attr("body"), len(node.inputs) - 2
    fits = isinstance(body, Graph) and len(body.inputs) == count + 2
    if not fits or len(body.outputs) != len(node.outputs) + 1 or len(node.outputs) < count:
        return 0
    changes = 0
    for index in reversed(range(len(node.outputs))):
        if len(node.outputs) == 1:  # a node needs an output
            break
        output, read = node.outputs[index], _is_read(node.outputs[index], pinned)
        if index < count:
            same = _unchanged(body, index) and id(output) not in pinned
            if not same and (read or not _only_for_itself(body, index, pinned)):
                continue
            start = node.inputs[2 + index]
            ir.replace_uses(output, start)
            ir.replace_uses(body.inputs[2 + index], start)
            _drop_carried(node, body, index)
        elif read:
            continue
        del node.outputs[index]
        _drop_output(body, index + 1)
        changes += 1
    return changes


def _drop_carried(node: Node, body: Graph, index: int) -> None:
    del node.inputs[2 + index]
    tensor = body.inputs.pop(2 + index)
    body.input_order = [other for other in body.input_order if other is not tensor]


def _unchanged(body: Graph, index: int) -> bool:
    """Say whether a round hands a value on as it got it."""
    tensor = body.outputs[1 + index]
    source = ir.producer(tensor)
    while source is not None and source.operator == "Identity":
        tensor = source.inputs[0]
        source = ir.producer(tensor)
    return tensor is body.inputs[2 + index]


def _only_for_itself(body: Graph, index: int, pinned: frozenset[int]) -> bool:
    """Say whether a carried value is needed for nothing but its own next value."""
    result, stack, seen = body.outputs[1 + index], [body.inputs[2 + index]], set[Node]()
    if [tensor is result for tensor in body.outputs].count(True) > 1:
        return False
    while stack:
        tensor = stack.pop()
        if id(tensor) in pinned and tensor is not result:
            return False
        for reader in tensor.outputs:
            if reader not in seen:
                seen.add(reader)
                stack += _outputs(reader)
    return True


def _outputs(node: Node) -> Sequence[Tensor]:
    return [tensor for tensor in node.outputs if tensor.name]
