"""Rounding by chance."""

from __future__ import annotations

import pytest
import torch

from onnxslim.tune.rounding import Rounding


def stochastic(training: bool = True) -> Rounding:
    found = Rounding(stochastic=True)
    found.begin(training, seed=0)
    return found


@pytest.mark.parametrize("value", [0.3, -2.8, 5.0])
def test_the_mean_of_what_is_rounded_is_what_it_was(value: float) -> None:
    rounded = stochastic().integer(torch.full((100_000,), value))
    assert set(rounded.tolist()) <= {float(int(value // 1)), float(int(value // 1)) + 1}
    assert rounded.mean().item() == pytest.approx(value, abs=0.01)


@pytest.mark.parametrize("value", [1 / 3, -1 / 3, 1.0, 1e-7])
def test_halves_are_rounded_to_neighbours_with_the_right_mean(value: float) -> None:
    rounded = stochastic().narrow(torch.full((100_000,), value), torch.float16)
    assert (rounded == rounded.half().float()).all()
    assert rounded.double().mean().item() == pytest.approx(
        value, rel=1e-2 if value < 1e-6 else 1e-5
    )


def test_judging_rounds_to_the_nearest() -> None:
    values = torch.tensor([0.3, 0.7, 2.5])
    assert stochastic(training=False).integer(values).tolist() == [0, 1, 2]


def test_a_seed_gives_the_same_chances() -> None:
    values = torch.full((100,), 0.5)
    assert torch.equal(stochastic().integer(values), stochastic().integer(values))


def test_infinite_values_keep_their_place_and_no_gradient_is_lost() -> None:
    values = torch.tensor([float("inf"), 0.4], requires_grad=True)
    rounded = Rounding().integer(values)
    rounded[1].backward()
    assert (rounded.tolist(), values.grad.tolist()) == ([float("inf"), 0.0], [0.0, 1.0])
