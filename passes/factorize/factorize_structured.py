"""Weights that are structured matrices already: nothing is lost by storing them as such."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from onnxslim.base import Context, Effect
from onnxslim.errors import Declined
from onnxslim.ir import Array, Constant, Model, Node
from onnxslim.passes.factorize import _exact, _kronecker_nodes, _structured
from onnxslim.passes.factorize._candidates import Candidate
from onnxslim.passes.factorize._choose import Choice
from onnxslim.passes.factorize._layers import OPERATORS, Layer
from onnxslim.passes.factorize._metric import Metric
from onnxslim.passes.factorize._pass import FactorizePass, Offer

_SMALL = 256
"""Bytes of weights that no nodes could replace by fewer."""


@dataclass(frozen=True)
class FactorizeStructured(FactorizePass):
    """Replace weights that are, up to rounding, Kronecker products or structured matrices.

    These are sums of Kronecker products, circulant, Toeplitz, Hankel, block-circulant and banded
    matrices. They run as such where that is faster, and are expanded at load otherwise.
    """

    name = "factorize-structured"
    effect = Effect.ROUNDING

    def apply(self, model: Model, context: Context) -> int:
        """Look at a few elements of every weight first: most are not structured."""
        nodes = (node for _, found in context.find(model, OPERATORS) for node in found)
        if not any(map(_is_suspect, nodes)):
            return 0
        quiet = replace(context, declined=Counter(), places=[])
        changes = super().apply(model, quiet)
        if changes:
            context.forget()
        return changes

    def metrics(
        self, model: Model, context: Context, layers: Sequence[Layer]
    ) -> Iterable[tuple[Layer, Metric]]:
        """Measure weights alone."""
        return ((layer, Metric(source="weights")) for layer in layers)

    def candidates(self, layer: Layer, metric: Metric) -> Iterable[Candidate]:
        """Yield what is equal to the weight."""
        matrix = _matrix(layer.values)
        if matrix.nbytes < _SMALL or not _exact.is_suspect(matrix):
            raise Declined("its weights are no structured matrix")
        if layer.flipped:
            matrix = matrix.T
        for form, values in _exact.structured(matrix):
            yield from _structured.candidates(layer, form, values, 0.0)
        for found in _exact.kronecker(matrix):
            yield from _kronecker_nodes.candidates(layer, metric, found)

    def choose(self, offers: Sequence[Offer], model: Model, context: Context) -> Sequence[Choice]:
        """Choose what runs as it is stored, and then the smallest."""
        return [min(o.candidates, key=lambda c: (c.run is None, c.parameters)) for o in offers]


def _matrix(values: Array) -> Array:
    return values.reshape(len(values), -1)


def _is_suspect(node: Node) -> bool:
    weights = (t for t in node.inputs[:2] if isinstance(t, Constant) and len(t.shape) >= 2)
    return any(
        t.dtype.kind == "f" and t.values.nbytes >= _SMALL and _exact.is_suspect(_matrix(t.values))
        for t in weights
        if t.size
    )
