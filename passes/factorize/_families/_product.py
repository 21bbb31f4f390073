"""Products of linear families. Source: Wu 2018, ProdSumNet."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from onnxslim.ir import Array, Tensor, Variable
from onnxslim.passes.factorize._families._form import Form, Linear, Values
from onnxslim.rewrite import Builder

_SWEEPS = 8
_PROGRESS = 1e-3
"""Of the squared error, by which a sweep must improve for another one to follow."""


@dataclass(frozen=True)
class Product(Form):
    """W = Π_j Σ_k a_jk M_jk: the factors are square but for one, which is as W."""

    family = "product"

    factors: tuple[Linear, ...]

    @classmethod
    def of(
        cls, families: Sequence[type[Form]], rows: int, columns: int, most: int
    ) -> Iterator[Product]:
        """Yield the product of these families, each with its share of the parameters."""
        inner = min(rows, columns)
        sizes = [(inner, inner)] * (len(families) - 1)
        sizes.insert(0 if rows >= columns else len(sizes), (rows, columns))
        factors = [
            next(family.within(*size, most // len(families)), None)
            for family, size in zip(families, sizes, strict=True)
        ]
        linear = [factor for factor in factors if isinstance(factor, Linear)]
        if len(linear) == len(families):
            yield cls(rows, columns, tuple(linear))

    @classmethod
    def within(cls, rows: int, columns: int, most: int) -> Iterator[Form]:
        """Yield nothing: which families shall be multiplied is not known."""
        return iter(())

    @property
    def parameters(self) -> int:
        """Those of all factors."""
        return sum(factor.parameters for factor in self.factors)

    @property
    def detail(self) -> str:
        """What is multiplied."""
        return " times ".join(f"{f.family} {f.detail}".strip() for f in self.factors)

    def fit(self, matrix: Array, gram: Array | None) -> Values:
        """Start from the factor that is as W and identities, and solve for one after the other."""
        gram = np.eye(self.rows) if gram is None else gram
        target = gram @ matrix
        values = [
            factor.fit(np.eye(factor.rows, factor.columns), None)[0] for factor in self.factors
        ]
        widest = 0 if self.rows >= self.columns else -1
        values[widest] = self.factors[widest].fit(matrix, None)[0]
        error = self._error(values, matrix, gram)
        for _ in range(_SWEEPS):
            before = error
            for place in range(len(self.factors)):
                values[place] = self._solved(place, values, gram, target)
            error = self._error(values, matrix, gram)
            if not error < (1 - _PROGRESS) * before:
                break
        return tuple(values)

    def _solved(self, place: int, values: Sequence[Array], gram: Array, target: Array) -> Array:
        """Return the best values of one factor, the others being given."""
        factor = self.factors[place]
        matrices = [f.expand((v,)) for f, v in zip(self.factors, values, strict=True)]
        before, after = matrices[:place], matrices[place + 1 :]
        left, right = gram, None
        if before:
            product = functools.reduce(np.matmul, before)
            left, target = product.T @ gram @ product, product.T @ target
        if after:
            product = functools.reduce(np.matmul, after)
            right, target = product @ product.T, target @ product.T
        start = values[place].reshape(-1)
        found = factor.solve(start, factor.collected(target), left, right)
        return found.reshape(factor.shape)

    def _error(self, values: Sequence[Array], matrix: Array, gram: Array) -> float:
        missed = matrix - self.expand(tuple(values))
        return float((missed * (gram @ missed)).sum())

    def expand(self, values: Values) -> Array:
        """Multiply."""
        pairs = zip(self.factors, values, strict=True)
        return functools.reduce(np.matmul, (factor.expand((value,)) for factor, value in pairs))

    def fixed(self) -> Values:
        """Return what the factors store."""
        return tuple(array for factor in self.factors for array in factor.fixed())

    def write(self, new: Builder, parts: Sequence[Tensor]) -> Variable:
        """Multiply."""
        count = len(self.factors)
        values, fixed = parts[:count], list(parts[count:])
        made = []
        for factor, value in zip(self.factors, values, strict=True):
            own = [fixed.pop(0) for _ in factor.fixed()]
            made.append(factor.write(new, [value, *own]))
        return functools.reduce(new.MatMul, made)
