"""Low rank: a layer as a narrow one and one that widens again, a convolution as several."""

from typing import Any

import numpy as np
import pytest

from kit import holding, model, operators
from nets import net, weights
from onnxslim import Calibration, Model, Pipeline, cost, parse
from onnxslim.errors import SpecError
from onnxslim.ir import Array
from onnxslim.passes.factorize.factorize_low_rank import FactorizeLowRank
from onnxslim.pipeline import Report
from onnxslim.runtime import Session
from onnxslim.validate import Reference

CONV = "y = Conv<pads=[1, 1, 1, 1], strides=[2, 1]>(x, w, b)"
IMAGE = "float[1, 32, 20, 20]"


def feeds(of: Model, count: int = 2) -> Calibration:
    (x,) = of.graph.inputs
    shape = [n if isinstance(n, int) else 16 for n in x.shape or ()]
    rng = np.random.default_rng(0)
    values = [rng.standard_normal(shape).astype(x.dtype) for _ in range(count)]
    return Calibration.of([{x.name: value} for value in values])


def low_rank(
    before: Model, data: Calibration | None = None, **options: Any
) -> tuple[Model, Report]:
    after, report = Pipeline((FactorizeLowRank(**options),), budget=1e9)(
        before, data or feeds(before)
    )
    assert not report.warnings, report.warnings
    return after, report


def notes(report: Report) -> list[dict[str, Any]]:
    return list(report.steps[0].notes)


def moved(report: Report) -> float:
    assert report.validation.relative is not None
    return report.validation.relative


def planted(inputs: int, outputs: int, rank: int, noise: float = 0.0) -> Array:
    rng = np.random.default_rng(rank)
    made = rng.standard_normal((inputs, rank)) @ rng.standard_normal((rank, outputs))
    return np.asarray(made + noise * rng.standard_normal(made.shape))


FORMS = {
    "right": ("y = MatMul(x, w)", "float[16, 128]", ["MatMul", "MatMul"]),
    "left": ("y = MatMul(w, x)", "float[128, 16]", ["MatMul", "MatMul"]),
    "transB": ("y = Gemm<transB=1, alpha=0.5>(x, w)", "float[16, 128]", ["MatMul", "Gemm"]),
    "transA": ("y = Gemm<transA=1>(x, w)", "float[128, 16]", ["Gemm", "Gemm"]),
    "left gemm": ("y = Gemm<transB=1>(w, x)", "float[16, 128]", ["Gemm", "Gemm"]),
}


@pytest.mark.parametrize("form", FORMS)
def test_finds_the_rank_of_products(form: str) -> None:
    body, kind, ops = FORMS[form]
    before = net(body, x=kind, rank=2, w=planted(128, 128, 20))
    after, report = Pipeline((FactorizeLowRank(energy=1.0),))(before)
    assert operators(after) == ops
    assert notes(report)[0]["parameters"] == 20 * 256
    assert moved(report) < 1e-5


@pytest.mark.parametrize("form", FORMS)
def test_products_that_are_multiplied_out_at_load(form: str) -> None:
    body, kind, _ = FORMS[form]
    before = net(body, x=kind, rank=2, w=planted(128, 128, 60))
    _, report = Pipeline((FactorizeLowRank(rank=60),))(before)
    assert notes(report)[0]["form"] == "multiplied out at load"
    assert moved(report) < 1e-5


def test_layers_that_would_not_run_faster_are_multiplied_out_at_load() -> None:
    after, report = low_rank(net("y = MatMul(x, w)", x="float[1, 64]", rank=2, w=weights(64, 64)),
                             rank=8)  # fmt: skip
    assert notes(report)[0]["form"] == "multiplied out at load"
    folded, report = Pipeline(parse("lossless"))(after)
    assert folded.to_bytes() == after.to_bytes()


def test_what_is_multiplied_out_at_load_is_no_work_of_a_run() -> None:
    before = net("y = MatMul(x, w)", x="float[1, 64]", rank=2, w=weights(64, 64))
    _, report = low_rank(before, rank=8)
    assert report.after.macs == report.before.macs == 64 * 64


def test_a_shared_budget_prefers_what_runs_faster() -> None:
    *_, report = two_layers(parameters=25_000)
    assert {note["form"] for note in notes(report)} == {"runs as factors"}


def test_products_use_up_their_budget() -> None:
    before = net("y = MatMul(x, w)", x="float[16, 256]", rank=2, w=weights(256, 256))
    _, report = low_rank(before, ratio=0.45, aim="speed")
    assert notes(report)[0]["parameters"] == int(0.45 * 256**2 / 512) * 512


