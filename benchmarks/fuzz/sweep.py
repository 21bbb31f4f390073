"""Removal of what no output of a model needs."""

from __future__ import annotations

from onnx import ModelProto

from benchmarks.fuzz.grower import outer_names


def sweep(proto: ModelProto) -> None:
    """Remove nodes, inputs, initializers and functions that nobody reads, and declared types."""
    graph = proto.graph
    read = {output.name for output in graph.output}
    for node in reversed(list(graph.node)):
        if read.intersection(node.output):
            read |= {*node.input, *outer_names(node)}
        else:
            graph.node.remove(node)
    for items in (graph.input, graph.initializer):
        for item in [item for item in items if item.name not in read]:
            items.remove(item)  # type: ignore[arg-type]
    _sweep_functions(proto)
    del graph.value_info[:]


def _sweep_functions(proto: ModelProto) -> None:
    nodes = [*proto.graph.node, *(node for function in proto.functions for node in function.node)]
    used = {node.op_type for node in nodes}
    for function in [f for f in proto.functions if f.name not in used]:
        proto.functions.remove(function)
