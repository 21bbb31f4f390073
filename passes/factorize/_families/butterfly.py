"""Products of two block-diagonal matrices with a permutation between, as in a Fourier transform.

Source: Dao et al. 2022, Monarch: Expressive Structured Matrices for Efficient and Accurate
Training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from onnxslim.ir import Array, Tensor, Variable
from onnxslim.passes.factorize._families._form import Form, Values
from onnxslim.passes.factorize._families._nodes import matrix
from onnxslim.passes.factorize._families._solve import conjugate_gradients
from onnxslim.rewrite import Builder

_SWEEPS = 2
_RIDGE, _TINY = 1e-12, 1e-300


@dataclass(frozen=True)
class Butterfly(Form):
    """W[(i, j), (k, l)] = Σ_r a[i, l, j, r] b[i, l, r, k]: low rank for each i and l."""

    family = "butterfly"

    blocks: int
    """How many i there are."""
    spread: int
    """How many l there are."""
    rank: int = 1

    @classmethod
    def within(cls, rows: int, columns: int, most: int) -> Iterator[Butterfly]:
        """Yield, by their parameters, all that divide both dimensions, of the highest rank."""
        found = []
        for blocks in _divisors(rows):
            for spread in _divisors(columns):
                one = cls(rows, columns, blocks, spread)
                rank = most // one.parameters
                if 0 < rank < min(rows // blocks, columns // spread):
                    found.append(cls(rows, columns, blocks, spread, rank))
        yield from sorted(found, key=lambda form: -form.parameters)

    @property
    def parameters(self) -> int:
        """The elements of both factors."""
        return (self.rows * self.spread + self.columns * self.blocks) * self.rank

    @property
    def detail(self) -> str:
        """How the dimensions divide."""
        return f"{self.blocks} blocks by {self.spread}, rank {self.rank}"

    @property
    def _grid(self) -> tuple[int, int, int, int]:
        return self.blocks, self.rows // self.blocks, self.columns // self.spread, self.spread

    def fit(self, matrix: Array, gram: Array | None) -> Values:
        """Take the SVD of every block, and alternate between the factors from there."""
        left, values, right = np.linalg.svd(self._apart(matrix), full_matrices=False)
        roots = np.sqrt(values[..., : self.rank])
        first, second = left[..., : self.rank] * roots[..., None, :], right[..., : self.rank, :]
        second = second * roots[..., None]
        if gram is not None:
            target = gram @ matrix
            for _ in range(_SWEEPS):
                second = self._second(first, gram, target)
                first = self._first(first, second, gram, target)
        return first, second

    def _apart(self, matrix: Array) -> Array:
        """Return the matrices of low rank, (i, l, j, k)."""
        return matrix.reshape(self._grid).transpose(0, 3, 1, 2)

    def _second(self, first: Array, gram: Array, target: Array) -> Array:
        """Solve for b, given a: for every l a system of its own."""
        blocks, inner, columns, spread = self._grid
        apart = np.zeros((spread, blocks, self.rank, blocks, inner))
        each = np.arange(blocks)
        apart[:, each, :, each] = first.transpose(0, 1, 3, 2)
        wide = apart.reshape(spread, blocks * self.rank, self.rows)
        system = wide @ gram @ wide.transpose(0, 2, 1)
        right = wide @ target.reshape(self.rows, columns, spread).transpose(2, 0, 1)
        damping = _RIDGE * np.trace(system, axis1=1, axis2=2)[:, None, None] + _TINY
        solved = np.linalg.solve(system + damping * np.eye(blocks * self.rank), right)
        return solved.reshape(spread, blocks, self.rank, columns).transpose(1, 0, 2, 3)

    def _first(self, start: Array, second: Array, gram: Array, target: Array) -> Array:
        """Solve for a, given b, step by step."""
        turned = second.transpose(0, 1, 3, 2)

        def collected(matrix: Array) -> Array:
            return (self._apart(matrix) @ turned).reshape(-1)

        def normal(values: Array) -> Array:
            return collected(gram @ self.expand((values.reshape(start.shape), second)))

        weights = np.diag(gram).reshape(self.blocks, 1, -1, 1)
        scale = weights * np.square(second).sum(axis=3)[:, :, None]
        found = conjugate_gradients(normal, collected(target), start.reshape(-1), scale.reshape(-1))
        return found.reshape(start.shape)

    def expand(self, values: Values) -> Array:
        """Multiply block by block."""
        blocks = values[0] @ values[1]
        return np.asarray(blocks.transpose(0, 2, 3, 1).reshape(self.rows, self.columns))

    def write(self, new: Builder, parts: Sequence[Tensor]) -> Variable:
        """Do as `expand` does."""
        ordered = new.Transpose(new.MatMul(*parts), perm=[0, 2, 3, 1])
        return matrix(new, ordered, self.rows, self.columns)


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]
