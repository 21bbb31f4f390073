"""The best model inside a budget."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kit import holding, model
from onnxslim import Calibration, Model, workers
from onnxslim.cli import main
from onnxslim.errors import BrokenModel, BudgetMissed, SpecError
from onnxslim.ir import fix_input_shapes
from onnxslim.metrics import metric
from onnxslim.report import search_page
from onnxslim.runtime import Session, lent
from onnxslim.search import Budget, Result, latency, search, size
from onnxslim.search.judge import Task, bound
from onnxslim.search.methods import whole
from onnxslim.search.mixture import Level, Mixture, measure
from onnxslim.search.state import State

RNG = np.random.default_rng(0)
LAYERS = {
    "w": RNG.normal(size=(32, 64)).astype(np.float32),
    "v": RNG.normal(size=(64, 10)).astype(np.float32),
}


def net() -> Model:
    return holding(
        model("""g (float[N, 32] x) => (float[N, 10] y) <float[32, 64] w, float[64, 10] v> {
            a = MatMul(x, w) r = Relu(a) y = MatMul(r, v)
        }"""),
        **LAYERS,
    )


def feeds() -> list[dict[str, Any]]:
    values = np.random.default_rng(1).normal(size=(64, 1, 32)).astype(np.float32)
    return [{"x": value} for value in values]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    state = tmp_path_factory.mktemp("state")
    return search(net(), feeds(), Budget(max_drop=0.1), state=state), state


def test_the_smallest_inside_the_budget(found: tuple[Result, Path]) -> None:
    result, _ = found
    assert result.metric == "agreement"
    assert result.judges == 32
    assert result.best.drop <= 0.1
    inside = [one for one in result.candidates if one.failed is None and one.drop <= 0.1]
    assert result.best.size == min(one.size for one in inside)
    assert result.best.size < net().size() / 3


def test_a_sure_budget_limits_what_most_judges_see(found: tuple[Result, Path]) -> None:
    result, state = found
    tight = max(one.drop for one in result.candidates if one.failed is None and one.drop <= 0.1)
    surely = search(net(), feeds(), Budget(max_drop=tight, sure=True), state=state)
    assert surely.best.bound <= tight
    plainly = search(net(), feeds(), Budget(max_drop=tight), state=state)
    assert plainly.best.bound > tight
    assert plainly.best.size < surely.best.size


def test_few_judges_may_have_overlooked_something() -> None:
    def bound_of(noise: float, count: int) -> float:
        expected = [{"y": np.array([[1.0, 0.0]])} for _ in range(count)]
        found = [{"y": one["y"] + noise} for one in expected]
        return bound(metric("agreement"), found, expected, None, 0)

    assert bound_of(1e-9, 100) == 0
    assert bound_of(0.1, 100) == pytest.approx(0.0295, abs=1e-4)
    assert bound_of(0.1, 1000) == pytest.approx(0.003, abs=1e-4)


def test_nothing_else_can_be_sure() -> None:
    with pytest.raises(SpecError, match="limit of the drop"):
        Budget(size=100, sure=True)


def test_the_model_is_the_one_that_was_judged(found: tuple[Result, Path]) -> None:
    result, _ = found
    assert result.model.size() == result.best.size


def test_nothing_on_the_front_is_beaten(found: tuple[Result, Path]) -> None:
    sizes, drops = zip(*((one.size, one.drop) for one in found[0].front), strict=True)
    assert list(sizes) == sorted(sizes)
    assert list(drops) == sorted(drops, reverse=True)


def test_a_search_that_was_stopped_goes_on_to_the_same_model(
    found: tuple[Result, Path], tmp_path: Path
) -> None:
    result, state = found[0], shutil.copytree(found[1], tmp_path / "state")
    for number, record in enumerate(sorted(state.rglob("*.json"))):
        if number % 2:
            record.unlink()
    again = search(net(), feeds(), Budget(max_drop=0.1), state=state)
    assert again.model.to_bytes() == result.model.to_bytes()


def test_what_was_tried_is_not_tried_again(
    found: tuple[Result, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def judged(*given: object) -> None:
        raise AssertionError("a candidate is judged again")

    module = importlib.import_module("onnxslim.search.search")
    monkeypatch.setattr(module, "judged", judged)
    again = search(net(), feeds(), Budget(max_drop=0.1), state=found[1])
    assert again.best == found[0].best


def test_a_search_that_was_killed_goes_on_to_the_same_model(tmp_path: Path) -> None:
    net().save(tmp_path / "m.onnx")
    np.savez(tmp_path / "d.npz", x=np.concatenate([feed["x"] for feed in feeds()]))
    asked = [str(tmp_path / "m.onnx"), "-c", str(tmp_path / "d.npz"), "--max-drop", "10%"]
    asked += ["-q", "--jobs", "1", "-o"]
    killed, whole, state = (tmp_path / name for name in ("k.onnx", "w.onnx", "state"))
    command = [sys.executable, "-m", "onnxslim", *asked, str(killed), "--state", str(state)]
    process, end = subprocess.Popen(command), time.monotonic() + 120
    while len(list(state.rglob("*.json"))) < 3 and time.monotonic() < end:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert not killed.exists()
    assert list(state.rglob("*.json"))
    subprocess.run(command, check=True)
    assert main([*asked, str(whole)]) == 0
    assert killed.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("changed", ["fitting", "judging", "labels"])
def test_other_samples_are_another_search(changed: str, tmp_path: Path) -> None:
    net().save(tmp_path / "m.onnx")

    def folder(value: float) -> Path:
        array, other = (np.zeros((1, 4096), np.float32) for _ in range(2))
        other[0, 2000] = value
        fitting, judging, labels = (
            other if name == changed else array for name in ("fitting", "judging", "labels")
        )
        task = Task(
            tmp_path / "m.onnx", [{"x": fitting}], [{"x": judging}], labels, "top1", False, 0
        )
        return State(tmp_path, task, net()).folder

    assert folder(1.0) == folder(1.0)
    assert folder(1.0) != folder(2.0)


def test_models_that_no_single_file_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them have external data, of the original to what is chosen."""
    monkeypatch.setattr("onnxslim.ir.weights.LARGEST_FILE", 2048)
    net().save(tmp_path / "m.onnx")
    budget = Budget(max_drop=0.1)
    result = search(tmp_path / "m.onnx", feeds(), budget, pareto=tmp_path / "front")
    result.model.save(tmp_path / "s.onnx")
    found = Model.load(tmp_path / "s.onnx")
    assert found.disk_size() == pytest.approx(result.best.size, abs=64)
    assert found.store.external
    for path in (tmp_path / "front").glob("*.onnx"):
        assert Session(path, optimize=False).run(feeds()[0])["y"].shape == (1, 10)


