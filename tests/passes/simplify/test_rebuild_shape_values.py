"""Dimensions are read from the tensors that have them."""

import pytest

from kit import assert_declines, assert_rewrites, model
from onnxslim import shapes
from onnxslim.ir import Model
from onnxslim.passes.simplify._carriers import Carriers
from onnxslim.passes.simplify.rebuild_shape_values import RebuildShapeValues

REBUILD = RebuildShapeValues()


def sized(arithmetic: str, inputs: str = "float[N, M, 4] x", opset: int = 20) -> Model:
    """Make a tensor of zeros whose shape s some arithmetic computes."""
    return model(
        f"""g ({inputs}) => (float[a, b, c] y)
    <int64 at_0 = {{0}}, int64 at_1 = {{1}}, int64[1] axis = {{0}}, int64[1] one = {{1}},
     int64[1] two = {{2}}, int64[1] minus = {{-1}}> {{
        {arithmetic} y = ConstantOfShape(s) }}""",
        opset,
    )


def test_one_dimension_is_a_part_of_the_shape() -> None:
    before = sized("all = Shape(x) n = Gather(all, at_1) s = Unsqueeze(n, axis)")
    after = assert_rewrites(before, REBUILD, ["Shape", "ConstantOfShape"])
    shape = after.graph.nodes[0]
    assert (shape.attr("start"), shape.attr("end")) == (1, 2)


def test_before_opset_15_it_is_gathered() -> None:
    before = sized("all = Shape(x) n = Gather(all, at_1) s = Unsqueeze(n, axis)", opset=13)
    assert_rewrites(before, REBUILD, ["Shape", "Gather", "ConstantOfShape"])


def test_neighbours_are_read_together() -> None:
    before = sized("""all = Shape(x) n = Gather(all, at_0) m = Gather(all, at_1)
        p = Unsqueeze(n, axis) q = Unsqueeze(m, axis) s = Concat <axis = 0> (p, q, two)""")
    assert_rewrites(before, REBUILD, ["Shape", "Concat", "ConstantOfShape"], changes=3)


def test_a_whole_shape_is_a_shape() -> None:
    before = sized("""h = Shape <end = 1> (x) m = Shape <start = 1, end = 2> (x)
        four = Shape <start = 2> (x) s = Concat <axis = 0> (h, m, four)""")
    after = assert_rewrites(before, REBUILD, ["Shape", "ConstantOfShape"])
    assert not after.graph.nodes[0].attrs


def test_arithmetic_that_finds_back_to_an_input_is_cut_short() -> None:
    before = sized(
        """joined = Concat <axis = 0> (x, w) all = Shape <end = 1> (joined)
        n = Shape <end = 1> (w) s = Sub(all, n)""",
        "float[N] x, float[K] w",
    )
    after = assert_rewrites(before, REBUILD, ["Shape", "ConstantOfShape"])
    assert after.graph.nodes[0].inputs[0].name == "x"


def test_a_guard_against_minus_1_is_cut_short() -> None:
    before = sized("""n = Shape <end = 1> (x) t = Concat <axis = 0> (n, minus)
        ones = Concat <axis = 0> (one, one) e = Equal(t, minus2) s = Where(e, ones, t)""".replace(
        "minus2", "minus"
    ))  # fmt: skip
    assert_rewrites(before, REBUILD, ["Shape", "Concat", "ConstantOfShape"])


def test_a_number_is_gathered() -> None:
    before = model("""g (float[N, M] x) => (float[a] y)
    <int64 zero = {0}, int64 one = {1}> {
        all = Shape(x) n = Gather(all, zero) m = Gather(all, one) both = Add(n, m)
        back = Sub(both, m) r = Range(zero, back, one) y = Cast <to = 1> (r) }""")
    assert_rewrites(before, REBUILD, ["Shape", "Gather", "Range", "Cast"])


