"""Feeds from functions that are named by text."""

from pathlib import Path

import pytest
from onnx import TensorProto

from onnxslim.data import Calibration, InputSpec
from onnxslim.errors import DataError

X = InputSpec("x", TensorProto.FLOAT, ("N", 3))

MODULE = """
import numpy as np

def feeds():
    for i in range(3):
        yield {"x": np.full((1, 3), i)  * 1.0}

def arrays():
    return np.zeros((4, 1, 3), np.float32)

def broken():
    yield np.zeros((1, 3))
    raise RuntimeError("the disk is gone")

listed = [{"x": np.ones((1, 3))}]
number = 5
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "samples_of_test.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize(("name", "count"), [("feeds", 3), ("arrays", 4), ("listed", 1)])
def test_feeds_come_anew_each_time(name: str, count: int) -> None:
    data = Calibration.load(f"samples_of_test:{name}", [X])
    assert [len(list(data)), len(list(data))] == [count, count]


def test_modules_of_the_working_directory_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "local_of_test.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr("sys.path", ["/nowhere", *__import__("sys").path])
    assert len(Calibration.load("local_of_test:feeds", [X])) == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("samples_of_test:nothing", "the module has no 'nothing'"),
        ("samples_of_test:number", "TypeError: 'int' object is not iterable"),
        ("no_such_module_at_all:feeds", "ModuleNotFoundError: No module named"),
        ("samples_of_test.py:feeds", "ModuleNotFoundError"),
    ],
)
def test_what_gives_no_feeds_is_refused(name: str, message: str) -> None:
    with pytest.raises(DataError, match=f"^{name}: {message}"):
        Calibration.load(name, [X])


def test_a_failure_on_the_way_names_the_function() -> None:
    data = Calibration.load("samples_of_test:broken", [X])
    with pytest.raises(DataError, match="samples_of_test:broken: RuntimeError: the disk is gone"):
        list(data)


def test_a_path_object_is_a_path() -> None:
    with pytest.raises(DataError, match="does not exist"):
        Calibration.load(Path("samples_of_test:feeds"), [X])
