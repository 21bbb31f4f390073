"""Stripped models say the same in fewer bytes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, TensorProto, helper

from kit import assert_declines, assert_rewrites, holding, model
from onnxslim import Model, parse
from onnxslim.base import Context
from onnxslim.passes.share.strip import Strip

CONV = """main (float[1,1,8,8] x) => (float y)
{ image_features = Conv%s(x, kernel_weight) y = Relu(image_features) }"""


def stripped(before: Model, spec: str = "strip") -> onnx.ModelProto:
    """Return what the pass makes of *before*, whether it runs or not."""
    after = before.copy()
    parse(spec)[0].apply(after, Context())
    return after.proto()


def conv(attributes: str, opset: int = 20) -> Model:
    weight = np.ones((1, 1, 3, 3), np.float32)
    return holding(model(CONV % (attributes and f"<{attributes}>"), opset), kernel_weight=weight)


def attributes_left(before: Model) -> list[str]:
    return [attribute.name for attribute in stripped(before).graph.node[0].attribute]


def test_the_names_used_most_are_the_shortest() -> None:
    text = """main (float[4] x) => (float[4] y)
    { once = Neg(x) twice = Abs(once) y = Add(twice, twice) }"""
    after = assert_rewrites(model(text), Strip(), ["Neg", "Abs", "Add"], 3)
    assert [node.outputs[0].name for node in after.graph.nodes] == ["b", "a", "y"]


def test_inputs_and_outputs_keep_their_names() -> None:
    text = (
        "main (float[4] image) => (float[4] label) { features = Neg(image) label = Abs(features) }"
    )
    proto = stripped(model(text))
    assert [proto.graph.input[0].name, proto.graph.output[0].name] == ["image", "label"]


def test_a_short_name_of_the_interface_is_not_given_twice() -> None:
    text = "main (float[4] a) => (float[4] b) { features = Neg(a) b = Abs(features) }"
    assert stripped(model(text)).graph.node[0].output == ["c"]


def test_subgraphs_still_read_what_is_outside_of_them() -> None:
    text = """main (float[4] x, bool flag) => (float[4] y) {
      outer = Neg(x)
      y = If<then_branch = then () => (float[4] inner) { inner = Abs(outer) },
             else_branch = other () => (float[4] inner) { inner = Exp(outer) }>(flag)
    }"""
    assert_rewrites(model(text), Strip(), ["Neg", "If", "Abs", "Exp"], 6)


def test_one_name_in_two_subgraphs_is_two_tensors() -> None:
    text = """main (float[4] x, bool flag) => (float[4] y) {
      y = If<then_branch = g () => (float[4] both) { result = Abs(x) both = Add(result, x) },
             else_branch = g () => (float[4] both) { both = Exp(x) }>(flag)
    }"""
    first, second = (a.g.node for a in stripped(model(text)).graph.node[0].attribute)
    assert first[1].output != second[0].output


def test_loop_bodies_are_stripped() -> None:
    text = """main (int64 count, bool go, float[4] x) => (float[4] y) {
      y = Loop<body = body (int64 step, bool run, float[4] state) => (bool again, float[4] next)
        { again = Identity(run) next = Neg(state) }>(count, go, x)
    }"""
    assert_rewrites(model(text), Strip(), ["Loop", "Identity", "Neg"], 7)


def test_functions_are_stripped() -> None:
    text = """main (float[4] x) => (float[4] y) { y = local.double(x) }
    <domain: "local", opset_import: ["" : 20]>
    double (argument) => (result) { copied = Identity(argument) result = Add(copied, argument) }"""
    proto = stripped(model(text))
    assert (list(proto.functions[0].input), list(proto.functions[0].output)) == (["a"], ["c"])


def test_the_inputs_of_foreign_subgraphs_keep_their_names() -> None:
    body = model("decoder (float[4] input_ids) => (float[4] logits) { logits = Neg(input_ids) }")
    node = helper.make_node("Search", ["x"], ["y"], domain="com.microsoft")
    node.attribute.append(helper.make_attribute("decoder", body.proto().graph))
    proto = model("main (float[4] x) => (float[4] y) { y = Identity(x) }").proto()
    proto.graph.node[0].CopyFrom(node)
    inner = stripped(Model.from_proto(proto)).graph.node[0].attribute[0].g
    assert (inner.input[0].name, inner.output[0].name) == ("input_ids", "logits")


def test_comments_go() -> None:
    proto = model("main (float[4] x) => (float[4] y) { y = Neg(x) }").proto()
    proto.producer_name = "pytorch"
    proto.doc_string = proto.graph.doc_string = proto.graph.node[0].doc_string = "as in section 3"
    proto.graph.node[0].name = "/model/layer/Neg"
    proto.graph.input[0].doc_string = "an image"
    assert b"section" in proto.SerializeToString()
    after = stripped(Model.from_proto(proto)).SerializeToString()
    assert not any(text in after for text in (b"section", b"pytorch", b"layer", b"image"))


@pytest.mark.parametrize(("spec", "left"), [("strip", 1), ("strip{metadata=true}", 0)])
def test_properties_of_the_model_stay_unless_asked(spec: str, left: int) -> None:
    proto = conv("").proto()
    helper.set_model_props(proto, {"labels": "cat,dog"})
    assert len(stripped(Model.from_proto(proto), spec).metadata_props) == left


def test_declared_types_go() -> None:
    proto = model("main (float[4] x) => (float[4] y) { h = Neg(x) y = Abs(h) }").proto()
    proto.graph.value_info.append(helper.make_tensor_value_info("h", 1, [4]))
    assert not stripped(Model.from_proto(proto)).graph.value_info


def test_types_of_unknown_operators_stay() -> None:
    proto = model("main (float[4] x) => (float[4] y) { odd = local.Odd(x) y = Abs(odd) }").proto()
    proto.graph.value_info.append(helper.make_tensor_value_info("odd", 1, [4]))
    (info,) = stripped(Model.from_proto(proto)).graph.value_info
    assert info.name == "a"


def test_attributes_that_say_the_default_go() -> None:
    said = 'auto_pad="NOTSET", group=1, dilations=[1,1], pads=[0,0,0,0], strides=[1,1]'
    assert attributes_left(conv(said + ", kernel_shape=[3,3]")) == []


def test_attributes_that_say_something_else_stay() -> None:
    said = 'auto_pad="VALID", dilations=[2,2], strides=[1,2]'
    assert attributes_left(conv(said)) == ["auto_pad", "dilations", "strides"]


def test_strides_stay_where_the_definition_gives_no_default() -> None:
    assert attributes_left(conv("strides=[1,1], pads=[0,0,0,0]", opset=10)) == ["strides"]


def test_a_kernel_shape_stays_where_the_weight_may_be_another() -> None:
    text = """g (float[1,1,8,8] x, float[1,1,3,3] w) => (float y)
    { y = Conv<kernel_shape=[3,3]>(x, w) }"""
    assert_declines(model(text), Strip())


def test_defaults_are_those_of_the_opset() -> None:
    text = "g (float[2,3] x) => (float[2,3] y) { y = Softmax<axis: int = 1>(x) }"
    assert_rewrites(model(text, opset=12), Strip(), ["Softmax"])
    assert_declines(model(text, opset=13), Strip())


def test_a_reversing_transpose_needs_no_permutation() -> None:
    text = "g (float[2,3] x) => (float[3,2] y) { y = Transpose<perm = [1, 0]>(x) }"
    assert_rewrites(model(text), Strip(), ["Transpose"])


def test_attributes_of_a_function_that_borrows_a_name_stay() -> None:
    text = """<ir_version: 9, opset_import: ["" : 20, "ai.onnx.ml" : 3]>
    main (float[2,3] x) => (float[2,3] y) { y = ai.onnx.ml.Scaler<offset: floats = [0.0]>(x) }
    <domain: "ai.onnx.ml", opset_import: ["" : 20]>
    Scaler <offset> (x) => (y) { c = Constant<value_floats: floats = @offset>() y = Add(x, c) }"""
    assert stripped(Model.from_proto(onnx.parser.parse_model(text))).graph.node[0].attribute


@pytest.mark.parametrize("kind", ["int64", "int32", "uint16", "int16"])
def test_small_integers_are_written_as_varints(kind: str) -> None:
    before = holding(
        model("main () => (float[9] y) { y = Cast<to: int = 1>(w) }"),
        w=np.arange(9).astype(kind),
    )
    after = stripped(before).graph.initializer[0]
    assert not after.raw_data
    assert onnx.numpy_helper.to_array(after).tolist() == list(range(9))


def test_large_integers_stay_bytes() -> None:
    values = np.full(9, -1, np.int64)
    before = holding(model("g () => (float[9] y) { y = Cast<to: int = 1>(a) }"), a=values)
    assert_declines(before, Strip())


def test_a_reference_to_an_attribute_stays() -> None:
    text = """main (float[4] x) => (float[4] y) { y = local.scale<alpha = 2.0>(x) }
    <domain: "local", opset_import: ["" : 20]>
    scale <alpha> (x) => (y) { y = Elu<alpha: float = @alpha>(x) }"""
    (attribute,) = stripped(model(text)).functions[0].node[0].attribute
    assert (attribute.ref_attr_name, attribute.type) == ("alpha", AttributeProto.FLOAT)


def test_training_information_keeps_the_names() -> None:
    proto = model("main (float[4] x) => (float[4] y) { state = Neg(x) y = Abs(state) }").proto()
    proto.training_info.add().update_binding.add(key="state", value="state")
    assert stripped(Model.from_proto(proto)).graph.node[0].output == ["state"]


def test_an_overridable_initializer_keeps_its_name() -> None:
    proto = model("main (float[4] x, float[4] bias) => (float[4] y) { y = Add(x, bias) }").proto()
    proto.graph.initializer.append(
        TensorProto(name="bias", data_type=1, dims=[4], float_data=[1] * 4)
    )
    assert list(stripped(Model.from_proto(proto)).graph.node[0].input) == ["x", "bias"]


def test_annotations_follow_the_names() -> None:
    proto = conv("").proto()
    note = proto.graph.quantization_annotation.add(tensor_name="image_features")
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="kernel_weight")
    graph = stripped(Model.from_proto(proto)).graph
    (after,) = graph.quantization_annotation
    assert after.tensor_name == graph.node[0].output[0]
    assert after.quant_parameter_tensor_names[0].value == graph.initializer[0].name
