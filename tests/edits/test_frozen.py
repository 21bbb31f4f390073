"""Initializers that a caller may override become constants."""

from __future__ import annotations

import pytest

from kit import model
from onnxslim import Model, api
from onnxslim.edits import freeze_initializers
from onnxslim.ir import Constant

WEIGHTED = """g (float[2] x, float[2] w) => (float[2] y) <float[2] w = {1, 2}> { y = Mul(x, w) }"""


PRODUCT = """g (float[1, 2] x, float[2, 2] w) => (float[1, 2] y)
<float[2, 2] w = {1, 2, 3, 4}> { y = MatMul(x, w) }"""


def test_an_input_with_a_default_becomes_a_constant() -> None:
    of = model(WEIGHTED)
    assert freeze_initializers(of) == ["1 inputs with default values became constants"]
    (node,) = of.nodes()
    assert isinstance(node.inputs[1], Constant)
    assert node.inputs[1].values.tolist() == [1, 2]
    assert [info.name for info in of.proto().graph.input] == ["x"]


def test_what_a_subgraph_reads_becomes_a_constant_too() -> None:
    of = model("""g (bool c, float[2] w) => (float[2] y) <float[2] w = {1, 2}> {
        y = If(c) <then_branch = t () => (float[2] p) { p = Neg(w) },
                   else_branch = e () => (float[2] q) { q = Abs(w) }>
    }""")
    freeze_initializers(of)
    assert all(isinstance(n.inputs[0], Constant) for n in of.nodes() if n.op in ("Neg", "Abs"))


def test_initializers_need_not_be_inputs_any_more() -> None:
    of = model(WEIGHTED, opset=8, ir=3)
    assert freeze_initializers(of) == ["IR version 3 became 4"]
    proto = Model.from_proto(of.proto()).proto()
    assert proto.ir_version == 4
    assert [info.name for info in proto.graph.input] == ["x"]


def test_a_model_without_defaults_stays_as_it_is() -> None:
    of = model("g (float[2] x) => (float[2] y) { y = Neg(x) }")
    before = of.to_bytes()
    assert freeze_initializers(of) == []
    assert of.to_bytes() == before


def test_as_an_option() -> None:
    outcome = api.run(model(WEIGHTED), freeze_initializers=True)
    assert [info.name for info in outcome.model.proto().graph.input] == ["x"]
    assert "1 inputs with default values became constants" in outcome.report.warnings


@pytest.mark.parametrize("step", ["quantize-weights", "factorize-low-rank{ratio=0.5}"])
def test_what_callers_may_change_is_said(step: str) -> None:
    outcome = api.run(model(PRODUCT), step, max_error=1.0)
    (done,) = outcome.report.steps
    assert [reason for reason in done.declined if "--freeze-initializers" in reason]


@pytest.mark.parametrize("step", ["quantize-weights", "factorize-low-rank{ratio=0.5}"])
def test_constant_weights_are_none_that_callers_may_change(step: str) -> None:
    before = model("""g (float[1, 2] x) => (float[1, 2] y)
    <float[1, 2] x = {1, 2}, float[2, 2] w = {1, 2, 3, 4}> { y = MatMul(x, w) }""")
    (done,) = api.run(before, step, max_error=1.0).report.steps
    assert not [reason for reason in done.declined if "--freeze-initializers" in reason]


def test_the_namesakes_function_freezes_too() -> None:
    assert len(api.slim(model(PRODUCT), freeze_initializers=True).graph.input) == 1
