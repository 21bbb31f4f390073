"""Gemm followed by BatchNormalization."""

import numpy as np
import pytest

from kit import assert_declines, assert_rewrites, holding, model
from onnxslim.ir import Array, Model
from onnxslim.passes.fuse.fuse_gemm_bn import FuseGemmBn

FUSE = FuseGemmBn()
K, N = 4, 3


def random(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def gemm_bn(
    gemm: str = "Gemm(x, w, k)",
    weight: tuple[int, ...] = (K, N),
    bias: tuple[int, ...] = (N,),
    x: str = "float[M, 4]",
    opset: int = 20,
    bn: str = "y = BatchNormalization(g, s, b, m, v)",
) -> Model:
    arrays = {"w": random(*weight), "s": random(N), "b": random(N) + 1, "m": random(N) - 1}
    if "k" in gemm:
        arrays["k"] = random(*bias)
    text = f"g ({x} x) => (float[P, Q] y) {{ g = {gemm} {bn} }}"
    return holding(model(text, opset), v=np.array([0.5, 1, 2], np.float32), **arrays)


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 20, 22])
def test_a_bias_per_column(opset: int) -> None:
    assert_rewrites(gemm_bn(opset=opset), FUSE, ["Gemm"])


@pytest.mark.parametrize("bias", [(), (1,), (N,), (1, N), (1, 1)])
def test_a_bias_that_broadcasts(bias: tuple[int, ...]) -> None:
    assert_rewrites(gemm_bn(bias=bias), FUSE, ["Gemm"])


@pytest.mark.parametrize("bias", [(2, N), (2, 1), (N, N), (N, 1)])
def test_a_bias_per_row(bias: tuple[int, ...]) -> None:
    before = gemm_bn(bias=bias, x=f"float[{bias[0]}, 4]")
    assert_declines(before, FUSE, "the bias is a matrix")


def test_without_a_bias() -> None:
    assert_rewrites(gemm_bn("Gemm(x, w)"), FUSE, ["Gemm"])


@pytest.mark.parametrize("square", [True, False])
def test_a_transposed_weight(square: bool) -> None:
    if square:
        before = gemm_bn("Gemm<transB = 1>(x, w, k)", (N, N), x="float[M, 3]")
    else:
        before = gemm_bn("Gemm<transB = 1>(x, w, k)", (N, K))
    assert_rewrites(before, FUSE, ["Gemm"])


def test_a_square_weight() -> None:
    assert_rewrites(gemm_bn("Gemm<transB = 0>(x, w, k)", (N, N), x="float[M, 3]"), FUSE, ["Gemm"])


def test_a_transposed_input() -> None:
    assert_rewrites(gemm_bn("Gemm<transA = 1>(x, w, k)", x="float[4, M]"), FUSE, ["Gemm"])


def test_alpha_and_beta() -> None:
    after = assert_rewrites(gemm_bn("Gemm<alpha = 0.5, beta = 3.0>(x, w, k)"), FUSE, ["Gemm"])
    (gemm,) = after.nodes()
    assert gemm.attrs == {"alpha": 0.5}


def test_beta_without_a_bias() -> None:
    assert_rewrites(gemm_bn("Gemm<alpha = 0.5, beta = 3.0>(x, w)"), FUSE, ["Gemm"])


def test_beta_of_zero() -> None:
    assert_rewrites(gemm_bn("Gemm<beta = 0.0>(x, w, k)"), FUSE, ["Gemm"])


def test_before_the_bias_broadcasts() -> None:
    bn = "y = BatchNormalization<is_test = 1>(g, s, b, m, v)"
    assert_declines(gemm_bn("Gemm<broadcast=1>(x, w, k)", opset=6, bn=bn), FUSE, "before opset 7")


def test_a_bias_of_the_input() -> None:
    before = model("""g (float[M, 1] x, float[1] k) => (float[P, Q] y)
    <float[1, 1] w = {2}, float[1] s = {1}> {
        g = Gemm(x, w, k) y = BatchNormalization(g, s, s, s, s)
    }""")
    assert_declines(before, FUSE, "bias is not a constant")


def test_training() -> None:
    bn = "y, p, q = BatchNormalization<training_mode = 1>(g, s, b, m, v)"
    assert_declines(gemm_bn(bn=bn), FUSE, "BatchNormalization is in training mode")


def test_read_elsewhere() -> None:
    bn = "n = BatchNormalization(g, s, b, m, v) y = Add(n, g)"
    assert_declines(gemm_bn(bn=bn), FUSE, "an inner result is read elsewhere too")


def test_half_precision_that_overflows() -> None:
    before = holding(
        model("""g (float16[M, 1] x) => (float16[P, Q] y) {
            g = Gemm(x, w) y = BatchNormalization(g, s, s, s, s)
        }"""),
        w=np.full((1, 1), 6e4, np.float16),
        s=np.full(1, 9, np.float16),
    )
    assert_declines(before, FUSE, "overflow float16")


def test_attributes_of_a_call() -> None:
    before = model("""g (float[M, 2] x) => (float[P, Q] y) { y = local.F<t = 1>(x) }
    <domain: "local", opset_import: ["" : 20]> F <t> (x) => (y) {
        w = Constant<value = float[2, 2] {1, 2, 3, 4}>() s = Constant<value_floats = [1.0, 2.0]>()
        g = Gemm<transB: int = @t>(x, w) y = BatchNormalization(g, s, s, s, s)
    }""")
    assert_declines(before, FUSE, "set by the caller of the function")
