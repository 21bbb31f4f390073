"""Sums of Kronecker products near a matrix, in the metric of the data.

Sources: Van Loan & Pitsianis 1993, Approximation with Kronecker products, for the nearest sum in
Frobenius norm, the truncated SVD of the rearranged matrix. In the metric of the data the problem
is linear in the factors at one place while the others stay (alternating least squares).
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np

from onnxslim.ir import Array

_SMALL, _EXTRA = 64, 10
"""Matrices of as many rows or columns have their whole SVD computed; of others, random projections
to so many more dimensions than there are terms find the leading part."""
_SWEEPS = 40
_PROGRESS = 1e-4
"""Of the squared error, by which a sweep must improve for another one to follow."""
_RIDGE = 1e-12


class Shape(NamedTuple):
    """How rows and columns divide: factor i has rows[i] x columns[i] elements."""

    rows: tuple[int, ...]
    columns: tuple[int, ...]

    @property
    def parameters(self) -> int:
        """How many elements one term has."""
        return sum(k * m for k, m in zip(self.rows, self.columns, strict=True))

    @property
    def size(self) -> tuple[int, int]:
        """The matrix that products of this shape have."""
        return math.prod(self.rows), math.prod(self.columns)

    @property
    def most_terms(self) -> int:
        """With so many terms, a sum of products of two factors is any matrix."""
        return min(k * m for k, m in zip(self.rows, self.columns, strict=True))

    def __str__(self) -> str:
        """Write it as on the command line."""
        return "*".join(f"{k}x{m}" for k, m in zip(self.rows, self.columns, strict=True))


class Kronecker(NamedTuple):
    """A sum of Kronecker products; every factor is (terms, rows, columns).

    *tied* factors are one and the same array.
    """

    factors: tuple[Array, ...]
    tied: bool = False

    @property
    def terms(self) -> int:
        """How many products are added."""
        return len(self.factors[0])

    @property
    def parameters(self) -> int:
        """How many numbers describe it."""
        return sum(f.size for f in (self.factors[:1] if self.tied else self.factors))

    @property
    def shape(self) -> Shape:
        """The shape of the factors."""
        rows, columns = zip(*(f.shape[1:] for f in self.factors), strict=True)
        return Shape(rows, columns)

    @property
    def matrix(self) -> Array:
        """The sum itself."""
        return np.asarray(functools.reduce(_product, self.factors).sum(axis=0))


def _product(left: Array, right: Array) -> Array:
    """Return the Kronecker products, term by term."""
    made = left[:, :, None, :, None] * right[:, None, :, None, :]
    size = left.shape[1] * right.shape[1], left.shape[2] * right.shape[2]
    return np.asarray(made.reshape(len(left), *size))


# Shapes -------------------------------------------------------------------------------------------


def shapes(size: tuple[int, int]) -> list[Shape]:
    """Return the shapes of two factors of a matrix, those of fewest parameters first.

    Of as many parameters, the one of the most equal sides is first. Outer products are left out.
    """
    rows, columns = size
    found = [
        Shape((k, rows // k), (m, columns // m)) for k in divisors(rows) for m in divisors(columns)
    ]
    proper = [s for s in found if not (1 in s.rows and 1 in s.columns)]
    return sorted(proper, key=lambda s: (s.parameters, max(*s.rows, *s.columns)))


def power_shape(size: tuple[int, int], factors: int) -> Shape | None:
    """Return the shape of so many equal factors, where both dimensions are powers."""
    roots = [round(n ** (1 / factors)) for n in size]
    if any(root**factors != n for root, n in zip(roots, size, strict=True)):
        return None
    return Shape((roots[0],) * factors, (roots[1],) * factors)


def divisors(number: int) -> list[int]:
    """Return them in order."""
    small = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    return sorted({*small, *(number // d for d in small)})


# The nearest in Frobenius norm --------------------------------------------------------------------


def nearest(matrix: Array, shape: Shape, terms: int) -> Kronecker:
    """Return the sum of products of two factors that is nearest in Frobenius norm."""
    left, values, right = _svd(_rearranged(matrix, shape), terms)
    roots = np.sqrt(values)
    (k1, k2), (m1, m2) = shape.rows, shape.columns
    first = (left * roots).T.reshape(-1, k1, m1)
    return Kronecker((first, (right * roots[:, None]).reshape(-1, k2, m2)))


def nearest_power(matrix: Array, shape: Shape) -> Kronecker:
    """Return a power of one factor near a matrix: of two factors, the nearest.

    Of more, the start for `refined`: the leading vector of the first factor against the others.
    """
    count, k, m = len(shape.rows), shape.rows[0], shape.columns[0]
    rest = Shape((k, k ** (count - 1)), (m, m ** (count - 1)))
    rearranged = _rearranged(matrix, rest)
    if count == 2:
        values, vectors = np.linalg.eigh((rearranged + rearranged.T) / 2)
        factor = vectors[:, -1] * np.sqrt(max(values[-1], 0.0))
    else:
        left, values, right = _svd(rearranged, 1)
        power = functools.reduce(_product, [left[:, 0].reshape(1, k, m)] * (count - 1))
        scale = values[0] * float(right[0] @ power.reshape(-1))
        factor = left[:, 0] * np.sign(scale) * abs(scale) ** (1 / count)
    return Kronecker((factor.reshape(1, k, m),) * count, tied=True)


def _rearranged(matrix: Array, shape: Shape) -> Array:
    """Return the matrix whose rank is the number of terms."""
    (k1, k2), (m1, m2) = shape.rows, shape.columns
    return matrix.reshape(k1, k2, m1, m2).transpose(0, 2, 1, 3).reshape(k1 * m1, k2 * m2)


def _svd(matrix: Array, rank: int) -> tuple[Array, Array, Array]:
    small = min(matrix.shape)
    if small <= _SMALL or 3 * (rank + _EXTRA) > small:
        left, values, right = np.linalg.svd(matrix, full_matrices=False)
    else:
        from sklearn.utils.extmath import randomized_svd  # takes a second to import

        left, values, right = randomized_svd(matrix, rank, n_oversamples=_EXTRA, random_state=0)
    return left[:, :rank], values[:rank], right[:rank]


# In the metric of the data ------------------------------------------------------------------------


def refined(start: Kronecker, matrix: Array, gram: Array) -> Kronecker:
    """Bring ‖X(W - Ŵ)‖ down from *start*; *gram* is XᵀX up to a factor."""
    problem = _Problem(matrix, gram, start.shape)
    step = _tied_step if start.tied else _sweep
    current, error = start, problem.error(start.factors)
    for _ in range(_SWEEPS):
        factors, after = step(problem, current.factors)
        before = error
        if not after < before:
            break
        current, error = Kronecker(factors, start.tied), after
        if before - after <= _PROGRESS * before:
            break
    return current


class _Problem:
    """Least squares for the factors at one place, the others being given."""

    def __init__(self, matrix: Array, gram: Array, shape: Shape) -> None:
        target = gram @ matrix
        self.power = float((matrix * target).sum())
        self._grams = [_modes(gram, shape.rows, shape.rows, i) for i in range(len(shape.rows))]
        self._targets = [
            _modes(target, shape.rows, shape.columns, i) for i in range(len(shape.rows))
        ]

    def equations(self, factors: tuple[Array, ...], place: int) -> tuple[Array, Array]:
        """Return the normal equations: the matrix, (terms · rows)², and the right side."""
        rest = functools.reduce(_product, factors[:place] + factors[place + 1 :])
        terms, rows, columns = factors[place].shape
        inner = (rest[:, None] @ rest[None].transpose(0, 1, 3, 2)).reshape(terms**2, -1)
        system = (self._grams[place] @ inner.T).reshape(rows, rows, terms, terms)
        right = (rest.reshape(terms, -1) @ self._targets[place].T).reshape(-1, columns)
        return system.transpose(2, 0, 3, 1).reshape(terms * rows, terms * rows), right

    def solve(self, factors: tuple[Array, ...], place: int) -> tuple[Array, float]:
        """Return the best factors at *place*, and ‖X(W - Ŵ)‖² with them."""
        system, right = self.equations(factors, place)
        values = _solved(system, right)
        return values.reshape(factors[place].shape), self._error(system, right, values)

    def error(self, factors: tuple[Array, ...]) -> float:
        """Return ‖X(W - Ŵ)‖²."""
        system, right = self.equations(factors, 0)
        return self._error(system, right, factors[0].reshape(right.shape))

    def _error(self, system: Array, right: Array, values: Array) -> float:
        return self.power + float((values * (system @ values - 2 * right)).sum())


def _modes(matrix: Array, rows: tuple[int, ...], columns: tuple[int, ...], place: int) -> Array:
    """Return *matrix* with the indices that a place has in rows, the others' in columns."""
    count = len(rows)
    others = [i for i in range(count) if i != place]
    order = [place, count + place, *others, *(count + i for i in others)]
    return (
        matrix.reshape(*rows, *columns).transpose(order).reshape(rows[place] * columns[place], -1)
    )


