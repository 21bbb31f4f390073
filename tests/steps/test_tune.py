"""Tuning as a step of a pipeline."""

from __future__ import annotations

import importlib.util
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from kit import holding, model
from onnxslim import Calibration, Model, Pipeline, parse
from onnxslim.errors import BudgetMissed, MissingData
from onnxslim.steps.tune import Tune


def net() -> Model:
    rng = np.random.default_rng(0)
    return holding(
        model("""g (float[N, 8] x) => (float[N, 4] y) <float[8, 16] w, float[16, 4] v> {
            a = MatMul(x, w) r = Relu(a) y = MatMul(r, v)
        }"""),
        w=rng.normal(size=(8, 16)).astype(np.float32),
        v=rng.normal(size=(16, 4)).astype(np.float32),
    )


def data() -> Calibration:
    values = np.random.default_rng(1).normal(size=(64, 1, 8)).astype(np.float32)
    return Calibration.of([{"x": value} for value in values])


def run(spec: str, budget: float | None = np.inf) -> tuple[Model, Any]:
    return Pipeline(parse(spec), budget=budget)(net(), data())


def test_says_that_pytorch_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingData, match="tune needs PyTorch: pip install"):
        run("tune")


def test_wins_back_what_pruning_lost_and_keeps_its_zeros() -> None:
    pytest.importorskip("torch")
    _, lost = run("prune{sparsity=0.5}")
    after, won = run("prune{sparsity=0.5},tune{epochs=5,batch=8}")
    assert won.validation.sqnr > lost.validation.sqnr + 1
    assert all((t.values == 0).mean() == 0.5 for t in after.constants())


def test_zeros_grow_while_it_tunes() -> None:
    pytest.importorskip("torch")
    after, report = run("tune{epochs=5,batch=8,sparsity=0.75}")
    zeros = sum(int((t.values == 0).sum()) for t in after.constants())
    assert zeros == 144
    assert report.steps[0].changes


def test_options_of_the_step_are_those_of_the_tuner() -> None:
    pytest.importorskip("torch")
    from onnxslim.tune import Options

    chosen = Options()
    assert all(f.default == getattr(chosen, f.name) for f in fields(Tune))


def test_where_no_limit_is_given_what_was_held_out_judges() -> None:
    pytest.importorskip("torch")
    _, report = run("tune{epochs=9,batch=8,sparsity=0.2,lr=0.02}", budget=None)
    assert report.validation.held_out.metric == "relative error"
    assert report.validation.held_out.score < 0.1


def test_too_much_taken_away_is_no_result() -> None:
    pytest.importorskip("torch")
    with pytest.raises(BudgetMissed, match="held out, the relative error with the original is"):
        run("tune{epochs=1,batch=8,sparsity=0.9}", budget=None)


def test_a_limit_that_is_given_is_the_one_that_counts() -> None:
    pytest.importorskip("torch")
    _, report = run("tune{epochs=1,batch=8,sparsity=0.2}", budget=1e-6)
    assert "more than 1e-06" in report.steps[0].skipped


def test_what_comes_after_it_is_not_judged_by_it() -> None:
    pytest.importorskip("torch")
    _, report = run("tune{epochs=9,batch=8,sparsity=0.2,lr=0.02},share{values=4}", budget=None)
    assert "more than 0.1" in report.steps[1].skipped


def test_what_a_pass_has_made_is_tuned_too() -> None:
    pytest.importorskip("torch")
    _, before = run("factorize-low-rank{rank=1}")
    _, after = run("factorize-low-rank{rank=1},tune{epochs=60,batch=8,lr=0.1}")
    assert after.validation.sqnr > before.validation.sqnr + 0.5


def test_labels_say_that_outputs_are_scores() -> None:
    pytest.importorskip("torch")
    values = np.random.default_rng(1).normal(size=(64, 1, 8)).astype(np.float32)
    labels = np.arange(64) % 4
    given = Calibration(lambda: iter([{"x": v} for v in values]), "made", labels=labels)
    _, report = Pipeline(parse("tune{epochs=3}"), budget=np.inf)(net(), given)
    assert report.steps[0].notes[0]["metric"] == "agreement"
