"""What patterns fit, and what they say about it."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from kit import model
from onnxslim.errors import Declined, PatternError
from onnxslim.ir import Model, constant
from onnxslim.pattern import (
    Match,
    Op,
    const,
    domain,
    either,
    is_all,
    match,
    may_occur,
    op,
    opt,
    rest,
)

CONSTANTS = "float two = {2}, float[2] twos = {2, 2}, float[2] mixed = {2, 3}, float half = {0.5}"


def fit(pattern: Op, body: str, outputs: str = "float[2] y") -> Match | None:
    """Fit *pattern* to the node that computes y."""
    before = model(f"g (float[2] x, float[2] z) => ({outputs}) <{CONSTANTS}> {{ {body} }}")
    return match(pattern, root(before), before.pinned())


def root(of: Model) -> Any:
    return of.graph.outputs[0].inputs[0]


# Operators and operands ---------------------------------------------------------------------------


def test_a_node_by_its_operator() -> None:
    assert fit(op.Relu("a"), "y = Relu(x)")
    assert not fit(op.Relu("a"), "y = Abs(x)")


def test_names_capture_tensors() -> None:
    found = fit(op.Sub("a", "b"), "y = Sub(x, z)")
    assert found
    assert (found["a"].name, found["b"].name) == ("x", "z")


@pytest.mark.parametrize(("operands", "fits"), [("x, x", True), ("x, z", False)])
def test_one_name_is_one_tensor(operands: str, fits: bool) -> None:
    assert bool(fit(op.Sub("a", "a"), f"y = Sub({operands})")) is fits


def test_a_chain() -> None:
    found = fit(op.Exp(op.Relu("a")), "b = Relu(x) y = Exp(b)")
    assert found
    assert [node.op for node in found.nodes] == ["Exp", "Relu"]
    assert found.root.op == "Exp"


def test_a_diamond_is_one_tensor_read_twice() -> None:
    pattern = op.Mul("a", op.Sigmoid("a"))
    assert fit(pattern, "s = Sigmoid(x) y = Mul(x, s)")
    assert not fit(pattern, "s = Sigmoid(x) y = Mul(z, s)")


@pytest.mark.parametrize("inner", ["Abs(x)", "Exp(x)", "Sub(z, x)"])
def test_alternatives(inner: str) -> None:
    pattern = op.Relu(either(op.Abs("a"), op.Exp("a"), op.Sub("b", "a")))
    found = fit(pattern, f"i = {inner} y = Relu(i)")
    assert found
    assert found["a"].name == "x"


def test_none_of_the_alternatives() -> None:
    assert not fit(op.Relu(either(op.Abs("a"), 2)), "i = Exp(x) y = Relu(i)")


def test_only_the_first_output_of_an_inner_node_is_meant() -> None:
    pattern = op.Relu(op.Split("a"))
    body = "p, q = Split<num_outputs = 2>(x) y = Relu({0})"
    assert fit(pattern, body.format("p"))
    assert not fit(pattern, body.format("q"))


@pytest.mark.parametrize("body", ["y = Mul(r, x)", "y = Mul(x, r)"])
def test_operands_of_a_product_may_change_places(body: str) -> None:
    assert fit(op.Mul("a", op.Relu("b")), f"r = Relu(z) {body}")


def test_operands_of_a_difference_may_not() -> None:
    assert not fit(op.Sub("a", op.Relu("b")), "r = Relu(z) y = Sub(r, x)")


def test_the_second_order_is_tried_after_the_first_failed_further_down() -> None:
    pattern = op.Add(op.Relu(op.Exp("a")), op.Relu(op.Abs("b")))
    body = "p = Abs(x) q = Relu(p) r = Exp(z) s = Relu(r) y = Add(q, s)"
    assert fit(pattern, body)


def test_operators_joined_by_or() -> None:
    pattern = op.Add("a", "b") | op.Sub("a", "b")
    assert fit(pattern, "y = Add(x, z)")
    assert fit(pattern, "y = Sub(x, z)")
    assert not fit(pattern, "y = Mul(x, z)")


def test_alternatives_commute_only_if_all_do() -> None:
    pattern = op.Add("a", op.Relu("b")) | op.Sub("a", op.Relu("b"))
    assert not fit(pattern, "r = Relu(z) y = Add(r, x)")


def test_alternatives_must_share_operands() -> None:
    with pytest.raises(PatternError, match="share operands"):
        op.Add("a", "b") | op.Sub("a", "c")


def test_attributes() -> None:
    pattern = op.Elu("a", alpha=0.5)
    assert fit(pattern, "y = Elu<alpha = 0.5>(x)")
    assert not fit(pattern, "y = Elu<alpha = 0.25>(x)")
    assert not fit(pattern, "y = Elu(x)")


def test_a_node_with_more_operands() -> None:
    assert not fit(op.Sum("a", "b"), "y = Sum(x, z, x)")


def test_a_node_with_fewer_operands() -> None:
    assert not fit(op.Clip("a", "low", "high"), "y = Clip(x, half)")


@pytest.mark.parametrize(
    ("body", "low", "high"),
    [
        ("y = Clip(x)", None, None),
        ("y = Clip(x, half)", "half", None),
        ("y = Clip(x, , two)", None, "two"),
        ("y = Clip(x, half, two)", "half", "two"),
    ],
)
def test_optional_operands(body: str, low: str | None, high: str | None) -> None:
    found = fit(op.Clip("a", opt("low"), opt("high")), body)
    assert found
    captured = {name: tensor.name for name, tensor in found.tensors.items()}
    expected = {"a": "x", "low": low, "high": high}
    assert captured == {name: tensor for name, tensor in expected.items() if tensor}


def test_an_optional_operand_must_fit_if_it_is_there() -> None:
    assert not fit(op.Clip("a", opt(op.Relu("b"))), "y = Clip(x, half)")


def test_an_absent_operand_is_no_tensor() -> None:
    assert not fit(op.Clip("a", "low", "high"), "y = Clip(x, , two)")


def test_all_other_operands() -> None:
    found = fit(op.Sum("a", rest("others")), "y = Sum(x, z, two)")
    assert found
    assert [tensor.name for tensor in found.tensors["others"]] == ["z", "two"]


def test_no_other_operands() -> None:
    found = fit(op.Sum("a", rest("others")), "y = Sum(x)")
    assert found
    assert found.tensors["others"] == []


def test_unknown_operators_fail_early() -> None:
    with pytest.raises(PatternError, match="BatchNormalisation"):
        op.BatchNormalisation("x")


def test_operators_of_other_domains() -> None:
    microsoft = domain("com.microsoft")
    assert fit(microsoft.Gelu("a"), "y = com.microsoft.Gelu(x)")
    assert not fit(op.Gelu("a"), "y = com.microsoft.Gelu(x)")
    assert not fit(microsoft.Gelu("a"), "y = Gelu(x)")


def test_a_local_function_is_not_the_operator_of_its_name() -> None:
    before = model("""<ir_version: 9, opset_import: ["" : 20, "local" : 1]>
    g (float[2] x) => (float[2] y) { y = local.Relu(x) }
    <domain: "local", opset_import: ["" : 20]> Relu (p) => (q) { q = Neg(p) }""")
    assert not match(op.Relu("a"), root(before))


# Constants ----------------------------------------------------------------------------------------


def test_constants_are_captured_as_arrays() -> None:
    found = fit(op.Mul("a", const("c")), "y = Mul(mixed, x)")
    assert found
    assert found["c"].tolist() == [2, 3]
    assert found.tensor("c").name == "mixed"


def test_what_is_computed_is_no_constant() -> None:
    assert not fit(op.Mul("a", const("c")), "y = Mul(x, z)")


def test_a_constant_node_is_a_constant() -> None:
    assert fit(op.Mul("a", 3), "c = Constant<value_float = 3.0>() y = Mul(x, c)")


def test_a_constant_that_the_caller_may_replace_is_none() -> None:
    before = model("g (float[2] x, float c = {2}) => (float[2] y) { y = Mul(x, c) }")
    assert not match(op.Mul("a", const("c")), root(before))


@pytest.mark.parametrize(
    ("name", "fits"), [("two", True), ("twos", True), ("mixed", False), ("half", False)]
)
def test_a_number_is_a_constant_of_nothing_else(name: str, fits: bool) -> None:
    assert bool(fit(op.Mul("a", 2), f"y = Mul(x, {name})")) is fits


@pytest.mark.parametrize(
    ("array", "value", "same"),
    [
        (np.float32(0.7071067), 0.5**0.5, True),
        (np.float32(0.70711), 0.5**0.5, False),
        (np.float16(0.044715), 0.044715, True),
        (np.asarray(0.044715, ml_dtypes.bfloat16), 0.044715, True),
        (np.float64(np.float32(0.044715)), 0.044715, True),
        (np.float32(0.5000001), 0.5, False),
        (np.float16(0.5005), 0.5, False),
        (np.array([], np.float32), 0, False),
        (np.array([1, 1]), 1, True),
        (np.array([True]), 1, False),
        (np.array(["1"], object), 1, False),
        (np.float32(np.nan), np.nan, False),
        (np.float32(-0.0), 0, True),
    ],
)
def test_rounding_of_numbers(array: Any, value: float, same: bool) -> None:
    assert is_all(constant("c", array), value) is same


# Who else reads it --------------------------------------------------------------------------------


def test_inner_results_that_nobody_else_reads() -> None:
    found = fit(op.Exp(op.Relu("a")), "r = Relu(x) y = Exp(r)")
    assert found
    assert found.private


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        ("r = Relu(x) y = Exp(r) q = Abs(r)", "float[2] y, float[2] q"),
        ("r = Relu(x) y = Exp(r)", "float[2] y, float[2] r"),
    ],
)
def test_inner_results_that_others_need(body: str, outputs: str) -> None:
    found = fit(op.Exp(op.Relu("a")), body, outputs)
    assert found
    assert not found.private


def test_a_private_fit_comes_before_a_shared_one() -> None:
    body = "r = Relu(x) s = Relu(z) y = Mul(r, s) q = Abs(r)"
    found = fit(op.Mul(op.Relu("a"), "b"), body, "float[2] y, float[2] q")
    assert found
    assert found.private
    assert found["a"].name == "z"


# What a match tells -------------------------------------------------------------------------------


def test_what_was_not_captured_has_a_default() -> None:
    found = fit(op.Clip("a", opt("low")), "y = Clip(x)")
    assert found
    assert found.get("low", 7) == 7
    assert found.constant("low", 7).tolist() == 7


def test_a_capture_that_must_be_constant() -> None:
    found = fit(op.Mul("a", "c"), "y = Mul(x, mixed)")
    assert found
    assert found.constant("c").tolist() == [2, 3]
    with pytest.raises(Declined, match="a is not a constant"):
        found.constant("a")


def test_nodes_by_operator() -> None:
    found = fit(op.Exp(op.Relu("a")), "r = Relu(x) y = Exp(r)")
    assert found
    assert found.node("Relu").op == "Relu"
    assert found.node("Abs", "Exp").op == "Exp"


def test_conditions() -> None:
    found = fit(op.Relu("a"), "y = Relu(x)")
    assert found
    found.require(True, "unused")
    with pytest.raises(Declined, match="too small"):
        found.require(0, "too small")


def owned(body: str, outputs: str = "float[2] y") -> bool:
    """Say whether a match of the Exp alone owns the Relu before it."""
    found = fit(op.Exp("a"), body, outputs)
    assert found
    return found.owns(found["a"].inputs[0])


def test_nodes_that_nobody_else_reads() -> None:
    assert owned("r = Relu(x) y = Exp(r)")


def test_nodes_that_others_read() -> None:
    assert not owned("r = Relu(x) y = Exp(r) n = Neg(r)")


def test_nodes_that_are_graph_outputs() -> None:
    assert not owned("r = Relu(x) y = Exp(r)", "float[2] y, float[2] r")


def test_nodes_that_join_a_match() -> None:
    found = fit(op.Exp("a"), "r = Relu(x) y = Exp(r)")
    assert found
    relu = found["a"].inputs[0]
    found.take([relu, relu])
    assert [node.op for node in found.nodes] == ["Exp", "Relu"]


# What a model has ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operators", "occurs"),
    [({"Add", "Exp"}, True), ({"Add", "Relu"}, True), ({"Add", "Abs"}, False), ({"Exp"}, False)],
)
def test_operators_that_a_pattern_cannot_do_without(operators: set[str], occurs: bool) -> None:
    pattern = op.Add(either(op.Exp("a"), op.Relu("a")), opt(op.Neg("b")))
    assert may_occur(pattern, operators) is occurs
