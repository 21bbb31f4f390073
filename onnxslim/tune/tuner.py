"""Gradient descent on the float initializers of a model, toward what the original computes."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from onnxslim.api import Data, Source, as_model, calibration
from onnxslim.data import Calibration
from onnxslim.errors import CannotRun, CannotTune, InputError
from onnxslim.ir import Array, Constant, Model
from onnxslim.runtime import Session
from onnxslim.tune import losses
from onnxslim.tune.checkpoint import Checkpoint
from onnxslim.tune.descent import Descent, State, copied
from onnxslim.tune.executor import Executor, torch_value
from onnxslim.tune.losses import Comparison, Target
from onnxslim.tune.options import Options
from onnxslim.tune.parameters import gammas, tunable
from onnxslim.tune.result import Epoch, Result, Score
from onnxslim.tune.samples import Samples, session_of
from onnxslim.tune.variation import Variation

Run = Callable[[Mapping[str, Any]], Mapping[str, torch.Tensor]]
_POWER_FROM = 256
"""Samples that tell how large the original's outputs are."""


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
        feeds = calibration(data, self.model, images, self.options.seed)
        self.targets = losses.targets(self.model, self.options, _classes(feeds))
        stochastic = self.options.rounding == "stochastic"
        self.executor = Executor(self.model, self.weights, self.options.features, stochastic)
        self.weights = {name: self.weights[name] for name in self.executor.parameters}
        self.start = copied(self.executor.parameters)
        self.samples = Samples(feeds, self.options.labels > 0)
        self.learned, self.held_out = self.samples.split(self.options.held_out, self.options.seed)
        self.variation = self._variation()
        self._attach_teacher()
        self.comparison = self._comparison()
        self.fading = gammas(self.weights) if self.options.l1_gamma else []
        if self.options.l1_gamma and not self.fading:
            raise CannotTune("the model has no BatchNormalization whose scales could fade")

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
        descent = Descent(self)
        place = None if checkpoint is None else Checkpoint(Path(checkpoint), self._fingerprint())
        if resume and place is None:
            raise InputError("to resume, name the checkpoint")
        if resume and place is not None and place.exists():
            descent.restore(place.load())
        while descent.wants_more():
            done = descent.epoch()
            if place is not None:
                place.save(descent.state())
            progress(done)
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

    def _variation(self) -> Variation | None:
        chosen, feeds = self.options, self.samples.feeds
        if not (chosen.shift or chosen.mirror):
            return None
        return Variation(feeds[0], len(feeds), chosen.shift, chosen.mirror, chosen.seed)

    def _attach_teacher(self) -> None:
        student = session_of(self.model)
        if self.original is None:
            self.samples.stack((self.model, student))
            return
        teacher = session_of(self.original, self.options.features)
        self.samples.stack((self.model, student), (self.original, teacher))
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
            for tensor in model.constants():
                digest.update(tensor.values.tobytes())
        digest.update(f"{len(self.samples.feeds)} {self.samples.feeds[0]}".encode())
        return digest.hexdigest()

    # Judging

    def score(self, run: Run, penalty: float) -> Score:
        """Return how good what *run* computes is on the samples that are held out."""
        loss = metric = weight = 0.0
        with torch.no_grad():
            for step in self.samples.batches(self.held_out, self.options.batch):
                for batch in step:
                    given = run(batch.feed), batch.wanted, batch.labels
                    count = len(batch.places)
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
            if isinstance(tensor, Constant) and tensor.name in self.fading
        )
        return self.options.l1_gamma * float(sum(sums))

    def _result(self, descent: Descent) -> Result:
        features = self.options.features
        before = self._runtime_score(session_of(self.model, features), self.model)
        model, after, notes = self.model, before, list(descent.notes)
        if descent.best is not None:
            found = self._with(descent.best)
            score = self._try(found)
            if score.is_finite and (self.options.sparsity or not score.loss > before.loss):
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


def _classes(data: Calibration) -> int:
    """Return how many classes the labels of *data* name, 0 if they name none."""
    labels = data.labels
    if labels is None or labels.dtype.kind not in "iu" or labels.ndim != 1 or not labels.size:
        return 0
    return int(labels.max()) + 1
