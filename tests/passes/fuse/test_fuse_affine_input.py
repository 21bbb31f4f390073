"""A layer after arithmetic with constants."""

from typing import Any

import numpy as np
import pytest

from kit import assert_declines, assert_rewrites, holding, model
from onnxslim.ir import Array, Model
from onnxslim.passes.fuse.fuse_affine_input import FuseAffineInput

FUSE = FuseAffineInput()


def numbers(*shape: int, dtype: Any = np.float32) -> Array:
    """Make numbers from 0.5 to 2, which one may divide by."""
    return np.random.default_rng(sum(shape)).uniform(0.5, 2, shape).astype(dtype)


def layer(body: str, x: str = "float[N, 4, 6]", opset: int = 20, **arrays: Array) -> Model:
    kind = x.split("[")[0]
    return holding(model(f"g ({x} x) => ({kind}[] y) {{ {body} }}", opset), **arrays)


SCALES = ["Mul(x, c)", "Mul(c, x)", "Div(x, c)"]
SHIFTS = ["Add(c, x)", "Sub(x, c)", "Sub(c, x)"]


@pytest.mark.parametrize("attrs", ["", "<pads = [1, 2]>", '<auto_pad = "SAME_UPPER">'])
@pytest.mark.parametrize("scale", SCALES)
def test_a_scale_before_a_conv(scale: str, attrs: str) -> None:
    before = layer(f"a = {scale} y = Conv{attrs}(a, w)", w=numbers(3, 4, 2), c=numbers(4, 1))
    assert_rewrites(before, FUSE, ["Conv"])


@pytest.mark.parametrize("bias", ["", ", b"])
@pytest.mark.parametrize("shift", SHIFTS)
def test_a_shift_before_a_conv(shift: str, bias: str) -> None:
    before = layer(
        f"a = {shift} y = Conv<pads = [0, 0]>(a, w{bias})", w=numbers(3, 4, 2), b=numbers(3),
        c=numbers(4, 1),
    )  # fmt: skip
    assert_rewrites(before, FUSE, ["Conv"])


@pytest.mark.parametrize("attrs", ["<pads = [0, 1]>", '<auto_pad = "SAME_LOWER">'])
@pytest.mark.parametrize("shift", SHIFTS)
def test_a_shift_before_padding(shift: str, attrs: str) -> None:
    before = layer(f"a = {shift} y = Conv{attrs}(a, w)", w=numbers(3, 4, 2), c=numbers(4, 1))
    assert_declines(before, FUSE, "the padding is not shifted")


@pytest.mark.parametrize("operation", ["Mul(x, c)", "Add(x, c)"])
def test_a_conv_in_groups(operation: str) -> None:
    before = layer(
        f"a = {operation} y = Conv<group = 2>(a, w, b)", w=numbers(6, 2, 2), b=numbers(6),
        c=numbers(4, 1),
    )  # fmt: skip
    assert_rewrites(before, FUSE, ["Conv"])


@pytest.mark.parametrize("shape", [(), (1, 1, 1)])
def test_one_number(shape: tuple[int, ...]) -> None:
    before = layer("a = Div(x, c) y = Conv(a, w)", w=numbers(3, 4, 2), c=numbers(*shape))
    assert_rewrites(before, FUSE, ["Conv"])


BN = "BatchNormalization(x, s, t, m, v)"


