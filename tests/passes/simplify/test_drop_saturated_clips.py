"""Bounds that a quantizer has anyway."""

import numpy as np
import numpy.typing as npt
import pytest

from kit import assert_declines, assert_rewrites, holding, model
from onnxslim.ir import Model
from onnxslim.passes.simplify.drop_saturated_clips import DropSaturatedClips

DROP = DropSaturatedClips()


def quantized(
    bounded: str, scale: npt.ArrayLike, zero: npt.ArrayLike | None = None, opset: int = 13
) -> Model:
    text = f"""g (float[N, 2] x) => ({zero.dtype if isinstance(zero, np.generic) else "uint8"}[] y)
        <float o = {{0}}, float six = {{6}}, float m = {{-6}}> {{
        a = {bounded} y = QuantizeLinear(a, s{"" if zero is None else ", z"}) }}"""
    arrays = {"s": np.asarray(scale, np.float32)}
    zeros = {} if zero is None else {"z": np.asarray(zero)}
    return holding(model(text, opset), **arrays, **zeros)


@pytest.mark.parametrize(
    ("bounded", "zero"),
    [
        ("Relu(x)", None),
        ("Relu(x)", np.uint8(0)),
        ("Relu(x)", np.int8(-128)),
        ("Clip(x, o)", np.uint8(0)),
        ("Clip(x, o, six)", np.uint8(0)),
        ("Clip(x, o, six)", np.int8(-128)),
        ("Clip(x, m, six)", np.uint8(128)),
    ],
)
def test_bounds_at_the_ends(bounded: str, zero: npt.ArrayLike | None) -> None:
    scale = 6 / 128 if "m," in bounded else 6 / 255
    before = quantized(bounded, scale, zero)
    assert_rewrites(before, DROP, ["QuantizeLinear"])


def test_bounds_in_attributes() -> None:
    before = quantized("Clip<min = 0.0, max = 6.0>(x)", 6 / 255, np.uint8(0), 10)
    assert_rewrites(before, DROP, ["QuantizeLinear"])


def test_a_scale_for_each_channel() -> None:
    before = model("""g (float[N, 2] x) => (uint8[] y)
        <float[2] s = {0.5, 2}, uint8[2] z = {0, 0}> {
        a = Relu(x) y = QuantizeLinear(a, s, z) }""", 13)  # fmt: skip
    assert_rewrites(before, DROP, ["QuantizeLinear"])


@pytest.mark.parametrize(
    ("bounded", "scale", "zero"),
    [
        ("Relu(x)", 0.1, np.uint8(1)),
        ("Relu(x)", 0.1, np.int8(0)),
        ("Clip(x, o, six)", 6 / 250, np.uint8(0)),
        ("Clip(x, m, six)", 12 / 200, np.uint8(128)),
        ("Clip(x, six, o)", 6 / 255, np.uint8(0)),
    ],
)
def test_bounds_that_show(bounded: str, scale: float, zero: npt.ArrayLike) -> None:
    assert_declines(quantized(bounded, scale, zero), DROP)
