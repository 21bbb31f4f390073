"""Softmax, written out."""

import pytest

from kit import assert_declines, assert_rewrites, model
from onnxslim.ir import Model
from onnxslim.passes.fuse.compose_softmax import ComposeSoftmax

COMPOSE = ComposeSoftmax()


def formula(body: str, opset: int = 13, x: str = "float[N, 4, 5]") -> Model:
    kind = x.split("[")[0]
    axes = "int64[1] last = {-1}, int64[1] one = {1}, int64[2] both = {1, 2}"
    return model(f"g ({x} x) => ({kind}[] y) <{axes}> {{ {body} }}", opset)


def test_the_logarithm_of_a_softmax() -> None:
    assert_declines(formula("s = Softmax(x) y = Log(s)"), COMPOSE)


def test_exponentials_that_others_read() -> None:
    before = formula(f"m = ReduceMax<axes = [2]>(x) {TAIL.replace('y =', 'p =')} y = Add(p, e)")
    assert_declines(before, COMPOSE, "an inner result is read elsewhere too")


TAIL = "d = Sub(x, m) e = Exp(d) s = ReduceSum(e, last) y = Div(e, s)"


@pytest.mark.parametrize(
    "top",
    [
        "m = ReduceMax<axes = [2]>(x)",
        "r = ReduceMax<axes = [-1], keepdims = 0>(x) m = Unsqueeze(r, last)",
    ],
)
def test_softmax(top: str) -> None:
    after = assert_rewrites(formula(f"{top} {TAIL}"), COMPOSE, ["Softmax"])
    assert not next(after.nodes()).attrs


def test_softmax_over_another_dimension() -> None:
    body = f"m = ReduceMax<axes = [1]>(x) {TAIL.replace('last', 'one')}"
    after = assert_rewrites(formula(body), COMPOSE, ["Softmax"])
    assert next(after.nodes()).attr("axis") == 1


def test_softmax_of_axes_as_an_input() -> None:
    assert_rewrites(formula(f"m = ReduceMax(x, last) {TAIL}", 18), COMPOSE, ["Softmax"])


OLD = "m = ReduceMax<axes = [{0}]>(x) d = Sub(x, m) e = Exp(d) s = ReduceSum<axes = [{0}]>(e)"


def test_softmax_when_it_flattened_its_input() -> None:
    before = formula(f"{OLD.format(2)} y = Div(e, s)", 11)
    assert_rewrites(before, COMPOSE, ["Softmax"])


def test_softmax_when_it_could_not_be_over_one_of_several_dimensions() -> None:
    before = formula(f"{OLD.format(1)} y = Div(e, s)", 11)
    assert_declines(before, COMPOSE, "needs opset 13")


@pytest.mark.parametrize(
    "top",
    [
        "m = ReduceMean<axes = [2]>(x)",
        "m = ReduceMax<axes = [1]>(x)",
        "m = ReduceMax<axes = [1, 2]>(x)",
        "z = Abs(x) m = ReduceMax<axes = [2]>(z)",
    ],
)
def test_what_might_overflow(top: str) -> None:
    assert_declines(formula(f"{top} {TAIL}"), COMPOSE, "it might overflow")


def test_a_sum_over_two_dimensions() -> None:
    body = f"m = ReduceMax<axes = [2]>(x) {TAIL.replace('last', 'both')}"
    assert_declines(formula(body), COMPOSE, "not over one dimension")


def test_a_sum_of_something_else() -> None:
    body = (
        "m = ReduceMax<axes = [2]>(x) d = Sub(x, m) e = Exp(d) s = ReduceSum(d, last) y = Div(e, s)"
    )
    assert_declines(formula(body), COMPOSE)


# LogSoftmax ---------------------------------------------------------------------------------------

LOG = "e = Exp(d) s = ReduceSum(e, last) l = Log(s) y = Sub(d, l)"


def test_log_softmax() -> None:
    before = formula(f"m = ReduceMax<axes = [2]>(x) d = Sub(x, m) {LOG}")
    after = assert_rewrites(before, COMPOSE, ["LogSoftmax"])
    assert not next(after.nodes()).attrs


def test_log_softmax_that_might_overflow() -> None:
    before = formula(f"m = ReduceMax<axes = [1]>(x) d = Sub(x, m) {LOG}")
    assert_declines(before, COMPOSE, "it might overflow")


@pytest.mark.parametrize("kind", ["float", "float16", "double"])
@pytest.mark.parametrize("axis", [1, 2])
def test_log_softmax_by_its_normalizer(axis: int, kind: str) -> None:
    body = f"l = ReduceLogSumExp<axes = [{axis}]>(x) y = Sub(x, l)"
    assert_rewrites(formula(body, 13, f"{kind}[N, 4, 5]"), COMPOSE, ["LogSoftmax"])


@pytest.mark.parametrize("axes", ["both", ""])
def test_a_normalizer_of_several_dimensions(axes: str) -> None:
    before = formula(
        f"l = ReduceLogSumExp({', '.join(filter(None, ('x', axes)))}) y = Sub(x, l)", 18
    )
    assert_declines(before, COMPOSE, "it is not over one dimension")


def test_log_softmax_when_it_flattened_its_input() -> None:
    before = formula("l = ReduceLogSumExp<axes = [2]>(x) y = Sub(x, l)", 11)
    assert_rewrites(before, COMPOSE, ["LogSoftmax"])


def test_log_softmax_when_it_could_not_be_over_one_of_several_dimensions() -> None:
    before = formula("l = ReduceLogSumExp<axes = [1]>(x) y = Sub(x, l)", 11)
    assert_declines(before, COMPOSE, "needs opset 13")
