"""Chains of Reshape, Flatten, Squeeze and Unsqueeze become one of them, or nothing."""

import pytest

from kit import assert_declines, assert_rewrites, model
from onnxslim.ir import Model
from onnxslim.passes.simplify.merge_reshapes import MergeReshapes

MERGE = MergeReshapes()


def chain(body: str, x: str = "float[N, 4, 6]", y: str = "float[]", opset: int = 20) -> Model:
    """Put *body*, which computes b from a, between Relus."""
    constants = """int64[3] s = {-1, 2, 3}, int64[2] t = {-1, 12}, int64[2] zero = {0, -1},
        int64[1] one = {1}, int64[1] first = {0}, int64[3] same = {-1, 4, 6}, int64[1] last = {-1},
        int64[2] two = {0, 2}"""
    return model(
        f"g ({x} x) => (float[] y) <{constants}> {{ a = Relu(x) {body} y = Relu(b) }}", opset
    )


def test_reshape_of_a_reshape() -> None:
    assert_rewrites(
        chain("c = Reshape(a, s) b = Reshape(c, t)"), MERGE, ["Relu", "Reshape", "Relu"]
    )


@pytest.mark.parametrize("opset", [7, 11, 13, 14, 22])
def test_reshape_of_a_reshape_in_every_opset(opset: int) -> None:
    before = chain("c = Reshape(a, s) b = Reshape(c, t)", opset=opset)
    assert_rewrites(before, MERGE, ["Relu", "Reshape", "Relu"])


def test_a_chain_that_comes_back() -> None:
    before = chain("c = Reshape(a, s) d = Flatten(c) b = Reshape(d, same)")
    assert_rewrites(before, MERGE, ["Relu", "Relu"], 2)


def test_a_copied_dimension_that_the_reshape_before_made() -> None:
    before = chain("c = Reshape(a, s) b = Reshape(c, zero)", x="float[2, 4, 6]")
    assert_rewrites(before, MERGE, ["Relu", "Reshape", "Relu"])


def test_a_copied_dimension_that_is_not_known() -> None:
    before = model("""g (float[N, M, K] x, int64[2] s) => (float[] y) <int64[2] zero = {0, -1}> {
        a = Reshape(x, s) b = Reshape(a, zero) y = Relu(b)
    }""")
    assert_declines(before, MERGE)


def test_a_copied_dimension_that_was_there() -> None:
    before = chain("c = Unsqueeze(a, last) b = Reshape(c, zero)", x="float[N, M, K]")
    assert_rewrites(before, MERGE, ["Relu", "Reshape", "Relu"])


def test_copied_dimensions_of_which_one_was_not_there() -> None:
    before = model("""g (float[N, 4, 6] x) => (float[] y) <int64[3] s = {0, 3, 8},
        int64[4] t = {0, 0, 4, 2}> { a = Relu(x) b = Reshape(a, s) c = Reshape(b, t) y = Relu(c)
        }""")
    after = assert_rewrites(before, MERGE, ["Relu", "Reshape", "Relu"])
    assert after.graph.nodes[1].constant(1).tolist() == [-1, 3, 4, 2]


def test_an_empty_dimension_that_would_be_a_copy() -> None:
    before = chain("c = Unsqueeze(a, first) b = Flatten<axis = 0>(c)", x="float[0, 4]")
    assert_declines(before, MERGE)


def test_zeros_that_are_no_copies() -> None:
    text = """g (float[0, 4, 6] x) => (float[] y)
        <int64[2] s = {4, 0}, int64[3] t = {0, 2, 3}> {
        a = Relu(x) b = Reshape<allowzero = 1>(a, s) c = Reshape<allowzero = 1>(b, t) y = Relu(c)
    }"""
    assert_rewrites(model(text), MERGE, ["Relu", "Reshape", "Relu"])


def test_squeeze_undoes_unsqueeze_of_unknown_rank() -> None:
    text = """g (float[N, M] x) => (float[N, M] y) { y = local.F(x) }
    <domain: "local", opset_import: ["" : 20]> F (p) => (q) {
        axes = Constant<value_ints = [-1]>() a = Unsqueeze(p, axes) b = Squeeze(a, axes) q = Relu(b)
    }"""
    assert_rewrites(model(text), MERGE, ["F", "Relu"])


def test_unsqueeze_undoes_squeeze_before_axes_were_an_input() -> None:
    before = chain(
        "c = Squeeze<axes = [1]>(a) b = Unsqueeze<axes = [1]>(c)", "float[N, 1, M]", opset=9
    )
    assert_rewrites(before, MERGE, ["Relu", "Relu"])


def test_unsqueeze_of_other_axes_than_squeeze_dropped() -> None:
    before = chain("c = Squeeze(a, one) b = Unsqueeze(c, first)", x="float[N, 1, M]")
    assert_declines(before, MERGE)


