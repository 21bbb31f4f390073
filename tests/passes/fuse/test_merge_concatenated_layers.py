"""Convolutions or products of one input whose results stand side by side."""

from typing import Any

import numpy as np
import pytest

from kit import assert_declines, assert_rewrites, holding, model
from onnxslim.ir import Array, Model
from onnxslim.passes.fuse.merge_concatenated_layers import MergeConcatenatedLayers

MERGE = MergeConcatenatedLayers()


def numbers(*shape: int, dtype: Any = np.float32) -> Array:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(dtype)


IMAGE = {
    "v": numbers(3, 4, 3, 3), "w": numbers(5, 4, 3, 3), "u": numbers(2, 4, 3, 3),
    "b": numbers(3), "c": numbers(5),
}  # fmt: skip
MATRIX = {
    "v": numbers(4, 3), "w": numbers(4, 5), "t": numbers(3, 4), "s": numbers(5, 4), "b": numbers(3),
    "c": numbers(5), "r": numbers(1, 5),
}  # fmt: skip


def side_by_side(body: str, x: str, arrays: dict[str, Array], opset: int = 20) -> Model:
    kind = x.split("[")[0]
    text = f"g ({x} x) => ({kind}[] y) {{ {body} }}"
    given = {n: a for n, a in arrays.items() if f", {n}," in body or f", {n})" in body}
    return holding(model(text, opset), **given)


def images(body: str, opset: int = 20) -> Model:
    return side_by_side(body, "float[N, 4, 7, 7]", IMAGE, opset)


def matrices(body: str, x: str = "float[N, 2, 4]") -> Model:
    return side_by_side(body, x, MATRIX)


@pytest.mark.parametrize("opset", [7, 11, 22])
@pytest.mark.parametrize("second", ["Conv(x, w)", "Conv(x, w, c)"])
def test_two_convs(second: str, opset: int) -> None:
    before = images(f"p = Conv(x, v, b) q = {second} y = Concat<axis = 1>(p, q)", opset)
    assert_rewrites(before, MERGE, ["Conv"])


def test_channels_counted_from_the_last_axis() -> None:
    before = images("p = Conv(x, v) q = Conv(x, w) y = Concat<axis = -3>(p, q)")
    assert_rewrites(before, MERGE, ["Conv"])


@pytest.mark.parametrize("attrs", ["<strides = [2, 1]>", "<pads = [0, 1, 2, 0]>"])
def test_attributes_stay(attrs: str) -> None:
    before = images(f"p = Conv{attrs}(x, v) q = Conv{attrs}(x, w) y = Concat<axis = 1>(p, q)")
    assert_rewrites(before, MERGE, ["Conv"])


@pytest.mark.parametrize("act", ["Relu", "LeakyRelu<alpha = 0.5>", "Tanh"])
def test_the_same_activation(act: str) -> None:
    body = f"""p = Conv(x, v) q = Conv(x, w) p1 = {act}(p) q1 = {act}(q)
        y = Concat<axis = 1>(p1, q1)"""
    assert_rewrites(images(body), MERGE, ["Conv", act.split("<")[0]])


def clipped(high: float) -> Model:
    text = f"""g (float[1, 4, 7, 7] x) => (float[] y) <float l = {{0}}, float h = {{{high}}}> {{
        p = Conv(x, v) q = Conv(x, w) p1 = Clip(p, , l) q1 = Clip(q, , h)
        y = Concat<axis = 1>(p1, q1) }}"""
    return holding(model(text), v=IMAGE["v"], w=IMAGE["w"])


def test_the_same_bounds() -> None:
    assert_rewrites(clipped(0), MERGE, ["Conv", "Clip"])


def test_other_bounds() -> None:
    assert_declines(clipped(1), MERGE)


def test_other_operands_stay() -> None:
    body = """p = Conv(x, v) q = Conv(x, w) r = MaxPool<kernel_shape = [3, 3]>(x)
        y = Concat<axis = 1>(r, q, p, r)"""
    assert_rewrites(images(body), MERGE, ["MaxPool", "Conv", "Concat"])


