"""Ifs that can only go one way."""

import onnx
import pytest

from kit import assert_declines, assert_rewrites, model
from onnxslim import shapes
from onnxslim.base import Context
from onnxslim.ir import Model
from onnxslim.passes.simplify.inline_if import InlineIf

INLINE = InlineIf()


def choice(
    condition: str, then: str, other: str, before: str = "", c: str = "", opset: int = 20
) -> Model:
    return model(
        f"""g ({c}float[N] x) => (float[a] y)
    <bool yes = {{1}}, bool no = {{0}}, bool[1] vector = {{1}}> {{ {before}
        z = If ({condition}) <then_branch = t () => (float[M] p) {{ {then} }},
                             else_branch = e () => (float[M] q) {{ {other} }}>
        y = Exp(z) }}""",
        opset,
    )


@pytest.mark.parametrize("opset", [7, 11, 13, 16, 19, 21])
@pytest.mark.parametrize(
    ("condition", "taken"), [("yes", "Relu"), ("no", "Neg"), ("vector", "Relu")]
)
def test_a_constant_condition_chooses(condition: str, taken: str, opset: int) -> None:
    before = choice(condition, "p = Relu(x)", "q = Neg(x)", opset=opset)
    assert_rewrites(before, INLINE, [taken, "Exp"])


def test_a_condition_that_the_run_decides_stays() -> None:
    assert_declines(choice("c", "p = Relu(x)", "q = Neg(x)", c="bool c, "), INLINE)


def test_shapes_choose() -> None:
    before = choice(
        "c",
        "p = Relu(x)",
        "q = Neg(x)",
        """s = Shape(x) r = Size(s)
        one = Constant <value = int64 {1}> () c = Equal(r, one)""",
    )
    assert_rewrites(before, INLINE, ["Relu", "Exp"])


def test_branches_that_do_the_same_need_no_condition() -> None:
    before = choice("c", "h = Relu(x) p = Add(h, x)", "k = Relu(x) q = Add(k, x)", c="bool c, ")
    assert_rewrites(before, INLINE, ["Relu", "Add", "Exp"])


def test_branches_with_the_same_operators_over_other_tensors_differ() -> None:
    before = choice("c", "h = Relu(x) p = Sub(h, x)", "k = Relu(x) q = Sub(x, k)", c="bool c, ")
    assert_declines(before, INLINE)


def test_branches_with_other_attributes_differ() -> None:
    before = choice("c", "p = Elu <alpha = 0.5> (x)", "q = Elu <alpha = 0.25> (x)", c="bool c, ")
    assert_declines(before, INLINE)


def test_branches_with_equal_constants_are_the_same() -> None:
    before = choice(
        "c",
        "k = Constant <value = float {2}> () p = Mul(x, k)",
        "l = Constant <value = float {2}> () q = Mul(x, l)",
        c="bool c, ",
    )
    assert_rewrites(before, INLINE, ["Mul", "Exp"])


def test_branches_with_other_constants_differ() -> None:
    before = choice(
        "c",
        "k = Constant <value = float {0.0}> () p = Mul(x, k)",
        "l = Constant <value = float {-0.0}> () q = Mul(x, l)",
        c="bool c, ",
    )
    assert_declines(before, INLINE)


def test_nested_ifs_are_inlined_at_once() -> None:
    inner = """p = If (no) <then_branch = t2 () => (float[K] r) { r = Tanh(x) },
                            else_branch = e2 () => (float[K] s) { s = Abs(x) }>"""
    assert_rewrites(choice("yes", inner, "q = Neg(x)"), INLINE, ["Abs", "Exp"], changes=2)


def test_an_if_inside_a_branch_that_stays_is_inlined_there() -> None:
    inner = """p = If (no) <then_branch = t2 () => (float[K] r) { r = Tanh(x) },
                            else_branch = e2 () => (float[K] s) { s = Abs(x) }>"""
    before = choice("c", inner, "q = Neg(x)", c="bool c, ")
    assert_rewrites(before, INLINE, ["If", "Exp", "Abs", "Neg"])


def test_names_that_clash_change() -> None:
    before = model("""g (float[N] x) => (float[a] y) <bool yes = {1}> {
        v = If (yes) <then_branch = t () => (float[M] p) { h = Relu(x) p = Neg(h) },
                      else_branch = e () => (float[M] q) { q = Neg(x) }>
        w = If (yes) <then_branch = t2 () => (float[M] p) { h = Abs(x) p = Exp(h) },
                      else_branch = e2 () => (float[M] q) { q = Neg(x) }>
        y = Add(v, w) }""")
    assert_rewrites(before, INLINE, ["Relu", "Neg", "Abs", "Exp", "Add"], changes=2)


