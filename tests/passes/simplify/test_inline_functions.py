"""Calls of local functions become the functions' bodies."""

import onnx

from kit import assert_declines, assert_rewrites, model, operators
from onnxslim.base import Context
from onnxslim.ir import Model
from onnxslim.passes.simplify.inline_functions import InlineFunctions

INLINE = InlineFunctions()


def calling(
    body: str, function: str, opset: int = 20, io: str = "float[N] x) => (float[a] y"
) -> Model:
    """Make a model whose main graph is *body*; *function* is what f is, from its attributes on."""
    return model(f"""g ({io}) {{ {body} }}
        <domain: "local", opset_import: ["" : {opset}, "local" : 1]> f {function}""")


def test_a_function_that_is_called_once_is_inlined_and_dropped() -> None:
    before = calling("y = local.f(x)", "(a) => (c) { b = Relu(a) d = Neg(b) c = Abs(d) }")
    after = assert_rewrites(before, INLINE, ["Relu", "Neg", "Abs"])
    assert not after.functions


def test_a_small_function_is_inlined_everywhere() -> None:
    before = calling(
        "h = local.f(x) k = local.f(h) y = local.f(k)", "(a) => (c) { b = Relu(a) c = Neg(b) }"
    )
    assert_rewrites(before, INLINE, ["Relu", "Neg"] * 3, changes=3)


def test_of_nodes_of_one_name_one_keeps_it() -> None:
    before = calling("h = local.f(x) y = local.f(h)", "(a) => (c) { b = Relu(a) c = Neg(b) }")
    proto = before.proto()
    proto.functions[0].node[0].name = "n"
    after = assert_rewrites(Model.from_proto(proto), INLINE, ["Relu", "Neg"] * 2, changes=2)
    assert [node.name for node in after.graph.nodes] == ["n", "", "", ""]


LARGE = (
    "(a) => (z) { b = Relu(a) c = Neg(b) d = Abs(c) e = Exp(d) f = Log(e) h = Sin(f) z = Cos(h) }"
)


def test_a_large_function_that_is_called_often_stays() -> None:
    before = calling("h = local.f(x) k = local.f(h) l = local.f(k) y = local.f(l)", LARGE)
    assert_declines(before, INLINE, "called 4 times: the file would grow")


def test_names_inside_do_not_clash() -> None:
    before = calling(
        "b = Relu(x) c = local.f(b) y = Add(b, c)", "(x) => (c) { b = Neg(x) c = Abs(b) }"
    )
    assert_rewrites(before, INLINE, ["Relu", "Neg", "Abs", "Add"])


def test_attributes_of_the_call_take_their_places() -> None:
    before = calling(
        "y = local.f <how = 0.5> (x)",
        "<how> (a) => (c) { b = Elu <alpha: float = @how> (a) c = Neg(b) }",
    )
    after = assert_rewrites(before, INLINE, ["Elu", "Neg"])
    assert after.graph.nodes[0].attr("alpha") == 0.5


def test_an_attribute_that_is_not_given_is_left_out() -> None:
    before = calling(
        "y = local.f(x)", "<how> (a) => (c) { b = Elu <alpha: float = @how> (a) c = Neg(b) }"
    )
    after = assert_rewrites(before, INLINE, ["Elu", "Neg"])
    assert "alpha" not in after.graph.nodes[0].attrs


def test_a_default_takes_the_place_of_an_attribute_that_is_not_given() -> None:
    before = calling(
        "y = local.f(x)",
        "<how: float = 0.25> (a) => (c) { b = Elu <alpha: float = @how> (a) c = Neg(b) }",
    )
    after = assert_rewrites(before, INLINE, ["Elu", "Neg"])
    assert after.graph.nodes[0].attr("alpha") == 0.25


def test_a_constant_that_is_an_attribute_has_a_value() -> None:
    before = calling(
        "y = local.f <by = 3.0> (x)",
        "<by> (a) => (c) { k = Constant <value_float: float = @by> () c = Mul(a, k) }",
    )
    after = assert_rewrites(before, INLINE, ["Mul"])
    assert [constant.values.tolist() for constant in after.constants()] == [3.0]


