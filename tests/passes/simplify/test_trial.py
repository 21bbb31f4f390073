"""What the rules of a TrialPass may return, and when it is kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from kit import assert_declines, assert_rewrites, model
from onnxslim import Effect
from onnxslim.ir import Tensor
from onnxslim.passes.simplify._trial import Trial, TrialPass, TrialRule


def _first_part(trial: Trial) -> Tensor:
    return trial.new.Slice(trial.node.inputs[0], trial.ints([0]), trial.ints([2]), trial.ints([1]))


@dataclass(frozen=True)
class SliceSplits(TrialPass):
    """Take the first of the parts of a Split."""

    name = "slice-splits"
    effect = Effect.EXACT
    rules: ClassVar[Mapping[str, TrialRule]] = {"Split": _first_part}


TEXT = """g (float[2, 6] x) => (float[] y, float[] z) <int64[2] s = {2, 4}, int64[1] o = {0},
    int64[1] t = {2}, int64[1] u = {1}> {
    a = Slice(x, o, t, u) c = Abs(x) b, rest = Split<axis = 1>(c, s) y = Add(a, b) z = Neg(BETWEEN)
        }"""


def test_another_output_that_is_read() -> None:
    assert_declines(model(TEXT.replace("BETWEEN", "rest")), SliceSplits(), "another output")


def test_as_many_nodes_as_before() -> None:
    assert_declines(model(TEXT.replace("BETWEEN", "b")), SliceSplits(), "no node would go")


def _negated_twice(trial: Trial) -> Tensor:
    return trial.new.Neg(trial.new.Neg(trial.node.inputs[0]))


def test_more_nodes_than_before() -> None:
    @dataclass(frozen=True)
    class Worse(SliceSplits):
        rules: ClassVar[Mapping[str, TrialRule]] = {"Abs": _negated_twice}

    assert_declines(model(TEXT.replace("BETWEEN", "b")), Worse(), "no node would go")


def _even(trial: Trial) -> Tensor:
    trial.even = True
    return _first_part(trial)


def test_numbers_that_are_in_the_file_are_used_again() -> None:
    @dataclass(frozen=True)
    class Even(SliceSplits):
        rules: ClassVar[Mapping[str, TrialRule]] = {"Split": _even}

    before = model(TEXT.replace("BETWEEN", "b"))
    after = assert_rewrites(before, Even(), ["Slice", "Abs", "Slice", "Add", "Neg"])
    assert sorted(tensor.name for tensor in after.constants()) == ["o", "t", "u"]
