"""Every family of structured matrices, each layer the one that suits it."""

from typing import Any

import numpy as np
import pytest

from nets import net, weights
from onnxslim import Calibration, Model, Pipeline, parse
from onnxslim.errors import SpecError
from onnxslim.ir import Array
from onnxslim.passes.factorize.factorize import Factorize
from onnxslim.pipeline import Report


def data() -> Calibration:
    rng = np.random.default_rng(0)
    return Calibration.of([{"x": rng.standard_normal((40, 24)).astype(np.float32)} for _ in "abcd"])


def two_layers(w: Array, **options: Any) -> tuple[Model, Model, Report]:
    before = net("t = MatMul(x, w) r = Relu(t) y = MatMul(r, v)", x="float[N, 24]", rank=2,
                 w=w, v=weights(36, 24))  # fmt: skip
    after, report = Pipeline((Factorize(**options),), budget=1e9)(before, data())
    assert not report.warnings, report.warnings
    return before, after, report


def toeplitz() -> Array:
    rng = np.random.default_rng(0)
    places = np.arange(36) - np.arange(24)[:, None] + 23
    return np.asarray(rng.standard_normal(59)[places])


PLANTED = {
    "low rank": weights(24, 2) @ weights(2, 36),
    "Kronecker": np.kron(weights(4, 6), weights(6, 6)),
    "toeplitz": toeplitz(),
}


@pytest.mark.parametrize("family", PLANTED)
def test_finds_the_family(family: str) -> None:
    _, _, report = two_layers(PLANTED[family], ratio=0.3)
    note = report.steps[0].notes[0]
    assert note["family"] == family
    assert note["error"] < 1e-6


def test_keeps_the_share_of_every_layer() -> None:
    *_, report = two_layers(weights(24, 36), ratio=0.4)
    assert [note["layer"] for note in report.steps[0].notes] == ["w", "v"]
    assert all(note["parameters"] <= 0.4 * note["weights"] for note in report.steps[0].notes)


def test_keeps_the_bytes() -> None:
    before, after, _ = two_layers(weights(24, 36), bytes=5500)
    assert 4000 < after.size() <= 5500 < before.size()


def test_spends_bytes_where_they_help() -> None:
    *_, report = two_layers(PLANTED["low rank"], bytes=4500)
    errors = {note["layer"]: note["error"] for note in report.steps[0].notes}
    assert errors["w"] < 1e-6


def test_keeps_the_error_of_the_outputs() -> None:
    before, after, report = two_layers(weights(24, 36), error=0.5)
    assert after.size() < before.size()
    assert report.validation.relative is not None
    assert report.validation.relative < 0.7


def test_a_budget_that_is_kept_already_changes_nothing() -> None:
    before, after, _ = two_layers(weights(24, 36), bytes=10_000)
    assert after is before


def test_reports_the_frontier() -> None:
    narrow = weights(24, 4) @ weights(4, 36) + 0.1 * weights(24, 36)
    *_, report = two_layers(narrow, bytes=5000)
    assert "low rank" in report.steps[0].notes[0]["frontier"]


@pytest.mark.parametrize("spec", ["ratio=0.5,bytes=3", "ratio=2.0", "error=0.0"])
def test_refuses_what_cannot_be(spec: str) -> None:
    with pytest.raises(SpecError):
        parse(f"factorize{{{spec}}}")
