import importlib.util
import os
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: every core runs a worker

import pytest

if not (Path(__file__).parents[1] / "onnxslim" / "passes").is_dir():
    raise pytest.UsageError(
        "onnxslim/passes must be a symlink to ../passes. Git on Windows makes one only in "
        "Developer Mode: switch that on, run `git config core.symlinks true`, check out again."
    )

if importlib.util.find_spec("torch") is None:
    collect_ignore_glob = ["tune/test_[!m]*.py"]  # all but test_missing_torch.py


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write tests/golden anew from this run"
    )
