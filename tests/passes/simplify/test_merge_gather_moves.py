"""Moving what is gathered from constants is moving the constants."""

import numpy as np
import pytest

import kit
from kit import assert_declines, assert_rewrites
from onnxslim.ir import Model
from onnxslim.passes.simplify.merge_gather_moves import MergeGatherMoves

MERGE = MergeGatherMoves()
TABLE = np.arange(15, dtype=np.float32).reshape(5, 3)
INDEX = np.array([4, 0, -1, 2, 3, 1, 0, 4])


def lookup(body: str, index: np.ndarray = INDEX, table: np.ndarray = TABLE) -> Model:
    """A model that multiplies x by what *body* makes of i and t."""
    before = kit.model(f"""g (float x) => (float[] y) <int64[3] s = {{2, 4, 3}}, int64[2] f =
        {{8, 3}}> {{ {body} y = Mul(x, c) }}""")
    return kit.holding(before, t=table, i=index)


@pytest.mark.parametrize(
    "moves",
    [
        "c = Reshape(a, s)",
        "c = Transpose<perm = [1, 0]>(a)",
        "c = Transpose(a)",
        "b = Reshape(a, s) c = Transpose<perm = [2, 1, 0]>(b)",
        "b = Reshape(a, s) d = Transpose<perm = [1, 0, 2]>(b) c = Reshape(d, f)",
    ],
)
def test_a_table_moves(moves: str) -> None:
    assert_rewrites(lookup(f"a = Gather(t, i) {moves}"), MERGE, ["Gather", "Mul"])


def test_a_table_read_along_its_last_axis() -> None:
    before = lookup("a = Gather<axis = -1>(t, i) c = Transpose(a)", table=TABLE.T.copy())
    assert_rewrites(before, MERGE, ["Gather", "Mul"])


@pytest.mark.parametrize("moves", ["c = Identity(a)", "c = Transpose(a)"])
def test_gathernd_of_rows(moves: str) -> None:
    left = ["Identity"] * ("Identity" in moves)
    before = lookup(f"a = GatherND(t, i) {moves}", INDEX[:, None])
    assert_rewrites(before, MERGE, ["Gather", *left, "Mul"])


def test_gathernd_of_elements() -> None:
    before = lookup("a = GatherND(t, i) c = Reshape(a, s)", INDEX.reshape(4, 2) % 3)
    assert_declines(before, MERGE)


def test_dimensions_of_the_indices_that_come_apart() -> None:
    before = lookup("a = Gather(t, i) b = Reshape(a, s) c = Transpose<perm = [0, 2, 1]>(b)")
    assert_declines(before, MERGE)


def test_dimensions_that_are_mixed() -> None:
    before = lookup("a = Gather(t, i) b = Transpose(a) c = Reshape(b, f)")
    assert_declines(before, MERGE)


TWO = "a = Gather(t, i) b = Gather(u, i) d = Transpose(a) {} c = Add(d, e)"


def test_tables_read_by_the_same_indices_move_together() -> None:
    other = np.ones((5, 3), np.float32)
    for moves, left in (("e = Transpose(b)", True), ("e = Reshape(b, g)", False)):
        before = kit.holding(lookup(TWO.format(moves)), u=other, g=np.array([3, 8]))
        if left:
            assert_rewrites(before, MERGE, ["Gather", "Gather", "Add", "Mul"])
        else:
            assert_declines(before, MERGE)


def test_a_table_that_others_read_as_it_is() -> None:
    before = lookup(
        "a = Gather(t, i) b = Transpose(a) d = ReduceSum<keepdims = 0>(t) c = Add(b, d)"
    )
    assert_declines(before, MERGE, "the file would grow")


def test_a_result_that_others_read_as_it_is() -> None:
    before = lookup(
        "a = Gather(t, i) b = Transpose(a) d = ReduceSum<keepdims = 0>(a) c = Add(b, d)"
    )
    assert_declines(before, MERGE)
