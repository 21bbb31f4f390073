"""Adam (Kingma and Ba, 2015) with relative steps, and its second moments for others to use.

Weights, codebooks and scales of quantization differ in size by orders of magnitude, so the learning
rate is in units of each initializer's root mean square (Shazeer and Stern, 2018).

That of `torch.optim` imports PyTorch's compiler, which takes seconds, before its first step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

_BETAS = (0.9, 0.999)
_EPSILON = 1e-8
_UNIT_OF_ZEROS = 0.1
"""The unit of an initializer that holds nothing but zeros, such as a new bias."""


class Adam:
    """Moves *parameters* along their gradients; one without a gradient stays."""

    def __init__(self, parameters: Mapping[str, torch.Tensor]) -> None:
        """Start without momentum; units are those of the values now."""
        self.lr = 0.0
        self._parameters = parameters
        self._steps = 0
        self._units = {name: _unit(value.detach()) for name, value in parameters.items()}
        self._first = {n: torch.zeros_like(value) for n, value in parameters.items()}
        self._second = {n: torch.zeros_like(value) for n, value in parameters.items()}

    def forget_gradients(self) -> None:
        """Drop the gradients of the last step."""
        for value in self._parameters.values():
            value.grad = None

    def step(self) -> None:
        """Take a step: `lr` units where all gradients had one sign."""
        self._steps += 1
        rise, root = (1 - beta**self._steps for beta in _BETAS)
        with torch.no_grad():
            for name, value in self._parameters.items():
                if value.grad is None:
                    continue
                first, second = self._first[name], self._second[name]
                first.lerp_(value.grad, 1 - _BETAS[0])
                second.mul_(_BETAS[1]).addcmul_(value.grad, value.grad, value=1 - _BETAS[1])
                bound = second.sqrt().div_(math.sqrt(root)).add_(_EPSILON)
                value.addcdiv_(first, bound, value=-self.lr * self._units[name] / rise)

    def second_moments(self) -> dict[str, torch.Tensor]:
        """Return the mean squares of the gradients, without the bias of the start."""
        if not self._steps:
            return {}
        root = 1 - _BETAS[1] ** self._steps
        return {name: value / root for name, value in self._second.items()}

    def state(self) -> dict[str, Any]:
        """Return what further steps depend on, beside the parameters."""
        return {"steps": self._steps, "first": self._first, "second": self._second}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        self._steps = int(state["steps"])
        self._first, self._second = dict(state["first"]), dict(state["second"])


def _unit(value: torch.Tensor) -> float:
    """Return the root mean square of what is not zero."""
    used = value[value != 0]
    return float(used.square().mean().sqrt()) if used.numel() else _UNIT_OF_ZEROS
