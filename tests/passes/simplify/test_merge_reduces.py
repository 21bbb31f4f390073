"""Reductions keep or drop dimensions themselves, and reduce all axes at once."""

import pytest

from kit import assert_declines, assert_rewrites, model
from onnxslim.ir import Model
from onnxslim.passes.simplify.merge_reduces import MergeReduces

MERGE = MergeReduces()
CONSTANTS = """int64[1] one = {1}, int64[1] zero = {0}, int64[2] both = {0, 2}, int64[1] last =
        {-1},
    int64[3] s = {-1, 1, 4}, int64[2] t = {-1, 4}"""


def reduction(body: str, x: str = "float[N, 3, 4]", opset: int = 20) -> Model:
    return model(f"g ({x} x) => (float[] y) <{CONSTANTS}> {{ {body} y = Relu(b) }}", opset)


def test_unsqueeze_of_what_was_dropped() -> None:
    before = reduction("a = ReduceMean<keepdims = 0>(x, one) b = Unsqueeze(a, one)")
    after = assert_rewrites(before, MERGE, ["ReduceMean", "Relu"])
    assert after.graph.nodes[0].attrs["keepdims"] == 1


def test_unsqueeze_of_another_axis() -> None:
    assert_declines(reduction("a = ReduceMean<keepdims = 0>(x, one) b = Unsqueeze(a, zero)"), MERGE)


@pytest.mark.parametrize("squeeze", ["Squeeze(a, one)", "Reshape(a, t)"])
def test_dropping_what_was_kept(squeeze: str) -> None:
    before = reduction(f"a = ReduceSum(x, one) b = {squeeze}")
    after = assert_rewrites(before, MERGE, ["ReduceSum", "Relu"])
    assert after.graph.nodes[0].attrs["keepdims"] == 0


def test_reshape_that_keeps_what_was_dropped() -> None:
    before = reduction("a = ReduceMax<keepdims = 0>(x, one) b = Reshape(a, s)")
    assert_rewrites(before, MERGE, ["ReduceMax", "Relu"])


def test_reshape_to_another_shape() -> None:
    assert_declines(reduction("a = ReduceMax(x, last) b = Reshape(a, t)", "float[8, 2, 4]"), MERGE)


def test_axes_that_are_an_attribute() -> None:
    before = reduction("a = ReduceL2<axes = [-2]>(x) b = Squeeze<axes = [1]>(a)", opset=11)
    assert_rewrites(before, MERGE, ["ReduceL2", "Relu"])


def test_of_indices() -> None:
    before = model("""g (float[N, 3, 4] x) => (int64[] y) <int64[1] one = {1}> {
        a = ArgMax<axis = 1>(x) b = Squeeze(a, one) y = Neg(b) }""")
    assert_rewrites(before, MERGE, ["ArgMax", "Neg"])


def test_a_reduction_of_all_axes() -> None:
    before = model("""g (float[3, 4] x) => (float[] y) <int64[2] axes = {0, 1}> {
        a = ReduceSum(x) b = Squeeze(a, axes) y = Relu(b) }""")
    assert_rewrites(before, MERGE, ["ReduceSum", "Relu"])


def test_a_reduction_of_no_axes() -> None:
    before = model("""g (float[1, 1] x) => (float[] y) <int64[2] axes = {0, 1}> {
        a = ReduceSum<noop_with_empty_axes = 1>(x) b = Squeeze(a, axes) y = Relu(b) }""")
    assert_declines(before, MERGE)


@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("opset", [11, 13, 18])
def test_one_reduction_after_another(keep: int, opset: int) -> None:
    def reduce(x: str, axis: int, name: str) -> str:
        if opset < 13:
            return f"ReduceSum<keepdims = {keep}, axes = [{axis}]>({x})"
        return f"ReduceSum<keepdims = {keep}>({x}, {name})"

    before = reduction(f"a = {reduce('x', 0, 'zero')} b = {reduce('a', 1, 'one')}", opset=opset)
    assert_rewrites(before, MERGE, ["ReduceSum", "Relu"])


def test_reductions_that_differ() -> None:
    assert_declines(reduction("a = ReduceSum(x, zero) b = ReduceMax(a, one)"), MERGE)


def test_reductions_that_must_be_done_at_once() -> None:
    assert_declines(reduction("a = ReduceLogSum(x, zero) b = ReduceLogSum(a, one)"), MERGE)


def test_a_reduction_that_others_read() -> None:
    before = model("""g (float[N, 3] x) => (float[] y, float[] z) <int64[1] one = {1}> {
        a = ReduceSum(x, one) y = Squeeze(a, one) z = Relu(a) }""")
    assert_declines(before, MERGE, "no node would go")


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("drop", ["Flatten(pooled)", "Squeeze(pooled, axes)", "Reshape(pooled, s)"])
def test_pooling_all_there_is(drop: str, opset: int) -> None:
    text = f"""g (float[N, 3, 4, 5] x) => (float[] y) <int64[2] axes = {{2, 3}}, int64[2] s = {{-1,
        3}}> {{ pooled = GlobalAveragePool(x) b = {drop} y = Relu(b) }}"""
    before = model(text.replace("pooled", "a_name_as_long_as_those_of_exporters"), opset)
    assert_rewrites(before, MERGE, ["ReduceMean", "Relu"])


def test_pooling_whose_result_has_another_shape() -> None:
    before = model("""g (float[N, 3, 4, 5] x) => (float[] y) <int64[1] axes = {3}> {
        a = GlobalAveragePool(x) b = Squeeze(a, axes) y = Relu(b) }""")
    assert_declines(before, MERGE)
