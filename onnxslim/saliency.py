"""How much each weight of a layer matters, by several measures."""

from __future__ import annotations

from typing import Literal

import numpy as np

from onnxslim.ir import Array
from onnxslim.moments import inverse_factor

Criterion = Literal["magnitude", "obs", "fisher", "magnitude-fisher"]
_TINY = np.finfo(np.float64).tiny


def magnitude(rows: Array) -> Array:
    """Return squared weights."""
    return np.square(rows)


def surgeon(rows: Array, gram: Array) -> Array:
    """Return what the outputs move by, squared, without a weight and with the best others.

    *rows* are (groups, channels, K), *gram* is (groups, K, K).
    Source: Hassibi & Stork 1993, Optimal Brain Surgeon: w² / [H⁻¹]ᵢᵢ.
    """
    inverse = [np.square(inverse_factor(one)).sum(0) for one in gram]
    return np.asarray(np.square(rows) / np.stack(inverse)[:, None])


def fisher(rows: Array, importance: Array) -> Array:
    """Return what the loss rises by without a weight, to second order: w² E[g²] / 2.

    Weights that tell nothing score more than zeros, so that zeros go first.
    Source: LeCun et al. 1990, Optimal Brain Damage, with the diagonal of Fisher's information.
    """
    found = np.maximum(np.square(rows) * importance / 2, _TINY)
    return np.where(rows == 0, 0.0, found)


def small_first(rows: Array, importance: Array, share: float) -> Array:
    """Return scores by which that *share* goes first that is smallest, then what tells least.

    Small weights come first because their information is estimated badly. Source: Tu et al. 2016,
    Reducing the Model Order of Deep Neural Networks Using Information Theory.
    """
    small = lowest(np.square(rows), round(share * rows.size))
    found = np.where(small, _TINY, importance + 2 * _TINY)
    return np.where(rows == 0, 0.0, found)


def layer_adaptive(scores: Array) -> Array:
    """Return *scores* that compare across layers: each relative to those not below it.

    So no layer loses its last weights before others lose many. Source: Lee et al. 2021,
    Layer-adaptive Sparsity for the Magnitude-based Pruning (LAMP).
    """
    flat = scores.reshape(-1)
    order = np.argsort(flat, kind="stable")
    above = np.cumsum(flat[order][::-1])[::-1]
    made = np.empty_like(flat)
    made[order] = np.divide(flat[order], above, out=np.zeros_like(above), where=above > 0)
    return made.reshape(scores.shape)


def lowest(scores: Array, count: int) -> Array:
    """Return a mask of the *count* lowest scores; zeros come first, of equals the earlier."""
    mask = np.zeros(scores.size, bool)
    mask[np.argsort(scores.reshape(-1), kind="stable")[:count]] = True
    return mask.reshape(scores.shape)


def lowest_of_each(scores: Array, count: int, among: int) -> Array:
    """Return a mask of the *count* lowest of every *among* scores along the last axis.

    What is left over at the end stays.
    """
    whole = scores.shape[-1] // among * among
    parts = scores[..., :whole].reshape(*scores.shape[:-1], -1, among)
    ranks = np.argsort(np.argsort(parts, axis=-1, kind="stable"), axis=-1, kind="stable")
    mask = np.zeros(scores.shape, bool)
    mask[..., :whole] = (ranks < count).reshape(*scores.shape[:-1], whole)
    return mask
