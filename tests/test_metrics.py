"""Scores of small answers that can be told by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from onnxslim import metrics
from onnxslim.errors import DataError, SpecError

ORIGINALS = [{"y": np.eye(4, dtype=np.float32)[[k]]} for k in range(4)]
SHIFTED = [{"y": np.eye(4, dtype=np.float32)[[k]]} for k in (0, 1, 2, 0)]
LABELS = np.array([0, 1, 2, 3])


@pytest.mark.parametrize(
    ("name", "drop"),
    [
        ("top1", 0.25),
        ("top5", 0.0),
        ("agreement", 0.25),
        ("cosine", 0.25),
        ("sqnr", 0.5),
        ("mse", 2 / 16),
    ],
)
def test_drops(name: str, drop: float) -> None:
    assert metrics.metric(name).drop(SHIFTED, ORIGINALS, LABELS) == pytest.approx(drop)


@pytest.mark.parametrize("name", metrics.METRICS)
def test_nothing_drops_where_nothing_changes(name: str) -> None:
    assert metrics.metric(name).drop(ORIGINALS, ORIGINALS, LABELS) == pytest.approx(0, abs=1e-12)


def test_answers_that_are_no_numbers_drop_without_end() -> None:
    broken = [{"y": np.full((1, 4), np.nan, np.float32)}] * 4
    assert metrics.metric("cosine").drop(broken, ORIGINALS, None) == math.inf


def test_classes_of_images_lie_along_the_second_axis() -> None:
    image = np.zeros((1, 3, 2, 2), np.float32)
    image[:, 1] = 1
    assert metrics.answers([{"y": image}]).argmax(axis=-1).tolist() == [1, 1, 1, 1]


def test_a_function_may_score() -> None:
    drop = metrics.metric("math:fsum")
    with pytest.raises(TypeError):
        drop.drop(SHIFTED, ORIGINALS, LABELS)


def test_an_unknown_metric_names_those_there_are() -> None:
    with pytest.raises(SpecError, match="top1, top5, agreement"):
        metrics.metric("accuracy")


def test_labels_that_are_missing() -> None:
    with pytest.raises(DataError, match="needs labels"):
        metrics.metric("top1").drop(SHIFTED, ORIGINALS, None)


def test_labels_that_do_not_fit() -> None:
    with pytest.raises(DataError, match="3 labels for 4 answers"):
        metrics.metric("top1").drop(SHIFTED, ORIGINALS, LABELS[:3])


@pytest.mark.parametrize(
    ("text", "number"), [("0.5%", 0.005), ("0.005", 0.005), ("30dB", 1e-3), (0.25, 0.25)]
)
def test_limits(text: str | float, number: float) -> None:
    assert metrics.limit(text) == pytest.approx(number)


def test_a_limit_that_is_none() -> None:
    with pytest.raises(SpecError, match="no limit"):
        metrics.limit("little")
