"""What matrices that are constant along their diagonals have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from onnxslim.passes.factorize._families._form import Indexed


class Diagonals(Indexed):
    """A number for each diagonal, or for each antidiagonal."""

    @classmethod
    def within(cls, rows: int, columns: int, most: int) -> Iterator[Self]:
        """Yield the only one."""
        if rows + columns - 1 <= most:
            yield cls(rows, columns)

    @property
    def parameters(self) -> int:
        """One for each of them."""
        return self.rows + self.columns - 1
