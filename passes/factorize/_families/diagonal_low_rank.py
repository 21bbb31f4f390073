"""A diagonal, and what few directions add to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from onnxslim.ir import Array, Tensor, Variable
from onnxslim.passes.factorize._families._form import Form, Values
from onnxslim.passes.factorize._families._nodes import count, upright
from onnxslim.rewrite import Builder

_SWEEPS = 20
_SMALL = 256


@dataclass(frozen=True)
class DiagonalLowRank(Form):
    """W = D + U V."""

    family = "diagonal-low-rank"

    rank: int

    @classmethod
    def within(cls, rows: int, columns: int, most: int) -> Iterator[DiagonalLowRank]:
        """Yield the one of highest rank."""
        rank = (most - min(rows, columns)) // (rows + columns)
        if 0 < rank < min(rows, columns):
            yield cls(rows, columns, rank)

    @property
    def parameters(self) -> int:
        """The diagonal and both factors."""
        return min(self.rows, self.columns) + self.rank * (self.rows + self.columns)

    @property
    def detail(self) -> str:
        """The rank."""
        return f"rank {self.rank}"

    def fit(self, matrix: Array, gram: Array | None) -> Values:
        """Alternate between the diagonal and the truncated SVD, in the metric of the data."""
        root = None if gram is None else np.linalg.cholesky(gram).T
        diagonal = np.zeros(min(self.rows, self.columns))
        for _ in range(_SWEEPS):
            left, right = _truncated(matrix - self._spread(diagonal), root, self.rank)
            rest = matrix - left @ right
            diagonal = np.diag(rest)
            if gram is not None:  # every element has a column of its own
                diagonal = np.diag(gram @ rest) / np.diag(gram)[: len(diagonal)]
        return diagonal, left, right

    def _spread(self, diagonal: Array) -> Array:
        made = np.zeros((self.rows, self.columns))
        np.fill_diagonal(made, diagonal)
        return made

    def expand(self, values: Values) -> Array:
        """Add both."""
        return np.asarray(self._spread(values[0]) + values[1] @ values[2])

    def write(self, new: Builder, parts: Sequence[Tensor]) -> Variable:
        """Add the diagonal where row and column are equal."""
        diagonal, left, right = parts
        rows, columns = count(new, 0, self.rows), count(new, 0, self.columns)
        along = diagonal if self.rows >= self.columns else upright(new, diagonal)
        product = new.MatMul(left, right)
        return new.Where(new.Equal(upright(new, rows), columns), new.Add(product, along), product)


def _truncated(matrix: Array, root: Array | None, rank: int) -> tuple[Array, Array]:
    """Return U and V; *root* times the matrix is what is truncated."""
    white = matrix if root is None else root @ matrix
    if min(white.shape) <= _SMALL:
        left, values, right = np.linalg.svd(white, full_matrices=False)
    else:
        from sklearn.utils.extmath import randomized_svd  # takes a second to import

        left, values, right = randomized_svd(white, rank, n_iter=3, random_state=0)
    left = left[:, :rank] * values[:rank]
    return left if root is None else np.linalg.solve(root, left), right[:rank]
