"""Constant nodes as initializers."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from kit import assert_declines, assert_rewrites, model, operators
from onnxslim import Pipeline
from onnxslim.ir import Model
from onnxslim.passes.simplify.lift_constants import LiftConstants

LIFT = LiftConstants()


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ("value = float[2] {1, 2}", "float[2]", np.array([1, 2], np.float32)),
        ("value_float = 0.1", "float", np.array(0.1, np.float32)),
        ("value_floats = [0.1, 2.0]", "float[2]", np.array([0.1, 2], np.float32)),
        ("value_int = 7", "int64", np.array(7)),
        ("value_ints = [7, -1]", "int64[2]", np.array([7, -1])),
    ],
)
def test_every_form(value: str, kind: str, expected: np.ndarray) -> None:
    before = model(f"g ({kind} x) => ({kind} y) {{ c = Constant<{value}>() y = Add(x, c) }}")
    after = assert_rewrites(before, LIFT, ["Add"])
    (constant,) = after.constants()
    assert constant.values.dtype == expected.dtype
    assert constant.values.tolist() == expected.tolist()
    assert not any(node.op == "Constant" for node in after.nodes())


@pytest.mark.parametrize(
    ("value", "kind"), [('value_string = "a"', "string"), ('value_strings = ["a"]', "string[1]")]
)
def test_text_stays(value: str, kind: str) -> None:
    before = model(f"""g ({kind} x) => ({kind} y) {{
        c = Constant<{value}>() y = StringConcat(x, c)
    }}""")
    assert_declines(before, LIFT)


def test_a_sparse_value_stays() -> None:
    before = model("g (float[3] x) => (float[3] y) { y = Add(x, c) }").proto()
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(np.array([2], np.float32), "c"),
        numpy_helper.from_array(np.array([1])),
        [3],
    )
    node = before.graph.node.add(op_type="Constant", output=["c"])
    node.attribute.append(helper.make_attribute("sparse_value", sparse))
    assert_declines(Model.from_proto(before), LIFT)


def test_a_graph_output_stays_the_output_of_a_node() -> None:
    before = model("""g (float x) => (float y, float c) {
        c = Constant<value_float = 1.0>() y = Add(x, c)
    }""")
    assert_declines(before, LIFT, "the constant is a graph output")


def test_an_unread_constant_is_none_of_its_business() -> None:
    before = model("g (float x) => (float y) { c = Constant<value_int = 1>() y = Abs(x) }")
    assert_declines(before, LIFT)


def test_before_ir_4_initializers_would_be_inputs() -> None:
    text = "g (float x) => (float y) { c = Constant<value = float {1}>() y = Add(x, c) }"
    before = model(text, opset=8, ir=3)
    assert_declines(before, LIFT, "IR version 3 wants every initializer among the inputs")


def test_since_ir_4_initializers_need_not_be_inputs() -> None:
    text = "g (float x) => (float y) { c = Constant<value = float {1}>() y = Add(x, c) }"
    assert_rewrites(model(text, opset=9, ir=4), LIFT, ["Add"])


def test_inside_branches_under_one_name() -> None:
    """Each stays in its own branch, also when a graph inside the branch reads it."""
    branch = """{{
        k = Constant<value_floats = [{0}, 2.0]>()
        i = If (c) <
            then_branch = {1}t () => (float[2] b) {{ b = Add(x, k) }},
            else_branch = {1}e () => (float[2] b2) {{ b2 = Sub(x, k) }}
        >
        {1} = Add(i, k)
    }}"""
    before = model(f"""g (bool c, float[2] x) => (float[2] y) {{
        y = If (c) <
            then_branch = t () => (float[2] u) {branch.format(1.0, "u")},
            else_branch = e () => (float[2] v) {branch.format(3.0, "v")}
        >
    }}""")
    assert_rewrites(before, LIFT, operators(before), changes=2)


def test_read_by_a_branch_only() -> None:
    before = model("""g (bool c, float[2] x) => (float[2] y) {
        k = Constant<value_floats = [1.0, 2.0]>()
        y = If (c) <
            then_branch = t () => (float[2] u) { u = Add(x, k) },
            else_branch = e () => (float[2] v) { v = Sub(x, k) }
        >
    }""")
    assert_rewrites(before, LIFT, ["If", "Add", "Sub"])


def test_a_function_has_no_initializers() -> None:
    before = model("""g (float[2] x) => (float[2] y) { y = local.F(x) }
    <domain: "local", opset_import: ["" : 20]> F (p) => (q) {
        k = Constant<value_floats = [1.0, 2.0]>() q = Add(p, k)
    }""")
    assert_declines(before, LIFT)


def test_an_attribute_of_a_call_is_no_constant() -> None:
    before = model("""g (float[2] x) => (float[2] y) { y = local.F<v = 2.0>(x) }
    <domain: "local", opset_import: ["" : 20]> F <v> (p) => (q) {
        k = Constant<value_float: float = @v>() q = Add(p, k)
    }""")
    assert_declines(before, LIFT)


def test_a_local_function_called_constant_is_another_operator() -> None:
    before = model("""
    <ir_version: 9, opset_import: ["" : 20, "local" : 1]>
    g (float[2] x) => (float[2] y) { k = local.Constant<value_float = 1.0>() y = Add(x, k) }
    <domain: "local", opset_import: ["" : 20]> Constant <value_float> () => (q) {
        q = Constant<value_float: float = @value_float>()
    }""")
    assert_declines(before, LIFT)


def test_many_small_integers_are_shorter_as_an_attribute() -> None:
    ints = ", ".join(["1"] * 300)
    before = model(f"""g (int64[300] x) => (int64[300] y) {{
        k = Constant<value_ints = [{ints}]>() y = Add(x, k)
    }}""")
    assert_declines(before, LIFT, "would take more bytes")


def test_a_type_that_numpy_lacks() -> None:
    tensor = helper.make_tensor("", TensorProto.BFLOAT16, [1], [1.0])
    before = model("g (float[1] x) => (float[1] y) { b = Cast<to=1>(k) y = Add(x, b) }").proto()
    before.graph.node.insert(0, helper.make_node("Constant", [], ["k"], value=tensor))
    after, _ = Pipeline((LIFT,), check="each")(Model.from_proto(before))
    assert [c.elem_type for c in after.constants()] == [TensorProto.BFLOAT16]
    assert [node.op for node in after.nodes()] == ["Cast", "Add"]
