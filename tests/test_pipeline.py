"""Pipelines: rounds, checks, and what becomes of passes that fail."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from onnx import TensorProto

from kit import model, operators
from onnxslim import Calibration, Context, Effect, Model, Pass, Pipeline, opset_at_least, shapes
from onnxslim.data import InputSpec
from onnxslim.errors import DataError, MissingData, ModelError, PassError
from onnxslim.ir import Node, Variable
from onnxslim.passes.simplify.drop_identity import DropIdentity
from onnxslim.pipeline import Check
from onnxslim.registry import parse
from onnxslim.validate import Reference

ENCODER = Path(__file__).parents[1] / "models/transformer_encoder/model.onnx"
CHECKS: list[Check] = ["each", "end"]
EVERY_CHECK = pytest.mark.parametrize("check", CHECKS)


def chain(identities: int = 1) -> Model:
    """Identities between a Relu and a Tanh."""
    nodes = [f"t{i + 1} = Identity(t{i})" for i in range(identities)]
    return model(
        "g (float[N, 3] x) => (float[N, 3] y) {"
        f"t0 = Relu(x) {' '.join(nodes)} y = Tanh(t{identities})"
        "}"
    )


@dataclass(frozen=True)
class Edit(Pass):
    """Do something to the first node of an operator; the base of passes in these tests."""

    name = "edit"
    effect = Effect.EXACT
    op: ClassVar[str] = "Relu"

    def apply(self, model: Model, context: Context) -> int:
        for node in model.nodes():
            if node.op == self.op:
                self.edit(model, node)
                return 1
        return 0

    def edit(self, model: Model, node: Any) -> None:
        raise NotImplementedError


class Wrong(Edit):
    """Compute something else."""

    name = "wrong"

    def edit(self, model: Model, node: Any) -> None:
        node.op = "Neg"


class Crash(Edit):
    """Divide by zero."""

    name = "crash"

    def edit(self, model: Model, node: Any) -> None:
        node.op = "Neg"
        raise ZeroDivisionError("by zero")


class CrashLater(Crash):
    """Divide by zero where another pass has been."""

    name = "crash-later"
    op = "Neg"


class Refuse(Edit):
    """Raise an error of the house."""

    name = "refuse"

    def edit(self, model: Model, node: Any) -> None:
        raise PassError("not on a Monday")


class Invalid(Edit):
    """Leave a graph that is no ONNX."""

    name = "invalid"

    def edit(self, model: Model, node: Any) -> None:
        node.attrs = {"alpha": 1.0}


class Rename(Edit):
    """Rename an output of the model."""

    name = "rename"
    op = "Tanh"

    def edit(self, model: Model, node: Any) -> None:
        if node.outputs[0].name == "y":
            node.outputs[0].name = "z"


class RenameCustom(Rename):
    """Rename the output of an operator that onnxruntime does not know."""

    name = "rename-custom"
    op = "Whatever"


class Scribble(Edit):
    """Write into a weight, which is shared with the caller's model."""

    name = "scribble"
    op = "Add"

    def edit(self, model: Model, node: Any) -> None:
        node.inputs[1].values[:] = 0


class Slow(Edit):
    """Drop one Identity at a time."""

    name = "slow"
    op = "Identity"

    def edit(self, model: Model, node: Any) -> None:
        (reader,) = node.outputs[0].outputs
        reader.inputs[0] = node.inputs[0]
        node.erased = True
        node.inputs.clear()


class Swell(Pass):
    """Give an inner tensor a long name."""

    name = "swell"
    effect = Effect.EXACT
    by: ClassVar[int] = 200

    def apply(self, model: Model, context: Context) -> int:
        tensor = next(model.nodes()).outputs[0]
        if len(tensor.name) >= self.by:
            return 0
        tensor.name = "t" * self.by
        return 1


