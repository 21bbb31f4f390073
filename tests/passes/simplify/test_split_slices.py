"""Slices that follow each other without gap become a Split."""

import pytest

from kit import assert_declines, assert_rewrites, model
from onnxslim.ir import Model
from onnxslim.passes.simplify.split_slices import SplitSlices

SPLIT = SplitSlices()
FAR = 2**31 - 1


def parts(
    *bounds: tuple[int, int], x: str = "float[N, 6]", axis: int = 1, opset: int = 20
) -> Model:
    """Slice x once for every pair of bounds."""
    numbers = sorted({axis, *(b for pair in bounds for b in pair)})
    names = {number: f"k{i}" for i, number in enumerate(numbers)}
    constants = ", ".join(f"int64[1] {name} = {{{number}}}" for number, name in names.items())
    body = " ".join(
        f"a{i} = Slice(x, {names[s]}, {names[e]}, {names[axis]}) y{i} = Relu(a{i})"
        for i, (s, e) in enumerate(bounds)
    )
    outputs = ", ".join(f"float[] y{i}" for i in range(len(bounds)))
    return model(f"g ({x} x) => ({outputs}) <{constants}> {{ {body} }}", opset)


@pytest.mark.parametrize("opset", [10, 11, 13, 18, 22])
def test_two_halves(opset: int) -> None:
    before = parts((0, 3), (3, 6), opset=opset)
    assert_rewrites(before, SPLIT, ["Split", "Relu", "Relu"])


@pytest.mark.parametrize("opset", [11, 13, 18])
def test_parts_of_different_sizes(opset: int) -> None:
    before = parts((0, 1), (1, 4), (4, FAR), opset=opset)
    assert_rewrites(before, SPLIT, ["Split", "Relu", "Relu", "Relu"])


def test_out_of_order() -> None:
    before = parts((2, 6), (0, 2))
    assert_rewrites(before, SPLIT, ["Split", "Relu", "Relu"])


def test_counted_from_the_end() -> None:
    assert_rewrites(parts((0, -2), (-2, FAR), axis=-1), SPLIT, ["Split", "Relu", "Relu"])


def test_bounds_that_are_attributes() -> None:
    before = model("""g (float[N, 6] x) => (float[] y, float[] z) {
        a = Slice<axes = [1], starts = [0], ends = [2]>(x)
        b = Slice<axes = [1], starts = [2], ends = [6]>(x) y = Relu(a) z = Neg(b)
    }""", 9)  # fmt: skip
    after = assert_rewrites(before, SPLIT, ["Split", "Relu", "Neg"])
    assert after.graph.nodes[0].attrs["split"] == [2, 4]


def test_parts_that_are_outputs_keep_their_names() -> None:
    before = model("""g (float[N, 6] x) => (float[] y, float[] z) <int64[1] o = {0},
        int64[1] t = {2}, int64[1] e = {6}, int64[1] one = {1}> {
        y = Slice(x, o, t, one) z = Slice(x, t, e, one)
    }""")
    assert_rewrites(before, SPLIT, ["Split"])


@pytest.mark.parametrize(
    "bounds", [((0, 2), (3, 6)), ((0, 3), (2, 6)), ((0, 3), (3, 5)), ((1, 3), (3, 6))]
)
def test_gaps_and_overlaps(bounds: tuple[tuple[int, int], ...]) -> None:
    assert_declines(parts(*bounds), SPLIT)


def test_an_axis_of_unknown_size() -> None:
    assert_declines(parts((0, 3), (3, FAR), x="float[6, N]"), SPLIT)


def test_two_ways_to_part_it() -> None:
    assert_declines(parts((0, 3), (3, 6), (0, 2), (2, 6)), SPLIT)


def test_a_part_that_is_read_in_a_branch() -> None:
    before = model("""g (bool c, float[N, 6] x) => (float[] y) <int64[1] o = {0}, int64[1] t = {2},
        int64[1] e = {6}, int64[1] one = {1}> {
        a = Slice(x, o, t, one) b = Slice(x, t, e, one)
        y = If(c) <then_branch = t () => (r) { r = Relu(a) },
                   else_branch = e () => (r2) { r2 = Neg(b) }>
    }""")
    assert_rewrites(before, SPLIT, ["Split", "If", "Relu", "Neg"])


def test_a_part_made_in_a_branch() -> None:
    before = model("""g (bool c, float[N, 6] x) => (float[] y, float[] z) <int64[1] o = {0},
        int64[1] t = {2}, int64[1] e = {6}, int64[1] one = {1}> {
        z = Slice(x, o, t, one)
        y = If(c) <then_branch = t () => (r) { r = Slice(x, t, e, one) },
                   else_branch = e () => (r2) { r2 = Neg(x) }>
    }""")
    assert_declines(before, SPLIT)