def test_of_two_nodes_of_one_name_one_loses_it() -> None:
    proto = choice("yes", "p = Relu(x)", "q = Neg(x)").proto()
    proto.graph.node[1].name = proto.graph.node[0].attribute[0].g.node[0].name = "same"
    after = assert_rewrites(Model.from_proto(proto), INLINE, ["Relu", "Exp"])
    assert [node.name for node in after.graph.nodes] == ["", "same"]


def test_a_graph_output_keeps_its_name() -> None:
    before = model("""g (float[N] x) => (float[a] y) <bool yes = {1}> {
        y = If (yes) <then_branch = t () => (float[M] p) { p = Relu(x) },
                      else_branch = e () => (float[M] q) { q = Neg(x) }> }""")
    after = assert_rewrites(before, INLINE, ["Relu"])
    assert after.graph.outputs[0].name == "y"


def test_one_result_for_two_graph_outputs_is_copied() -> None:
    proto = model("""g (float[N] x) => (float[a] y, float[b] z) <bool yes = {1}> {
        y, z = If (yes) <then_branch = t () => (float[M] p, float[M] p2) {
                             p = Relu(x) p2 = Exp(x) },
                         else_branch = e () => (float[M] q, float[M] r) {
                             q = Neg(x) r = Abs(x) }> }""").proto()
    branch = proto.graph.node[0].attribute[0].g
    branch.output[1].name = "p"  # onnxruntime returns nothing for it
    before = Model.from_proto(proto)
    assert INLINE.apply(before, Context(infer=shapes.infer)) == 1
    before.compact()
    before.check()
    assert [node.op for node in before.graph.nodes] == ["Relu", "Exp", "Identity"]


def test_a_constant_result_for_a_graph_output_is_copied() -> None:
    before = model("""g (float[N] x) => (float[a] y, float[N] z) <bool yes = {1}> {
        y = If (yes) <then_branch = t () => (float[M] p) { p = Constant <value = float[1] {2}> () },
                      else_branch = e () => (float[M] q) { q = Neg(x) }>
        z = Relu(x) }""")
    assert_rewrites(before, INLINE, ["Identity", "Relu"])


def test_initializers_of_the_branch_move_along() -> None:
    before = model("""g (float[N] x) => (float[a] y) <bool yes = {1}> {
        y = If (yes) <then_branch = t () => (float[M] p) <float[1] w = {3}> { p = Mul(x, w) },
                      else_branch = e () => (float[M] q) { q = Neg(x) }> }""")
    after = assert_rewrites(before, INLINE, ["Mul"])
    assert "w" in [tensor.name for tensor in after.proto().graph.initializer]


def test_in_a_function_a_constant_condition_chooses() -> None:
    before = model("""g (float[N] x) => (float[a] y) { y = local.f(x) }
        <domain: "local", opset_import: ["" : 20]> f (x) => (y) {
            yes = Constant <value = bool {1}> ()
            y = If (yes) <then_branch = t () => (float[M] p) { p = Relu(x) },
                          else_branch = e () => (float[M] q) { q = Neg(x) }> }""")
    assert_rewrites(before, INLINE, ["f", "Relu"])


def test_a_branch_with_sparse_weights_stays() -> None:
    before = choice("yes", "k = Constant <value = float[1] {2}> () p = Mul(x, k)", "q = Neg(x)")
    proto = before.proto()
    values = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [1], [2.0])
    indices = onnx.helper.make_tensor("i", onnx.TensorProto.INT64, [1], [0])
    branch = proto.graph.node[0].attribute[0].g
    branch.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, indices, [1]))
    before = type(before).from_proto(proto)
    assert_declines(before, INLINE, "sparse")


RANKS = """s = Shape<end = 1>(x) big = Constant<value = int64[1] {1000000}>() c = Less(s, big)
    z = If (c) <then_branch = t () => (float[?, ?] p) { p = Neg(x) },
                else_branch = e () => (float[?, ?, ?] q) { q = Unsqueeze(x, first) }>"""


def ranked(readers: str, outputs: str = "float[?, ?] y", given: str = "") -> Model:
    """Choose between two ranks by what no inference tells, and read that."""
    return model(
        f"g ({given}float[N, 4] x) => ({outputs}) <int64[1] first = {{0}}> {{ {readers} }}"
    )


