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
from onnxslim.ir import Model, Node
from onnxslim.passes.quantize._layers import USUAL
from onnxslim.passes.quantize._study import Study, key
from onnxslim.shapes import Facts

_JOINS = frozenset({"Add", "Concat"})
_TRANSPOSED = 34
"""So many products of 8 bits take as long as to transpose an element and to transpose it back."""


def choose(study: Study, context: Context, tolerance: float) -> Collection[str]:
    """Return the layers to quantize: those worth it, and no more than the tolerance allows.

    Where that is exceeded, those go first that make the most noise for what they save.
    """
    everything = list(study.layers)
    alone = {}
    for number, name in enumerate(everything):
        context.progress("quantizing layers one by one", number, len(everything))
        alone[name] = noise_of(study.trial([name]), context)
    prices = _prices(study, context)
    order = sorted(everything, key=lambda name: alone[name] / prices[name])
    while order and prices[order[-1]] < _worth([alone[name] for name in order]):
        order.pop()

    while order and context.distance(study.trial(order)) > tolerance:
        order.pop()
    return order


def noise_of(model: Model, context: Context) -> float:
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
    more = {key(node): work[key(node)] + _detour(node, study, facts) for node in study.rows}
    size, works = sum(sizes.values()), sum(work.values()) or 1
    return {name: max(3 * sizes[name] / size, more[name] / works) for name in sizes}


def _detour(node: Node, study: Study, facts: Facts) -> int:
    """Return the work of transposing for the joins that a convolution of floats feeds.

    onnxruntime keeps channels last between convolutions of integers, and first between those of
    floats. Where one operand of an Add or Concat has them first, so has the result, down to the
    next layer; each join on the way then has its other operands and its result transposed.
    """
    if node.op != "Conv":
        return 0
    seen, stack, work = {node}, [node], 0
    while stack:
        for reader in (n for tensor in stack.pop().outputs for n in tensor.outputs):
            if reader not in seen and key(reader) not in study.layers:
                seen.add(reader)
                stack.append(reader)
                if reader.op in _JOINS:
                    shape = facts.shape(reader.outputs[0]) or ()
                    work += _TRANSPOSED * math.prod(d for d in shape if isinstance(d, int))
    return work
