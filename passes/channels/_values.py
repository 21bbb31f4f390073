"""Value numbers of channels: which ones are constant, and which are equal to others.

A tensor's `Channels` hold arrays that broadcast against it: a dimension of 1 in them says nothing
about that axis, any other has the tensor's extent. The element of a tensor at some index is
``scale * value``, where the value is that of the number in ``base`` at this index; two elements
whose numbers are the same are equal where their indices along the other axes are. The number `ONE`
stands for the value 1, so that a constant is its scale.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from onnxslim.ir import Array

ONE = 0
KEPT = 0
"""The place of what is never cut."""
NOWHERE: Array = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Channels:
    """What is known of the elements of a tensor, and along which axis they can be cut."""

    base: Array
    scale: Array
    slack: Array
    """How far a constant may be from ``scale``."""
    size: Array
    """Typical magnitudes; 0 where nothing is known."""
    axis: int | None = None
    """The axis along which `places` says what is cut together; None where nothing can be cut."""
    places: Array = field(default_factory=lambda: NOWHERE)

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return int(self.base.ndim)

    @property
    def constant(self) -> Array:
        """Where the value is known."""
        return np.asarray(self.base == ONE)

    def each(self, change: Callable[[Array], Array]) -> Channels:
        """Apply *change* to what is known; the places are dropped."""
        return Channels(
            change(self.base), change(self.scale), change(self.slack), change(self.size)
        )

    def at(self, axis: int | None, places: Array) -> Channels:
        """Return the same with other places; a single one cannot be cut."""
        if axis is None or len(places) < 2:
            return replace(self, axis=None, places=NOWHERE)
        return replace(self, axis=axis, places=places)

    def leading(self, rank: int) -> Channels:
        """Put dimensions of 1 in front, up to *rank*, as broadcasting does."""
        more = rank - self.rank
        if not more:
            return self
        wide = self.each(lambda array: array.reshape((1,) * more + array.shape))
        return wide.at(None if self.axis is None else self.axis + more, self.places)


class Values:
    """Numbers for values: equal keys, equal numbers."""

    def __init__(self) -> None:
        """Know the value 1 alone."""
        self._numbers: dict[Hashable, int] = {"one": ONE}
        self._rows: dict[Hashable, dict[Hashable, int]] = {}
        self._count = 1

    def number(self, *key: Hashable) -> int:
        """Return the number of what *key* describes."""
        found = self._numbers.setdefault(key, self._count)
        self._count += found == self._count
        return found

    def numbers(self, key: Hashable, *columns: Array) -> Array:
        """Return a number for every row of *columns*, arrays of one shape."""
        rows = _rows(columns)
        known = self._rows.setdefault(key, {})
        fresh = [row for row in dict.fromkeys(rows) if row not in known]
        known.update(zip(fresh, itertools.count(self._count)))
        self._count += len(fresh)
        found = list(map(known.__getitem__, rows))
        return np.array(found, np.int64).reshape(columns[0].shape)

    def moved(self, base: Array) -> Array:
        """Return other numbers for those in *base*, which no other tensor has."""
        order = np.argsort(base, axis=None, kind="stable")
        ordered = base.reshape(-1)[order]
        number = np.empty(base.size, np.int64)
        number[order] = np.cumsum(np.diff(ordered, prepend=ordered[:1]) != 0) + self._count
        self._count += base.size
        return number.reshape(base.shape)

    def _blocks(self, key: Hashable, base: Array, count: int) -> Array:
        """Return for every number in *base* the first of *count* numbers in a row."""
        flat, firsts = base.reshape(-1).tolist(), {}
        for number in set(flat):
            firsts[number] = self._numbers.setdefault((key, number, count), self._count)
            self._count += count * (firsts[number] == self._count)
        return np.array([firsts[number] for number in flat], np.int64).reshape(base.shape)

    def unknown(self, key: Hashable, rank: int) -> Channels:
        """Return a tensor of which nothing is known but its rank."""
        base = np.full((1,) * rank, self.number(key), np.int64)
        zero = np.zeros(base.shape)
        return Channels(base, np.ones(base.shape), zero, zero)

    def constants(self, scale: Array, slack: Array | None = None) -> Channels:
        """Return a tensor of known values."""
        scale = np.asarray(scale, np.float64)
        slack = np.zeros(scale.shape) if slack is None else slack
        return Channels(np.full(scale.shape, ONE, np.int64), scale, slack, np.abs(scale))

    def spread(self, channels: Channels, axis: int, count: int, broadcasts: bool) -> Channels:
        """Tell *count* elements along *axis* apart, of which nothing was said.

        Where the tensor *broadcasts*, having one element there, they are all equal.
        """
        if channels.base.shape[axis] == count:
            return channels
        wide = channels.each(lambda array: np.repeat(array, count, axis))
        if not broadcasts:
            shape = [1] * channels.rank
            shape[axis] = count
            index = np.arange(count).reshape(shape)
            first = self._blocks(("at", axis - channels.rank), channels.base, count)
            wide = replace(wide, base=np.where(wide.base == ONE, ONE, first + index))
        return wide.at(channels.axis, channels.places)

    def flat(self, channels: Channels, axis: int) -> Channels:
        """Say of the elements along *axis* only what holds for all of them."""
        if channels.base.shape[axis] == 1:
            return channels
        base, scale = np.moveaxis(channels.base, axis, -1), np.moveaxis(channels.scale, axis, -1)
        same = (base == base[..., :1]).all(-1) & (scale == scale[..., :1]).all(-1)
        one = same & (base[..., 0] == ONE)
        rows = base.reshape(-1, base.shape[-1]), scale.reshape(-1, base.shape[-1])
        keys = [self.number("all", b.tobytes(), s.tobytes()) for b, s in zip(*rows, strict=True)]
        first = np.array(keys, np.int64).reshape(same.shape)
        return Channels(
            np.expand_dims(np.where(one, ONE, first), axis),
            np.expand_dims(np.where(one, scale[..., 0], 1.0), axis),
            channels.slack.max(axis, keepdims=True),
            channels.size.max(axis, keepdims=True),
        ).at(None if channels.axis == axis else channels.axis, channels.places)


def distinct(columns: Sequence[Array]) -> tuple[Array, Array]:
    """Return where the distinct rows of *columns* first stand, and which of them each row is."""
    numbers: dict[bytes, int] = {}
    index = np.array([numbers.setdefault(row, len(numbers)) for row in _rows(columns)], np.int64)
    first = np.zeros(len(numbers), np.int64)
    first[index[::-1]] = np.arange(len(index))[::-1]
    return first, index


def _rows(columns: Sequence[Array]) -> list[bytes]:
    """Return the rows of *columns* as bytes; adding 0 makes both zeros one."""
    table = np.empty((columns[0].size, len(columns)), np.int64)
    for index, column in enumerate(columns):
        flat = column.reshape(-1)
        is_float = flat.dtype.kind == "f"
        table[:, index] = (flat.astype(np.float64) + 0.0).view(np.int64) if is_float else flat
    rows: list[bytes] = table.view(f"V{8 * len(columns)}").reshape(-1).tolist()
    return rows


class Places:
    """Which channels are cut together, and the reasons why some are kept."""

    def __init__(self) -> None:
        """Know the place of what is kept."""
        self._bytes = [0]
        self._ties: list[tuple[Array, Array]] = []
        self._kept: list[tuple[Array, str]] = []
        self.keep(np.array([KEPT]), "it cannot be cut there")

    def fresh(self, count: int, size: int = 0) -> Array:
        """Return *count* new places with *size* bytes of weights behind each."""
        start = len(self._bytes)
        self._bytes += [size] * count
        return np.arange(start, start + count)

    def rows(self, count: int, size: int = 0) -> Array:
        """Return places for the outputs of a layer; a single one is kept."""
        return self.fresh(count, size) if count > 1 else np.zeros(count, np.int64)

    def weights(self, places: Array) -> Array:
        """Return the bytes of weights behind *places*."""
        return np.array([self._bytes[place] for place in places.tolist()], np.int64)

    def tie(self, left: Array, right: Array) -> None:
        """Cut what stands at the same index of *left* and *right* together or not at all."""
        if left is not right:
            self._ties.append((left, right))

    def keep(self, places: Array, reason: str) -> None:
        """Keep what stands at *places*, for a *reason* that a reader of the report understands."""
        self._kept.append((places, reason))

    def settled(self) -> Sets:
        """Return the sets, now that none will grow."""
        return Sets(self._components(), self._kept)

    def _components(self) -> Array:
        """Return the first place of every place's set: labels that spread along ties."""
        label = np.arange(len(self._bytes))
        left = np.concatenate([NOWHERE, *(one for one, _ in self._ties)])
        right = np.concatenate([NOWHERE, *(other for _, other in self._ties)])
        while (apart := label[left] != label[right]).any():
            left, right = left[apart], right[apart]
            least = np.minimum(label[left], label[right])
            for side in (left, right):
                np.minimum.at(label, label[side], least)
            while not np.array_equal(label, further := label[label]):
                label = further
        return label


