"""Feeds: read, checked and made up."""

import itertools
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxslim.data import Calibration, Feed, InputSpec, check, generate, input_specs
from onnxslim.errors import DataError

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
X = InputSpec("x", FLOAT, ("N", 3))
IDS = InputSpec("ids", INT64, ("N",))
f32 = partial(np.array, dtype=np.float32)
f64 = partial(np.array, dtype=np.float64)
i8 = partial(np.array, dtype=np.int8)
i32 = partial(np.array, dtype=np.int32)
i64 = partial(np.array, dtype=np.int64)
u64 = partial(np.array, dtype=np.uint64)


def specs_of(inputs: str, body: str = "{ y = Identity(x) }") -> list[InputSpec]:
    text = f'<ir_version: 8, opset_import: ["" : 17]> g ({inputs}) => (y) {body}'
    return input_specs(onnx.parser.parse_model(text))


def ones(*shape: int) -> npt.NDArray[np.float32]:
    return np.ones(shape, np.float32)


# What a model declares


@pytest.mark.parametrize(
    ("inputs", "spec"),
    [
        ("float[N,3] x", X),
        ("int64[2,?] x", InputSpec("x", INT64, (2, None))),
        ("float[] x", InputSpec("x", FLOAT, None)),
        ("float x", InputSpec("x", FLOAT, ())),
        ("seq(float[N,3]) x", InputSpec("x", FLOAT, ("N", 3), "sequence")),
        ("optional(float[N,3]) x", InputSpec("x", FLOAT, ("N", 3), "optional")),
        ("optional(seq(float[3])) x", InputSpec("x", FLOAT, (3,), "optional sequence")),
        ("map(int64, float) x", InputSpec("x", 0, None, "map")),
    ],
)
def test_a_spec_is_what_the_model_declares(inputs: str, spec: InputSpec) -> None:
    assert specs_of(inputs) == [spec]


def test_an_initializer_needs_no_feed() -> None:
    specs = specs_of("float[N,3] x, float[3] w", "<float[3] w = {1, 2, 3}> { y = Add(x, w) }")
    assert [spec.name for spec in specs] == ["x"]


# Checking a feed


