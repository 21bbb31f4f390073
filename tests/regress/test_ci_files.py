"""What CI systems read, and the plugin for pytest, run here as far as they can be."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest

from onnxslim.cli import COMMANDS
from onnxslim.regress import record

pytest_plugins = ["pytester"]
ROOT = Path(__file__).parents[2]
LENET = ROOT / "models" / "lenet300"


def _read(path: Path) -> Any:
    return pytest.importorskip("yaml").safe_load(path.read_text())


@pytest.fixture(name="references")
def _references(tmp_path: Path) -> Path:
    record(LENET / "model.onnx", tmp_path / "refs", data=str(LENET), count=1)
    return tmp_path / "refs"


def _broken(folder: Path) -> Path:
    model = onnx.load(LENET / "model.onnx")
    for node in list(model.graph.node):
        if node.op_type == "Relu":
            node.op_type = "Abs"
    onnx.save(model, folder / "broken.onnx")
    return folder / "broken.onnx"


@pytest.mark.parametrize(("broken", "status"), [(False, 0), (True, 1)])
def test_the_action_runs_check(references: Path, tmp_path: Path, broken: bool, status: int) -> None:
    step = _read(ROOT / ".github/actions/check/action.yml")["runs"]["steps"][-1]
    model = _broken(tmp_path) if broken else LENET / "model.onnx"
    given = {
        "MODEL": str(model),
        "REFERENCES": str(references),
        "OPTIONS": "--tolerance 1e-4 --max-size 1.0x",
        "PYTHON": sys.executable,
    }
    assert step["env"].keys() == given.keys()
    command = ["bash", "-euo", "pipefail", "-c", step["run"]]
    done = subprocess.run(command, env={**os.environ, **given}, capture_output=True, check=False)
    assert done.returncode == status, done.stderr


def test_the_hook_calls_a_command_that_exists() -> None:
    (hook,) = _read(ROOT / ".pre-commit-hooks.yaml")
    program, command = hook["entry"].split()
    assert (program, command in COMMANDS) == ("onnxslim", True)


TEST = """
def test_model(onnx_regression):
    onnx_regression({model!r}, {references!r}, tolerance=1e-4, original={original!r})
"""


def _run(pytester: pytest.Pytester, model: Path, references: Path, *options: str) -> Any:
    original = str(LENET / "model.onnx")
    text = TEST.format(model=str(model), references=str(references), original=original)
    pytester.makepyfile(text)
    plugin = ["-p", "no:xdist", "-p", "no:cacheprovider"]
    if not _installed():
        plugin += ["-p", "onnxslim.regress.plugin"]
    return pytester.runpytest_inprocess(*plugin, *options)


def _installed() -> bool:
    from importlib.metadata import entry_points

    return any(item.name == "onnxslim" for item in entry_points(group="pytest11"))


def test_the_fixture_passes_a_model_that_is_the_same(
    pytester: pytest.Pytester, references: Path
) -> None:
    _run(pytester, LENET / "model.onnx", references).assert_outcomes(passed=1)


def test_the_fixture_fails_a_model_that_regressed(
    pytester: pytest.Pytester, references: Path, tmp_path: Path
) -> None:
    _run(pytester, _broken(tmp_path), references).assert_outcomes(failed=1)


def test_the_fixture_records(pytester: pytest.Pytester, tmp_path: Path) -> None:
    made = tmp_path / "new"
    _run(pytester, LENET / "model.onnx", made, "--record-references").assert_outcomes(passed=1)
    assert (made / "expected.json").is_file()
