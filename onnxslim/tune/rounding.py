"""Rounding that gradients pass straight through, to the nearest or by chance."""

from __future__ import annotations

import torch


class Rounding:
    """Rounds to integers or to half precision; what is rounded keeps its gradient.

    *stochastic* rounds up with a probability equal to the fraction while `training` is set, so that
    the mean of what is rounded stays what it was.
    """

    def __init__(self, stochastic: bool = False) -> None:
        """Round to the nearest unless *stochastic*."""
        self.stochastic, self.training = stochastic, False
        self.random = torch.Generator()

    def begin(self, training: bool, seed: int) -> None:
        """Start an epoch, whose chances follow from *seed*."""
        self.training = training
        self.random.manual_seed(seed)

    def integer(self, value: torch.Tensor) -> torch.Tensor:
        """Round to integers, halves to even ones."""
        if not (self.stochastic and self.training):
            return through(value, torch.round(value.detach()))
        return through(value, torch.floor(value.detach() + self._chances(value)))

    def narrow(self, value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Round to the values of the narrower float type *dtype*."""
        known = value.detach()
        nearest = known.to(dtype)
        if not (self.stochastic and self.training):
            return through(value, nearest.to(value.dtype))
        back = nearest.to(value.dtype)
        toward = torch.where(back > known, -torch.inf, torch.inf).to(dtype)
        other = torch.nextafter(nearest, toward).to(value.dtype)
        fraction = ((known - back) / (other - back)).nan_to_num(0.0)
        return through(value, torch.where(self._chances(value) < fraction, other, back))

    def _chances(self, value: torch.Tensor) -> torch.Tensor:
        return torch.rand(value.shape, generator=self.random, dtype=value.dtype)


def through(value: torch.Tensor, rounded: torch.Tensor) -> torch.Tensor:
    """Return *rounded* with the gradient of *value*."""
    if not value.requires_grad:
        return rounded
    finite = torch.isfinite(value)
    return torch.where(finite, value + (rounded - value.detach()), rounded)
