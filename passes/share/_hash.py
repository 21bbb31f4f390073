"""A hash of the places of weights that standard operators compute.

Of place x it is ((a x + b) x + c) mod p, taken modulo p after each step, so that no number leaves
int64. With p prime, any three places are hashed independently. Source: Wegman & Carter 1981, New
Hash Functions and Their Use in Authentication and Set Equality.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from onnxslim.ir import Array, Tensor, Variable
from onnxslim.passes.share._pieces import Pieces, ints
from onnxslim.rewrite import Builder

_PRIME = (1 << 31) - 1
_A, _B, _C = 1_103_515_245, 1_442_695_041, 1_664_525_001
"""Any numbers below the prime do."""


@dataclass(frozen=True)
class Hash:
    """The hash of all places below *size*, which the weights of a model share."""

    pieces: Pieces
    size: int

    def fit(self, weights: Array, counts: Array, size: int) -> tuple[Array, float]:
        """Return *size* values for *weights* of the least squared errors, which *counts* weigh.

        Also return the squared error relative to the squares of the weights.
        """
        codes = _hashed(weights.size) % (2 * size)
        places, signs = codes % size, np.where(codes < size, 1.0, -1.0)
        exact, each = weights.astype(np.float64).reshape(-1), counts.reshape(-1)
        total = np.bincount(places, each, size)
        sums = np.bincount(places, each * signs * exact, size)
        values = np.divide(sums, total, out=np.zeros(size), where=total > 0).astype(weights.dtype)
        missed, power = exact - signs * values[places], math.fsum(exact**2)
        return values, math.fsum(missed**2) / power if power else 0.0

    def restored(self, new: Builder, values: Array, shape: tuple[int, ...]) -> Variable:
        """Return weights of *shape* that have these values or their negatives."""
        size, pieces = math.prod(shape), self.pieces
        hashes = self._all()
        if size < self.size:
            hashes = new.Slice(hashes, pieces.constant(ints(0)), pieces.constant(ints(size)))
        codes = new.Mod(hashes, np.array(2 * len(values)))
        stored = new.tensor(values)
        found = new.Gather(new.Concat(stored, new.Neg(stored), axis=0), codes)
        return new.Reshape(found, pieces.constant(ints(*shape)))

    def _all(self) -> Tensor:
        """Return the hashes of all places."""
        found = self.pieces.find("hash")
        if found is None:
            new = self.pieces.builder()
            limits = (self.pieces.constant(np.array(number)) for number in (0, self.size, 1))
            place = new.Range(*limits)
            prime, made = self.pieces.constant(np.array(_PRIME)), self.pieces.constant(np.array(_A))
            for term in (_B, _C):
                made = new.Mod(new.Add(new.Mul(made, place), np.array(term)), prime)
            found = self.pieces.computed("hash", new, made)
        return found


def _hashed(size: int) -> Array:
    """Return the hashes of the places below *size*."""
    place = np.arange(size, dtype=np.int64)
    made = np.asarray(_A)
    for term in (_B, _C):
        made = (made * place + term) % _PRIME
    return made
