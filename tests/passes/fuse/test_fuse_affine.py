"""A layer followed by arithmetic with constants."""

from typing import Any

import numpy as np
import pytest

from kit import assert_declines, assert_rewrites, holding, model
from onnxslim.ir import Array, Model
from onnxslim.passes.fuse.fuse_affine import FuseAffine

FUSE = FuseAffine()


def numbers(*shape: int, dtype: Any = np.float32) -> Array:
    """Make numbers from 0.5 to 2, which one may divide by."""
    return np.random.default_rng(sum(shape)).uniform(0.5, 2, shape).astype(dtype)


def layer(body: str, x: str = "float[N, 4, 6]", opset: int = 20, **arrays: Array) -> Model:
    kind = x.split("[")[0]
    return holding(model(f"g ({x} x) => ({kind}[] y) {{ {body} }}", opset), **arrays)


ARITHMETIC = ["Mul(l, c)", "Mul(c, l)", "Add(l, c)", "Sub(l, c)", "Sub(c, l)", "Div(l, c)"]


# Convolutions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", ["", ", b"])
@pytest.mark.parametrize("arithmetic", ARITHMETIC)
def test_conv(arithmetic: str, bias: str) -> None:
    before = layer(
        f"l = Conv(x, w{bias}) y = {arithmetic}", w=numbers(3, 4, 2), b=numbers(3), c=numbers(3, 1)
    )
    assert_rewrites(before, FUSE, ["Conv"])


@pytest.mark.parametrize("opset", [7, 11, 13, 22])
def test_versions(opset: int) -> None:
    before = layer("l = Conv(x, w) y = Mul(l, c)", opset=opset, w=numbers(3, 4, 2), c=numbers(3, 1))
    assert_rewrites(before, FUSE, ["Conv"])


def test_before_operands_broadcast() -> None:
    before = layer("l = Conv(x, w) y = Mul(l, c)", opset=6, w=numbers(3, 4, 2), c=numbers(3, 1))
    assert_declines(before, FUSE, "needs opset 7")


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (1, 3, 1)])
def test_shapes_of_the_constant(shape: tuple[int, ...]) -> None:
    before = layer(
        "l = Conv(x, w, b) y = Add(l, c)", w=numbers(3, 4, 2), b=numbers(3), c=numbers(*shape)
    )
    assert_rewrites(before, FUSE, ["Conv"])


@pytest.mark.parametrize("shape", [(3,), (1, 3), (2, 1, 1), (3, 5), (1, 1, 3, 1)])
def test_constants_that_vary_along_something_else(shape: tuple[int, ...]) -> None:
    before = layer(
        "l = Conv(x, w, b) y = Add(l, c)", "float[N, 4, 4]", w=numbers(3, 4, 2), b=numbers(3),
        c=numbers(*shape),
    )  # fmt: skip
    assert_declines(before, FUSE, "the")


def test_a_constant_that_adds_channels() -> None:
    before = layer("l = Conv(x, w) y = Mul(l, c)", w=numbers(1, 4, 2), c=numbers(3, 1))
    assert_declines(before, FUSE, "more elements than there are channels")


def test_in_groups() -> None:
    before = layer("l = Conv<group = 2>(x, w) y = Mul(l, c)", w=numbers(6, 2, 2), c=numbers(6, 1))
    assert_rewrites(before, FUSE, ["Conv"])


@pytest.mark.parametrize("attrs", ["", "<group = 2>"])
@pytest.mark.parametrize("arithmetic", ARITHMETIC)
def test_conv_transpose(arithmetic: str, attrs: str) -> None:
    channels = 6 if attrs else 3
    body = f"l = ConvTranspose{attrs}(x, w, b) y = {arithmetic}"
    before = layer(body, w=numbers(4, 3, 2), b=numbers(channels), c=numbers(channels, 1))
    assert_rewrites(before, FUSE, ["ConvTranspose"])


def test_half_precision() -> None:
    before = layer(
        "l = Conv(x, w) y = Mul(l, c)", "float16[2, 4, 6]",
        w=numbers(3, 4, 2, dtype=np.float16), c=numbers(3, 1, dtype=np.float16),
    )  # fmt: skip
    assert_rewrites(before, FUSE, ["Conv"])


def test_half_precision_that_overflows() -> None:
    before = layer(
        "l = Conv(x, w) y = Mul(l, c)", "float16[2, 4, 6]",
        w=numbers(3, 4, 2, dtype=np.float16) * np.float16(3e4), c=np.full((3, 1), 9, np.float16),
    )  # fmt: skip
    assert_declines(before, FUSE, "overflow float16")


