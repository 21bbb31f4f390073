"""A convolution of a convolution."""

from typing import Any

import numpy as np
import pytest

from kit import assert_declines, assert_rewrites, holding, model
from onnxslim.ir import Array, Model
from onnxslim.passes.fuse.fuse_conv_conv import FuseConvConv

FUSE = FuseConvConv()


def numbers(*shape: int, dtype: Any = np.float32) -> Array:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(dtype)


def convs(
    first: str, second: str, x: str = "float[1, 4, 9, 9]", opset: int = 20, **arrays: Array
) -> Model:
    kind = x.split("[")[0]
    text = f"g ({x} x) => ({kind}[A, B, C, D] y) {{ h = Conv{first} y = Conv{second} }}"
    return holding(model(text, opset), **arrays)


@pytest.mark.parametrize("opset", [7, 11, 22])
@pytest.mark.parametrize("second", ["(h, v)", "(h, v, c)"])
@pytest.mark.parametrize("first", ["(x, w)", "(x, w, b)"])
def test_channels_mixed_after_a_kernel(first: str, second: str, opset: int) -> None:
    before = convs(
        first, second, opset=opset, w=numbers(6, 4, 3, 3), b=numbers(6), v=numbers(5, 6, 1, 1),
        c=numbers(5),
    )  # fmt: skip
    assert_rewrites(before, FUSE, ["Conv"])


@pytest.mark.parametrize("second", ["(h, v)", "(h, v, c)"])
@pytest.mark.parametrize("first", ["(x, w)", "(x, w, b)"])
def test_channels_mixed_before_a_kernel(first: str, second: str) -> None:
    before = convs(
        first, second, w=numbers(6, 4, 1, 1), b=numbers(6), v=numbers(5, 6, 3, 3), c=numbers(5)
    )
    assert_rewrites(before, FUSE, ["Conv"])


@pytest.mark.parametrize(
    "attrs",
    [
        "<pads = [1, 0, 2, 1]>",
        '<auto_pad = "SAME_UPPER">',
        '<auto_pad = "VALID">',
        "<strides = [2, 3], dilations = [2, 1], pads = [2, 1, 2, 1]>",
    ],
)
def test_any_geometry(attrs: str) -> None:
    kernel, mix = numbers(6, 6, 3, 3), numbers(6, 6, 1, 1)
    first = convs(f"{attrs}(x, w)", "(h, v)", "float[1, 6, 9, 9]", w=kernel, v=mix)
    second = convs("(x, w)", f"{attrs}(h, v)", "float[1, 6, 9, 9]", w=mix, v=kernel)
    assert_rewrites(first, FUSE, ["Conv"])
    assert_rewrites(second, FUSE, ["Conv"])


@pytest.mark.parametrize("attrs", ["<pads = [1, 1, 1, 1]>", '<auto_pad = "SAME_UPPER">'])
def test_steps_of_the_second(attrs: str) -> None:
    before = convs(
        f"{attrs}(x, w)", "<strides = [2, 1]>(h, v)", w=numbers(6, 4, 3, 3), v=numbers(5, 6, 1, 1)
    )
    (conv,) = assert_rewrites(before, FUSE, ["Conv"]).nodes()
    assert conv.attrs == {"strides": [2, 1], "pads": [1, 1, 1, 1]}


def test_a_bias_that_the_padding_lacks() -> None:
    before = convs(
        "(x, w, b)", "<pads = [1, 1, 1, 1]>(h, v)", w=numbers(6, 4, 1, 1), b=numbers(6),
        v=numbers(5, 6, 3, 3),
    )  # fmt: skip
    assert_declines(before, FUSE, "the padding has no bias")


def test_a_bias_of_zeros_before_padding() -> None:
    before = convs(
        "(x, w, b)", "<pads = [1, 1, 1, 1]>(h, v)", w=numbers(6, 4, 1, 1),
        b=np.zeros(6, np.float32), v=numbers(5, 6, 3, 3),
    )  # fmt: skip
    assert_rewrites(before, FUSE, ["Conv"])