class SwellOnPurpose(Swell):
    """Give an inner tensor a long name, and say so."""

    name = "swell-on-purpose"
    may_grow = True


class Fold(Edit):
    """Give negative values back as positive ones."""

    name = "fold"
    effect = Effect.LOSSY

    def edit(self, model: Model, node: Any) -> None:
        node.op = "Abs"


class Hungry(Edit):
    """Need calibration data."""

    name = "hungry"
    needs_data = True


class Modern(Edit):
    """Need a newer opset."""

    name = "modern"
    preconditions = (opset_at_least(99),)


def test_the_input_stays_untouched() -> None:
    before = chain()
    frozen = before.to_bytes()
    after, report = Pipeline((DropIdentity(),))(before)
    assert operators(after) == ["Relu", "Tanh"]
    assert after is not before
    assert before.to_bytes() == frozen
    assert report.changed


# Rounds -------------------------------------------------------------------------------------------


@EVERY_CHECK
def test_passes_are_repeated_until_nothing_changes(check: Check) -> None:
    after, report = Pipeline((Slow(),), check=check)(chain(5))
    assert operators(after) == ["Relu", "Tanh"]
    assert report.steps[0].changes == 5


def test_rounds_are_bounded() -> None:
    after, report = Pipeline((Slow(),), rounds=2)(chain(5))
    assert operators(after).count("Identity") == 3
    assert report.steps[0].changes == 2


def test_a_round_without_changes_is_the_last() -> None:
    calls: list[str] = []
    Pipeline((Slow(), DropIdentity()))(chain(1), progress=lambda what, *_: calls.append(what))
    assert calls == [
        "round 1: slow",
        "round 1: drop-identity",
        "round 2: slow",
        "round 2: drop-identity",
        "validating",
    ]


def test_without_changes_the_input_itself_is_returned() -> None:
    before = chain(0)
    after, report = Pipeline((DropIdentity(),))(before)
    assert after is before
    assert not report.changed
    assert report.before == report.after
    assert report.validation.passed is None
    assert report.validation.reason == "nothing changed"


def test_an_empty_pipeline_does_nothing() -> None:
    before = chain()
    after, report = Pipeline(())(before)
    assert after is before
    assert report.steps == ()
    assert Pipeline(()).effect is Effect.EXACT


# Passes that fail ---------------------------------------------------------------------------------


