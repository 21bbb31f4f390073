"""Reshapes that undo each other around element by element operators."""

import pytest

from kit import assert_declines, assert_rewrites, model
from onnxslim.ir import Model
from onnxslim.passes.simplify.cancel_reshapes import CancelReshapes

CANCEL = CancelReshapes()


def around(body: str, constants: str, x: str = "6, 2, 3", inner: str = "2, 3, 6") -> Model:
    """Reshape x, do something to a, the result is b, and reshape it back."""
    ranks = len(x.split(",")), len(inner.split(","))
    back = x.replace("N", "-1")
    return model(f"""g (float[{x}] x) => (float[{x}] y) <int64[{ranks[1]}] s = {{{inner}}},
        int64[{ranks[0]}] t = {{{back}}}, {constants}> {{
        a = Reshape(x, s) {body} y = Reshape(b, t)
    }}""")


@pytest.mark.parametrize(
    "constant", ["float c = {2}", "float[1] c = {2}", "float[3, 1] c = {1, 2, 3}"]
)
def test_around_a_sum_with_a_constant(constant: str) -> None:
    assert_rewrites(around("b = Add(a, c)", constant), CANCEL, ["Add"])


def test_a_constant_that_would_grow() -> None:
    constant = f"float[2, 1, 60] c = {{{', '.join(map(str, range(120)))}}}"
    before = around("b = Add(a, c)", constant, "60, 2, 3", "2, 3, 60")
    assert_declines(before, CANCEL, "the file would grow")


def test_around_several_operators() -> None:
    before = around("d = Mul(a, c) e = Relu(a) b = Max(e, d)", "float c = {-1}")
    assert_rewrites(before, CANCEL, ["Relu", "Mul", "Max"])


def test_a_constant_along_the_dimensions_that_stay() -> None:
    constant = "float[3] c = {1, 2, 3}"
    before = around("b = Add(a, c)", constant, "N, 2, 3", "-1, 1, 2, 3")
    assert_rewrites(before, CANCEL, ["Add"])


def test_a_constant_along_an_unknown_dimension() -> None:
    constant = "float[2, 1] c = {1, 2}"
    before = around("b = Add(a, c)", constant, "N, 3", "-1, 2, 3")
    assert_declines(before, CANCEL)


def test_an_operand_that_is_stretched() -> None:
    before = model("""g (float[6] x) => (float[12] y) <int64[2] s = {1, 6}, int64[1] t = {-1},
        float[2, 1] c = {1, 2}> { a = Reshape(x, s) b = Add(a, c) y = Reshape(b, t) }""")
    assert_declines(before, CANCEL)


def test_another_operand_that_has_no_other_shape() -> None:
    before = model("""g (float[6] x, float[2, 3] z) => (float[6] y) <int64[2] s = {2, 3},
        int64[1] t = {6}> { a = Reshape(x, s) b = Add(a, z) y = Reshape(b, t) }""")
    assert_declines(before, CANCEL)
    before = model("""g (float[6] x, float[6] z) => (float[6] y) <int64[2] s = {2, 3},
        int64[1] t = {6}> {
        a = Reshape(x, s) c = Reshape(z, s) b = Add(a, c) y = Reshape(b, t)
    }""")
    assert_rewrites(before, CANCEL, ["Add"])


def test_a_result_in_the_middle_that_others_read() -> None:
    before = model("""g (float[6] x) => (float[6] y, float[2, 3] b) <int64[2] s = {2, 3},
        int64[1] t = {6}> { a = Reshape(x, s) b = Relu(a) y = Reshape(b, t) }""")
    assert_declines(before, CANCEL)
