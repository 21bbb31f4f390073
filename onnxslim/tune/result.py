"""What tuning came to."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from onnxslim.ir import Array, Model


@dataclass(frozen=True)
class Score:
    """How good a model is on the samples that are held out."""

    loss: float
    """With the penalty on batch-norm scales, if there is one."""
    metric: float

    @property
    def is_finite(self) -> bool:
        """Whether the loss is a number."""
        return math.isfinite(self.loss)


@dataclass(frozen=True)
class Epoch:
    """What one pass over the samples came to."""

    number: int
    lr: float
    """At its end."""
    loss: float
    """Mean over its steps."""
    held_out: Score
    seconds: float


@dataclass(frozen=True)
class Result:
    """A tuned model: the graph of the model that was given, with other float initializers."""

    model: Model
    before: Score
    after: Score
    """Both as onnxruntime computes them."""
    metric: str
    """``accuracy``, ``agreement`` (of the largest output) or ``relative error``."""
    history: tuple[Epoch, ...]
    tuned: int
    """How many numbers were free."""
    notes: tuple[str, ...] = ()
    importance: dict[str, Array] = field(default_factory=dict)
    """Adam's second moments by initializer: an estimate of Fisher information."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to *path* atomically. Raises OutputError."""
        self.model.save(path)

    def save_importance(self, path: str | os.PathLike[str]) -> None:
        """Write `importance` as an ``.npz`` file, one array for each initializer."""
        with Path(path).open("wb") as file:
            np.savez(file, **self.importance)  # type: ignore[arg-type]
