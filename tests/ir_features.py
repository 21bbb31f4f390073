"""Small models, one feature each: what a file may say that a rewriter may lose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    SparseTensorProto,
    StringStringEntryProto,
    TensorProto,
    TypeProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
LARGE = 300
"""Elements of a float tensor that is over a kilobyte, and so leaves the protobuf message."""

Builder = Callable[[], ModelProto]
MODELS: dict[str, Builder] = {}


def feature(build: Builder) -> Builder:
    MODELS[build.__name__] = build
    return build


def info(name: str, elem: int = FLOAT, shape: Sequence[int | str | None] = (2,)) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, elem, shape)


def floats(name: str, count: int = 2, seed: int = 0) -> TensorProto:
    values = np.random.default_rng(seed).normal(size=count).astype(np.float32)
    return numpy_helper.from_array(values, name)


def model(
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto] = (),
    outputs: Sequence[ValueInfoProto] = (),
    initializers: Sequence[TensorProto] = (),
    *,
    ir: int = 10,
    opset: int = 21,
    **graph_fields: Any,
) -> ModelProto:
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers, **graph_fields)
    return helper.make_model(graph, ir_version=ir, opset_imports=[helper.make_opsetid("", opset)])


def relu(**fields: Any) -> ModelProto:
    return model([helper.make_node("Relu", ["x"], ["y"], name="r")], [info("x")], [info("y")])


def texts(name: str, *words: bytes) -> TensorProto:
    dims, kind = [len(words)], TensorProto.STRING
    return TensorProto(name=name, dims=dims, data_type=kind, string_data=words)


def props(target: Any) -> None:
    """Give *target* metadata, one entry with an empty value."""
    target.metadata_props.extend(
        [StringStringEntryProto(key="k", value="v"), StringStringEntryProto(key="empty", value="")]
    )


def with_attribute(attribute: AttributeProto) -> ModelProto:
    node = helper.make_node("Custom", ["x"], ["y"], domain="test")
    node.attribute.append(attribute)
    made = model([node], [info("x")], [info("y")])
    made.opset_import.add(domain="test", version=1)
    return made


def typed_io(kind: TypeProto) -> ModelProto:
    made = model(
        [helper.make_node("Identity", ["x"], ["y"])],
        [ValueInfoProto(name="x", type=kind)],
        [ValueInfoProto(name="y", type=kind)],
    )
    made.graph.value_info.add(name="z", type=kind)
    return made


def if_model(then: GraphProto, other: GraphProto, **more: Any) -> ModelProto:
    node = helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)
    return model([node], [info("c", BOOL, ()), info("x")], [info("y")], **more)


def branch(op: str, name: str, inputs: Sequence[str] = ("x",), **fields: Any) -> GraphProto:
    return helper.make_graph(
        [helper.make_node(op, list(inputs), [name])], name, [], [info(name)], **fields
    )


def function(nodes: Sequence[NodeProto], attributes: Sequence[str] = ()) -> FunctionProto:
    return helper.make_function(
        "local", "f", ["a"], ["b"], nodes, [helper.make_opsetid("", 21)], list(attributes)
    )


def calling(*functions: FunctionProto, **attributes: Any) -> ModelProto:
    node = helper.make_node("f", ["x"], ["y"], domain="local", **attributes)
    made = model([node], [info("x")], [info("y")])
    made.opset_import.add(domain="local", version=1)
    made.functions.extend(functions)
    return made


def sparse(name: str, count: int, dims: Sequence[int]) -> SparseTensorProto:
    indices = numpy_helper.from_array(np.arange(count, dtype=np.int64), "")
    return SparseTensorProto(values=floats(name, count), indices=indices, dims=dims)


# The model and its graph --------------------------------------------------------------------------


@feature
def plain() -> ModelProto:
    return relu()


@feature
def model_fields() -> ModelProto:
    made = relu()
    made.producer_name, made.producer_version = "tests", "0.1"
    made.domain, made.model_version, made.doc_string = "org.example", 7, "a model\nof two lines"
    props(made)
    return made


@feature
def model_fields_set_to_their_defaults() -> ModelProto:
    made = relu()
    made.producer_name, made.domain, made.doc_string, made.model_version = "", "", "", 0
    made.graph.doc_string, made.graph.node[0].doc_string = "", ""
    made.graph.node[0].domain, made.graph.node[0].overload = "", ""
    made.graph.name = ""
    return made


@feature
def no_ir_version() -> ModelProto:
    made = relu()
    made.ClearField("ir_version")
    return made


@feature
def no_opset() -> ModelProto:
    made = relu()
    del made.opset_import[:]
    return made


@feature
def several_opsets() -> ModelProto:
    made = relu()
    for domain, version in (("com.microsoft", 1), ("ai.onnx.ml", 5), ("unused", 99)):
        made.opset_import.add(domain=domain, version=version)
    return made


@feature
def opset_alias() -> ModelProto:
    made = relu()
    made.opset_import[0].domain = "ai.onnx"
    return made


@feature
def opset_alias_on_the_node() -> ModelProto:
    made = opset_alias()
    made.graph.node[0].domain = "ai.onnx"
    return made


@feature
def both_opset_names() -> ModelProto:
    made = relu()
    made.opset_import.add(domain="ai.onnx", version=20)
    return made


@feature
def opset_without_domain_field() -> ModelProto:
    made = relu()
    made.opset_import[0].ClearField("domain")
    return made


@feature
def training_info() -> ModelProto:
    made = relu()
    step = made.training_info.add()
    step.algorithm.CopyFrom(relu().graph)
    step.algorithm.initializer.append(floats("big", LARGE))
    step.initialization.CopyFrom(branch("Relu", "i"))
    step.update_binding.add(key="w", value="y")
    return made


@feature
def device_configurations() -> ModelProto:
    made = model(
        [helper.make_node("Relu", ["x"], ["y"])], [info("x")], [info("y")], ir=11, opset=23
    )
    made.configuration.add(name="two", num_devices=2, device=["a", "b"])
    device = made.graph.node[0].device_configurations.add(configuration_id="two", pipeline_stage=1)
    spec = device.sharding_spec.add(tensor_name="x", device=[0, 1])
    spec.sharded_dim.add(axis=0).simple_sharding.add(dim_value=2, num_shards=2)
    return made


@feature
def graph_fields() -> ModelProto:
    made = relu()
    made.graph.doc_string = "a graph"
    props(made.graph)
    return made


@feature
def subgraph_fields() -> ModelProto:
    made = if_model(branch("Relu", "t"), branch("Neg", "e"))
    for attribute in made.graph.node[0].attribute:
        attribute.g.doc_string, attribute.doc_string = "a subgraph", "its attribute"
        attribute.g.value_info.append(info("unknown"))
        attribute.g.quantization_annotation.add(tensor_name="x")
        props(attribute.g)
        props(attribute.g.node[0])
    return made


@feature
def node_fields() -> ModelProto:
    made = relu()
    node = made.graph.node[0]
    node.doc_string, node.overload = "a node", "v2"
    props(node)
    node.attribute.append(helper.make_attribute("alpha", 0.5, doc_string="an attribute"))
    return made


@feature
def tensor_fields() -> ModelProto:
    made = relu()
    for count in (2, LARGE):
        tensor = floats(f"w{count}", count)
        tensor.doc_string = "a tensor"
        props(tensor)
        made.graph.initializer.append(tensor)
    return made


@feature
def value_info_fields() -> ModelProto:
    made = relu()
    made.graph.value_info.append(info("z"))
    made.graph.node.append(helper.make_node("Relu", ["y"], ["z"]))
    for declared in (made.graph.input[0], made.graph.output[0], made.graph.value_info[0]):
        declared.doc_string = "a tensor"
        declared.type.denotation = "TENSOR"
        declared.type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
        props(declared)
    return made


@feature
def quantization_annotation() -> ModelProto:
    made = relu()
    made.graph.initializer.append(floats("scale"))
    note = made.graph.quantization_annotation.add(tensor_name="x")
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="scale")
    return made


@feature
def quantization_annotation_of_unknown() -> ModelProto:
    made = quantization_annotation()
    note = made.graph.quantization_annotation.add(tensor_name="nowhere")
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="not here either")
    made.graph.sparse_initializer.append(sparse("s", 2, [4]))
    made.graph.quantization_annotation.add(tensor_name="s")
    return made


@feature
def empty_graph() -> ModelProto:
    made = model([])
    made.graph.ClearField("name")
    return made


@feature
def input_is_output() -> ModelProto:
    return model([], [info("x")], [info("x")])


@feature
def output_twice() -> ModelProto:
    made = relu()
    made.graph.output.append(info("y"))
    return made


@feature
def output_from_nowhere() -> ModelProto:
    made = relu()
    made.graph.output.append(info("ghost"))
    return made


# Types --------------------------------------------------------------------------------------------


@feature
def dims_of_every_kind() -> ModelProto:
    made = model(
        [helper.make_node("Relu", ["x"], ["y"])],
        [info("x", shape=("batch", None, 3, 0))],
        [info("y", shape=("batch", "?", None, -1))],
    )
    made.graph.input[0].type.tensor_type.shape.dim.add().dim_param = ""
    return made


@feature
def rank_zero_and_no_shape() -> ModelProto:
    made = model([helper.make_node("Relu", ["x"], ["y"])], [info("x", shape=())], [])
    made.graph.output.add(name="y").type.tensor_type.elem_type = FLOAT
    return made


@feature
def no_types() -> ModelProto:
    made = relu()
    made.graph.input[0].ClearField("type")
    made.graph.output[0].ClearField("type")
    made.graph.value_info.add(name="y")
    return made


@feature
def types_set_but_empty() -> ModelProto:
    made = relu()
    made.graph.input[0].type.Clear()
    made.graph.input[0].type.SetInParent()
    made.graph.output[0].type.tensor_type.Clear()
    made.graph.output[0].type.tensor_type.SetInParent()
    return made


@feature
def element_type_of_the_future() -> ModelProto:
    made = relu()
    made.graph.value_info.append(info("z", 99))
    made.graph.node.append(helper.make_node("Relu", ["y"], ["z"]))
    made.graph.initializer.append(TensorProto(name="w", data_type=99, dims=[1], raw_data=b"1"))
    return made


@feature
def value_info_of_everything() -> ModelProto:
    made = model(
        [
            helper.make_node("Constant", [], ["k"], value=floats("k")),
            helper.make_node("Add", ["x", "k"], ["s"]),
            helper.make_node("Add", ["s", "w"], ["y"]),
        ],
        [info("x")],
        [info("y")],
        [floats("w")],
    )
    made.graph.value_info.extend(map(info, ("unknown", "y", "w", "s", "x", "k", "unknown2")))
    return made


@feature
def value_info_contradicts_output() -> ModelProto:
    made = relu()
    made.graph.value_info.append(info("y", shape=("other",)))
    return made


TYPES = {
    "optional": helper.make_optional_type_proto(helper.make_tensor_type_proto(FLOAT, [2, None])),
    "sequence": helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, ["n"])),
    "map": helper.make_map_type_proto(INT64, helper.make_tensor_type_proto(FLOAT, [2])),
    "sparse": helper.make_sparse_tensor_type_proto(FLOAT, [2, "n"]),
    "sequence_of_map": helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(FLOAT, []))
    ),
    "sequence_of_sequence": helper.make_sequence_type_proto(
        helper.make_sequence_type_proto(helper.make_tensor_type_proto(INT64, None))
    ),
    "optional_sequence": helper.make_optional_type_proto(
        helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, None))
    ),
    "opaque": TypeProto(opaque_type=TypeProto.Opaque(domain="d", name="n"), denotation="D"),
}
for _name, _type in TYPES.items():
    MODELS[f"type_{_name}"] = lambda kind=_type: typed_io(kind)  # type: ignore[misc]


# Tensors ------------------------------------------------------------------------------------------


def tensor_of(elem: int, count: int, raw: bool, name: str = "w") -> TensorProto:
    """Return a tensor whose bits were drawn at random."""
    if elem == TensorProto.STRING:
        return texts(name, *([b"", b"a", "ü".encode(), b"zz"] * count)[:count])
    dtype = helper.tensor_dtype_to_np_dtype(elem)
    bits = np.random.default_rng(elem).integers(0, 3, count)
    values = np.asarray(bits).astype(dtype)
    if raw:
        return numpy_helper.from_array(values, name)
    return helper.make_tensor(name, elem, [count], values)


ELEMENT_TYPES = [
    (name, number)
    for name, number in TensorProto.DataType.items()
    if number != TensorProto.UNDEFINED
]


def _dtype(elem: int) -> ModelProto:
    made = relu()
    raws = (False,) if elem == TensorProto.STRING else (False, True)
    tensors = [
        tensor_of(elem, count, raw, f"w{count}{raw}") for raw in raws for count in (0, 3, 8200)
    ]
    made.graph.initializer.extend(tensors)
    for tensor in tensors:
        node = made.graph.node.add(op_type="Constant", output=[f"c_{tensor.name}"])
        node.attribute.append(helper.make_attribute("value", tensor))
    return made


for _name, _elem in ELEMENT_TYPES:
    MODELS[f"dtype_{_name.lower()}"] = lambda elem=_elem: _dtype(elem)  # type: ignore[misc]


@feature
def scalar_and_typed_fields() -> ModelProto:
    made = relu()
    for elem, value in ((FLOAT, 1.5), (INT64, -3), (TensorProto.DOUBLE, 2.5), (BOOL, True)):
        made.graph.initializer.append(helper.make_tensor(f"s{elem}", elem, [], [value]))
    made.graph.initializer.append(TensorProto(name="undefined"))
    return made


@feature
def large_everywhere() -> ModelProto:
    inner = branch("Relu", "t", initializer=[floats("inner", LARGE, 1)])
    inner.node.add(op_type="Constant", output=["deep"]).attribute.append(
        helper.make_attribute("value", floats("", LARGE, 2))
    )
    made = if_model(inner, branch("Neg", "e"))
    made.graph.initializer.append(floats("outer", LARGE, 3))
    made.graph.sparse_initializer.append(sparse("sparse", LARGE, [1000]))
    node = made.graph.node.add(op_type="Constant", output=["k"])
    node.attribute.append(helper.make_attribute("value", floats("k", LARGE, 4)))
    node = made.graph.node.add(op_type="Constant", output=["ks"])
    node.attribute.append(helper.make_attribute("sparse_value", sparse("v", LARGE, [1000])))
    node = made.graph.node.add(op_type="Custom", domain="test", output=["custom"])
    node.attribute.append(helper.make_attribute("many", [floats("a", LARGE), floats("b", 2)]))
    node.attribute.append(helper.make_attribute("more", [sparse("c", LARGE, [1000])]))
    body = helper.make_node("Constant", [], ["b"], value=floats("", LARGE, 5))
    made.functions.append(function([body]))
    default = helper.make_attribute("weight", floats("", LARGE, 6))
    made.functions[0].attribute_proto.append(default)
    made.functions[0].attribute_proto.append(
        helper.make_attribute("mask", sparse("m", LARGE, [1000]))
    )
    made.training_info.add().algorithm.initializer.append(floats("train", LARGE, 7))
    return made


@feature
def data_location_set_to_its_default() -> ModelProto:
    made = relu()
    for count in (2, LARGE):
        tensor = floats(f"w{count}", count)
        tensor.data_location = TensorProto.DEFAULT
        made.graph.initializer.append(tensor)
    return made


@feature
def raw_data_and_stray_entries() -> ModelProto:
    made = relu()
    tensor = floats("w", LARGE)
    tensor.external_data.add(key="location", value="leftover")
    made.graph.initializer.append(tensor)
    return made


@feature
def text_that_looks_like_a_mark() -> ModelProto:
    made = relu()
    made.doc_string = made.graph.doc_string = "onnxslim-weight:0"
    made.graph.node[0].doc_string = "onnxslim-weight:0" * 100
    tensor = floats("onnxslim-weight:0", LARGE)
    tensor.doc_string = "onnxslim-weight:1"
    made.graph.initializer.append(tensor)
    made.graph.initializer.append(texts("words", b"onnxslim-weight:0" * 100))
    return made


@feature
def unused_initializers() -> ModelProto:
    made = relu()
    made.graph.initializer.extend([floats("u"), floats("v", LARGE)])
    return made


@feature
def duplicate_initializers() -> ModelProto:
    made = model(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        [info("x")],
        [info("y")],
        [floats("w", 2, 1), floats("w", 2, 2), floats("w", LARGE, 3)],
    )
    return made


@feature
def initializer_is_output() -> ModelProto:
    return model([], [], [info("w")], [floats("w")])


def _initializer_is_input(ir: int) -> ModelProto:
    made = model(
        [helper.make_node("Add", ["x", "w"], ["y"]), helper.make_node("Add", ["y", "v"], ["z"])],
        [info("w"), info("x"), info("v")],
        [info("z")],
        [floats("v"), floats("w")],
        ir=ir,
        opset=8 if ir < 4 else 21,
    )
    made.graph.value_info.append(info("w"))
    return made


MODELS["initializer_is_input_ir3"] = lambda: _initializer_is_input(3)
MODELS["initializer_is_input_ir8"] = lambda: _initializer_is_input(8)


@feature
def sparse_initializer() -> ModelProto:
    made = model([helper.make_node("Relu", ["s"], ["y"])], [], [info("y", shape=(4,))])
    made.graph.sparse_initializer.extend([sparse("s", 2, [4]), sparse("t", LARGE, [LARGE, 2])])
    return made


@feature
def sparse_initializer_is_input() -> ModelProto:
    made = sparse_initializer()
    made.graph.input.append(info("s", shape=(4,)))
    return made


# Attributes ---------------------------------------------------------------------------------------

_TENSOR_TYPE = helper.make_tensor_type_proto(FLOAT, [1])
ATTRIBUTES: dict[str, AttributeProto] = {
    "float": helper.make_attribute("a", 0.1),
    "nan": helper.make_attribute("a", float("nan"), doc_string="not a number"),
    "nans": helper.make_attribute("a", [float("nan"), 1.0], doc_string="not numbers"),
    "negative_zero": helper.make_attribute("a", -0.0),
    "int": helper.make_attribute("a", -(2**63)),
    "string": helper.make_attribute("a", "ü", doc_string="a letter"),
    "empty_string": helper.make_attribute("a", ""),
    "not_utf8": helper.make_attribute("a", b"\xff\xfe\x00"),
    "strings": helper.make_attribute("a", [b"x", b"\xff", b""]),
    "floats": helper.make_attribute("a", [0.1, 0.2]),
    "ints": helper.make_attribute("a", [1, 2]),
    "tensor": helper.make_attribute("a", floats("named")),
    "tensors": helper.make_attribute("a", [floats("p"), floats("q", LARGE)]),
    "sparse": helper.make_attribute("a", sparse("s", 2, [4])),
    "sparses": helper.make_attribute("a", [sparse("s", 2, [4]), sparse("t", LARGE, [999])]),
    "type": helper.make_attribute("a", _TENSOR_TYPE),
    "types": helper.make_attribute("a", [_TENSOR_TYPE, TYPES["map"]]),
    "graph": helper.make_attribute("a", branch("Relu", "g"), doc_string="a graph"),
    "graphs": helper.make_attribute("a", [branch("Relu", "g"), branch("Neg", "h")]),
    "bare": AttributeProto(name="a"),
    "no_name": AttributeProto(i=3, type=AttributeProto.INT),
    "graph_type_without_graph": AttributeProto(name="a", type=AttributeProto.GRAPH),
    "unset_float": AttributeProto(name="a", type=AttributeProto.FLOAT),
    "unset_tensor": AttributeProto(name="a", type=AttributeProto.TENSOR),
    "explicit_undefined": AttributeProto(name="a", type=AttributeProto.UNDEFINED, i=1),
}
for _name in ("FLOATS", "INTS", "STRINGS", "TENSORS", "GRAPHS", "TYPE_PROTOS", "SPARSE_TENSORS"):
    ATTRIBUTES[f"empty_{_name.lower()}"] = AttributeProto(name="a", type=_name)
for _name in ("float", "nan", "int", "string", "floats", "ints", "strings", "tensor", "graph"):
    _untyped = AttributeProto()
    _untyped.CopyFrom(ATTRIBUTES[_name])
    _untyped.ClearField("type")
    ATTRIBUTES[f"untyped_{_name}"] = _untyped
for _name, _attribute in ATTRIBUTES.items():
    MODELS[f"attribute_{_name}"] = lambda made=_attribute: with_attribute(made)  # type: ignore[misc]


@feature
def attribute_twice() -> ModelProto:
    made = with_attribute(helper.make_attribute("a", 1))
    made.graph.node[0].attribute.append(helper.make_attribute("a", 2))
    return made


@feature
def constants_of_every_form() -> ModelProto:
    forms: dict[str, Any] = {
        "value_float": 0.1,
        "value_floats": [0.1, float("nan")],
        "value_int": 3,
        "value_ints": [1, 2],
        "value_string": "s",
        "value_strings": ["s", "t"],
        "sparse_value": sparse("s", 2, [4]),
        "value": floats("named"),
    }
    nodes = [helper.make_node("Constant", [], [key], **{key: form}) for key, form in forms.items()]
    nodes.append(helper.make_node("Constant", [], ["none"]))
    nodes.append(NodeProto(op_type="Constant", output=["empty"]))
    nodes[-1].attribute.add(name="value_ints", type=AttributeProto.INTS)
    nodes.append(NodeProto(op_type="Constant"))  # no output either
    return model(nodes, [], [info("value")])


@feature
def constant_of_another_domain() -> ModelProto:
    node = helper.make_node("Constant", [], ["y"], value=floats("v"), domain="test")
    return model([node], [], [info("y")])


# Nodes and names ----------------------------------------------------------------------------------


@feature
def left_out_operands() -> ModelProto:
    nodes = [
        helper.make_node("Clip", ["x", "", "hi"], ["c"]),
        helper.make_node("Clip", ["c", "", ""], ["d"]),
        helper.make_node("Dropout", ["d"], ["y", ""]),
        helper.make_node("LSTM", ["x", "w", "r"], ["", "h", ""], hidden_size=1),
        helper.make_node("NoOp", [], [], domain="test"),
    ]
    made = model(nodes, [info("x")], [info("y")], [floats("hi")])
    made.graph.value_info.append(info(""))
    return made


@feature
def duplicate_node_names() -> ModelProto:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="same"),
        helper.make_node("Relu", ["a"], ["b"], name="same"),
        helper.make_node("Relu", ["b"], ["y"]),
    ]
    return model(nodes, [info("x")], [info("y")])


@feature
def equal_nodes() -> ModelProto:
    nodes = [helper.make_node("Relu", ["x"], [name], name="r") for name in "ab"]
    return model([*nodes, helper.make_node("Add", ["a", "b"], ["y"])], [info("x")], [info("y")])


@feature
def output_defined_twice() -> ModelProto:
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Neg", ["x"], ["y"])]
    return model(nodes, [info("x")], [info("y")])


@feature
def unsorted() -> ModelProto:
    nodes = [helper.make_node("Relu", ["a"], ["y"]), helper.make_node("Neg", ["x"], ["a"])]
    return model(nodes, [info("x")], [info("y")])


@feature
def undefined_input() -> ModelProto:
    made = model([helper.make_node("Add", ["x", "ghost"], ["y"])], [info("x")], [info("y")])
    made.graph.value_info.append(info("ghost"))
    return made


@feature
def odd_names() -> ModelProto:
    nodes = [helper.make_node("Relu", ["ü/ :0"], ["\n"], name="\t")]
    return model(nodes, [info("ü/ :0")], [info("\n")])


# Subgraphs ----------------------------------------------------------------------------------------


@feature
def branches_read_outer_values() -> ModelProto:
    then = branch("Add", "t", ["x", "w"])
    other = branch("Mul", "e", ["h", "w"])
    other.value_info.append(info("h"))
    made = if_model(then, other, initializers=[floats("w", LARGE)])
    made.graph.node.insert(0, helper.make_node("Neg", ["x"], ["h"]))
    return made


@feature
def branches_read_what_is_defined_later() -> ModelProto:
    made = if_model(branch("Neg", "t", ["h"]), branch("Neg", "e", ["h"]))
    made.graph.node.append(helper.make_node("Neg", ["x"], ["h"]))
    return made


@feature
def branch_returns_an_outer_value() -> ModelProto:
    def bare(name: str) -> GraphProto:
        return helper.make_graph([], "b", [], [info(name)])

    return if_model(bare("x"), bare("w"), initializers=[floats("w")])


@feature
def shadowed_names() -> ModelProto:
    made = if_model(
        branch("Relu", "y", initializer=[floats("x", LARGE)]),
        branch("Relu", "x"),  # the output hides what the input reads
        initializers=[floats("y0")],
    )
    return made


@feature
def nested_branches() -> ModelProto:
    deep = helper.make_node(
        "If",
        ["c"],
        ["t"],
        then_branch=branch("Add", "tt", ["x", "v"]),
        else_branch=branch("Relu", "te", ["late"]),
    )
    then = helper.make_graph([deep], "then", [], [info("t")], [floats("v", LARGE)])
    then.node.append(helper.make_node("Neg", ["x"], ["late"]))
    return if_model(then, branch("Neg", "e"))


@feature
def loop() -> ModelProto:
    body = helper.make_graph(
        [
            helper.make_node("Add", ["v", "step"], ["w"]),
            helper.make_node("Identity", ["on"], ["off"]),
        ],
        "body",
        [info("i", INT64, ()), info("on", BOOL, ()), info("v")],
        [info("off", BOOL, ()), info("w"), info("v")],
    )
    node = helper.make_node("Loop", ["n", "", "x"], ["y", "steps"], body=body)
    return model(
        [node], [info("n", INT64, ()), info("x"), info("step")], [info("y"), info("steps")]
    )


@feature
def scan() -> ModelProto:
    body = helper.make_graph(
        [helper.make_node("Add", ["s", "e"], ["t"]), helper.make_node("Mul", ["t", "k"], ["o"])],
        "body",
        [info("s"), info("e")],
        [info("t"), info("o")],
    )
    node = helper.make_node("Scan", ["x", "xs"], ["y", "ys"], body=body, num_scan_inputs=1)
    return model([node], [info("x"), info("xs")], [info("y"), info("ys")], [floats("k")])


@feature
def subgraph_initializer_is_input() -> ModelProto:
    body = branch("Add", "t", ["x", "d"], initializer=[floats("d")])
    body.input.append(info("d"))
    return if_model(body, branch("Neg", "e"))


@feature
def subgraph_is_empty() -> ModelProto:
    return if_model(GraphProto(), GraphProto(name="n"))


# Functions ----------------------------------------------------------------------------------------


@feature
def local_function() -> ModelProto:
    return calling(function([helper.make_node("Relu", ["a"], ["b"])]))


@feature
def function_fields() -> ModelProto:
    made = function([helper.make_node("Relu", ["a"], ["c"]), helper.make_node("Neg", ["c"], ["b"])])
    made.doc_string = "a function"
    made.value_info.extend([info("c"), info("unknown"), info("a"), info("b")])
    props(made)
    made.node[0].doc_string = "its node"
    props(made.node[0])
    return calling(made)


@feature
def function_overloads() -> ModelProto:
    one = function([helper.make_node("Relu", ["a"], ["b"])])
    two = function([helper.make_node("Neg", ["a"], ["b"])])
    two.overload = "other"
    made = calling(one, two)
    made.graph.node[0].overload = "other"
    return made


@feature
def function_attributes() -> ModelProto:
    node = helper.make_node("LeakyRelu", ["a"], ["c"])
    node.attribute.add(name="alpha", ref_attr_name="slope", type=AttributeProto.FLOAT)
    constant = helper.make_node("Constant", [], ["k"])
    constant.attribute.add(name="value", ref_attr_name="k", type=AttributeProto.TENSOR)
    made = function([node, constant, helper.make_node("Add", ["c", "k"], ["b"])], ["slope", "k"])
    made.attribute_proto.append(helper.make_attribute("bias", 0.25, doc_string="has a default"))
    return calling(made, slope=0.5, k=floats("k"))


@feature
def function_with_branches() -> ModelProto:
    node = helper.make_node(
        "If",
        ["c"],
        ["b"],
        then_branch=branch("Relu", "t", ["a"], initializer=[floats("w", LARGE)]),
        else_branch=branch("Neg", "e", ["a"]),
    )
    test = helper.make_node("ReduceMax", ["a"], ["m"], keepdims=0)
    return calling(function([test, helper.make_node("Cast", ["m"], ["c"], to=BOOL), node]))


@feature
def function_calls_function() -> ModelProto:
    inner = function([helper.make_node("Relu", ["a"], ["b"])])
    inner.name = "g"
    outer = function([helper.make_node("g", ["a"], ["b"], domain="local")])
    outer.opset_import.add(domain="local", version=1)
    return calling(inner, outer)


@feature
def function_replaces_an_operator() -> ModelProto:
    made = relu()
    made.functions.append(function([helper.make_node("Neg", ["a"], ["b"])]))
    made.functions[0].domain, made.functions[0].name = "", "Relu"
    return made


@feature
def function_named_constant() -> ModelProto:
    made = model([helper.make_node("Constant", [], ["y"], value=floats("v"))], [], [info("y")])
    made.functions.append(function([helper.make_node("Neg", ["a"], ["b"])]))
    made.functions[0].domain, made.functions[0].name = "", "Constant"
    return made


@feature
def function_body_odd() -> ModelProto:
    made = function([helper.make_node("Relu", ["ghost"], ["c"])])
    made.input.append("")
    made.output.extend(["a", "nowhere"])
    return calling(made)


# What this release of onnx does not know ----------------------------------------------------------

UNKNOWN_FIELD = b"\xfa\x3f\x05later"
"""Field 1023, five bytes."""


def _unknown(*places: Callable[[ModelProto], Any]) -> ModelProto:
    made = large_everywhere()
    for place in places:
        place(made).MergeFromString(UNKNOWN_FIELD)
    return made


UNKNOWN: dict[str, Callable[[ModelProto], Any]] = {
    "model": lambda m: m,
    "graph": lambda m: m.graph,
    "node": lambda m: m.graph.node[0],
    "attribute": lambda m: m.graph.node[0].attribute[0],
    "subgraph": lambda m: m.graph.node[0].attribute[0].g,
    "tensor": lambda m: m.graph.initializer[0],
    "input": lambda m: m.graph.input[0],
    "function": lambda m: m.functions[0],
}
for _name, _place in UNKNOWN.items():
    MODELS[f"unknown_field_in_{_name}"] = lambda place=_place: _unknown(place)  # type: ignore[misc]


def everything() -> ModelProto:
    """Join what `onnx` accepts together: one model that is rich, valid and small."""
    made = branches_read_outer_values()
    made.graph.initializer.extend([floats("big", LARGE), floats("small")])
    made.graph.node.add(op_type="Constant", output=["k"]).attribute.append(
        helper.make_attribute("value", floats("k", LARGE))
    )
    made.functions.append(function([helper.make_node("Relu", ["a"], ["b"])]))
    made.opset_import.add(domain="local", version=1)
    made.graph.node.add(op_type="f", domain="local", input=["x"], output=["z"])
    props(made)
    onnx.checker.check_model(made)
    return made
