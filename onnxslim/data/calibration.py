"""Calibration data: feeds that fit a model, one after the other, as often as anybody asks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import replace
from typing import Any

import numpy as np

from onnxslim.data.checks import check, named
from onnxslim.data.sources import opened
from onnxslim.data.specs import Array, Feed, InputSpec
from onnxslim.data.stream import Stream
from onnxslim.errors import DataError


class Calibration:
    """Feeds that can be gone through again and again; ``len`` counts them.

    A feed holds one sample, or as many as the model's declared batch size.
    """

    def __init__(
        self,
        feeds: Callable[[], Iterable[Any]],
        where: str = "calibration data",
        specs: Sequence[InputSpec] | None = None,
        labels: Array | None = None,
        count: int | None = None,
        synthetic: bool = False,
    ) -> None:
        """Stream what *feeds* returns anew at each call; *where* it comes from is for messages.

        Where *specs* are given every feed is checked when it is read. Raises DataError when there
        is none, or the first does not fit.
        """
        self.labels = labels
        """The right answers, one per sample that a feed holds, where the file has them."""
        self.count = count
        """How many feeds there are; None where nobody has counted yet."""
        self.synthetic = synthetic
        """Whether the feeds are made up, so that what is learned from them is a guess."""
        self._feeds, self._where, self._specs = feeds, where, specs
        next(iter(self))

    @classmethod
    def of(
        cls,
        feeds: Iterable[Any] | Callable[[], Iterable[Any]],
        specs: Sequence[InputSpec] | None = None,
    ) -> Calibration:
        """Take feeds from Python: a list, anything that can be iterated repeatedly, or a function.

        A function is called, without arguments, whenever the feeds are gone through. A generator,
        which cannot be iterated twice, is read into memory at once. Raises DataError.
        """
        if callable(feeds) and not isinstance(feeds, Iterable):
            return cls(feeds, specs=specs)
        if iter(feeds) is feeds:
            feeds = list(feeds)
        count = len(feeds) if isinstance(feeds, Sized) else None
        return cls(lambda: feeds, specs=specs, count=count)

    @classmethod
    def load(
        cls,
        source: str | os.PathLike[str],
        specs: Sequence[InputSpec],
        images: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> Calibration:
        """Read calibration data for a model whose inputs are *specs*.

        *source* is an ``.npz`` file whose arrays are named as the inputs and have one sample per
        entry of their first axis (an array ``labels`` is kept aside), an ``.npy`` file for a model
        with one input, a folder with ``test_data_set_*`` in it, or one such folder, a folder of
        images, a TOML file that names one of these, ``module:function``, or ``random:32``. *images*
        says how images become arrays, see `Preprocessing`. Where the model declares a batch size
        b > 1, b samples of a file make one feed and a rest is left out. Raises DataError.
        """
        return cls._from(opened(source, specs, images or {}, seed), specs)

    @classmethod
    def _from(cls, stream: Stream, specs: Sequence[InputSpec]) -> Calibration:
        if stream.recorded:
            specs = [replace(spec, nan=True) for spec in specs]
        return cls(stream.feeds, stream.where, specs, stream.labels, stream.count, stream.synthetic)

    def labels_by_feed(self) -> Array:
        """Return the labels, (feeds, samples of a feed, …). Raises DataError."""
        if self.labels is None:
            raise DataError("the data have no labels: an .npz file needs an array 'labels'")
        labels, count = np.atleast_1d(self.labels), len(self)
        each, rest = divmod(len(labels), count)
        if rest or not each:
            raise DataError(f"{len(labels)} labels do not belong to {count} feeds")
        return labels.reshape(count, each, *labels.shape[1:])

    def fitted(self, specs: Sequence[InputSpec]) -> Calibration:
        """Return the same feeds, checked against *specs* unless they are checked already.

        Raises DataError when the first does not fit.
        """
        if self._specs is not None:
            return self
        return Calibration(self._feeds, self._where, specs, self.labels, self.count, self.synthetic)

    def __iter__(self) -> Iterator[Feed]:
        number = -1
        for number, feed in enumerate(self._feeds()):
            try:
                found = named(feed, self._specs)
                checked = dict(found) if self._specs is None else check(found, self._specs)
            except DataError as error:
                raise DataError(f"{self._where}, sample {number}: {error}") from None
            yield checked
        if number < 0:
            raise DataError(f"{self._where}: holds no samples")
        self.count = number + 1

    def __len__(self) -> int:
        if self.count is None:
            self.count = sum(1 for _ in self._feeds())
        return self.count
