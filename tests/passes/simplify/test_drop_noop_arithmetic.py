"""Neutral elements, where they widen neither the shape nor the type."""

import numpy as np
import pytest
from ml_dtypes import bfloat16

from kit import assert_declines, assert_rewrites, holding, model
from onnxslim import Pipeline
from onnxslim.passes.simplify.drop_noop_arithmetic import DropNoopArithmetic

DROP = DropNoopArithmetic()
KINDS = ["float", "double", "int32", "int64"]


def around(operation: str, constant: str, x: str = "float[N, 4]", y: str = "") -> str:
    """Put *operation*, which computes p from x, between two others."""
    return f"""g ({x} x) => ({y or x} y) <{constant}> {{
        a = Identity(x) p = {operation} y = Identity(p)
    }}"""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("operation", "value"),
    [
        ("Add(a, c)", 0),
        ("Add(c, a)", 0),
        ("Sub(a, c)", 0),
        ("Mul(a, c)", 1),
        ("Mul(c, a)", 1),
        ("Div(a, c)", 1),
        ("Pow(a, c)", 1),
    ],
)
def test_a_neutral_number(operation: str, value: int, kind: str) -> None:
    before = model(around(operation, f"{kind} c = {{{value}}}", f"{kind}[N, 4]"))
    assert_rewrites(before, DROP, ["Identity", "Identity"])


@pytest.mark.parametrize("operation", ["Sub(c, a)", "Add(c, a)", "Sub(a, c)"])
def test_one_is_not_neutral_in_sums(operation: str) -> None:
    assert_declines(model(around(operation, "float c = {1}")), DROP)


@pytest.mark.parametrize("operation", ["Div(c, a)", "Pow(c, a)"])
def test_one_is_neutral_on_the_right_only(operation: str) -> None:
    assert_declines(model(around(operation, "float c = {1}")), DROP)


def test_zero_minus_x_is_not_x() -> None:
    assert_declines(model(around("Sub(c, a)", "float c = {0}")), DROP)


@pytest.mark.parametrize("operation", ["Mul(a, c)", "Div(a, c)", "Pow(a, c)"])
def test_zero_is_not_neutral_in_products(operation: str) -> None:
    assert_declines(model(around(operation, "float c = {0}")), DROP)


@pytest.mark.parametrize(
    ("operation", "value"),
    [("And(a, c)", 1), ("And(c, a)", 1), ("Or(a, c)", 0), ("Or(c, a)", 0), ("Xor(a, c)", 0)],
)
def test_a_neutral_truth_value(operation: str, value: int) -> None:
    before = model(around(operation, f"bool c = {{{value}}}", "bool[N]"))
    assert_rewrites(before, DROP, ["Identity", "Identity"])


@pytest.mark.parametrize(
    ("operation", "value"), [("And(a, c)", 0), ("Or(a, c)", 1), ("Xor(a, c)", 1), ("Xor(c, a)", 1)]
)
def test_a_truth_value_that_is_not_neutral(operation: str, value: int) -> None:
    assert_declines(model(around(operation, f"bool c = {{{value}}}", "bool[N]")), DROP)


@pytest.mark.parametrize("operation", ["BitwiseOr(a, c)", "BitwiseXor(c, a)"])
def test_no_bits(operation: str) -> None:
    before = model(around(operation, "int32 c = {0}", "int32[N]"))
    assert_rewrites(before, DROP, ["Identity", "Identity"])


def test_a_power_of_another_type_keeps_the_type_of_the_base() -> None:
    before = model(around("Pow(a, c)", "int64 c = {1}"))
    assert_rewrites(before, DROP, ["Identity", "Identity"])


def test_not_all_elements_are_neutral() -> None:
    assert_declines(model(around("Add(a, c)", "float[4] c = {0, 0, 0, 1}")), DROP)


def test_a_number_close_to_neutral_is_not() -> None:
    assert_declines(model(around("Mul(a, c)", "float c = {1.0000001}")), DROP)


# Shapes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["[1]", "[4]", "[1, 4]", "[1, 1]"])
def test_a_constant_that_fits_inside_x(shape: str) -> None:
    count = 4 if "4" in shape else 1
    zeros = ", ".join(["0"] * count)
    before = model(around("Add(a, c)", f"float{shape} c = {{{zeros}}}"))
    assert_rewrites(before, DROP, ["Identity", "Identity"])


