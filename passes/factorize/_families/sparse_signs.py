"""Random sparse bases of signs, drawn by arithmetic instead of being stored.

Source: Chen et al. 2015, Compressing Neural Networks with the Hashing Trick, for one weight in many
places that a hash function says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from onnxslim.ir import Array, Tensor, Variable
from onnxslim.passes.factorize._families._form import Indexed
from onnxslim.passes.factorize._families._nodes import count, upright
from onnxslim.rewrite import Builder

_PRIME = 2_147_483_629
"""Below 2³¹, so that squares of what is left of a division by it fit 64 bits."""
_ROW, _COLUMN = 1_140_671_485, 1_664_525


@dataclass(frozen=True)
class SparseSigns(Indexed):
    """Every element is one of few numbers, or its negative, by a hash of row and column.

    The hash of n = row · a + column · b is n² mod p.
    """

    family = "sparse-signs"

    size: int

    @classmethod
    def within(cls, rows: int, columns: int, most: int) -> Iterator[SparseSigns]:
        """Yield the one of so many parameters."""
        if most > 0:
            yield cls(rows, columns, most)

    @property
    def parameters(self) -> int:
        """As many as may be."""
        return self.size

    def _hashes(self) -> Array:
        rows = np.arange(1, self.rows + 1, dtype=np.int64)[:, None]
        columns = np.arange(1, self.columns + 1, dtype=np.int64)
        number = (rows * _ROW + columns * _COLUMN) % _PRIME
        return number * number % _PRIME

    def place(self) -> Array:
        """What is left of the hash."""
        return self._hashes() % self.size

    def signs(self) -> Array:
        """Whether the quotient is even."""
        return (1 - 2 * (self._hashes() // self.size % 2)).astype(np.int8)

    def write(self, new: Builder, parts: Sequence[Tensor]) -> Variable:
        """Hash the numbers of rows and columns, and look the elements up among both signs."""
        prime = new.tensor(np.array(_PRIME))
        rows = new.Mul(count(new, 1, self.rows + 1, np.int64), np.array(_ROW))
        columns = new.Mul(count(new, 1, self.columns + 1, np.int64), np.array(_COLUMN))
        number = new.Mod(new.Add(upright(new, rows), columns), prime)
        hashes = new.Mod(new.Mul(number, number), prime)
        place = new.Mod(hashes, np.array(2 * self.size))
        return new.Gather(new.Concat(parts[0], new.Neg(parts[0]), axis=0), place)
