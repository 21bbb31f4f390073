"""Feeds from folders of images."""

from __future__ import annotations

import builtins
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnx import TensorProto

from onnxslim.data import Calibration, InputSpec, Preprocessing
from onnxslim.errors import DataError

FLOAT, UINT8 = TensorProto.FLOAT, TensorProto.UINT8
Shape = tuple[int | str | None, ...]


def pixels(height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def write(path: Path, array: npt.NDArray[Any]) -> None:
    image = pytest.importorskip("PIL.Image")
    path.parent.mkdir(parents=True, exist_ok=True)
    image.fromarray(array).save(path)


def load(folder: Path, shape: Shape | None, elem_type: int = FLOAT, **how: Any) -> Calibration:
    return Calibration.load(folder, [InputSpec("x", elem_type, shape)], how)


def first(data: Calibration) -> Any:
    return next(iter(data))["x"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "a.png", pixels(6, 8))
    return tmp_path


# What the input's shape suggests


def test_bytes_become_floats_up_to_1_channels_first(folder: Path) -> None:
    wanted = pixels(6, 8).transpose(2, 0, 1)[None] / 255
    np.testing.assert_allclose(first(load(folder, ("N", 3, 6, 8))), wanted, rtol=1e-6)


def test_bytes_stay_where_the_input_takes_bytes(folder: Path) -> None:
    assert (first(load(folder, (1, 6, 8, 3), UINT8)) == pixels(6, 8)).all()


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((1, 3, 6, 8), (1, 3, 6, 8)),
        ((1, 6, 8, 3), (1, 6, 8, 3)),
        (("N", 3, "H", "W"), (1, 3, 6, 8)),
        (("N", "H", "W", 3), (1, 6, 8, 3)),
        (("N", None, None, None), (1, 3, 6, 8)),
        (("N", 1, "H", "W"), (1, 1, 6, 8)),
        (("N", 3, 3, "W"), (1, 3, 3, 4)),
        (("N", 3, 12, "W"), (1, 3, 12, 16)),
        ((3, 6, 8), (3, 6, 8)),
        ((6, 8, 1), (6, 8, 1)),
        (None, (1, 3, 6, 8)),
    ],
)
def test_the_array_has_the_declared_shape(
    folder: Path, shape: Shape | None, wanted: tuple[int, ...]
) -> None:
    assert first(load(folder, shape)).shape == wanted


def test_without_options_the_middle_is_taken(folder: Path) -> None:
    wanted = pixels(6, 8)[:, 1:7]
    assert (first(load(folder, (1, 6, 6, 3), UINT8))[0] == wanted).all()


def test_halves_are_given_to_halves(folder: Path) -> None:
    assert first(load(folder, (1, 3, 6, 8), TensorProto.FLOAT16)).dtype == np.float16


def test_a_fixed_batch_takes_so_many_images(tmp_path: Path) -> None:
    for i in range(5):
        write(tmp_path / f"{i}.png", pixels(4, 4, i))
    data = load(tmp_path, (2, 4, 4, 3), UINT8)
    assert [
        (feed["x"] == [pixels(4, 4, i), pixels(4, 4, i + 1)]).all()
        for feed, i in zip(data, (0, 2), strict=True)
    ] == [True, True]


# Options


def test_mean_and_std_are_by_channel(folder: Path) -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    wanted = ((pixels(6, 8) / 255 - mean) / std).transpose(2, 0, 1)[None]
    found = first(load(folder, (1, 3, 6, 8), mean="0.485,0.456,0.406", std=list(std)))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_the_scale_comes_before_the_mean(folder: Path) -> None:
    wanted = (pixels(6, 8).transpose(2, 0, 1)[None] - 127.5) / 128
    found = first(load(folder, (1, 3, 6, 8), scale=1, mean="127.5", std="128"))
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_a_scale_may_be_a_fraction() -> None:
    assert Preprocessing.read({"scale": "1/255"}).scale == 1 / 255


def test_bgr_turns_the_channels_around(folder: Path) -> None:
    assert (first(load(folder, (1, 6, 8, 3), UINT8, color="bgr")) == pixels(6, 8)[..., ::-1]).all()