@pytest.mark.parametrize("group", [1, 2])
def test_batch_normalization_before_a_conv(group: int) -> None:
    before = layer(
        f"a = {BN} y = Conv<group = {group}>(a, w)", w=numbers(6, 4 // group, 2),
        s=numbers(4), t=numbers(4) + 1, m=numbers(4) - 1, v=numbers(4) * 2,
    )  # fmt: skip
    assert_rewrites(before, FUSE, ["Conv"])


@pytest.mark.parametrize("conv", ["Conv<pads = [1, 1]>(a, w)", "ConvTranspose(a, w)"])
def test_batch_normalization_that_shifts_nothing(conv: str) -> None:
    none = np.zeros(4, np.float32)
    before = layer(
        f"a = {BN} y = {conv}", w=numbers(4, 4, 2), s=numbers(4), t=none, m=none, v=numbers(4)
    )
    assert_rewrites(before, FUSE, [conv.split("<")[0].split("(")[0]])


def test_an_image_that_is_normalized() -> None:
    before = layer(
        "p = Sub(x, c) q = Div(p, d) y = Conv(q, w, b)", "float[N, 3, 9, 9]", w=numbers(4, 3, 3, 3),
        b=numbers(4), c=numbers(1, 3, 1, 1), d=numbers(3, 1, 1),
    )  # fmt: skip
    assert_rewrites(before, FUSE, ["Conv"], changes=2)


@pytest.mark.parametrize("scale", SCALES)
def test_a_scale_before_a_conv_transpose(scale: str) -> None:
    before = layer(f"a = {scale} y = ConvTranspose(a, w)", w=numbers(4, 3, 2), c=numbers(4, 1))
    assert_rewrites(before, FUSE, ["ConvTranspose"])


def test_a_shift_before_a_conv_transpose() -> None:
    before = layer("a = Add(x, c) y = ConvTranspose(a, w)", w=numbers(4, 3, 2), c=numbers(4, 1))
    assert_declines(before, FUSE, "less effect at the borders")


@pytest.mark.parametrize("attrs", ["", "<transB = 1>", "<alpha = 2.0, beta = 3.0>"])
@pytest.mark.parametrize("bias", ["", ", b"])
@pytest.mark.parametrize("operation", [*SCALES, *SHIFTS])
def test_before_a_gemm(operation: str, bias: str, attrs: str) -> None:
    before = layer(
        f"a = {operation} y = Gemm{attrs}(a, w{bias})", "float[2, 4]",
        w=numbers(5, 4) if "transB" in attrs else numbers(4, 5), b=numbers(5), c=numbers(4),
    )  # fmt: skip
    assert_rewrites(before, FUSE, ["Gemm"])


def test_a_gemm_of_a_transposed_input() -> None:
    before = layer(
        "a = Mul(x, c) y = Gemm<transA = 1>(a, w)", "float[4, 4]", w=numbers(4, 5), c=numbers(4)
    )
    assert_declines(before, FUSE, "the input is transposed")


@pytest.mark.parametrize("scale", SCALES)
def test_a_scale_before_a_matmul(scale: str) -> None:
    before = layer(f"a = {scale} y = MatMul(a, w)", w=numbers(6, 5), c=numbers(6))
    assert_rewrites(before, FUSE, ["MatMul"])


@pytest.mark.parametrize("operation", [*SCALES, *SHIFTS])
def test_before_a_matmul_and_a_sum(operation: str) -> None:
    before = layer(
        f"a = {operation} m = MatMul(a, w) y = Add(m, b)", w=numbers(6, 5), c=numbers(6),
        b=numbers(5),
    )  # fmt: skip
    assert_rewrites(before, FUSE, ["MatMul", "Add"])


def test_a_shift_before_a_matmul_of_more_dimensions() -> None:
    before = layer("a = Add(x, c) y = MatMul(a, w)", w=numbers(6, 5), c=numbers(6))
    assert_declines(before, FUSE, "a sum would take the place of a sum")


def test_a_shift_before_a_matmul_of_matrices() -> None:
    before = layer("a = Add(x, c) y = MatMul(a, w)", "float[2, 6]", w=numbers(6, 5), c=numbers(6))
    assert_rewrites(before, FUSE, ["Gemm"])


def test_batch_normalization_before_a_matmul() -> None:
    before = layer(
        f"a = {BN} y = MatMul(a, w)", "float[N, 4]", w=numbers(4, 5),
        s=numbers(4), t=numbers(4), m=numbers(4), v=numbers(4),
    )  # fmt: skip
    assert_rewrites(before, FUSE, ["Gemm"])


@pytest.mark.parametrize(
    "body",
    [
        "r = Div(x, c) a = Mul(r, c) y = MatMul(a, w)",
        "r = Mul(x, x) a = Mul(r, c) m = MatMul(a, w) y = Add(m, b)",
    ],
)
def test_what_onnxruntime_fuses_with_a_normalization(body: str) -> None:
    before = layer(body, w=numbers(6, 5), c=numbers(6), b=numbers(5))
    assert_declines(before, FUSE, "onnxruntime fuses it with what is before it")


@pytest.mark.parametrize("shape", [(6,), (4, 6)])
def test_constants_that_vary_along_something_else(shape: tuple[int, ...]) -> None:
    before = layer("a = Mul(x, c) y = Conv(a, w)", w=numbers(3, 4, 2), c=numbers(*shape))
    assert_declines(before, FUSE, "other dimensions than the channels")


def test_a_constant_that_adds_channels() -> None:
    text = "float[N, 1, 6]"
    before = layer("a = Mul(x, c) y = Conv(a, w)", text, w=numbers(3, 4, 2), c=numbers(4, 1))
    assert_declines(before, FUSE, "more elements than there are channels")


def test_a_sum_that_others_read() -> None:
    before = layer("a = Mul(x, c) m = MatMul(a, w) y = Add(m, a)", w=numbers(6, 6), c=numbers(6))
    assert_declines(before, FUSE, "an inner result is read elsewhere too")


def test_weights_that_are_computed() -> None:
    before = layer("a = Mul(x, c) w = Abs(c) y = MatMul(a, w)", c=numbers(6))
    assert_declines(before, FUSE)


def test_half_precision() -> None:
    before = layer(
        "a = Mul(x, c) y = MatMul(a, w)", "float16[2, 6]", w=numbers(6, 5, dtype=np.float16),
        c=numbers(6, dtype=np.float16),
    )  # fmt: skip
    assert_rewrites(before, FUSE, ["MatMul"])


def test_a_constant_that_adds_a_dimension() -> None:
    before = model("""g (float[2, 4, 6] x) => (float[1, 3, 4, 6] y)
    <float[1, 1, 1, 1] c = {2}, float[3, 2, 1, 1] w = {1, 2, 3, 4, 5, 6}> {
        p = Mul(x, c) q = Conv(p, w) y = Relu(q) }""")
    assert_declines(before, FuseAffineInput(), "more dimensions")
