"""The report: its keys are an interface."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kit import model
from onnxslim import Pipeline, Report, parse

TEXT = """
g (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y) <
    float[2, 2, 1, 1] w = {1, 2, 3, 4}, float[2] s = {1, 2}, float[2] b = {3, 4},
    float[2] m = {0, 1}, float[2] v = {1, 2}
> {
    a = Identity(x)
    c = Conv(a, w)
    y = BatchNormalization(c, s, b, m, v)
    dead = Relu(x)
}
"""
PASSES = parse("drop-dead,drop-identity,fuse-conv-bn")


@pytest.fixture(scope="module")
def report() -> Report:
    return Pipeline(PASSES)(model(TEXT))[1]


@pytest.fixture(scope="module")
def plain(report: Report) -> dict[str, Any]:
    """The report as a reader of the JSON sees it."""
    found: dict[str, Any] = json.loads(json.dumps(report.as_dict()))
    return found


def test_keys(plain: dict[str, Any]) -> None:
    assert list(plain) == [
        "before", "after", "steps", "validation", "seconds", "warnings", "versions",
    ]  # fmt: skip
    for side in ("before", "after"):
        assert list(plain[side]) == ["nodes", "ops", "parameters", "bytes", "macs"]
    for step in plain["steps"]:
        assert list(step) == [
            "pass", "effect", "changes", "seconds", "skipped", "declined", "difference", "notes",
        ]  # fmt: skip
    assert list(plain["validation"]) == [
        "feeds", "max_abs", "relative", "allowed", "onnxruntime", "passed", "sqnr",
        "reason", "held_out", "outputs",
    ]  # fmt: skip
    assert list(plain["versions"]) == [
        "onnxslim", "onnx", "onnxruntime", "onnx-graphsurgeon", "numpy", "scikit-learn",
    ]  # fmt: skip


def test_before_and_after(plain: dict[str, Any]) -> None:
    before, after = plain["before"], plain["after"]
    assert before["ops"] == {"BatchNormalization": 1, "Conv": 1, "Identity": 1, "Relu": 1}
    assert after["ops"] == {"Conv": 1}
    assert (before["nodes"], after["nodes"]) == (4, 1)
    assert (before["parameters"], after["parameters"]) == (12, 6)
    assert (before["macs"], after["macs"]) == (64, 64)
    assert before["bytes"] > after["bytes"] > 0


def test_steps_come_in_the_order_of_the_pipeline(plain: dict[str, Any]) -> None:
    assert [step["pass"] for step in plain["steps"]] == [step.name for step in PASSES]
    assert [step["effect"] for step in plain["steps"]] == ["exact", "exact", "rounding"]
    assert [step["changes"] for step in plain["steps"]] == [1, 1, 1]
    assert all(step["seconds"] >= 0 for step in plain["steps"])
    assert [step["difference"] for step in plain["steps"]] == [None] * 3


def test_validation(plain: dict[str, Any]) -> None:
    validation = plain["validation"]
    assert validation["passed"] is True
    assert validation["reason"] is None
    assert validation["feeds"] == 3
    assert 0 <= validation["relative"] <= validation["allowed"] == 1e-5
    assert validation["onnxruntime"] >= 0


def test_each_checked_step_says_how_far_the_outputs_moved() -> None:
    _, report = Pipeline(PASSES, check="each")(model(TEXT))
    found = json.loads(json.dumps(report.as_dict()))
    for step in found["steps"]:
        assert list(step["difference"]) == [
            "max_abs", "relative", "onnxruntime", "output", "allowed",
        ]  # fmt: skip
        assert step["difference"]["relative"] <= step["difference"]["allowed"]


def test_what_was_declined_is_counted_and_placed() -> None:
    text = TEXT.replace("dead = Relu(x)", "z = Relu(c)")
    text = text.replace(" y) <", " y, float[A, B, C, D] z) <")
    _, report = Pipeline(parse("fuse-conv-bn"))(model(text))
    (step,) = report.steps
    reason = "an inner result is read elsewhere too"
    assert step.declined == {reason: 1}
    assert step.places == (("BatchNormalization -> y", reason),)


def test_without_changes_both_sides_are_equal() -> None:
    _, report = Pipeline(PASSES)(model("g (float[N] x) => (float[N] y) { y = Relu(x) }"))
    plain = report.as_dict()
    assert plain["before"] == plain["after"]
    assert not report.changed
    assert plain["warnings"] == []


def test_the_report_is_the_same_every_time_but_for_the_seconds() -> None:
    first, second = (Pipeline(PASSES)(model(TEXT))[1].as_dict() for _ in range(2))
    for plain in (first, second):
        del plain["seconds"]
        for step in plain["steps"]:
            del step["seconds"]
    assert first == second


def test_every_key_is_documented(plain: dict[str, Any]) -> None:
    text = (Path(__file__).parents[1] / "docs" / "report.md").read_text(encoding="utf-8")
    keys = {*plain, *plain["before"], *plain["validation"], *(k for s in plain["steps"] for k in s)}
    assert {key for key in keys if f"`{key}`" not in text} == set()
