"""An average after a convolution that looks at one element at a time."""

from typing import Any

import numpy as np
import pytest

from kit import assert_declines, assert_rewrites, holding, model
from onnxslim.ir import Array, Model
from onnxslim.passes.fuse.hoist_average_pool import HoistAveragePool

HOIST = HoistAveragePool()
HALVES = "kernel_shape = [2, 2], strides = [2, 2]"


def numbers(*shape: int, dtype: Any = np.float32) -> Array:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(dtype)


def pooled(
    pool: str, conv: str = "(x, w)", x: str = "float[N, 4, 6, 7]", opset: int = 20, **arrays: Array
) -> Model:
    kind = x.split("[")[0]
    given = {"w": numbers(6, 4, 1, 1), "b": numbers(6), "axes": np.array([2, -1]), **arrays}
    used = {name: given[name] for name in given if f", {name}" in conv + pool}
    text = f"g ({x} x) => ({kind}[A, B, C, D] y) {{ h = Conv{conv} y = {pool} }}"
    return holding(model(text, opset), **used)


@pytest.mark.parametrize("opset", [7, 11, 19, 22])
@pytest.mark.parametrize("conv", ["(x, w)", "(x, w, b)"])
def test_windows(conv: str, opset: int) -> None:
    before = pooled(f"AveragePool<{HALVES}>(h)", conv, opset=opset)
    assert_rewrites(before, HOIST, ["AveragePool", "Conv"])


@pytest.mark.parametrize("attrs", ["pads = [1, 1, 0, 0]", 'auto_pad = "SAME_UPPER"'])
def test_padding_that_is_not_counted(attrs: str) -> None:
    before = pooled(f"AveragePool<{HALVES}, {attrs}>(h)", "(x, w, b)")
    assert_rewrites(before, HOIST, ["AveragePool", "Conv"])


COUNTED = f"AveragePool<{HALVES}, pads = [1, 1, 0, 0], count_include_pad = 1>(h)"


def test_padding_that_is_counted() -> None:
    assert_declines(pooled(COUNTED, "(x, w, b)"), HOIST, "the bias is averaged with padding")


def test_padding_that_is_counted_without_a_bias() -> None:
    assert_rewrites(pooled(COUNTED), HOIST, ["AveragePool", "Conv"])


def test_windows_that_reach_over_the_end() -> None:
    before = pooled(f"AveragePool<{HALVES}, ceil_mode = 1>(h)", "(x, w, b)")
    assert_declines(before, HOIST, "the bias is averaged with padding")


@pytest.mark.parametrize("x", ["float[N, 4, 6, 7]", "float[1, 4, H, W]"])
def test_the_whole_image(x: str) -> None:
    before = pooled("GlobalAveragePool(h)", "(x, w, b)", x)
    assert_rewrites(before, HOIST, ["GlobalAveragePool", "Conv"])


@pytest.mark.parametrize(
    ("mean", "opset"), [("ReduceMean<axes = [-1, -2]>(h)", 13), ("ReduceMean(h, axes)", 18)]
)
def test_a_mean(mean: str, opset: int) -> None:
    assert_rewrites(pooled(mean, "(x, w, b)", opset=opset), HOIST, ["ReduceMean", "Conv"])


@pytest.mark.parametrize("attrs", ["axes = [2]", "axes = [1, 2, 3]"])
def test_a_mean_over_something_else(attrs: str) -> None:
    before = pooled(f"ReduceMean<{attrs}>(h)", opset=13)
    assert_declines(before, HOIST, "the mean is not over the image alone")


def test_a_mean_without_its_dimensions() -> None:
    text = """g (float[N, 4, 6, 7] x) => (float[A, B] y) {
        h = Conv(x, w) y = ReduceMean<axes = [2, 3], keepdims = 0>(h) }"""
    before = holding(model(text, 13), w=numbers(6, 4, 1, 1))
    assert_declines(before, HOIST, "the mean is not over the image alone")


def test_a_size_that_is_not_known() -> None:
    before = pooled(f"AveragePool<{HALVES}>(h)", x="float[1, 4, H, W]")
    assert_rewrites(before, HOIST, ["AveragePool", "Conv"])


def test_a_size_that_is_not_known_and_padding() -> None:
    before = pooled(f"AveragePool<{HALVES}, pads = [1, 1, 1, 1]>(h)", x="float[1, 4, H, W]")
    assert_declines(before, HOIST, "the shapes are not known")


def test_groups() -> None:
    before = pooled("GlobalAveragePool(h)", "<group = 2>(x, w, b)", w=numbers(6, 2, 1, 1))
    assert_rewrites(before, HOIST, ["GlobalAveragePool", "Conv"])


def test_a_larger_kernel() -> None:
    before = pooled("GlobalAveragePool(h)", w=numbers(6, 4, 2, 2))
    assert_declines(before, HOIST, "the kernel has several elements")


@pytest.mark.parametrize("attrs", ["<strides = [2, 2]>", "<pads = [1, 1, 1, 1]>"])
def test_a_conv_that_moves(attrs: str) -> None:
    before = pooled("GlobalAveragePool(h)", f"{attrs}(x, w)")
    assert_declines(before, HOIST, "the Conv skips or pads")


def test_as_many_averages_as_elements() -> None:
    before = pooled("AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(h)")
    assert_declines(before, HOIST, "there are as many averages as elements")


def test_averages_of_many_channels() -> None:
    before = pooled(
        "AveragePool<kernel_shape = [5, 5], strides = [1, 1]>(h)", w=numbers(1, 4, 1, 1)
    )
    assert_declines(before, HOIST, "averages of the input cost more")


def test_a_conv_that_others_read() -> None:
    text = """g (float[1, 4, 6, 7] x) => (float[A, B, C, D] y, float[E, F, G, H] z) {
        h = Conv(x, w) y = GlobalAveragePool(h) z = Relu(h) }"""
    before = holding(model(text), w=numbers(6, 4, 1, 1))
    assert_declines(before, HOIST, "an inner result is read elsewhere too")


def test_half_precision() -> None:
    before = pooled(
        "GlobalAveragePool(h)", "(x, w, b)", "float16[N, 4, 6, 7]",
        w=numbers(6, 4, 1, 1, dtype=np.float16), b=numbers(6, dtype=np.float16),
    )  # fmt: skip
    assert_rewrites(before, HOIST, ["GlobalAveragePool", "Conv"])
