"""Matrices that are zero away from their diagonal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from onnxslim.ir import Array, Tensor, Variable
from onnxslim.passes.factorize._families._form import Indexed
from onnxslim.rewrite import Builder


@dataclass(frozen=True)
class Banded(Indexed):
    """W[i, j] = a[i, j - i + width], and zero where that is not in a: diagonal for a width of 0.

    A matrix that is wider than high has a band along its columns instead.
    """

    family = "banded"

    width: int

    @classmethod
    def within(cls, rows: int, columns: int, most: int) -> Iterator[Banded]:
        """Yield the widest."""
        short = min(rows, columns)
        width = min((most // short - 1) // 2, short - 1)
        if width >= 0:
            yield cls(rows, columns, width)

    @property
    def parameters(self) -> int:
        """What the band holds, its corners outside of the matrix included."""
        return min(self.rows, self.columns) * (2 * self.width + 1)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows of the band."""
        return min(self.rows, self.columns), 2 * self.width + 1

    @property
    def detail(self) -> str:
        """The width."""
        return f"{2 * self.width + 1} diagonals"

    def place(self) -> Array:
        """Count along the rows of the band."""
        along, across = np.ogrid[: self.rows, : self.columns]
        if self.rows > self.columns:
            along, across = across, along
        offset = across - along + self.width
        inside = (offset >= 0) & (offset <= 2 * self.width)
        return np.where(inside, along * (2 * self.width + 1) + offset, -1)

    def write(self, new: Builder, parts: Sequence[Tensor]) -> Variable:
        """Fill rows up by one element too many, so that each is one place further right."""
        short, long = sorted((self.rows, self.columns))
        band = 2 * self.width + 1
        padded = long + 2 * self.width
        filled = new.Pad(parts[0], np.array([0, 0, 0, padded + 1 - band]))
        flat = new.Slice(new.Reshape(filled, np.array([-1])), *_span(0, short * padded, 0))
        skewed = new.Reshape(flat, np.array([short, padded]))
        made = new.Slice(skewed, *_span(self.width, self.width + long, 1))
        return new.Transpose(made, perm=[1, 0]) if self.rows > self.columns else made


def _span(start: int, stop: int, axis: int) -> tuple[Array, Array, Array]:
    return np.array([start]), np.array([stop]), np.array([axis])
