"""Common subexpressions."""

import numpy as np
import pytest

from kit import assert_declines, assert_rewrites, holding, model, operators
from onnxslim import Context
from onnxslim.ir import Model
from onnxslim.passes.simplify.merge_duplicate_nodes import MergeDuplicateNodes

MERGE = MergeDuplicateNodes()


def two(first: str, second: str, constants: str = "", x: str = "float[2]") -> Model:
    """Compute a and b, and keep both."""
    return model(f"""g ({x} x) => (seq({x}) y) <{constants}> {{
        {first} {second} y = SequenceConstruct(a, b)
    }}""")


def ops(*kept: str) -> list[str]:
    return [*kept, "SequenceConstruct"]


def test_equal_nodes() -> None:
    assert_rewrites(two("a = Relu(x)", "b = Relu(x)"), MERGE, ops("Relu"))


def test_equal_chains() -> None:
    before = two("c = Relu(x) a = Exp(c)", "d = Relu(x) b = Exp(d)")
    assert_rewrites(before, MERGE, ops("Relu", "Exp"), changes=2)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a = Relu(x)", "b = Abs(x)"),
        ("a = LeakyRelu<alpha = 0.1>(x)", "b = LeakyRelu<alpha = 0.2>(x)"),
        ("a = LeakyRelu<alpha = 0.0>(x)", "b = LeakyRelu<alpha = -0.0>(x)"),
        ("a = LeakyRelu<alpha = 0.1>(x)", "b = LeakyRelu<alpha = 0.10000001>(x)"),
        ("a = LeakyRelu<alpha = 0.5>(x)", "b = LeakyRelu(x)"),
        ("a = Sub(x, c)", "b = Sub(c, x)"),
        ("a = Clip(x, , m)", "b = Clip(x, m)"),
    ],
)
def test_nodes_that_differ(first: str, second: str) -> None:
    constants = "float[2] c = {1, 2}, float m = {0.5}"
    assert_declines(two(first, second, constants), MERGE)


def test_equal_attributes() -> None:
    before = two("a = LeakyRelu<alpha = 0.1>(x)", "b = LeakyRelu<alpha = 0.1>(x)")
    assert_rewrites(before, MERGE, ops("LeakyRelu"))


def test_attributes_in_another_order() -> None:
    before = two(
        "a = Selu<alpha = 1.5, gamma = 1.2>(x)",
        "b = Selu<gamma = 1.2, alpha = 1.5>(x)",
    )
    assert_rewrites(before, MERGE, ops("Selu"))


def test_attributes_that_are_lists() -> None:
    before = two(
        "a = Transpose<perm = [1, 0]>(x)", "b = Transpose<perm = [1, 0]>(x)", x="float[2, 2]"
    )
    assert_rewrites(before, MERGE, ops("Transpose"))


def test_attributes_that_are_other_lists() -> None:
    before = two(
        "a = Transpose<perm = [1, 0]>(x)", "b = Transpose<perm = [0, 1]>(x)", x="float[2, 2]"
    )
    assert_declines(before, MERGE)


@pytest.mark.parametrize(("value", "equal"), [("2", True), ("3", False)])
def test_attributes_that_are_tensors(value: str, equal: bool) -> None:
    before = model(f"""g (int64[1] x) => (float[N] y, float[N] z) {{
        a = ConstantOfShape<value = float[1] {{2}}>(x) y = Relu(a)
        b = ConstantOfShape<value = float[1] {{{value}}}>(x) z = Abs(b)
    }}""")
    if equal:
        assert_rewrites(before, MERGE, ["ConstantOfShape", "Relu", "Abs"])
    else:
        assert_declines(before, MERGE)


def test_a_tensor_of_another_type_in_an_attribute() -> None:
    before = model("""g (int64[1] x) => (float[N] y, int32[N] z) {
        y = ConstantOfShape<value = float[1] {0}>(x)
        z = ConstantOfShape<value = int32[1] {0}>(x)
    }""")
    assert_declines(before, MERGE)


@pytest.mark.parametrize(("last", "equal"), [("q", True), ("r", False)])
def test_attributes_that_are_texts(last: str, equal: bool) -> None:
    encoder = """ai.onnx.ml.LabelEncoder<
        keys_tensor = string[2] {{"p", "{0}"}}, values_tensor = int64[2] {{1, 2}}>(x)"""
    before = model(f"""<ir_version: 9, opset_import: ["" : 20, "ai.onnx.ml" : 4]>
    g (string[2] x) => (int64[2] y) {{
        a = {encoder.format("q")} b = {encoder.format(last)} y = Add(a, b)
    }}""")
    if equal:
        assert_rewrites(before, MERGE, ["LabelEncoder", "Add"])
    else:
        assert_declines(before, MERGE)