def _solved(system: Array, right: Array) -> Array:
    from scipy import linalg  # takes a moment to import

    damping = _RIDGE * float(np.trace(system)) / len(system) or 1.0
    damped = system + damping * np.eye(len(system))
    try:
        triangle = linalg.cho_factor(damped, lower=True, check_finite=False)
        return np.asarray(linalg.cho_solve(triangle, right, check_finite=False))
    except linalg.LinAlgError:  # by rounding alone
        return np.asarray(np.linalg.solve(damped, right))


def _sweep(problem: _Problem, factors: tuple[Array, ...]) -> tuple[tuple[Array, ...], float]:
    """Solve for the factors at every place in turn; return them and the squared error."""
    error = math.inf
    for place in reversed(range(len(factors))):
        solved, error = problem.solve(factors, place)
        factors = (*factors[:place], solved, *factors[place + 1 :])
    return factors, error


def _tied_step(problem: _Problem, factors: tuple[Array, ...]) -> tuple[tuple[Array, ...], float]:
    """Go from one factor at all places down to the lowest point along a line.

    The direction is that of Newton's method without the mixed second derivatives; along it the
    squared error is a polynomial.
    """
    count, factor = len(factors), factors[0]
    systems, rights = zip(*(problem.equations(factors, i) for i in range(count)), strict=True)
    flat = factor.reshape(rights[0].shape)
    slope = sum(system @ flat - right for system, right in zip(systems, rights, strict=True))
    direction = _solved(np.sum(systems, axis=0), slope).reshape(factor.shape)
    steps = np.linspace(-1.0, 1.0, 2 * count + 1)
    errors = [problem.error((factor - step * direction,) * count) for step in steps]
    polynomial = np.polynomial.Polynomial.fit(steps, errors, 2 * count)
    turns = np.asarray(polynomial.deriv().roots(), complex)
    places = turns.real[np.abs(turns.imag) <= 1e-9 * (1 + np.abs(turns))].tolist()
    best = min(places or [0.0], key=lambda place: float(polynomial(place)))
    factors = (factor - best * direction,) * count
    return factors, problem.error(factors)
