"""Weights that share values by a hash of their place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kit import assert_declines, holding, model, optimized
from onnxslim import Model, Pipeline, parse
from onnxslim.errors import SpecError
from onnxslim.passes.share.share_hashed import ShareHashed
from onnxslim.pipeline import Report
from onnxslim.runtime import Session

RNG = np.random.default_rng(0)
TEXT = "g (float[N, 256] x) => (float[N, 64] y) { y = MatMul(x, w) }"
TWO = """g (float[N, 256] x) => (float[N, 64] y, float[N, 32] z)
{ y = MatMul(x, w) z = MatMul(x, v) }"""


def product(w: Any, opset: int = 17) -> Model:
    return holding(model(TEXT, opset, 8), w=w.astype(np.float32))


def two() -> Model:
    v = RNG.normal(size=(256, 32)).astype(np.float32)
    return holding(model(TWO, 17, 8), w=RNG.normal(size=(256, 64)).astype(np.float32), v=v)


def hashed(before: Model, **options: Any) -> tuple[Model, Report]:
    after, report = Pipeline((ShareHashed(**options),), budget=1e9)(before)
    assert report.changed, report.steps[0].places
    return after, report


def restored(after: Model, optimize: bool = True, output: str = "y") -> Any:
    """Return the weights that the model multiplies by."""
    session = Session(after.to_bytes(), optimize=optimize)
    return session.run({"x": np.eye(256, dtype=np.float32)})[output]


def test_the_file_holds_the_values_alone() -> None:
    before = product(RNG.normal(size=(256, 64)))
    after, _ = hashed(before, ratio=1 / 16)
    assert after.size() < before.size() / 16 + 700


def test_weights_take_so_many_values_and_their_negatives() -> None:
    after, _ = hashed(product(RNG.normal(size=(256, 64))), ratio=1 / 64)
    assert len(np.unique(np.abs(restored(after)))) == 256


@pytest.mark.parametrize("optimize", [True, False])
def test_onnxruntime_computes_the_hash_that_values_were_fitted_to(optimize: bool) -> None:
    w = RNG.normal(size=(256, 64)).astype(np.float32)
    after, report = hashed(product(w))
    error = np.square(restored(after, optimize) - w).sum() / np.square(w).sum()
    assert error == pytest.approx(report.steps[0].notes[0]["error"], rel=1e-5)


def test_values_are_those_of_least_squares() -> None:
    w = RNG.normal(size=(256, 64)).astype(np.float32)
    after, _ = hashed(product(w), ratio=1 / 4)
    made = restored(after)
    assert float((made * (w - made)).sum()) == pytest.approx(0, abs=1e-2)


def test_places_of_one_value_have_nothing_in_common() -> None:
    after, _ = hashed(product(RNG.normal(size=(256, 64))), ratio=1 / 64)
    made = np.abs(restored(after)).astype(np.float64)
    assert abs(np.corrcoef(made[:-1].ravel(), made[1:].ravel())[0, 1]) < 0.05
    assert abs(np.corrcoef(made[:, :-1].ravel(), made[:, 1:].ravel())[0, 1]) < 0.05


def test_smaller_layers_read_the_hash_of_larger_ones() -> None:
    before = two()
    after, report = hashed(before, ratio=1 / 4)
    v = before.graph.initializers[1].values  # type: ignore[union-attr]
    error = np.square(restored(after, output="z") - v).sum() / np.square(v).sum()
    assert error == pytest.approx(report.steps[0].notes[1]["error"], rel=1e-5)


def test_onnxruntime_runs_the_same_operators_as_before() -> None:
    after, _ = hashed(two())
    assert optimized(after) == ["MatMul", "MatMul"]


def test_folding_leaves_the_values_alone() -> None:
    after, _ = hashed(product(RNG.normal(size=(256, 64))))
    again, _ = Pipeline(parse("lossless,lossless"))(after)
    assert again.size() <= after.size()


def test_small_weights_stay() -> None:
    text = "g (float[N, 4] x) => (float[N, 4] y) { y = MatMul(x, w) }"
    before = holding(model(text, 17, 8), w=np.eye(4, dtype=np.float32))
    assert_declines(before, ShareHashed(), "would grow")


def test_old_opsets_are_refused() -> None:
    assert_declines(product(RNG.normal(size=(256, 64)), 10), ShareHashed(), "needs opset 11")


@pytest.mark.parametrize("ratio", [0, 1, -0.5])
def test_ratios_that_make_no_sense_are_refused(ratio: float) -> None:
    with pytest.raises(SpecError):
        parse(f"share-hashed{{ratio={ratio}}}")