def test_an_operand_left_out_or_named_empty() -> None:
    before = two("a = Clip(x, , m)", "b = Clip(x, , m)", "float m = {0.5}")
    assert_rewrites(before, MERGE, ops("Clip"))


# Outputs ------------------------------------------------------------------------------------------


def test_a_graph_output_keeps_its_name() -> None:
    before = model("""g (float[2] x) => (float[2] y, float[2] z) {
        a = Relu(x) y = Relu(x) z = Neg(a)
    }""")
    after = assert_rewrites(before, MERGE, ["Relu", "Neg"])
    assert [tensor.name for tensor in after.graph.nodes[1].inputs] == ["y"]


def test_two_graph_outputs_keep_their_nodes() -> None:
    before = model("g (float[2] x) => (float[2] y, float[2] z) { y = Relu(x) z = Relu(x) }")
    assert_declines(before, MERGE, "a graph output, which needs a node of its own")


def test_two_graph_outputs_of_one_node_keep_it() -> None:
    before = model("""g (float[4] x) => (float[2] y, float[2] z, float[2] w) <int64[1] k = {2}> {
        a, i = Split<num_outputs = 2>(x) y, z = Split<num_outputs = 2>(x) w = Add(a, i)
    }""")
    assert_declines(before, MERGE, "several outputs of the node are graph outputs")


def test_a_declined_node_keeps_all_its_readers() -> None:
    before = model("""g (float[4] x) => (float[2] y, float[2] z, float[2] w) {
        y, a = Split<num_outputs = 2>(x) z, b = Split<num_outputs = 2>(x) w = Add(a, b)
    }""")
    content = before.to_bytes()
    assert MERGE.apply(before, Context()) == 0
    assert before.to_bytes() == content


def test_one_graph_output_of_several() -> None:
    before = model("""g (float[4] x) => (float[2] y, float[2] w) {
        a, b = Split<num_outputs = 2>(x) y, c = Split<num_outputs = 2>(x)
        d = Add(a, b) w = Mul(d, c)
    }""")
    assert_rewrites(before, MERGE, ["Split", "Add", "Mul"])


def test_the_number_of_parts_says_how_to_split() -> None:
    before = model(
        """g (float[4] x) => (float[2] y, float[1] z) {
            a, b, c, d = Split(x) e, f = Split(x) y = Add(e, f) z = Sum(a, b, c, d)
        }""",
        13,
    )
    assert_declines(before, MERGE)


@pytest.mark.parametrize("opset", [7, 9])
def test_the_number_of_outputs_says_whether_to_train(opset: int) -> None:
    before = model(
        """g (float[2, 1] x) => (float[2, 1] y, float[2, 1] z)
        <float[1] s = {1}, float[1] b = {0}, float[1] m = {0}, float[1] v = {1}> {
            y, m2, v2, sm, sv = BatchNormalization(x, s, b, m, v)
            a = BatchNormalization(x, s, b, m, v)
            z = Neg(a)
        }""",
        opset,
    )
    assert_declines(before, MERGE)


# What may not be merged ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "operation",
    ["RandomNormalLike(x)", "RandomUniformLike(x)", "Bernoulli(x)", "Dropout(x, half, yes)"],
)
def test_random_operators(operation: str) -> None:
    constants = "float half = {0.5}, bool yes = {1}"
    assert_declines(two(f"a = {operation}", f"b = {operation}", constants), MERGE)


@pytest.mark.parametrize("operation", ["RandomNormal<shape=[2]>()", "RandomUniform<shape=[2]>()"])
def test_random_operators_without_inputs(operation: str) -> None:
    assert_declines(two(f"a = {operation}", f"b = {operation}"), MERGE)


def test_random_operators_with_a_seed() -> None:
    operation = "RandomNormalLike<seed = 1.0>(x)"
    assert_declines(two(f"a = {operation}", f"b = {operation}"), MERGE)


def test_multinomial() -> None:
    before = model("""g (float[1, 3] x) => (int32[1, 1] y) {
        a = Multinomial(x) b = Multinomial(x) y = Sub(a, b)
    }""")
    assert_declines(before, MERGE)


def test_dropout_outside_training() -> None:
    assert_rewrites(two("a = Dropout(x)", "b = Dropout(x)"), MERGE, ops("Dropout"))


def test_calls_of_functions_which_may_draw_numbers() -> None:
    before = model("""g (float[2] x) => (float[2] y) { a = local.F(x) b = local.F(x) y = Sub(a, b) }
    <domain: "local", opset_import: ["" : 20]> F (p) => (q) { q = RandomNormalLike(p) }""")
    assert_declines(before, MERGE)


def test_operators_of_other_domains() -> None:
    before = two("a = com.microsoft.Gelu(x)", "b = com.microsoft.Gelu(x)")
    assert_declines(before, MERGE)


