"""Sums of Kronecker products with fixed factors: blocks that are few cosines each."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from onnxslim.ir import Array, Tensor, Variable
from onnxslim.passes.factorize._families._form import Linear, Values
from onnxslim.passes.factorize._families._nodes import matrix
from onnxslim.rewrite import Builder

_BLOCKS = (8, 4, 2)


@dataclass(frozen=True)
class FixedKronecker(Linear):
    """W = Σ A_t ⊗ C_t, with the smoothest C_t of the two-dimensional discrete cosine transform."""

    family = "fixed-kronecker"

    block: int
    terms: int

    @classmethod
    def within(cls, rows: int, columns: int, most: int) -> Iterator[FixedKronecker]:
        """Yield, for every size of blocks whose cosines take little, as many as there may be."""
        for block in _BLOCKS:
            if not rows % block and not columns % block:
                terms = min(most * block**2 // (rows * columns), block**2)
                if terms and 2 * terms * block**2 <= most:
                    yield cls(rows, columns, block, terms)

    @property
    def parameters(self) -> int:
        """The elements of all A_t."""
        return self.rows * self.columns // self.block**2 * self.terms

    @property
    def shape(self) -> tuple[int, int]:
        """Blocks, and what each has of every cosine."""
        return self.parameters // self.terms, self.terms

    @property
    def detail(self) -> str:
        """The blocks and the cosines."""
        return f"{self.terms} of {self.block**2} cosines"

    def fixed(self) -> Values:
        """Return the C_t, (terms, block²)."""
        return (_cosines(self.block)[: self.terms],)

    def _inside(self) -> Array:
        return self.fixed()[0]

    @property
    def _grid(self) -> tuple[int, int, int, int]:
        return self.rows // self.block, self.block, self.columns // self.block, self.block

    def expand(self, values: Values) -> Array:
        """Multiply A by C and put the blocks in their places."""
        p, b, q, _ = self._grid
        blocks = values[0].reshape(self.shape) @ self._inside()
        made = blocks.reshape(p, q, b, b).transpose(0, 2, 1, 3)
        return np.asarray(made.reshape(self.rows, self.columns))

    def collected(self, matrix: Array) -> Array:
        """Transform every block."""
        p, b, q, _ = self._grid
        blocks = matrix.reshape(self._grid).transpose(0, 2, 1, 3).reshape(p * q, b * b)
        return np.asarray((blocks @ self._inside().T).reshape(-1))

    def counted(self, weights: Array) -> Array:
        """Add the squares of cosines, rows weighted."""
        p, b, q, _ = self._grid
        squares = np.square(self._inside()).reshape(-1, b, b).sum(axis=2)
        return np.repeat(weights.reshape(p, b) @ squares.T, q, axis=0).reshape(-1)

    def write(self, new: Builder, parts: Sequence[Tensor]) -> Variable:
        """Do as `expand` does."""
        p, b, q, _ = self._grid
        blocks = new.MatMul(*parts)
        apart = new.Reshape(blocks, np.array([p, q, b, b]))
        return matrix(new, new.Transpose(apart, perm=[0, 2, 1, 3]), self.rows, self.columns)


@functools.cache
def _cosines(block: int) -> Array:
    """Return the orthonormal basis, (block², block²), the lowest frequencies first."""
    frequency, place = np.arange(block)[:, None], np.arange(block)
    line = np.cos(np.pi * frequency * (2 * place + 1) / (2 * block)) * np.sqrt(2 / block)
    line[0] = np.sqrt(1 / block)
    order = sorted(np.ndindex(block, block), key=lambda pair: (sum(pair), pair))
    return np.stack([np.outer(line[u], line[v]).reshape(-1) for u, v in order])
