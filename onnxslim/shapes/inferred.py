"""ONNX's own shape inference, made safe: only what holds whenever the model runs is believed.

Believed are the declared types of the model's inputs: onnxruntime refuses feeds of another rank or
another fixed dimension. (It lets a feed of any shape pass where the model declares a scalar; such
feeds break the model's own contract and are not provided for.) Not believed are

* declared shapes of anything else, which may be stale, and of subgraph inputs, which may change
  from one iteration to the next;
* names of input dimensions that occur twice, because nobody checks that the two are equal;
* negative dimensions, which exporters write for unknown ones;
* initializers that the caller may override;
* what it makes of axes that count from the end before the operator's version foresees them;
* names of dimensions that a Slice of opset 10 has cut: ONNX leaves them what they were;
* shapes of an If before opset 11 whose branches differ: ONNX takes what it knows of either;
* names of dimensions that ONNX invents for the elements of sequences: one name for all of them.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import onnx
from onnx import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    TypeProto,
    ValueInfoProto,
    numpy_helper,
)

from onnxslim.ir import Graph, Model, Node, Tensor, Variable

Dim = int | str | None
"""A dimension: a number, a name for a number that only a run tells, or None where unknown."""

REPEATED = frozenset({"Loop", "Scan"})
"""Operators whose subgraph runs any number of times, none included."""
_COUNTS_FROM_END = {"Slice": 10, "Squeeze": 11, "Unsqueeze": 11}
"""The opset from which ONNX reads negative axes of these operators as onnxruntime always has."""
_POOLS = ("AveragePool", "LpPool", "MaxPool")
_WINDOWS_BEGIN_INSIDE = 22
"""The opset from which ONNX leaves out windows of pools as onnxruntime always has."""
_BRANCHES_MAY_DIFFER = 11
"""The opset from which ONNX infers of an If what both branches have in common."""
_SLICE_KEEPS_NAMES = 10
"""The opset in which ONNX gives a dimension that a Slice cuts the name that it had."""
MISREAD = "onnxslim.misread"
"""The domain of nodes that ONNX's inference passes over."""
_FIRST_IR_WITH_FREE_INITIALIZERS = 4
_SHADOW = "\x01"
"""Stands between a name and a number that makes it unique."""


class Type(NamedTuple):
    """Element type (0 if unknown) and shape (None if unknown) of a tensor."""

    elem_type: int
    shape: tuple[Dim, ...] | None


@dataclass
class Inferred:
    """What ONNX's inference finds out about the main graph and its subgraphs."""

    types: dict[Tensor, Type]
    protos: dict[Node, NodeProto]
    names: frozenset[str]
    """The dimensions of the model's inputs; other names are inventions of ONNX."""
    vague: set[str] = field(default_factory=set)
    """Inventions that stand for several numbers: the elements of a sequence, or an iteration's."""


def infer(model: Model, trust_names: bool = False, skeleton: ModelProto | None = None) -> Inferred:
    """Infer the types of *model*; *trust_names* and *skeleton* as in `onnxslim.shapes.infer`."""
    skeleton = model.skeleton() if skeleton is None else skeleton
    distrust(skeleton, trust_names)
    names = frozenset(
        dim.dim_param
        for info in skeleton.graph.input
        for dim in info.type.tensor_type.shape.dim
        if dim.dim_param
    )
    found = Inferred({}, {}, names)
    _collect(model.graph, run(skeleton).graph, found)
    return found


def run(skeleton: ModelProto) -> ModelProto:
    """Return *skeleton* with inferred types, or as it is where ONNX cannot infer any."""
    _import_domains(skeleton)
    try:
        found = onnx.shape_inference.infer_shapes(skeleton, strict_mode=False)
    except Exception:  # an opset from the future, say: then inputs are all that is known
        return skeleton
    hidden = _hide_slices(skeleton, found) or _hide_conditions(skeleton, found)
    return run(skeleton) if hidden else found


def _import_domains(model: ModelProto) -> None:
    """Import the domains that onnxruntime knows without being told, and ONNX does not."""
    known = {opset.domain for opset in model.opset_import}
    for graph in _graphs(model):
        for domain in {node.domain for node in graph.node} - known - {"", "ai.onnx"}:
            model.opset_import.add(domain=domain, version=1)
            known.add(domain)


# What not to believe ------------------------------------------------------------------------------


