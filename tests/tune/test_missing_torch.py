"""Without PyTorch everything works but tuning, which says how to install it."""

import sys
from pathlib import Path

import pytest

from onnxslim.cli import main


def test_tune_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("onnxslim.tune")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    arguments = ["tune", "small.onnx", "--original", "model.onnx", "-c", "data.npz"]
    assert main([*arguments, "-o", str(tmp_path / "tuned.onnx")]) == 2
    assert "pip install 'onnxslim[tune]'" in capsys.readouterr().err
