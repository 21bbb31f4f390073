"""A Gather by indices that count through everything does nothing."""

import pytest

from kit import assert_declines, assert_rewrites, model
from onnxslim.ir import Model
from onnxslim.passes.simplify.drop_ordered_gathers import DropOrderedGathers

DROP = DropOrderedGathers()
SHAPE = "n = Shape<start = 0, end = 1>(x) s = Squeeze(n)"


def test_a_view_of_the_same_shape() -> None:
    """What torch.export makes of a mean over an image that is a view."""
    before = model(f"""g (float[N, 4, 1, 1] x) => (float[] y) <int64[1] flat = {{-1}}, int64 zero =
        {{0}}, int64 one = {{1}}, int64 four = {{4}}, int64[3] axes = {{1, 2, 3}},
        int64[1, 4, 1, 1] c = {{0, 1, 2, 3}}> {{
        {SHAPE} v = Reshape(x, flat) r = Range(zero, s, one) m = Mul(r, four)
        u = Unsqueeze(m, axes) i = Add(u, c) g = Gather(v, i) y = Relu(g)
    }}""")
    assert_rewrites(before, DROP, ["Relu"])


def test_a_view_of_another_shape() -> None:
    before = model(f"""g (float[N, 6] x) => (float[] y) <int64[1] flat = {{-1}}, int64 zero =
        {{0}}, int64 one = {{1}}, int64 six = {{6}}, int64[2] axes = {{1, 2}},
        int64[1, 3, 2] c = {{0, 1, 2, 3, 4, 5}}> {{
        {SHAPE} v = Reshape(x, flat) r = Range(zero, s, one) m = Mul(six, r)
        u = Unsqueeze(m, axes) i = Add(c, u) g = Gather(v, i) y = Relu(g)
    }}""")
    assert_rewrites(before, DROP, ["Reshape", "Reshape", "Relu"])


def along(index: str, x: str = "3, N", axis: int = 1) -> Model:
    return model(f"""g (float[{x}] x) => (float[] y) <int64 zero = {{0}}, int64 one = {{1}},
        int64 two = {{2}}> {{
        n = Shape<start = 1, end = 2>(x) s = Squeeze(n) {index}
        g = Gather<axis = {axis}>(x, i) y = Relu(g)
    }}""")


@pytest.mark.parametrize("axis", [1, -1])
def test_along_one_axis(axis: int) -> None:
    assert_rewrites(along("i = Range(zero, s, one)", axis=axis), DROP, ["Relu"])


@pytest.mark.parametrize(
    "index",
    [
        "i = Range(one, s, one)",
        "i = Range(zero, s, two)",
        "t = Add(s, one) i = Range(one, t, one)",
        "m = Neg(one) t = Add(s, m) i = Range(t, m, m)",
        "r = Range(zero, s, one) i = Mul(r, r)",
    ],
)
def test_indices_that_leave_out_or_turn_around(index: str) -> None:
    assert_declines(along(index), DROP)


def test_along_an_axis_that_may_be_longer() -> None:
    before = model("""g (float[M, N] x) => (float[] y) <int64 zero = {0}, int64 one = {1}> {
        n = Shape<start = 0, end = 1>(x) s = Squeeze(n) i = Range(zero, s, one)
        g = Gather<axis = 1>(x, i) y = Relu(g)
    }""")
    assert_declines(before, DROP)


def test_indices_by_columns() -> None:
    before = model("""g (float[6] x) => (float[] y) <int64[3, 2] i = {0, 3, 1, 4, 2, 5}> {
        g = Gather(x, i) y = Relu(g) }""")
    assert_declines(before, DROP)