def distrust(model: ModelProto, trust_names: bool = False) -> None:
    """Delete every claim of *model* about shapes that need not hold when it runs."""
    main = model.graph
    if model.ir_version >= _FIRST_IR_WITH_FREE_INITIALIZERS:
        _drop_overridable(main)
    if not trust_names:
        _rename_apart(main)
    graphs = list(_graphs(model))
    if len(graphs) > 1:
        _rename_shadows(main, frozenset(), {}, itertools.count())
    for info in main.input:
        _forget_unsure_dimensions(info.type)
    say_clearly(model)
    hide_misread(model)
    for function in model.functions:
        del function.value_info[:]
        if _version(function) < _BRANCHES_MAY_DIFFER:
            for node in (node for node in function.node if _is_own(node, "If")):
                _hide_outputs(node)
    for graph in graphs:
        del graph.value_info[:]
        for info in graph.output if graph is main else (*graph.input, *graph.output):
            _forget_shape(info.type)


def _graphs(model: ModelProto) -> Iterator[GraphProto]:
    """Yield every graph of *model*, those in function bodies included."""
    yield model.graph
    stack: list[Any] = [*model.graph.node, *(n for f in model.functions for n in f.node)]
    while stack:
        for attribute in stack.pop().attribute:
            graphs = [attribute.g] if attribute.HasField("g") else attribute.graphs
            for graph in graphs:
                yield graph
                stack.extend(graph.node)


def _drop_overridable(graph: GraphProto) -> None:
    inputs = {info.name for info in graph.input}
    fixed = [tensor for tensor in graph.initializer if tensor.name not in inputs]
    if len(fixed) != len(graph.initializer):
        del graph.initializer[:]
        graph.initializer.extend(fixed)


def _rename_apart(graph: GraphProto) -> None:
    """Give the dimensions of the inputs names of their own."""
    named = [
        (info.name, axis, dim)
        for info in graph.input
        for axis, dim in enumerate(info.type.tensor_type.shape.dim)
        if dim.dim_param
    ]
    occurrences = Counter(dim.dim_param for _, _, dim in named)
    taken = set(occurrences)
    for name, axis, dim in named:
        if occurrences[dim.dim_param] > 1:
            fresh = f"{dim.dim_param}@{name}"
            while fresh in taken:
                fresh += f".{axis}"
            taken.add(fresh)
            dim.dim_param = fresh


def _rename_shadows(
    graph: GraphProto, around: frozenset[str], outer: dict[str, str], numbers: Iterator[int]
) -> None:
    """Rename what subgraphs define though the graphs around do: ONNX mixes up their types.

    *around* are the names defined there, *outer* the new names of those that were renamed.
    """
    messages: list[Any] = [
        *graph.input,
        *graph.initializer,
        *(s.values for s in graph.sparse_initializer),
    ]
    defined = {message.name for message in messages}
    defined.update(name for node in graph.node for name in node.output if name)
    new = {name: f"{name}{_SHADOW}{next(numbers)}" for name in sorted(defined & around)}
    new = {**{name: text for name, text in outer.items() if name not in defined}, **new}
    for message in (*messages, *graph.output) if new else ():
        message.name = new.get(message.name, message.name)
    inside = around | defined
    for node in graph.node:
        for names in (node.input, node.output) if new else ():
            names[:] = [new.get(name, name) for name in names]
        for attribute in node.attribute:
            for inner in (attribute.g,) if attribute.HasField("g") else attribute.graphs:
                _rename_shadows(inner, inside, new, numbers)


def say_clearly(model: ModelProto) -> None:
    """Write what ONNX misreads in another way.

    Before opset 11, it overlooks axes of a Squeeze that are not in order. It takes an STFT that
    does not say whether it is one-sided for one that is not; the operator's default is that it is.
    It gives a PRelu the shape of what it reads; in onnxruntime both broadcast, as in Mul.
    """
    version = _version(model)
    bodies = [*(function.node for function in model.functions), *(g.node for g in _graphs(model))]
    for node in itertools.chain(*bodies):
        if node.op_type == "Squeeze":
            for attribute in node.attribute:
                attribute.ints[:] = sorted(attribute.ints)
        elif node.op_type == "PRelu" and node.domain in ("", "ai.onnx") and version >= 7:
            node.op_type = "Mul"
        elif node.op_type == "STFT" and all(a.name != "onesided" for a in node.attribute):
            node.attribute.add(name="onesided", type=AttributeProto.INT, i=1)


def _version(model: ModelProto | FunctionProto) -> int:
    """Return the version of ONNX's own operators in *model*."""
    return next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)