def test_gray_images_serve_three_channels(tmp_path: Path) -> None:
    write(tmp_path / "a.png", pixels(4, 4)[..., 0])
    assert (first(load(tmp_path, (1, 4, 4, 3), UINT8)) == pixels(4, 4)[..., :1]).all()


def test_the_crop_is_the_middle(folder: Path) -> None:
    assert (first(load(folder, (1, 2, 4, 3), UINT8, crop="2,4"))[0] == pixels(6, 8)[2:4, 2:6]).all()


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        ({"resize": 12}, (12, 16)),
        ({"resize": "12,5"}, (12, 5)),
        ({"crop": 4}, (4, 4)),
        ({"crop": [2, 3]}, (2, 3)),
        ({"resize": 12, "crop": 10}, (10, 10)),
    ],
)
def test_images_are_resized_then_cropped(
    folder: Path, how: dict[str, Any], wanted: tuple[int, int]
) -> None:
    assert first(load(folder, (1, 3, "H", "W"), **how)).shape[2:] == wanted


def test_the_input_crops_what_was_resized(folder: Path) -> None:
    assert first(load(folder, (1, 3, 10, 10), resize=12)).shape == (1, 3, 10, 10)


def test_the_layout_may_be_told(folder: Path) -> None:
    assert first(load(folder, (1, None, None, None), layout="nhwc")).shape == (1, 6, 8, 3)


@pytest.mark.parametrize(
    ("shape", "elem_type", "how", "message"),
    [
        ((1, 4, 6, 8), FLOAT, {}, "has 4 channels as nchw, rgb images have 3"),
        ((1, 3, 6, 8), FLOAT, {"color": "gray"}, "has 3 channels as nchw, gray images have 1"),
        ((1, 3, 6, 8), FLOAT, {"layout": "nhwc"}, "has 8 channels as nhwc"),
        ((1, 3), FLOAT, {}, "input 'x' takes no images"),
        ((1, 3, 6, 8), UINT8, {"mean": 1}, "takes bytes; leave out scale, mean and std"),
        ((1, 1, 6, 8), FLOAT, {"std": "1,2,3"}, "mean and std have 3 channels, gray images have 1"),
        ((1, 3, 9, 9), FLOAT, {"resize": 7}, "a.png: 7x9 pixels are less than the 9x9 to crop"),
        ((2, 3, 6, 8), FLOAT, {}, "holds 1 images, a feed takes 2"),
        (
            (1, 3, 6, 8),
            FLOAT,
            {"colour": "rgb"},
            "images have no option 'colour'; there are",
        ),
        ((1, 3, 6, 8), FLOAT, {"color": "red"}, "color is 'red'; choose from rgb, bgr, gray"),
        ((1, 3, 6, 8), FLOAT, {"resize": 0}, "resize is 0; write a number of pixels"),
        ((1, 3, 6, 8), FLOAT, {"resize": 1.5}, "resize is 1.5; write a number of pixels"),
        ((1, 3, 6, 8), FLOAT, {"mean": "a"}, "mean is 'a'; write one number, or one for each"),
        ((1, 3, 6, 8), FLOAT, {"mean": "1,2"}, "mean is '1,2'; write one number, or one for each"),
        ((1, 3, 6, 8), FLOAT, {"mean": float("nan")}, "mean is nan"),
        ((1, 3, 6, 8), FLOAT, {"std": "0"}, "std is '0'; it must not be 0"),
        ((1, 3, 6, 8), FLOAT, {"scale": "1,2,3"}, "scale is '1,2,3'; write one number"),
    ],
)
def test_what_does_not_fit_is_refused(
    folder: Path, shape: Shape, elem_type: int, how: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        load(folder, shape, elem_type, **how)


# Folders


def test_images_are_found_in_folders_below_in_order(tmp_path: Path) -> None:
    for name in ("b/1.png", "a/2.bmp", "a/10.PNG"):
        write(tmp_path / name, pixels(2, 2))
    for name in ("notes.txt", ".2.bmp", "folder.png/notes.txt"):
        (tmp_path / "a" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "a" / name).write_text("not one")
    assert len(load(tmp_path, ("N", 3, 2, 2))) == 3


def test_one_image_is_in_memory_at_a_time(tmp_path: Path) -> None:
    for i in range(16):
        write(tmp_path / f"{i}.png", np.zeros((256, 256, 3), np.uint8))
    data = load(tmp_path, ("N", 3, 256, 256))
    tracemalloc.start()
    for _ in data:
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 * 256 * 256 * 3 * 4  # all of them take 16 times that of one


@pytest.mark.parametrize("content", [b"", b"junk", b"\x89PNG\r\n\x1a\njunk"])
def test_a_broken_image_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    pytest.importorskip("PIL")
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.png cannot be read"):
        load(tmp_path, ("N", 3, 2, 2))


def test_an_image_cut_short_is_refused(folder: Path) -> None:
    whole = (folder / "a.png").read_bytes()
    (folder / "a.png").write_bytes(whole[:-60])
    with pytest.raises(DataError, match=r"a\.png cannot be read"):
        load(folder, ("N", 3, 6, 8))


def test_images_of_more_than_8_bits_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.png", np.full((4, 4), 1000, np.uint16))
    with pytest.raises(DataError, match=r"a\.png cannot be read: it has more than 8 bits"):
        load(tmp_path, ("N", 1, 4, 4))


def test_a_batch_of_several_sizes_is_refused(folder: Path) -> None:
    write(folder / "b.png", pixels(4, 4))
    with pytest.raises(DataError, match="images of a batch have several sizes; resize and crop"):
        load(folder, (2, 3, "H", "W"))


def test_a_model_of_two_inputs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    specs = [InputSpec("x", FLOAT, (1, 3, 2, 2)), InputSpec("y", FLOAT, (1,))]
    with pytest.raises(DataError, match=r"images, but the model has 2 inputs; give an \.npz"):
        Calibration.load(tmp_path, specs)


def test_without_pillow_the_way_out_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "PIL":
            raise ImportError("No module named 'PIL'")
        return real(name, *rest)

    (tmp_path / "a.png").write_bytes(b"")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DataError, match=r"needs Pillow: pip install 'onnxslim\[images\]'"):
        load(tmp_path, (1, 3, 2, 2))


