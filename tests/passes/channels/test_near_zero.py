"""Batch normalizations that scale a channel by next to nothing."""

import numpy as np
import pytest

from nets import net, norm, weights
from onnxslim import Model, Pipeline
from onnxslim.ir import Constant
from onnxslim.passes.channels.near_zero import NearZero


def gammas(of: Model) -> list[float]:
    """Return the scales of the last batch normalization."""
    node = [node for node in of.nodes() if node.op == "BatchNormalization"][-1]
    tensor = node.inputs[1]
    assert isinstance(tensor, Constant)
    return [round(float(gamma), 6) for gamma in tensor.values]


def normalized(scales: list[float]) -> Model:
    given = {"w": weights(len(scales), 3, 3, 3), **norm("n", "1" * len(scales))}
    given["n_s"] = np.array(scales)
    return net("c = Conv(x, w) t = BN(c, n) y = Relu(t)", **given)


@pytest.mark.parametrize(
    ("tolerance", "left"),
    [(1e-6, [1, 1e-3, 0, 0.5]), (0.05, [1, 0, 0, 0.5]), (1e3, [1, 0, 0, 0])],
)
def test_takes_as_many_as_the_tolerance_allows(tolerance: float, left: list[float]) -> None:
    before = normalized([1, 1e-3, 1e-9, 0.5])
    after, _ = Pipeline((NearZero(tolerance),), budget=1e4)(before)
    assert gammas(after) == left


def test_counts_the_gammas_that_went() -> None:
    _, report = Pipeline((NearZero(0.05),), budget=1e4)(normalized([1, 1e-3, 1e-9, 0.5]))
    assert report.steps[0].changes == 2


def test_leaves_the_weights_of_others_alone() -> None:
    given = {"w": weights(4, 3, 3, 3), "v": weights(4, 4, 1, 1), **norm("n", "1m1t")}
    before = net(
        "c = Conv(x, w) t = BN(c, n) d = Conv(t, v) y = BatchNormalization(d, n_s, n_b, n_m, n_v)",
        **given,
    )
    after, _ = Pipeline((NearZero(1e-4),), budget=1e4)(before)
    assert sum(gamma == 0 for gamma in gammas(after)) >= 1
