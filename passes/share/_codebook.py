"""A few values, or short rows of values, that stand for all weights of a tensor."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from onnxslim.ir import Array

Levels = Literal["kmeans", "uniform"]
_SAMPLE = 1 << 17
"""Clusters of rows are found on so many; all are assigned to them."""
_TOLERANCE, _STEPS = 1e-6, 1000
"""When k-means ends. The library's own tolerance leaves 1.7 dB of 64 values behind."""
_CLOSE = np.float16
"""Weights that this type cannot tell apart, relative to the largest, are one to the clusters."""
_FINE = 16
"""So many weights that can be told apart must there be for every cluster."""
_CHUNK = 1 << 16
_TRIED = np.geomspace(0.05, 1.0, 40)
"""Ranges to try for uniform levels, relative to that of the weights."""


class Codebook(NamedTuple):
    """Weight rows = table[codes]."""

    table: Array
    """(K, width), in the order of the first column."""
    codes: Array
    """A place in the table for each row of weights."""
    zero: int | None
    """The place of the row of zeros, if there is one."""


def fit(rows: Array, weights: Array, size: int, levels: Levels, seed: int) -> Codebook:
    """Return a codebook of up to *size* entries for *rows*, (N, width).

    *weights* say how much an error in each row matters. Rows of zeros stay zeros.
    """
    exact = rows.astype(np.float64)
    moving = exact.any(axis=1)
    kept = int(not moving.all())
    table = np.zeros((kept, rows.shape[1]))
    if moving.any():
        found = _centres(exact[moving], weights[moving], size - kept, levels, seed)
        table = np.concatenate((table, found))
    table = np.unique(table.astype(rows.dtype), axis=0)
    zero = np.flatnonzero(~table.any(axis=1))
    codes = _nearest(exact, table.astype(np.float64))
    if kept:
        codes[~moving] = zero[0]
    return Codebook(table, codes, int(zero[0]) if len(zero) else None)


def _centres(rows: Array, weights: Array, size: int, levels: Levels, seed: int) -> Array:
    if rows.shape[1] == 1:
        rows, weights = _condensed(rows, weights, _FINE * size)
    if len(rows) > _SAMPLE:
        chosen = np.random.default_rng(seed).choice(len(rows), _SAMPLE, replace=False)
        rows, weights = rows[chosen], weights[chosen]
    distinct = np.unique(rows, axis=0)
    if len(distinct) <= size:
        return distinct
    if levels == "uniform":
        return _uniform(rows, weights, size)
    found = [_clustered(rows, weights, size, start, seed) for start in _starts(rows, weights, size)]
    return np.asarray(min(found, key=lambda clusters: clusters.inertia_).cluster_centers_)


def _clustered(rows: Array, weights: Array, size: int, start: Array | str, seed: int) -> KMeans:
    """Return k-means from *start*.

    One thread gives the same sums on every machine, and on busy ones the others only wait.
    """
    means = KMeans(size, init=start, n_init=1, tol=_TOLERANCE, max_iter=_STEPS, random_state=seed)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer values than asked for will do
        return means.fit(rows, sample_weight=weights)


def _condensed(rows: Array, weights: Array, least: int) -> tuple[Array, Array]:
    """Return the means of weights that are all but equal, with what they count together.

    Clusters of these are those of all, and are found in a fraction of the time. Where fewer than
    *least* would be left, the weights stay as they are, one of each.
    """
    values = rows[:, 0]
    close = (values / np.abs(values).max()).astype(_CLOSE).view(np.uint16)
    counts = np.bincount(close, weights)
    kept = counts > 0
    if kept.sum() < least:
        distinct, places = np.unique(values, return_inverse=True)
        return distinct[:, None], np.bincount(places, weights)
    return (np.bincount(close, weights * values)[kept] / counts[kept])[:, None], counts[kept]


def _starts(rows: Array, weights: Array, size: int) -> Iterator[Array | str]:
    """Yield where to start from: evenly over the range, evenly over the weights."""
    if rows.shape[1] > 1:
        yield "k-means++"
        return
    yield np.linspace(rows.min(0), rows.max(0), size)
    order = np.argsort(rows[:, 0])
    shares = np.cumsum(weights[order])
    parts = (np.arange(size) + 0.5) / size * shares[-1]
    yield rows[order[np.searchsorted(shares, parts)]]


def _uniform(rows: Array, weights: Array, size: int) -> Array:
    """Return multiples of one step; the step is the one of the least squared error."""
    best, error = rows[:0], np.inf
    least, most = min(rows.min(), 0.0), max(rows.max(), 0.0)
    for part in _TRIED:
        step = part * (most - least) / (size - 1)
        levels = step * (np.arange(size) + np.round(part * least / step))[:, None]
        missed = rows - levels[_nearest(rows, levels)]
        found = float((weights[:, None] * missed**2).sum())
        if found < error:
            best, error = levels, found
    return best


def _nearest(rows: Array, table: Array) -> Array:
    """Return for each of *rows* the place of the nearest entry of *table*."""
    if table.shape[1] == 1:
        order = np.argsort(table[:, 0])
        values = table[order, 0]
        return order[np.searchsorted((values[1:] + values[:-1]) / 2, rows[:, 0])]
    squares = (table**2).sum(1)
    parts = (rows[at : at + _CHUNK] for at in range(0, len(rows), _CHUNK))
    return np.concatenate([(squares - 2 * part @ table.T).argmin(1) for part in parts])