@EVERY_CHECK
@pytest.mark.parametrize(
    ("guilty", "reason"),
    [
        (Wrong(), "output 'y' moved by"),
        (Crash(), "crash crashed: ZeroDivisionError: by zero"),
        (Refuse(), "refuse: not on a Monday"),
        (Invalid(), "the result is not valid ONNX"),
        (Rename(), "the outputs y became z"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_guilty_pass_is_left_out_and_the_others_work_is_kept(
    guilty: Pass, reason: str, check: Check
) -> None:
    before = chain(2)
    frozen = before.to_bytes()
    after, report = Pipeline((Slow(), guilty, DropIdentity()), check=check)(before)
    assert operators(after) == ["Relu", "Tanh"]
    assert before.to_bytes() == frozen
    assert report.validation.passed
    slow, left_out, drop = report.steps
    assert (slow.changes, left_out.changes, drop.changes) == (1, 0, 1)
    assert (slow.skipped, drop.skipped) == (None, None)
    assert reason in (left_out.skipped or "")
    (warning,) = report.warnings
    assert warning.startswith(f"{guilty.name} was left out on this model: ")
    assert reason in warning


@EVERY_CHECK
def test_when_only_the_guilty_pass_did_something_the_input_is_returned(check: Check) -> None:
    before = chain(0)
    after, report = Pipeline((Wrong(),), check=check)(before)
    assert after is before
    assert not report.changed
    assert report.before == report.after
    assert len(report.warnings) == 1


def test_the_report_measures_what_is_returned_after_a_second_run() -> None:
    after, report = Pipeline((Wrong(), DropIdentity()))(chain(1))
    assert report.after.ops == {"Relu": 1, "Tanh": 1}
    assert report.after.bytes == after.size()


def test_the_search_for_the_guilty_pass_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Pipeline((Wrong(),))(chain(1))
    assert "looking for the pass that did it" in caplog.text


def test_writing_into_weights_fails_loudly() -> None:
    before = model("g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Add(x, w) }")
    after, report = Pipeline((Scribble(),))(before)
    assert after is before
    assert "read-only" in report.warnings[0]


def test_without_checks_nobody_notices() -> None:
    after, report = Pipeline((Wrong(),), check="off")(chain(1))
    assert operators(after) == ["Neg", "Identity", "Tanh"]
    assert report.validation.passed is None
    assert report.validation.reason == "switched off"
    assert not report.warnings


def test_without_checks_only_what_crashes_is_left_out() -> None:
    after, report = Pipeline((Wrong(), CrashLater()), check="off", rounds=1)(chain())
    assert operators(after) == ["Neg", "Identity", "Tanh"]
    assert len(report.warnings) == 1
    assert report.warnings[0].startswith("crash-later was left out")


def test_a_lossy_pass_has_a_budget() -> None:
    before = model("g (float[N, 3] x) => (float[N, 3] y) { a = Abs(x) b = Relu(a) y = Tanh(b) }")
    after, report = Pipeline((Fold(),))(before)  # nothing there is negative
    assert operators(after) == ["Abs", "Abs", "Tanh"]
    assert report.validation.passed
    wrong, report = Pipeline((Fold(),))(chain(0))
    assert operators(wrong) == ["Relu", "Tanh"]
    assert "fold was left out" in report.warnings[0]
    generous, report = Pipeline((Fold(),), budget=10.0)(chain(0))
    assert operators(generous) == ["Abs", "Tanh"]
    assert report.validation.relative is not None
    assert 0.05 < report.validation.relative < 10


SLOPE = "g (float[N, 3] x) => (float[N, 3] y) { y = LeakyRelu <alpha = 0.3> (x) }"
NORMAL = Calibration.of([{"x": np.linspace(-2, 2, 300, dtype=np.float32).reshape(100, 3)}])


class Flatten(Edit):
    """Cut negative values off, which costs about 12 dB."""

    name = "flatten"
    effect = Effect.LOSSY
    op = "LeakyRelu"

    def edit(self, model: Model, node: Any) -> None:
        node.op = "Relu"
        node.attrs.clear()


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, False),
        ({"budget": 0.5}, True),
        ({"min_sqnr": 3.0}, True),
        ({"min_sqnr": 40.0}, False),
        ({"budget": 0.01, "min_sqnr": 3.0}, False),
        ({"budget": 0.5, "min_sqnr": 40.0}, False),
    ],
)
def test_lossy_passes_keep_to_an_error_or_a_signal_to_noise_ratio(
    options: dict[str, float], kept: bool
) -> None:
    _, report = Pipeline((Flatten(),), **options)(model(SLOPE), NORMAL)  # type: ignore[arg-type]
    assert report.changed == kept


@pytest.mark.parametrize("options", [{}, {"min_sqnr": 40.0}])
def test_says_which_option_would_allow_it(options: dict[str, float]) -> None:
    _, refused = Pipeline((Flatten(),), **options)(model(SLOPE), NORMAL)  # type: ignore[arg-type]
    found = re.search(r"; --(max-error|min-sqnr) (\S+) would allow it", refused.warnings[0])
    assert found is not None
    name = {"max-error": "budget", "min-sqnr": "min_sqnr"}[found[1]]
    options = {name: float(found[2])}
    _, allowed = Pipeline((Flatten(),), **options)(model(SLOPE), NORMAL)  # type: ignore[arg-type]
    assert allowed.changed