@pytest.mark.parametrize(
    ("shape", "x", "y"),
    [
        ("[4]", "float[N, 1]", "float[N, 4]"),
        ("[2, 4]", "float[1, 4]", "float[2, 4]"),
        ("[2, 4]", "float[N, 4]", "float[2, 4]"),
        ("[1, 1, 4]", "float[N, 4]", "float[1, N, 4]"),
        ("[1]", "float", "float[1]"),
        ("[1, 1]", "float[4]", "float[1, 4]"),
    ],
)
def test_a_constant_that_makes_x_wider(shape: str, x: str, y: str) -> None:
    size = np.prod([int(n) for n in shape[1:-1].split(",")])
    zeros = ", ".join(["0"] * int(size))
    assert_declines(model(around("Add(a, c)", f"float{shape} c = {{{zeros}}}", x, y)), DROP)


def test_a_number_fits_inside_x_of_any_rank() -> None:
    before = model("""g (float[N] x, int64[M] s) => (float y) <float c = {0}, float[1] o = {1}> {
        a = Reshape(x, s) b = Add(a, c) y = ReduceSum<keepdims = 0>(b)
    }""")
    after, _ = Pipeline((DROP,), check="off")(before)  # the shape is no number to guess
    assert [node.op for node in after.nodes()] == ["Reshape", "ReduceSum"]


def test_a_vector_may_be_wider_than_x_of_unknown_rank() -> None:
    before = model("""g (float[N] x, int64[M] s) => (float y) <float[1] c = {0}> {
        a = Reshape(x, s) b = Add(a, c) y = ReduceSum<keepdims = 0>(b)
    }""")
    assert_declines(before, DROP)


def test_an_empty_constant_makes_x_empty() -> None:
    before = model(around("Add(a, c)", "float[0] c = {}", "float[N, 1]", "float[N, 0]"))
    assert_declines(before, DROP)


# What is not a constant ---------------------------------------------------------------------------


def test_a_constant_that_the_caller_may_replace() -> None:
    before = model(
        "g (float[N] x, float c = {0}) => (float[N] y) { a = Relu(x) b = Add(a, c) y = Neg(b) }"
    )
    assert_declines(before, DROP)


def test_a_constant_that_the_caller_cannot_replace_before_ir_4() -> None:
    before = model(
        "g (float[N] x, float c = {0}) => (float[N] y) { a = Relu(x) b = Add(a, c) y = Neg(b) }",
        opset=8,
        ir=3,
    )
    assert_rewrites(before, DROP, ["Relu", "Neg"])


@pytest.mark.parametrize("opset", [7, 13, 14])
def test_since_operands_broadcast(opset: int) -> None:
    text = "g (float[N] x) => (float[N] y) <float c = {0}> { a = Relu(x) b = Add(a, c) y = Neg(b) }"
    assert_rewrites(model(text, opset), DROP, ["Relu", "Neg"])


def test_before_operands_broadcast() -> None:
    text = """g (float[2] x) => (float[2] y) <float[2] c = {0, 0}> {
        a = Relu(x) b = Add<broadcast = 1>(a, c) y = Neg(b)
    }"""
    assert_declines(model(text, 6), DROP)


def test_minus_zero_is_neutral_in_sums() -> None:
    assert_rewrites(model(around("Add(a, c)", "float c = {-0.0}")), DROP, ["Identity"] * 2)


@pytest.mark.parametrize("dtype", [np.float16, bfloat16])
def test_half_precision(dtype: type) -> None:
    kind = "float16" if dtype is np.float16 else "bfloat16"
    before = holding(
        model(f"g ({kind}[N] x) => ({kind}[N] y) {{ a = Identity(x) y = Mul(a, c) }}"),
        c=np.ones((), dtype),
    )
    after, _ = Pipeline((DROP,), check="off")(before)  # onnxruntime has no kernel for bfloat16
    assert [node.op for node in after.nodes()] == ["Identity"]


def test_a_neutral_constant_that_is_also_a_graph_output() -> None:
    before = model("""g (float[N] x) => (float[N] y, float c) <float c = {1}> {
        a = Relu(x) b = Mul(a, c) y = Neg(b)
    }""")
    assert_rewrites(before, DROP, ["Relu", "Neg"])