def test_an_operand_between() -> None:
    body = """p = Conv(x, v) q = Conv(x, w) r = MaxPool<kernel_shape = [3, 3]>(x)
        y = Concat<axis = 1>(p, r, q)"""
    assert_declines(images(body), MERGE)


@pytest.mark.parametrize(
    "body",
    [
        "p = Conv(x, v) q = Conv(x, w) p1 = Relu(p) q1 = Tanh(q) y = Concat<axis = 1>(p1, q1)",
        "p = Conv(x, v) q = Conv<pads = [0, 0, 0, 0]>(x, w) y = Concat<axis = 1>(p, q)",
        """p = Conv(x, v) q = Conv(x, w) p1 = LeakyRelu<alpha = 0.5>(p)
        q1 = LeakyRelu<alpha = 0.25>(q) y = Concat<axis = 1>(p1, q1)""",
        "p = Conv(x, v) z = Relu(x) q = Conv(z, w) y = Concat<axis = 1>(p, q)",
        "p = Conv(x, v) q = Conv<group = 4>(x, g) y = Concat<axis = 1>(p, q)",
    ],
)
def test_layers_that_differ(body: str) -> None:
    before = side_by_side(body, "float[2, 4, 7, 7]", {**IMAGE, "g": numbers(4, 1, 3, 3)})
    assert_declines(before, MERGE)


def test_another_axis() -> None:
    before = images("p = Conv(x, v) q = Conv(x, v) y = Concat<axis = 2>(p, q)")
    assert_declines(before, MERGE)


def test_a_layer_that_others_read() -> None:
    body = "p = Conv(x, v) q = Conv(x, w) a = Concat<axis = 1>(p, q) y = Concat<axis = 1>(a, p)"
    assert_declines(images(body), MERGE)


def test_weights_that_others_read() -> None:
    body = """p = Conv(x, v) q = Conv(x, w) a = Concat<axis = 1>(p, q)
        z = Relu(x) r = Conv(z, w) y = Concat<axis = 1>(a, r)"""
    assert_declines(images(body), MERGE, "the file would grow")


@pytest.mark.parametrize("x", ["float[N, 2, 4]", "float[N, 4]", "float[4]"])
def test_products(x: str) -> None:
    before = matrices("p = MatMul(x, v) q = MatMul(x, w) y = Concat<axis = -1>(p, q)", x)
    assert_rewrites(before, MERGE, ["MatMul"])


def test_products_and_sums() -> None:
    body = """p = MatMul(x, v) q = MatMul(x, w) p1 = Add(p, b) q1 = Add(q, c)
        y = Concat<axis = 2>(p1, q1)"""
    assert_rewrites(matrices(body), MERGE, ["MatMul", "Add"])


def test_sums_that_add_a_dimension() -> None:
    body = """p = MatMul(x, w) q = MatMul(x, w) p1 = Add(p, r) q1 = Add(q, r)
        y = Concat<axis = -1>(p1, q1)"""
    assert_declines(matrices(body, "float[4]"), MERGE)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("Gemm(x, v, b)", "Gemm(x, w, r)"),
        ("Gemm(x, v)", "Gemm(x, w, c)"),
        ("Gemm<transB = 1, alpha = 0.5>(x, t, b)", "Gemm<transB = 1, alpha = 0.5>(x, s, c)"),
        ("Gemm<beta = 0.5>(x, v, b)", "Gemm<beta = 0.5>(x, w, c)"),
    ],
)
def test_gemms(one: str, two: str) -> None:
    before = matrices(f"p = {one} q = {two} y = Concat<axis = 1>(p, q)", "float[N, 4]")
    assert_rewrites(before, MERGE, ["Gemm"])


def test_rows_that_are_appended() -> None:
    before = matrices("p = MatMul(x, v) q = MatMul(x, v) y = Concat<axis = 1>(p, q)")
    assert_declines(before, MERGE)
