"""Matrices that are constant along their diagonals: what a convolution is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxslim.ir import Array, Tensor, Variable
from onnxslim.passes.factorize._families._diagonals import Diagonals
from onnxslim.passes.factorize._families._nodes import count, upright
from onnxslim.rewrite import Builder


class Toeplitz(Diagonals):
    """W[i, j] = a[j - i]."""

    family = "toeplitz"

    def place(self) -> Array:
        """Count diagonals from the lower left."""
        return np.arange(self.columns) - np.arange(self.rows)[:, None] + self.rows - 1

    def write(self, new: Builder, parts: Sequence[Tensor]) -> Variable:
        """Look the elements up by column minus row."""
        columns = count(new, self.rows - 1, self.rows + self.columns - 1)
        return new.Gather(parts[0], new.Sub(columns, upright(new, count(new, 0, self.rows))))