def test_padding_around_what_a_kernel_makes() -> None:
    before = convs(
        "(x, w)", "<pads = [1, 1, 1, 1]>(h, v)", w=numbers(6, 4, 3, 3), v=numbers(5, 6, 1, 1)
    )
    assert_declines(before, FUSE, "the second Conv pads what the first one makes")


@pytest.mark.parametrize("attrs", ["<strides = [2, 2]>", "<pads = [1, 1, 1, 1]>"])
def test_a_first_conv_that_moves(attrs: str) -> None:
    before = convs(f"{attrs}(x, w)", "(h, v)", w=numbers(6, 4, 1, 1), v=numbers(5, 6, 3, 3))
    assert_declines(before, FUSE, "the first Conv skips or pads")


def test_two_kernels() -> None:
    before = convs("(x, w)", "(h, v)", w=numbers(6, 4, 3, 1), v=numbers(5, 6, 1, 3))
    assert_declines(before, FUSE, "no kernel is of one element")


@pytest.mark.parametrize(("one", "two"), [(2, 2), (4, 2), (2, 4), (1, 2)])
def test_groups(one: int, two: int) -> None:
    before = convs(
        f"<group = {one}>(x, w, b)", f"<group = {two}>(h, v, c)", "float[1, 8, 5, 5]",
        w=numbers(16, 8 // one, 1, 1), b=numbers(16), v=numbers(8, 16 // two, 1, 1), c=numbers(8),
    )  # fmt: skip
    assert_rewrites(before, FUSE, ["Conv"])


def test_more_weights() -> None:
    before = convs("<group = 4>(x, w)", "(h, v)", w=numbers(4, 1, 3, 3), v=numbers(4, 4, 1, 1))
    assert_declines(before, FUSE, "more weights")


def test_more_multiplications() -> None:
    before = convs(
        "(x, w)", "<pads = [4, 4, 4, 4]>(h, v)", "float[1, 20, 1, 1]",
        w=numbers(16, 20, 1, 1), v=numbers(4, 16, 3, 3),
    )  # fmt: skip
    assert_declines(before, FUSE, "more multiplications")


def test_a_size_that_is_not_known() -> None:
    before = convs(
        "(x, w)", "(h, v)", "float[N, 4, H, W]", w=numbers(6, 4, 3, 3), v=numbers(5, 6, 1, 1)
    )
    assert_rewrites(before, FUSE, ["Conv"])


def test_a_first_result_that_others_read() -> None:
    text = """g (float[1, 4, 5, 5] x) => (float[] y, float[] z) {
        h = Conv(x, w) y = Conv(h, v) z = Relu(h) }"""
    before = holding(model(text), w=numbers(6, 4, 3, 3), v=numbers(5, 6, 1, 1))
    assert_declines(before, FUSE, "an inner result is read elsewhere too")


def test_weights_that_others_read() -> None:
    text = """g (float[1, 4, 5, 5] x) => (float[] y, float[] z) {
        h = Conv(x, w) y = Conv(h, v) z = Conv(x, w) }"""
    before = holding(model(text), w=numbers(6, 4, 3, 3), v=numbers(5, 6, 1, 1))
    assert_declines(before, FUSE, "the file would grow")


def test_half_precision() -> None:
    half = np.float16
    before = convs(
        "(x, w)", "(h, v)", "float16[1, 4, 5, 5]", w=numbers(6, 4, 3, 3, dtype=half),
        v=numbers(5, 6, 1, 1, dtype=half),
    )  # fmt: skip
    assert_rewrites(before, FUSE, ["Conv"])


def test_a_bias_that_is_computed() -> None:
    text = """g (float[1, 4, 5, 5] x, float[6] b) => (float[] y) {
        h = Conv(x, w, b) y = Conv(h, v) }"""
    before = holding(model(text), w=numbers(6, 4, 3, 3), v=numbers(5, 6, 1, 1))
    assert_declines(before, FUSE, "first bias is not a constant")
