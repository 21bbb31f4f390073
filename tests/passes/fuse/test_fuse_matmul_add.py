"""A product of two matrices, and a sum."""

import numpy as np
import pytest

from kit import assert_declines, assert_rewrites, holding, model
from onnxslim.ir import Model
from onnxslim.passes.fuse.fuse_matmul_add import FuseMatmulAdd

FUSE = FuseMatmulAdd()
TYPES = {"float": np.float32, "float16": np.float16, "double": np.float64, "int32": np.int32}


def layer(
    body: str = "m = MatMul(x, w) y = Add(m, b)",
    x: str = "float[N, 3]",
    bias: tuple[int, ...] = (4,),
    opset: int = 20,
) -> Model:
    kind = x.split("[")[0]
    arrays = {
        "w": np.arange(12).reshape(3, 4).astype(TYPES[kind]),
        "b": np.ones(bias, TYPES[kind]),
    }
    return holding(model(f"g ({x} x) => ({kind}[] y) {{ {body} }}", opset), **arrays)


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 22])
def test_versions(opset: int) -> None:
    assert_rewrites(layer(opset=opset), FUSE, ["Gemm"])


@pytest.mark.parametrize("shape", [(), (1,), (4,), (1, 1), (1, 4)])
def test_shapes_of_the_bias(shape: tuple[int, ...]) -> None:
    assert_rewrites(layer("m = MatMul(x, w) y = Add(b, m)", bias=shape), FUSE, ["Gemm"])


def test_a_matrix_added() -> None:
    assert_rewrites(layer(x="float[2, 3]", bias=(2, 4)), FUSE, ["Gemm"])


def test_something_computed() -> None:
    before = layer("m = MatMul(x, w) r = ReduceSum(x) y = Add(m, r)")
    assert_rewrites(before, FUSE, ["ReduceSum", "Gemm"])


@pytest.mark.parametrize("kind", ["float16", "double"])
def test_other_types(kind: str) -> None:
    assert_rewrites(layer(x=f"{kind}[2, 3]"), FUSE, ["Gemm"])


def test_whole_numbers() -> None:
    assert_declines(layer(x="int32[2, 3]"), FUSE, "no kernel for the type")


def test_before_gemm_broadcast() -> None:
    before = layer("m = MatMul(x, w) y = Add<broadcast = 1>(m, b)", opset=6)
    assert_declines(before, FUSE, "needs opset 7")


@pytest.mark.parametrize("shape", [(5, 2, 4), (5, 1, 1)])
def test_a_sum_of_more_dimensions(shape: tuple[int, ...]) -> None:
    assert_declines(layer(x="float[2, 3]", bias=shape), FUSE, "another shape")


def test_a_sum_of_more_rows() -> None:
    assert_declines(layer(x="float[1, 3]", bias=(2, 4)), FUSE, "another shape")


def test_a_stack_of_matrices() -> None:
    assert_declines(layer(x="float[2, 2, 3]"), FUSE)


def test_a_rank_that_is_not_known() -> None:
    before = model("""g (float[2, 3] x, int64[K] k, float[3, 4] w, float[4] b) => (float[] y) {
        z = Reshape(x, k) m = MatMul(z, w) y = Add(m, b)
    }""")
    assert_declines(before, FUSE, "a rank is not known")


def test_a_product_that_others_read() -> None:
    before = layer("m = MatMul(x, w) s = Add(m, b) y = Mul(s, m)")
    assert_declines(before, FUSE, "an inner result is read elsewhere too")
