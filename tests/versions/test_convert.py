"""A whole model goes to another opset, or none of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import onnxslim
from conversion import converted, refusal, unchecked
from kit import holding, model, operators
from onnxslim import Model, Pipeline, versions
from onnxslim.errors import BrokenModel, InputError, PassError
from onnxslim.passes.convert.convert_opset import ConvertOpset
from strategies import graphs

CHAIN = "main (float[N, 4] x) => (float[?, ?] y) { u = Relu (x) y = ReduceSum <axes = [1]> (u) }"
BRANCHES = """main (bool c, float[2, 3] x) => (float[?] y) {
  y = If (c) <then_branch = t () => (float[?] a) { a = ReduceSum <axes = [1], keepdims = 0> (x) },
              else_branch = e () => (float[?] b) { b = ReduceSum <axes = [0], keepdims = 0> (x) }>
}"""
CALL = """main (float[2, 4] x) => (float[?, ?] y) { y = local.f <along = [1]> (x) }
  <domain: "local", opset_import: ["" : 12]> f <along> (a) => (c) { BODY }"""
FIXED = "b = Unsqueeze <axes = [0]> (a) c = Squeeze <axes = [0]> (b)"
GIVEN = "c = ReduceSum <axes: ints = @along> (a)"


def test_the_opset_is_the_target() -> None:
    assert converted(CHAIN, 12, 21).opset == 21


def test_bodies_of_control_flow_are_converted() -> None:
    after = converted(BRANCHES, 12, 13)
    assert [len(n.inputs) for n in after.nodes() if n.op == "ReduceSum"] == [2, 2]


def test_bodies_of_functions_are_converted() -> None:
    after = converted(CALL.replace("BODY", FIXED), 12, 13)
    assert after.functions[0].version == 13


def test_a_function_that_its_caller_sets_up_is_inlined() -> None:
    after = converted(CALL.replace("BODY", GIVEN), 12, 13)
    assert operators(after) == ["ReduceSum"]


def test_functions_in_functions_are_inlined() -> None:
    text = (
        CALL.replace("BODY", GIVEN).replace("local.f <", "local.g <")
        + """
      <domain: "local", opset_import: ["" : 12, "local" : 1]> g <along> (a) => (c)
      { b = Relu (a) c = local.f <along: ints = @along> (b) }"""
    )
    assert operators(converted(text, 12, 13)) == ["Relu", "ReduceSum"]


def test_operators_of_other_domains_stay() -> None:
    text = "main (float[N] x) => (float[N] y) { y = com.microsoft.Gelu (x) }"
    assert operators(converted(text, 12, 21)) == ["Gelu"]


def test_an_operator_of_another_domain_is_not_taken_for_ours() -> None:
    text = "main (float[N] x) => (float[N] y) { y = com.microsoft.ReduceSum <axes = [0]> (x) }"
    assert unchecked(text, 12, 13).graph.nodes[0].attr("axes") == [0]


def test_names_and_texts_stay() -> None:
    proto = model(CHAIN, 12).proto()
    proto.metadata_props.add(key="k", value="v")
    proto.graph.node[1].name, proto.graph.node[1].doc_string = "sum", "adds up"
    after = Model.from_proto(proto)
    versions.convert(after, 13)
    node = after.proto().graph.node[1]
    kept = (node.name, node.doc_string, after.proto().metadata_props[0].value, node.output[0])
    assert kept == ("sum", "adds up", "v", "y")


def test_declared_types_of_inner_tensors_stay() -> None:
    proto = onnx.shape_inference.infer_shapes(model(CHAIN, 12).proto())
    after = Model.from_proto(proto)
    versions.convert(after, 13)
    assert list(after.proto().graph.value_info) == list(proto.graph.value_info)


@pytest.mark.parametrize(
    ("ir", "target", "expected"), [(7, 12, 7), (7, 13, 7), (9, 13, 9), (7, 21, 10)]
)
def test_the_format_is_raised_as_the_opset_needs(ir: int, target: int, expected: int) -> None:
    after = model(CHAIN, 11, ir)
    versions.convert(after, target)
    assert after.ir_version == expected


def test_initializers_of_old_formats_stay_constants() -> None:
    text = """main (float[4] x, float[4] w) => (float[4] y) <float[4] w = {1, 2, 3, 4}>
              { y = Add (x, w) }"""
    after = model(text, 8, ir=3)
    versions.convert(after, 13)
    assert [info.name for info in after.proto().graph.input] == ["x"]


def test_the_same_opset_changes_nothing() -> None:
    same = model(CHAIN, 12)
    assert versions.convert(same, 12) == 0


def test_a_refusal_says_how_far_a_node_goes() -> None:
    text = "main (float[N, 4] x) => (float[N, 4] y) { h = Relu (x) [act] y = Mish (h) }"
    assert refusal(text, 18, 13) == (
        "Mish 'act' does not go to opset 13: the operator is new in opset 18; "
        "opset 18 is as far as it goes"
    )


def test_an_operator_that_onnx_does_not_know_is_refused() -> None:
    text = "main (float[N] x) => (float[N] y) { y = Rellu (x) }"
    assert "has no such operator" in refusal(text, 12, 13)


@settings(
    max_examples=25,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(graphs(), st.sampled_from((11, 13, 17, 21, 22)))
def test_random_models_compute_the_same_wherever_they_go(
    proto: onnx.ModelProto, target: int
) -> None:
    before = Model.from_proto(proto)
    try:
        versions.convert(before.copy(), target)
    except PassError:
        return
    _, report = Pipeline((ConvertOpset(target),), check="each")(before)
    assert all("Could not find an implementation" in text for text in report.warnings)


# One call -----------------------------------------------------------------------------------------


def test_slim_converts_first() -> None:
    text = """main (float[2, 4] x) => (float[2, 4] y)
      <float k = {1.4142135}, float one = {1}, float h = {0.5}>
      { a = Div(x, k) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, h) }"""
    small = onnxslim.slim(model(text, 13), target_opset=20)
    assert [node.op_type for node in small.graph.node] == ["Gelu"]


def test_a_model_that_cannot_be_converted_is_refused() -> None:
    text = "main (float[N] x) => (float[N] y) { y = Gelu (x) }"
    with pytest.raises(InputError, match="Gelu"):
        onnxslim.slim(model(text, 20), target_opset=13)


def test_a_conversion_that_fails_its_checks_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def differ(*_: object) -> None:
        raise BrokenModel("no kernel")

    monkeypatch.setattr("onnxslim.pipeline.check_structure", differ)
    with pytest.raises(BrokenModel, match="could not be kept in opset 22: no kernel"):
        onnxslim.run(model(CHAIN, 12), target_opset=22)


def test_an_opset_that_onnxruntime_does_not_load_is_refused() -> None:
    with pytest.raises(InputError, match="too new"):
        onnxslim.slim(model(CHAIN, 12), target_opset=99)


def test_weights_in_other_files_stay_there(tmp_path: Path) -> None:
    text = """main (float[N, 64] x) => (float[?, ?] y)
              { u = MatMul(x, w) y = ReduceSum <axes = [1]> (u) }"""
    proto = holding(model(text, 12), w=np.ones((64, 64), np.float32)).proto()
    onnx.save(proto, tmp_path / "in.onnx", save_as_external_data=True, size_threshold=0)
    onnxslim.slim(tmp_path / "in.onnx", tmp_path / "out.onnx", target_opset=21, external_data=True)
    assert onnx.load(tmp_path / "out.onnx").opset_import[0].version == 21
