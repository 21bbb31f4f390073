"""Matrices that are constant along their antidiagonals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxslim.ir import Array, Tensor, Variable
from onnxslim.passes.factorize._families._diagonals import Diagonals
from onnxslim.passes.factorize._families._nodes import count, upright
from onnxslim.rewrite import Builder


class Hankel(Diagonals):
    """W[i, j] = a[i + j]."""

    family = "hankel"

    def place(self) -> Array:
        """Count antidiagonals from the upper left."""
        return np.arange(self.columns) + np.arange(self.rows)[:, None]

    def write(self, new: Builder, parts: Sequence[Tensor]) -> Variable:
        """Look the elements up by column plus row."""
        rows = upright(new, count(new, 0, self.rows))
        return new.Gather(parts[0], new.Add(count(new, 0, self.columns), rows))