def hide_misread(model: ModelProto) -> None:
    """Hide from ONNX the nodes that it misreads.

    Old versions of some operators do not foresee axes that count from the end, but onnxruntime
    takes them. In pools, it leaves out windows that begin behind the image, which ONNX does since
    opset 22.
    """
    version = _version(model)
    for node in (node for graph in _graphs(model) for node in graph.node):
        old = node.domain in ("", "ai.onnx") and version < _COUNTS_FROM_END.get(node.op_type, 0)
        from_end = old and any(i < 0 for a in node.attribute if a.name == "axes" for i in a.ints)
        if from_end or (version < _WINDOWS_BEGIN_INSIDE and _may_pass_the_end(node)):
            node.domain = MISREAD
    for function in model.functions:
        slices = [node for node in function.node if _is_own(node, "Slice")]
        if slices and _version(function) == _SLICE_KEEPS_NAMES:
            function.opset_import.add(domain=MISREAD, version=1)
            for node in slices:
                node.domain = MISREAD
    _import_domains(model)


def _may_pass_the_end(pool: NodeProto) -> bool:
    """Say whether a window of a pool that rounds up may begin behind the image."""
    if not any(_is_own(pool, operator) for operator in _POOLS):
        return False
    given = {attribute.name: attribute for attribute in pool.attribute}
    if "ceil_mode" not in given or not given["ceil_mode"].i or "kernel_shape" not in given:
        return False
    if "auto_pad" in given and given["auto_pad"].s in (b"SAME_UPPER", b"SAME_LOWER"):
        return False
    kernel = list(given["kernel_shape"].ints)
    defaults = {"strides": [1], "dilations": [1], "pads": [0, 0]}
    strides, dilations, pads = (
        list(given[name].ints) if name in given else value * len(kernel)
        for name, value in defaults.items()
    )
    windows = zip(kernel, strides, dilations, pads[len(kernel) :], strict=False)
    return any(stride + pad > (size - 1) * step + 1 for size, stride, step, pad in windows)


def _hide_slices(model: ModelProto, answer: ModelProto) -> bool:
    """Hide from ONNX the Slice nodes that, it *answers*, leave the name of what they cut as it was.

    Version 10 alone says so; where nothing is sure, it is hidden too. Returns whether any was.
    """
    if _version(model) != _SLICE_KEEPS_NAMES:
        return False
    values, found = _constants(model), False
    for graph, told in zip(_graphs(model), _graphs(answer), strict=True):
        shapes = {
            info.name: info.type.tensor_type.shape.dim
            for info in (*told.value_info, *told.output)
            if info.type.tensor_type.HasField("shape")
        }
        for node in graph.node:
            if _is_own(node, "Slice") and _cuts_names(node, values, shapes.get(node.output[0], ())):
                node.domain, found = MISREAD, True
    return found


def _hide_conditions(model: ModelProto, answer: ModelProto) -> bool:
    """Hide from ONNX what every If returns of which it *answers* more than both branches say.

    It still infers the branches. Returns whether any was hidden.
    """
    if _version(model) >= _BRANCHES_MAY_DIFFER:
        return False
    found = False
    for graph, told in zip(_graphs(model), _graphs(answer), strict=True):
        shapes = {info.name: _dims(info) for info in (*told.value_info, *told.output)}
        for node, inferred in zip(graph.node, told.node, strict=True):
            branches = [attribute.g.output for attribute in inferred.attribute]
            if _is_own(node, "If") and any(
                shapes.get(name) is not None and {*map(_dims, results)} != {shapes[name]}
                for name, *results in zip(node.output, *branches, strict=False)
            ):
                _hide_outputs(node)
                found = True
    return found


def _hide_outputs(node: NodeProto) -> None:
    """Give an If an output that its branches lack, so that ONNX infers the others no longer."""
    node.output.append(_SHADOW)


def _dims(info: ValueInfoProto) -> tuple[Dim, ...] | None:
    kind = info.type.tensor_type
    return tuple(map(dimension, kind.shape.dim)) if kind.HasField("shape") else None


def _is_own(node: NodeProto, operator: str) -> bool:
    return node.op_type == operator and node.domain in ("", "ai.onnx")


def _cuts_names(node: NodeProto, values: Mapping[str, TensorProto], dims: Sequence[Any]) -> bool:
    """Say whether a Slice may cut one of *dims*, those of its output, that is no number."""
    unknown = {axis for axis, dim in enumerate(dims) if not dim.HasField("dim_value")}
    axes = values.get(node.input[3]) if len(node.input) > 3 else None
    if axes is None or not unknown:
        return bool(unknown)
    return not unknown.isdisjoint(int(axis) % len(dims) for axis in numpy_helper.to_array(axes))


