"""A product with a matrix, between reshapes that take dimensions together and apart again."""

import numpy as np
import pytest

from kit import assert_declines, assert_rewrites, holding, model
from onnxslim.ir import Model
from onnxslim.passes.fuse.drop_matmul_reshapes import DropMatmulReshapes

DROP = DropMatmulReshapes()


def layer(body: str, x: str = "float[N, 3, 4]") -> Model:
    text = f"""g ({x} x) => (float[] y) <int64[2] rows = {{-1, 4}}, int64[3] back = {{-1, 3, 5}},
        int64[3] other = {{3, -1, 5}}, int64[2] half = {{-1, 2}}, int64[3] twice = {{-1, 6, 5}},
        int64[1] zero = {{0}}> {{ {body} }}"""
    rng = np.random.default_rng(0)
    return holding(
        model(text),
        w=rng.normal(size=(4, 5)).astype(np.float32),
        w2=rng.normal(size=(2, 5)).astype(np.float32),
        b=rng.normal(size=5).astype(np.float32),
        b3=rng.normal(size=(3, 1)).astype(np.float32),
    )


def test_a_product() -> None:
    before = layer("r = Reshape(x, rows) m = MatMul(r, w) y = Reshape(m, back)")
    assert_rewrites(before, DROP, ["MatMul"])


@pytest.mark.parametrize("total", ["Add(m, b)", "Add(b, m)"])
def test_a_product_and_a_sum(total: str) -> None:
    before = layer(f"r = Reshape(x, rows) m = MatMul(r, w) a = {total} y = Reshape(a, back)")
    assert_rewrites(before, DROP, ["MatMul", "Add"])


@pytest.mark.parametrize("flat", ["Flatten<axis = 2>(x)", "Flatten<axis = -1>(x)"])
def test_flatten(flat: str) -> None:
    before = layer(f"r = {flat} m = MatMul(r, w) y = Reshape(m, back)")
    assert_rewrites(before, DROP, ["MatMul"])


def test_squeeze() -> None:
    before = layer("r = Squeeze(x, zero) m = MatMul(r, w) y = Reshape(m, back)", x="float[1, 3, 4]")
    assert_rewrites(before, DROP, ["MatMul"])


def test_rows_that_others_read() -> None:
    before = layer("""r = Reshape(x, rows) m = MatMul(r, w) s = Reshape(m, back) t = ReduceSum(r)
        y = Add(s, t)""")
    assert_rewrites(before, DROP, ["Reshape", "MatMul", "ReduceSum", "Add"])


def test_a_product_that_others_read() -> None:
    before = layer("""r = Reshape(x, rows) m = MatMul(r, w) s = Reshape(m, back) t = ReduceSum(m)
        y = Add(s, t)""")
    assert_declines(before, DROP, "an inner result is read elsewhere too")


def test_rows_that_are_cut() -> None:
    before = layer("r = Reshape(x, half) m = MatMul(r, w2) y = Reshape(m, twice)")
    assert_declines(before, DROP, "not those of the tensor before")


def test_other_dimensions_afterwards() -> None:
    before = layer("r = Reshape(x, rows) m = MatMul(r, w) y = Reshape(m, other)")
    assert_declines(before, DROP, "the result has other dimensions")


def test_a_sum_with_a_matrix() -> None:
    before = layer(
        "r = Reshape(x, rows) m = MatMul(r, w) a = Add(m, b3) y = Reshape(a, back)",
        x="float[1, 3, 4]",
    )
    assert_declines(before, DROP, "what is added is no vector")


def test_without_a_reshape_before() -> None:
    assert_declines(layer("m = MatMul(x, w) y = Reshape(m, back)", x="float[3, 4]"), DROP)


def gemm(attrs: str, bias: str = ", b") -> Model:
    return model(f"""g (float[N, 3, 2] x) => (float[] y) <float[2, 2] w = {{1, 2, 3, 4}},
        float[2] b = {{1, 2}}, int64[2] rows = {{-1, 2}}, int64[3] back = {{-1, 3, 2}}> {{
        r = Reshape(x, rows) m = Gemm<{attrs}>(r, w{bias}) y = Reshape(m, back) }}""")


@pytest.mark.parametrize("attrs", ["transB = 1", "alpha = 1.0"])
def test_gemm(attrs: str) -> None:
    assert_rewrites(gemm(attrs), DROP, ["MatMul", "Add"])
    assert_rewrites(gemm(attrs, bias=""), DROP, ["MatMul"])


@pytest.mark.parametrize("attrs", ["alpha = 2.0", "beta = 0.5"])
def test_gemm_with_a_factor(attrs: str) -> None:
    assert_declines(gemm(attrs), DROP, "a factor is not 1")
