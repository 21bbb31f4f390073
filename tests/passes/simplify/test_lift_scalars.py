"""Arithmetic on sizes works on vectors of one element as it does on scalars."""

import pytest

from kit import assert_declines, assert_rewrites, model
from onnxslim.ir import Model
from onnxslim.passes.simplify.lift_scalars import LiftScalars

LIFT = LiftScalars()


def sizes(body: str, outputs: str = "int64[1] y", opset: int = 20) -> Model:
    """A model that squeezes two vectors of one element, a and b, into p and q."""
    return model(
        f"""g (int64[1] a, int64[1] b) => ({outputs}) <int64 two = {{2}}, int64[1] zero = {{0}},
        int64[1] flat = {{-1}}> {{ p = Squeeze(a, zero) q = Squeeze(b, zero) {body} }}""",
        opset,
    )


@pytest.mark.parametrize("sink", ["Unsqueeze(s, zero)", "Reshape(s, flat)"])
def test_a_sum(sink: str) -> None:
    assert_rewrites(sizes(f"s = Add(p, q) y = {sink}"), LIFT, ["Add"])


def test_what_is_computed_in_several_steps() -> None:
    before = sizes("s = Add(p, two) m = Min(s, q) d = Sub(p, m) y = Reshape(d, flat)")
    assert_rewrites(before, LIFT, ["Add", "Min", "Sub"])


def test_a_vector_in_the_middle() -> None:
    before = sizes(
        "s = Add(p, q) y = Unsqueeze(s, zero) m = Mul(s, two) z = Reshape(m, flat)",
        "int64[1] y, int64[1] z",
    )
    assert_rewrites(before, LIFT, ["Add", "Mul"])


def test_a_scalar_that_others_read() -> None:
    before = sizes("s = Add(p, q) y = Unsqueeze(s, zero) z = Range(s, two, two)", "y, int64[] z")
    assert_rewrites(before, LIFT, ["Add", "Squeeze", "Range"])


def test_a_scalar_that_is_an_output() -> None:
    before = sizes("s = Add(p, q) y = Unsqueeze(s, zero)", "int64[1] y, int64 s")
    assert_rewrites(before, LIFT, ["Add", "Squeeze"])


def test_two_that_are_squeezed() -> None:
    before = sizes("s = Add(p, q) y = Range(s, two, two)", "int64[] y")
    assert_rewrites(before, LIFT, ["Add", "Squeeze", "Range"])


def test_sizes_that_are_gathered() -> None:
    before = model("""g (float[N, M] x) => (int64[1] y) <int64 one = {1}, int64[1] zero = {0}> {
        n = Shape(x) a = Gather(n, one) b = Mul(a, a) y = Unsqueeze(b, zero)
    }""")
    assert_rewrites(before, LIFT, ["Shape", "Gather", "Mul"])


@pytest.mark.parametrize(
    "body",
    [
        "s = Add(p, two) y = Add(s, a)",
        "s = ReduceSum<keepdims = 0>(a) t = Add(s, p) y = Unsqueeze(t, zero)",
    ],
)
def test_where_nothing_is_gained(body: str) -> None:
    assert_declines(sizes(body, "int64[] y"), LIFT)


def test_a_scalar_that_is_needed_twice_as_a_scalar() -> None:
    before = sizes(
        "s = Add(p, q) y = Unsqueeze(s, zero) t = Range(p, s, q) u = Range(q, s, p)",
        "int64[1] y, int64[] t, int64[] u",
    )
    assert_declines(before, LIFT, "no node would go")
