"""Biases and initial states of zeros are left out."""

import numpy as np
import pytest

from kit import assert_declines, assert_rewrites, holding, model
from onnxslim.ir import Model
from onnxslim.passes.simplify.drop_zero_inputs import DropZeroInputs

DROP = DropZeroInputs()


def conv(bias: str, constants: str, opset: int = 20) -> Model:
    return model(
        f"""g (float[1, 1, 4] x) => (float[1, 2, b] y)
    <float[2, 1, 1] w = {{1, 2}}, {constants}> {{ {bias} y = Conv(x, w, bias) }}""",
        opset,
    )


@pytest.mark.parametrize("opset", [7, 11, 21])
def test_a_bias_of_zeros_is_left_out(opset: int) -> None:
    after = assert_rewrites(conv("", "float[2] bias = {0, -0.0}", opset), DROP, ["Conv"])
    assert len(after.graph.nodes[0].inputs) == 2


@pytest.mark.parametrize("last", ["1", "nan", "1e-38"])
def test_a_bias_with_another_number_stays(last: str) -> None:
    assert_declines(conv("", f"float[2] bias = {{0, {last}}}"), DROP)


def test_zeros_that_are_made_at_run_time_are_left_out() -> None:
    before = conv("bias = Expand(zero, n)", "float zero = {0}, int64[1] n = {2}")
    assert_rewrites(before, DROP, ["Conv"])


def test_ones_that_are_made_at_run_time_stay() -> None:
    before = conv("bias = ConstantOfShape <value = float[1] {1}> (n)", "int64[1] n = {2}")
    assert_declines(before, DROP)


def test_zeros_with_something_else_behind_them_stay() -> None:
    before = conv("bias = Concat <axis = 0> (a, b)", "float[1] a = {0}, float[1] b = {3}")
    assert_declines(before, DROP)


def test_a_bias_that_the_caller_may_set_stays() -> None:
    before = model("""g (float[1, 1, 4] x, float[2] bias) => (float[1, 2, b] y)
    <float[2, 1, 1] w = {1, 2}> { y = Conv(x, w, bias) }""")
    proto = holding(before, bias=np.zeros(2, np.float32)).proto()
    assert_declines(Model.from_proto(proto), DROP)


def gemm(opset: int) -> Model:
    return model(
        """g (float[2, 2] x, float[2, 2] w) => (float[2, 2] y)
    <float[2] c = {0, 0}> { y = Gemm(x, w, c) }""",
        opset,
    )


def test_the_addend_of_a_gemm_is_left_out() -> None:
    assert len(assert_rewrites(gemm(13), DROP, ["Gemm"]).graph.nodes[0].inputs) == 2


def test_before_opset_11_a_gemm_needs_it() -> None:
    assert_declines(gemm(9), DROP)


def test_initial_states_of_a_dynamic_size_are_left_out_with_all_that_made_them() -> None:
    before = model("""g (float[S, N, 2] x) => (float[S, 1, N, 3] y)
    <int64[1] one = {1}, int64[1] three = {3}> {
        n = Shape <start = 1, end = 2> (x) s = Concat <axis = 0> (one, n, three)
        h = ConstantOfShape(s) y = LSTM <hidden_size = 3> (x, w, r, , , h, h) }""")
    weights = {"w": (1, 12, 2), "r": (1, 12, 3)}
    arrays = {
        k: np.linspace(-1, 1, int(np.prod(v)), dtype=np.float32).reshape(v)
        for k, v in weights.items()
    }
    after = assert_rewrites(holding(before, **arrays), DROP, ["LSTM"], changes=2)
    assert len(after.graph.nodes[0].inputs) == 3


def test_the_shift_of_a_layer_normalization_is_left_out() -> None:
    before = model("""g (float[N, 2] x) => (float[N, 2] y)
    <float[2] s = {1, 2}, float[2] b = {0, 0}> {
        y = LayerNormalization(x, s, b) }""")
    assert_rewrites(before, DROP, ["LayerNormalization"])


def test_half_precision() -> None:
    before = model("""g (float16[1, 1, 4] x) => (float16[1, 2, b] y)
    <float16[2, 1, 1] w = {1, 2}, float16[2] bias = {0, 0}> { y = Conv(x, w, bias) }""")
    assert_rewrites(before, DROP, ["Conv"])
