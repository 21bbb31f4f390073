"""A number that multiplies a part of what a layer computes multiplies columns of its weights."""

import pytest

from kit import assert_declines, assert_rewrites, model
from onnxslim.ir import Model
from onnxslim.passes.simplify.fold_part_scales import FoldPartScales

FOLD = FoldPartScales()
WEIGHTS = """float[4, 6] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10,
    11, 12}, float[6] b = {1, 2, 3, 4, 5, 6}, float[1] n = {7}, float c = {0.25},
    int64[5] s = {0, 5, 3, 1, 2}, int64 i = {0}, int64 j = {1}, int64[2] k = {1, -1},
    int64[4] h = {0, 0, 2, 2}, int64[2] p = {2, 4}, float[5] v = {1, 2, 3, 4, 5}"""


def layer(body: str, x: str = "float[N, 5, 4]", outputs: str = "", inputs: str = "") -> Model:
    return model(f"g ({x} x {inputs}) => (float[] y {outputs}) <{WEIGHTS}> {{ {body} }}")


HEADS = """a = MatMul(x, w) d = Add(b, a) e = Reshape(d, s) f = Transpose<perm = [2, 0, 3, 1, 4]>(e)
    q = Gather(f, i) r = Gather(f, {}) {}"""


@pytest.mark.parametrize("others", ["j", "k"])
def test_one_of_several_that_are_gathered(others: str) -> None:
    before = layer(HEADS.format(others, "m = Mul(q, c) y = Add(m, r)"))
    left = ["MatMul", "Add", "Reshape", "Transpose", "Gather", "Gather", "Add"]
    assert_rewrites(before, FOLD, left)


def test_past_a_product_with_another_part() -> None:
    body = HEADS.format("j", "t = Transpose<perm = [0, 1, 3, 2]>(r) m = MatMul(q, t) y = Div(m, c)")
    left = ["MatMul", "Add", "Reshape", "Transpose", "Gather", "Gather", "Transpose", "MatMul"]
    assert_rewrites(layer(body), FOLD, left)


@pytest.mark.parametrize("axis", [2, -1])
def test_a_part_of_a_split(axis: int) -> None:
    before = layer(
        f"a = MatMul(x, w) d = Add(a, b) q, r = Split<axis = {axis}>(d, p) y = Mul(q, c)",
        outputs=", float[] r",
    )
    assert_rewrites(before, FOLD, ["MatMul", "Add", "Split"])


def test_a_part_of_a_split_that_is_reshaped() -> None:
    before = layer(
        "a = MatMul(x, w) q, r = Split<axis = 2>(a, p) t = Reshape(r, h) y = Mul(t, c)",
        outputs=", float[] q",
    )
    assert_rewrites(before, FOLD, ["MatMul", "Split", "Reshape"])


@pytest.mark.parametrize("turned", [0, 1])
def test_a_part_of_gemm(turned: int) -> None:
    before = model(f"""g (float[N, 4] x) => (float[] y, float[] r) <float[4, 4] w = {{1, 2, 3, 4, 5,
        6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}}, float[4] b = {{1, 2, 3, 4}}, float c = {{3}}> {{
        a = Gemm<transB = {turned}, alpha = 2.0>(x, w, b)
        q, r = Split<axis = 1, num_outputs = 2>(a) y = Mul(q, c) }}""")
    assert_rewrites(before, FOLD, ["Gemm", "Split"])


@pytest.mark.parametrize(
    "body",
    [
        HEADS.format("i", "m = Mul(q, c) y = Add(m, r)"),
        HEADS.format("j", "m = Mul(q, c) z = Add(m, r) y = Concat<axis = 0>(z, z)").replace(
            "r = Gather(f, j)", "r = Relu(f)"
        ),
        "a = MatMul(x, w) d = Add(a, n) q, r = Split<axis = 2>(d, p) m = Mul(q, c) y = Sum(m, q)",
        "a = MatMul(x, w) e = Relu(a) q, r = Split<axis = 2>(e, p) m = Mul(q, c) y = Relu(m)",
    ],
)
def test_where_others_would_see_it(body: str) -> None:
    assert_declines(layer(body), FOLD)


def test_a_sum_with_one_number() -> None:
    before = layer("""a = MatMul(x, w) d = Add(a, n) q, r = Split<axis = 2>(d, p) m = Mul(q, c)
        y = Relu(m)""")
    assert_declines(before, FOLD, "another shape")


def test_weights_that_are_computed() -> None:
    before = layer(
        "a = MatMul(x, z) q, r = Split<axis = 2>(a, p) m = Mul(q, c) y = Relu(m)",
        inputs=", float[4, 6] z",
    )
    assert_declines(before, FOLD)


def test_weights_that_others_read() -> None:
    before = layer(
        "a = MatMul(x, w) q, r = Split<axis = 2>(a, p) m = Mul(q, c) y = Relu(m) z = Relu(w)",
        outputs=", float[] z",
    )
    assert_declines(before, FOLD, "the file would grow")


def test_along_another_axis() -> None:
    before = model("""g (float[N, 6, 4] x) => (float[] y) <float[4, 4] w = {1, 2, 3, 4, 5, 6, 7, 8,
        9, 10, 11, 12, 13, 14, 15, 16}, int64[2] p = {2, 4}, float c = {3}> {
        a = MatMul(x, w) q, r = Split<axis = 1>(a, p) m = Mul(q, c) y = Relu(m) }""")
    assert_declines(before, FOLD)