def test_for_speed_they_stay_as_they_are() -> None:
    before = net("y = MatMul(x, w)", x="float[1, 64]", rank=2, w=weights(64, 64))
    after, report = low_rank(before, rank=8, aim="speed")
    assert after is before
    assert "nothing that is close enough would be faster" in report.steps[0].declined


def test_channels_too_few_for_wide_vectors_are_left_alone() -> None:
    """Eight channels cost as much as sixteen where sixteen are computed at once."""
    before = net(CONV, x="float[1, 16, 32, 32]", w=weights(16, 16, 3, 3), b=weights(16))
    after, _ = low_rank(before, rank=8, form="channel", aim="speed")
    assert after is before


RUNNING = {
    "channel": (["Conv", "Conv"], "channel SVD"),
    "tucker": (["Conv", "Conv", "Conv"], "Tucker-2"),
    "spatial": (["Conv", "Conv"], "spatial SVD"),
    "separable": (["Conv", "Conv", "Conv"], "1x1, depthwise, 1x1"),
}


@pytest.mark.parametrize("form", RUNNING)
def test_forms_of_convolutions_do_what_they_say(form: Any) -> None:
    """The model without optimizations moves as far as the note predicts for the same data."""
    before = net(CONV, x=IMAGE, w=weights(32, 32, 3, 3), b=weights(32))
    after, report = low_rank(before, ratio=0.5, form=form, aim="speed")
    (note,) = notes(report)
    assert (operators(after), note["family"]) == RUNNING[form]
    assert note["parameters"] <= 32 * 32 * 9 / 2
    assert relative(before, after) == pytest.approx(note["error"], rel=0.05)


def relative(before: Model, after: Model) -> float:
    """Return the error of all outputs, of their size without what is added at the end."""
    one, other = (Session(m.to_bytes(), optimize=False) for m in (before, after))
    pairs = [(one.run(feed)["y"], other.run(feed)["y"]) for feed in feeds(before)]
    bias = before.graph.nodes[0].constant(2)
    added = 0.0 if bias is None else bias[:, None, None]
    lost = sum(float(((a - b) ** 2).sum()) for a, b in pairs)
    return float(np.sqrt(lost / sum(float(((a - added) ** 2).sum()) for a, _ in pairs)))


PLANTED: dict[str, Any] = {
    "channel": lambda: planted(288, 32, 8).T.reshape(32, 32, 3, 3),
    "spatial": lambda: planted(96, 96, 8).reshape(32, 3, 32, 3).transpose(2, 0, 1, 3),
    "tucker": lambda: np.einsum("os,srij,rc->ocij", weights(32, 8), weights(8, 8, 3, 3),
                                weights(8, 32)),
    "separable": lambda: np.einsum("or,rij,rc->ocij", weights(32, 4), weights(4, 3, 3),
                                   weights(4, 32)),
}  # fmt: skip


@pytest.mark.parametrize("form", PLANTED)
def test_finds_what_was_planted(form: Any) -> None:
    before = net(CONV, x=IMAGE, w=PLANTED[form](), b=weights(32))
    rank = 4 if form == "separable" else 8
    _, report = low_rank(before, rank=rank, form=form)
    assert notes(report)[0]["error"] < 1e-5
    assert moved(report) < 1e-5


@pytest.mark.parametrize("body", ["y = MatMul(x, w)", CONV])
def test_the_metric_of_the_data_moves_outputs_less(body: str) -> None:
    """Of what the layer reads, most is in few directions."""
    image = body is CONV
    weight = weights(32, 32, 3, 3) if image else weights(64, 64)
    arrays: dict[str, Any] = {"b": weights(32)} if image else {}
    before = net(
        body, x=IMAGE if image else "float[64, 64]", w=weight, rank=4 if image else 2, **arrays
    )
    loud = np.exp(-np.arange(32 if image else 64) / 4)
    data = Calibration.of(
        [{"x": (f["x"] * (loud[:, None, None] if image else loud)).astype(np.float32)}
         for f in feeds(before, 8)]
    )  # fmt: skip
    aware, _ = low_rank(before, data, ratio=0.3, form="channel")
    plain, _ = Pipeline((FactorizeLowRank(ratio=0.3, form="channel"),), budget=1e9)(before)
    reference = Reference(before.to_bytes(), before, data)
    noise = [reference.noise(m.to_bytes()) for m in (aware, plain)]
    assert 1.5 * noise[0] < noise[1]


