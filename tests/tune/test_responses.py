"""How far outputs move when inner tensors do."""

from __future__ import annotations

import numpy as np
import pytest

from nets import net, weights
from onnxslim import Calibration

pytest.importorskip("torch")

from onnxslim.tune.responses import responses

X = np.random.default_rng(0).normal(size=(256, 1, 6)).astype(np.float32)


def feeds() -> Calibration:
    return Calibration.of([{"x": row} for row in X])


def expected(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return what Relu and a product make of the outputs of the first, relative to the second's."""
    inner = X[:, 0] @ first
    outputs = np.maximum(inner, 0) @ second
    together = (inner > 0).T.astype(float) @ (inner > 0) / len(X)
    return np.asarray((second @ second.T) * together / np.square(outputs).sum(1).mean())


def test_a_product_behind_a_relu() -> None:
    first, second = weights(6, 5), weights(5, 40, seed=1)
    of = net("a = MatMul(x, w) r = Relu(a) y = MatMul(r, v)", x="float[N, 6]", rank=2,
             w=first, v=second)  # fmt: skip
    found = responses(of, feeds(), {"a": -1})["a"]
    truth = expected(first, second)
    assert np.linalg.norm(found - truth) < 0.15 * np.linalg.norm(truth)


def test_what_reaches_no_output_is_missing() -> None:
    of = net("a = MatMul(x, w) s = Shape(a) r = MatMul(x, w) y = Reshape(r, s)", x="float[N, 6]",
             rank=2, w=weights(6, 5))  # fmt: skip
    assert set(responses(of, feeds(), {"a": -1, "r": -1})) == {"r"}


def test_gradients_that_are_not_finite_are_missing() -> None:
    made = weights(6, 5)
    made[:, 0] = 0
    of = net("a = MatMul(x, w) r = Abs(a) y = Sqrt(r)", x="float[N, 6]", rank=2, w=made)
    assert responses(of, feeds(), {"a": -1}) == {}
