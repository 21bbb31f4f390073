"""Cutting a model: other tensors become its inputs and outputs."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.checker
import pytest

import onnxslim
from kit import model, operators
from onnxslim import Model
from onnxslim.edits import cut
from onnxslim.errors import InputError
from onnxslim.runtime import Session

CHAIN = """main (float[N, 2] x, float[N, 2] other) => (float[N, 2] y, float[N, 2] z)
<float[2, 2] w = {1, 2, 3, 4}>
{ m = MatMul(x, w) r = Relu(m) y = Add(r, other) z = Neg(m) }"""
CAPTURES = """main (bool c, float[2] x, float[2] k) => (float[2] y)
{ a = Abs(x) b = Neg(a) n = Exp(x)
  y = If(c) <then_branch = t () => (float[2] p) { p = Add(b, k) },
             else_branch = e () => (float[2] q) { q = Identity(a) }> }"""
CALL = """main (float[N] x) => (float[N] y) { a = Abs(x) f = local.twice(a) y = Neg(f) }
<domain: "local", opset_import: ["" : 20]>
twice (i) => (o) { inner = Add(i, i) o = Identity(inner) }"""
SPLIT = """main (float[4] x) => (float[2] y)
<int64[2] s = {2, 2}> { a, b = Split(x, s) y = Add(a, b) }"""


def after(
    text: str | Model, inputs: list[str] | None = None, outputs: list[str] | None = None
) -> Model:
    """Cut a model, which must then satisfy onnx's checker."""
    made = model(text) if isinstance(text, str) else text
    assert cut(made, inputs, outputs) == []
    onnx.checker.check_model(made.proto(), full_check=True)
    return made


def ends(of: Model) -> tuple[list[str], list[str]]:
    graph = of.proto().graph
    return [info.name for info in graph.input], [info.name for info in graph.output]


def refusal(text: str, inputs: list[str] | None = None, outputs: list[str] | None = None) -> str:
    with pytest.raises(InputError) as caught:
        cut(model(text), inputs, outputs)
    return str(caught.value)


# What stays ---------------------------------------------------------------------------------------


def test_other_outputs_leave_what_they_need() -> None:
    made = after(CHAIN, outputs=["r"])
    assert (ends(made), operators(made)) == ((["x"], ["r"]), ["MatMul", "Relu"])


def test_other_inputs_leave_what_reads_them() -> None:
    made = after(CHAIN, ["m", "other"])
    assert (ends(made), operators(made)) == ((["m", "other"], ["y", "z"]), ["Relu", "Add", "Neg"])


def test_weights_that_nobody_reads_go() -> None:
    assert not after(CHAIN, ["m"], ["z"]).proto().graph.initializer


def test_the_order_is_the_one_of_the_names() -> None:
    assert ends(after(CHAIN, ["other", "r", "m"], ["z", "r", "y"])) == (
        ["other", "r", "m"],
        ["z", "r", "y"],
    )


def test_no_names_change_nothing() -> None:
    made = model(CHAIN)
    before = made.to_bytes()
    assert cut(made, None, None) == []
    assert made.to_bytes() == before


def test_an_input_that_was_unused_before_stays() -> None:
    text = "main (float[2] x, float[2] idle) => (float[2] y) { a = Abs(x) y = Neg(a) }"
    assert ends(after(text, outputs=["a"])) == (["x", "idle"], ["a"])


def test_a_cut_model_computes_what_the_whole_one_does() -> None:
    x = np.array([[1, -2]], np.float32)
    (m,) = Session(after(CHAIN, outputs=["m"]).to_bytes(), False).run({"x": x}).values()
    rest = Session(after(CHAIN, ["m", "other"]).to_bytes(), False)
    whole = Session(model(CHAIN).to_bytes(), False)
    feed = {"other": np.ones_like(x)}
    np.testing.assert_array_equal(rest.run({**feed, "m": m})["y"], whole.run({**feed, "x": x})["y"])


def test_what_bodies_read_stays() -> None:
    assert operators(after(CAPTURES, outputs=["y"])) == ["Abs", "Neg", "If", "Add", "Identity"]


