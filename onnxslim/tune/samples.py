"""Batches of samples, and what the original makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from onnxslim.data import Calibration, Feed, input_specs
from onnxslim.errors import CannotRun, CannotTune, DataError
from onnxslim.ir import Array, Model, Variable
from onnxslim.runtime import Session, lent
from onnxslim.tune.executor import torch_value
from onnxslim.tune.variation import Vary

_CACHED = 1 << 30
"""What the original computes is kept up to so many bytes, and computed anew beyond."""


@dataclass(frozen=True)
class Batch:
    """Samples that are computed at once."""

    places: Sequence[int]
    """Which they are."""
    feed: Feed
    wanted: Mapping[str, torch.Tensor]
    """What the original makes of them."""
    labels: torch.Tensor | None
    weight: float
    """Their share of a step."""


class Samples:
    """Feeds in memory, with labels where they are asked for, and the original's answers."""

    def __init__(self, data: Calibration, with_labels: bool) -> None:
        """Read all of *data*. Raises DataError."""
        self.feeds = list(data)
        self.labels = data.labels_by_feed().astype(np.int64) if with_labels else None
        self.stacked = False
        """Whether several feeds can be computed as one."""
        self._teacher: Session | None = None
        self._names: Sequence[str] = ()
        self._cache: dict[int, dict[str, Array]] = {}
        self._room = _CACHED

    def split(self, share: float, seed: int) -> tuple[Array, Array]:
        """Return the places of samples to learn from, and of those held out. Raises DataError."""
        order = np.random.default_rng(seed).permutation(len(self.feeds))
        count = max(1, round(share * len(order)))
        if count >= len(order):
            raise DataError("tuning takes two samples at least: one of them is held out")
        return np.sort(order[count:]), np.sort(order[:count])

    def follow(self, session: Session, names: Sequence[str]) -> None:
        """Take what *session* makes of tensors *names* for right."""
        self._teacher, self._names = session, names

    def stack(self, *models: tuple[Model, Session]) -> None:
        """Find out whether the *models* compute several feeds as one."""
        self.stacked = len(self.feeds) > 1 and all(self._stacks(*pair) for pair in models)

    def _stacks(self, model: Model, session: Session) -> bool:
        specs, pair = input_specs(model.skeleton()), self.feeds[:2]
        free = all(
            s.kind == "tensor" and s.shape and not isinstance(s.shape[0], int) for s in specs
        )
        shapes = {tuple(np.shape(value) for value in feed.values()) for feed in self.feeds}
        if not free or len(shapes) > 1:
            return False
        try:
            single, both = session.run(pair[0]), session.run(_joined(pair))
        except CannotRun:
            return False
        return all(
            isinstance(value, np.ndarray)
            and value.ndim > 0
            and both[name].shape == (2 * len(value), *value.shape[1:])
            and _alike(value, both[name][: len(value)])
            for name, value in single.items()
        )

    def batches(self, places: Array, size: int, vary: Vary | None = None) -> Iterator[list[Batch]]:
        """Yield steps of *size* samples each, which take one batch or many.

        Where samples *vary*, the original is asked anew.
        """
        for start in range(0, len(places), size):
            step = [int(place) for place in places[start : start + size]]
            groups = [step] if self.stacked else [[place] for place in step]
            yield [self._batch(group, len(group) / len(step), vary) for group in groups]

    def _batch(self, places: list[int], weight: float, vary: Vary | None) -> Batch:
        given = (self.feeds[at] for at in places)
        feed = _joined(
            [f if vary is None else vary(at, f) for at, f in zip(places, given, strict=True)]
        )
        labels = None
        if self.labels is not None:
            labels = torch.from_numpy(np.concatenate([self.labels[at] for at in places]))
        answers = self._wanted(places, feed) if vary is None else self._asked(feed)
        wanted = {name: torch_value(value) for name, value in answers.items()}
        return Batch(places, feed, wanted, labels, weight)

    def _asked(self, feed: Feed) -> dict[str, Array]:
        """Return what the original computes."""
        if self._teacher is None:
            return {}
        found = self._teacher.run(feed)
        return {name: np.asarray(found[name]) for name in self._names}

    def _wanted(self, places: list[int], feed: Feed) -> dict[str, Array]:
        """Return the same, which is kept for the next time."""
        if self._teacher is None:
            return {}
        if all(at in self._cache for at in places):
            return _joined([self._cache[at] for at in places])
        wanted = self._asked(feed)
        self._room -= sum(value.nbytes for value in wanted.values())
        if self._room > 0:
            self._keep(places, wanted)
        return wanted

    def _keep(self, places: list[int], wanted: dict[str, Array]) -> None:
        parts = {
            name: np.split(value, len(places)) if len(places) > 1 else [value]
            for name, value in wanted.items()
        }
        for at, place in enumerate(places):
            self._cache[place] = {name: part[at] for name, part in parts.items()}


def _joined(feeds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if len(feeds) == 1:
        return dict(feeds[0])
    return {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}


def _alike(value: Array, again: Array) -> bool:
    """Say whether *value* is what it was beside other samples."""
    if value.dtype.kind != "f":
        return bool((value == again).all())
    scale = np.abs(value[np.isfinite(value)]).max(initial=0)
    return bool(np.allclose(value, again, rtol=0, atol=1e-3 * scale, equal_nan=True))


def session_of(model: Model, extra: Sequence[str] = ()) -> Session:
    """Load a model that also puts out the tensors *extra*. Raises CannotTune, CannotRun."""
    if extra:
        model = _with_outputs(model, extra)
    with lent(model) as source:
        return Session(source, optimize=True, threads=torch.get_num_threads())


def _with_outputs(model: Model, names: Sequence[str]) -> Model:
    found = model.copy()
    tensors = {t.name: t for node in found.graph.nodes for t in node.outputs}
    for name in names:
        tensor = tensors.get(name)
        if not isinstance(tensor, Variable):
            raise CannotTune(f"the original has no tensor {name!r} to compare as a feature")
        if tensor not in found.graph.outputs:
            found.graph.outputs.append(tensor)
    return found