def test_branches() -> None:
    branch = """If (c) <
        then_branch = {0}t () => (float[2] {0}u) {{ {0}u = RandomNormalLike(x) }},
        else_branch = {0}e () => (float[2] {0}v) {{ {0}v = Neg(x) }}
    >"""
    before = model(f"""g (bool c, float[2] x) => (float[2] y) {{
        a = {branch.format("p")} b = {branch.format("q")} y = Sub(a, b)
    }}""")
    assert_declines(before, MERGE)


def test_constant_nodes_are_left_to_others() -> None:
    constant = "Constant<value_float = 1.0>()"
    assert_declines(two(f"c = {constant} a = Add(x, c)", f"d = {constant} b = Add(x, d)"), MERGE)


# Bodies -------------------------------------------------------------------------------------------


def test_a_branch_reuses_what_is_outside() -> None:
    before = model("""g (bool c, float[2] x) => (float[2] y, float[2] z) {
        a = Exp(x) z = Neg(a)
        y = If (c) <
            then_branch = t () => (float[2] u) { b = Exp(x) u = Abs(b) },
            else_branch = e () => (float[2] v) { b = Exp(x) v = Sqrt(b) }
        >
    }""")
    assert_rewrites(before, MERGE, ["Exp", "Neg", "If", "Abs", "Sqrt"], changes=2)


def test_branches_do_not_see_each_other() -> None:
    before = model("""g (bool c, float[2] x) => (float[2] y) {
        y = If (c) <
            then_branch = t () => (float[2] u) { b = Exp(x) u = Abs(b) },
            else_branch = e () => (float[2] v) { b = Exp(x) v = Sqrt(b) }
        >
    }""")
    assert_declines(before, MERGE)


def test_what_comes_after_a_branch_does_not_see_inside() -> None:
    before = model("""g (bool c, float[2] x) => (float[2] y, float[2] z) {
        y = If (c) <
            then_branch = t () => (float[2] u) { b = Exp(x) u = Abs(b) },
            else_branch = e () => (float[2] v) { v = Sqrt(x) }
        >
        a = Exp(x) z = Neg(a)
    }""")
    assert_declines(before, MERGE)


def test_an_output_of_a_branch_that_is_also_computed_outside() -> None:
    before = model("""g (bool c, float[2] x) => (float[2] y, float[2] z) {
        a = Exp(x) z = Neg(a)
        y = If (c) <
            then_branch = t () => (float[2] u) { u = Exp(x) },
            else_branch = e () => (float[2] v) { v = Sqrt(x) }
        >
    }""")
    assert_declines(before, MERGE, "its value comes from an outer graph")


def test_inside_a_function() -> None:
    before = model("""g (float[2] x) => (float[2] y) { y = local.F(x) }
    <domain: "local", opset_import: ["" : 20]> F (p) => (q) {
        a = Exp(p) b = Exp(p) q = Mul(a, b)
    }""")
    assert_rewrites(before, MERGE, ["F", "Exp", "Mul"])


@pytest.mark.parametrize("other", ["k", "l"])
def test_attributes_of_a_call(other: str) -> None:
    before = model(f"""g (float[2] x) => (float[2] y) {{ y = local.F<k = 0.5, l = 0.1>(x) }}
    <domain: "local", opset_import: ["" : 20]> F <k, l> (p) => (q) {{
        a = LeakyRelu<alpha: float = @k>(p) b = LeakyRelu<alpha: float = @{other}>(p)
        q = Mul(a, b)
    }}""")
    if other == "k":
        assert_rewrites(before, MERGE, ["F", "LeakyRelu", "Mul"])
    else:
        assert_declines(before, MERGE)


def test_a_local_function_beside_an_operator_of_its_name() -> None:
    before = model("""
    <ir_version: 9, opset_import: ["" : 20, "local" : 1]>
    g (float[2] x) => (float[2] y) { a = Relu(x) b = local.Relu(x) y = Sub(a, b) }
    <domain: "local", opset_import: ["" : 20]> Relu (p) => (q) { q = Neg(p) }""")
    assert_declines(before, MERGE)


def test_quantized_values() -> None:
    before = holding(
        model("""g (float[2] x) => (float[2] y) {
            q = QuantizeLinear(x, s, z) a = DequantizeLinear(q, s, z)
            r = QuantizeLinear(x, s, z) b = DequantizeLinear(r, s, z)
            y = Mul(a, b)
        }"""),
        s=np.array(0.5, np.float32),
        z=np.array(0, np.int8),
    )
    kept = ["QuantizeLinear", "DequantizeLinear", "Mul"]
    assert_rewrites(before, MERGE, kept, changes=2)
    assert len(operators(before)) == 5
