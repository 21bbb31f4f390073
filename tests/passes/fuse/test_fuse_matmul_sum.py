"""Products of one input that are added."""

from typing import Any

import numpy as np
import pytest

from kit import assert_declines, assert_rewrites, holding, model
from onnxslim.ir import Array, Model
from onnxslim.passes.fuse.fuse_matmul_sum import FuseMatmulSum

FUSE = FuseMatmulSum()


def numbers(*shape: int, dtype: Any = np.float32) -> Array:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(dtype)


def added(body: str, x: str = "float[N, 3, 8]", opset: int = 20, **arrays: Array) -> Model:
    kind = x.split("[")[0]
    given: dict[str, Array] = {
        "w": numbers(8, 5), "v": numbers(8, 5) + 1, "t": numbers(5, 8), "a": numbers(8, 2),
        "b": numbers(2, 5), "c": numbers(5), **arrays,
    }  # fmt: skip
    words = body.replace("(", " ").replace(")", " ").replace(",", " ").split()
    used = {name: values for name, values in given.items() if name in words}
    return holding(model(f"g ({x} x) => ({kind}[] y) {{ {body} }}", opset), **used)


LOW_RANK = "l = MatMul(x, a) r = MatMul(l, b)"


@pytest.mark.parametrize("opset", [7, 13, 22])
@pytest.mark.parametrize("total", ["Add(p, r)", "Add(r, p)"])
def test_an_adapter(total: str, opset: int) -> None:
    before = added(f"p = MatMul(x, w) {LOW_RANK} y = {total}", opset=opset)
    assert_rewrites(before, FUSE, ["MatMul"])


def test_an_adapter_of_a_layer_with_a_bias() -> None:
    before = added(f"q = MatMul(x, w) p = Add(c, q) {LOW_RANK} y = Add(p, r)")
    assert_rewrites(before, FUSE, ["MatMul", "Add"])


@pytest.mark.parametrize(
    "gemm", ["Gemm(x, w, c)", "Gemm(x, w)", "Gemm<transB = 1, alpha = 0.5, beta = 2.0>(x, t, c)"]
)
def test_an_adapter_of_a_gemm(gemm: str) -> None:
    assert_rewrites(added(f"p = {gemm} {LOW_RANK} y = Add(p, r)", "float[N, 8]"), FUSE, ["Gemm"])


def test_an_adapter_of_gemms() -> None:
    low_rank = "l = Gemm<alpha = 2.0>(x, a) r = Gemm<alpha = 0.5>(l, b)"
    before = added(f"p = Gemm(x, w, c) {low_rank} y = Add(p, r)", "float[N, 8]")
    assert_rewrites(before, FUSE, ["Gemm"])


def test_two_products() -> None:
    before = added("p = MatMul(x, w) q = MatMul(x, v) y = Add(p, q)")
    assert_rewrites(before, FUSE, ["MatMul"])


def test_another_input() -> None:
    before = added("p = MatMul(x, w) z = Relu(x) q = MatMul(z, v) y = Add(p, q)")
    assert_declines(before, FUSE)


def test_a_product_that_is_broadcast() -> None:
    before = added("p = MatMul(x, w) q = MatMul(x, one) y = Add(p, q)", one=numbers(8, 1))
    assert_declines(before, FUSE, "one of the products is broadcast")


def test_an_input_that_is_transposed() -> None:
    before = added("p = Gemm(x, w) q = Gemm<transA = 1>(x, v) y = Add(p, q)", "float[8, 8]")
    assert_declines(before, FUSE, "the input is transposed")


def test_a_product_that_others_read() -> None:
    before = added("p = MatMul(x, w) q = MatMul(x, v) s = Add(p, q) y = Mul(s, p)")
    assert_declines(before, FUSE, "an inner result is read elsewhere too")


def test_weights_that_others_read() -> None:
    body = """p = MatMul(x, w) q = MatMul(x, v) s = Add(p, q) z = Relu(x) i = MatMul(z, w)
        j = MatMul(z, v) y = Sum(s, i, j)"""
    assert_declines(added(body), FUSE, "the file would grow")


def test_the_same_weights_twice() -> None:
    before = added("p = MatMul(x, w) q = MatMul(x, w) y = Add(p, q)")
    assert_declines(before, FUSE, "the products share a matrix")


def test_half_precision() -> None:
    half = {"w": numbers(8, 5, dtype=np.float16), "v": numbers(8, 5, dtype=np.float16)}
    text = (
        "g (float16[N, 8] x) => (float16[] y) { p = MatMul(x, w) q = MatMul(x, v) y = Add(p, q) }"
    )
    assert_rewrites(holding(model(text), **half), FUSE, ["MatMul"])
