"""Images that are moved and mirrored while a model learns from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from onnxslim.errors import CannotTune
from onnxslim.tune.variation import Variation, moved, spatial

IMAGE = np.arange(12.0, dtype=np.float32).reshape(1, 1, 3, 4)


def varied(shift: int = 0, mirror: bool = False, epoch: int = 0) -> list[np.ndarray]:
    vary = Variation({"x": IMAGE}, 20, shift, mirror, seed=0).epoch(epoch)
    return [np.asarray(vary(place, {"x": IMAGE})["x"]) for place in range(20)]


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((1, 3, 32, 32), (2, 3)), ((1, 32, 32, 3), (1, 2)), ((1, 3, 4, 4), (2, 3)),
        ((1, 28, 28), (1, 2)), ((1, 784), None), ((1, 3, 8, 32, 32), None),
    ],
)  # fmt: skip
def test_where_height_and_width_are(shape: Sequence[int], axes: tuple[int, int] | None) -> None:
    assert spatial(shape) == axes


def test_an_image_that_moves_repeats_its_edge() -> None:
    found = moved(IMAGE, (2, 3), (1, -1), mirrored=False)
    assert found[0, 0].tolist() == [[1, 2, 3, 3], [1, 2, 3, 3], [5, 6, 7, 7]]


def test_a_mirrored_image_is_mirrored_before_it_moves() -> None:
    found = moved(IMAGE, (2, 3), (0, 1), mirrored=True)
    assert found[0, 0, 0].tolist() == [3, 3, 2, 1]


def test_images_move_as_far_as_is_said_and_no_farther() -> None:
    kinds = {image.tobytes() for image in varied(shift=1)}
    allowed = {
        moved(IMAGE, (2, 3), (down, right), mirrored=False).tobytes()
        for down in (-1, 0, 1) for right in (-1, 0, 1)
    }  # fmt: skip
    assert len(kinds) > 4
    assert kinds <= allowed


def test_about_half_are_mirrored() -> None:
    assert 4 < sum(bool((image == IMAGE).all()) for image in varied(mirror=True)) < 16


def test_epochs_differ_and_repeat() -> None:
    first, again, second = (
        b"".join(image.tobytes() for image in varied(1, epoch=epoch)) for epoch in (0, 0, 1)
    )
    assert first == again != second


def test_says_where_nothing_can_be_moved() -> None:
    with pytest.raises(CannotTune, match="no input is an image"):
        Variation({"x": np.zeros((1, 8))}, 1, 1, False, 0)