def test_unsqueeze_of_unsqueeze() -> None:
    before = chain("c = Unsqueeze(a, first) b = Unsqueeze(c, two)", x="float[N, M, K]")
    after = assert_rewrites(before, MERGE, ["Relu", "Unsqueeze", "Relu"])
    assert after.graph.nodes[1].constant(1).tolist() == [0, 1, 2]


def test_unsqueeze_of_unsqueeze_before_axes_were_an_input() -> None:
    body = "c = Unsqueeze<axes = [0]>(a) b = Unsqueeze<axes = [3, 1]>(c)"
    after = assert_rewrites(
        chain(body, "float[N, M]", opset=11), MERGE, ["Relu", "Unsqueeze", "Relu"]
    )
    assert after.graph.nodes[1].attrs["axes"] == [0, 1, 3]


def test_a_transpose_that_moves_ones() -> None:
    before = chain("c = Transpose<perm = [1, 0, 2]>(a) b = Reshape(c, t)", x="float[N, 1, 6]")
    assert_rewrites(before, MERGE, ["Relu", "Reshape", "Relu"])


def test_a_transpose_that_moves_more() -> None:
    assert_declines(chain("c = Transpose<perm = [1, 0, 2]>(a) b = Reshape(c, t)"), MERGE)


def test_two_readers_that_both_reshape() -> None:
    before = chain("c = Reshape(a, s) d = Reshape(c, t) e = Reshape(c, t) b = Add(d, e)")
    assert_rewrites(before, MERGE, ["Relu", "Reshape", "Reshape", "Add", "Relu"], 2)


def test_another_reader_of_the_reshape_between() -> None:
    before = model("""g (float[N, 4, 6] x) => (float[] y, float[] z) <int64[3] s = {-1, 2, 3},
        int64[2] t = {-1, 12}> { a = Relu(x) c = Reshape(a, s) y = Reshape(c, t) z = Neg(c) }""")
    assert_declines(before, MERGE, "no node would go")


def test_the_reshape_between_is_an_output() -> None:
    before = model("""g (float[N, 4, 6] x) => (float[] c, float[] y) <int64[3] s = {-1, 2, 3},
        int64[2] t = {-1, 12}> { a = Relu(x) c = Reshape(a, s) y = Reshape(c, t) }""")
    assert_declines(before, MERGE, "no node would go")


def test_the_result_is_an_output_and_the_tensor_an_input() -> None:
    before = model("""g (float[N, 4, 6] x) => (float[N, 4, 6] y) <int64[2] s = {-1, 24},
        int64[3] t = {-1, 4, 6}> { a = Reshape(x, s) y = Reshape(a, t) }""")
    assert_rewrites(before, MERGE, ["Identity"])


def test_the_result_and_the_tensor_are_outputs() -> None:
    before = model("""g (float[N, 4, 6] x) => (float[] a, float[] y) <int64[2] s = {-1, 24},
        int64[3] t = {-1, 4, 6}> { a = Relu(x) b = Reshape(a, s) y = Reshape(b, t) }""")
    assert_rewrites(before, MERGE, ["Relu", "Identity"])


def test_the_result_is_an_output_of_a_branch() -> None:
    before = model("""g (bool c, float[N, 4, 6] x) => (float[] y)
        <int64[2] s = {-1, 24}, int64[3] t = {-1, 4, 6}> {
        a = Relu(x)
        y = If(c) <then_branch = t () => (r) { b = Reshape(a, s) r = Reshape(b, t) },
                   else_branch = e () => (r2) { r2 = Neg(a) }>
    }""")
    assert_rewrites(before, MERGE, ["Relu", "If", "Identity", "Neg"])


def test_a_shape_that_the_caller_gives() -> None:
    before = model("""g (float[N, 4, 6] x, int64[2] t) => (float[] y) <int64[3] s = {-1, 2, 3}> {
        a = Relu(x) b = Reshape(a, s) y = Reshape(b, t)
    }""")
    assert_declines(before, MERGE)


def test_in_a_branch() -> None:
    before = model("""g (bool c, float[N, 4, 6] x) => (float[] y)
        <int64[3] s = {-1, 2, 3}, int64[2] t = {-1, 12}> {
        y = If(c) <then_branch = t () => (r) { a = Reshape(x, s) b = Reshape(a, t) r = Relu(b) },
                   else_branch = e () => (r2) { d = Reshape(x, t) r2 = Neg(d) }>
    }""")
    assert_rewrites(before, MERGE, ["If", "Reshape", "Relu", "Reshape", "Neg"])


def test_of_another_domain() -> None:
    before = model("""g (float[N, 4, 6] x) => (float[] y) <int64[3] s = {-1, 2, 3}> {
        a = local.Reshape(x, s) y = Reshape(a, s) }
    <domain: "local", opset_import: ["" : 20]> Reshape (p, s) => (q) { q = Neg(p) }""")
    assert_declines(before, MERGE)