def test_another_version_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net().save(tmp_path / "m.onnx")
    task = Task(tmp_path / "m.onnx", [], [], None, "top1", False, 0)
    before = State(tmp_path, task, net()).folder
    monkeypatch.setattr("onnxslim.search.state.versions", lambda: {"onnxslim": "99"})
    assert State(tmp_path, task, net()).folder != before


def test_made_up_samples_and_few_are_said() -> None:
    few = search(net(), feeds()[:4], Budget(max_drop=1), time_limit=60)
    assert any("fitted to and judged" in note for note in few.notes)
    made_up = search(net(), "random:8", Budget(max_drop=1))
    assert any("made-up data" in note for note in made_up.notes)


def test_a_budget_that_cannot_be_met_says_what_comes_closest(found: tuple[Result, Path]) -> None:
    with pytest.raises(BudgetMissed, match="the smallest that is good enough has"):
        search(net(), feeds(), Budget(max_drop=0.1, size=100), state=found[1])


def test_when_the_time_is_up_no_more_is_tried() -> None:
    with pytest.raises(BudgetMissed, match="the time is up"):
        search(net(), feeds(), Budget(max_drop=0.1), time_limit=0.0)


def test_what_a_search_chose_runs_again(tmp_path: Path) -> None:
    net().save(tmp_path / "m.onnx")
    np.savez(tmp_path / "d.npz", x=np.concatenate([feed["x"] for feed in feeds()]))
    command = [str(tmp_path / "m.onnx"), "-q", "-c", str(tmp_path / "d.npz"), "-o"]
    found, again, recipe = (tmp_path / name for name in ("s.onnx", "t.onnx", "r.toml"))
    saving = ["--max-drop", "10%", "--jobs", "1", "--save-recipe", str(recipe)]
    assert main([*command, str(found), *saving]) == 0
    assert main([*command, str(again), "--recipe", str(recipe)]) == 0
    assert again.stat().st_size <= found.stat().st_size


def test_labels_of_a_fixed_batch_are_those_of_its_samples(tmp_path: Path) -> None:
    fixed = net()
    fix_input_shapes(fixed, {"x": (5, 32)})
    images = RNG.normal(size=(83, 32)).astype(np.float32)
    hidden = np.maximum(images @ LAYERS["w"], 0)
    np.savez(tmp_path / "d.npz", x=images, labels=(hidden @ LAYERS["v"]).argmax(1))
    result = search(fixed, tmp_path / "d.npz", Budget(size=fixed.size()))
    bits = {one.spec: one.drop for one in result.candidates if one.failed is None}
    assert (result.metric, result.judges) == ("top1", 8)
    assert 0 <= bits["lossless,quantize-weights{bits=8,rounding=gptq},lossless,strip"] < 0.1


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net().save(tmp_path / "m.onnx")
    np.savez(tmp_path / "d.npz", x=np.concatenate([feed["x"] for feed in feeds()]))
    command = [str(tmp_path / "m.onnx"), "-o", str(tmp_path / "s.onnx"), "-c"]
    command += [str(tmp_path / "d.npz"), "--jobs", "1"]
    assert main([*command, "--max-drop", "10%", "--pareto", str(tmp_path / "front")]) == 0
    assert "recipe: lossless," in capsys.readouterr().out
    assert (tmp_path / "s.onnx").stat().st_size < net().size() / 3
    table = json.loads((tmp_path / "front/front.json").read_text())
    assert (tmp_path / "front" / table["models"][0]["file"]).exists()
    assert main([*command, "--max-drop", "10%", "--target-size", "100"]) == 1


