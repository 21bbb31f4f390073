"""A convolution with quantized weights, and what is done to its channels afterwards."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import pytest

from kit import assert_declines, assert_rewrites, holding, model
from onnxslim.ir import Array, Model
from onnxslim.passes.fuse.fuse_affine_dequantized import FuseAffineDequantized

FUSE = FuseAffineDequantized()


def numbers(*shape: int) -> Array:
    """Make numbers from 0.5 to 2."""
    return np.random.default_rng(sum(shape)).uniform(0.5, 2, shape).astype(np.float32)


CODES = np.random.default_rng(0).integers(-120, 120, (4, 3, 3, 3)).astype(np.int8)
BN = "BatchNormalization(l, s, t, m, v)"
BY_CHANNEL = "<axis = 0>(codes, steps)"
ONE = "(codes, step)"


def conv(
    weight: str = BY_CHANNEL,
    after: str = BN,
    bias: str = "",
    opset: int = 20,
    given: Mapping[str, Array] = MappingProxyType({}),
) -> Model:
    body = f"w = DequantizeLinear{weight} {bias}"
    operands = "x, w, b" if bias else "x, w"
    text = f"g (float[N, 3, 6, 6] x) => (float[] y) {{ {body} l = Conv({operands}) y = {after} }}"
    arrays: dict[str, Array] = {
        "codes": CODES, "steps": numbers(4) / 100, "step": np.array(0.02, np.float32),
        "s": numbers(4), "t": numbers(4), "m": numbers(4), "v": numbers(4), "c": numbers(4, 1, 1),
        "zeros": np.array([1, -2, 3, 0], np.int8), "zero": np.array(3, np.int8),
        "codes8": np.array([100, -90, 80, 5], np.int8),
        "codes32": np.array([100, -200, 300, 5], np.int32), **given,
    }  # fmt: skip
    words = text.replace("(", " ").replace(")", " ").replace(",", " ").split()
    return holding(model(text, opset), **{n: a for n, a in arrays.items() if n in words})


@pytest.mark.parametrize("opset", [13, 19, 21])
@pytest.mark.parametrize(
    "weight", [BY_CHANNEL, ONE, "<axis = -4>(codes, steps, zeros)", "(codes, step, zero)"]
)
def test_batch_normalization(weight: str, opset: int) -> None:
    assert_rewrites(conv(weight, opset=opset), FUSE, ["DequantizeLinear", "Conv"])


@pytest.mark.parametrize("after", ["Mul(l, c)", "Add(c, l)", "Sub(l, c)", "Div(l, c)", "Sub(c, l)"])
def test_arithmetic(after: str) -> None:
    assert_rewrites(conv(after=after), FUSE, ["DequantizeLinear", "Conv"])


def test_one_number_for_all_channels() -> None:
    before = conv(ONE, "Mul(l, c)", given={"c": np.array(0.5, np.float32)})
    after = assert_rewrites(before, FUSE, ["DequantizeLinear", "Conv"])
    assert sorted(constant.shape for constant in after.constants()) == [(), (4, 3, 3, 3)]


def test_a_bias() -> None:
    before = conv(bias=" ", given={"b": numbers(4)})
    assert_rewrites(before, FUSE, ["DequantizeLinear", "Conv"])


def test_a_quantized_bias() -> None:
    before = conv(bias="b = DequantizeLinear<axis = 0>(codes32, steps)")
    assert_rewrites(before, FUSE, ["DequantizeLinear", "Conv"])


def test_a_bias_with_a_zero_point() -> None:
    before = conv(bias="b = DequantizeLinear(codes8, step, zero)")
    assert_rewrites(before, FUSE, ["DequantizeLinear", "Conv"])


@pytest.mark.parametrize("weight", [BY_CHANNEL, "<axis = 0>(codes, steps, zeros)"])
def test_scales_below_zero_mirror_the_codes(weight: str) -> None:
    before = conv(weight, given={"s": np.array([-1, 2, -0.5, 0], np.float32)})
    after = assert_rewrites(before, FUSE, ["DequantizeLinear", "Conv"])
    (quantized, _) = (node for node in after.nodes() if node.op != "Constant")
    assert (quantized.inputs[1].values > 0).all()


def test_a_code_that_has_no_mirror_image() -> None:
    codes = CODES.copy()
    codes[0, 0, 0, 0] = -128
    before = conv(given={"codes": codes, "s": -numbers(4)})
    assert_declines(before, FUSE, "a mirrored code is out of range")


def test_steps_along_another_axis() -> None:
    before = conv("<axis = 1>(codes, steps)", given={"steps": numbers(3)})
    assert_declines(before, FUSE, "the steps are not by channel")


def test_steps_by_block() -> None:
    before = conv(
        "<axis = 0, block_size = 2>(codes, steps)", opset=21, given={"steps": numbers(2, 3, 3, 3)}
    )
    assert_declines(before, FUSE, "the weights have steps by block")


def test_a_step_that_is_too_small() -> None:
    before = conv(given={"s": np.full(4, 1e-37, np.float32)})
    assert_declines(before, FUSE, "a step would lose its precision")


def test_before_steps_by_channel() -> None:
    assert_declines(conv(ONE.replace("<axis = 0>", ""), opset=11), FUSE, "needs opset 13")


def test_weights_that_others_read() -> None:
    text = """g (float[N, 3, 6, 6] x) => (float[] y, float[] z) {
        w = DequantizeLinear(codes, step) l = Conv(x, w) y = Mul(l, c) z = Conv(x, w) }"""
    arrays: dict[str, Array] = {
        "codes": CODES,
        "step": np.array(0.5, np.float32),
        "c": numbers(4, 1, 1),
    }
    assert_declines(holding(model(text), **arrays), FUSE, "an inner result is read elsewhere too")
