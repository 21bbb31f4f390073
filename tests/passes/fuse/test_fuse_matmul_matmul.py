"""Products with constant matrices in a row."""

from typing import Any

import numpy as np
import pytest

from kit import assert_declines, assert_rewrites, holding, model
from onnxslim.ir import Array, Model
from onnxslim.passes.fuse.fuse_matmul_matmul import FuseMatmulMatmul

FUSE = FuseMatmulMatmul()


def numbers(*shape: int, dtype: Any = np.float32) -> Array:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(dtype)


def chain(body: str, x: str = "float[N, 3, 6]", opset: int = 20, **arrays: Array) -> Model:
    kind = x.split("[")[0]
    given = {"a": numbers(6, 8), "w": numbers(8, 5), "b": numbers(8), "c": numbers(5), **arrays}
    used = {name: given[name] for name in given if f", {name}" in body or f"({name}" in body}
    return holding(model(f"g ({x} x) => ({kind}[] y) {{ {body} }}", opset), **used)


@pytest.mark.parametrize("x", ["float[N, 6]", "float[2, N, 3, 6]", "float[6]"])
def test_two_products(x: str) -> None:
    assert_rewrites(chain("p = MatMul(x, a) y = MatMul(p, w)", x), FUSE, ["MatMul"])


def test_on_the_left() -> None:
    before = chain("p = MatMul(a, x) y = MatMul(w, p)", a=numbers(8, 3), w=numbers(4, 8))
    assert_rewrites(before, FUSE, ["MatMul"])


@pytest.mark.parametrize("shape", [(8,), (1, 8), (), (1,), (3, 8), (1, 1, 1, 8)])
def test_a_sum_between(shape: tuple[int, ...]) -> None:
    body = "p = MatMul(x, a) q = Add(b, p) y = MatMul(q, w)"
    assert_rewrites(chain(body, b=numbers(*shape)), FUSE, ["MatMul", "Add"])


@pytest.mark.parametrize("shape", [(5,), (1, 5), (), (3, 1), (2, 1, 1, 1)])
def test_sums_between_and_after(shape: tuple[int, ...]) -> None:
    body = "p = MatMul(x, a) q = Add(p, b) r = MatMul(q, w) y = Add(r, c)"
    assert_rewrites(chain(body, c=numbers(*shape)), FUSE, ["MatMul", "Add"])


@pytest.mark.parametrize("opset", [7, 11, 22])
@pytest.mark.parametrize("second", ["(p, w, c)", "<transB = 1, alpha = 0.5, beta = 3.0>(p, v, c)"])
@pytest.mark.parametrize("first", ["(x, a, b)", "<alpha = 2.0, beta = 0.5>(x, a, b)"])
def test_two_gemms(first: str, second: str, opset: int) -> None:
    before = chain(f"p = Gemm{first} y = Gemm{second}", "float[N, 6]", opset, v=numbers(5, 8))
    assert_rewrites(before, FUSE, ["Gemm"])


@pytest.mark.parametrize(
    "body",
    [
        "p = Gemm(x, a) y = MatMul(p, w)",
        "p = Gemm<beta = 2.0>(x, a, b) y = MatMul(p, w)",
        "p = MatMul(x, a) y = Gemm(p, w, c)",
        "p = MatMul(x, a) y = Gemm(p, w)",
    ],
)
def test_a_gemm_and_a_product(body: str) -> None:
    assert_rewrites(chain(body, "float[N, 6]"), FUSE, ["Gemm"])


@pytest.mark.parametrize("shape", [(3, 8), (3, 1), (1, 8), ()])
def test_biases_of_a_gemm(shape: tuple[int, ...]) -> None:
    before = chain("p = Gemm(x, a, b) y = Gemm(p, w, c)", "float[3, 6]", b=numbers(*shape))
    assert_rewrites(before, FUSE, ["Gemm"])


def test_an_input_that_is_transposed() -> None:
    before = chain("p = Gemm<transA = 1>(x, a, b) y = Gemm(p, w, c)", "float[6, N]")
    assert_rewrites(before, FUSE, ["Gemm"])


def test_a_product_that_is_transposed() -> None:
    before = chain("p = Gemm(x, a, b) y = Gemm<transA = 1>(p, w, c)", "float[8, 6]")
    assert_declines(before, FUSE, "the first product is transposed")


def test_a_narrow_middle() -> None:
    before = chain("p = MatMul(x, a) y = MatMul(p, w)", a=numbers(6, 2), w=numbers(2, 6))
    assert_declines(before, FUSE, "one matrix would be larger than the two")


def test_a_sum_that_adds_columns() -> None:
    before = chain("p = MatMul(x, a) q = Add(p, b) y = MatMul(q, w)", a=numbers(6, 1), b=numbers(8))
    assert_declines(before, FUSE, "the sum between adds columns")


@pytest.mark.parametrize("shapes", [((2, 6, 8), (8, 5)), ((6, 8), (2, 8, 5)), ((6, 8), (8,))])
def test_factors_that_are_no_matrices(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    before = chain(
        "p = MatMul(x, a) y = MatMul(p, w)", "float[2, 3, 6]", a=numbers(*shapes[0]),
        w=numbers(*shapes[1]),
    )  # fmt: skip
    assert_declines(before, FUSE, "a factor is no matrix")


def test_integers() -> None:
    whole = {"a": np.ones((6, 8), np.int32), "w": np.ones((8, 5), np.int32)}
    before = holding(
        model("g (int32[N, 6] x) => (int32[] y) { p = MatMul(x, a) y = MatMul(p, w) }"), **whole
    )
    assert_declines(before, FUSE, "no floating-point type")


def test_half_precision() -> None:
    before = chain(
        "p = MatMul(x, a) y = MatMul(p, w)", "float16[N, 6]", a=numbers(6, 8, dtype=np.float16),
        w=numbers(8, 5, dtype=np.float16),
    )  # fmt: skip
    assert_rewrites(before, FUSE, ["MatMul"])


def test_half_precision_that_overflows() -> None:
    before = chain(
        "p = MatMul(x, a) y = MatMul(p, w)", "float16[N, 6]", a=np.full((6, 8), 3e4, np.float16),
        w=numbers(8, 5, dtype=np.float16),
    )  # fmt: skip
    assert_declines(before, FUSE, "overflow float16")


def test_a_first_product_that_others_read() -> None:
    before = chain("p = MatMul(x, a) q = MatMul(p, w) y = Add(p, q)", w=numbers(8, 8))
    assert_declines(before, FUSE, "an inner result is read elsewhere too")