@pytest.mark.parametrize(
    ("feed", "message"),
    [
        ({"z": ones(1, 3)}, "the model has no input 'z'; its inputs are: x, ids"),
        ({"x": ones(1, 3)}, "input 'ids' is missing; given are: x"),
        ({"x": ones(1, 4), "ids": [0]}, r"input 'x' has shape \[1, 4\], the model wants \[N, 3\]"),
        ({"x": ones(3), "ids": [0]}, r"input 'x' has shape \[3\]"),
        ({"x": ones(1, 3).astype("u1"), "ids": [0]}, "input 'x' is uint8, the model wants float32"),
        ({"x": ones(1, 3), "ids": ones(1)}, "input 'ids' is float32, the model wants int64"),
        ({"x": ones(1, 3) * np.nan, "ids": [0]}, "input 'x' holds NaN"),
        ({"x": np.full((1, 3), 1e300), "ids": [0]}, "input 'x' holds values that do not fit"),
        ({"x": ones(1, 3), "ids": u64([2**63])}, "input 'ids' holds values that do not fit"),
        ({"x": [[1.0], [1.0, 2.0]], "ids": [0]}, "input 'x' is no array"),
        ([ones(1, 3)], "a feed is a dict of arrays by input name, not list"),
    ],
)
def test_a_feed_that_does_not_fit_is_refused(feed: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check(feed, [X, IDS])


@pytest.mark.parametrize(
    ("elem_type", "given", "wanted"),
    [
        (FLOAT, f64([1.5]), f32([1.5])),
        (FLOAT, f64([np.inf]), f32([np.inf])),
        (INT64, i8([-1]), i64([-1])),
        (TensorProto.INT32, i64([7]), i32([7])),
        (TensorProto.BFLOAT16, f32([1.5]), np.array([1.5], ml_dtypes.bfloat16)),
        (TensorProto.STRING, np.array(["ü"]), np.array(["ü"], object)),
        (TensorProto.STRING, np.array([b"a"]), np.array(["a"], object)),
    ],
)
def test_a_feed_takes_the_declared_type(
    elem_type: int, given: npt.NDArray[Any], wanted: npt.NDArray[Any]
) -> None:
    found = check({"x": given}, [InputSpec("x", elem_type, (1,))])["x"]
    assert (found.dtype, found.tolist()) == (wanted.dtype, wanted.tolist())


def test_half_precision_survives_npz_which_forgets_its_type(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([[1.5]], ml_dtypes.bfloat16))
    spec = InputSpec("x", TensorProto.BFLOAT16, ("N", 1))
    (feed,) = Calibration.load(tmp_path / "a.npz", [spec])
    assert feed["x"].dtype == ml_dtypes.bfloat16


def test_sequences_and_optionals_are_checked_inside() -> None:
    sequence = InputSpec("s", FLOAT, (2,), "sequence")
    optional = InputSpec("o", FLOAT, (2,), "optional")
    feed = check({"s": [f64([1, 2])], "o": None}, [sequence, optional])
    assert (feed["s"][0].dtype, feed["o"]) == (np.float32, None)


def test_nan_is_fine_where_the_model_reads_it() -> None:
    (spec,) = specs_of("float[1] x", "{ y = IsNaN(x) }")
    assert np.isnan(check({"x": f32([np.nan])}, [spec])["x"])


# Calibration data from Python


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


# Calibration data from files

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


def test_a_fixed_batch_takes_so_many_samples(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=ones(9, 3), ids=np.arange(9))
    fixed = InputSpec("x", FLOAT, (4, 3))
    data = Calibration.load(tmp_path / "a.npz", [fixed, IDS])
    assert [(len(feed["x"]), feed["ids"].tolist()) for feed in data] == [
        (4, [0, 1, 2, 3]),
        (4, [4, 5, 6, 7]),
    ]


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
        ({}, "holds no folder test_data_set_"),
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


# Made-up feeds


def shapes(specs: list[InputSpec], name: str) -> list[tuple[int, ...]]:
    return [np.shape(feed[name]) for feed in generate(specs)]


def test_the_same_seed_makes_the_same_feeds() -> None:
    def texts(feeds: list[Feed]) -> list[str]:
        return [str(feed) for feed in feeds]

    assert texts(list(generate([X, IDS], 3))) == texts(list(generate([X, IDS], 3)))


def test_a_symbolic_dimension_has_one_size_a_feed() -> None:
    specs = [X, IDS, InputSpec("y", FLOAT, (2, "N"))]
    assert all(len(feed["x"]) == len(feed["ids"]) == feed["y"].shape[1] for feed in generate(specs))


def test_a_sum_of_symbols_is_their_sum() -> None:
    specs = [InputSpec("x", FLOAT, (1, "past")), InputSpec("mask", INT64, (1, "past + 1"))]
    assert all(feed["mask"].shape[1] == feed["x"].shape[1] + 1 for feed in generate(specs))


def test_sizes_vary() -> None:
    assert len(set(shapes([InputSpec("x", FLOAT, (None, 3, "H", "W"))], "x"))) > 15


@pytest.mark.parametrize("shape", [("T",), ("T", 1, 3), (None, "N")])
def test_the_first_dimension_may_be_long(shape: tuple[Any, ...]) -> None:
    assert max(x[0] for x in shapes([InputSpec("x", FLOAT, shape)], "x")) > 200


def test_an_unnamed_batch_can_be_in_the_middle() -> None:
    specs = [InputSpec("x", FLOAT, (None, None)), InputSpec("state", FLOAT, (2, None, 8))]
    pairs = zip(shapes(specs, "x"), shapes(specs, "state"), strict=True)
    assert any(x[0] == state[1] and x[1] > 200 for x, state in pairs)


def test_free_sizes_stay_affordable() -> None:
    specs = [InputSpec("x", FLOAT, tuple("abcdef"))]
    assert max(np.prod(shape) for shape in shapes(specs, "x")) <= 1 << 18


def test_integers_stay_in_their_range() -> None:
    spec = InputSpec("x", INT64, (50,), low=2, high=5)
    assert {int(i) for feed in generate([spec]) for i in feed["x"]} == {2, 3, 4}


def test_no_row_of_a_mask_is_all_padding() -> None:
    spec = InputSpec("attention_mask", INT64, (4, 6))
    assert all(feed["attention_mask"][:, 0].all() for feed in generate([spec]))


@pytest.mark.parametrize(
    "elem_type",
    [t for t in TensorProto.DataType.values() if t not in (0, TensorProto.STRING)],
)
def test_every_type_can_be_made(elem_type: int) -> None:
    feeds = list(generate([InputSpec("x", elem_type, (2, 0, 3)), InputSpec("y", elem_type, ())]))
    assert {feed["y"].dtype for feed in feeds} == {
        np.dtype(helper.tensor_dtype_to_np_dtype(elem_type))
    }


@pytest.mark.parametrize(("kind", "length"), [("sequence", 2), ("optional", 4)])
def test_containers_can_be_made(kind: str, length: int) -> None:
    feed = next(generate([InputSpec("x", FLOAT, (4,), kind)]))
    assert len(feed["x"]) == length


def test_texts_can_be_made() -> None:
    feed = next(generate([InputSpec("x", TensorProto.STRING, (2, 2))]))
    assert feed["x"].tolist() == [["a", "of"], ["the", "cat"]]


def test_nothing_is_made_up_for_a_map() -> None:
    assert list(generate([InputSpec("x", kind="map")])) == []


def test_images_of_bytes_are_never_even() -> None:
    spec = InputSpec("x", TensorProto.UINT8, (1, 8, 8, 3))
    feeds = itertools.islice(generate([spec]), 6)
    assert all(len(np.unique(feed["x"])) > 50 for feed in feeds)