def _constants(model: ModelProto) -> dict[str, TensorProto]:
    """Return the initializers and Constant nodes of all graphs by name.

    What has the name of another tensor, as in two branches, is left out.
    """
    found: dict[str, TensorProto] = {}
    names: Counter[str] = Counter()
    for graph in _graphs(model):
        names.update({info.name for info in graph.input} | {t.name for t in graph.initializer})
        found.update((tensor.name, tensor) for tensor in graph.initializer)
        for node in graph.node:
            names.update(node.output)
            if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
                found[node.output[0]] = node.attribute[0].t
    return {name: tensor for name, tensor in found.items() if names[name] == 1}


def _forget_unsure_dimensions(declared: TypeProto) -> None:
    if declared.WhichOneof("value") not in (None, "tensor_type"):
        _forget_shape(declared)
    for dim in declared.tensor_type.shape.dim if declared.HasField("tensor_type") else ():
        if dim.dim_value < 0:
            dim.Clear()


def _forget_shape(declared: TypeProto) -> None:
    """Delete the shapes in *declared*, however deep."""
    kind = declared.WhichOneof("value")
    if kind in ("tensor_type", "sparse_tensor_type"):
        getattr(declared, kind).ClearField("shape")
    elif kind in ("sequence_type", "optional_type"):
        _forget_shape(getattr(declared, kind).elem_type)
    elif kind == "map_type":
        _forget_shape(declared.map_type.value_type)


# Reading the result -------------------------------------------------------------------------------


def _collect(graph: Graph, proto: GraphProto, found: Inferred) -> None:
    """Note the types of the tensors of *graph*, whose export is *proto*, and of its subgraphs.

    Names repeat in sibling graphs, so the two nests are walked side by side.
    """
    infos = {
        info.name.partition(_SHADOW)[0]: info
        for info in (*proto.value_info, *proto.output, *proto.input)
    }
    nodes = [node for node in graph.nodes if not node.erased]
    for tensor in (*graph.inputs, *(t for node in nodes for t in node.outputs)):
        if tensor.name in infos:
            found.types[tensor] = _type(infos[tensor.name], found)
    for tensor in graph.initializers:
        if isinstance(tensor, Variable) and isinstance(tensor.default, onnx.SparseTensorProto):
            sparse = tensor.default
            found.types[tensor] = Type(sparse.values.data_type, tuple(sparse.dims))
    added = len(proto.node) - len(nodes)  # Constant nodes for constants, in front
    for node, source in zip(nodes, itertools.islice(proto.node, added, None), strict=True):
        found.protos[node] = source
        if node.subgraphs():
            _collect_subgraphs(node, source, found)


def _collect_subgraphs(node: Node, proto: NodeProto, found: Inferred) -> None:
    for attribute in proto.attribute:
        value = node.attrs[attribute.name]
        if isinstance(value, Graph):
            _collect(value, attribute.g, found)
        elif attribute.graphs:
            for graph, inner in zip(value, attribute.graphs, strict=True):
                _collect(graph, inner, found)
    if node.operator in REPEATED:
        for tensor in node.outputs:
            shape = found.types.get(tensor, Type(0, None)).shape or ()
            found.vague |= {dim for dim in shape if isinstance(dim, str)} - found.names


def _type(info: ValueInfoProto, found: Inferred) -> Type:
    kind = info.type.WhichOneof("value")
    if kind not in ("tensor_type", "sparse_tensor_type"):
        found.vague |= _names_inside(info.type) - found.names
        return Type(0, None)
    tensor = getattr(info.type, kind)
    if not tensor.HasField("shape"):
        return Type(tensor.elem_type, None)
    return Type(tensor.elem_type, tuple(dimension(dim) for dim in tensor.shape.dim))


def _names_inside(declared: TypeProto) -> set[str]:
    """Return the names of dimensions in a sequence or optional."""
    while declared.WhichOneof("value") in ("sequence_type", "optional_type"):
        declared = getattr(declared, declared.WhichOneof("value")).elem_type
    return {dim.dim_param for dim in declared.tensor_type.shape.dim if dim.dim_param}


def dimension(dim: Any) -> Dim:
    """Return a dimension of a message; a negative one says nothing."""
    if dim.HasField("dim_value"):
        return int(dim.dim_value) if dim.dim_value >= 0 else None
    return str(dim.dim_param) or None
