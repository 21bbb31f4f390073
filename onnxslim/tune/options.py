"""How to tune: the options, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from onnxslim.errors import InputError

Loss = Literal["auto", "kl", "mse"]


@dataclass(frozen=True)
class Options:
    """What `Tuner` is told; the command line has the same names."""

    epochs: int = 5
    """How often to go through the samples."""
    batch: int = 64
    """Samples for one step."""
    lr: float = 0.01
    """The largest learning rate: a step of Adam, relative to an initializer's root mean square."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """The learning rate stays, or falls to zero along a cosine."""
    warmup: float = 0.0
    """Share of all steps in which the learning rate rises from zero."""
    loss: Loss = "auto"
    """``kl``: divergence from the original's probabilities, for logits or Softmax; ``mse``: squared
    error. ``auto`` takes ``kl`` for Softmax, LogSoftmax, what ArgMax reads, and where the data have
    labels and the model has one output, with a score for each class."""
    axis: int | None = None
    """The axis of classes; that of the Softmax if there is one, else 1."""
    temperature: float = 1.0
    """Divides the logits of both models before ``kl`` compares them."""
    labels: float = 0.0
    """Weight of the labels beside the original, up to 1, which is labels alone."""
    features: tuple[str, ...] = ()
    """Tensors that both models have, to be compared beside the outputs by their squared error."""
    sparsity: float = 0.0
    """Share of the weights of layers that become zeros on the way; what was zero counts."""
    l1_gamma: float = 0.0
    """Weight of the sum of absolute batch-norm scales; those that change their sign become 0."""
    rounding: Literal["nearest", "stochastic"] = "nearest"
    """How what the graph rounds, and weights in half precision, is rounded while tuning."""
    shift: int = 0
    """Pixels by which images are moved at random, up and down, left and right, while learning."""
    mirror: bool = False
    """Whether left and right of images are swapped at random while learning."""
    freeze: tuple[str, ...] = ()
    """Initializers that stay as they are: names, or patterns such as ``head.*``."""
    held_out: float = 0.1
    """Share of the samples that judge and are not learned from."""
    patience: int = 0
    """Stop after so many epochs without a better loss on what is held out; 0 is never."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what makes no sense. Raises InputError."""
        checks = {
            "epochs": self.epochs >= 0,
            "batch": self.batch >= 1,
            "lr": self.lr > 0,
            "schedule": self.schedule in ("constant", "cosine"),
            "warmup": 0 <= self.warmup < 1,
            "loss": self.loss in ("auto", "kl", "mse"),
            "temperature": self.temperature > 0,
            "labels": 0 <= self.labels <= 1,
            "sparsity": 0 <= self.sparsity < 1,
            "l1_gamma": self.l1_gamma >= 0,
            "shift": self.shift >= 0,
            "rounding": self.rounding in ("nearest", "stochastic"),
            "held_out": 0 < self.held_out < 1,
            "patience": self.patience >= 0,
            "seed": self.seed >= 0,
        }
        for name, holds in checks.items():
            if not holds:
                raise InputError(f"tune: {name}={getattr(self, name)!r} makes no sense")
