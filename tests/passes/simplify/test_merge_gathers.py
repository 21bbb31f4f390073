"""One element along an axis is taken by one Gather."""

import pytest

from kit import assert_declines, assert_rewrites, model
from onnxslim.ir import Model
from onnxslim.passes.simplify.merge_gathers import MergeGathers

MERGE = MergeGathers()


def picked(start: int, end: int, axis: int = 1, squeezed: int = 1, x: str = "float[N, 5]") -> Model:
    return model(f"""g ({x} x) => (float[] y) <int64[1] s = {{{start}}}, int64[1] e = {{{end}}},
        int64[1] u = {{{axis}}}, int64[1] v = {{{squeezed}}}> {{
        a = Slice(x, s, e, u) b = Squeeze(a, v) y = Relu(b)
    }}""")


@pytest.mark.parametrize("bounds", [(2, 3), (0, 1), (-1, 2**63 - 1), (-2, -1), (4, 9)])
def test_a_slice_of_one_squeezed(bounds: tuple[int, int]) -> None:
    assert_rewrites(picked(*bounds), MERGE, ["Gather", "Relu"])


@pytest.mark.parametrize(("axis", "squeezed"), [(-1, 1), (1, -1), (-1, -1)])
def test_axes_from_either_end(axis: int, squeezed: int) -> None:
    assert_rewrites(picked(2, 3, axis, squeezed), MERGE, ["Gather", "Relu"])


@pytest.mark.parametrize("bounds", [(-1, 2**63 - 1), (-2, -1), (1, 2)])
def test_along_an_axis_of_unknown_size(bounds: tuple[int, int]) -> None:
    assert_rewrites(picked(*bounds, x="float[2, N]"), MERGE, ["Gather", "Relu"])


def test_before_gather_counted_from_the_end() -> None:
    before = model(
        """g (float[2, N] x) => (float[] y) <int64[1] s = {-1}, int64[1] e = {999999999999},
        int64[1] one = {1}> { a = Slice(x, s, e, one) b = Squeeze<axes = [1]>(a) y = Relu(b) }""",
        10,
    )
    assert_declines(before, MERGE)


def test_a_slice_of_more() -> None:
    before = picked(0, 1, axis=1, squeezed=0, x="float[1, 5]")
    assert_declines(before, MERGE)


def test_a_slice_that_others_read() -> None:
    before = model("""g (float[N, 5] x) => (float[] y, float[] z) <int64[1] s = {1}, int64[1] e =
        {2}> {
        a = Slice(x, s, e, s) y = Squeeze(a, s) z = Relu(a)
    }""")
    assert_declines(before, MERGE, "no node would go")


@pytest.mark.parametrize("opset", [11, 13, 18])
def test_a_split_into_ones_squeezed(opset: int) -> None:
    squeeze = "Squeeze<axes = [0]>({})" if opset < 13 else "Squeeze({}, o)"
    split = "Split<axis = 0>(x)" if opset < 18 else "Split<axis = 0, num_outputs = 3>(x)"
    parts = ["the_first_part", "the_second_part", "the_third_part"]
    body = f"{', '.join(parts)} = {split}" + "".join(
        f" s{i} = {squeeze.format(part)} y{i} = Relu(s{i})" for i, part in enumerate(parts)
    )
    before = model(
        f"""g (float[3, N, 4] x) => (float[] y0, float[] y1, float[] y2) <int64[1] o = {{0}}> {{
        {body} }}""",
        opset,
    )
    assert_rewrites(before, MERGE, ["Gather"] * 3 + ["Relu"] * 3)


def test_a_split_into_more() -> None:
    before = model("""g (float[2, N] x) => (float[] y, float[] z) <int64[1] o = {0},
        int64[2] s = {1, 1}> { a, b = Split<axis = 0>(x, s) y = Squeeze(a, o) z = Relu(b) }""")
    assert_declines(before, MERGE)


def test_a_split_with_a_larger_part_that_nobody_reads() -> None:
    before = model("""g (float[4, N] x) => (float[] y, float[] z) <int64[1] o = {0},
        int64[3] s = {1, 2, 1}> {
        the_first_part, the_second_part, the_third_part = Split<axis = 0>(x, s)
        y = Squeeze(the_first_part, o) z = Squeeze(the_third_part, o) }""")
    assert_declines(before, MERGE)


def test_gather_and_unsqueeze() -> None:
    before = model("""g (float[N, 5] x) => (float[] y) <int64 i = {2}, int64[1] one = {1}> {
        a = Gather<axis = 1>(x, i) b = Unsqueeze(a, one) y = Relu(b)
    }""")
    after = assert_rewrites(before, MERGE, ["Gather", "Relu"])
    assert after.graph.nodes[0].constant(1).tolist() == [2]


def test_gather_and_unsqueeze_of_another_axis() -> None:
    before = model("""g (float[N, 5] x) => (float[] y) <int64 i = {2}, int64[1] z = {0}> {
        a = Gather<axis = 1>(x, i) b = Unsqueeze(a, z) y = Relu(b)
    }""")
    assert_declines(before, MERGE)


def test_gather_by_the_callers_index() -> None:
    before = model("""g (float[N, 5] x, int64 i) => (float[] y) <int64[1] one = {1}> {
        a = Gather<axis = 1>(x, i) b = Unsqueeze(a, one) y = Relu(b)
    }""")
    assert_declines(before, MERGE)


def test_gathers_of_a_transposed_tensor() -> None:
    before = model("""g (float[4, N, 3, 5] x) => (float[] y, float[] z) <int64 i = {0}, int64 j =
        {2}> {
        a = Transpose<perm = [2, 0, 1, 3]>(x) b = Gather<axis = 0>(a, i) c = Gather<axis = 0>(a, j)
        y = Relu(b) z = Relu(c)
    }""")
    assert_rewrites(before, MERGE, ["Gather", "Gather", "Relu", "Relu"], 2)


def test_a_gather_whose_other_axes_are_moved() -> None:
    before = model("""g (float[4, N, 3] x) => (float[] y) <int64 i = {0}> {
        a = Transpose<perm = [2, 1, 0]>(x) b = Gather<axis = 0>(a, i) y = Relu(b)
    }""")
    assert_declines(before, MERGE)


def test_a_gather_of_several_from_a_transposed_tensor() -> None:
    before = model("""g (float[4, N, 3] x) => (float[] y) <int64[2] i = {0, 1}> {
        a = Transpose<perm = [2, 0, 1]>(x) b = Gather<axis = 0>(a, i) y = Relu(b)
    }""")
    assert_declines(before, MERGE)