@pytest.mark.parametrize("opset", [12, 16])
def test_what_takes_as_many_nodes_stays(opset: int) -> None:
    before = sized("s = Shape(x)", opset=opset)
    assert_declines(before, REBUILD)


def test_what_others_read_too_is_no_gain() -> None:
    before = model("""g (float[N, M] x) => (float[a] y, int64 n)
    <int64 at_1 = {1}, int64[1] axis = {0}> {
        all = Shape(x) n = Gather(all, at_1) s = Unsqueeze(n, axis) y = ConstantOfShape(s) }""")
    assert_declines(before, REBUILD)


def test_arithmetic_makes_way_for_what_was_computed_last_with_that_size() -> None:
    before = model("""g (float[N] x) => (float[a] y, float[b] z) <int64[1] two = {2}> {
        l = Concat <axis = 0> (x, x) k = Abs(l) n = Shape(x) s = Mul(n, two)
        y = ConstantOfShape(s) z = Neg(k) }""")
    after = assert_rewrites(before, REBUILD, ["Concat", "Abs", "Shape", "ConstantOfShape", "Neg"])
    assert after.graph.nodes[2].inputs[0].name == "k"


def test_what_was_dropped_carries_nothing() -> None:
    graph_of = model("""g (float[N] x) => (float[a] y, float[b] z) <int64[1] two = {2}> {
        l = Concat <axis = 0> (x, x) k = Abs(l) n = Shape(x) s = Mul(n, two)
        y = ConstantOfShape(s) z = Neg(k) }""")
    facts, nodes = shapes.infer(graph_of), graph_of.graph.nodes
    carriers, (size,) = Carriers(graph_of.graph, facts), facts.dims(nodes[0].outputs[0]) or ()
    assert carriers.last(size, nodes[3]) is nodes[1].outputs[0]
    nodes[1].erased = True
    assert carriers.last(size, nodes[3]) is nodes[0].outputs[0]


def test_what_is_computed_later_is_not_waited_for() -> None:
    before = model("""g (float[N] x) => (float[a] y, float[b] z) <int64[1] two = {2}> {
        n = Shape(x) s = Mul(n, two) y = ConstantOfShape(s) z = Concat <axis = 0> (x, x) }""")
    assert_declines(before, REBUILD)


def test_a_size_that_no_tensor_has_stays() -> None:
    before = sized("n = Shape <end = 1> (x) m = Shape <start = 1, end = 2> (x) s = Add(n, m)")
    assert_declines(before, REBUILD)


def test_int32_stays() -> None:
    before = model("""g (float[N, M] x) => (int32[1] y) <int64 at_1 = {1}, int64[1] axis = {0}> {
        all = Shape(x) n = Gather(all, at_1) s = Unsqueeze(n, axis) c = Cast <to = 6> (s)
        y = Neg(c) }""")
    assert_rewrites(before, REBUILD, ["Shape", "Cast", "Neg"])


def test_inside_a_body_its_own_inputs_are_looked_through() -> None:
    before = model("""g (bool c, float[N, M] x) => (float[a] y)
    <int64 i = {1}, int64[1] axis = {0}> {
        y = If (c) <then_branch = t () => (float[P] p) {
                all = Shape(x) n = Gather(all, i) s = Unsqueeze(n, axis) p = ConstantOfShape(s) },
            else_branch = e () => (float[Q] q) { m = Constant <value = int64[1] {3}> ()
                q = ConstantOfShape(m) }> }""")
    assert_rewrites(before, REBUILD, ["If", "Shape", "ConstantOfShape", "ConstantOfShape"])


def test_a_function_body_knows_no_shapes() -> None:
    before = model("""g (float[N, M] x) => (float[a] y) { y = local.f(x) }
        <domain: "local", opset_import: ["" : 20]> f (x) => (y) {
        i = Constant <value_int = 1> () axis = Constant <value_ints = [0]> ()
        all = Shape(x) n = Gather(all, i) s = Unsqueeze(n, axis) y = ConstantOfShape(s) }""")
    assert_declines(before, REBUILD)
