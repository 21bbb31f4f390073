"""A width for every weight, by what its noise does to the outputs."""

from typing import Any

import numpy as np
import pytest

from kit import holding, model
from nets import net, weights
from onnxslim import Calibration, Model, Pipeline, parse
from onnxslim.errors import SpecError
from onnxslim.passes.quantize.allocate_bits import AllocateBits
from onnxslim.pipeline import Report
from onnxslim.runtime import Session

BODY = "t = MatMul(x, w) r = Relu(t) u = MatMul(r, v) s = Relu(u) y = MatMul(s, q)"


def layered(**arrays: Any) -> Model:
    given: dict[str, Any] = {
        "w": weights(64, 128), "v": weights(128, 256), "q": weights(256, 32), **arrays,
    }  # fmt: skip
    return net(BODY, x="float[N, 64]", rank=2, **given)


def data() -> Calibration:
    rng = np.random.default_rng(0)
    return Calibration.of([{"x": rng.standard_normal((16, 64)).astype(np.float32)} for _ in "ab"])


def allocated(before: Model, **options: Any) -> tuple[Model, Report, list[dict[str, Any]]]:
    after, report = Pipeline((AllocateBits(**options),), budget=1e9)(before, data())
    assert not report.warnings, report.warnings
    return after, report, list(report.steps[0].notes)


@pytest.mark.parametrize("sqnr", [10.0, 20.0, 30.0, 45.0])
def test_keeps_the_signal_to_noise_ratio(sqnr: float) -> None:
    *_, notes = allocated(layered(), sqnr=sqnr)
    assert sqnr <= notes[-1]["sqnr"] < sqnr + 3


@pytest.mark.parametrize("bits", [3.0, 4.0, 6.0, 8.0])
def test_keeps_the_mean_width(bits: float) -> None:
    *_, notes = allocated(layered(), bits=bits)
    assert bits - 0.2 < notes[-1]["bits"] <= bits


@pytest.mark.parametrize("part", [0.1, 0.2, 0.3])
def test_keeps_the_bytes(part: float) -> None:
    before = layered()
    budget = int(before.size() * part)
    after, *_ = allocated(before, bytes=budget)
    assert 0.97 * budget < after.size() <= budget


def test_a_sensitive_layer_is_wider() -> None:
    """One output of the first layer is a thousand times as loud, and quiet weights make it."""
    loud = weights(64, 128)
    loud[:, 0] *= 300
    *_, notes = allocated(layered(w=loud), bits=6.0)
    widths = {note["layer"]: note["bits"] for note in notes}
    assert widths["w"] > max(widths["v[0:128]"], widths["v[128:256]"])


@pytest.mark.parametrize("bits", [4, 5, 6])
def test_no_more_noise_than_one_width_for_all(bits: int) -> None:
    before = layered(w=np.abs(weights(64, 128)) * 3)
    uniform, _ = Pipeline(parse(f"quantize-weights{{bits={bits}}}"), budget=1e9)(before, data())
    after, *_ = allocated(before, bytes=uniform.size())
    assert noise(before, after) <= noise(before, uniform)


def noise(before: Model, after: Model) -> float:
    one, other = (Session(m.to_bytes(), optimize=False) for m in (before, after))
    return sum(float(((one.run(f)["y"] - other.run(f)["y"]) ** 2).sum()) for f in data())


def test_a_second_round_changes_nothing() -> None:
    once, *_ = allocated(layered(), sqnr=25.0)
    _, report = Pipeline((AllocateBits(sqnr=10.0),), budget=1e9)(once)
    assert not report.changed
    assert "its weights are stored in few bits already" in report.steps[0].declined


def test_reports_every_layer() -> None:
    _, report, notes = allocated(layered(), bits=4.0)
    assert [note["layer"] for note in notes] == ["w", "v[0:128]", "v[128:256]", "q", "all"]
    assert report.as_dict()["steps"][0]["notes"] == notes


def test_notes_what_every_width_would_do() -> None:
    *_, notes = allocated(layered(), bits=4.0)
    curve = [notes[0][f"sqnr@{bits}"] for bits in (4, 5.333, 6.4, 8, 16)]
    assert curve == sorted(curve)


def test_what_is_noted_is_what_is_written() -> None:
    after, _, notes = allocated(layered(), sqnr=20.0)
    assert notes[-1]["bytes"] == after.size()


def test_says_what_cannot_be_reached() -> None:
    _, report = Pipeline((AllocateBits(bytes=100),), budget=1e9)(layered(), data())
    assert "the smallest file is" in report.warnings[0]


def test_a_loose_budget_leaves_few_bits() -> None:
    *_, notes = allocated(layered(), sqnr=3.0)
    assert notes[-1]["bits"] < 3


def test_takes_one_budget() -> None:
    with pytest.raises(SpecError, match="give one budget"):
        parse("allocate-bits{bits=4,sqnr=20}")


def test_a_weight_that_only_a_body_reads_is_measured() -> None:
    text = """main (float[2,64] x, int64 n) => (float[2,64] y) <bool c = {1}>
    { y = Loop(n, c, x) <body = b (int64 i, bool go, float[2,64] s) => (bool g2, float[2,64] s2)
     { g2 = Identity(go) m = MatMul(s, w) s2 = Tanh(m) }> }"""
    before = holding(model(text), w=weights(64, 64).astype(np.float32))
    _, report = Pipeline((AllocateBits(bits=4),), budget=1e9)(before)
    assert report.steps[0].changes, report.steps[0]
