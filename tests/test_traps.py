"""Micro-models, one semantic trap each: every lossless pass together leaves them what they are.

They lie outside the checkout, in ``../shared/traps``; without them there is nothing to test.
"""

from collections import Counter
from pathlib import Path

import onnx
import pytest

import onnxslim
from onnxslim.ir import Model

TRAPS = sorted((Path(__file__).parents[2] / "shared" / "traps").glob("*.onnx"))
RANDOM = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"} | {
    "Bernoulli",
    "Multinomial",
    "Dropout",
}
NOT_COMPARABLE = {"custom_op_norun", "dropout_training_true", "random_like_cse"} | {
    "random_uniform_noinput"
}
"""What has no fixed output, or none at all."""

pytestmark = pytest.mark.skipif(not TRAPS, reason="../shared/traps is not here")


def interface(of: Model) -> tuple[list[bytes], list[bytes]]:
    """Return the declarations of inputs and outputs; fixed initializers are no inputs."""
    graph, inputs = of.proto().graph, {tensor.name for tensor in of.graph.inputs}
    return (
        [info.SerializeToString() for info in graph.input if info.name in inputs],
        [info.SerializeToString() for info in graph.output],
    )


def random_operators(of: Model) -> Counter[str]:
    return Counter(node.operator for node in of.nodes() if node.operator in RANDOM)


@pytest.mark.parametrize("trap", TRAPS, ids=lambda path: path.stem)
def test_a_trap(trap: Path) -> None:
    before = Model.load(trap)
    results = [onnxslim.run(before, seed=seed) for seed in (0, 1)]
    for after, report in ((result.model, result.report) for result in results):
        assert interface(after) == interface(before)
        assert after.size() <= before.size()
        assert report.after.nodes <= report.before.nodes
        if trap.stem == "custom_op_norun":
            continue
        onnx.checker.check_model(after.proto(), full_check=True)
        assert not report.warnings
        if report.changed and trap.stem not in NOT_COMPARABLE:
            assert report.validation.passed
            assert report.validation.feeds >= 2
    assert results[0].model.to_bytes() == results[1].model.to_bytes()


@pytest.mark.parametrize(
    "trap", [t for t in TRAPS if t.stem in NOT_COMPARABLE], ids=lambda path: path.stem
)
def test_random_operators_stay_random_and_distinct(trap: Path) -> None:
    before = Model.load(trap)
    assert random_operators(onnxslim.run(before).model) == random_operators(before)


def test_an_operator_that_nobody_can_run_passes_through_with_a_warning() -> None:
    (trap,) = (trap for trap in TRAPS if trap.stem == "custom_op_norun")
    before, result = Model.load(trap), onnxslim.run(trap)
    custom = [n for n in before.nodes() if n.domain]
    kept = [n for n in result.model.nodes() if n.domain]
    assert [(n.operator, n.attrs) for n in kept] == [(n.operator, n.attrs) for n in custom]
    assert any("not validated" in warning for warning in result.report.warnings)
