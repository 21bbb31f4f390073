"""Gradient descent on the float initializers of a model, toward what the original computes."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from onnxslim.api import Data, Source, as_model, calibration
from onnxslim.errors import CannotRun, CannotTune, InputError
from onnxslim.ir import Array, Constant, Model
from onnxslim.runtime import Session
from onnxslim.tune import losses
from onnxslim.tune.adam import Adam
from onnxslim.tune.checkpoint import Checkpoint
from onnxslim.tune.executor import Executor, torch_value
from onnxslim.tune.losses import Comparison, Target
from onnxslim.tune.options import Options
from onnxslim.tune.parameters import Constraints, gammas, rate, tunable
from onnxslim.tune.samples import Samples, session_of

Run = Callable[[Mapping[str, Any]], Mapping[str, torch.Tensor]]
State = dict[str, torch.Tensor]
_POWER_FROM = 256
"""Samples that tell how large the original's outputs are."""


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


class Tuner:
    """Tunes *model* toward *original* on *data*.

    *model* and *original* are paths, ModelProtos or Models with the same inputs and outputs;
    without an *original*, labels alone are learned (``Options(labels=1)``). *data* are what
    `onnxslim.run` takes. Raises CannotTune for what cannot be tuned, DataError for data that do
    not fit.
    """

    def __init__(
        self,
        model: Source,
        original: Source | None,
        data: Data,
        options: Options | None = None,
        *,
        images: Mapping[str, Any] | None = None,
    ) -> None:
        """Prepare; nothing is learned yet."""
        self.options = options or Options()
        self.model = as_model(model)
        self.original = None if original is None else as_model(original)
        self._check_original()
        self.weights: dict[str, Constant] = tunable(self.model, self.options.freeze)
        if not self.weights:
            raise CannotTune("the model has no float initializers to tune")
        self.targets = losses.targets(self.model, self.options)
        stochastic = self.options.rounding == "stochastic"
        self.executor = Executor(self.model, self.weights, self.options.features, stochastic)
        self.weights = {name: self.weights[name] for name in self.executor.parameters}
        self.start = _copied(self.executor.parameters)
        feeds = calibration(data, self.model, images, self.options.seed)
        self.samples = Samples(feeds, self.options.labels > 0)
        self.learned, self.held_out = self.samples.split(self.options.held_out, self.options.seed)
        self._student = session_of(self.model)
        self._attach_teacher()
        self.comparison = self._comparison()
        fading = gammas(self.weights) if self.options.l1_gamma else []
        if self.options.l1_gamma and not fading:
            raise CannotTune("the model has no BatchNormalization whose scales could fade")
        self._fading = fading

    def run(
        self,
        checkpoint: str | os.PathLike[str] | None = None,
        resume: bool = False,
        progress: Callable[[Epoch], None] = lambda epoch: None,
    ) -> Result:
        """Tune, and return the best model found, which may be the one that was given.

        The state after every epoch goes to *checkpoint*; *resume* goes on from there, to the very
        result that a run without an interruption has. *progress* is told of every epoch.
        """
        descent = _Descent(self)
        place = None if checkpoint is None else Checkpoint(Path(checkpoint), self._fingerprint())
        if resume and place is None:
            raise InputError("to resume, name the checkpoint")
        if resume and place is not None and place.exists():
            descent.restore(place.load())
        while descent.wants_more():
            progress(descent.epoch())
            if place is not None:
                place.save(descent.state())
        return self._result(descent)

    # Preparing

    def _check_original(self) -> None:
        if self.original is None and self.options.labels < 1:
            raise InputError("give the original to tune toward, or labels=1 to learn labels alone")
        if self.original is None:
            return
        ours, theirs = (
            [[info.name for info in side] for side in model.interface()]
            for model in (self.model, self.original)
        )
        if [sorted(side) for side in ours] != [sorted(side) for side in theirs]:
            raise InputError("the model and the original differ in their inputs or outputs")

    def _attach_teacher(self) -> None:
        if self.original is None:
            self.samples.stack((self.model, self._student))
            return
        teacher = session_of(self.original, self.options.features)
        self.samples.stack((self.model, self._student), (self.original, teacher))
        self.samples.follow(teacher, [target.name for target in self.targets])

    def _comparison(self) -> Comparison:
        names = [target.name for target in self.targets]
        forms = [
            {} if model is None else {name: losses.form(model, name) for name in names}
            for model in (self.model, self.original)
        ]
        some = self.learned[:_POWER_FROM]
        return Comparison(
            self.targets, forms[0], forms[1], self._powers(some, self.targets), self.options
        )

    def _powers(self, places: Array, targets: Sequence[Target]) -> dict[str, float]:
        if self.original is None:
            return {}
        squares: dict[str, list[float]] = {target.name: [] for target in targets}
        for step in self.samples.batches(places, self.options.batch):
            for batch in step:
                for name, value in batch.wanted.items():
                    squares[name].append(float(value.double().square().mean()))
        return {name: float(np.mean(found)) or 1.0 for name, found in squares.items()}

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(repr(sorted(asdict(self.options).items())).encode())
        for model in filter(None, (self.model, self.original)):
            digest.update(model.skeleton().SerializeToString(deterministic=True))
        digest.update(str(len(self.samples.feeds)).encode())
        return digest.hexdigest()

    # Judging

    def score(self, run: Run, penalty: float) -> Score:
        """Return how good what *run* computes is on the samples that are held out."""
        loss = metric = weight = 0.0
        with torch.no_grad():
            for step in self.samples.batches(self.held_out, self.options.batch):
                for batch in step:
                    found, share = run(batch.feed), batch.weight * len(step)
                    count = share * _rows(batch.feed, self.samples.stacked)
                    given = found, batch.wanted, batch.labels
                    loss += count * float(self.comparison.loss(*given))
                    metric += count * float(self.comparison.metric(*given))
                    weight += count
        return Score(loss / weight + penalty, metric / weight)

    def _runtime_score(self, session: Session, model: Model) -> Score:
        def run(feed: Mapping[str, Any]) -> Mapping[str, torch.Tensor]:
            return {name: torch_value(value) for name, value in session.run(feed).items()}

        return self.score(run, self._penalty(model))

    def _penalty(self, model: Model) -> float:
        sums = (
            np.abs(tensor.values.astype(np.float64)).sum()
            for tensor in model.graph.initializers
            if isinstance(tensor, Constant) and tensor.name in self._fading
        )
        return self.options.l1_gamma * float(sum(sums))

    def _result(self, descent: _Descent) -> Result:
        features = self.options.features
        before = self._runtime_score(session_of(self.model, features), self.model)
        model, after, notes = self.model, before, list(descent.notes)
        if descent.best is not None:
            found = self._with(descent.best)
            score = self._try(found)
            if score.is_finite and not score.loss > before.loss:
                model, after = found, score
        if model is self.model and descent.history:
            notes.append("nothing better than the model that was given was found; it is returned")
        free = sum(value.numel() for value in self.executor.parameters.values())
        return Result(
            model, before, after, self.comparison.metric_name, tuple(descent.history), free,
            tuple(notes), descent.importance(),
        )  # fmt: skip

    def _try(self, model: Model) -> Score:
        try:
            return self._runtime_score(session_of(model, self.options.features), model)
        except CannotRun:
            return Score(math.inf, math.nan)

    def _with(self, state: State) -> Model:
        """Return the model with other values of its parameters."""
        found = self.model.copy()
        with torch.no_grad():
            for name, value in state.items():
                self.executor.parameters[name].copy_(value)
        for tensor in found.graph.initializers:
            if tensor.name in state and isinstance(tensor, Constant):
                values = self.executor.value(tensor.name)
                if values.tobytes() != tensor.values.tobytes():
                    tensor.values = values
                    found.pristine = False
        return found


