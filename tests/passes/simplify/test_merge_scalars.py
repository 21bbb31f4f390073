"""Constants that follow each other in sums and products are combined beforehand."""

import numpy as np
import pytest

from kit import assert_declines, assert_rewrites, holding, model
from onnxslim.ir import Model
from onnxslim.passes.simplify.merge_scalars import MergeScalars

MERGE = MergeScalars()


def formula(body: str, kind: str = "float", constants: str = "") -> Model:
    """Compute y from x and the constants c = 3 and d = 4."""
    c, d = (16896, 17408) if kind == "float16" else (3, 4)  # text gives halves by their bits
    given = constants or f"{kind} c = {{{c}}}, {kind} d = {{{d}}}"
    return model(f"g ({kind}[N, 2] x) => ({kind}[N, 2] y) <{given}> {{ {body} }}")


@pytest.mark.parametrize(
    ("body", "operator"),
    [
        ("a = Add(x, c) y = Add(a, d)", "Add"),
        ("a = Add(c, x) y = Sub(a, d)", "Add"),
        ("a = Sub(x, c) y = Add(d, a)", "Add"),
        ("a = Sub(c, x) y = Add(a, d)", "Sub"),
        ("a = Sub(x, c) y = Sub(d, a)", "Sub"),
        ("a = Sub(c, x) y = Sub(d, a)", "Add"),
        ("a = Mul(x, c) y = Mul(d, a)", "Mul"),
        ("a = Mul(c, x) y = Div(a, d)", "Mul"),
        ("a = Div(x, c) y = Mul(a, d)", "Mul"),
        ("a = Div(x, c) y = Div(a, d)", "Div"),
        ("a = Div(c, x) y = Mul(a, d)", "Div"),
        ("a = Div(c, x) y = Div(a, d)", "Div"),
        ("a = Mul(x, c) y = Div(d, a)", "Div"),
        ("a = Div(x, c) y = Div(d, a)", "Div"),
        ("a = Neg(x) y = Mul(d, a)", "Mul"),
        ("a = Neg(x) y = Div(a, d)", "Div"),
        ("a = Mul(x, c) y = Neg(a)", "Mul"),
        ("a = Div(x, c) y = Neg(a)", "Div"),
    ],
)
def test_two_constants(body: str, operator: str) -> None:
    assert_rewrites(formula(body), MERGE, [operator])


@pytest.mark.parametrize("body", ["a = Add(x, c) y = Sub(d, a)", "a = Mul(x, c) y = Mul(a, d)"])
@pytest.mark.parametrize("kind", ["int64", "int32", "float16", "double"])
def test_other_types(body: str, kind: str) -> None:
    after = assert_rewrites(formula(body, kind), MERGE, ["Sub" if "Sub" in body else "Mul"])
    assert {str(t.dtype) for t in after.constants()} == {kind if kind != "double" else "float64"}


@pytest.mark.parametrize("body", ["a = Div(x, c) y = Div(a, d)", "a = Mul(x, c) y = Div(a, d)"])
def test_quotients_of_integers(body: str) -> None:
    assert_declines(formula(body, "int64"), MERGE)


def test_integers_wrap_around() -> None:
    body, large = "a = Mul(x, c) y = Mul(a, c)", "int32 c = {1073741827}"
    assert_rewrites(formula(body, "int32", large), MERGE, ["Mul"])


@pytest.mark.parametrize(
    "body",
    [
        "a = Div(c, x) y = Mul(a, d)",
        "a = Mul(x, c) y = Div(d, a)",
        "a = Div(x, c) y = Neg(a)",
        "a = Neg(x) y = Mul(a, d)",
    ],
)
def test_whole_numbers_that_are_divided_or_negated(body: str) -> None:
    assert_declines(formula(body, "int32"), MERGE)


def test_constants_of_different_shapes() -> None:
    before = formula(
        "a = Add(x, c) y = Add(a, d)", constants="float[2] c = {1, 2}, float[1] d = {4}"
    )
    assert_rewrites(before, MERGE, ["Add"])


def test_a_constant_that_would_grow() -> None:
    before = holding(
        model("""g (float[N, 64] x) => (float[] y, float[] z) {
            a = Add(x, c) y = Add(a, d) z = Add(x, d) }"""),
        c=np.ones((64, 1), np.float32), d=np.ones((1, 64), np.float32),
    )  # fmt: skip
    assert_declines(before, MERGE, "the file would grow")


def test_a_product_that_overflows() -> None:
    before = formula("a = Mul(x, c) y = Mul(a, c)", constants="float c = {1e30}")
    assert_declines(before, MERGE, "float32 cannot hold")


def test_a_product_that_underflows_in_half_precision() -> None:
    before = formula("a = Mul(x, c) y = Mul(a, c)", "float16", "float16 c = {4097}")
    assert_declines(before, MERGE, "float16 cannot hold")


def test_a_sum_that_others_read() -> None:
    before = model("""g (float[N] x) => (float[] y, float[] z) <float c = {3}> {
        a = Add(x, c) y = Add(a, c) z = Relu(a) }""")
    assert_declines(before, MERGE, "no node would go")


def test_in_a_function() -> None:
    before = model("""g (float[N] x) => (float[] y) { y = local.F(x) }
    <domain: "local", opset_import: ["" : 20]> F (p) => (q) {
        c = Constant<value_float = 3.0>() d = Constant<value_float = 4.0>()
        a = Add(p, c) q = Add(a, d) }""")
    assert_rewrites(before, MERGE, ["F", "Add"])


def test_both_operands_of_a_matrix_product() -> None:
    before = model("""g (float[N, 3, 4] x, float[N, 4, 5] z) => (float[] y) <float c = {0.5},
        float[1] d = {8}> { a = Mul(x, c) b = Div(z, d) y = MatMul(a, b) }""")
    after = assert_rewrites(before, MERGE, ["Mul", "MatMul"])
    assert [t.values.item() for t in after.constants()] == [0.0625]


def test_operands_of_a_matrix_product_scaled_by_vectors() -> None:
    before = model("""g (float[N, 3, 4] x, float[N, 4, 4] z) => (float[] y) <float[4] c = {1, 2, 3,
        4},
        float[1] d = {8}> { a = Mul(x, c) b = Div(z, d) y = MatMul(a, b) }""")
    assert_declines(before, MERGE)


def test_operands_of_a_matrix_product_that_might_overflow() -> None:
    before = model("""g (float16[N, 3, 4] x, float16[N, 4, 5] z) => (float16[] y) <float16 c =
        {14336},
        float16 d = {18432}> { a = Mul(x, c) b = Mul(z, d) y = MatMul(a, b) }""")
    assert_declines(before, MERGE)
