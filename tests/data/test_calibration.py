"""Calibration data: streams from files and from Python."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, numpy_helper

from onnxslim.data import Calibration, InputSpec
from onnxslim.errors import DataError

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
X = InputSpec("x", FLOAT, ("N", 3))
IDS = InputSpec("ids", INT64, ("N",))


def ones(*shape: int) -> npt.NDArray[np.float32]:
    return np.ones(shape, np.float32)


# From Python


def test_calibration_can_be_gone_through_again() -> None:
    data = Calibration.of({"x": ones(1, 3) * i} for i in range(3))
    assert [len(list(data)), len(list(data)), len(data)] == [3, 3, 3]


@pytest.mark.parametrize(("feeds", "message"), [([], "no samples"), ({"x": 1}, "not str")])
def test_calibration_from_nothing_is_refused(feeds: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Calibration.of(feeds)


def test_an_error_names_the_sample() -> None:
    data = Calibration.of([{"x": ones(1, 3)}, {"x": ones(1, 4)}], [X])
    with pytest.raises(DataError, match=r"^calibration data, sample 1: input 'x' has shape"):
        list(data)


def test_a_function_is_called_whenever_the_feeds_are_gone_through() -> None:
    data = Calibration.of(lambda: ({"x": ones(1, 3) * i} for i in range(3)), [X])
    assert [len(list(data)), len(list(data)), len(data)] == [3, 3, 3]


def test_an_array_goes_to_the_only_input() -> None:
    (feed,) = Calibration.of([ones(2, 3)], [X])
    assert feed["x"].shape == (2, 3)


def test_an_array_for_two_inputs_is_refused() -> None:
    with pytest.raises(DataError, match="a feed is a dict of arrays by input name, not ndarray"):
        Calibration.of([ones(2, 3)], [X, IDS])


def test_what_runs_out_after_the_first_time_is_refused() -> None:
    once = iter([{"x": ones(1, 3)}])
    data = Calibration.of(lambda: once)
    with pytest.raises(DataError, match="holds no samples"):
        list(data)


def test_feeds_of_unknown_number_are_counted_once() -> None:
    calls: list[int] = []

    def feeds() -> list[Any]:
        calls.append(1)
        return [{"x": ones(1, 3)}] * 2

    data = Calibration.of(feeds)
    for _ in data:
        pass
    assert (len(data), data.count, len(calls)) == (2, 2, 2)


# From files

Save = Callable[..., None]
BOTH = pytest.mark.parametrize("save", [np.savez, np.savez_compressed])


@BOTH
def test_an_npz_gives_one_feed_a_sample(tmp_path: Path, save: Save) -> None:
    x, ids = np.arange(12, dtype=np.float32).reshape(4, 3), np.arange(4)
    save(tmp_path / "a.npz", x=x, ids=ids, labels=ids)
    data = Calibration.load(tmp_path / "a.npz", [X, IDS])
    assert [(feed["x"].tolist(), feed["ids"].tolist()) for feed in data] == [
        ([row], [i]) for i, row in enumerate(x.tolist())
    ]


@BOTH
def test_labels_are_kept_aside(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "a.npz", x=ones(4, 3), labels=np.arange(4))
    data = Calibration.load(tmp_path / "a.npz", [X])
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 2, 3]


@BOTH
def test_samples_are_read_one_at_a_time(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "a.npz", x=np.zeros((64, 1 << 16), np.float32))
    data = Calibration.load(tmp_path / "a.npz", [InputSpec("x", FLOAT, ("N", 1 << 16))])
    tracemalloc.start()
    for _ in data:
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 << 20  # the file has 16 MiB


@BOTH
def test_a_feed_holds_no_part_of_a_file(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "a.npz", x=ones(2, 3))
    (feed, _) = Calibration.load(tmp_path / "a.npz", [X])
    assert type(feed["x"]) is np.ndarray
    assert feed["x"].base is None


def test_half_precision_survives_npz_which_forgets_its_type(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([[1.5]], ml_dtypes.bfloat16))
    spec = InputSpec("x", TensorProto.BFLOAT16, ("N", 1))
    (feed,) = Calibration.load(tmp_path / "a.npz", [spec])
    assert feed["x"].dtype == ml_dtypes.bfloat16


def test_a_fixed_batch_takes_so_many_samples(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=ones(9, 3), ids=np.arange(9))
    fixed = InputSpec("x", FLOAT, (4, 3))
    data = Calibration.load(tmp_path / "a.npz", [fixed, IDS])
    assert [(len(feed["x"]), feed["ids"].tolist()) for feed in data] == [
        (4, [0, 1, 2, 3]),
        (4, [4, 5, 6, 7]),
    ]


def test_labels_go_with_the_samples_of_a_fixed_batch(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=ones(10, 3), labels=np.arange(10))
    data = Calibration.load(tmp_path / "a.npz", [InputSpec("x", shape=(4, 3))])
    assert data.labels_by_feed().tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_an_input_without_batch_gets_whole_samples(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(3, dtype=np.float32))
    data = Calibration.load(tmp_path / "a.npz", [InputSpec("x", FLOAT, ())])
    assert [float(feed["x"]) for feed in data] == [0.0, 1.0, 2.0]


def test_an_npy_feeds_the_only_input(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.asfortranarray(np.arange(6.0).reshape(2, 3)))
    data = Calibration.load(tmp_path / "a.npy", [X])
    assert [feed["x"].tolist() for feed in data] == [[[0, 1, 2]], [[3, 4, 5]]]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": ones(2, 3), "ids": np.arange(3)}, "disagree on the number of samples: x has 2, ids"),
        ({"x": ones(0, 3), "ids": np.arange(0)}, "array 'x' holds 0 samples"),
        ({"x": ones(2, 3)}, "input 'ids' is missing"),
        ({"x": ones(2, 3), "idz": np.arange(2)}, "no input 'idz'; its inputs are: x, ids"),
        ({"x": ones(2, 4), "ids": np.arange(2)}, r"a.npz, sample 0: input 'x' has shape \[1, 4\]"),
        ({"x": np.float32(1), "ids": np.arange(2)}, "array 'x' has no axes"),
        ({"x": np.array(["a"], object), "ids": np.arange(1)}, "Python objects"),
    ],
)
def test_an_npz_that_does_not_fit_is_refused(
    tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        Calibration.load(tmp_path / "a.npz", [X, IDS])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npz", b"junk", "a.npz cannot be read: File is not a zip file"),
        ("a.npz", b"", "a.npz cannot be read"),
        ("a.npy", b"junk", "a.npy cannot be read"),
        ("a.csv", b"1,2", "give an .npz or .npy file, or a folder"),
    ],
)
def test_an_unreadable_file_is_refused(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        Calibration.load(tmp_path / name, [X])


@BOTH
def test_a_file_cut_short_is_refused(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "a.npz", x=np.random.default_rng(0).random((100, 3)))
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "b.npz").write_bytes(whole[:500])
    with pytest.raises(DataError, match=r"b\.npz cannot be read"):
        Calibration.load(tmp_path / "b.npz", [X])


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        Calibration.load(tmp_path / "a.npz", [X])


def write_set(folder: Path, *protos: Any) -> None:
    folder.mkdir(parents=True)
    for i, proto in enumerate(protos):
        (folder / f"input_{i}.pb").write_bytes(proto.SerializeToString())


def test_a_folder_gives_its_sets_in_order_of_number(tmp_path: Path) -> None:
    for i in (10, 9):
        write_set(tmp_path / f"test_data_set_{i}", numpy_helper.from_array(ones(i, 3)))
    assert [len(feed["x"]) for feed in Calibration.load(tmp_path, [X])] == [9, 10]


def test_a_set_goes_by_name_where_it_has_names(tmp_path: Path) -> None:
    folder = tmp_path / "test_data_set_0"
    ids, x = numpy_helper.from_array(np.arange(2), "ids"), numpy_helper.from_array(ones(2, 3), "x")
    write_set(folder, ids, x)
    (feed,) = Calibration.load(folder, [X, IDS])
    assert feed["ids"].tolist() == [0, 1]


def test_a_recorded_nan_is_meant(tmp_path: Path) -> None:
    write_set(tmp_path / "test_data_set_0", numpy_helper.from_array(ones(1, 3) * np.nan))
    (feed,) = Calibration.load(tmp_path, [X])
    assert np.isnan(feed["x"]).all()


def test_a_set_may_hold_sequences_and_optionals(tmp_path: Path) -> None:
    folder = tmp_path / "test_data_set_0"
    write_set(
        folder,
        numpy_helper.from_list([ones(2), ones(3)], "s"),
        numpy_helper.from_optional(None, "o", onnx.OptionalProto.TENSOR),
    )
    specs = [InputSpec("s", FLOAT, (None,), "sequence"), InputSpec("o", FLOAT, (2,), "optional")]
    (feed,) = Calibration.load(folder, specs)
    assert ([len(item) for item in feed["s"]], feed["o"]) == ([2, 3], None)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no folder test_data_set_\\* and no images"),
        ({"input_0.pb": b"\xff\xff"}, r"input_0\.pb cannot be read"),
        ({"input_1.pb": b""}, "the model has 1 inputs"),
        ({"output_0.pb": b""}, "input 'x' is missing"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused(
    tmp_path: Path, files: dict[str, bytes], message: str
) -> None:
    for name, content in files.items():
        (tmp_path / "test_data_set_0").mkdir(exist_ok=True)
        (tmp_path / "test_data_set_0" / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        Calibration.load(tmp_path, [X])
