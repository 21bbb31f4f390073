"""Tuning as a step of a pipeline."""

from __future__ import annotations

import importlib.util
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from kit import holding, model
from onnxslim import Calibration, Model, Pipeline, parse
from onnxslim.errors import MissingData
from onnxslim.steps.tune import Tune

RNG = np.random.default_rng(0)


def net() -> Model:
    return holding(
        model("""g (float[N, 8] x) => (float[N, 4] y) <float[8, 16] w, float[16, 4] v> {
            a = MatMul(x, w) r = Relu(a) y = MatMul(r, v)
        }"""),
        w=RNG.normal(size=(8, 16)).astype(np.float32),
        v=RNG.normal(size=(16, 4)).astype(np.float32),
    )


def data() -> Calibration:
    values = np.random.default_rng(1).normal(size=(64, 1, 8)).astype(np.float32)
    return Calibration.of([{"x": value} for value in values])


def run(spec: str) -> tuple[Model, Any]:
    return Pipeline(parse(spec), budget=np.inf)(net(), data())


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
