"""One run of a tuner: its parameters on their way, epoch by epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from onnxslim.ir import Array
from onnxslim.tune.adam import Adam
from onnxslim.tune.gradual import Gradual
from onnxslim.tune.parameters import Constraints, rate
from onnxslim.tune.result import Epoch, Score
from onnxslim.tune.samples import Batch

if TYPE_CHECKING:
    from onnxslim.tune.tuner import Tuner

State = dict[str, torch.Tensor]
_RAMP = 0.6
"""The share of all steps in which zeros are added."""


class Descent:
    """One run of a tuner: parameters on their way."""

    def __init__(self, tuner: Tuner) -> None:
        """Start from the model that *tuner* was given."""
        self.tuner, self.options, self.executor = tuner, tuner.options, tuner.executor
        self.parameters = self.executor.parameters
        self._set(tuner.start)
        self.constraints = Constraints(self.parameters, tuner.weights, tuner.fading)
        self.optimizer = Adam(self.parameters)
        sparsity = self.options.sparsity
        self.gradual = Gradual(tuner.model, self.parameters, sparsity) if sparsity else None
        self.history: list[Epoch] = []
        self.best: State | None = None
        self.notes: list[str] = []
        steps = -(-len(tuner.learned) // self.options.batch)
        self.total = max(steps * self.options.epochs, 1)
        self.least = math.inf

    def _set(self, state: State) -> None:
        with torch.no_grad():
            for name, value in state.items():
                self.parameters[name].copy_(value)

    def wants_more(self) -> bool:
        """Say whether another epoch is due."""
        if self.notes or len(self.history) >= self.options.epochs:
            return False
        waited = len(self.history) - 1 - self._best_place() if self.history else 0
        if self.options.patience and waited >= self.options.patience:
            self.notes.append(f"stopped early, after {waited} epochs without a better loss")
            return False
        return True

    def _best_place(self) -> int:
        scores = [epoch.held_out for epoch in self.history]
        losses = [score.loss if score.is_finite else math.inf for score in scores]
        return losses.index(min(losses))

    def epoch(self) -> Epoch:
        """Go through the samples once."""
        start, number = time.perf_counter(), len(self.history)
        seed = self.options.seed
        order = np.random.default_rng((seed, number)).permutation(self.tuner.learned)
        self.executor.rounding.begin(training=True, seed=seed * 1_000_003 + number)
        steps, mean = -(-len(order) // self.options.batch), 0.0
        variation = self.tuner.variation
        vary = None if variation is None else variation.epoch(number)
        batches = self.tuner.samples.batches(order, self.options.batch, vary)
        for count, step in enumerate(batches, 1):
            mean += (self._step(step, number * steps + count) - mean) / count
            if not math.isfinite(mean):
                self.notes.append(
                    f"stopped in epoch {number + 1}: the loss is no number any more; lower --lr"
                )
                break
        self.executor.rounding.begin(training=False, seed=0)
        score = self._score()
        sparse = self.gradual is None or (number + 1) * steps >= _RAMP * self.total
        if sparse and score.is_finite and math.isfinite(mean) and score.loss < self.least:
            self.least, self.best = score.loss, copied(self.parameters)
        done = Epoch(number + 1, self.optimizer.lr, mean, score, time.perf_counter() - start)
        self.history.append(done)
        return done

    def _step(self, step: Sequence[Batch], number: int) -> float:
        if self.gradual is not None:
            self.constraints.grow(self.gradual.zeros(number / (_RAMP * self.total)))
        done = (number - 0.5) / self.total
        share = rate(done, self.options.schedule, self.options.warmup)
        self.optimizer.lr = self.options.lr * share
        self.optimizer.forget_gradients()
        total = 0.0
        for batch in step:
            found = self.executor(batch.feed)
            loss = self.tuner.comparison.loss(found, batch.wanted, batch.labels) * batch.weight
            if loss.requires_grad:
                loss.backward()
            total += float(loss.detach())
        if self.tuner.fading:
            penalty = self.constraints.penalty(self.options.l1_gamma)
            penalty.backward()
            total += float(penalty.detach())
        self.constraints.hold(self.optimizer.step)
        return total

    def _score(self) -> Score:
        penalty = 0.0
        if self.tuner.fading:
            with torch.no_grad():
                penalty = float(self.constraints.penalty(self.options.l1_gamma))
        return self.tuner.score(self.executor, penalty)

    def importance(self) -> dict[str, Array]:
        """Return Adam's second moments, without their bias, by initializer."""
        return {name: value.numpy() for name, value in self.optimizer.second_moments().items()}

    # Checkpoints

    def state(self) -> dict[str, Any]:
        """Return all that goes on from here depends on."""
        return {
            "parameters": copied(self.parameters),
            "zeros": dict(self.constraints.zeros),
            "optimizer": self.optimizer.state(),
            "best": self.best,
            "least": self.least,
            "history": [asdict(epoch) for epoch in self.history],
            "notes": list(self.notes),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        self._set(state["parameters"])
        self.constraints.zeros = dict(state["zeros"])
        self.optimizer.restore(state["optimizer"])
        self.best, self.least, self.notes = state["best"], state["least"], list(state["notes"])
        self.history = [
            Epoch(**{**epoch, "held_out": Score(**epoch["held_out"])}) for epoch in state["history"]
        ]


def copied(parameters: Mapping[str, torch.Tensor]) -> State:
    """Return the values of *parameters*, as they are now."""
    return {name: value.detach().clone() for name, value in parameters.items()}