def test_integers_are_not_judged_by_noise_alone() -> None:
    text = "g (float[N, 3] x) => (int64[N, 3] y) { r = LeakyRelu (x) y = Cast <to = 7> (s) }"
    text = text.replace("r = LeakyRelu (x)", "r = LeakyRelu <alpha = 9.0> (x) s = Mul(r, r)")
    _, report = Pipeline((Flatten(),), min_sqnr=-100.0)(model(text))
    assert not report.changed


@dataclass(frozen=True)
class Once(Pass):
    """Flatten, then say that this was done before."""

    name = "once"
    effect = Effect.LOSSY

    def apply(self, model: Model, context: Context) -> int:
        found = next(iter(model.nodes()))
        context.decline(found, "too steep" if found.op == "LeakyRelu" else "done before")
        return Flatten().apply(model, context)


def test_reasons_of_a_lossy_pass_are_those_of_its_first_change() -> None:
    _, report = Pipeline((Once(),), budget=1.0)(model(SLOPE))
    assert report.steps[0].declined == {"too steep": 1}


# What passes ask for ------------------------------------------------------------------------------


def test_a_pass_without_its_data_does_not_start() -> None:
    with pytest.raises(MissingData, match="hungry needs calibration data"):
        Pipeline((DropIdentity(), Hungry()))(chain())


def test_a_pass_gets_the_data() -> None:
    seen: list[Calibration | None] = []

    @dataclass(frozen=True)
    class Reader(Pass):
        """Look at the calibration data."""

        name = "reader"
        effect = Effect.EXACT
        needs_data = True

        def apply(self, model: Model, context: Context) -> int:
            seen.append(context.data)
            return 0

    data = Calibration.of([{"x": np.ones((2, 3), np.float32)}])
    Pipeline((Reader(),))(chain(), data)
    assert seen == [data]


@dataclass(frozen=True)
class Guess(Pass):
    """Change the model a little, having looked at the data or not."""

    name = "guess"
    effect = Effect.LOSSY
    looks: bool = True

    def apply(self, model: Model, context: Context) -> int:
        if self.looks:
            list(context.calibration())
        return DropIdentity().apply(model, context)


@pytest.mark.parametrize(
    ("looks", "made_up", "warned"),
    [
        (True, True, True),
        (True, False, False),
        (False, True, False),
    ],
)
def test_a_lossy_pass_warns_of_made_up_data(looks: bool, made_up: bool, warned: bool) -> None:
    feeds = [{"x": np.ones((2, 3), np.float32)}]
    data = Calibration(lambda: feeds, synthetic=made_up)
    _, report = Pipeline((Guess(looks),))(chain(), data)
    warning = "guess: calibrated on made-up data: expect a loss of accuracy"
    assert report.warnings == ((warning,) if warned else ())


def test_data_that_do_not_fit_are_the_users_matter() -> None:
    feeds = [{"x": np.full((2, 3), v, np.float32)} for v in (*[1.0] * 20, np.nan)]
    data = Calibration.of(feeds, [InputSpec("x", TensorProto.FLOAT, ("N", 3))])
    with pytest.raises(DataError, match="sample 20: input 'x' holds NaN"):
        Pipeline((Guess(),))(chain(), data)


def test_data_are_what_the_result_is_compared_on() -> None:
    feeds = [{"x": np.full((n, 3), n, np.float32)} for n in (1, 2, 3, 4)]
    _, report = Pipeline((DropIdentity(),))(chain(), Calibration.of(feeds))
    assert report.validation.feeds == 4


def test_a_pass_that_does_not_fit_is_skipped_with_the_reason() -> None:
    after, report = Pipeline((Modern(), DropIdentity()))(chain())
    assert operators(after) == ["Relu", "Tanh"]
    assert report.steps[0].skipped == "needs opset 99, the model has 20"
    assert not report.warnings


