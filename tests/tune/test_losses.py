"""Losses, against their formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kit import model
from onnxslim.tune.losses import Comparison, Target, form, targets
from onnxslim.tune.options import Options

OURS, THEIRS = (np.random.default_rng(seed).normal(size=(5, 3)) for seed in (0, 1))


def softmax(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits)
    return np.asarray(exponents / exponents.sum(1, keepdims=True))


def loss(
    ours: np.ndarray, theirs: np.ndarray, kind: str, said: str = "logits",
    options: Options | None = None, labels: np.ndarray | None = None,
) -> float:  # fmt: skip
    compared = Comparison(
        [Target("y", kind)], {"y": said}, {"y": said}, {"y": 2.0}, options or Options()
    )
    given = None if labels is None else torch.tensor(labels)
    found, wanted = ({"y": torch.tensor(value)} for value in (ours, theirs))
    return float(compared.loss(found, wanted, given))


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    return float((p * np.log(p / q)).sum(1).mean())


@pytest.mark.parametrize(
    ("said", "view"), [("logits", np.array), ("probabilities", softmax), ("logarithms", None)]
)
def test_kl_is_the_divergence_of_the_probabilities(said: str, view: object) -> None:
    pair = [np.log(softmax(v)) if view is None else view(v) for v in (OURS, THEIRS)]  # type: ignore[operator]
    expected = divergence(softmax(THEIRS), softmax(OURS))
    assert loss(pair[0], pair[1], "kl", said) == pytest.approx(expected)


def test_temperature_flattens_both() -> None:
    expected = 4 * divergence(softmax(THEIRS / 2), softmax(OURS / 2))
    assert loss(OURS, THEIRS, "kl", options=Options(temperature=2)) == pytest.approx(expected)


def test_mse_is_relative_to_the_power_of_the_original() -> None:
    assert loss(OURS, THEIRS, "mse") == pytest.approx(((OURS - THEIRS) ** 2).mean() / 2)


def test_labels_are_weighted() -> None:
    labels = np.array([0, 1, 2, 0, 1])
    right = -np.log(softmax(OURS)[np.arange(5), labels]).mean()
    expected = 0.25 * right + 0.75 * divergence(softmax(THEIRS), softmax(OURS))
    found = loss(OURS, THEIRS, "kl", options=Options(labels=0.25), labels=labels)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("body", "kind", "axis"),
    [
        ("y = Softmax (x)", "kl", -1),
        ("y = LogSoftmax <axis = 2> (x)", "kl", 2),
        ("y = Relu (x)", "mse", 1),
    ],
)
def test_auto_takes_kl_for_probabilities(body: str, kind: str, axis: int) -> None:
    of = model(f"main (float[N, 3, 4] x) => (float[N, 3, 4] y) {{ {body} }}")
    assert targets(of, Options()) == [Target("y", kind, axis)]


def test_auto_takes_kl_for_what_argmax_reads() -> None:
    of = model(
        "main (float[N, 4] x) => (float[N, 4] y, int64[N, 1] z) "
        "{ y = Relu (x) z = ArgMax <axis = 1> (y) }"
    )
    assert targets(of, Options()) == [Target("y", "kl", 1)]


def test_what_an_output_is_follows_from_its_producer() -> None:
    of = model("main (float[N, 4] x) => (float[N, 4] y) { y = LogSoftmax (x) }")
    assert form(of, "y") == "logarithms"
