"""Operators that hand their input on, in inference."""

import pytest

from kit import assert_declines, assert_rewrites, model, operators
from onnxslim import Pipeline
from onnxslim.passes.simplify.drop_identity import DropIdentity

DROP = DropIdentity()


def test_identity() -> None:
    before = model("g (float[N] x) => (float[N] y) { a = Relu(x) b = Identity(a) y = Neg(b) }")
    assert_rewrites(before, DROP, ["Relu", "Neg"])


def test_a_graph_output_keeps_its_name() -> None:
    before = model("g (float[N] x) => (float[N] y) { a = Relu(x) y = Identity(a) }")
    assert_rewrites(before, DROP, ["Relu"])


def test_of_two_outputs_with_one_value_one_is_renamed() -> None:
    before = model("g (float[N] x) => (float[N] y, float[N] z) { y = Relu(x) z = Identity(y) }")
    assert_declines(before, DROP, "a graph output, which needs a node of its own")


def test_other_readers_follow_the_renamed_output() -> None:
    before = model(
        "g (float[N] x) => (float[N] y, float[N] z) { a = Relu(x) y = Identity(a) z = Neg(a) }"
    )
    after = assert_rewrites(before, DROP, ["Relu", "Neg"])
    assert [t.name for node in after.nodes() for t in node.inputs] == ["x", "y"]


def test_an_output_that_is_an_input_keeps_its_node() -> None:
    before = model("g (float[N] x) => (float[N] y) { y = Identity(x) }")
    assert_declines(before, DROP, "a graph output, which needs a node of its own")


def test_an_output_that_is_a_constant_keeps_its_node() -> None:
    before = model("g (float[2] x) => (float[2] y) <float[2] c = {1, 2}> { y = Identity(c) }")
    assert_declines(before, DROP, "a graph output, which needs a node of its own")


def test_a_branch_that_hands_an_outer_value_on_keeps_its_node() -> None:
    before = model("""g (bool c, float[N] x) => (float[N] y) {
        a = Relu(x)
        y = If (c) <
            then_branch = t () => (float[N] u) { u = Identity(a) },
            else_branch = e () => (float[N] v) { v = Neg(a) }
        >
    }""")
    assert_declines(before, DROP, "its value comes from an outer graph")


def test_a_loop_that_hands_its_state_on_keeps_its_node() -> None:
    before = model("""g (float[N] x) => (float[N] y) <int64 n = {3}, bool t = {1}> {
        y = Loop (n, t, x) <body = b (int64 i, bool go, float[N] s) => (bool go2, float[N] s2) {
            go2 = Identity(go) s2 = Identity(s)
        }>
    }""")
    assert_declines(before, DROP, "needs a node of its own")


def test_inside_a_branch() -> None:
    before = model("""g (bool c, float[N] x) => (float[N] y) {
        a = Relu(x)
        y = If (c) <
            then_branch = t () => (float[N] u) { p = Identity(a) u = Abs(p) },
            else_branch = e () => (float[N] v) { v = Neg(a) }
        >
    }""")
    assert_rewrites(before, DROP, ["Relu", "If", "Abs", "Neg"])


def test_before_a_branch_reads_it() -> None:
    before = model("""g (bool c, float[N] x) => (float[N] y) {
        a = Relu(x) b = Identity(a)
        y = If (c) <
            then_branch = t () => (float[N] u) { u = Abs(b) },
            else_branch = e () => (float[N] v) { v = Neg(b) }
        >
    }""")
    assert_rewrites(before, DROP, ["Relu", "If", "Abs", "Neg"])


def test_inside_a_function() -> None:
    before = model("""g (float[N] x) => (float[N] y) { y = local.F(x) }
    <domain: "local", opset_import: ["" : 20]> F (p) => (q) { a = Identity(p) q = Neg(a) }""")
    assert_rewrites(before, DROP, ["F", "Neg"])


def test_a_local_function_called_identity_is_another_operator() -> None:
    before = model("""
    <ir_version: 9, opset_import: ["" : 20, "local" : 1]>
    g (float[N] x) => (float[N] y) { a = local.Identity(x) y = Neg(a) }
    <domain: "local", opset_import: ["" : 20]> Identity (p) => (q) { q = Neg(p) }""")
    assert_declines(before, DROP)


def test_a_sequence() -> None:
    before = model("""g (float[N] x) => (float[N] y) <int64 i = {0}> {
        s = SequenceConstruct(x) t = Identity(s) y = SequenceAt(t, i)
    }""")
    assert_rewrites(before, DROP, ["SequenceConstruct", "SequenceAt"])


# Dropout ------------------------------------------------------------------------------------------

CHAIN = "g (float[N] x) => (float[N] y) { a = Relu(x) b = Dropout(a) y = Neg(b) }"


@pytest.mark.parametrize("opset", [7, 10, 12, 13, 20, 22])
def test_dropout(opset: int) -> None:
    assert_rewrites(model(CHAIN, opset), DROP, ["Relu", "Neg"])


def test_dropout_before_opset_7_trains_unless_told_otherwise() -> None:
    assert_declines(model(CHAIN, 6), DROP)


def test_dropout_before_opset_7_in_test_mode() -> None:
    before = model(CHAIN.replace("Dropout(a)", "Dropout<is_test = 1>(a)"), 6)
    after, _ = Pipeline((DROP,), check="off")(before)  # onnxruntime has no such Dropout
    assert operators(after) == ["Relu", "Neg"]


def test_dropout_with_a_ratio() -> None:
    before = model("""g (float[N] x) => (float[N] y) <float r = {0.3}> {
        a = Relu(x) b = Dropout(a, r) y = Neg(b)
    }""")
    assert_rewrites(before, DROP, ["Relu", "Neg"])


def test_dropout_told_not_to_train() -> None:
    before = model("""g (float[N] x) => (float[N] y) <float r = {0.3}, bool t = {0}> {
        a = Relu(x) b = Dropout(a, r, t) y = Neg(b)
    }""")
    assert_rewrites(before, DROP, ["Relu", "Neg"])


def test_dropout_told_to_train() -> None:
    before = model("""g (float[N] x) => (float[N] y) <float r = {0.3}, bool t = {1}> {
        a = Relu(x) b = Dropout(a, r, t) y = Neg(b)
    }""")
    assert_declines(before, DROP)


def test_dropout_that_might_train() -> None:
    before = model("""g (float[N] x, bool t) => (float[N] y) <float r = {0.3}> {
        a = Relu(x) b = Dropout(a, r, t) y = Neg(b)
    }""")
    assert_declines(before, DROP)


def test_dropout_whose_mode_the_caller_may_set() -> None:
    before = model("""g (float[N] x, bool t = {0}) => (float[N] y) <float r = {0.3}> {
        a = Relu(x) b = Dropout(a, r, t) y = Neg(b)
    }""")
    assert_declines(before, DROP)


def test_dropout_whose_mask_is_read() -> None:
    before = model("""g (float[N] x) => (float[N] y, bool[N] m) {
        a = Relu(x) b, m = Dropout(a) y = Neg(b)
    }""")
    assert_declines(before, DROP)


def test_dropout_whose_mask_is_named_but_not_read() -> None:
    before = model("""g (float[N] x) => (float[N] y) {
        a = Relu(x) b, m = Dropout(a) y = Neg(b)
    }""")
    assert_rewrites(before, DROP, ["Relu", "Neg"])
