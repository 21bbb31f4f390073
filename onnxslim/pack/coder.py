"""Adaptive entropy coding of symbols.

A symbol's probability comes from counts of the symbols before it. Counts are brought up to date
not after every symbol but after runs that grow with what was seen, so that a handful of calls into
the library code a million symbols, and no table of probabilities has to be stored. Counts are
integers, and the library turns them into probabilities by sums, quotients and products that IEEE
754 defines to the bit: unpacking is exact on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from onnxslim.errors import ModelError
from onnxslim.pack.libraries import constriction
from onnxslim.pack.planes import Symbols

models, AnsCoder = constriction.stream.model, constriction.stream.stack.AnsCoder

Counts = npt.NDArray[np.int64]

STORED = 0
PRIORS = (0, 1, 16, 128)
"""Ways to code a group: as stored bytes, or adaptively, where a symbol that was not seen yet counts
as so many 256ths of one that was seen once."""
_ONE = 256


def runs(count: int) -> Iterator[tuple[int, int]]:
    """Split *count* symbols into runs, each a quarter as long as all before it."""
    at = 0
    while at < count:
        stop = min(count, at + 1 + at // 4)
        yield at, stop
        at = stop


def ways(counts: Counts) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Return for each row of *counts*, one a group, the way that takes the fewest bits, and those.

    The estimate is that of counts brought up to date after every symbol.
    """
    size, alphabet = counts.sum(1), counts.shape[1]
    rows, columns = np.nonzero(counts)
    seen = counts[rows, columns]
    bits = np.empty((len(PRIORS), len(counts)))
    bits[STORED] = 8.0 * size if alphabet <= 256 else np.inf
    for way, prior in enumerate(PRIORS[1:], 1):
        one = prior / _ONE
        gains = np.bincount(rows, gammaln(seen + one) - gammaln(one), len(counts))
        whole = gammaln(size + alphabet * one) - gammaln(alphabet * one)
        bits[way] = (whole - gains) / np.log(2)
    return bits.argmin(0), np.where(size > 0, bits.min(0) + 2, 0)


def _counted(symbols: Symbols, alphabet: int) -> Counts:
    return np.bincount(symbols, minlength=alphabet)


def _model(counts: Counts, way: int) -> Any:
    weights = (counts * _ONE + PRIORS[way]).astype(np.float64)
    return models.Categorical(weights, perfect=False, lazy=False)


class Encoder:
    """Collects choices and groups of symbols."""

    def __init__(self) -> None:
        """Start with nothing."""
        self._calls: list[tuple[npt.NDArray[np.int32], Any]] = []
        self.stored = bytearray()
        """What is not coded but stored, to be given to the `Decoder`."""

    def choose(self, option: int, options: int) -> None:
        """Code a choice among equally likely options."""
        self._calls.append((np.array([option], np.int32), models.Uniform(options)))

    def group(self, symbols: Symbols, alphabet: int, way: int) -> None:
        """Code *symbols*, all below *alphabet*."""
        self.choose(way, len(PRIORS))
        if way == STORED:
            self.stored += symbols.astype(np.uint8).tobytes()
            return
        counts, whole = np.zeros(alphabet, np.int64), symbols.astype(np.int32)
        for start, stop in runs(len(whole)):
            self._calls.append((whole[start:stop], _model(counts, way)))
            counts += _counted(whole[start:stop], alphabet)

    def words(self) -> bytes:
        """Return what was coded."""
        coder = AnsCoder()
        for symbols, model in reversed(self._calls):
            coder.encode_reverse(symbols, model)
        compressed: npt.NDArray[np.uint32] = coder.get_compressed()
        return compressed.astype("<u4").tobytes()


class Decoder:
    """Returns what an `Encoder` was given, in order. Raises ModelError."""

    def __init__(self, stored: memoryview, words: memoryview) -> None:
        """Read the stored bytes and the words of an `Encoder`."""
        self._stored = stored
        try:
            self._coder: Any = AnsCoder(np.frombuffer(words, "<u4").astype(np.uint32))
        except ValueError as error:
            raise ModelError(f"a block cannot be decoded: {error}") from error

    def choose(self, options: int) -> int:
        """Return a choice among equally likely options."""
        return int(self._coder.decode(models.Uniform(options), 1)[0])

    def take(self, count: int) -> memoryview:
        """Return the next *count* stored bytes."""
        if count > len(self._stored):
            raise ModelError("a block ends early")
        taken, self._stored = self._stored[:count], self._stored[count:]
        return taken

    def group(self, count: int, alphabet: int) -> Symbols:
        """Return *count* symbols below *alphabet*."""
        way = self.choose(len(PRIORS))
        if way == STORED:
            symbols = np.frombuffer(self.take(count), np.uint8)
            if count and int(symbols.max()) >= alphabet:
                raise ModelError("a block holds a symbol that does not exist")
            return symbols
        counts, found = np.zeros(alphabet, np.int64), np.empty(count, np.int32)
        for start, stop in runs(count):
            found[start:stop] = self._coder.decode(_model(counts, way), stop - start)
            counts += _counted(found[start:stop], alphabet)
        return found
