"""Expand goes where the operators behind it broadcast to the same shape."""

from kit import assert_declines, assert_rewrites, model
from onnxslim.passes.simplify.drop_expands import DropExpands

DROP = DropExpands()


def test_into_a_sum() -> None:
    before = model("""g (float[1, 4] x, float[3, 4] z) => (float[3, 4] y) <int64[2] s = {3, 4}> {
        a = Expand(x, s) y = Add(a, z)
    }""")
    assert_rewrites(before, DROP, ["Add"])


def test_through_operators_that_then_compute_less() -> None:
    before = model("""g (float[1, 1, 4] x, float[N, 3, 4] z) => (float[N, 3, 4] y) <int64[3] s =
        {1, 3, 4},
        float zero = {0}, float low = {-9}> {
        a = Expand(x, s) b = Cast<to = 9>(a) c = Not(b) d = Where(c, zero, low) y = Add(z, d)
    }""")
    assert_rewrites(before, DROP, ["Cast", "Not", "Where", "Add"])


def test_to_the_shape_of_another_input() -> None:
    before = model("""g (float[1, 4] x, float[N, 4] z) => (float[N, 4] y) {
        s = Shape(z) a = Expand(x, s) y = Mul(z, a)
    }""")
    assert_rewrites(before, DROP, ["Mul"])


def test_two_readers() -> None:
    before = model("""g (float[1, 4] x, float[3, 4] z) => (float[] y, float[] w) <int64[2] s = {3,
        4}> {
        a = Expand(x, s) y = Add(a, z) w = Mul(z, a)
    }""")
    assert_rewrites(before, DROP, ["Add", "Mul"])


def test_a_reader_that_does_not_broadcast() -> None:
    before = model("""g (float[1, 4] x, float[3, 4] z) => (float[] y, float[] w) <int64[2] s = {3,
        4}> {
        a = Expand(x, s) y = Add(a, z) w = Softmax<axis = 0>(a)
    }""")
    assert_declines(before, DROP)


def test_a_result_that_would_be_smaller() -> None:
    before = model("""g (float[1, 4] x, float[4] z) => (float[3, 4] y) <int64[2] s = {3, 4}> {
        a = Expand(x, s) y = Add(a, z)
    }""")
    assert_declines(before, DROP)


def test_dimensions_that_need_not_be_equal() -> None:
    before = model("""g (float[1, 4] x, float[N, 4] z, float[M, 4] w) => (float[] y) {
        s = Shape(w) a = Expand(x, s) y = Mul(z, a)
    }""")
    assert_declines(before, DROP)


def test_an_expanded_tensor_that_is_an_output() -> None:
    before = model("""g (float[1, 4] x, float[3, 4] z) => (float[] a, float[] y) <int64[2] s = {3,
        4}> {
        a = Expand(x, s) y = Add(a, z)
    }""")
    assert_declines(before, DROP)


def test_a_tensor_between_that_is_an_output() -> None:
    before = model("""g (float[1, 4] x, float[3, 4] z) => (float[] b, float[] y) <int64[2] s = {3,
        4}> {
        a = Expand(x, s) b = Relu(a) y = Add(b, z)
    }""")
    assert_declines(before, DROP)


def test_a_reader_in_a_branch() -> None:
    before = model("""g (bool c, float[1, 4] x, float[3, 4] z) => (float[] y) <int64[2] s = {3, 4}>
        {
        a = Expand(x, s)
        y = If(c) <then_branch = t () => (r) { r = Add(a, z) },
                   else_branch = e () => (r2) { r2 = Neg(z) }>
    }""")
    assert_declines(before, DROP)
