"""Adam with relative steps."""

from __future__ import annotations

import pytest
import torch

from onnxslim.tune.adam import Adam


def stepped(values: list[float], gradients: list[list[float]], lr: float = 0.1) -> torch.Tensor:
    value = torch.tensor(values, requires_grad=True)
    adam = Adam({"w": value})
    adam.lr = lr
    for gradient in gradients:
        value.grad = torch.tensor(gradient)
        adam.step()
    return value.detach()


@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_a_step_is_relative_to_the_size(size: float) -> None:
    assert stepped([size, -size], [[1.0, 1.0]]).tolist() == pytest.approx([0.9 * size, -1.1 * size])


def test_zeros_do_not_count_for_the_size() -> None:
    assert stepped([2.0, 0.0], [[1.0, 0.0]]).tolist() == pytest.approx([1.8, 0.0])


def test_a_tensor_of_zeros_moves() -> None:
    assert stepped([0.0], [[1.0]]).item() == pytest.approx(-0.01)


def test_two_steps_follow_the_formula() -> None:
    """Moments are 0.1 g and 0.001 g^2, then 0.9 and 0.999 of them and more; biases are divided."""
    first, second = 0.9 * 0.1 * 2 - 0.1 * 1, 0.999 * 0.001 * 4 + 0.001 * 1
    move = (first / (1 - 0.81)) / (second / (1 - 0.999**2)) ** 0.5
    assert stepped([1.0], [[2.0], [-1.0]]).item() == pytest.approx(1 - 0.1 - 0.1 * move)


def test_second_moments_have_no_bias() -> None:
    value = torch.tensor([1.0], requires_grad=True)
    adam = Adam({"w": value})
    for _ in range(3):
        value.grad = torch.tensor([2.0])
        adam.step()
    assert adam.second_moments()["w"].item() == pytest.approx(4.0)
