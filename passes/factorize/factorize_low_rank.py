"""Low rank: a layer as a narrow one and one that widens again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from onnxslim.passes.factorize import _lowrank
from onnxslim.passes.factorize._candidates import Candidate
from onnxslim.passes.factorize._layers import Layer
from onnxslim.passes.factorize._metric import Metric
from onnxslim.passes.factorize._pass import FactorizePass


@dataclass(frozen=True)
class FactorizeLowRank(FactorizePass):
    """Replace weights by products of two thin matrices that move the outputs least."""

    name = "factorize-low-rank"

    ratio: float = 0.5

    def candidates(self, layer: Layer, metric: Metric) -> Iterable[Candidate]:
        """Return what fits."""
        inputs, outputs = layer.shape
        rank = int(self.ratio * inputs * outputs / (inputs + outputs))
        found = _lowrank.spectrum(layer.matrix, metric, rank)
        for runs in (True, False):
            yield from _lowrank.candidates(layer, found, [rank] if rank else [], runs)
