"""Weights that become zeros."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kit import holding, model
from onnxslim import Calibration, Model, Pipeline, api, parse
from onnxslim.cli import main
from onnxslim.errors import DataError, MissingData
from onnxslim.ir import Array
from onnxslim.passes.prune.prune import Prune

RNG = np.random.default_rng(0)


def product(weights: Array) -> Model:
    k, n = weights.shape
    text = f"g (float[N, {k}] x) => (float[N, {n}] y) <float[{k}, {n}] w> {{ y = MatMul(x, w) }}"
    return holding(model(text), w=weights.astype(np.float32))


def chain(first: Array, second: Array) -> Model:
    (k, m), n = first.shape, second.shape[1]
    text = f"""g (float[N, {k}] x) => (float[N, {n}] y)
    <float[{k}, {m}] w, float[{m}, {n}] v> {{ a = MatMul(x, w) y = MatMul(a, v) }}"""
    return holding(model(text), w=first.astype(np.float32), v=second.astype(np.float32))


def correlated(width: int) -> Calibration:
    mixing = RNG.normal(size=(width, width)) * np.geomspace(1, 0.01, width)
    feeds = RNG.normal(size=(8, 32, width)) @ mixing.T
    return Calibration.of([{"x": feed.astype(np.float32)} for feed in feeds])


def pruned(before: Model, step: Prune, data: Any = None, **given: Any) -> tuple[Model, Any]:
    pipeline = Pipeline((step,), budget=np.inf, **given)
    after, report = pipeline(before, data)
    return after, report.steps[0]


def weights(of: Model, name: str = "w") -> Array:
    return next(t.values for t in of.constants() if t.name == name)


@pytest.mark.parametrize("criterion", ["magnitude", "obs"])
@pytest.mark.parametrize("sparsity", [0.5, 0.9])
def test_so_many_weights_become_zeros_and_again_no_more(criterion: Any, sparsity: float) -> None:
    step = Prune(sparsity, criterion)
    after, _ = pruned(product(RNG.normal(size=(40, 10))), step, correlated(40))
    assert (weights(after) == 0).mean() == pytest.approx(sparsity, abs=0.01)
    again, said = pruned(after, step, correlated(40))
    assert said.changes == 0
    assert again is after


@pytest.mark.parametrize("criterion", ["obs", "fisher"])
def test_zeros_count_wherever_they_are(criterion: Any) -> None:
    before = RNG.normal(size=(256, 6))
    before[128:] = 0
    importance = {"w": np.where(np.arange(256) < 200, 0.0, 1.0)[:, None] * np.ones((256, 6))}
    after, _ = pruned(
        product(before), Prune(0.6, criterion), correlated(256), importance=importance
    )
    assert (weights(after) == 0).mean() == pytest.approx(0.6, abs=0.002)


def test_in_a_pattern_zeros_go_before_small_weights() -> None:
    importance = {"w": np.zeros((4, 1))}
    before = product(np.array([[1.0], [2.0], [3.0], [0.0]]))
    step = Prune(0.9, "magnitude-fisher", pattern="3:4")
    assert pruned(before, step, importance=importance)[1].changes == 0


def test_a_share_is_not_rounded_up_beyond_itself() -> None:
    after, _ = pruned(product(RNG.normal(size=(10, 10))), Prune(0.07))
    assert (weights(after) == 0).sum() == 7


def test_says_where_weights_that_stay_are_not_adjusted() -> None:
    text = """g (float[5, 1, 8] x) => (float[5, 1, 1, 4] y)
    <float[1, 16, 8] w, float[1, 16, 4] r> { y = LSTM<hidden_size = 4>(x, w, r) }"""
    arrays = {n: RNG.normal(size=(1, 16, k)).astype(np.float32) for n, k in (("w", 8), ("r", 4))}
    data = Calibration.of([{"x": RNG.normal(size=(5, 1, 8)).astype(np.float32)}])
    after, said = pruned(holding(model(text), **arrays), Prune(0.5, compensate=True), data)
    assert (weights(after) == 0).mean() == 0.5
    assert list(said.declined) == [
        "weights that stay are not adjusted: what it reads is not observed"
    ]


def test_the_smallest_go() -> None:
    after, _ = pruned(product(np.array([[3.0, -0.1], [0.2, -4.0]])), Prune(0.5))
    assert np.array_equal(weights(after), np.array([[3, 0], [0, -4]]))


def test_weights_that_stay_make_up_for_those_that_go() -> None:
    lost = np.zeros(3)
    for _ in range(12):
        before, data = product(RNG.normal(size=(64, 16))), correlated(64)
        rows = np.concatenate([feed["x"] for feed in data])
        steps = Prune(0.7, "obs"), Prune(0.7, compensate=True), Prune(0.7)
        results = [weights(pruned(before, step, data)[0]) for step in steps]
        lost += [np.square(rows @ (weights(before) - made)).sum() for made in results]
    assert lost[0] < lost[1]
    assert lost[1] < 0.9 * lost[2]


@pytest.mark.parametrize("criterion", ["magnitude", "obs"])
def test_two_of_four_in_a_row_stay(criterion: Any) -> None:
    after, _ = pruned(
        product(RNG.normal(size=(64, 6))), Prune(0, criterion, pattern="2:4"), correlated(64)
    )
    assert ((weights(after).T.reshape(6, 16, 4) != 0).sum(-1) <= 2).all()
    assert (weights(after) != 0).mean() == 0.5


def test_among_all_layers_no_layer_loses_everything() -> None:
    small = 1e-3 * RNG.normal(size=(20, 20))
    after, _ = pruned(chain(RNG.normal(size=(20, 20)), small), Prune(0.8, scope="model"))
    zeros = [(weights(after, name) == 0).sum() for name in "wv"]
    assert sum(zeros) == 640
    assert max(zeros) < 360


def test_small_weights_first_then_those_that_tell_little() -> None:
    importance = {"w": np.array([[1.0, 9.0], [2.0, 3.0]])}
    before = product(np.array([[5.0, 1.0], [4.0, 3.0]]))
    after, _ = pruned(before, Prune(0.5, "magnitude-fisher"), importance=importance)
    assert np.array_equal(weights(after), np.array([[0, 0], [4, 3]]))


def test_what_the_loss_needs_stays() -> None:
    importance = {"w": np.array([[1.0, 100.0], [1.0, 1.0]])}
    before = product(np.array([[5.0, 1.0], [4.0, 3.0]]))
    after, _ = pruned(before, Prune(0.5, "fisher"), importance=importance)
    assert np.array_equal(weights(after), np.array([[5, 1], [0, 0]]))


def test_convolutions_in_groups() -> None:
    text = """g (float[1, 4, 6, 6] x) => (float[1, 6, 4, 4] y) <float[6, 2, 3, 3] w> {
        y = Conv<group = 2>(x, w) }"""
    before = holding(model(text), w=RNG.normal(size=(6, 2, 3, 3)).astype(np.float32))
    feeds = [{"x": RNG.normal(size=(1, 4, 6, 6)).astype(np.float32)} for _ in range(8)]
    after, said = pruned(before, Prune(0.5, "obs"), Calibration.of(feeds))
    assert (weights(after) == 0).sum() >= 54
    assert 0 < said.notes[0]["error"] < 0.5


@pytest.mark.parametrize(
    ("step", "lacking"),
    [(Prune(criterion="obs"), "calibration data"), (Prune(criterion="fisher"), "--importance")],
)
def test_says_what_is_lacking(step: Prune, lacking: str) -> None:
    with pytest.raises(MissingData, match=lacking):
        Pipeline((step,))(product(np.ones((2, 2))))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"v": np.ones((2, 2))}, "no initializer has such a name"),
        ({"w": np.ones(2)}, r"shape \(2,\), the weight of \(2, 2\)"),
        ({"w": -np.ones((2, 2))}, "negative"),
        ({"w": np.full((2, 2), np.nan)}, "NaN"),
    ],
)
def test_importance_that_does_not_fit(given: Any, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        api.run(product(np.eye(2)), "prune{criterion=fisher}", importance=given)


def test_importance_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    product(np.array([[5.0, 1.0], [4.0, 3.0]])).save(tmp_path / "m.onnx")
    np.savez(tmp_path / "i.npz", w=np.array([[1.0, 100.0], [1.0, 1.0]]), other=np.ones(1))
    command = [str(tmp_path / "m.onnx"), "-o", str(tmp_path / "o.onnx"), "--max-error", "9"]
    command += ["-p", "prune{criterion=fisher}", "--importance", str(tmp_path / "i.npz")]
    assert main(command) == 0
    assert "no initializer is called other" in capsys.readouterr().err
    assert np.array_equal(weights(Model.load(tmp_path / "o.onnx")), np.array([[5, 1], [0, 0]]))
    (tmp_path / "i.npz").write_bytes(b"PK nothing")
    assert main(command) == 2


def test_a_table_that_is_looked_up_stays() -> None:
    text = "g (int64[N] x) => (float[N, 4] y) <float[8, 4] w> { y = Gather(w, x) }"
    before = holding(model(text), w=RNG.normal(size=(8, 4)).astype(np.float32))
    _, said = pruned(before, Prune(0.5))
    assert said.changes == 0
    assert list(said.declined) == ["it looks rows up, and sums nothing"]


@pytest.mark.parametrize("options", [{"sparsity": 1.0}, {"pattern": "2"}, {"pattern": "4:4"}])
def test_refuses_what_cannot_be(options: Any) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Prune(**options)


def test_other_layers_stay_as_they_are() -> None:
    before = chain(RNG.normal(size=(8, 8)), RNG.normal(size=(8, 8)))
    after, _ = Pipeline(parse("prune{sparsity=0.5}@v"), budget=np.inf)(before)
    assert (weights(after, "w") != 0).all()
    assert (weights(after, "v") == 0).sum() == 32
