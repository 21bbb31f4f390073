"""Weights that are structured matrices already: nothing is lost by storing them as such."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnxslim.base import Context, Effect, Pass
from onnxslim.ir import Model
from onnxslim.passes.factorize import _exact, _kronecker_nodes, _selection, _structured
from onnxslim.passes.factorize._candidates import Candidate
from onnxslim.passes.factorize._layers import Layer, in_turn, stored
from onnxslim.passes.factorize._metric import Metric
from onnxslim.passes.factorize._pass import Offer, Writer

_SMALL = 256
"""Bytes of weights that no nodes could replace by fewer."""


class FactorizeStructured(Pass):
    """Replace weights that are, up to rounding, Kronecker products or structured matrices.

    These are sums of Kronecker products, circulant, Toeplitz, Hankel, block-circulant and banded
    matrices, and those that only choose and scale inputs. They run as such where that is faster,
    and are expanded at load otherwise.
    """

    name = "factorize-structured"
    effect = Effect.ROUNDING

    def apply(self, model: Model, context: Context) -> int:
        """Look at a few elements of every weight first: most are not structured."""
        writer = Writer(model, context)
        weights = stored(model, context)
        layers = [layer for layer, weight in weights.items() if not context.vain.holds(weight)]
        for layer in in_turn(model, layers):
            if not _is_suspect(layer):
                context.vain.add(weights[layer])
                continue
            offered = [c for c in _candidates(layer) if c.suits(layer, "bytes")]
            if offered:
                chosen = min(offered, key=lambda c: (c.run is None, c.parameters))
                writer.put(Offer(layer, Metric(source="weights"), tuple(offered)), chosen)
        return writer.finish()


def _is_suspect(layer: Layer) -> bool:
    """Say whether a look at few elements leaves it open that the weight is structured."""
    matrix = layer.values.reshape(len(layer.values), -1)
    return matrix.dtype.kind == "f" and matrix.nbytes >= _SMALL and _exact.is_suspect(matrix)


def _candidates(layer: Layer) -> Iterator[Candidate]:
    """Yield what is equal to a weight; halves would round what is between factors that run."""
    matrix = layer.values.reshape(len(layer.values), -1)
    if layer.flipped:
        matrix = matrix.T
    yield from _selection.candidates(layer, matrix)
    for form, values in _exact.structured(matrix):
        yield from _structured.candidates(layer, form, values, 0.0)
    for found in _exact.kronecker(matrix):
        made = _kronecker_nodes.candidates(layer, Metric(), found)
        yield from (c for c in made if c.run is None or matrix.dtype != np.float16)
