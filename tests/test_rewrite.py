"""Passes written as a pattern and a replacement, or as rules by operator."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from kit import assert_declines, assert_rewrites, model, operators
from onnxslim import Builder, Context, Effect, Pipeline, RewritePass, shapes
from onnxslim.errors import Declined, PassError
from onnxslim.ir import Model, Tensor
from onnxslim.pattern import Match, const, op
from onnxslim.rewrite import BypassPass, Rule, Site


@dataclass(frozen=True)
class DoubleNegation(RewritePass):
    """Replace Neg(Neg(x)) by Identity."""

    name = "double-negation"
    effect = Effect.EXACT
    pattern = op.Neg(op.Neg("x"))

    def rewrite(self, new: Builder, m: Match) -> Tensor:
        return new.Identity(m["x"])


@dataclass(frozen=True)
class CancelNegation(RewritePass):
    """Replace Neg(Neg(x)) by x."""

    name = "cancel-negation"
    effect = Effect.EXACT
    pattern = op.Neg(op.Neg("x"))

    def rewrite(self, new: Builder, m: Match) -> Tensor:
        return m.tensor("x")


@dataclass(frozen=True)
class Merge(RewritePass):
    """Replace x · a · b by x · (a · b), or by more nodes than that."""

    name = "merge"
    effect = Effect.ROUNDING
    pattern = op.Mul(op.Mul("x", const("a")), const("b"))
    padding: int = 0

    def rewrite(self, new: Builder, m: Match) -> Tensor:
        product = np.concatenate([m["a"] * m["b"], np.ones(self.padding, np.float32)])
        m.require(np.isfinite(product).all(), "the product overflows")
        zero, end = new.tensor(np.array([0])), new.tensor(np.array([m["a"].size]))
        factor = new.Slice(product, zero, end) if self.padding else product
        return new.like(m.root, m["x"], factor)


CHAIN = "g (float[2] x) => (float[2] y) { a = Relu(x) b = Neg(a) c = Neg(b) y = Exp(c) }"


# RewritePass --------------------------------------------------------------------------------------


def test_a_replacement() -> None:
    assert_rewrites(model(CHAIN), DoubleNegation(), ["Relu", "Identity", "Exp"])


def test_the_new_node_stands_where_the_old_one_stood() -> None:
    before = model("""g (float[2] x) => (float[2] y, float[2] z) {
        b = Neg(x) c = Neg(b) y = Exp(c) z = Sqrt(x)
    }""")
    assert_rewrites(before, DoubleNegation(), ["Identity", "Exp", "Sqrt"])


def test_an_existing_tensor_as_replacement() -> None:
    assert_rewrites(model(CHAIN), CancelNegation(), ["Relu", "Exp"])


def test_a_graph_output_keeps_its_name() -> None:
    before = model("g (float[2] x) => (float[2] y) { b = Neg(x) y = Neg(b) }")
    after = assert_rewrites(before, DoubleNegation(), ["Identity"])
    assert [t.name for t in after.graph.outputs] == ["y"]


def test_a_graph_output_that_would_be_an_input() -> None:
    before = model("g (float[2] x) => (float[2] y) { b = Neg(x) y = Neg(b) }")
    assert_declines(before, CancelNegation(), "which needs a node of its own")


def test_overlapping_places_are_rewritten_once_each_round() -> None:
    before = model("""g (float[2] x) => (float[2] y) {
        a = Neg(x) b = Neg(a) c = Neg(b) d = Neg(c) y = Exp(d)
    }""")
    assert_rewrites(before, CancelNegation(), ["Exp"], changes=2)


def test_inner_results_that_others_read() -> None:
    before = model("""g (float[2] x) => (float[2] y, float[2] z) {
        b = Neg(x) c = Neg(b) y = Exp(c) z = Sqrt(b)
    }""")
    assert_declines(before, DoubleNegation(), "an inner result is read elsewhere too")


def test_all_nodes_must_stand_in_one_graph() -> None:
    before = model("""g (bool p, float[2] x) => (float[2] y) {
        b = Neg(x)
        y = If (p) <
            then_branch = t () => (float[2] u) { c = Neg(b) u = Exp(c) },
            else_branch = e () => (float[2] v) { v = Sqrt(x) }
        >
    }""")
    assert_declines(before, DoubleNegation(), "a part of it stands in an outer graph")


def test_inside_branches_and_functions() -> None:
    before = model("""g (bool p, float[2] x) => (float[2] y) {
        y = If (p) <
            then_branch = t () => (float[2] u) { b = Neg(x) c = Neg(b) u = Exp(c) },
            else_branch = e () => (float[2] v) { v = local.F(x) }
        >
    }
    <domain: "local", opset_import: ["" : 20]> F (p) => (q) { b = Neg(p) c = Neg(b) q = Abs(c) }""")
    after = assert_rewrites(before, CancelNegation(), ["If", "Exp", "F", "Abs"], changes=2)
    assert len(after.functions[0].nodes) == 1


def test_attributes_of_the_call_are_unknown_to_a_rewrite() -> None:
    @dataclass(frozen=True)
    class DropElu(RewritePass):
        """Replace Elu(Neg(x)) by Relu."""

        name = "drop-elu"
        effect = Effect.LOSSY
        pattern = op.Elu(op.Neg("x"))

        def rewrite(self, new: Builder, m: Match) -> Tensor:
            raise AssertionError("not reached")

    before = model("""g (float[2] x) => (float[2] y) { y = local.F<k = 0.5>(x) }
    <domain: "local", opset_import: ["" : 20]> F <k> (p) => (q) {
        a = Neg(p) q = Elu<alpha: float = @k>(a)
    }""")
    assert_declines(before, DropElu(), "set by the caller of the function")


FACTORS = """g (float[2] x) => (float[2] y) <float[2] a = {{1, 2}}, float[2] b = {{{0}}}> {{
    p = Mul(x, a) q = Mul(p, b) {1} }}"""


def test_new_constants() -> None:
    before = model(FACTORS.format("3, 4", "y = Exp(q)"))
    after = assert_rewrites(before, Merge(), ["Mul", "Exp"])
    assert [constant.values.tolist() for constant in after.constants()] == [[3, 8]]


def test_conditions_of_a_rewrite() -> None:
    before = model(FACTORS.format("3e38, 2e38", "y = Exp(q)").replace("1, 2", "9, 9"))
    with np.errstate(over="ignore"):
        assert_declines(before, Merge(), "the product overflows")


def test_new_constants_must_not_outweigh_the_old() -> None:
    before = model(FACTORS.format("3, 4", "y = Exp(q)"))
    assert_declines(before, Merge(padding=99), "the file would grow by")


def test_constants_that_others_read_are_not_saved() -> None:
    before = model(FACTORS.format("3, 4", "r = Mul(x, a) s = Mul(x, b) y = Sum(q, r, s)"))
    assert_declines(before, Merge(), "others use the weights too")


def test_constants_that_are_graph_outputs_are_not_saved() -> None:
    text = FACTORS.format("3, 4", "y = Exp(q)").replace("y)", "y, float[2] a, float[2] b)", 1)
    assert_declines(model(text), Merge(), "the file would grow by")


def test_what_is_declined_gives_its_names_back() -> None:
    before = model(FACTORS.format("3, 4", "y = Exp(q)"))
    Merge(padding=99).apply(before, Context())
    assert [before.names.fresh(hint) for hint in ("mul", "slice", "slice_c")] == [
        "mul", "slice", "slice_c",
    ]  # fmt: skip


def test_a_result_that_takes_the_name_of_another_gives_its_own_back() -> None:
    before = model(CHAIN)
    assert DoubleNegation().apply(before, Context()) == 1
    assert before.names.fresh("identity") == "identity"


def test_nodes_of_a_declined_rewrite_leave_no_trace() -> None:
    before = model(FACTORS.format("3, 4", "y = Exp(q)"))
    after, _ = Pipeline((Merge(padding=99),), check="off")(before)
    assert after.to_bytes() == before.to_bytes()
    assert [len(tensor.outputs) for tensor in after.graph.inputs] == [1]


def test_the_replacement_of_a_node_keeps_its_name_and_metadata() -> None:
    proto = model(FACTORS.format("3, 4", "y = Exp(q)")).proto()
    proto.graph.node[1].name = "second"
    proto.graph.node[1].doc_string = "remember"
    proto.graph.node[1].metadata_props.add(key="k", value="v")
    after = assert_rewrites(Model.from_proto(proto), Merge(), ["Mul", "Exp"])
    node = after.proto().graph.node[0]
    assert (node.name, node.doc_string, node.metadata_props[0].value) == ("second", "remember", "v")


def test_other_outputs_of_the_root_are_read() -> None:
    @dataclass(frozen=True)
    class DropDropout(RewritePass):
        """Replace Dropout(Neg(x)) by x."""

        name = "drop-dropout"
        effect = Effect.LOSSY
        pattern = op.Dropout(op.Neg("x"))

        def rewrite(self, new: Builder, m: Match) -> Tensor:
            return m.tensor("x")

    text = "g (float[2] x) => (float[2] y{}) {{ a = Neg(x) b, {} = Dropout(a) y = Exp(b){} }}"
    read = model(text.format(", bool[2] n", "m", " n = Not(m)"))
    assert_declines(read, DropDropout(), "another output of the node is read as well")
    after, _ = Pipeline((DropDropout(),), check="off")(model(text.format("", "m", "")))
    assert operators(after) == ["Exp"]


def test_a_mask_that_is_a_graph_output_is_read() -> None:
    @dataclass(frozen=True)
    class DropDropout(RewritePass):
        """Replace Dropout(Neg(x)) by x."""

        name = "drop-dropout"
        effect = Effect.LOSSY
        pattern = op.Dropout(op.Neg("x"))

        def rewrite(self, new: Builder, m: Match) -> Tensor:
            return m.tensor("x")

    before = model("""g (float[2] x) => (float[2] y, bool[2] m) {
        a = Neg(x) b, m = Dropout(a) y = Exp(b)
    }""")
    assert_declines(before, DropDropout(), "another output of the node is read as well")


# Builder ------------------------------------------------------------------------------------------


def builder(of: Model) -> Builder:
    return Builder(of.names, of.graph)


def test_operands_of_a_new_node() -> None:
    before = model(CHAIN)
    new = builder(before)
    made = new.Clip(before.graph.inputs[0], None, np.float32(2), None, alpha=1)
    (node,) = new.nodes
    assert [t.name for t in node.inputs] == ["x", "", "clip_c"]
    assert node.inputs[2].values == 2
    assert node.attrs == {"alpha": 1}
    assert made.inputs[0] is node


def test_new_names_are_new() -> None:
    before = model("g (float[2] exp) => (float[2] y) { y = Relu(exp) }")
    new = builder(before)
    names = [new.Exp(before.graph.inputs[0]).name for _ in range(3)]
    assert len({"exp", "y", *names}) == 5


def test_a_node_like_another() -> None:
    before = model("g (float[2] x) => (float[2] y) { y = Selu<alpha = 1.5, gamma = 2.0>(x) }")
    new = builder(before)
    (node,) = before.graph.nodes
    new.like(node, before.graph.inputs[0], alpha=3.0, gamma=None)
    assert new.nodes[0].attrs == {"alpha": 3.0}
    assert node.attrs == {"alpha": 1.5, "gamma": 2.0}


def test_a_node_of_another_domain() -> None:
    before = model(CHAIN)
    new = builder(before)
    new.Gelu(before.graph.inputs[0], domain="com.microsoft")
    assert new.nodes[0].operator == "com.microsoft::Gelu"


def test_the_opset_where_a_node_will_stand() -> None:
    assert builder(model(CHAIN, 13)).version == 13


def test_a_short_name() -> None:
    new = builder(model(CHAIN))
    assert [new.named(new.Relu(None), "p").name for _ in range(2)] == ["p", "p_0"]


def test_a_builder_has_no_private_operators() -> None:
    with pytest.raises(AttributeError, match="_repr"):
        builder(model(CHAIN))._repr  # noqa: B018


# BypassPass ---------------------------------------------------------------------------------------


def _first(site: Site) -> Tensor | None:
    return site.node.input(0)


def _refuse(site: Site) -> Tensor | None:
    raise Declined(f"not below opset {site.opset + 1}")


def bypass(**rules: Rule) -> BypassPass:
    table: Mapping[str, Rule] = rules

    @dataclass(frozen=True)
    class Bypass(BypassPass):
        """Remove some nodes."""

        name = "bypass"
        effect = Effect.LOSSY
        rules: ClassVar[Mapping[str, Rule]] = table

    return Bypass()


def bypassed(before: Model, step: BypassPass) -> tuple[list[str], dict[str, int]]:
    after, report = Pipeline((step,), check="off")(before)
    return operators(after), report.steps[0].declined


def test_a_bypassed_node() -> None:
    assert bypassed(model(CHAIN), bypass(Neg=_first)) == (["Relu", "Exp"], {})


def test_a_rule_that_declines() -> None:
    kept = ["Relu", "Neg", "Neg", "Exp"]
    assert bypassed(model(CHAIN), bypass(Neg=_refuse)) == (kept, {"not below opset 21": 2})


def test_a_rule_that_sees_nothing() -> None:
    assert_declines(model(CHAIN), bypass(Neg=lambda site: None))


def test_nodes_that_only_a_bypassed_one_needs_go_too() -> None:
    before = model("""g (float[2] x) => (float[2] y) <float[2] c = {1, 2}> {
        a = Exp(c) b = Add(x, a) y = Relu(b)
    }""")
    after, report = Pipeline((bypass(Add=_first),), check="off")(before)
    assert operators(after) == ["Relu"]
    assert not after.proto().graph.initializer
    assert report.steps[0].changes == 1


def test_other_outputs_must_be_unread() -> None:
    text = "g (float[2] x) => (float[2] y{}) {{ a, m = Dropout(x) y = Exp(a){} }}"
    step = bypass(Dropout=_first)
    assert bypassed(model(text.format("", "")), step)[0] == ["Exp"]
    read = model(text.format(", bool[2] n", " n = Not(m)"))
    assert bypassed(read, step)[0] == ["Dropout", "Exp", "Not"]
    output = model(text.format(", bool[2] m", ""))
    assert bypassed(output, step)[0] == ["Dropout", "Exp"]


def test_attributes_of_the_call_are_unknown_to_a_rule() -> None:
    before = model("""g (float[2] x) => (float[2] y) { y = local.F<k = 0.5>(x) }
    <domain: "local", opset_import: ["" : 20]> F <k> (p) => (q) {
        a = Elu<alpha: float = @k>(p) q = Exp(a)
    }""")
    assert_declines(before, bypass(Elu=_first), "set by the caller of the function")


def test_a_pass_alone_has_no_shape_inference() -> None:
    with pytest.raises(PassError, match="no shape inference"):
        bypass(Neg=_first).apply(model(CHAIN), Context())


def test_a_pass_with_nothing_to_do_asks_for_no_shapes() -> None:
    made: Any = bypass(Sqrt=_first)
    assert made.apply(model(CHAIN), Context()) == 0


def test_nodes_that_were_made_are_found_with_the_same_context() -> None:
    before, context = model(CHAIN), Context(infer=shapes.infer)
    DoubleNegation().apply(before, context)
    assert bypass(Identity=_first).apply(before, context) == 1
