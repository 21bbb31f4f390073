"""Constants say what shapes computed at run time say."""

import pytest

from kit import assert_declines, assert_rewrites, model
from onnxslim.ir import Model
from onnxslim.passes.simplify.simplify_shape_inputs import SimplifyShapeInputs

SIMPLIFY = SimplifyShapeInputs()


def shape_said(after: Model, op: str, slot: int = 1) -> list[int]:
    """Return the constant that an operator reads."""
    (node,) = (node for node in after.nodes() if node.op == op)
    value = node.constant(slot)
    assert value is not None
    return list(value.tolist())


def heads(x: str, pieces: str, opset: int = 20, attr: str = "") -> Model:
    """Reshape x to a shape put together from pieces: n and s are its first dimensions."""
    sizes = {"n": "n = Shape <start = 0, end = 1> (x)", "s": "s = Shape <start = 1, end = 2> (x)"}
    read = " ".join(text for name, text in sizes.items() if name in pieces.split(", "))
    return model(
        f"""g ({x}) => (float[a, b, c, d] y)
    <int64[1] minus = {{-1}}, int64[1] two = {{2}}, int64[1] four = {{4}}> {{
        {read} shape = Concat <axis = 0> ({pieces}) y = Reshape {attr} (x, shape) }}""",
        opset,
    )


def test_dimensions_that_stay_are_copied() -> None:
    after = assert_rewrites(heads("float[N, S, 8] x", "n, s, two, four"), SIMPLIFY, ["Reshape"])
    assert shape_said(after, "Reshape") == [0, 0, 2, 4]


def test_one_that_moves_takes_what_is_left() -> None:
    after = assert_rewrites(heads("float[N, 8, 2] x", "two, two, n, four"), SIMPLIFY, ["Reshape"])
    assert shape_said(after, "Reshape") == [2, 2, -1, 4]


def test_two_that_move_need_the_shape() -> None:
    assert_declines(heads("float[N, S, 8] x", "s, n, two, four"), SIMPLIFY)


def test_a_rest_beside_a_copy_that_may_be_empty_has_no_meaning() -> None:
    before = model("""g (float[N, 2, 3, S] x) => (float[a, b, c] y)
    <int64[1] six = {6}> {
        n = Shape <end = 1> (x) s = Shape <start = 3> (x)
        shape = Concat <axis = 0> (n, six, s) y = Reshape(x, shape) }""")
    assert_declines(before, SIMPLIFY, "-1 without a meaning")


def test_a_rest_that_was_there_stays() -> None:
    after = assert_rewrites(heads("float[N, S, 8] x", "n, minus, two, two"), SIMPLIFY, ["Reshape"])
    assert shape_said(after, "Reshape") == [0, -1, 2, 2]


def test_where_0_copied_nothing_it_does_now() -> None:
    before = heads("float[N, S, 8] x", "n, s, two, four", attr="<allowzero = 1>")
    after = assert_rewrites(before, SIMPLIFY, ["Reshape"])
    assert shape_said(after, "Reshape") == [0, 0, 2, 4]
    assert not after.graph.nodes[-1].attrs


def test_an_empty_tensor_takes_what_is_left() -> None:
    before = model("""g (float[0, N] x) => (float[a, b] y)
    <int64[1] zero = {0}, int64[1] two = {2}> {
        shape = Concat <axis = 0> (two, zero) y = Reshape <allowzero = 1> (x, shape) }""")
    after = assert_rewrites(before, SIMPLIFY, ["Reshape"])
    assert shape_said(after, "Reshape") == [2, -1]


def test_a_zero_that_is_not_copied_cannot_be_written_beside_a_rest() -> None:
    before = model("""g (float[N, 0] x) => (float[a, b] y)
    <int64[1] zero = {0}> {
        n = Shape <end = 1> (x) shape = Concat <axis = 0> (zero, n)
        y = Reshape <allowzero = 1> (x, shape) }""")
    assert_declines(before, SIMPLIFY)


def test_a_shape_that_others_read_too_stays() -> None:
    before = model("""g (float[N, 8] x) => (float[a, b] y, int64[3] s)
    <int64[1] two = {2}> {
        n = Shape <end = 1> (x) s = Concat <axis = 0> (n, two, two)
        t = Concat <axis = 0> (n, two, two) y = Reshape(x, s) }""")
    assert_declines(before, SIMPLIFY, "the file would grow")