def two_layers(**options: Any) -> tuple[Model, Model, Report]:
    before = net(
        "t = MatMul(x, w) r = Relu(t) y = MatMul(r, v)", x="float[4, 128]", rank=2,
        w=planted(128, 128, 16, 0.05), v=weights(128, 128),
    )  # fmt: skip
    return before, *low_rank(before, **options)


def test_shares_a_budget_of_parameters() -> None:
    _, after, report = two_layers(parameters=15_000)
    assert 12_000 < cost.parameters(after) <= 15_000
    errors = {note["layer"]: note["error"] for note in notes(report)}
    ranks = {note["layer"]: note["parameters"] for note in notes(report)}
    assert ranks["w"] < ranks["v"]
    assert errors["w"] < errors["v"]


def test_shares_a_budget_of_macs() -> None:
    _, _, report = two_layers(macs=60_000)
    assert 45_000 < report.after.macs <= 60_000


def test_a_budget_that_is_kept_already_changes_nothing() -> None:
    before, after, _ = two_layers(parameters=40_000)
    assert after is before


def test_keeps_the_energy() -> None:
    _, _, report = two_layers(energy=0.9)
    errors = [note["error"] for note in notes(report)]
    assert len(errors) == 2
    assert max(errors) <= np.sqrt(0.1) + 1e-6


def test_one_weight_of_two_layers() -> None:
    before = net("t = MatMul(x, w) r = Relu(t) y = MatMul(r, w)", x="float[16, 128]", rank=2,
                 w=planted(128, 128, 20))  # fmt: skip
    after, report = low_rank(before, rank=20)
    assert operators(after) == ["MatMul", "MatMul", "Relu", "MatMul", "MatMul"]
    assert cost.parameters(after) == 20 * 256
    assert moved(report) < 1e-5


def test_layers_in_bodies_by_weights_alone() -> None:
    before = holding(
        model("""g (bool c, float[16, 128] x) => (float[16, 128] y) {
            y = If(c) <then_branch = t () => (float[16, 128] a) { a = MatMul(x, w) },
                       else_branch = e () => (float[16, 128] b) { b = Relu(x) }> }"""),
        w=planted(128, 128, 20).astype(np.float32),
    )  # fmt: skip
    data = Calibration.of([{"c": np.array(True), "x": np.ones((16, 128), np.float32)}])
    after, report = low_rank(before, data)
    assert operators(after).count("MatMul") == 2
    assert notes(report)[0]["metric"] == "weights: it stands in a subgraph"


def test_a_weight_that_is_stored_narrow() -> None:
    """One byte a weight is little: only a low rank takes fewer."""
    codes = np.random.default_rng(0).integers(-9, 9, (128, 1)) * np.ones((1, 128))
    before = net("h = Cast<to=1>(i) w = Mul(h, s) y = MatMul(x, w)", x="float[16, 128]", rank=2,
                 i=codes.astype(np.int8), s=np.array(0.1))  # fmt: skip
    after, report = low_rank(before)
    assert operators(after) == ["MatMul", "MatMul"]
    _, report = low_rank(before, ratio=0.5)
    assert any("grow" in reason for reason in report.steps[0].declined)


@pytest.mark.parametrize("kind", ["float16", "double"])
def test_other_types(kind: str) -> None:
    before = holding(
        model(f"g ({kind}[16, 128] x) => ({kind}[A, B] y) {{ y = MatMul(x, w) }}"),
        w=planted(128, 128, 8).astype(kind) / 16,
    )
    after, report = low_rank(before, rank=8)
    assert operators(after) == ["MatMul", "MatMul"]
    assert notes(report)[0]["error"] < 2e-3


def test_a_second_time_changes_nothing() -> None:
    _, after, _ = two_layers(ratio=0.4)
    _, report = low_rank(after, ratio=0.3)
    assert not report.changed


def test_reports_every_layer() -> None:
    _, _, report = two_layers(ratio=0.4)
    assert report.as_dict()["steps"][0]["notes"] == notes(report)
    assert [note["layer"] for note in notes(report)] == ["w", "v"]


def test_made_up_data_are_called_so() -> None:
    before = net("y = MatMul(x, w)", x="float[16, 128]", rank=2, w=weights(128, 128))
    made_up = feeds(before)
    made_up.synthetic = True
    _, report = Pipeline((FactorizeLowRank(ratio=0.4),), budget=1e9)(before, made_up)
    assert notes(report)[0]["metric"] == "made-up data"


@pytest.mark.parametrize("spec", ["ratio=0.5,rank=3", "ratio=1.5", "energy=0.0", "rank=0"])
def test_refuses_what_cannot_be(spec: str) -> None:
    with pytest.raises(SpecError):
        parse(f"factorize-low-rank{{{spec}}}")
