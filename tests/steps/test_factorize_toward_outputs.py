"""Low rank that moves the outputs of the model, not of the layer, least."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nets import net, weights
from onnxslim import Calibration, Model, Pipeline, parse
from onnxslim.errors import MissingData, SpecError
from onnxslim.passes.factorize._lowrank import spectrum
from onnxslim.passes.factorize._metric import Metric
from onnxslim.runtime import Session

pytest.importorskip("torch")

RNG = np.random.default_rng(0)
FEEDS = [{"x": RNG.normal(size=(8, 48)).astype(np.float32)} for _ in range(64)]
TESTS = RNG.normal(size=(512, 48)).astype(np.float32)


def network(**others: Any) -> Model:
    """Make a net whose second layer reads a tenth of what the first one writes."""
    reading = weights(40, 6, seed=1)
    reading[4:] *= 0.01
    return net("a = MatMul(x, w) r = Relu(a) y = MatMul(r, v)", x="float[N, 48]", rank=2,
               w=weights(48, 40), v=reading, **others)  # fmt: skip


def moved(spec: str) -> float:
    """Return how far a pass moves the outputs, relative to their size."""
    before = network()
    after, report = Pipeline(parse(spec), check="off")(before, Calibration.of(FEEDS))
    assert report.changed, report.steps[0].declined
    old, new = (Session(of.to_bytes(), optimize=False).run({"x": TESTS})["y"]
                for of in (before, after))  # fmt: skip
    return float(np.linalg.norm(new - old) / np.linalg.norm(old))


def test_what_nothing_reads_may_move() -> None:
    budget = "{parameters=1400}"
    toward = moved(f"factorize-toward-outputs{budget}")
    assert toward < 0.5 * moved(f"factorize-low-rank{budget}")


def test_errors_are_of_the_outputs() -> None:
    _, report = Pipeline(parse("factorize-toward-outputs{parameters=1400}"), check="off")(
        network(), Calibration.of(FEEDS)
    )
    (row,) = report.steps[0].notes
    found = moved("factorize-toward-outputs{parameters=1400}")
    assert row["error"] == pytest.approx(found, rel=0.5)
    assert row["metric"] == "data, gradients"


def test_the_factors_are_the_best_in_both_metrics() -> None:
    matrix, inputs, outputs = (RNG.normal(size=shape) for shape in ((12, 8), (12, 30), (8, 30)))
    metric = Metric(inputs @ inputs.T, responses=outputs @ outputs.T)
    found = spectrum(matrix, metric, 8)
    whole = np.matmul(*found.factors(8))
    assert np.allclose(whole, matrix)
    for rank in range(1, 8):
        error = metric.error(matrix, np.matmul(*found.factors(rank)))
        assert found.errors[rank] == pytest.approx(error, rel=0.01)


def test_it_needs_data() -> None:
    with pytest.raises(MissingData, match="calibration data"):
        Pipeline(parse("factorize-toward-outputs"))(network())


def test_forms_of_other_fits_are_refused() -> None:
    with pytest.raises(SpecError, match="use factorize-low-rank"):
        parse("factorize-toward-outputs{form=tucker}")


def test_where_no_gradient_goes_the_layer_counts() -> None:
    before = net("a = MatMul(x, w) s = Sign(a) y = Cast<to = 6>(s)", x="float[N, 48]",
                 y="int32[N, M] y", w=weights(48, 40))  # fmt: skip
    _, report = Pipeline(parse("factorize-toward-outputs{ratio=0.5}"), check="off")(
        before, Calibration.of(FEEDS)
    )
    (row,) = report.steps[0].notes
    assert row["metric"] == "data; no gradient is known"
