"""Feeds that are made up."""

import itertools
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from onnxslim.data import Calibration, Feed, InputSpec, generate
from onnxslim.errors import DataError

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
X = InputSpec("x", FLOAT, ("N", 3))
IDS = InputSpec("ids", INT64, ("N",))


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


# In place of calibration data


@pytest.mark.parametrize(("text", "count"), [("random", 32), ("random:3", 3)])
def test_made_up_data_say_that_they_are(text: str, count: int) -> None:
    data = Calibration.load(text, [X])
    assert (data.synthetic, len(data), len(list(data))) == (True, count, count)


@pytest.mark.parametrize("seed", range(5))
def test_few_made_up_floats_are_not_all_positive(seed: int) -> None:
    first = next(generate([InputSpec("x", FLOAT, (1,))], seed))
    assert first["x"][0] < 0


def test_made_up_floats_are_standard_normal() -> None:
    data = Calibration.load("random", [InputSpec("x", FLOAT, (1, 1000))])
    values = np.concatenate([feed["x"] for feed in data])
    assert (abs(values.mean()) < 0.02, abs(values.std() - 1) < 0.02) == (True, True)


def test_made_up_feeds_have_one_size() -> None:
    assert len({feed["x"].shape for feed in Calibration.load("random:4", [X])}) == 1


def test_the_seed_decides_made_up_data() -> None:
    first, again, other = (
        next(iter(Calibration.load("random:1", [X], seed=seed)))["x"].tolist() for seed in (1, 1, 2)
    )
    assert (first == again, first == other) == (True, False)


def test_no_map_is_made_up() -> None:
    with pytest.raises(DataError, match="input 'x' is a map, which cannot be made up"):
        Calibration.load("random", [InputSpec("x", kind="map")])


def test_none_made_up_is_no_data() -> None:
    with pytest.raises(DataError, match="made-up data: holds no samples"):
        Calibration.load("random:0", [X])
