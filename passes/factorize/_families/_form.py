"""What a family of structured matrices offers: how to fit one, and how to store it.

A family is one file beside this one, with one class. Most are linear, Σ a_k M_k with fixed M_k:
they say where each a_k stands, and nodes that put it there.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxslim.ir import Array, Tensor, Variable
from onnxslim.passes.factorize._families._solve import conjugate_gradients
from onnxslim.rewrite import Builder

_TINY = 1e-300
Values = tuple[Array, ...]
"""What describes one matrix of a form."""


@dataclass(frozen=True)
class Form(ABC):
    """The matrices of one family and one size."""

    family: ClassVar[str]

    rows: int
    columns: int

    @classmethod
    @abstractmethod
    def within(cls, rows: int, columns: int, most: int) -> Iterator[Form]:
        """Yield the forms of this size with at most so many parameters, the largest first."""

    @property
    @abstractmethod
    def parameters(self) -> int:
        """How many numbers describe a matrix."""

    @property
    def detail(self) -> str:
        """What there is to say beyond the name of the family."""
        return ""

    @abstractmethod
    def fit(self, matrix: Array, gram: Array | None) -> Values:
        """Return the matrix of this form whose products with the data are nearest.

        *gram* is XᵀX up to a factor; without it, distances are plain.
        """

    @abstractmethod
    def expand(self, values: Values) -> Array:
        """Return the matrix."""

    def fixed(self) -> Values:
        """Return what is stored beside the values, the same for every matrix."""
        return ()

    @abstractmethod
    def write(self, new: Builder, parts: Sequence[Tensor]) -> Variable:
        """Make nodes that compute the matrix of its values and what is fixed, floats or doubles."""

    def running(self) -> Values:
        """Return what is stored beside the values for `run`."""
        return ()

    def time(self, rows: int) -> float:
        """Return the estimated microseconds of `run`; infinite where there is none."""
        return math.inf

    def run(self, new: Builder, x: Tensor, kept: list[int], parts: Sequence[Tensor]) -> Variable:
        """Return x W, never making W; *kept* are zeros for all dimensions of x but the last."""
        raise NotImplementedError(self.family)


class Linear(Form):
    """Matrices Σ a_k M_k of fixed M_k, orthogonal to each other in Frobenius norm."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in which the a_k are stored."""
        return (self.parameters,)

    @abstractmethod
    def collected(self, matrix: Array) -> Array:
        """Return the inner product of *matrix* with every M_k, (parameters,)."""

    @abstractmethod
    def counted(self, weights: Array) -> Array:
        """Return the squared norm of every M_k, its rows weighted."""

    def fit(self, matrix: Array, gram: Array | None) -> Values:
        """Project, and solve the normal equations from there."""
        counts = np.maximum(self.counted(np.ones(self.rows)), _TINY)
        start = self.collected(matrix) / counts
        if gram is not None:
            start = self.solve(start, self.collected(gram @ matrix), gram, None)
        return (start.reshape(self.shape),)

    def solve(self, start: Array, wanted: Array, left: Array, right: Array | None) -> Array:
        """Return the a of an A where left · A · right has the products *wanted* with the M_k."""

        def normal(values: Array) -> Array:
            made = left @ self.expand((values.reshape(self.shape),))
            return self.collected(made if right is None else made @ right)

        scale = self.counted(np.diag(left))
        if right is not None:
            scale = scale * float(np.diag(right).mean())
        return conjugate_gradients(normal, wanted, start, scale)


class Indexed(Linear):
    """Matrices of few numbers, each of which stands, as it is or negated, in its own places."""

    @abstractmethod
    def place(self) -> Array:
        """Return which number stands where, (rows, columns); -1 for zero."""

    def signs(self) -> Array | None:
        """Return 1 or -1 for every element; None where all are 1."""
        return None

    def expand(self, values: Values) -> Array:
        """Look every element up."""
        made = np.append(values[0].reshape(-1), 0.0)[self.place()]
        signs = self.signs()
        return np.asarray(made if signs is None else made * signs)

    def collected(self, matrix: Array) -> Array:
        """Add over the places of every number."""
        signs = self.signs()
        return self._sums(matrix if signs is None else matrix * signs)

    def counted(self, weights: Array) -> Array:
        """Add the weights of the rows that each number stands in."""
        return self._sums(np.broadcast_to(weights[:, None], (self.rows, self.columns)))

    def _sums(self, matrix: Array) -> Array:
        places = self.place().reshape(-1) + 1
        return np.bincount(places, matrix.reshape(-1), self.parameters + 1)[1:]
