"""The nearest sums of Kronecker products, without a model."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from onnxslim.passes.factorize._kronecker import (
    Kronecker,
    Shape,
    nearest,
    nearest_power,
    power_shape,
    refined,
    shapes,
)

Array = npt.NDArray[np.float64]
RANDOM = np.random.default_rng(0)
SHAPE = Shape((6, 4), (5, 7))


def planted(terms: int = 1, shape: Shape = SHAPE) -> Array:
    sizes = zip(shape.rows, shape.columns, strict=True)
    factors = tuple(RANDOM.standard_normal((terms, k, m)) for k, m in sizes)
    return np.asarray(Kronecker(factors).matrix)


def power(factors: int, rows: int = 4, columns: int = 3) -> Array:
    factor = RANDOM.standard_normal((1, rows, columns))
    return np.asarray(Kronecker((factor,) * factors, tied=True).matrix)


def noisy(matrix: Array, share: float = 0.01) -> Array:
    noise = RANDOM.standard_normal(matrix.shape)
    return np.asarray(matrix + noise * share * np.linalg.norm(matrix) / np.linalg.norm(noise))


def gram(size: int) -> Array:
    """Return the second moment of inputs of very different sizes."""
    rows = RANDOM.standard_normal((4 * size, size)) * np.exp(-4 * RANDOM.random(size))
    return np.asarray(rows.T @ rows / len(rows))


def distance(matrix: Array, other: Kronecker, metric: Array | None = None) -> float:
    """Return ‖X(W - Ŵ)‖ / ‖X W‖."""
    root = np.eye(len(matrix)) if metric is None else np.linalg.cholesky(metric).T
    missed, whole = (np.linalg.norm(root @ a) for a in (matrix - other.matrix, matrix))
    return float(missed / whole)


def test_the_sum_is_that_of_numpys_products() -> None:
    factors = tuple(RANDOM.standard_normal((2, k, m)) for k, m in ((3, 2), (4, 5)))
    expected = sum(np.kron(a, b) for a, b in zip(*factors, strict=True))
    np.testing.assert_allclose(Kronecker(factors).matrix, expected)


@pytest.mark.parametrize("terms", [1, 3])
def test_a_sum_is_found_again(terms: int) -> None:
    matrix = planted(terms)
    assert distance(matrix, nearest(matrix, SHAPE, terms)) < 1e-12


def test_parameters_are_those_of_the_terms() -> None:
    assert nearest(planted(), SHAPE, 3).parameters == 3 * (6 * 5 + 4 * 7)


def test_random_projections_find_a_large_sum() -> None:
    shape = Shape((20, 20), (18, 18))
    matrix = planted(2, shape)
    assert distance(matrix, nearest(matrix, shape, 2)) < 1e-9


def test_noise_is_taken_away() -> None:
    matrix = noisy(planted(), 0.01)
    assert distance(matrix, nearest(matrix, SHAPE, 1)) < 0.01


def test_the_metric_of_the_data_is_lowered() -> None:
    matrix, metric = RANDOM.standard_normal((24, 35)), gram(24)
    start = nearest(matrix, SHAPE, 2)
    better = distance(matrix, refined(start, matrix, metric), metric)
    assert better < 0.9 * distance(matrix, start, metric)


def test_no_factor_alone_lowers_it_further() -> None:
    """At a minimum, the error is orthogonal to what one factor can do."""
    matrix, metric = noisy(planted(), 0.3), gram(24)
    found = refined(nearest(matrix, SHAPE, 1), matrix, metric)
    first, second = found.factors
    pull = (metric @ (matrix - found.matrix)).reshape(6, 4, 5, 7)
    slope = np.einsum("ijkl,jl->ik", pull, second[0])
    size = np.einsum("ijkl,jl->ik", (metric @ matrix).reshape(6, 4, 5, 7), second[0])
    assert np.linalg.norm(slope) < 0.02 * np.linalg.norm(size)
    assert first.shape == (1, 6, 5)


def test_an_exact_sum_stays_exact() -> None:
    matrix = planted(2)
    found = refined(nearest(matrix, SHAPE, 2), matrix, gram(24))
    assert distance(matrix, found) < 1e-9


@pytest.mark.parametrize("factors", [2, 3, 4])
def test_a_power_is_found_again(factors: int) -> None:
    matrix = power(factors)
    shape = power_shape(matrix.shape, factors)
    assert shape is not None
    assert distance(matrix, nearest_power(matrix, shape)) < 1e-7


def test_a_power_counts_its_factor_once() -> None:
    shape = power_shape((64, 27), 3)
    assert shape is not None
    assert nearest_power(power(3), shape).parameters == 4 * 3


@pytest.mark.parametrize("factors", [2, 3])
def test_a_power_is_refined(factors: int) -> None:
    matrix = noisy(power(factors), 0.5)
    shape, metric = power_shape(matrix.shape, factors), gram(4**factors)
    assert shape is not None
    start = nearest_power(matrix, shape)
    better = refined(start, matrix, metric)
    assert better.factors[0] is better.factors[-1]
    assert distance(matrix, better, metric) < 0.995 * distance(matrix, start, metric)


def test_a_matrix_that_is_no_power_has_no_power_shape() -> None:
    assert power_shape((784, 10), 2) is None


def test_the_fewest_parameters_of_the_articles_layer() -> None:
    first, *others = shapes((784, 625))
    assert (first, first.parameters) == (Shape((28, 28), (25, 25)), 1400)
    assert all(shape.parameters > 1400 for shape in others)
