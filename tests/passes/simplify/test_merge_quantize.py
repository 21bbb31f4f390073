"""What is dequantized and quantized as before stays quantized."""

import numpy as np
import numpy.typing as npt
import pytest

from kit import assert_declines, assert_rewrites, holding, model
from onnxslim.ir import Model
from onnxslim.passes.simplify.merge_quantize import MergeQuantize

MERGE = MergeQuantize()


def pair(between: str = "", x: str = "int8", **arrays: npt.ArrayLike) -> Model:
    """Dequantize x to a, and quantize b, which is a but for what lies between."""
    given: dict[str, npt.ArrayLike] = {"s": np.float32(0.1), "z": np.asarray(3, x), **arrays}
    second = ("s2" if "s2" in given else "s", "z2" if "z2" in given else "z")
    text = f"""g ({x}[N, 4] x) => ({x}[] y) <int64[3] t = {{-1, 2, 2}}> {{
        p = Identity(x) a = DequantizeLinear(p, s, z) {between or "b = Identity(a)"}
        q = QuantizeLinear(b, {second[0]}, {second[1]}) y = Identity(q) }}"""
    if not between:
        text = text.replace("b = Identity(a)", "").replace("(b,", "(a,")
    return holding(model(text, 21, 10), **{k: np.asarray(v) for k, v in given.items()})


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16"])
def test_a_pair(kind: str) -> None:
    assert_rewrites(pair(x=kind), MERGE, ["Identity", "Identity"])


@pytest.mark.parametrize("scale", [1e-30, 0.003, 7, 1e30])
def test_every_number_comes_back(scale: float) -> None:
    before = pair(s=np.float32(scale), x="uint16")
    assert_rewrites(before, MERGE, ["Identity", "Identity"])


def test_a_scale_for_each_channel() -> None:
    before = pair(s=np.array([1, 2, 3, 4], np.float32), z=np.array([1, 2, 3, 4], np.int8))
    assert_rewrites(before, MERGE, ["Identity", "Identity"])


def test_moves_between() -> None:
    before = pair("c = Transpose(a) b = Reshape(c, t)")
    assert_rewrites(before, MERGE, ["Identity", "Transpose", "Reshape", "Identity"])


def test_moves_between_channels_that_have_their_own_scales() -> None:
    before = pair("b = Transpose(a)", s=np.ones(4, np.float32), z=np.zeros(4, np.int8))
    assert_declines(before, MERGE)


def test_arithmetic_between() -> None:
    assert_declines(pair("b = Relu(a)"), MERGE)


def test_another_scale() -> None:
    assert_declines(pair(s2=np.float32(0.2)), MERGE)


def test_another_zero_point() -> None:
    assert_declines(pair(z2=np.int8(4)), MERGE)


def test_equal_parameters_twice() -> None:
    before = pair(s2=np.float32(0.1), z2=np.int8(3))
    assert_rewrites(before, MERGE, ["Identity", "Identity"])


@pytest.mark.parametrize("scale", [0, 1e-42, 1e38, np.nan])
def test_scales_that_lose_numbers(scale: float) -> None:
    assert_declines(pair(s=np.float32(scale)), MERGE)


def test_a_half_precision_scale_of_long_numbers() -> None:
    before = pair(s=np.float16(0.1), x="int16")
    assert_declines(before, MERGE)


def test_a_scale_that_the_caller_gives() -> None:
    before = model("""g (int8[N] x, float s) => (int8[N] y) {
        a = DequantizeLinear(x, s) y = QuantizeLinear(a, s) }""")
    assert_declines(before, MERGE)


def test_another_type() -> None:
    before = model("""g (int8[N] x) => (uint8[N] y) <float s = {1}> {
        a = DequantizeLinear(x, s) y = QuantizeLinear(a, s) }""")
    assert_declines(before, MERGE)


def test_a_zero_point_left_out() -> None:
    before = model("""g (uint8[N] x) => (uint8[N] y) <float s = {1}, uint8 z = {0}> {
        p = Identity(x) a = DequantizeLinear(p, s, z) q = QuantizeLinear(a, s) y = Identity(q) }""")
    assert_rewrites(before, MERGE, ["Identity", "Identity"])


def test_a_dequantized_tensor_that_others_read() -> None:
    before = model("""g (uint8[N] x) => (uint8[N] y, float[N] w) <float s = {1}, uint8 z = {0}> {
        p = Identity(x) a = DequantizeLinear(p, s, z) q = QuantizeLinear(a, s, z) y = Identity(q)
        w = Relu(a) }""")
    assert_rewrites(before, MERGE, ["Identity", "DequantizeLinear", "Identity", "Relu"])


# Concat, Split and what moves bytes alone ---------------------------------------------------------


def image(between: str, x: str = "uint8", opset: int = 21) -> Model:
    text = f"""g ({x}[N, 4, 6, 6] x) => ({x}[] y)
        <float s = {{0.5}}, {x} z = {{3}}, float[4] r = {{1, 1, 2, 2}}> {{
        p = Identity(x) a = DequantizeLinear(p, s, z) {between}
        q = QuantizeLinear(b, s, z) y = Identity(q) }}"""
    return model(text, opset, 10)


MOVES = [
    "MaxPool<kernel_shape = [2, 2], pads = [1, 1, 0, 0]>(a)",
    'Resize<mode = "nearest">(a, , r)',
]


@pytest.mark.parametrize("kind", ["int8", "uint8"])
@pytest.mark.parametrize("move", MOVES)
def test_moves_of_bytes(move: str, kind: str) -> None:
    before = image(f"b = {move}", kind)
    assert_rewrites(before, MERGE, ["Identity", move.split("<")[0], "Identity"])


@pytest.mark.parametrize("move", MOVES)
def test_moves_of_numbers_of_16_bits(move: str) -> None:
    assert_declines(image(f"b = {move}", "int16"), MERGE)


def test_an_interpolation() -> None:
    assert_declines(image('b = Resize<mode = "linear">(a, , r)'), MERGE)


def joined(other: str = "s", kind: str = "int8") -> Model:
    return model(
        f"""g ({kind}[2, 4] x, {kind}[2, 4] w) => ({kind}[] y)
        <float s = {{0.5}}, float t = {{0.25}}, {kind} z = {{3}}, int64[2] o = {{24, 1}}> {{
        a = DequantizeLinear(x, s, z) c = DequantizeLinear(w, {other}, z)
        d = Concat<axis = 1>(a, c, a) b = Reshape(d, o) q = QuantizeLinear(b, s, z)
        y = Identity(q) }}""",
        21,
        10,
    )


@pytest.mark.parametrize("kind", ["int8", "uint16"])
def test_a_concat(kind: str) -> None:
    assert_rewrites(joined(kind=kind), MERGE, ["Concat", "Reshape", "Identity"])


def test_a_concat_of_different_scales() -> None:
    assert_declines(joined("t"), MERGE)


def parts(second: str = "s") -> Model:
    return model(
        f"""g (uint8[N, 4] x) => (uint8[] y, uint8[] w)
        <float s = {{0.5}}, float t = {{0.25}}, uint8 z = {{3}}, int64[2] n = {{1, 3}}> {{
        a = DequantizeLinear(x, s, z) b, c = Split<axis = 1>(a, n)
        y = QuantizeLinear(b, s, z) w = QuantizeLinear(c, {second}, z) }}""",
        21,
        10,
    )


def test_a_split() -> None:
    assert_rewrites(parts(), MERGE, ["Split"])


def test_a_split_into_different_scales() -> None:
    assert_declines(parts("t"), MERGE)
