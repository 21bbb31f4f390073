"""What the lossless recipe makes of models/: the reference outputs stay, the counts are known.

A changed count is a decision: run ``pytest --update-golden`` and read the diff.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxslim import Model, api
from onnxslim.runtime import Session

ROOT = Path(__file__).parents[1]
MODELS = sorted(path.parent for path in ROOT.glob("models/*/model.onnx"))
EVERY = pytest.mark.parametrize("folder", MODELS, ids=lambda folder: folder.name)


def read(folder: Path, pattern: str) -> dict[str, Any]:
    found = {}
    for path in sorted(folder.glob(pattern)):
        tensor = onnx.load_tensor(str(path))
        found[tensor.name] = numpy_helper.to_array(tensor)
    return found


def rounding(folder: Path) -> float:
    """Return the error, relative to an output's scale, that a model's arithmetic may make."""
    kinds = {constant.dtype for constant in Model.load(folder / "model.onnx").constants()}
    return 1e-2 if np.dtype(np.float16) in kinds else 1e-5


def assert_close(actual: Any, expected: Any, tolerance: float, name: str) -> None:
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype or actual.dtype.kind in "OU"
    if expected.dtype.kind != "f":
        assert np.array_equal(actual, expected), name
        return
    scale = float(np.nanmax(np.abs(expected), initial=0.0)) or 1.0
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale, err_msg=name)


@EVERY
def test_keeps_reference_outputs_and_counts(
    folder: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    small = tmp_path / "small.onnx"
    outcome = api.run(folder / "model.onnx")
    outcome.save(small)
    for optimize in (False, True):
        session = Session(small, optimize=optimize)
        for data in sorted(folder.glob("test_data_set_*")):
            actual = session.run(read(data, "input_*.pb"))
            for name, expected in read(data, "output_*.pb").items():
                value = np.asarray(actual[name])
                assert_close(value, expected, rounding(folder), f"{data.name}/{name}")
    assert not outcome.report.warnings
    assert small.stat().st_size <= outcome.report.before.bytes
    counts = {"before": asdict(outcome.report.before), "after": asdict(outcome.report.after)}
    golden = ROOT / "tests" / "golden" / f"{folder.name}.json"
    if request.config.getoption("--update-golden"):
        golden.write_text(json.dumps(counts, indent=1) + "\n")
    assert counts == json.loads(golden.read_text())


@EVERY
def test_twice_is_once(folder: Path, tmp_path: Path) -> None:
    once, twice = tmp_path / "once.onnx", tmp_path / "twice.onnx"
    api.run(folder / "model.onnx", check="off").save(once)
    api.run(once, check="off").save(twice)
    assert once.read_bytes() == twice.read_bytes()
