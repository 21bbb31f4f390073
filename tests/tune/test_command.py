"""``onnxslim tune``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kit import model
from onnxslim.cli import main
from onnxslim.ir import Model

TEXT = """main (float[N, 4] x) => (float[N, 3] y)
<float[4, 3] w = {{{}}}> {{ y = MatMul (x, w) }}"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    model(TEXT.format("1, 0, 2, -1, 3, 0, 0.5, 1, -2, 2, 1, 1")).save(tmp_path / "model.onnx")
    model(TEXT.format("2, 0, 1, -1, 2, 0, 1, 1, -1, 1, 1, 2")).save(tmp_path / "small.onnx")
    x = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, labels=x.argmax(1) % 3)
    return tmp_path


def run(folder: Path, *options: str) -> int:
    files = {"--original": "model.onnx", "-c": "data.npz", "-o": "tuned.onnx"}
    named = [word for key, name in files.items() for word in (key, f"{folder}/{name}")]
    return main(["tune", f"{folder}/small.onnx", *named, "--lr", "0.05", "--batch", "8", *options])


def test_writes_a_model_of_the_same_size(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(files) == 0
    assert (files / "tuned.onnx").stat().st_size == (files / "small.onnx").stat().st_size
    printed = capsys.readouterr()
    assert "tuned 12 numbers in 5 epochs" in printed.out
    assert "epoch 5/5: loss" in printed.err


def test_labels_have_a_weight(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(files, "--labels", "--loss", "kl") == 0
    assert "accuracy" in capsys.readouterr().out


def test_importance_is_written_by_initializer(files: Path) -> None:
    assert run(files, "-q", "--save-importance", str(files / "importance.npz")) == 0
    assert np.load(files / "importance.npz")["w"].shape == (4, 3)


def test_a_checkpoint_is_resumed_to_the_same_model(files: Path) -> None:
    state = ["-q", "--checkpoint", str(files / "state")]
    assert run(files, *state) == 0
    first = Model.load(files / "tuned.onnx").to_bytes()
    assert run(files, *state, "--resume") == 0
    assert Model.load(files / "tuned.onnx").to_bytes() == first
