"""An average over windows of what a convolution makes."""

from typing import Any

import numpy as np
import pytest

from kit import assert_declines, assert_rewrites, holding, model
from onnxslim.ir import Array, Model
from onnxslim.passes.fuse.fuse_conv_average_pool import FuseConvAveragePool

FUSE = FuseConvAveragePool()
HALVES = "kernel_shape = [2, 2], strides = [2, 2]"


def numbers(*shape: int, dtype: Any = np.float32) -> Array:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(dtype)


def pooled(
    pool: str = HALVES,
    conv: str = "(x, w)",
    x: str = "float[N, 4, 12, 13]",
    opset: int = 20,
    weight: tuple[int, ...] = (3, 4, 3, 3),
) -> Model:
    text = f"g ({x} x) => (float[A, B, C, D] y) {{ h = Conv{conv} y = AveragePool<{pool}>(h) }}"
    given = {"w": numbers(*weight), "b": numbers(3)}
    return holding(model(text, opset), **{name: given[name] for name in given if name in conv})


@pytest.mark.parametrize("opset", [7, 11, 19, 22])
@pytest.mark.parametrize("conv", ["(x, w)", "(x, w, b)"])
def test_halves(conv: str, opset: int) -> None:
    assert_rewrites(pooled(conv=conv, opset=opset), FUSE, ["Conv"])


@pytest.mark.parametrize(
    "conv",
    [
        "<pads = [1, 1, 1, 1]>(x, w, b)",
        "<pads = [2, 0, 1, 3], strides = [1, 2]>(x, w)",
        '<auto_pad = "SAME_UPPER">(x, w)',
    ],
)
def test_a_conv_that_moves(conv: str) -> None:
    assert_rewrites(pooled(conv=conv), FUSE, ["Conv"])


@pytest.mark.parametrize(
    "pool",
    [
        "kernel_shape = [3, 2], strides = [3, 2]",
        "kernel_shape = [2, 3], strides = [3, 3]",
        "kernel_shape = [2, 2], strides = [3, 3], dilations = [2, 1]",
        'kernel_shape = [2, 2], strides = [2, 2], auto_pad = "VALID", count_include_pad = 1',
    ],
)
def test_windows(pool: str) -> None:
    assert_rewrites(pooled(pool), FUSE, ["Conv"])


def test_groups() -> None:
    before = pooled(conv="<group = 2>(x, w)", weight=(4, 2, 3, 3))
    assert_rewrites(before, FUSE, ["Conv"])


def test_a_size_that_is_not_known() -> None:
    assert_rewrites(pooled(x="float[1, 4, H, W]"), FUSE, ["Conv"])


@pytest.mark.parametrize(
    ("pool", "reason"),
    [
        (f"{HALVES}, pads = [1, 1, 1, 1]", "the pooling pads"),
        (f"{HALVES}, ceil_mode = 1", "windows may reach over the end"),
        ("kernel_shape = [2, 2]", "more multiplications"),
    ],
)
def test_windows_that_do_not_fit(pool: str, reason: str) -> None:
    assert_declines(pooled(pool), FUSE, reason)


def test_a_kernel_with_holes() -> None:
    assert_declines(pooled(conv="<dilations = [2, 1]>(x, w)"), FUSE, "the kernel has holes")