def test_the_report_for_programs(found: tuple[Result, Path]) -> None:
    plain = json.loads(json.dumps(found[0].as_dict(), allow_nan=False))
    assert plain["best"] in plain["candidates"]
    text = (Path(__file__).parents[2] / "docs" / "report.md").read_text(encoding="utf-8")
    keys = {*plain, *plain["best"], *plain["sensitivity"][0]}
    assert {key for key in keys if f"`{key}`" not in text} == set()


def test_the_page_marks_what_was_chosen(found: tuple[Result, Path]) -> None:
    html = search_page(found[0], "net")
    row = next(row for row in html.split("<tr>") if "<td>chosen</td>" in row)
    assert f"{found[0].best.size:,}" in row


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--max-drop", "1%"], "needs data"),
        (["--pareto", "front"], "goes with --max-drop"),
        (["--sure"], "--sure goes with --max-drop"),
        (["--tune"], "--tune goes with --max-drop"),
        (["--max-drop", "1%", "-c", "random:8", "--dtype", "fp16"], "--dtype does not go"),
        (["--max-drop", "1%", "-c", "random:8", "-p", "lossless"], "-p does not go"),
        (["--max-drop", "much", "-c", "random:8"], "is no limit"),
        (["--target-size", "-3", "-c", "random:8"], "is no size"),
        (["--max-drop", "1%", "-c", "random:8", "--backend", "dask"], "--state DIR"),
    ],
)
def test_bad_budgets(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net().save(tmp_path / "m.onnx")
    target = tmp_path / "s.onnx"
    assert main([str(tmp_path / "m.onnx"), "-o", str(target), *options]) == 2
    assert said in capsys.readouterr().err
    assert not target.exists()


@pytest.mark.parametrize(
    ("text", "expected"), [("4x", 250), ("500KB", 500_000), ("1.5MiB", 1_572_864), ("77", 77)]
)
def test_sizes(text: str, expected: int) -> None:
    assert size(text, 1000) == expected


@pytest.mark.parametrize(("text", "expected"), [("0.5x", 0.5), ("3ms", 0.3), ("0.25", 0.25)])
def test_latencies(text: str, expected: float) -> None:
    assert latency(text, 0.01) == pytest.approx(expected)


def test_a_budget_has_a_limit() -> None:
    with pytest.raises(SpecError):
        Budget()


def test_layers_get_what_saves_most_for_the_noise_allowed() -> None:
    levels = Mixture({
        "loud": [Level((), 100, 0.0), Level(("share",), 10, 0.5)],
        "quiet": [
            Level((), 100, 0.0), Level(("share",), 10, 1e-4), Level(("prune", "share"), 5, 0.5),
        ],
    })  # fmt: skip
    assert levels.specs()[0] == whole("")
    assert levels.specs()[1] == whole("share@quiet")
    assert levels.specs()[-1] == whole("prune@quiet,share@quiet,share@loud")


def test_fewer_bits_take_fewer_bytes_and_make_more_noise() -> None:
    layers = measure(net(), Calibration.of(feeds()[:16]), 0).layers
    levels = [one for one in layers["w"] if one.passes[:1] and "bits" in one.passes[0]]
    sizes, noises = [one.bytes for one in levels], [one.noise for one in levels]
    assert sizes == sorted(sizes, reverse=True)
    assert noises == sorted(noises)
    assert 2048 <= sizes[0] <= 3072  # 8 bits each, with scales and nodes


@pytest.mark.parametrize("fault", ["invalid", "larger"])
def test_a_candidate_that_is_invalid_or_larger_is_none(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: object) -> None:
        raise BrokenModel("it is invalid")

    module = importlib.import_module("onnxslim.search.judge")
    net().save(tmp_path / "m.onnx")
    with lent(net()) as source:
        session = Session(source, optimize=False)
        expected: list[Any] = [session.run(feed) for feed in feeds()[8:]]
    task = Task(
        tmp_path / "m.onnx", feeds()[:8], feeds()[8:], None, "sqnr", False, 0, expected=expected
    )
    if fault == "invalid":
        monkeypatch.setattr(module, "check_structure", refuse)
    else:
        monkeypatch.setattr(Model, "disk_size", lambda self: 1)
    made = module.judged(task, "quantize-weights", "any", tmp_path / "s.onnx")
    assert fault in str(made.failed)


def test_work_comes_back_in_order_from_any_number_of_processes() -> None:
    items = [3, 1, 2]
    assert list(workers.each(abs, items)) == items
    assert list(workers.each(abs, items, jobs=2)) == items
