"""Samples to learn from and to be judged by, as the models of `../shared` read them."""

from __future__ import annotations

import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def classes(scores: Array) -> Array:
    """Return the class of each sample."""
    return np.asarray(scores.argmax(1))


@dataclass
class Dataset:
    """Samples that models may be fitted to, and others with their right answers."""

    name: str
    """Of the input."""
    samples: Array
    labels: Array | None
    """Right answers to the samples; None where nobody knows."""
    tests: Array
    answers: Array | None
    """Right answers to the tests; None where the original's are taken to be right."""
    answer: Callable[[Array], Array] = classes
    """What a model's output says."""


def digits(data: Path) -> Dataset:
    """MNIST, for the models in ``seeds/``."""
    found = np.load(data / "mnist.npz")

    def prepared(images: Array) -> Array:
        return ((images[:, None] / 255 - 0.1307) / 0.3081).astype(np.float32)

    return Dataset(
        "image", prepared(found["x_train"]), found["y_train"].astype(np.int64),
        prepared(found["x_test"]), found["y_test"],
    )  # fmt: skip


def photographs(data: Path) -> Dataset:
    """CIFAR-10, for the ResNets in ``classify/``."""
    found = np.load(data / "cifar10.npz")
    mean, deviation = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))

    def prepared(images: Array) -> Array:
        scaled = ((images / 255 - mean) / deviation).astype(np.float32)
        return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))

    return Dataset(
        "input", prepared(found["x_calib"]), found["y_calib"].astype(np.int64),
        prepared(found["x_test"]), found["y_test"],
    )  # fmt: skip


def plates(data: Path, fitted: int = 128) -> Dataset:
    """Licence plates, for ``ocr/lprnet_bn.onnx``; the first *fitted* to learn from."""
    found = np.load(data / "plates.npz")
    images = ((found["x"][..., ::-1] - 127.5) * 0.0078125).astype(np.float32)
    images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    texts = found["text"]
    known, new = slice(None, fitted), slice(fitted, None)
    return Dataset(
        "input", images[known], texts[known], images[new], texts[new], read_plates
    )  # fmt: skip


def read_plates(logits: Array) -> Array:
    """Return the texts: repeated and blank symbols dropped, letters as in the data."""
    letters = (
        *"京沪津渝冀晋蒙辽吉黑苏浙皖闽赣鲁豫鄂湘粤桂琼川贵云藏陕甘青宁新",
        *"0123456789ABCDEFGHJKLMNPQRSTUVWXYZIO",
        "",
    )
    steps = logits.argmax(1)
    new = np.diff(steps, axis=1, prepend=-1) != 0
    rows = zip(steps, new, strict=True)
    return np.array(["".join(letters[s] for s in row[kept]) for row, kept in rows])


def files(data: Path, fitted: int = 128) -> Dataset:
    """Files of Python's library by their first and their last 1024 bytes, for magika."""
    folder = Path(sysconfig.get_path("stdlib"))
    kinds: dict[str, list[Path]] = {}
    for file in sorted(f for f in folder.rglob("*") if f.is_file() and f.stat().st_size > 64):
        kinds.setdefault(file.suffix, []).append(file)
    several = [file for found in kinds.values() for file in found[:: max(1, len(found) // 60)][:60]]
    order = np.random.default_rng(0).permutation(len(several))
    rows = np.array([_ends(several[place].read_bytes()) for place in order])
    return Dataset("bytes", rows[:fitted], None, rows[fitted:], None)


def _ends(content: bytes) -> Array:
    """Return what magika reads of a file; 256 where that is too short."""
    row, content = np.full(2048, 256, np.int32), content.strip()
    start, end = content[:1024], content[-1024:]
    row[: len(start)] = np.frombuffer(start, np.uint8)
    row[2048 - len(end) :] = np.frombuffer(end, np.uint8)
    return row


def dataset(model: Path, data: Path, fitted: int = 128) -> Dataset:
    """Return the samples for one of the models, by its file; *fitted* where they are few."""
    if model.stem == "lprnet_bn":
        return plates(data, fitted)
    if model.stem == "magika_standard_v3_3":
        return files(data, fitted)
    return photographs(data) if model.parent.name == "classify" else digits(data)