def test_bodies_read_the_new_inputs() -> None:
    made = after(CAPTURES, ["c", "a", "b", "k"])
    assert operators(made) == ["If", "Add", "Identity"]


def test_calls_of_functions_stay() -> None:
    made = after(CALL, ["a"], ["f"])
    assert operators(made)[0] == "twice"
    assert [f.name for f in made.proto().functions] == ["twice"]


def test_one_of_several_results_may_become_an_input() -> None:
    made = after(SPLIT, ["x", "b"])
    (split, add) = made.proto().graph.node
    assert list(add.input) == ["a", "b"]
    assert split.output[1] not in ("", "b")


def test_metadata_stay() -> None:
    proto = model(CHAIN).proto()
    proto.doc_string, proto.producer_name = "about", "maker"
    proto.metadata_props.add(key="k", value="v")
    proto.graph.output[1].doc_string = "negative"
    made = after(Model.from_proto(proto), outputs=["z"]).proto()
    kept = made.doc_string, made.producer_name, made.metadata_props[0].value
    assert (*kept, made.graph.output[0].doc_string) == ("about", "maker", "v", "negative")


def test_the_file_is_not_taken_for_the_cut_model() -> None:
    made = model(CHAIN)
    made.pristine = True
    cut(made, None, ["m"])
    assert not made.pristine


# Constants ----------------------------------------------------------------------------------------


def test_an_initializer_may_become_an_input() -> None:
    made = after(CHAIN, ["x", "w"], ["m"]).proto().graph
    assert onnx.helper.printable_value_info(made.input[1]) == "%w[FLOAT, 2x2]"
    assert not made.initializer


def test_a_sparse_initializer_may_become_an_input() -> None:
    proto = model("main (float[2, 2] x) => (float[2, 2] y) { y = MatMul(x, s) }").proto()
    values, where = (
        onnx.helper.make_tensor("s", 1, [1], [0.5]),
        onnx.helper.make_tensor("", 7, [1], [1]),
    )
    proto.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, where, [2, 2]))
    made = after(Model.from_proto(proto), ["x", "s"])
    assert not made.proto().graph.sparse_initializer
    assert declared(made, "s") == "%s[FLOAT, 2x2]"


def test_an_initializer_may_become_an_output() -> None:
    made = after(CHAIN, outputs=["w"])
    assert ends(made) == ([], ["w"])
    assert Session(made.to_bytes(), False).run({})["w"].tolist() == [[1, 2], [3, 4]]


def test_a_constant_node_may_become_an_input() -> None:
    text = """main (float[2] x) => (float[2] y)
    { k = Constant <value = float[2] {1, 2}> () y = Add(x, k) }"""
    assert ends(after(text, ["x", "k"])) == (["x", "k"], ["y"])


def test_a_constant_node_may_become_an_output() -> None:
    text = """main (float[2] x) => (float[2] y)
    { k = Constant <value = float[2] {1, 2}> () y = Add(x, k) }"""
    assert Session(after(text, None, ["k"]).to_bytes(), False).run({})["k"].tolist() == [1, 2]


def test_an_initializer_that_may_be_overridden_stays_so() -> None:
    text = """main (float[2] x, float[2] k) => (float[2] y)
    <float[2] k = {1, 2}> { a = Abs(x) y = Add(a, k) }"""
    made = after(text, ["a"]).proto().graph
    assert [info.name for info in made.input] == ["a", "k"]
    assert [tensor.name for tensor in made.initializer] == ["k"]


# Types --------------------------------------------------------------------------------------------


def declared(made: Model, name: str) -> str:
    graph = made.proto().graph
    (info,) = (info for info in (*graph.input, *graph.output) if info.name == name)
    return onnx.helper.printable_value_info(info)


def test_types_are_inferred() -> None:
    assert declared(after(CHAIN, outputs=["m"]), "m") == "%m[FLOAT, Nx2]"


def test_dimensions_keep_the_names_of_inputs_only() -> None:
    text = """main (float[N] x, bool[N] b) => (float[M] y)
    { c = Compress(x, b) d = Concat <axis = 0> (x, c) y = Neg(d) }"""
    assert declared(after(text, outputs=["d"]), "d") == "%d[FLOAT, ?]"