def test_a_quotient_by_zero() -> None:
    before = layer(
        "l = Conv(x, w) y = Div(l, c)", w=numbers(3, 4, 2), c=np.zeros((3, 1), np.float32)
    )
    assert_declines(before, FUSE, "not finite")


def test_a_product_then_a_sum() -> None:
    before = layer(
        "l = Conv(x, w) m = Mul(l, c) y = Add(m, d)", w=numbers(3, 4, 2), c=numbers(3, 1),
        d=numbers(1, 3, 1),
    )  # fmt: skip
    assert_rewrites(before, FUSE, ["Conv"], changes=2)


def test_a_layer_that_others_read() -> None:
    before = layer(
        "l = Conv(x, w) m = Mul(l, c) y = Add(m, l)", w=numbers(3, 4, 2), c=numbers(3, 1)
    )
    assert_declines(before, FUSE, "an inner result is read elsewhere too")


def test_weights_that_others_read() -> None:
    before = layer(
        "l = Conv(x, w) m = Mul(l, c) n = Conv(x, w) y = Add(m, n)", w=numbers(3, 4, 2),
        c=numbers(3, 1),
    )  # fmt: skip
    assert_declines(before, FUSE, "the file would grow")


def test_a_bias_that_is_computed() -> None:
    before = layer(
        "b = ReduceMax<keepdims = 0>(x, axes) l = Conv(x, w, b) y = Mul(l, c)",
        "float[1, 4, 6]", w=numbers(4, 4, 2), c=numbers(4, 1), axes=np.array([0, 2]),
    )  # fmt: skip
    assert_declines(before, FUSE, "bias is not a constant")


# Matrices -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("attrs", ["", "<transB = 1>", "<alpha = 2.0, beta = 3.0>"])
@pytest.mark.parametrize("bias", ["", ", b", ", s", ", r"])
@pytest.mark.parametrize("arithmetic", ARITHMETIC)
def test_gemm(arithmetic: str, bias: str, attrs: str) -> None:
    before = layer(
        f"l = Gemm{attrs}(x, w{bias}) y = {arithmetic}", "float[2, 4]",
        w=numbers(5, 4) if "transB" in attrs else numbers(4, 5), c=numbers(5), b=numbers(5),
        s=numbers(), r=numbers(2, 5),
    )  # fmt: skip
    after = assert_rewrites(before, FUSE, ["Gemm"])
    assert "beta" not in next(after.nodes()).attrs


@pytest.mark.parametrize("arithmetic", ["Mul(l, c)", "Mul(c, l)", "Div(l, c)"])
def test_matmul(arithmetic: str) -> None:
    before = layer(f"l = MatMul(x, w) y = {arithmetic}", w=numbers(6, 5), c=numbers(5))
    assert_rewrites(before, FUSE, ["MatMul"])


def test_a_stack_of_matrices() -> None:
    before = layer("l = MatMul(x, w) y = Mul(l, c)", w=numbers(2, 1, 6, 5), c=numbers(1, 5))
    assert_rewrites(before, FUSE, ["MatMul"])


@pytest.mark.parametrize("arithmetic", ARITHMETIC)
def test_matmul_and_sum(arithmetic: str) -> None:
    before = layer(
        f"m = MatMul(x, w) l = Add(b, m) y = {arithmetic}", w=numbers(6, 5), b=numbers(5),
        c=numbers(1, 5),
    )  # fmt: skip
    assert_rewrites(before, FUSE, ["MatMul", "Add"])


def test_a_scale_for_each_row() -> None:
    before = layer("l = MatMul(x, w) y = Mul(l, c)", w=numbers(6, 5), c=numbers(4, 1))
    assert_declines(before, FUSE, "other dimensions than the channels")


def test_a_vector() -> None:
    before = layer("l = MatMul(x, w) y = Mul(l, c)", w=numbers(6), c=numbers(4))
    assert_declines(before, FUSE, "the weights are a vector")


BN = "BatchNormalization(l, s, b, m, v)"


@pytest.mark.parametrize("product", ["l = MatMul(x, w)", "k = MatMul(x, w) l = Add(k, b)"])
def test_batch_normalization_makes_a_gemm(product: str) -> None:
    before = layer(
        f"{product} y = {BN}", "float[N, 4]", w=numbers(4, 5), s=numbers(5), b=numbers(5),
        m=numbers(5), v=numbers(5),
    )  # fmt: skip
    assert_rewrites(before, FUSE, ["Gemm"])


