"""A Slice of a Slice is one Slice."""

import pytest

from kit import assert_declines, assert_rewrites, model
from onnxslim.ir import Model
from onnxslim.passes.simplify.merge_slices import MergeSlices

MERGE = MergeSlices()
FAR = 2**63 - 1


def slices(
    first: tuple[int, ...], second: tuple[int, ...], axes: tuple[int, int], x: str = "float[N, 12]"
) -> Model:
    """Slice x by (start, end, step) along the first axis, then again along the second."""
    names = ("a", "b", "c"), ("d", "e", "f")
    constants = [
        f"int64[1] {name} = {{{number}}}"
        for group, numbers in zip(names, (first, second), strict=True)
        for name, number in zip(group, numbers, strict=True)
    ]
    constants += [f"int64[1] u = {{{axes[0]}}}", f"int64[1] v = {{{axes[1]}}}"]
    return model(f"""g ({x} x) => (float[] y) <{", ".join(constants)}> {{
        p = Slice(x, a, b, u, c) q = Slice(p, d, e, v, f) y = Relu(q)
    }}""")


def test_along_two_axes() -> None:
    before = slices((0, FAR, 2), (1, 5, 1), (0, 1))
    assert_rewrites(before, MERGE, ["Slice", "Relu"])


@pytest.mark.parametrize("second", [(1, 3, 1), (0, 2, 1), (1, FAR, 2), (2, 9, 1), (9, 11, 1)])
@pytest.mark.parametrize("first", [(2, 9, 1), (1, FAR, 1), (3, 11, 2), (0, 100, 3)])
@pytest.mark.parametrize("x", ["float[N, 12]", "float[N, M]"])
def test_along_one_axis(first: tuple[int, ...], second: tuple[int, ...], x: str) -> None:
    assert_rewrites(slices(first, second, (1, 1), x), MERGE, ["Slice", "Relu"])


@pytest.mark.parametrize("second", [(-3, -1, 1), (-100, 2, 1), (1, -1, 2)])
def test_counted_from_the_end_of_a_known_axis(second: tuple[int, ...]) -> None:
    assert_rewrites(slices((1, -2, 2), second, (1, -1)), MERGE, ["Slice", "Relu"])


@pytest.mark.parametrize(
    ("first", "second"), [((1, -2, 1), (0, 3, 1)), ((1, FAR, 1), (-2, FAR, 1))]
)
def test_counted_from_the_end_of_an_unknown_axis(
    first: tuple[int, ...], second: tuple[int, ...]
) -> None:
    assert_declines(slices(first, second, (0, 0)), MERGE)


def test_backwards() -> None:
    assert_declines(slices((0, FAR, 1), (-1, -100, -1), (1, 1)), MERGE)


def test_bounds_that_the_caller_gives() -> None:
    before = model("""g (float[N, 12] x, int64[1] s) => (float[] y) <int64[1] e = {9},
        int64[1] z = {0}> { a = Slice(x, z, e) b = Slice(a, s, e) y = Relu(b) }""")
    assert_declines(before, MERGE)


def test_bounds_that_are_attributes() -> None:
    before = model("""g (float[N, 12] x) => (float[] y) {
        a = Slice<axes = [1], starts = [1], ends = [9]>(x)
        b = Slice<axes = [0, 1], starts = [0, 2], ends = [1, 4]>(a) y = Relu(b)
    }""", 9)  # fmt: skip
    after = assert_rewrites(before, MERGE, ["Slice", "Relu"])
    assert after.graph.nodes[0].attrs["starts"] == [0, 3]


def test_one_that_is_sliced_twice() -> None:
    before = model("""g (float[N, 12] x) => (float[] y, float[] z) <int64[1] s = {1},
        int64[1] e = {9}, int64[1] one = {1}, int64[1] zero = {0}, int64[2] u = {0, 1},
        int64[2] v = {1, 9}, int64[2] w = {1, 1}> {
        a = Slice(x, s, e, one) b = Slice(a, zero, one, zero) c = Slice(a, one, e, zero)
        d = Slice(x, u, v) f = Slice(x, w, v) g = Add(d, b) h = Add(f, c) y = Relu(g) z = Neg(h)
    }""")
    ops = ["Slice", "Slice", "Slice", "Slice", "Add", "Add", "Relu", "Neg"]
    assert_rewrites(before, MERGE, ops)


FOCUS = """
    upper = Slice(x, n0, end, n2, n2)
    b = Slice(upper, n0, end, n3, n2) c = Slice(upper, n1, end, n3, n2)
    lower = Slice(x, n1, end, n2, n2)
    e = Slice(lower, n0, end, n3, n2) f = Slice(lower, n1, end, n3, n2)
"""


def focus(readers: str, outputs: str) -> Model:
    """Slice x into four by two times two, as detectors of the YOLO family begin."""
    numbers = ", ".join(f"int64[1] n{i} = {{{i}}}" for i in range(4))
    return model(f"""g (float[1, 3, 12, 12] x) => ({outputs})
        <{numbers}, int64[1] end = {{{FAR}}}> {{ {FOCUS} {readers} }}""")


def test_all_of_one_tensor() -> None:
    """Merging one takes more bytes than it saves, for constants of its own; all share some."""
    before = focus("y = Concat<axis = 1>(b, e, c, f)", "float[] y")
    assert_rewrites(before, MERGE, ["Slice"] * 4 + ["Concat"])


def test_not_all_of_one_tensor() -> None:
    before = focus("z = Neg(lower) y = Add(b, c)", "float[] y, float[] e, float[] f, float[] z")
    assert_declines(before, MERGE, "the file would grow")


def test_one_that_others_read() -> None:
    before = model("""g (float[N, 12] x) => (float[] y, float[] z) <int64[1] s = {1},
        int64[1] e = {9}, int64[1] zero = {0}> {
        a = Slice(x, s, e, s) b = Slice(a, zero, s, zero) y = Relu(b) z = Neg(a)
    }""")
    assert_declines(before, MERGE, "no node would go")
