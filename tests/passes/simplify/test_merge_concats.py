"""Concats along one axis are one, and a Split that is concatenated again is nothing."""

from kit import assert_declines, assert_rewrites, model
from onnxslim.passes.simplify.merge_concats import MergeConcats

MERGE = MergeConcats()


def test_a_concat_of_a_concat() -> None:
    before = model("""g (float[N, 2] x, float[N, 3] z) => (float[] y) {
        a = Concat<axis = 1>(x, z) y = Concat<axis = 1>(z, a, x)
    }""")
    assert_rewrites(before, MERGE, ["Concat"])


def test_axes_counted_from_the_other_end() -> None:
    before = model("""g (float[N, 2] x, float[N, 3] z) => (float[] y) {
        a = Concat<axis = -1>(x, z) y = Concat<axis = 1>(z, a, x)
    }""")
    assert_rewrites(before, MERGE, ["Concat"])


def test_along_another_axis() -> None:
    before = model("""g (float[N, 2] x, float[N, 4] z) => (float[] y) {
        a = Concat<axis = 1>(x, x) y = Concat<axis = 0>(a, z)
    }""")
    assert_declines(before, MERGE)


def test_a_concat_that_others_read() -> None:
    before = model("""g (float[N, 2] x) => (float[] y, float[] z) {
        a = Concat<axis = 1>(x, x) y = Concat<axis = 1>(a, x) z = Relu(a)
    }""")
    assert_declines(before, MERGE)


def test_a_split_joined_again() -> None:
    before = model("""g (float[N, 6] x) => (float[] y) <int64[2] s = {2, 4}> {
        a = Relu(x) b, c = Split<axis = -1>(a, s) d = Concat<axis = 1>(b, c) y = Neg(d)
    }""")
    assert_rewrites(before, MERGE, ["Relu", "Neg"])


def test_a_split_joined_among_others() -> None:
    before = model("""g (float[N, 6] x) => (float[] y) <int64[2] s = {2, 4}> {
        b, c = Split<axis = 1>(x, s) y = Concat<axis = 1>(x, b, c, x)
    }""")
    assert_rewrites(before, MERGE, ["Concat"])


def test_a_split_with_other_readers() -> None:
    before = model("""g (float[N, 6] x) => (float[] y, float[] z) <int64[2] s = {2, 4}> {
        a = Relu(x) b, c = Split<axis = 1>(a, s) d = Concat<axis = 1>(b, c) y = Neg(d) z = Relu(c)
    }""")
    assert_rewrites(before, MERGE, ["Relu", "Split", "Neg", "Relu"])


def test_a_split_joined_in_another_order() -> None:
    before = model("""g (float[N, 6] x) => (float[] y) <int64[2] s = {2, 4}> {
        b, c = Split<axis = 1>(x, s) y = Concat<axis = 1>(c, b)
    }""")
    assert_declines(before, MERGE)


def test_a_split_joined_along_another_axis() -> None:
    before = model("""g (float[N, 6] x) => (float[] y) <int64[2] s = {3, 3}> {
        b, c = Split<axis = 1>(x, s) y = Concat<axis = 0>(b, c)
    }""")
    assert_declines(before, MERGE)
