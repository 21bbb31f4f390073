"""What `pip install` installs is what the checkout holds."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def installed(distribution: str, major: int = 0) -> bool:
    try:
        return int(importlib.metadata.version(distribution).split(".")[0]) >= major
    except importlib.metadata.PackageNotFoundError:
        return False


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Build sdist, then wheel, from a copy that has no stale build/; list the wheel's files."""
    if not (installed("build") and installed("setuptools", 77)):
        pytest.skip("needs build and setuptools>=77: pip install -e '.[dev]'")
    source = tmp_path_factory.mktemp("source")
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    for folder in ("onnxslim", "passes"):
        skipped = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, source / folder, symlinks=True, ignore=skipped)
    target = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(target)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = target.glob("*.whl")
    return zipfile.ZipFile(path).namelist()


def test_the_wheel_holds_every_module(wheel: list[str]) -> None:
    here = [
        (Path(folder) / file).relative_to(ROOT).as_posix()
        for folder, _, files in os.walk(ROOT / "onnxslim", followlinks=True)
        for file in files
        if file.endswith(".py")
    ]
    assert "onnxslim/passes/__init__.py" in here
    there = [file for file in wheel if file.endswith(".py")]
    assert sorted(there) == sorted(here), "name every package in pyproject.toml"


def test_the_wheel_ships_types_and_licence(wheel: list[str]) -> None:
    assert "onnxslim/py.typed" in wheel
    assert any(file.endswith("/licenses/LICENSE") for file in wheel)