class Sets:
    """Channels that are cut together or not at all, and which of them are kept, and why."""

    def __init__(self, roots: Array, kept: Iterable[tuple[Array, str]]) -> None:
        """Take the set of every place, and the reasons to keep some."""
        self._roots, self._reasons = roots, dict[int, str]()
        self._kept = np.zeros(len(roots), bool)
        self._news: list[int] = []
        for places, reason in kept:
            self.keep(places, reason)

    def of(self, places: Array) -> Array:
        """Return the sets of *places*."""
        return self._roots[places]

    def kept(self, places: Array) -> Array:
        """Return a mask of *places*."""
        return self._kept[self._roots[places]]

    def is_kept(self, sets: Array) -> Array:
        """Return a mask of *sets*."""
        return np.asarray(self._kept[sets])

    def keep(self, places: Array, reason: str) -> None:
        """Keep what stands at *places*."""
        roots = self._roots[places]
        found = sorted(set(roots[~self._kept[roots]].tolist()))
        self._kept[found] = True
        self._reasons.update(dict.fromkeys(found, reason))
        self._news += found

    def reason(self, place: int) -> str:
        """Say why *place* is kept."""
        return self._reasons.get(int(self._roots[place]), "")

    def news(self) -> list[int]:
        """Return the sets that were kept since this was last asked."""
        news, self._news = self._news, []
        return news
