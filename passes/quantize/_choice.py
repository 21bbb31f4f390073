"""Which layers shall be integers, and which cost the outputs too much.

Rounding noise of layers adds up, and one more bit everywhere would quarter it (6.02 dB; Lin et al.
2016, Fixed Point Quantization of Deep Convolutional Networks), for an eighth more bytes and an
eighth more work. That is what a layer is measured by: floats take its noise away for three times
its bytes more, and about its work once more. It stays floats where the same gain by more bits
would be dearer. Noise that a single layer of 8 bits makes as a rule is no reason.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from onnxslim.base import Context
from onnxslim.cost import macs
from onnxslim.errors import MissingData
from onnxslim.ir import Model
from onnxslim.passes.quantize._layers import USUAL
from onnxslim.passes.quantize._study import Study, key


def choose(study: Study, context: Context, tolerance: float) -> Collection[str]:
    """Return the layers to quantize: those worth it, and no more than the tolerance allows.

    Where that is exceeded, those go first that make the most noise for what they save.
    """
    everything = list(study.layers)
    alone = {}
    for number, name in enumerate(everything):
        context.progress("quantizing layers one by one", number, len(everything))
        alone[name] = _noise(study.trial([name]), context)
    prices = _prices(study, context)
    order = sorted(everything, key=lambda name: alone[name] / prices[name])
    while order and prices[order[-1]] < _worth([alone[name] for name in order]):
        order.pop()

    while order and context.distance(study.trial(order)) > tolerance:
        order.pop()
    return order


def _noise(model: Model, context: Context) -> float:
    """Return the noise at the outputs; 0 where none of them is a float."""
    try:
        return context.noise(model)
    except MissingData:
        return 0.0


def _worth(noises: Sequence[float]) -> float:
    """Return the share of bytes and of work that bits would cost to do without the last noise."""
    bearable = max(sum(noises[:-1]), USUAL)
    return math.log2(max(1.0, sum(noises) / bearable)) / 2 / 8


def _prices(study: Study, context: Context) -> dict[str, float]:
    """Return the share of bytes or of work that floats cost more, whichever is larger."""
    facts = context.facts(study.model)
    sizes = {name: layer.weights.rows.size for name, layer in study.layers.items()}
    work = {key(node): macs(node, facts) for node in study.rows}
    size, works = sum(sizes.values()), sum(work.values()) or 1
    return {name: max(3 * sizes[name] / size, work[name] / works) for name in sizes}