def test_an_attribute_is_handed_on_through_nested_calls() -> None:
    before = model("""g (float[N] x) => (float[a] y) { y = local.outer <how = 2.0> (x) }
        <domain: "local", opset_import: ["" : 20, "local" : 1]>
        outer <how> (a) => (c) { b = local.inner <slope: float = @how> (a) c = Neg(b) }
        <domain: "local", opset_import: ["" : 20]>
        inner <slope> (a) => (c) { b = Elu <alpha: float = @slope> (a) c = Abs(b) }""")
    after = assert_rewrites(before, INLINE, ["Elu", "Abs", "Neg"], changes=2)
    assert after.graph.nodes[0].attr("alpha") == 2.0


def test_an_attribute_of_a_function_that_stays_is_handed_on() -> None:
    before = model("""g (float[N] x) => (float[a] y) {
        h = local.f <how = 2.0> (x) k = local.f <how = 3.0> (h) l = local.f <how = 4.0> (k)
        y = local.f <how = 5.0> (l) }
        <domain: "local", opset_import: ["" : 20, "local" : 1]>
        f <how> (a) => (z) { b = local.inner <slope: float = @how> (a) c = Neg(b) d = Abs(c)
            e = Exp(d) h = Sin(e) i = Cos(h) j = Tanh(i) k = Exp(j) z = Sin(k) }
        <domain: "local", opset_import: ["" : 20]>
        inner <slope> (a) => (c) { b = Elu <alpha: float = @slope> (a) c = Abs(b) }""")
    after = assert_rewrites(
        before,
        INLINE,
        [*["f"] * 4, "Elu", "Abs", "Neg", "Abs", "Exp", "Sin", "Cos", "Tanh", "Exp", "Sin"],
    )
    (function,) = after.proto().functions
    assert [a.name for a in function.node[0].attribute] == ["alpha"]


def test_a_subgraph_of_the_function_is_copied_with_it() -> None:
    before = calling(
        "y = local.f(c, x)",
        """(c, a) => (z) { b = Neg(a)
        z = If (c) <then_branch = t () => (p) { h = Relu(b) p = Abs(h) },
                    else_branch = e () => (q) { q = Exp(b) }> }""",
        io="bool c, float[N] x) => (float[a] y",
    )
    assert_rewrites(before, INLINE, ["Neg", "If", "Relu", "Abs", "Exp"])


def test_an_attribute_in_a_subgraph_takes_its_value() -> None:
    before = calling(
        "y = local.f <how = 0.5> (c, x)",
        """<how> (c, a) => (z) {
        z = If (c) <then_branch = t () => (p) { p = Elu <alpha: float = @how> (a) },
                    else_branch = e () => (q) { q = Exp(a) }> }""",
        io="bool c, float[N] x) => (float[a] y",
    )
    assert_rewrites(before, INLINE, ["If", "Elu", "Exp"])


def test_a_call_in_a_body_is_inlined_there() -> None:
    before = calling(
        """y = If (c) <then_branch = t () => (float[p] p) { p = local.f(x) },
                       else_branch = e () => (float[q] q) { q = Exp(x) }>""",
        "(a) => (c) { b = Relu(a) c = Abs(b) }",
        io="bool c, float[N] x) => (float[a] y",
    )
    assert_rewrites(before, INLINE, ["If", "Relu", "Abs", "Exp"])


def test_an_input_that_is_left_out_is_left_out_inside() -> None:
    before = calling(
        "y = local.f(x)", "(a, low, high) => (c) { b = Clip(a, low, high) c = Neg(b) }"
    )
    assert_rewrites(before, INLINE, ["Clip", "Neg"])


def test_an_output_that_is_not_asked_for_is_computed_for_nobody() -> None:
    before = calling("h, y = local.f(x)", "(a) => (b, c) { b = Relu(a) c = Neg(a) }")
    assert_rewrites(before, INLINE, ["Relu", "Neg"])


