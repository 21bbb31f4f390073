"""Zeros that grow in number while the weights between them are tuned."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch

from onnxslim.base import Context
from onnxslim.ir import Model
from onnxslim.saliency import layer_adaptive, lowest
from onnxslim.sites import find

_UPDATES = 100
"""How often zeros are added."""


class Gradual:
    """Adds zeros along a cubic curve, those first that are smallest for their layer.

    Sources: Zhu & Gupta 2017, To Prune, or Not to Prune, for the curve; Lee et al. 2021,
    Layer-adaptive Sparsity for the Magnitude-based Pruning, for what is small.
    """

    def __init__(
        self, model: Model, parameters: Mapping[str, torch.Tensor], sparsity: float
    ) -> None:
        """Look for the weights of layers among *parameters*, of which *sparsity* shall be zeros."""
        sites = find(model, Context())
        names = [s.tensor.name for s in sites if not s.is_table]
        self.weights = {name: parameters[name] for name in names if name in parameters}
        self.sparsity = sparsity
        values = list(self.weights.values())
        self._size = sum(value.numel() for value in values)
        zeros = sum(int((value == 0).sum()) for value in values)
        self._start = zeros / max(1, self._size)
        self._given = -1

    def zeros(self, done: float) -> dict[str, torch.Tensor]:
        """Return where zeros belong when *done* of the way (0 to 1) is gone; {} if as before."""
        turn = math.floor(min(done, 1.0) * _UPDATES)
        if turn == self._given or not self._size:
            return {}
        self._given = turn
        left = (1 - turn / _UPDATES) ** 3
        share = self.sparsity + (self._start - self.sparsity) * left
        scores = [
            layer_adaptive(np.square(value.detach().numpy().astype(np.float64).reshape(-1)))
            for value in self.weights.values()
        ]
        chosen = lowest(np.concatenate(scores), math.ceil(max(share, self._start) * self._size))
        ends = np.cumsum([len(part) for part in scores])[:-1]
        parts = np.split(chosen, ends)
        return {
            name: torch.from_numpy(part.reshape(tuple(value.shape)))
            for (name, value), part in zip(self.weights.items(), parts, strict=True)
        }