# Settings in a file


def test_a_file_of_settings_names_the_folder(tmp_path: Path) -> None:
    write(tmp_path / "val" / "a.png", pixels(6, 8))
    (tmp_path / "data.toml").write_text('path = "val"\nresize = [3, 4]\nmean = [0.5, 0.5, 0.5]')
    found = first(load(tmp_path / "data.toml", (1, 3, "H", "W")))
    assert (found.shape, bool(found.min() < 0)) == ((1, 3, 3, 4), True)


def test_settings_may_lie_among_the_images(folder: Path) -> None:
    (folder / "data.toml").write_text("crop = 2")
    assert first(load(folder, (1, 3, "H", "W"))).shape == (1, 3, 2, 2)


def test_options_win_over_settings(folder: Path) -> None:
    (folder / "data.toml").write_text("crop = 2")
    assert first(load(folder, (1, 3, "H", "W"), crop=4)).shape == (1, 3, 4, 4)


def test_settings_may_name_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((2, 3), np.float32))
    (tmp_path / "data.toml").write_text('path = "a.npy"')
    assert len(load(tmp_path / "data.toml", ("N", 3))) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("crop = ", r"data\.toml cannot be read: Invalid value"),
        ('path = "nowhere"', r"data\.toml: there is no .*nowhere; path is relative to this file"),
        ("size = 3", "images have no option 'size'"),
    ],
)
def test_settings_that_say_nothing_sensible_are_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "data.toml").write_text(text)
    with pytest.raises(DataError, match=message):
        load(tmp_path / "data.toml", (1, 3, 2, 2))


def test_options_of_images_are_refused_for_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((2, 3), np.float32))
    with pytest.raises(DataError, match="is no folder of images, which alone is changed by: mean"):
        load(tmp_path / "a.npy", ("N", 3), mean=1)
