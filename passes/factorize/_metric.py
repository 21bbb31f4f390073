"""The metric of the data: how far a layer's outputs move when its weights do.

With H = XᵀX / n of the rows x that a layer multiplies, the outputs of y = x W move by
tr(ΔᵀHΔ) on average, squared, when W moves by Δ. Source: Wang et al. 2024, SVD-LLM. With G, the mean
of JᵀJ where J says how the outputs of the model move with those of the layer, these move by about
tr(ΔᵀHΔG). Source: Martens & Grosse 2015, Kronecker-factored Approximate Curvature.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from onnxslim.base import Context
from onnxslim.errors import CannotRun
from onnxslim.ir import Array, Constant, Model
from onnxslim.passes.factorize._layers import Layer

_DAMPING = 1e-3
"""Of the mean diagonal element, added to the diagonal of H: for inputs that were never seen."""
LARGEST = 8192
"""Inputs of one output beyond which H takes too much memory."""
_TOGETHER = 1 << 29
"""Bytes of the H that one sweep over the data collects."""


@dataclass(frozen=True)
class Metric:
    """What outputs are measured by; without `moments` all weights count alike."""

    moments: Array | None = None
    """H, (K, K) in float64."""
    source: str = "weights"
    """What the report says: data, made-up data, or why neither."""
    responses: Array | None = None
    """G, (M, M) in float64: what outputs of the model, relative to their size, make of those of the
    layer; None where the layer's own outputs are what counts."""

    @cached_property
    def damped(self) -> Array | None:
        """H with all its eigenvalues positive."""
        return None if self.moments is None else _damped(self.moments)

    @cached_property
    def factor(self) -> Array | None:
        """The lower triangular S with S Sᵀ = damped H."""
        return None if self.damped is None else np.asarray(np.linalg.cholesky(self.damped))

    @cached_property
    def response(self) -> Array | None:
        """The lower triangular T with T Tᵀ = damped G."""
        return None if self.responses is None else np.linalg.cholesky(_damped(self.responses))

    def whitened(self, matrix: Array) -> Array:
        """Return Sᵀ W T, whose plain distances are those of the outputs."""
        left = matrix if self.factor is None else np.asarray(self.factor.T @ matrix)
        return left if self.response is None else np.asarray(left @ self.response)

    def power(self, matrix: Array) -> float:
        """Return tr(WᵀHWG): the mean of |x W|² where G is the identity."""
        left = matrix if self.moments is None else self.moments @ matrix
        right = matrix if self.responses is None else matrix @ self.responses
        return max(0.0, float((left * right).sum()))

    def error(self, matrix: Array, other: Array) -> float:
        """Return how far the outputs move, of their own size, if *other* replaces *matrix*."""
        moved = self.power(matrix - other)
        if self.responses is not None:
            return math.sqrt(moved)
        whole = self.power(matrix)
        if not whole:
            return math.inf if moved else 0.0
        return math.sqrt(moved / whole)


def _damped(gram: Array) -> Array:
    mean = float(np.diag(gram).mean())
    return np.asarray(gram + (_DAMPING * mean or 1.0) * np.eye(len(gram)))


def measured(
    model: Model, context: Context, layers: Sequence[Layer]
) -> Iterator[tuple[Layer, Metric]]:
    """Yield every layer and its metric, a few layers for each sweep over the data."""
    if context.data is None:
        yield from ((layer, Metric(source="no data")) for layer in layers)
        return
    source = "made-up data" if context.calibration().synthetic else "data"
    for batch in _batches(model, layers):
        reasons = [_reason(model, layer) for layer in batch]
        usable = [batch[i] for i, reason in enumerate(reasons) if reason is None]
        found = _moments(model, context, usable)
        for layer, reason in zip(batch, reasons, strict=True):
            moments = found.get(layer)
            if reason is not None or isinstance(moments, str):
                yield layer, Metric(source=f"weights: {reason or moments}")
            else:
                yield layer, Metric(moments, source)


def _batches(model: Model, layers: Sequence[Layer]) -> Iterator[list[Layer]]:
    batch: list[Layer] = []
    size = 0
    for layer in layers:
        needed = 0 if _reason(model, layer) else 8 * layer.shape[0] ** 2
        if batch and size + needed > _TOGETHER:
            yield batch
            batch, size = [], 0
        batch.append(layer)
        size += needed
    if batch:
        yield batch


def _reason(model: Model, layer: Layer) -> str | None:
    """Return why the moments of a layer cannot be had."""
    if any(node.graph is not model.graph for node in layer.nodes):
        return "it stands in a subgraph"
    if not isinstance(layer.weight, Constant):
        return "its weights are computed"
    return "its Gram matrix is too large" if layer.shape[0] > LARGEST else None


def _moments(model: Model, context: Context, layers: Sequence[Layer]) -> dict[Layer, Array | str]:
    """Return H of every layer, or why there is none."""
    nodes = [node for layer in layers for node in layer.nodes]
    if not nodes:
        return {}
    from onnxslim.observe import second_moments  # lossless passes get by without

    try:
        found = second_moments(model, context.calibration(), nodes, progress=context.progress)
    except CannotRun as error:
        return dict.fromkeys(layers, str(error))
    made: dict[Layer, Array | str] = {}
    for layer in layers:
        total = sum(found[node][0] for node in layer.nodes) / len(layer.nodes)
        made[layer] = total if np.isfinite(total).all() else "its inputs are not all finite"
    return made