def _rows(feed: Mapping[str, Any], stacked: bool) -> int:
    return max((len(value) for value in feed.values()), default=1) if stacked else 1


class _Descent:
    """One run of a tuner: parameters on their way."""

    def __init__(self, tuner: Tuner) -> None:
        self.tuner, self.options, self.executor = tuner, tuner.options, tuner.executor
        self.parameters = self.executor.parameters
        self._set(tuner.start)
        self.constraints = Constraints(self.parameters, tuner.weights, tuner._fading)
        self.optimizer = Adam(self.parameters)
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
        found = [epoch.held_out.loss for epoch in self.history]
        return found.index(min(found))

    def epoch(self) -> Epoch:
        """Go through the samples once."""
        start, number = time.perf_counter(), len(self.history)
        seed = self.options.seed
        order = np.random.default_rng((seed, number)).permutation(self.tuner.learned)
        self.executor.rounding.begin(training=True, seed=seed * 1_000_003 + number)
        taken, mean = number * -(-len(order) // self.options.batch), 0.0
        for count, step in enumerate(self.tuner.samples.batches(order, self.options.batch), 1):
            mean += (self._step(step, taken + count) - mean) / count
            if not math.isfinite(mean):
                self.notes.append(
                    f"stopped in epoch {number + 1}: the loss is no number any more; lower --lr"
                )
                break
        self.executor.rounding.begin(training=False, seed=0)
        score = self._score()
        if score.is_finite and math.isfinite(mean) and score.loss < self.least:
            self.least, self.best = score.loss, _copied(self.parameters)
        done = Epoch(number + 1, self.optimizer.lr, mean, score, time.perf_counter() - start)
        self.history.append(done)
        return done

    def _step(self, step: Sequence[Any], number: int) -> float:
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
        if self.tuner._fading:
            penalty = self.constraints.penalty(self.options.l1_gamma)
            penalty.backward()
            total += float(penalty.detach())
        self.constraints.hold(self.optimizer.step)
        return total

    def _score(self) -> Score:
        penalty = 0.0
        if self.tuner._fading:
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
            "parameters": _copied(self.parameters),
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


def _copied(parameters: Mapping[str, torch.Tensor]) -> State:
    return {name: value.detach().clone() for name, value in parameters.items()}
