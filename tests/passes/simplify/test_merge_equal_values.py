"""Equal sizes are computed once."""

from kit import assert_declines, assert_rewrites, model
from onnxslim.passes.simplify.merge_equal_values import MergeEqualValues

MERGE = MergeEqualValues()


def test_the_same_dimension_of_two_tensors_is_read_once() -> None:
    before = model("""g (float[N, 4] x) => (float[N, 4] y, float[a] z) {
        y = Relu(x) s = Shape <end = 1> (x) t = Shape <end = 1> (y)
        p = ConstantOfShape(s) q = ConstantOfShape(t) z = Add(p, q) }""")
    ops = ["Relu", "Shape", "ConstantOfShape", "ConstantOfShape", "Add"]
    assert_rewrites(before, MERGE, ops)


def test_sums_are_equal_in_any_order() -> None:
    before = model("""g (float[N, M] x) => (float[a] z) {
        n = Shape <end = 1> (x) m = Shape <start = 1> (x)
        s = Add(n, m) t = Add(m, n) p = ConstantOfShape(s) q = ConstantOfShape(t)
        z = Add(p, q) }""")
    ops = ["Shape", "Shape", "Add", "ConstantOfShape", "ConstantOfShape", "Add"]
    assert_rewrites(before, MERGE, ops)


def test_dimensions_of_one_name_in_two_inputs_are_not_believed_to_be_equal() -> None:
    before = model("""g (float[N] x, float[N] y) => (float[a] p, float[b] q) {
        s = Shape(x) t = Shape(y) p = ConstantOfShape(s) q = ConstantOfShape(t) }""")
    assert_declines(before, MERGE)


def test_a_number_and_a_vector_of_it_differ() -> None:
    before = model("""g (float[N, 4] x) => (float[a] p, int64 r)
    <int64 i = {0}> {
        s = Shape(x) d = Gather(s, i) t = Shape <end = 1> (x)
        p = ConstantOfShape(t) r = Neg(d) }""")
    assert_declines(before, MERGE)


def test_types_differ() -> None:
    before = model("""g (float[N, 4] x) => (float[a] p, int32[1] r) {
        t = Shape <end = 1> (x) c = Cast <to = 6> (t) p = ConstantOfShape(t) r = Neg(c) }""")
    assert_declines(before, MERGE)


def test_known_numbers_are_left_to_folding() -> None:
    before = model("""g (float[4] x, float[4] y) => (float[a] p, float[b] q) {
        s = Shape(x) t = Shape(y) p = ConstantOfShape(s) q = ConstantOfShape(t) }""")
    assert_declines(before, MERGE)


def test_what_only_a_merged_value_needed_is_not_used_again() -> None:
    before = model("""g (float[N] x) => (float[a] p, float[b] q, float[c] r) {
        n = Shape(x) p = ConstantOfShape(n) two = Add(n, n) one = Sub(two, n)
        q = ConstantOfShape(one) again = Add(n, n) r = ConstantOfShape(again) }""")
    ops = ["Shape", "ConstantOfShape", "ConstantOfShape", "Add", "ConstantOfShape"]
    assert_rewrites(before, MERGE, ops)


def test_a_body_reads_what_surrounds_it() -> None:
    before = model("""g (bool c, float[N] x) => (float[a] y, float[b] z) {
        s = Shape(x) y = ConstantOfShape(s)
        z = If (c) <then_branch = t () => (float[p] p) { s1 = Shape(y) p = ConstantOfShape(s1) },
                    else_branch = e () => (float[q] q) { q = Relu(x) }> }""")
    ops = ["Shape", "ConstantOfShape", "If", "ConstantOfShape", "Relu"]
    assert_rewrites(before, MERGE, ops)


def test_branches_do_not_read_each_other() -> None:
    before = model("""g (bool c, float[N] x) => (float[b] z) {
        z = If (c) <then_branch = t () => (float[p] p) { s = Shape(x) p = ConstantOfShape(s) },
                    else_branch = e () => (float[q] q) {
                        r = Shape(x) q = ConstantOfShape(r) }> }""")
    assert_declines(before, MERGE)


def test_two_equal_graph_outputs_keep_their_nodes() -> None:
    before = model(
        "g (float[N] x) => (int64[1] s, int64[1] t) { s = Shape(x) y = Relu(x) t = Shape(y) }"
    )
    assert_declines(before, MERGE, "a graph output")
