"""Integers that follow from shapes become constants."""

from kit import assert_declines, assert_rewrites, model
from onnxslim.passes.simplify.fold_known_values import FoldKnownValues

FOLD = FoldKnownValues()


def test_a_known_shape_is_a_constant() -> None:
    before = model(
        "g (float[2, 3] x, float[6] y) => (float[a, b] z) { s = Shape(x) z = Reshape(y, s) }"
    )
    assert_rewrites(before, FOLD, ["Reshape"])


def test_a_known_dimension_of_a_dynamic_shape_is_a_constant() -> None:
    before = model("""g (float[N, 3] x, float[k] y) => (float[a] z)
    <int64 i = {1}, int64[1] axis = {0}> {
        s = Shape(x) d = Gather(s, i) n = Unsqueeze(d, axis) z = Tile(y, n) }""")
    assert_rewrites(before, FOLD, ["Tile"])


def test_arithmetic_on_known_dimensions_is_done() -> None:
    before = model("""g (float[N, 6, 4] x, float[k] y) => (float[a] z) {
        h = Shape <start = 1, end = 2> (x) w = Shape <start = 2, end = 3> (x)
        p = Mul(h, w) z = Tile(y, p) }""")
    assert_rewrites(before, FOLD, ["Tile"])


def test_unknowns_that_cancel_leave_a_constant() -> None:
    before = model("""g (float[N, 4] x, float[k] y) => (float[a] z) {
        s = Shape <start = 0, end = 1> (x) t = Add(s, s) q = Div(t, s) z = Tile(y, q) }""")
    assert_rewrites(before, FOLD, ["Tile"])


def test_a_comparison_that_is_decided_is_folded() -> None:
    before = model("""g (float[N, 4] x, float[4] a, float[4] b) => (float[4] z)
    <int64[1] minus = {-1}> {
        n = Shape <start = 0, end = 1> (x) c = Equal(n, minus) z = Where(c, a, b) }""")
    assert_rewrites(before, FOLD, ["Where"])


def test_an_unknown_dimension_stays() -> None:
    assert_declines(model("g (float[N] x) => (int64[1] s) { s = Shape(x) }"), FOLD)


def test_a_graph_output_becomes_a_constant_node() -> None:
    before = model("""g (float[2, 3] the_first_input, float[N] y) => (int64[2] s, float[N] z) {
        the_shape_of_it = Shape(the_first_input) once_more = Identity(the_shape_of_it)
        s = Mul(once_more, the_shape_of_it) z = Relu(y) }""")
    after = assert_rewrites(before, FOLD, ["Relu"])
    assert [node.op for node in after.graph.nodes] == ["Constant", "Relu"]


def test_a_graph_output_stays_where_a_constant_node_takes_more_bytes() -> None:
    before = model("g (float[2, 3] x) => (int64[2] s) { s = Shape(x) }")
    assert_declines(before, FOLD, "the file would grow")


def test_the_type_stays() -> None:
    before = model("""g (float[2, 3] x, int32[k] y) => (int32[k] z)
    <int64 i = {0}> { s = Shape(x) d = Gather(s, i) c = Cast <to = 6> (d) z = Add(y, c) }""")
    assert_rewrites(before, FOLD, ["Add"])


def test_a_body_sees_the_shapes_around_it() -> None:
    before = model("""g (bool c, float[2, 3] x, int64[2] y) => (int64[2] z) {
        z = If (c) <then_branch = t () => (int64[2] a) { s = Shape(x) r = Neg(s) a = Add(r, y) },
                    else_branch = e () => (int64[2] b) { b = Neg(y) }> }""")
    after = assert_rewrites(before, FOLD, ["If", "Add", "Neg"])
    assert [c.values.tolist() for c in after.constants()] == [[-2, -3]]


def test_both_outputs_of_a_split_are_needed() -> None:
    before = model("""g (float[N, 3] x, float[k] y) => (float[p] z) {
        s = Shape(x) n, c = Split <num_outputs = 2> (s) r = Mul(n, c) z = Tile(y, r) }""")
    assert_declines(before, FOLD)


def test_a_function_body_knows_no_shapes() -> None:
    before = model("""g (float[2, 3] x) => (int64[2] s) { s = local.f(x) }
        <domain: "local", opset_import: ["" : 20]> f (x) => (s) { s = Shape(x) }""")
    assert_declines(before, FOLD)


def test_repeated_values_stay_where_a_constant_takes_more_bytes() -> None:
    before = model("""g (float[60] x, int64[60] y) => (int64[60] z)
    <int64[1] n = {60}, int64[1] k = {70000}> { t = Expand(k, n) z = Add(y, t) }""")
    assert_declines(before, FOLD, "the file would grow")


def test_before_ir_version_4_a_value_is_a_constant_node() -> None:
    before = model(
        """g (float[2, 3] x, float[6] y) => (float[a, b] z) {
        the_shape_of_it = Shape(x) t = Identity(the_shape_of_it) z = Reshape(y, t) }""",
        11,
        ir=3,
    )
    after = assert_rewrites(before, FOLD, ["Reshape"])
    assert [node.op_type for node in after.proto().graph.node] == ["Constant", "Reshape"]
