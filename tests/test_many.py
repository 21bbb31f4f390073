"""Many models in one go."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kit import model
from onnxslim import Model
from onnxslim.cli import main
from onnxslim.errors import InputError, SpecError
from onnxslim.many import many, plan

TEXT = "g (float[2] x) => (float[2] y) { i = Identity(x) y = Relu(i) }"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three models, one of them no model, below each other."""
    (tmp_path / "in/deep").mkdir(parents=True)
    for name in ("in/a.onnx", "in/deep/a.onnx"):
        model(TEXT).save(tmp_path / name)
    (tmp_path / "in/bad.onnx").write_bytes(b"no model")
    return tmp_path / "in"


def test_models_keep_their_paths_and_a_bad_one_stops_none(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["many", str(folder), "-o", str(out), "--jobs", "1"]) == 1
    written = sorted(str(path.relative_to(out)) for path in out.rglob("*.onnx"))
    assert written == ["a.onnx", "deep/a.onnx"]
    assert [node.op for node in Model.load(out / "deep/a.onnx").nodes()] == ["Relu"]
    said = capsys.readouterr()
    assert str(folder / "bad.onnx") in said.err
    assert "2 models" in said.out
    assert "1 failed" in said.out


def test_processes_say_the_same_as_one(folder: Path, tmp_path: Path) -> None:
    reports = []
    for jobs in (1, 2):
        path = tmp_path / f"{jobs}.json"
        command = ["many", str(folder), "-o", str(tmp_path / "out"), "-q", "--report", str(path)]
        assert main([*command, "--jobs", str(jobs)]) == 1
        reports.append([{**e, "seconds": 0} for e in json.loads(path.read_text())])
    assert reports[0] == reports[1]
    assert len(reports[0]) == 3


def test_a_recipe_serves_for_many(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('format = 1\npasses = ["drop-dead"]\n')
    given = ["-o", str(tmp_path / "out"), "--recipe", str(tmp_path / "r.toml"), "-q"]
    assert main(["many", str(folder / "a.onnx"), *given]) == 0
    after = Model.load(tmp_path / "out/a.onnx")
    assert [node.op for node in after.nodes()] == ["Identity", "Relu"]


def test_results_below_the_models_are_no_models(folder: Path) -> None:
    list(many([folder], folder / "small"))
    assert len(plan([folder], folder / "small")) == 3


def test_two_models_of_one_name_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="would both become"):
        plan([folder / "a.onnx", folder / "deep/a.onnx"], tmp_path / "out")


def test_a_model_is_not_written_onto_itself(folder: Path) -> None:
    with pytest.raises(InputError, match="would be overwritten"):
        plan([folder / "a.onnx"], folder)


def test_a_model_named_twice_is_slimmed_once(folder: Path, tmp_path: Path) -> None:
    assert len(plan([folder / "a.onnx", folder / "a.onnx"], tmp_path / "out")) == 1


@pytest.mark.parametrize(("name", "message"), [("no", "does not exist"), ("empty", "holds no")])
def test_what_holds_no_model_is_said(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=message):
        plan([tmp_path / name], tmp_path / "out")


def test_passes_that_cannot_be_read_are_said_before_any_work(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError):
        many([folder], tmp_path / "out", "nosuch")
    assert not (tmp_path / "out").exists()
