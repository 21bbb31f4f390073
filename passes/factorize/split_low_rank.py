"""Weights that are products already, but for being multiplied out."""

from __future__ import annotations

import numpy as np

from onnxslim.base import Context, Effect, Pass
from onnxslim.ir import Model
from onnxslim.passes.factorize._cross import may_be_narrow, narrow
from onnxslim.passes.factorize._layers import Layer, in_turn, stored
from onnxslim.passes.factorize._lowrank import fastest, of_factors
from onnxslim.passes.factorize._metric import Metric
from onnxslim.passes.factorize._pass import Offer, Writer
from onnxslim.passes.factorize._threads import one_thread

_MOST = 256
"""The largest rank that is looked for, which bounds the time for a layer."""


class SplitLowRank(Pass):
    """Split layers whose weights are of low rank, up to rounding, where two of them run faster."""

    name = "split-low-rank"
    effect = Effect.ROUNDING

    def apply(self, model: Model, context: Context) -> int:
        """Look at every weight, at few of them closely."""
        writer = Writer(model, context)
        weights = stored(model, context)
        ranks = {layer: min(fastest(layer), _MOST) for layer in weights}
        layers = [x for x, r in ranks.items() if r > 0 and not context.vain.holds(weights[x], r)]
        if not layers:
            return 0
        with one_thread():
            for layer in in_turn(model, layers):
                factors = _factors(layer, ranks[layer])
                if factors is None:
                    context.vain.add(weights[layer], ranks[layer])
                    continue
                chosen = of_factors(layer, *factors)
                if chosen.suits(layer, "speed"):
                    writer.put(Offer(layer, Metric(), (chosen,)), chosen)
        return writer.finish()


def _factors(layer: Layer, most: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return two exact factors of rank *most* or less; halves would round what is between them."""
    if layer.values.dtype not in (np.float32, np.float64):
        return None
    values = layer.values.reshape(len(layer.values), -1)
    if not may_be_narrow(values, most) or not np.isfinite(values).all():
        return None
    return narrow(layer.matrix, layer.values.dtype, most)
