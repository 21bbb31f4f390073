"""Matrices that are constant along their diagonals: what a convolution is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from onnxslim.ir import Array, Tensor, Variable
from onnxslim.passes.factorize._families._form import Indexed
from onnxslim.passes.factorize._families._nodes import count, upright
from onnxslim.rewrite import Builder


class Toeplitz(Indexed):
    """W[i, j] = a[j - i]."""

    family = "toeplitz"

    @classmethod
    def within(cls, rows: int, columns: int, most: int) -> Iterator[Toeplitz]:
        """Yield the only one."""
        if rows + columns - 1 <= most:
            yield cls(rows, columns)

    @property
    def parameters(self) -> int:
        """One for each diagonal."""
        return self.rows + self.columns - 1

    def place(self) -> Array:
        """Count diagonals from the lower left."""
        return np.arange(self.columns) - np.arange(self.rows)[:, None] + self.rows - 1

    def write(self, new: Builder, parts: Sequence[Tensor]) -> Variable:
        """Look the elements up by column minus row."""
        columns = count(new, self.rows - 1, self.rows + self.columns - 1)
        return new.Gather(parts[0], new.Sub(columns, upright(new, count(new, 0, self.rows))))
