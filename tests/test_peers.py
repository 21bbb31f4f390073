"""The parts of benchmarks/peers.py: what it calls wrong is wrong, and no failure stops it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper

from benchmarks.sidebyside import measure
from benchmarks.sidebyside.judge import answer, distance
from benchmarks.sidebyside.results import Results, table
from benchmarks.sidebyside.workers import Died, Worker
from kit import model

RELU = "g (float[64] x) => (float[64] y) { y = Relu(x) }"
ECHO = "import sys\nfor line in sys.stdin: exec({!r}); print(line, end='', flush=True)"


def verdict(folder: Path, before: str, after: str, given: bool = False) -> str:
    case = {"model": str(folder / "before.onnx"), "sets": []}
    for name, text in (("before", before), ("after", after)):
        model(text).save(folder / f"{name}.onnx")
    if given:
        values = np.linspace(-1, 1, 64, dtype=np.float32)
        for name, value in (("input_0", values), ("output_0", np.maximum(values, 0))):
            (folder / f"{name}.pb").write_bytes(numpy_helper.from_array(value).SerializeToString())
        case["sets"] = [str(folder)]
    return str(answer({"case": case, "result": str(folder / "after.onnx")})["verdict"])


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("g (float[64] x) => (float[64] y) { z = Relu(x) y = Relu(z) }", "ok"),
        ("g (float[64] x) => (float[64] y) { y = Abs(x) }", "wrong"),
        ("g (float[64] x) => (float[64] z) { z = Relu(x) }", "interface"),
        ("g (float[64] x) => (float[64] y) { y = Relu(z) z = Identity(x) }", "invalid"),
    ],
)
def test_verdicts(text: str, expected: str, given: bool, tmp_path: Path) -> None:
    assert verdict(tmp_path, RELU, text, given) == expected


def test_operators_beyond_the_standard_are_told(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    model("g (float[64] x) => (float[64] y) { y = com.microsoft.Gelu(x) }").save(path)
    assert answer({"case": {"model": str(path)}})["foreign"] == ["com.microsoft.Gelu"]


def test_nan_equals_nan_but_not_a_number() -> None:
    nan, one = np.array([np.nan, 1]), np.array([1.0, 1])
    assert distance(nan, nan) == 0
    assert distance(nan, one) == np.inf


def test_rounding_is_relative_to_the_largest_magnitude() -> None:
    assert distance(np.array([100.0, 0.0]), np.array([100.0, 1.0])) == 0.01


def test_integers_must_be_equal() -> None:
    assert distance(np.array([1, 2]), np.array([1, 3])) == np.inf


@pytest.mark.parametrize("action", ["import os; os._exit(3)", "import time; time.sleep(60)"])
def test_a_worker_that_dies_or_hangs_is_replaced(action: str) -> None:
    code = ECHO.format(f"if 'bad' in line: {action}")
    worker = Worker([sys.executable, "-c", code], os.environ)
    with pytest.raises(Died):
        worker.ask("bad", limit=2)
    assert worker.ask("good", limit=30) == "good"
    worker.close()


def test_processor_time_and_memory_of_children_count() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    work = "b = bytearray(300_000_000); i = 0\nwhile i < 3_000_000: i += 1"
    usage = measure.run([sys.executable, "-c", code, work], os.environ, limit=60)
    assert usage.failure == ""
    assert usage.resident > 280
    assert usage.cpu > 0.05


def test_a_command_past_its_limit_is_ended() -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    assert measure.run(command, os.environ, limit=0.5).failure == "not done after 0 s"


def test_results_are_found_again_but_those_to_redo(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    first = Results(path)
    first.add("case", "ours", {"verdict": "wrong"})
    first.add("case", "ours", {"verdict": "ok"})
    first.add("case", "theirs", {"verdict": "ok"})
    again = Results(path, redo=["theirs"])
    assert (again.get("case", "ours") or {})["verdict"] == "ok"
    assert again.get("case", "theirs") is None


def test_tables_align_numbers() -> None:
    assert table(["a", "b"], [["x", "1"]]) == "| a | b |\n| --- | ---: |\n| x | 1 |"