def applied(before: Model) -> list[str]:
    """Inline without checks, for models that onnxruntime does not load."""
    assert INLINE.apply(before, Context()) == 1
    before.compact()
    before.check()
    return operators(before)


def test_an_input_that_is_handed_on_becomes_the_result() -> None:
    before = calling("h, k = local.f(x) y = Add(h, k)", "(a) => (a, b) { b = Relu(a) }")
    assert applied(before) == ["Relu", "Add"]


def test_an_input_that_becomes_a_graph_output_is_copied() -> None:
    io = "float[N] x) => (float[a] y, float[b] z"
    before = calling("y, z = local.f(x)", "(a) => (a, b) { b = Relu(a) }", io=io)
    assert applied(before) == ["Relu", "Identity"]


def test_graph_outputs_keep_their_names() -> None:
    before = calling("y = local.f(x)", "(a) => (c) { b = Relu(a) c = Neg(b) }")
    after = assert_rewrites(before, INLINE, ["Relu", "Neg"])
    assert [tensor.name for tensor in after.graph.outputs] == ["y"]


def test_operators_that_did_not_change_between_opsets_mean_the_same() -> None:
    before = calling("y = local.f(x)", "(a) => (c) { b = Relu(a) c = Sin(b) }", opset=18)
    assert_rewrites(before, INLINE, ["Relu", "Sin"])


def test_operators_that_changed_between_opsets_keep_their_function() -> None:
    before = calling("y = local.f(x)", "(a) => (c) { b = Sin(a) c = ReduceSum(b) }", opset=12)
    assert_declines(before, INLINE, "ReduceSum of opset 12")


def test_a_domain_that_the_model_does_not_import_keeps_its_function() -> None:
    before = model("""g (float[N] x) => (float[a] y) { y = local.f(x) }
        <domain: "local", opset_import: ["" : 20, "com.elsewhere" : 1]>
        f (a) => (c) { b = Relu(a) c = com.elsewhere.Op(b) }""")
    proto = before.proto()
    del proto.functions[0].node[1]
    proto.functions[0].output[0] = "b"
    proto.functions[0].node.append(
        onnx.helper.make_node("If", ["a"], ["d"], domain="com.elsewhere")
    )
    assert_declines(Model.from_proto(proto), INLINE, "com.elsewhere")


def test_a_function_that_is_called_like_an_operator_is_inlined() -> None:
    before = model("""g (float[N] x) => (float[a] y) { y = local.Relu(x) }
        <domain: "local", opset_import: ["" : 20]> Relu (a) => (c) { b = Neg(a) c = Abs(b) }""")
    assert_rewrites(before, INLINE, ["Neg", "Abs"])


def test_metadata_of_the_nodes_stays() -> None:
    before = calling("y = local.f(x)", "(a) => (c) { b = Relu(a) c = Neg(b) }")
    proto = before.proto()
    proto.functions[0].node[0].doc_string = "kept"
    after = assert_rewrites(Model.from_proto(proto), INLINE, ["Relu", "Neg"])
    assert after.proto().graph.node[0].doc_string == "kept"


def test_a_function_that_nobody_calls_is_left_to_others() -> None:
    before = calling("y = Relu(x)", "(a) => (c) { b = Relu(a) c = Neg(b) }")
    assert_declines(before, INLINE)


FOLDING = """<k> (a) => (z) {
    n = Constant <value_int: int = @k> () m = Neg(n) l = Abs(m) t = Constant <value_int: int = 1> ()
    u = Add(l, t) v = Mul(u, t) w = Sub(v, t) s = CastLike(w, a) z = Mul(a, s) }"""


def test_what_will_be_folded_counts_by_itself() -> None:
    body = "h = local.f <k = 1> (x) i = local.f <k = 2> (h) y = local.f <k = 3> (i)"
    assert_declines(calling(body, FOLDING), INLINE, "the file would grow")


def test_what_will_be_folded_does_not_count_for_the_eager() -> None:
    before = calling(
        "h = local.f <k = 1> (x) i = local.f <k = 2> (h) y = local.f <k = 3> (i)", FOLDING
    )
    assert InlineFunctions(eager=True).apply(before, Context()) == 3
