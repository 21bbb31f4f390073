"""Matrices each of whose rows is the one before, turned by one place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from onnxslim.ir import Array, Tensor, Variable
from onnxslim.passes.factorize._families._form import Indexed
from onnxslim.passes.factorize._families._nodes import count, upright
from onnxslim.rewrite import Builder


class Circulant(Indexed):
    """W[i, j] = a[(j - i) mod n]; n is the larger dimension, of which the smaller shows a part."""

    family = "circulant"

    @classmethod
    def within(cls, rows: int, columns: int, most: int) -> Iterator[Circulant]:
        """Yield the only one."""
        if max(rows, columns) <= most:
            yield cls(rows, columns)

    @property
    def parameters(self) -> int:
        """One row or column."""
        return max(self.rows, self.columns)

    def place(self) -> Array:
        """Count from the diagonal to the right, round the end."""
        return (np.arange(self.columns) - np.arange(self.rows)[:, None]) % self.parameters

    def write(self, new: Builder, parts: Sequence[Tensor]) -> Variable:
        """Look the elements up by column minus row."""
        columns, rows = count(new, 0, self.columns), upright(new, count(new, 0, self.rows))
        turned = new.Mod(new.Sub(columns, rows), np.array(self.parameters, np.int32))
        return new.Gather(parts[0], turned)
