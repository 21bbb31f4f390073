"""Weights that share values, restored when onnxruntime loads the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kit import assert_declines, holding, model, operators, optimized
from nets import weights
from onnxslim import Calibration, Context, Model, Pipeline, parse
from onnxslim.errors import MissingData, SpecError
from onnxslim.pack import save
from onnxslim.passes.share._codebook import fit
from onnxslim.passes.share.share import Share
from onnxslim.pipeline import Report
from onnxslim.runtime import Session
from onnxslim.sites import reads_narrow_weights

RNG = np.random.default_rng(0)
DENSE = ["Range", "Reshape", "Div", "Mod", "Gather", "Cast", "Gather", "Reshape"]
TEXT = "g (float[N, 256] x) => (float[N, 64] y) { y = MatMul(x, w) }"


def product(w: Any = None, opset: int = 17, text: str = TEXT, ir_version: int = 8) -> Model:
    w = weights(256, 64) if w is None else w
    return holding(model(text, opset, ir_version), w=w.astype(np.float32))


def sparse(density: float) -> Any:
    return np.where(RNG.random((256, 64)) < density, weights(256, 64), 0)


def shared(
    before: Model, data: Calibration | None = None, importance: Any = None, **options: Any
) -> tuple[Model, Report]:
    pipeline = Pipeline((Share(**options),), budget=1e9, importance=importance)
    after, report = pipeline(before, data)
    assert not report.warnings
    assert report.changed, report.steps[0].places
    return after, report


def restored(after: Model) -> Any:
    """Return the weights that the shared model multiplies by."""
    return Session(after.to_bytes(), optimize=True).run({"x": np.eye(256, dtype=np.float32)})["y"]


def forms(report: Report) -> list[Any]:
    return [row["stored"] for row in report.steps[0].notes]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({}, 1 / 8),
        ({"values": 4}, 1 / 16),
        ({"values": 6}, 1 / 12),
        ({"values": 3}, 1 / 20),
        ({"values": 9}, 1 / 10),
        ({"values": 40}, 1 / 6),
        ({"values": 256}, 1 / 4),
        ({"rows": 4, "values": 64}, 1 / 16),
        ({"levels": "uniform"}, 1 / 8),
    ],
)
def test_stores_only_what_tells_values_apart(options: dict[str, Any], part: float) -> None:
    before = product()
    after, _ = shared(before, **options)
    table = 4 * options.get("values", 16) * options.get("rows", 1)
    assert after.size() < part * before.size() + table + 700


@pytest.mark.parametrize(("values", "bits"), [(9, 16 / 5), (40, 16 / 3)])
def test_two_bytes_hold_what_leaves_room_in_one(values: int, bits: float) -> None:
    before = product(RNG.normal(size=(256, 1024)), text=TEXT.replace("64", "1024"))
    after, _ = shared(before, values=values)
    assert after.size() < bits / 32 * before.size() + 4 * values + 700


def test_weights_take_no_other_values() -> None:
    after, _ = shared(product(), values=16)
    assert len(np.unique(restored(after))) <= 16


def test_few_values_come_back_exactly() -> None:
    w = RNG.choice(np.array([-0.5, 0.25, 0.75]), (256, 64)).astype(np.float32)
    after, _ = shared(product(w), values=4)
    assert np.array_equal(restored(after), w)


@pytest.mark.parametrize(
    ("density", "form"), [(0.9, "dense"), (0.3, "mask"), (0.05, "gaps"), (0.001, "gaps")]
)
def test_zeros_stay_zeros_in_the_shortest_form(density: float, form: str) -> None:
    w = sparse(density)
    after, report = shared(product(w), values=15)
    assert forms(report) == [form]
    assert np.array_equal(restored(after) == 0, w == 0)


def test_short_gaps_take_half_a_byte() -> None:
    before = product(sparse(0.1))
    file, _ = shared(before)
    whole, _ = shared(before, aim="packed")
    assert file.size() < 0.95 * whole.size()


def test_what_will_be_packed_keeps_to_bytes(tmp_path: Path) -> None:
    w = np.where(RNG.random((256, 1024)) < 0.06, RNG.normal(size=(256, 1024)), 0)
    before = product(w, text=TEXT.replace("64", "1024"))

    def packed(aim: str) -> int:
        save(shared(before, values=8, aim=aim)[0], tmp_path / aim)
        return (tmp_path / aim).stat().st_size

    assert packed("packed") < 0.95 * packed("file")


def test_what_will_be_packed_has_no_codes_across_bytes() -> None:
    after, _ = shared(product(), values=9, aim="packed")
    assert "uint16" not in {tensor.dtype.name for tensor in after.constants()}


def test_onnxruntime_runs_the_same_operators_as_before() -> None:
    for density in (1.0, 0.3, 0.05):
        after, _ = shared(product(sparse(density)))
        assert optimized(after) == ["MatMul"], density


def test_folding_leaves_the_weights_packed() -> None:
    after, _ = shared(product(sparse(0.05)))
    again, _ = Pipeline(parse("lossless,lossless"))(after)
    assert again.size() <= after.size()


def test_k_means_errs_less_than_levels_of_one_step() -> None:
    _, clusters = shared(product())
    _, steps = shared(product(), levels="uniform")
    assert clusters.steps[0].notes[0]["error"] < steps.steps[0].notes[0]["error"]


def test_levels_of_one_step_are_multiples_of_it() -> None:
    values = RNG.normal(size=(4_000, 1)).astype(np.float32)
    table = fit(values, np.ones(4_000), 9, "uniform", 0).table[:, 0]
    assert np.allclose(np.diff(table), np.diff(table)[0], rtol=1e-5)
    assert np.abs(table).min() < 1e-6


def test_levels_leave_far_weights_out() -> None:
    values = np.append(RNG.normal(size=4_000), 40.0).astype(np.float32)[:, None]
    assert fit(values, np.ones(4_001), 4, "uniform", 0).table.max() < 10


def test_values_are_the_means_of_their_weights() -> None:
    values = RNG.normal(size=(50_000, 1)).astype(np.float32)
    book = fit(values, np.ones(50_000), 64, "kmeans", 0)
    means = np.bincount(book.codes, values[:, 0]) / np.bincount(book.codes)
    assert np.abs(book.table[:, 0] - means).max() < 2e-3


def test_layers_can_share_one_codebook() -> None:
    text = """g (float[N, 256] x) => (float[N, 64] y, float[N, 64] z)
    { y = MatMul(x, w) z = MatMul(x, v) }"""
    before = holding(product(text=text), v=(weights(256, 64) * 1.5).astype(np.float32))
    after, _ = shared(before, per="model")
    tables = {t.name for t in after.constants() if t.dtype == np.float32}
    assert len(tables) == 1


STRONG = (np.arange(256) < 32)[:, None]


def missed(w: Any, data: Calibration | None = None, **options: Any) -> float:
    """Return the squared error of the weights that matter."""
    after, _ = shared(product(w), data, values=8, **options)
    return float(np.square(restored(after) - w)[:32].sum())


def test_weights_that_meet_strong_inputs_err_less() -> None:
    power = np.where(STRONG.T, 30.0, 0.3).astype(np.float32)
    data = Calibration.of([{"x": RNG.normal(size=(64, 256)).astype(np.float32) * power}])
    w = RNG.normal(size=(256, 64)) * np.where(STRONG, 0.05, 1.0)
    assert missed(w, data, weighting="power") < 0.5 * missed(w)


def test_weights_that_the_loss_depends_on_err_less() -> None:
    w = RNG.normal(size=(256, 64)) * np.where(STRONG, 0.05, 1.0)
    known = {"w": np.broadcast_to(np.where(STRONG, 1.0, 1e-4), (256, 64))}
    assert missed(w, weighting="fisher", importance=known) < 0.5 * missed(w)


def test_weights_of_unknown_importance_count_alike() -> None:
    known = {"other": np.ones((256, 64))}
    _, report = shared(product(), weighting="fisher", importance=known)
    assert any("count alike" in reason for reason in report.steps[0].declined)


def test_weights_count_alike_without_calibration_data() -> None:
    _, report = shared(product(), weighting="power")
    assert "its weights count alike: it needs calibration data" in report.steps[0].declined


def test_fisher_asks_for_what_it_needs() -> None:
    with pytest.raises(MissingData, match="--importance"):
        shared(product(), weighting="fisher")


LOUD = np.where(np.arange(64) % 4 == 0, 4.0, 1.0)
"""How strong each channel is."""


@pytest.mark.parametrize(
    ("body", "shape", "x"),
    [
        ("y = MatMul(x, w)", (512, 64), "float[2, 512]"),
        ("y = Gemm<transB = 1>(x, w)", (64, 512), "float[2, 512]"),
        ("y = Conv(x, w)", (64, 64, 3, 3), "float[2, 64, 6, 6]"),
    ],
)
def test_channels_of_like_power_share_a_codebook(body: str, shape: tuple[int, ...], x: str) -> None:
    axis = shape.index(64)
    scale = np.expand_dims(LOUD, [a for a in range(len(shape)) if a != axis])
    w = (RNG.normal(size=shape) * scale).astype(np.float32)
    before = holding(model(f"g ({x} x) => (float y) {{ {body} }}", 17, 8), w=w)
    _, each = shared(before, per="channel")
    _, one = shared(before)
    assert each.steps[0].notes[0]["error"] < 0.9 * one.steps[0].notes[0]["error"]


def test_channels_keep_their_places() -> None:
    w = RNG.choice(np.array([-0.5, 0.25, 0.75]), (256, 64)) * LOUD
    after, report = shared(product(w), per="channel", values=3)
    assert report.steps[0].notes[0]["codebooks"] == 2
    assert np.allclose(restored(after), w, rtol=1e-6)


@pytest.mark.parametrize("per", ["layer", "channel"])
@pytest.mark.parametrize("live", [0, 1, 40])
def test_channels_of_zeros_come_back(per: Any, live: int) -> None:
    w = np.where(np.arange(64) < live, RNG.choice(np.array([-1, 1.0]), (256, 64)), 0)
    after, _ = shared(product(w), per=per)
    assert np.array_equal(restored(after), w)


def test_channels_that_are_alike_have_one_codebook() -> None:
    _, report = shared(product(RNG.normal(size=(256, 64))), per="channel")
    assert report.steps[0].notes[0]["codebooks"] == 1


@pytest.mark.parametrize(
    ("opset", "ir_version", "values", "kind"), [(21, 10, 16, "uint4"), (25, 13, 4, "uint2")]
)
def test_small_weights_stand_in_types_of_few_bits(
    opset: int, ir_version: int, values: int, kind: str
) -> None:
    after, _ = shared(product(opset=opset, ir_version=ir_version), values=values)
    assert kind in {tensor.dtype.name for tensor in after.constants()}
    assert optimized(after) == ["MatMul"]


def test_large_weights_stand_in_bytes_which_load_faster() -> None:
    text = TEXT.replace("64", "256")
    after, _ = shared(product(weights(256, 256), 21, text, 10))
    assert "uint8" in {tensor.dtype.name for tensor in after.constants()}


def test_rows_of_zeros_stay_zeros() -> None:
    w = np.where(RNG.random((4096, 1)) < 0.2, RNG.normal(size=(4096, 4)), 0).reshape(256, 64)
    after, report = shared(product(w), rows=4, values=64)
    assert forms(report) == ["mask"]
    assert not restored(after)[w == 0].any()


def test_layers_share_what_takes_their_weights_apart() -> None:
    text = """g (float[N, 256] x) => (float[N, 64] y, float[N, 64] z)
    { y = MatMul(x, w) z = MatMul(x, v) }"""
    after, _ = shared(holding(product(text=text), v=RNG.normal(size=(256, 64)).astype(np.float32)))
    assert operators(after).count("Mod") == 1


def test_shared_weights_are_known_as_narrow() -> None:
    after, _ = shared(product(sparse(0.05)))
    context = Context()
    reads_narrow_weights(after, context)
    assert [name for name, _ in context.places] == ["MatMul -> y"]


LAYERS = {
    "Conv": ("y = Conv(x, w)", (64, 16, 3, 3), "float[2, 16, 6, 6]", "float"),
    "Gemm": ("y = Gemm<transB = 1>(x, w)", (64, 256), "float[2, 256]", "float"),
    "Gather": ("y = Gather(w, x)", (256, 64), "int64[2]", "float"),
    "half precision": ("y = MatMul(x, w)", (256, 64), "float16[2, 256]", "float16"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_shares_the_weights_of(name: str) -> None:
    body, shape, x, kind = LAYERS[name]
    w = weights(*shape).astype(np.float16 if kind == "float16" else np.float32)
    before = holding(model(f"g ({x} x) => ({kind} y) {{ {body} }}", 17, 8), w=w)
    after, _ = shared(before)
    assert operators(after)[:-1] == DENSE


def test_small_weights_stay() -> None:
    text = "g (float[N, 4] x) => (float[N, 4] y) { y = MatMul(x, w) }"
    assert_declines(product(weights(4, 4), text=text), Share(), "would grow")


def test_large_weights_pay_for_what_small_ones_share() -> None:
    text = """g (float[N, 64] x, float[N, 256] u) => (float[N, 1] z, float[N, 64] y)
    { z = MatMul(x, v) y = MatMul(u, w) }"""
    v = RNG.choice(np.array([-0.5, 0.25, 0.75], np.float32), (64, 1))
    _, report = shared(holding(product(text=text), v=v), values=3)
    assert [row["weights"] for row in report.steps[0].notes] == [64, 256 * 64]


def test_weights_that_do_not_divide_into_rows_stay() -> None:
    text = "g (float[N, 5] x) => (float[N, 5] y) { y = MatMul(x, w) }"
    assert_declines(product(weights(5, 5), text=text), Share(rows=2), "do not divide")


def test_opset_10_has_what_unpacks() -> None:
    w = RNG.choice(np.array([-0.5, 0.25, 0.75], np.float32), (256, 64))
    after, _ = shared(product(w, opset=10), values=3)
    assert np.array_equal(restored(after), w)


def test_old_opsets_are_refused() -> None:
    assert_declines(product(opset=9), Share(), "needs opset 10")


@pytest.mark.parametrize(
    "spec",
    [
        "share{values=1}",
        "share{rows=0}",
        "share{rows=2,levels=uniform}",
        "share{rows=2,per=channel}",
    ],
)
def test_options_that_make_no_sense_are_refused(spec: str) -> None:
    with pytest.raises(SpecError):
        parse(spec)


def test_codes_that_fill_no_whole_bytes_come_back() -> None:
    w = RNG.choice(np.array([-0.5, 0.25, 0.75]), (256, 63)).astype(np.float32)
    after, _ = shared(product(w, text=TEXT.replace("64", "63")), values=3)
    assert np.array_equal(restored(after), w)