def test_what_is_inferred_goes_before_what_is_declared() -> None:
    text = """main (float[3] x) => (float[3] y) <float[7] a> { a = Abs(x) y = Neg(a) }"""
    assert declared(after(text, outputs=["a"]), "a") == "%a[FLOAT, 3]"


def test_an_end_is_declared_once() -> None:
    text = """main (float[3] x) => (float[3] y) <float[3] a> { a = Abs(x) y = Neg(a) }"""
    assert not after(text, outputs=["a"]).proto().graph.value_info


def test_types_are_inferred_behind_calls() -> None:
    assert declared(after(CALL, outputs=["f"]), "f").startswith("%f[FLOAT")


def test_types_are_inferred_behind_operators_of_onnxruntime() -> None:
    text = """main (float16[2, 3] x, float16[3] b) => (float16[2, 3] y)
    { a = com.microsoft.BiasGelu(x, b) y = Neg(a) }"""
    made = model(text)
    cut(made, ["a"], None)
    assert declared(made, "a").startswith("%a[FLOAT16")


def test_sequences_may_be_ends() -> None:
    text = """main (float[4] x) => (float[4] y)
    { s = SplitToSequence <keepdims = 1> (x) y = ConcatFromSequence <axis = 0> (s) }"""
    assert after(text, ["s"]).proto().graph.input[0].type.HasField("sequence_type")


RANKLESS = (
    "the rank of '{}' is not known: onnxruntime takes the model as it is, onnx's checker does not"
)
INVERTED = """main (float[2, 2] x) => (float[2, 2] y)
{ a = com.microsoft.Inverse(x) y = Neg(a) }"""


def test_an_unknown_rank_is_said() -> None:
    outcome = onnxslim.run(model(INVERTED), outputs=["a"])
    assert outcome.report.warnings[0] == RANKLESS.format("a")


def test_input_shapes_give_a_rank_to_what_lacks_one() -> None:
    made = onnxslim.slim(model(INVERTED), inputs=["a"], input_shapes={"a": (2, 2)})
    assert onnx.helper.printable_value_info(made.graph.input[0]) == "%a[FLOAT, 2x2]"


def test_an_input_that_leads_nowhere_is_said() -> None:
    assert cut(model(CHAIN), ["x", "r"], ["z"]) == ["the outputs do not depend on 'r'"]


# Refusals -----------------------------------------------------------------------------------------


def test_inputs_that_are_missing_are_named() -> None:
    said = refusal(CHAIN, ["r"], ["y", "z"])
    assert said.startswith("the outputs 'y', 'z' also need 'x', 'other'; name them")


def test_inputs_that_bodies_need_are_named() -> None:
    assert "also need 'x', 'k'" in refusal(CAPTURES, ["c", "b"])


def test_similar_names_are_suggested() -> None:
    assert refusal(CHAIN, None, ["othr"]) == (
        "output 'othr' is no tensor of the model; did you mean 'other'?"
    )


def test_names_like_no_other_get_no_suggestion() -> None:
    assert refusal(CHAIN, ["q7_19"]) == "input 'q7_19' is no tensor of the model"


@pytest.mark.parametrize(("text", "name"), [(CAPTURES, "p"), (CALL, "inner")])
def test_tensors_further_inside_are_out_of_reach(text: str, name: str) -> None:
    assert "subgraph or function" in refusal(text, None, [name])


def test_a_name_is_given_once() -> None:
    assert refusal(CHAIN, None, ["m", "m"]) == "output 'm' is named 2 times"


def test_an_empty_list_is_no_choice() -> None:
    assert refusal(CHAIN, []).startswith("no input is named")


def test_a_type_that_nobody_knows_is_refused() -> None:
    text = """<ir_version: 8, opset_import: ["" : 20, "my" : 1]>
    main (float[2] x) => (float[2] y) { a = my.Thing(x) y = Neg(a) }"""
    assert refusal(text, ["a"]) == "the type of 'a' is not declared and cannot be inferred"
