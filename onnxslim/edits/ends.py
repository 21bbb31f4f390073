"""Other ends: other tensors of a model become its inputs and outputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from onnx import ValueInfoProto

from onnxslim import shapes
from onnxslim.edits.types import Types, type_proto
from onnxslim.errors import InputError, did_you_mean
from onnxslim.ir import (
    Constant,
    Graph,
    Model,
    Node,
    Tensor,
    Variable,
    captured,
    declare,
    erase,
    set_output,
)

Shape = Sequence[int | str | None] | None


def cut(model: Model, inputs: Sequence[str] | None, outputs: Sequence[str] | None) -> list[str]:
    """Make the named tensors of the main graph the inputs and outputs of *model*, in this order.

    None leaves the inputs or outputs as they are, except that inputs nobody needs any more go.
    What nobody needs any more is erased. Returns what the user should know. Raises InputError for
    unknown names, for tensors whose type nobody knows, and when the outputs also need an input that
    is not named.
    """
    if inputs is None and outputs is None:
        return []
    model.sort()
    graph, tensors = model.graph, _tensors(model.graph)
    starts = None if inputs is None else _named(inputs, "input", tensors, model)
    ends = graph.outputs if outputs is None else _named(outputs, "output", tensors, model)
    live, needed = _behind(ends, frozenset(starts or ()), graph)
    if starts is None:
        kept = [t for t in graph.inputs if t in needed or not t.outputs or outputs is None]
    else:
        kept = _with_defaults(starts, ends, needed, graph)
    notes = [f"the outputs do not depend on {t.name!r}" for t in starts or () if t not in needed]
    infos = _declarations(model, dict.fromkeys((*(starts or ()), *ends)))
    for tensor in starts or ():
        _set_free(tensor, infos[tensor], model)
    _set_ends(graph, kept, ends, infos)
    erase([node for node in graph.nodes if node not in live], model.pinned())
    model.compact()
    model.pristine = False
    return [*notes, *_rankless(infos.values())]


def _tensors(graph: Graph) -> dict[str, Tensor]:
    """Return the tensors of one graph by name, those of its subgraphs left out."""
    made = (tensor for node in graph.nodes for tensor in node.outputs)
    return {t.name: t for t in (*graph.inputs, *graph.initializers, *made) if t.name}


def _named(
    names: Sequence[str], kind: str, tensors: Mapping[str, Tensor], model: Model
) -> list[Any]:
    if not names:
        raise InputError(f"no {kind} is named; name at least one, or leave the {kind}s alone")
    for name, count in Counter(names).items():
        if count > 1:
            raise InputError(f"{kind} {name!r} is named {count} times")
        if name not in tensors:
            raise InputError(_unknown(name, kind, tensors, model))
    return [tensors[name] for name in names]


def _unknown(name: str, kind: str, tensors: Iterable[str], model: Model) -> str:
    if any(name in _tensors(graph) for graph in model.graphs()):
        return f"{kind} {name!r} is a tensor of a subgraph or function; name one of the main graph"
    return f"{kind} {name!r} is no tensor of the model{did_you_mean(name, tensors, 3)}"


def _behind(
    ends: Iterable[Tensor], stops: frozenset[Tensor], graph: Graph
) -> tuple[set[Node], set[Tensor]]:
    """Return the nodes and tensors that *ends* need when *stops*, which count, are given."""
    inner, nodes, seen = captured(graph), set[Node](), set[Tensor]()
    stack = list(ends)
    while stack:
        tensor = stack.pop()
        if tensor in seen:
            continue
        seen.add(tensor)
        for node in tensor.inputs if tensor not in stops else ():
            if node not in nodes:
                nodes.add(node)
                stack += [*node.inputs, *inner.get(node, ())]
    return nodes, seen


def _with_defaults(
    starts: list[Any], ends: Iterable[Tensor], needed: set[Tensor], graph: Graph
) -> list[Any]:
    """Return the inputs: *starts*, and initializers that stay overridable."""
    others = [t for t in graph.inputs if t in needed and t not in set(starts)]
    missing = [repr(t.name) for t in others if t.default is None]
    if missing:
        raise InputError(
            f"the outputs {', '.join(repr(t.name) for t in ends)} also need {', '.join(missing)}; "
            "name them among the inputs, or choose inputs that lie behind them"
        )
    return [*starts, *others]


def _set_free(tensor: Any, info: ValueInfoProto, model: Model) -> None:
    """Make *tensor* one that no node computes and no initializer fixes."""
    graph = model.graph
    for node in list(tensor.inputs):
        slot = next(i for i, item in enumerate(node.outputs) if item is tensor)
        set_output(node, slot, Variable(model.names.fresh(tensor.name)))
    if tensor not in graph.inputs:
        graph.initializers = [t for t in graph.initializers if t is not tensor]
        graph.input_order = [t for t in graph.input_order if t is not tensor]
        declare(tensor.to_variable() if isinstance(tensor, Constant) else tensor, info)


def _set_ends(
    graph: Graph, inputs: list[Any], outputs: list[Any], infos: Mapping[Tensor, ValueInfoProto]
) -> None:
    fixed = [tensor for tensor in graph.input_order if isinstance(tensor, Constant)]
    graph.inputs, graph.input_order = inputs, [*inputs, *fixed]
    graph.outputs, graph.output_info = list(outputs), [infos[tensor] for tensor in outputs]
    for tensor in (*inputs, *outputs):
        graph.value_info.pop(tensor.name, None)
        if isinstance(tensor, Variable) and tensor in infos:
            declare(tensor, infos[tensor])


# Declarations -------------------------------------------------------------------------------------


def _declarations(model: Model, wanted: Iterable[Tensor]) -> dict[Tensor, ValueInfoProto]:
    """Return what to declare of *wanted*: what is declared of ends, else what is inferred."""
    graph = model.graph
    infos = dict[Tensor, ValueInfoProto](zip(graph.outputs, graph.output_info, strict=False))
    infos |= {t: t.source for t in graph.inputs if t.source is not None}
    found = {tensor: infos[tensor] for tensor in wanted if tensor in infos}
    inner = [tensor for tensor in wanted if tensor not in infos]
    if not inner:
        return found
    facts = shapes.infer(model, trust_names=True)
    types, names = Types(model, facts), _dimensions(graph)
    for tensor in inner:
        kind = "" if tensor in types.guessed else types[tensor]
        made = type_proto(kind, _shape(tensor, facts, names))
        if made is None:
            raise InputError(f"the type of {tensor.name!r} is not declared and cannot be inferred")
        found[tensor] = ValueInfoProto(name=tensor.name, type=made)
    return {tensor: found[tensor] for tensor in wanted}


def _dimensions(graph: Graph) -> set[str]:
    """Return the names of the dimensions that inputs have."""
    return {dim for t in graph.inputs for dim in t.shape or () if isinstance(dim, str)}


def _shape(tensor: Tensor, facts: shapes.Facts, names: set[str]) -> Shape:
    """Return the inferred shape; where a dimension has none of *names*, as declared."""
    declared: Shape = tensor.shape
    shape = facts.shape(tensor)
    if shape is None:
        return declared
    if declared is None or len(declared) != len(shape):
        declared = [None] * len(shape)
    return [
        dim if isinstance(dim, int) or dim in names else other if isinstance(other, str) else None
        for dim, other in zip(shape, declared, strict=True)
    ]


def _rankless(infos: Iterable[ValueInfoProto]) -> list[str]:
    tensors = [i for i in infos if i.type.HasField("tensor_type")]
    names = [repr(i.name) for i in tensors if not i.type.tensor_type.HasField("shape")]
    return [
        f"the rank of {', '.join(names)} is not known: onnxruntime takes the model as it is, "
        "onnx's checker does not"
    ] * bool(names)