def test_batch_normalization_of_another_dimension() -> None:
    before = layer(
        f"l = MatMul(x, w) y = {BN}", w=numbers(6, 4), s=numbers(4), b=numbers(4), m=numbers(4),
        v=numbers(4),
    )  # fmt: skip
    assert_declines(before, FUSE, "not the last dimension")


# Normalizations -----------------------------------------------------------------------------------


@pytest.mark.parametrize("arithmetic", ARITHMETIC)
def test_batch_normalization(arithmetic: str) -> None:
    before = layer(
        f"l = BatchNormalization(x, s, b, m, v) y = {arithmetic}", s=numbers(4), b=numbers(4),
        m=numbers(4), v=numbers(4), c=numbers(4, 1),
    )  # fmt: skip
    assert_rewrites(before, FUSE, ["BatchNormalization"])


def test_two_batch_normalizations() -> None:
    before = layer(
        f"l = BatchNormalization(x, s2, b2, m2, v2) y = {BN}",
        s=numbers(4), b=numbers(4) + 1, m=numbers(4) + 2, v=numbers(4) + 3,
        s2=numbers(4) * 2, b2=numbers(4) * 3, m2=numbers(4), v2=numbers(4) * 4,
    )  # fmt: skip
    assert_rewrites(before, FUSE, ["BatchNormalization"])


@pytest.mark.parametrize("arithmetic", ARITHMETIC)
def test_instance_normalization(arithmetic: str) -> None:
    before = layer(
        f"l = InstanceNormalization(x, s, b) y = {arithmetic}", s=numbers(4), b=numbers(4),
        c=numbers(4, 1),
    )  # fmt: skip
    assert_rewrites(before, FUSE, ["InstanceNormalization"])


@pytest.mark.parametrize("bias", ["", ", b"])
@pytest.mark.parametrize("arithmetic", ARITHMETIC)
def test_layer_normalization(arithmetic: str, bias: str) -> None:
    before = layer(
        f"l = LayerNormalization(x, s{bias}) y = {arithmetic}", s=numbers(6), b=numbers(6),
        c=numbers(6),
    )  # fmt: skip
    assert_rewrites(before, FUSE, ["LayerNormalization"])


def test_layer_normalization_over_two_dimensions() -> None:
    before = layer(
        "l = LayerNormalization<axis = 1>(x, s) y = Add(l, c)", s=numbers(4, 6), c=numbers(6)
    )
    assert_declines(before, FUSE, "the file would grow")


def test_a_rank_that_is_not_known() -> None:
    text = """g (float[2, 4, 6] x, int64[K] k) => (float[] y) {
        z = Reshape(x, k) l = InstanceNormalization(z, s, b) y = Mul(l, c)
    }"""
    before = holding(model(text), s=numbers(4), b=numbers(4), c=numbers(4, 1))
    assert_declines(before, FUSE, "the rank is not known")


def test_inside_a_branch() -> None:
    text = """g (float[1, 4, 6] x, bool p) => (float[] z) {
        z = If (p) <
            then_branch = t () => (float[] y) { l = Conv(x, w) y = Mul(l, c) },
            else_branch = e () => (float[] a) { a = Abs(x) }
        >
    }"""
    before = holding(model(text), w=numbers(3, 4, 2), c=numbers(3, 1))
    assert_rewrites(before, FUSE, ["If", "Conv", "Abs"])


def test_another_domain() -> None:
    text = """g (float[1, 4, 6] x) => (float[] y) { l = local.Conv(x, w) y = Mul(l, c) }
    <domain: "local", opset_import: ["" : 20]> Conv (x, w) => (l) { l = Abs(x) }"""
    before = holding(model(text), w=numbers(3, 4, 2), c=numbers(4, 1))
    assert_declines(before, FUSE)


@pytest.mark.parametrize("op", ["Mul", "Div"])
def test_a_constant_that_adds_a_dimension(op: str) -> None:
    before = model(f"""g (float[2, 3] x) => (float[1, 2, 3] y)
    <float[3, 3] w = {{1, 2, 3, 4, 5, 6, 7, 8, 9}}, float[1, 1, 3] c = {{1, 2, 4}}> {{
        p = MatMul(x, w) q = {op}(p, c) y = Exp(q) }}""")
    assert_declines(before, FuseAffine(), "has a higher one")
