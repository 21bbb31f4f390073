"""A number that multiplies what a layer computes multiplies its weights instead."""

import pytest

from kit import assert_declines, assert_rewrites, model
from onnxslim.ir import Model
from onnxslim.passes.simplify.fold_scales import FoldScales

FOLD = FoldScales()
WEIGHTS = """float[4, 6] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10,
    11, 12}, float[6] b = {1, 2, 3, 4, 5, 6}, float c = {0.25}, float[1] e = {3},
    int64[4] s = {0, -1, 2, 3}, int64[1] one = {1}, float[6] v = {1, 2, 1, 2, 1, 2}"""


def layer(body: str, x: str = "float[N, 5, 4]", inputs: str = "", outputs: str = "") -> Model:
    return model(f"g ({x} x {inputs}) => (float[] y {outputs}) <{WEIGHTS}> {{ {body} }}")


def test_right_after_a_matrix_product() -> None:
    assert_rewrites(layer("a = MatMul(x, w) y = Mul(a, c)"), FOLD, ["MatMul"])


def test_a_quotient() -> None:
    assert_rewrites(layer("a = MatMul(x, w) y = Div(a, e)"), FOLD, ["MatMul"])


def test_past_a_bias() -> None:
    assert_rewrites(layer("a = MatMul(x, w) d = Add(b, a) y = Mul(c, d)"), FOLD, ["MatMul", "Add"])


def test_past_operators_that_move() -> None:
    before = layer("""a = MatMul(x, w) d = Add(a, b) f = Reshape(d, s)
        h = Transpose<perm = [0, 2, 1, 3]>(f) y = Mul(h, c)""")
    assert_rewrites(before, FOLD, ["MatMul", "Add", "Reshape", "Transpose"])


def test_past_a_product_of_what_layers_compute() -> None:
    before = layer("a = MatMul(x, w) d = MatMul(a, z) y = Div(d, e)", inputs=", float[6, 3] z")
    assert_rewrites(before, FOLD, ["MatMul", "MatMul"])


@pytest.mark.parametrize("bias", ["", ", b"])
def test_after_gemm(bias: str) -> None:
    before = layer(f"a = Gemm<alpha = 2.0, beta = 3.0>(x, w{bias}) y = Mul(a, c)", "float[N, 4]")
    assert_rewrites(before, FOLD, ["Gemm"])


def test_after_a_convolution() -> None:
    before = model("""g (float[N, 2, 5] x) => (float[] y) <float[3, 2, 1] w = {1, 2, 3, 4, 5, 6},
        float[3] b = {1, 2, 3}, float c = {0.25}> { a = Conv(x, w, b) y = Mul(a, c) }""")
    assert_rewrites(before, FOLD, ["Conv"])


def test_a_vector() -> None:
    assert_declines(layer("a = MatMul(x, w) y = Mul(a, v)"), FOLD)


def test_a_layer_that_others_read() -> None:
    before = layer("a = MatMul(x, w) y = Mul(a, c) z = Relu(a)", outputs=", float[] z")
    assert_declines(before, FOLD)


def test_weights_that_others_read() -> None:
    before = layer("a = MatMul(x, w) y = Mul(a, c) z = MatMul(x, w)", outputs=", float[] z")
    assert_declines(before, FOLD, "the file would grow")


def test_a_bias_that_the_caller_gives() -> None:
    before = layer("a = Gemm(x, w, z) y = Mul(a, c)", "float[N, 4]", ", float[6] z")
    assert_declines(before, FOLD)


def test_past_an_operator_that_is_not_linear() -> None:
    assert_declines(layer("a = MatMul(x, w) d = Relu(a) y = Mul(d, c)"), FOLD)


def test_past_a_sum_with_something_computed() -> None:
    assert_declines(layer("a = MatMul(x, w) d = Add(a, a) y = Mul(d, c)"), FOLD)


def test_zero() -> None:
    before = model("""g (float[N, 1] x) => (float[] y) <float[1, 2] w = {1, 2}, float c = {0}> {
        a = MatMul(x, w) y = Mul(a, c) }""")
    assert_declines(before, FOLD)


def test_weights_that_would_lose_precision() -> None:
    before = model("""g (float[N, 1] x) => (float[] y) <float[1, 2] w = {1e-20, 3e-20}, float c =
        {1e-21}> {
        a = MatMul(x, w) y = Mul(a, c) }""")
    assert_declines(before, FOLD, "cannot hold")


def test_weights_of_half_precision() -> None:
    before = model("""g (float16[N, 1] x) => (float16[] y) <float16[1, 2] w = {15360, 17408},
        float16 c = {12288}> { a = MatMul(x, w) y = Mul(a, c) }""")
    assert_rewrites(before, FOLD, ["MatMul"])
