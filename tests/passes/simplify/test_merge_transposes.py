"""Transposes with nothing or only reshapes between them become one, or none."""

import pytest

from kit import assert_declines, assert_rewrites, model
from onnxslim.ir import Model
from onnxslim.passes.simplify.merge_transposes import MergeTransposes

MERGE = MergeTransposes()


def between(body: str, x: str = "float[N, 4, 6]", constants: str = "", opset: int = 20) -> Model:
    return model(
        f"g ({x} x) => (float[] y) <{constants}> {{ a = Relu(x) {body} y = Relu(b) }}", opset
    )


def test_two_that_make_one() -> None:
    before = between("c = Transpose<perm = [1, 2, 0]>(a) b = Transpose<perm = [0, 2, 1]>(c)")
    after = assert_rewrites(before, MERGE, ["Relu", "Transpose", "Relu"])
    assert after.graph.nodes[1].attrs["perm"] == [1, 0, 2]


def test_two_that_undo_each_other() -> None:
    before = between("c = Transpose<perm = [1, 2, 0]>(a) b = Transpose<perm = [2, 0, 1]>(c)")
    assert_rewrites(before, MERGE, ["Relu", "Relu"])


def test_the_default_reverses_all_dimensions() -> None:
    before = between("c = Transpose(a) b = Transpose<perm = [0, 2, 1]>(c)")
    after = assert_rewrites(before, MERGE, ["Relu", "Transpose", "Relu"])
    assert after.graph.nodes[1].attrs["perm"] == [2, 0, 1]


def test_two_defaults_of_unknown_rank() -> None:
    text = """g (float[N, M] x) => (float[N, M] y) { y = local.F(x) }
    <domain: "local", opset_import: ["" : 20]> F (p) => (q) {
        a = Transpose(p) b = Transpose(a) q = Relu(b)
    }"""
    assert_rewrites(model(text), MERGE, ["F", "Relu"])


def test_one_that_others_read() -> None:
    before = model("""g (float[N, 4, 6] x) => (float[] y, float[] z) {
        a = Transpose<perm = [1, 2, 0]>(x) y = Transpose<perm = [0, 2, 1]>(a) z = Relu(a)
    }""")
    assert_declines(before, MERGE, "no node would go")


def test_one_that_others_read_undone() -> None:
    before = model("""g (float[N, 4, 6] x) => (float[] y, float[] z) {
        a = Transpose<perm = [0, 2, 1]>(x) b = Transpose<perm = [0, 2, 1]>(a)
        y = Relu(b) z = Neg(a)
    }""")
    assert_rewrites(before, MERGE, ["Transpose", "Relu", "Neg"])


def test_an_attribute_that_the_caller_sets() -> None:
    text = """g (float[N, M] x) => (float[] y) { y = local.F<p = [1, 0]>(x) }
    <domain: "local", opset_import: ["" : 20]> F <p> (u) => (q) {
        a = Transpose<perm: ints = @p>(u) b = Transpose<perm = [1, 0]>(a) q = Relu(b)
    }"""
    assert_declines(model(text), MERGE)


@pytest.mark.parametrize("opset", [11, 13, 20])
def test_a_dimension_added_moved_and_dropped(opset: int) -> None:
    u, s = ("c = Unsqueeze(a, zero)", "b = Squeeze(d, two)")
    if opset < 13:
        u, s = ("c = Unsqueeze<axes = [0]>(a)", "b = Squeeze<axes = [2]>(d)")
    before = between(
        f"{u} d = Transpose<perm = [3, 1, 0, 2]>(c) {s}",
        constants="int64[1] zero = {0}, int64[1] two = {2}", opset=opset,
    )  # fmt: skip
    after = assert_rewrites(before, MERGE, ["Relu", "Transpose", "Relu"])
    assert after.graph.nodes[1].attrs["perm"] == [2, 0, 1]


def test_dimensions_merged_moved_and_split_again() -> None:
    before = between(
        "c = Reshape(a, s) d = Transpose<perm = [0, 2, 1]>(c) b = Reshape(d, t)",
        "float[N, 3, 5, 7]", "int64[3] s = {-1, 5, 7}, int64[4] t = {-1, 3, 7, 5}",
    )  # fmt: skip
    after = assert_rewrites(before, MERGE, ["Relu", "Transpose", "Relu"])
    assert after.graph.nodes[1].attrs["perm"] == [0, 1, 3, 2]


def test_dimensions_split_before_instead_of_behind() -> None:
    before = between(
        "c = Reshape(a, s) d = Transpose<perm = [1, 0, 2]>(c) b = Reshape(d, t)",
        "float[5, N, 8]", "int64[3] s = {5, -1, 2}, int64[4] t = {-1, 4, 5, 2}",
    )  # fmt: skip
    assert_rewrites(before, MERGE, ["Relu", "Reshape", "Transpose", "Relu"])


def test_dimensions_merged_across_the_transpose() -> None:
    before = between(
        "c = Reshape(a, s) d = Transpose<perm = [1, 0, 2]>(c) b = Reshape(d, t)",
        "float[5, N, 8]", "int64[3] s = {5, -1, 2}, int64[2] t = {-1, 10}",
    )  # fmt: skip
    assert_declines(before, MERGE)


def test_no_reshape_before() -> None:
    before = between("c = Transpose<perm = [1, 0, 2]>(a) b = Reshape(c, t)",
                     constants="int64[4] t = {4, -1, 2, 3}")  # fmt: skip
    assert_declines(before, MERGE)


def joined(perm: str, after: str = "[0, 2, 1]", shape: str = "{0, 20, 3}") -> Model:
    return model(f"""g (float[N, 3, 4, 5] x) => (float[] y) <int64[3] s = {shape}> {{
        a = Relu(x) b = Transpose<perm = {perm}>(a) c = Reshape(b, s)
        d = Transpose<perm = {after}>(c) y = Relu(d) }}""")


def test_dimensions_joined_between_opposite_transposes() -> None:
    assert_rewrites(joined("[0, 2, 3, 1]"), MERGE, ["Relu", "Reshape", "Relu"])


def test_dimensions_joined_between_transposes() -> None:
    after = assert_rewrites(joined("[0, 3, 2, 1]"), MERGE, ["Relu", "Transpose", "Reshape", "Relu"])
    assert after.graph.nodes[1].attrs["perm"] == [0, 1, 3, 2]


def test_dimensions_that_are_not_just_joined() -> None:
    assert_declines(joined("[0, 2, 3, 1]", shape="{0, 10, 6}"), MERGE)


def test_an_unknown_dimension_that_would_have_to_be_copied() -> None:
    before = model("""g (float[N, 3, M, 5] x) => (float[] y) <int64[3] s = {0, -1, 3}> {
        a = Relu(x) b = Transpose<perm = [0, 2, 3, 1]>(a) c = Reshape(b, s)
        d = Transpose<perm = [1, 0, 2]>(c) y = Relu(d) }""")
    assert_declines(before, MERGE)