def test_a_precondition_can_fail_after_other_passes() -> None:
    def has_an_identity(model: Model) -> str | None:
        return None if "Identity" in operators(model) else "no Identity is left"

    class Picky(Slow):
        """Drop one Identity while there are any."""

        name = "picky"
        preconditions: ClassVar[tuple[Callable[[Model], str | None], ...]] = (has_an_identity,)

    _, report = Pipeline((Picky(), DropIdentity()))(chain(2))
    assert report.steps[0].changes == 1
    assert report.steps[0].skipped == "no Identity is left"


# Size ---------------------------------------------------------------------------------------------


@EVERY_CHECK
def test_the_result_is_never_larger(check: Check) -> None:
    before = chain()
    after, report = Pipeline((Swell(), DropIdentity()), check=check)(before)
    assert after is before
    assert report.after == report.before
    (warning,) = report.warnings
    assert "bytes more than the input; the input is returned" in warning


def test_a_pass_whose_purpose_it_is_may_make_it_larger() -> None:
    before = chain()
    after, report = Pipeline((SwellOnPurpose(),))(before)
    assert after.size() > before.size()
    assert report.after.bytes > report.before.bytes
    assert not report.warnings


# Models that cannot be compared -------------------------------------------------------------------


def test_a_model_that_does_not_load_is_slimmed_without_comparison() -> None:
    before = model(
        "g (float[N] x) => (float[N] y) "
        "{ a = Identity(x) b = com.microsoft.Whatever(a) y = Abs(b) }"
    )
    after, report = Pipeline((DropIdentity(),))(before)
    assert operators(after) == ["Whatever", "Abs"]
    assert report.validation.passed is None
    assert report.validation.reason is not None
    assert report.validation.reason.startswith("onnxruntime cannot load the original")
    (warning,) = report.warnings
    assert warning == f"not validated: {report.validation.reason}"


def test_a_structural_fault_is_found_without_onnxruntime() -> None:
    before = model("g (float[N] x) => (float[N] y) { a = Relu(x) y = com.microsoft.Whatever(a) }")
    after, report = Pipeline((RenameCustom(),))(before)
    assert after is before
    assert "the outputs y became z" in report.warnings[0]


def test_an_invalid_input_is_refused() -> None:
    before = model("g (float[N] x) => (float[N] y) { y = Add(x, nowhere) }")
    with pytest.raises(ModelError, match="nowhere"):
        Pipeline((DropIdentity(),))(before)


def test_nodes_in_the_wrong_order_are_sorted() -> None:
    before = model("g (float[N] x) => (float[N] y) { y = Tanh(a) a = Identity(b) b = Relu(x) }")
    after, report = Pipeline((DropIdentity(),))(before)
    assert operators(after) == ["Relu", "Tanh"]
    assert report.validation.passed


# What is shared between passes


@pytest.fixture
def inferences(monkeypatch: pytest.MonkeyPatch) -> list[Model]:
    """The models that shapes were inferred of."""
    seen, infer = list[Model](), shapes.infer

    def count(of: Model, **options: Any) -> shapes.Facts:
        seen.append(of)
        return infer(of, **options)

    monkeypatch.setattr(shapes, "infer", count)
    return seen


def test_shapes_are_inferred_for_the_input_and_once_for_every_later_round(
    inferences: list[Model],
) -> None:
    after, _ = Pipeline((DropIdentity(),), check="off")(chain())
    assert operators(after) == ["Relu", "Tanh"]
    assert len(inferences) == 2  # the first serves round 1, the second also tells the result's size


@dataclass(frozen=True)
class Lengthen(Edit):
    """Put an Identity of a new tensor behind the first Relu, once."""

    name = "lengthen"

    def edit(self, model: Model, node: Any) -> None:
        old = node.outputs[0]
        made = Node("Identity", inputs=[Variable("m")], outputs=[old])
        old.inputs.remove(node)
        node.outputs = made.inputs
        node.op = "Neg"
        model.graph.nodes.insert(1, made)


