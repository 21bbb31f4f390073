"""Samples, and whether several can be computed at once."""

from __future__ import annotations

import numpy as np
import pytest

from kit import model
from onnxslim.data import Calibration
from onnxslim.errors import DataError
from onnxslim.tune.samples import Samples, session_of

FEEDS = [{"x": x[None]} for x in np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)]


def stacked(text: str) -> bool:
    samples, of = Samples(Calibration(lambda: FEEDS), False), model(text)
    samples.stack((of, session_of(of)))
    return samples.stacked


def test_samples_of_a_free_batch_are_computed_at_once() -> None:
    assert stacked("main (float[N, 4] x) => (float[N, 4] y) { y = Relu (x) }")


@pytest.mark.parametrize(
    "text",
    [
        "main (float[1, 4] x) => (float[1, 4] y) { y = Relu (x) }",
        "main (float[N, 4] x) => (float[N, 4] y) { y = Softmax <axis = 0> (x) }",
        "main (float[N, 4] x) => (float[1, 4] y) <int64[1] a = {0}> { y = ReduceSum (x, a) }",
    ],
)
def test_samples_that_know_of_each_other_are_computed_one_by_one(text: str) -> None:
    assert not stacked(text)


def test_batches_hold_every_sample_once() -> None:
    samples = Samples(Calibration(lambda: FEEDS), False)
    samples.stacked = True
    batches = [batch for step in samples.batches(np.arange(6), 4) for batch in step]
    assert [len(batch.feed["x"]) for batch in batches] == [4, 2]
    rows = np.concatenate([batch.feed["x"] for batch in batches])
    assert (rows == np.concatenate([feed["x"] for feed in FEEDS])).all()


def test_what_is_held_out_is_not_learned() -> None:
    learned, held_out = Samples(Calibration(lambda: FEEDS), False).split(0.3, seed=0)
    assert sorted([*learned, *held_out]) == list(range(6))
    assert len(held_out) == 2


def labels(count: int) -> np.ndarray:
    found = Samples(Calibration(lambda: FEEDS, labels=np.arange(count)), True).labels
    assert found is not None
    return found


def test_a_feed_of_several_samples_has_several_labels() -> None:
    assert labels(12)[:2].tolist() == [[0, 1], [2, 3]]


@pytest.mark.parametrize("count", [5, 7])
def test_labels_of_other_samples_are_refused(count: int) -> None:
    with pytest.raises(DataError, match=f"{count} labels do not belong to 6 feeds"):
        labels(count)
