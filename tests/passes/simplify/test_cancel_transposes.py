"""Transposes meet through what lies between them."""

import pytest

from kit import assert_declines, assert_rewrites, model
from onnxslim.ir import Model
from onnxslim.passes.simplify.cancel_transposes import CancelTransposes

CANCEL = CancelTransposes()
TO, FROM = "Transpose<perm = [0, 3, 1, 2]>", "Transpose<perm = [0, 2, 3, 1]>"


def around(
    body: str, constants: str = "float c = {1}", inputs: str = "", opset: int = 20, ir: int = 9
) -> Model:
    """Transpose x to a, and b, which the body computes, back to y."""
    return model(
        f"""g (float[N, 2, 3, 4] x {inputs}) => (float[] y) <{constants}> {{
        a = {TO}(x) {body} r = {FROM}(b) y = Identity(r) }}""",
        opset,
        ir,
    )


@pytest.mark.parametrize("operator", ["Relu(a)", "Cast<to = 1>(a)", "Clip(a, c)", "LeakyRelu(a)"])
def test_through_one_operator(operator: str) -> None:
    before = around(f"b = {operator}")
    assert_rewrites(before, CANCEL, [operator.split("(")[0].split("<")[0], "Identity"])


def test_through_a_chain() -> None:
    assert_rewrites(around("d = Relu(a) b = Mul(d, c)"), CANCEL, ["Relu", "Mul", "Identity"])


def test_with_a_constant_for_each_channel() -> None:
    before = around("b = Add(a, d)", "float[4, 1, 1] d = {1, 2, 3, 4}")
    assert_rewrites(before, CANCEL, ["Add", "Identity"])


def test_with_a_constant_for_each_column() -> None:
    before = around("b = Add(a, d)", "float[3] d = {1, 2, 3}")
    assert_rewrites(before, CANCEL, ["Add", "Identity"])


def test_with_another_transposed_tensor() -> None:
    before = around(f"d = {TO}(z) b = Add(a, d)", inputs=", float[N, 2, 3, 4] z")
    assert_rewrites(before, CANCEL, ["Add", "Identity"])


def test_with_another_tensor() -> None:
    before = around("b = Add(a, z)", inputs=", float[N, 4, 2, 3] z")
    assert_rewrites(before, CANCEL, ["Transpose", "Add", "Identity"])


def test_with_two_other_tensors() -> None:
    before = around("d = Add(a, z) b = Add(d, z)", inputs=", float[N, 4, 2, 3] z")
    assert_declines(before, CANCEL)


def test_with_a_tensor_of_fewer_dimensions() -> None:
    assert_declines(around("b = Add(a, z)", inputs=", float[2, 3] z"), CANCEL)


@pytest.mark.parametrize(("operator", "axis"), [("Softmax", 3), ("LogSoftmax", 2), ("Softmax", 1)])
def test_through_a_softmax(operator: str, axis: int) -> None:
    source = [0, 3, 1, 2]
    after = assert_rewrites(
        around(f"b = {operator}<axis = {axis}>(a)"), CANCEL, [operator, "Identity"]
    )
    assert after.graph.nodes[0].attrs["axis"] == source[axis]


def test_through_a_softmax_that_flattens() -> None:
    assert_declines(around("b = Softmax<axis = 3>(a)", opset=11), CANCEL)


def test_through_a_concat() -> None:
    before = around(f"d = {TO}(z) b = Concat<axis = 1>(a, d, a)", inputs=", float[N, 2, 3, 5] z")
    after = assert_rewrites(before, CANCEL, ["Concat", "Identity"])
    assert after.graph.nodes[0].attrs["axis"] == 3


def test_through_an_operator_that_others_read() -> None:
    before = model(f"""g (float[N, 2, 3, 4] x) => (float[] y, float[] z) {{
        a = {TO}(x) b = Relu(a) y = {FROM}(b) z = Neg(b) }}""")
    assert_declines(before, CANCEL)


def test_a_transpose_that_does_not_undo_the_other() -> None:
    before = model(f"""g (float[N, 2, 3, 4] x) => (float[] y) {{
        a = {TO}(x) b = Relu(a) y = {TO}(b) }}""")
    assert_declines(before, CANCEL)


def test_through_layers() -> None:
    before = around("b = Conv(a, w)", "float[1, 4, 1, 1] w = {1, 2, 3, 4}")
    assert_declines(before, CANCEL)


@pytest.mark.parametrize("opset", [11, 13, 18])
def test_a_sum_over_moved_axes(opset: int) -> None:
    axes = "<keepdims = 0, axes = [2, 3]>(a)" if opset < 18 else "<keepdims = 0>(a, axes)"
    before = model(
        f"""g (float[N, 2, 3, 4] x) => (float[] y) <int64[2] axes = {{2, 3}}> {{
        a = {TO}(x) b = ReduceMean{axes} y = Neg(b) }}""",
        opset,
    )
    assert_rewrites(before, CANCEL, ["ReduceMean", "Neg"])


def test_a_sum_that_leaves_moved_axes() -> None:
    before = model(f"""g (float[N, 2, 3, 4] x) => (float[] y) <int64[1] axes = {{2}}> {{
        a = {TO}(x) b = ReduceMean<keepdims = 0>(a, axes) y = Neg(b) }}""")
    assert_declines(before, CANCEL)


@pytest.mark.parametrize("flags", ["", "<transA = 1>", "<transB = 1, alpha = 2.0>"])
def test_into_gemm(flags: str) -> None:
    before = model(f"""g (float[4, 4] x, float[4, 4] z) => (float[] y) {{
        a = Transpose<perm = [1, 0]>(x) b = Transpose(z) y = Gemm{flags}(a, b) }}""")
    assert_rewrites(before, CANCEL, ["Gemm"])
