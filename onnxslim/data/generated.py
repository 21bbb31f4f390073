"""Made-up feeds: varied ones to compare models on, and even ones in place of calibration data."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from onnxslim.data.specs import Array, Feed, InputSpec, is_integer, numpy_type
from onnxslim.data.stream import Stream
from onnxslim.errors import DataError

_SIZES = (16, 5, 32, 3, 64, 2, 224, 1, 4, 8, 128, 256, 512)
_BATCHES = (2, 1, 3)
_RANKS = (2, 1, 4, 3, 0, 5)
_WORDS = ("a", "of", "the", "cat", "Rome", "", "x1", "3.5")
_ROUNDS = 3
_DEFAULT = 32
_LARGEST = 1 << 18
"""How many times larger free dimensions make an array: what a model makes of it may be far more."""
_BYTES = (TensorProto.UINT8, TensorProto.INT8)


def generate(specs: Sequence[InputSpec], seed: int = 0) -> Iterator[Feed]:
    """Yield a few dozen made-up feeds that a model with these inputs may accept.

    They differ in the sizes of symbolic dimensions (a name has one size per feed) and in how their
    values are distributed. Integers stay within the declared range, else they are small and not
    negative. The same *seed* gives the same feeds.
    """
    if any(spec.kind not in _MAKEABLE for spec in specs):
        return
    for number in range(_ROUNDS * len(_SIZES)):
        draw = _Draw(number, np.random.default_rng((seed, number)))
        shapes = {spec.name: draw.shape(spec) for spec in specs}
        if all(_is_small(shapes[spec.name], spec) for spec in specs):
            yield {spec.name: draw.value(spec, shapes[spec.name]) for spec in specs}


def requested(text: str) -> int | None:
    """Return how many feeds ``random`` or ``random:32`` asks for; None for any other text."""
    found = re.fullmatch(r"random(?::(\d+))?", text)
    return None if found is None else int(found[1] or _DEFAULT)


def made_up(specs: Sequence[InputSpec], count: int, seed: int = 0) -> Stream:
    """Return *count* feeds of one kind: standard normal floats, integers within their range.

    Raises DataError for inputs that nothing can be made up for.
    """
    for spec in specs:
        if spec.kind not in _MAKEABLE:
            raise DataError(f"input {spec.name!r} is a {spec.kind}, which cannot be made up")

    def feeds() -> Iterator[Feed]:
        for number in range(count):
            draw = _Draw(0, np.random.default_rng((seed, number)))
            yield {spec.name: draw.value(spec, draw.shape(spec)) for spec in specs}

    return Stream(feeds, "made-up data", count, synthetic=True)


_MAKEABLE = ("tensor", "sequence", "optional", "optional sequence")


def _is_small(shape: tuple[int, ...], spec: InputSpec) -> bool:
    fixed = [dim for dim in spec.shape or () if isinstance(dim, int) and dim]
    return bool(np.prod(shape, dtype=float) <= _LARGEST * np.prod(fixed, dtype=float))


class _Draw:
    """The choices behind one made-up feed."""

    def __init__(self, number: int, random: np.random.Generator) -> None:
        self.number, self.random = number, random
        turn = number // len(_SIZES)
        self.spread = turn == 1
        """Whether all dimensions differ, the batch too; else it is small and the rest are equal."""
        self.batch_is_free = turn == 2
        """Whether the batch is the first free dimension of an input, else the very first."""
        self.sizes: dict[str, int] = {}

    def shape(self, spec: InputSpec) -> tuple[int, ...]:
        declared = spec.shape
        if declared is None:
            declared = (None,) * _RANKS[self.number % len(_RANKS)]
        free = [axis for axis, dim in enumerate(declared) if not isinstance(dim, int)]
        batch = free[0] if free and self.batch_is_free else 0
        return tuple(
            dim if isinstance(dim, int) else self.size(dim, axis == batch)
            for axis, dim in enumerate(declared)
        )

    def size(self, name: str | None, is_batch: bool) -> int:
        """Return a size; ``a + b`` and ``a + 1`` are sums."""
        if name is None:
            return self.new_size(is_batch, self.random.integers(len(_SIZES)))
        terms = [term.strip() for term in name.split("+")]
        total = 0
        for term in terms:
            if term.isdecimal():
                total += int(term)
            else:
                order = len(self.sizes)
                self.sizes.setdefault(term, self.new_size(is_batch, order))
                total += self.sizes[term]
        return total

    def new_size(self, is_batch: bool, order: int | np.integer[Any]) -> int:
        if is_batch and not self.spread:
            return _BATCHES[self.number % len(_BATCHES)]
        return _SIZES[(self.number + (int(order) if self.spread else 0)) % len(_SIZES)]

    def value(self, spec: InputSpec, shape: tuple[int, ...]) -> Any:
        if spec.kind.endswith("sequence"):
            return [self.tensor(spec, shape) for _ in range(2)]
        return self.tensor(spec, shape)

    def tensor(self, spec: InputSpec, shape: tuple[int, ...]) -> Array:
        elem = spec.elem_type or TensorProto.FLOAT
        if elem == TensorProto.STRING:
            words = itertools.islice(itertools.cycle(_WORDS), int(np.prod(shape, dtype=int)))
            return np.array(list(words), object).reshape(shape)
        dtype = numpy_type(elem)
        if elem == TensorProto.BOOL:
            return np.asarray(self.random.random(shape) < 0.5)
        if is_integer(dtype) or spec.high is not None:
            return self.integers(spec, shape).astype(dtype)
        return self.floats(shape).astype(dtype)

    def integers(self, spec: InputSpec, shape: tuple[int, ...]) -> Array:
        """Draw from the declared range, else what suits masks, flags and bytes."""
        style = self.number % 3
        if spec.low is not None or spec.high is not None:
            low = spec.low or 0
            high = low + 3 if spec.high is None else max(spec.high, low + 1)
        elif spec.elem_type in _BYTES and (style != 1 or len(shape) > 2):  # images at least
            low, high = (0, 256) if spec.elem_type == TensorProto.UINT8 else (-128, 128)
        elif shape and (
            style == 0 or "mask" in spec.name.lower()
        ):  # ones, then padding: a row without any one is no fair question
            lengths = self.random.integers(1, max(shape[-1], 1) + 1, (*shape[:-1], 1))
            return np.asarray(np.arange(shape[-1]) < lengths).astype(np.int64)
        else:
            low, high = (1, 2) if style < 2 else (0, 3)
        return np.asarray(self.random.integers(low, high, shape))

    def floats(self, shape: tuple[int, ...]) -> Array:
        style = self.number % 3
        if style == 0:
            values = np.asarray(self.random.standard_normal(shape))
            return values if (values < 0).any() else -values  # few values may all be positive
        values = np.asarray(self.random.random(shape))
        return values if style == 1 else values * 255
