"""A few values, or short rows of values, that stand for all weights of a tensor."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from onnxslim.ir import Array

Levels = Literal["kmeans", "uniform"]
_SAMPLE = 1 << 17
"""Clusters are found on so many weights; all are assigned to them."""
_CHUNK = 1 << 16
_TRIED = np.linspace(0.3, 1.0, 15)
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
    if len(rows) > _SAMPLE:
        chosen = np.random.default_rng(seed).choice(len(rows), _SAMPLE, replace=False)
        rows, weights = rows[chosen], weights[chosen]
    distinct = np.unique(rows, axis=0)
    if len(distinct) <= size:
        return distinct
    if levels == "uniform":
        return _uniform(rows, weights, size)
    with warnings.catch_warnings():  # fewer values than asked for will do
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = [
            KMeans(size, init=start, n_init=1, random_state=seed).fit(rows, sample_weight=weights)
            for start in _starts(rows, weights, size)
        ]
    return np.asarray(min(found, key=lambda clusters: clusters.inertia_).cluster_centers_)


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