def test_all_readers_of_a_shape_change_together() -> None:
    before = model("""g (float[N, 8] x) => (float[a, b, c] y, float[d, e, f] z)
    <int64[1] two = {2}, int64[1] four = {4}> {
        n = Shape <end = 1> (x) s = Concat <axis = 0> (n, two, four)
        y = Reshape(x, s) r = Relu(x) z = Reshape(r, s) }""")
    assert_rewrites(before, SIMPLIFY, ["Reshape", "Relu", "Reshape"], changes=2)


def test_expand_keeps_dimensions_by_1() -> None:
    before = model("""g (float[N, 1, S] x) => (float[a, b, c] y)
    <int64[1] four = {4}> {
        n = Shape <end = 1> (x) s = Shape <start = 2> (x)
        shape = Concat <axis = 0> (n, four, s) y = Expand(x, shape) }""")
    after = assert_rewrites(before, SIMPLIFY, ["Expand"])
    assert shape_said(after, "Expand") == [1, 4, 1]


def test_expand_to_an_unknown_extent_needs_the_shape() -> None:
    before = model("""g (float[N, 4] x, float[1, 4] w) => (float[a, b] y) {
        s = Shape(x) y = Expand(w, s) }""")
    assert_declines(before, SIMPLIFY)


def test_expand_of_a_dimension_that_may_be_1_needs_the_shape() -> None:
    before = model("""g (float[N, 4] x, float[M, 4] w) => (float[a, b] y) {
        s = Shape(x) y = Expand(w, s) }""")
    assert_declines(before, SIMPLIFY)


def sliced(end: str, opset: int = 20, step: str = "{1}") -> Model:
    """Slice the first axis of x from 1 to an end computed from its length n."""
    return model(
        f"""g (float[N, 4] x) => (float[a, b] y)
    <int64[1] one = {{1}}, int64[1] axis = {{0}}, int64[1] step = {step}> {{
        n = Shape <end = 1> (x) {end} y = Slice(x, one, end, axis, step) }}""",
        opset,
    )


def test_a_slice_to_the_length_goes_to_the_end() -> None:
    after = assert_rewrites(sliced("end = Identity(n)"), SIMPLIFY, ["Slice"])
    assert shape_said(after, "Slice", 2) == [2**63 - 1]


def test_a_slice_beyond_the_length_goes_to_the_end() -> None:
    after = assert_rewrites(sliced("end = Add(n, one)"), SIMPLIFY, ["Slice"])
    assert shape_said(after, "Slice", 2) == [2**63 - 1]


def test_a_slice_to_before_the_end_of_what_may_be_empty_stays() -> None:
    assert_declines(sliced("end = Sub(n, one)"), SIMPLIFY)


def test_a_slice_backwards_stays() -> None:
    assert_declines(sliced("end = Identity(n)", step="{-1}"), SIMPLIFY)


def test_the_type_of_the_shape_stays() -> None:
    before = model("""g (float[N, 4] x) => (float[a, b] y)
    <int32[1] one = {1}, int32[1] axis = {0}> {
        n = Shape <end = 1> (x) end = Cast <to = 6> (n) y = Slice(x, one, end, axis) }""")
    after = assert_rewrites(before, SIMPLIFY, ["Slice"])
    assert shape_said(after, "Slice", 2) == [2**31 - 1]


@pytest.mark.parametrize("opset", [15, 19, 21])
def test_in_every_opset(opset: int) -> None:
    assert_rewrites(heads("float[N, S, 8] x", "n, s, two, four", opset), SIMPLIFY, ["Reshape"])


def test_a_body_sees_the_shapes_around_it() -> None:
    before = model("""g (bool c, float[N, 8] x) => (float[a, b, d] z)
    <int64[2] tail = {2, 4}> {
        z = If (c) <then_branch = t () => (float[p, q, r] u) {
                n = Shape <end = 1> (x) s = Concat <axis = 0> (n, tail) u = Reshape(x, s) },
            else_branch = e () => (float[p, q, r] v) { k = Constant <value = int64[1] {2}> ()
                v = Unsqueeze(x, k) }> }""")
    assert_rewrites(before, SIMPLIFY, ["If", "Reshape", "Unsqueeze"])


def test_a_function_body_knows_no_shapes() -> None:
    before = model("""g (float[N, 8] x) => (float[a, b] s) { s = local.f(x) }
        <domain: "local", opset_import: ["" : 20]>
        f (x) => (y) { s = Shape(x) y = Reshape(x, s) }""")
    assert_declines(before, SIMPLIFY)