def test_a_node_that_would_fail_chooses() -> None:
    before = ranked(RANKS + "y = Transpose<perm = [1, 0]>(z)")
    assert_rewrites(before, INLINE, ["Neg", "Transpose"])


def test_one_choice_tells_the_next() -> None:
    before = ranked(RANKS + """t = Shape(z) r = Size(t) two = Constant<value = int64 {2}>()
        d = Equal(r, two)
        w = If (d) <then_branch = f () => (float[?, ?] h) { h = Exp(z) },
                    else_branch = g () => (float[?, ?, ?] k) { k = Abs(z) }>
        y = Transpose<perm = [1, 0]>(w)""")  # fmt: skip
    assert_rewrites(before, INLINE, ["Neg", "Exp", "Transpose"], 2)


@pytest.mark.parametrize(
    "readers",
    [
        "y = Exp(z)",
        "y = If (b) <then_branch = f () => (float[?, ?] h) { h = Transpose<perm = [1, 0]>(z) },"
        " else_branch = g () => (float[?, ?] k) { k = Neg(x) }>",
        "y = Neg(x) v = Transpose<perm = [1, 0]>(z)",
    ],
)
def test_a_node_that_need_not_run_does_not(readers: str) -> None:
    assert_declines(ranked(RANKS + readers, given="bool b, "), INLINE)


@pytest.mark.parametrize(
    "readers",
    [
        "y = Transpose<perm = [3, 2, 1, 0]>(z)",
        """u = If (b) <then_branch = i () => (float[?, ?] l) { l = Neg(x) },
                       else_branch = j () => (float[?, ?, ?] m) { m = Unsqueeze(x, first) }>
        v = Transpose<perm = [1, 0]>(u)
        w = If (b) <then_branch = f () => (float[?, ?] h) { h = Transpose<perm = [1, 0]>(z) },
                    else_branch = g () => (float[?, ?] k) { k = Neg(x) }> y = Add(v, w)""",
    ],
)
def test_what_fails_always_or_only_in_a_branch_chooses_nothing(readers: str) -> None:
    doubtful = ranked(RANKS + readers, given="bool b, ")
    facts = shapes.infer(doubtful)
    fork = next(node for node in doubtful.nodes() if node.operator == "If")
    assert facts.value(fork.inputs[0]) is None


def test_a_condition_of_the_graph_around_is_not_told_by_a_branch() -> None:
    inner = """s = Shape<end = 1>(x) big = Constant<value = int64[1] {1000000}>() c = Less(s, big)
        y = If (b) <then_branch = f () => (float[?, ?] h) {
            z = If (c) <then_branch = t () => (float[?, ?] p) { p = Neg(x) },
                        else_branch = e () => (float[?, ?, ?] q) { q = Unsqueeze(x, first) }>
            h = Transpose<perm = [1, 0]>(z)
        }, else_branch = g () => (float[?, ?] k) { k = Neg(x) }> w = Not(c)"""
    outputs = "float[?, ?] y, bool[1] w"
    assert_declines(ranked(inner, outputs, "bool b, "), INLINE)


@pytest.mark.parametrize(
    ("reader", "weights", "decided"),
    [
        ("y = Gemm(z, w)", "float[4, 5] w", True),
        ("y = Conv(z, w)", "float[2, 3, 1] w", False),
        ("y = ConvTranspose(z, w)", "float[3, 2, 1] w", False),
        ("y, h = RNN<hidden_size = 2>(z, w, r)", "float[1, 2, 4] w, float[1, 2, 2] r", False),
        ("y, h = GRU<hidden_size = 2>(z, w, r)", "float[1, 6, 4] w, float[1, 6, 2] r", False),
        ("y, h = LSTM<hidden_size = 2>(z, w, r)", "float[1, 8, 4] w, float[1, 8, 2] r", False),
        ("y = Concat<axis = 0>(z, w)", "float[1, 4] w", None),
        ("y = Softmax(z)", "float[1] w", None),
    ],
)
def test_operators_that_fail_for_ranks_decide(
    reader: str, weights: str, decided: bool | None
) -> None:
    """True chooses two dimensions here, False three."""
    before = ranked(RANKS + reader, "float[?] y", f"{weights}, ")
    fork = next(node for node in before.nodes() if node.operator == "If")
    found = shapes.infer(before).value(fork.inputs[0])
    assert found == (None if decided is None else (decided,))
