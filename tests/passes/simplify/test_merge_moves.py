"""The same movement twice."""

import pytest

from kit import assert_declines, assert_rewrites, model
from onnxslim.ir import Model
from onnxslim.passes.simplify.merge_moves import MergeMoves

MERGE = MergeMoves()


def moved(body: str, constants: str, opset: int = 13, x: str = "9, N") -> Model:
    return model(f"g (float[{x}] x) => (float[] y) <{constants}> {{ {body} y = Neg(b) }}", opset)


@pytest.mark.parametrize(
    "indices",
    [
        "int64[3] i = {3, 5, 7}, int64[2] j = {2, -3}",
        "int32[3] i = {-1, 0, 1}, int64 j = {1}",
        "int64[2] i = {8, 0}, int32[1, 2] j = {1, 0}",
    ],
)
def test_gather_of_gather(indices: str) -> None:
    before = moved("a = Gather(x, i) b = Gather<axis = 0>(a, j)", indices)
    assert_rewrites(before, MERGE, ["Gather", "Neg"])


def test_gather_of_a_gather_along_another_axis() -> None:
    indices = "int64[2] i = {3, 5}, int64[2] j = {0, 0}"
    assert_declines(moved("a = Gather(x, i) b = Gather<axis = 1>(a, j)", indices), MERGE)


def test_gather_of_a_gathered_matrix() -> None:
    indices = "int64[2, 1] i = {3, 5}, int64[2] j = {1, 0}"
    assert_declines(moved("a = Gather(x, i) b = Gather(a, j)", indices), MERGE)


@pytest.mark.parametrize("x", ["9, N", "M, N"])
@pytest.mark.parametrize("steps", ["", ", o, s"])
def test_gather_of_a_slice(x: str, steps: str) -> None:
    constants = ("int64[1] f = {2}, int64[1] t = {8}, int64[1] o = {0}, int64[1] s = {2},"
                 " int64[2] j = {0, 2}")  # fmt: skip
    before = moved(f"a = Slice(x, f, t{steps}) b = Gather(a, j)", constants, x=x)
    assert_rewrites(before, MERGE, ["Gather", "Neg"])


def test_gather_from_the_end_of_a_slice() -> None:
    constants = "int64[1] f = {2}, int64[1] t = {8}, int64 j = {-1}"
    after = assert_rewrites(moved("a = Slice(x, f, t) b = Gather(a, j)", constants), MERGE,
                            ["Gather", "Neg"])  # fmt: skip
    assert after.graph.nodes[0].constant(1) == 7


def test_gather_from_the_end_of_a_slice_of_unknown_size() -> None:
    constants = "int64[1] f = {2}, int64[1] t = {8}, int64 j = {-1}"
    before = moved("a = Slice(x, f, t) b = Gather(a, j)", constants, x="M, N")
    assert_declines(before, MERGE)


def test_tile_of_tile() -> None:
    times = "int64[2] i = {1, 2}, int64[2] j = {3, 2}"
    after = assert_rewrites(moved("a = Tile(x, i) b = Tile(a, j)", times), MERGE, ["Tile", "Neg"])
    assert list(after.graph.nodes[0].constant(1)) == [3, 4]


def test_expand_of_expand() -> None:
    shapes = "int64[2] i = {3, 1}, int64[3] j = {2, 1, 4}"
    before = moved("a = Expand(x, i) b = Expand(a, j)", shapes, x="1, 1")
    assert_rewrites(before, MERGE, ["Expand", "Neg"])


def test_expand_of_expand_to_an_unknown_shape() -> None:
    shapes = "int64[2] i = {9, 1}, int64[3] j = {2, 1, 1}"
    assert_declines(moved("a = Expand(x, i) b = Expand(a, j)", shapes), MERGE)


PADS = "int64[4] i = {1, 0, 0, 2}, int64[4] j = {0, 3, 1, 0}, float v = {1}, float z = {0}"


@pytest.mark.parametrize(
    ("first", "second"), [("i", "j"), ("i, v", "j, v"), ("i", "j, z"), ("i, z", "j")]
)
def test_pad_of_pad(first: str, second: str) -> None:
    before = moved(f"a = Pad(x, {first}) b = Pad(a, {second})", PADS)
    assert_rewrites(before, MERGE, ["Pad", "Neg"])


@pytest.mark.parametrize(
    "body",
    [
        "a = Pad(x, i, v) b = Pad(a, j)",
        'a = Pad<mode = "edge">(x, i) b = Pad(a, j)',
        "k = Neg(i) a = Pad(x, i) b = Pad(a, k)",
    ],
)
def test_pads_that_differ(body: str) -> None:
    assert_declines(moved(body, PADS), MERGE)


def test_pads_that_cut() -> None:
    assert_declines(moved("a = Pad(x, i) b = Pad(a, j)", PADS.replace("0, 3", "-1, 3")), MERGE)
