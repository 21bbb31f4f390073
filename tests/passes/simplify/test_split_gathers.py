"""Parts of a dimension are split off instead of reshaped and gathered."""

import pytest

from kit import assert_declines, assert_rewrites, model
from onnxslim.ir import Model
from onnxslim.passes.simplify.split_gathers import SplitGathers

SPLIT = SplitGathers()


def parts(body: str, shape: str = "0, 0, 3, 2", opset: int = 20, more: str = "") -> Model:
    """A model that reshapes x, of size 6 along its last axis, to r."""
    return model(
        f"""g (float[N, 5, 6] x) => (float[] y {more}) <int64[4] s = {{{shape}}}, int64 i = {{0}},
        int64 j = {{1}}, int64 k = {{-1}}, int64[1] v = {{2}}> {{
        r = Reshape(x, s) {body}
    }}""",
        opset,
    )


GATHERED = """a = Gather<axis = 2>(r, i) b = Gather<axis = 2>(r, {}) c = Gather<axis = -2>(r, k)
    y = Sum(a, b, c)"""


@pytest.mark.parametrize("opset", [11, 13, 18])
def test_all_parts_of_the_last_dimension(opset: int) -> None:
    assert_rewrites(parts(GATHERED.format("j"), opset=opset), SPLIT, ["Split", "Sum"])


def test_a_dimension_in_the_middle() -> None:
    before = model("""g (float[N, 6, M] x) => (float[] y) <int64[4] s = {0, 2, 3, -1},
        int64 i = {0}, int64 j = {1}> {
        r = Reshape(x, s) a = Gather<axis = 1>(r, i) b = Gather<axis = 1>(r, j) y = Sub(a, b)
    }""")
    after = assert_rewrites(before, SPLIT, ["Split", "Sub"])
    assert after.graph.nodes[0].attrs["axis"] == 1


@pytest.mark.parametrize(
    "body",
    [
        GATHERED.format("i"),
        "a = Gather<axis = 2>(r, i) b = Gather<axis = 2>(r, j) y = Sub(a, b)",
        GATHERED.format("v"),
        GATHERED.format("j").replace("axis = 2>(r, i)", "axis = 3>(r, i)"),
    ],
)
def test_not_every_part_once(body: str) -> None:
    assert_declines(parts(body), SPLIT)


def test_the_inner_one_of_two_dimensions() -> None:
    body = "a = Gather<axis = 3>(r, i) b = Gather<axis = 3>(r, j) y = Sub(a, b)"
    assert_declines(parts(body), SPLIT)


def test_a_whole_that_others_read() -> None:
    assert_declines(parts(GATHERED.format("j"), more=", float[] r"), SPLIT)