def test_facts_know_what_was_made_before_anybody_asked(inferences: list[Model]) -> None:
    Pipeline((Lengthen(), DropIdentity()), rounds=1, check="off")(chain())
    assert len(inferences) == 3


def test_nodes_made_by_one_pass_are_found_by_the_next() -> None:
    steps = (DropIdentity(), Lengthen(), DropIdentity())
    after, _ = Pipeline(steps, rounds=1, check="off")(chain(0))
    assert operators(after) == ["Neg", "Tanh"]


@dataclass(frozen=True)
class Look(Pass):
    """Look at the shape of x, where *shapes*, and note what it is."""

    name = "look"
    effect = Effect.EXACT

    seen: list[Any]
    shapes: bool = True

    def apply(self, model: Model, context: Context) -> int:
        (node,) = (n for n in model.nodes() if n.op == "Tanh")
        self.seen.append(context.facts(model).dims(node.inputs[0]) if self.shapes else None)
        return 0


FREE = "g (float[N] x) => (float[M] y) { t = Relu(x) i = Identity(t) y = Tanh(i) }"
UNKNOWN = """g (float[N] x) => (float[M] y) {
    z = NonZero(x) f = Cast<to = 1>(z) i = Identity(f) y = Tanh(i)
}"""


@pytest.mark.parametrize(("text", "times"), [(FREE, 1), (UNKNOWN, 2)])
def test_a_pass_looks_again_where_facts_may_be_other_ones(text: str, times: int) -> None:
    look = Look([])
    Pipeline((DropIdentity(), look), check="off")(model(text))
    assert len(look.seen) == times


def test_a_pass_looks_again_at_what_changed() -> None:
    before, after = Look([], shapes=False), Look([], shapes=False)
    Pipeline((before, DropIdentity(), after), check="off")(model(FREE))
    assert (len(before.seen), len(after.seen)) == (2, 1)


@dataclass(frozen=True)
class Fix(Edit):
    """Fix the extent of the input, once: facts change, nodes do not."""

    name = "fix"

    def apply(self, model: Model, context: Context) -> int:
        (x,) = model.graph.inputs
        fixed, x.shape = x.shape == [3], [3]
        return int(not fixed)


def test_a_pass_looks_again_where_more_is_known() -> None:
    look = Look([])
    Pipeline((Look([]), Fix(), look), check="off")(model(FREE))
    assert look.seen[-1] == (3,)


ENCODER = Path(__file__).parents[1] / "models" / "transformer_encoder" / "model.onnx"


def test_a_pass_that_costs_a_fusion_of_onnxruntime_is_left_out() -> None:
    steps = parse("fold-constants,merge-reshapes,drop-identity")
    _, report = Pipeline(steps)(Model.load(ENCODER))
    skipped = {step.name: step.skipped for step in report.steps if step.skipped}
    assert "fuse 2 Attention less" in str(skipped.pop("merge-reshapes"))
    assert not skipped


def test_what_keeps_all_fusions_is_not_run_twice() -> None:
    _, report = Pipeline(parse("drop-identity"))(Model.load(ENCODER))
    assert report.warnings == ()


def test_a_lost_fusion_without_a_pass_to_blame_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reference, "fuses_less", lambda self, candidate: None)
    _, report = Pipeline(parse("lossless"))(Model.load(ENCODER))
    assert any("no single pass is to blame" in warning for warning in report.warnings)


def test_a_pass_that_finds_no_end_runs_once() -> None:
    @dataclass(frozen=True)
    class Endless(Pass):
        """Rename a tensor again and again."""

        name = "endless"
        effect = Effect.EXACT
        once = True

        def apply(self, model: Model, context: Context) -> int:
            next(iter(model.nodes())).outputs[0].name += "x"
            return 1

    _, report = Pipeline((Endless(), DropIdentity()))(chain())
    assert report.steps[0].changes == 1
