"""Which initializers are tuned, and what must hold of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import reduce

import numpy as np
import torch

from onnxslim.ir import Constant, Model, Node
from onnxslim.tune.operators.table import is_float

_SETTINGS: dict[str, Collection[int]] = {
    "BatchNormalization": (3, 4),
    "Clip": (1, 2),
    "Dropout": (1,),
    "OneHot": (2,),
    "Pad": (2,),
    "Pow": (1,),
    "Range": (0, 1, 2),
    "Resize": (1, 2),
    "Upsample": (1,),
}
"""Inputs that say how to compute: they are no weights, or are measured, not learned."""
_OFFSETS = ("Add", "Sub", "Max", "Min", "Where", "Equal", "Greater", "Less")
"""Operators beside which a single number is an epsilon, a bound or a filler."""
_SCALES: dict[str, Collection[int]] = {"DequantizeLinear": (1,), "QuantizeLinear": (1,)}
"""Inputs that must keep their sign, and not come close to zero."""
_SMALLEST_SCALE = 1e-3
"""How far a scale may shrink."""


def tunable(model: Model, freeze: Sequence[str] = ()) -> dict[str, Constant]:
    """Return the float initializers of the main graph that are weights, by name.

    *freeze* are names or patterns of others to leave as they are.
    """
    found = (t for t in model.graph.initializers if isinstance(t, Constant))
    return {
        tensor.name: tensor
        for tensor in found
        if is_float(tensor.elem_type)
        and tensor.size
        and not any(fnmatchcase(tensor.name, pattern) for pattern in freeze)
        and not any(_is_setting(node, tensor) for node in tensor.outputs)
        and tensor not in model.graph.outputs
        and bool(np.isfinite(tensor.values).all())
    }


def _is_setting(node: Node, tensor: Constant) -> bool:
    if tensor.size == 1 and node.operator in _OFFSETS:
        return True
    return _reads(node, tensor, _SETTINGS.get(node.operator, ()))


def _reads(node: Node, tensor: Constant, slots: Collection[int]) -> bool:
    return any(slot in slots and read is tensor for slot, read in enumerate(node.inputs))


def gammas(weights: Mapping[str, Constant]) -> list[str]:
    """Return the names of the scales of batch normalizations."""
    return [
        name
        for name, tensor in weights.items()
        if any(
            n.operator == "BatchNormalization" and _reads(n, tensor, (1,)) for n in tensor.outputs
        )
    ]


class Constraints:
    """What is true of parameters before tuning and stays true.

    Zeros stay zero, unless a tensor holds nothing else; scales of quantization keep their sign. The
    scales of batch normalization in *fading* stay zero once they have changed their sign.
    """

    def __init__(
        self,
        parameters: Mapping[str, torch.Tensor],
        weights: Mapping[str, Constant],
        fading: Sequence[str],
    ) -> None:
        """Look at *parameters*, which are the *weights* by name."""
        self._parameters, self._fading = parameters, fading
        self.zeros: dict[str, torch.Tensor] = {}
        """Where parameters are zero for good."""
        self._floors: dict[str, torch.Tensor] = {}
        for name, value in parameters.items():
            zeros = value.detach() == 0
            if name in fading or (zeros.any() and not zeros.all()):
                self.zeros[name] = zeros
            readers = weights[name].outputs
            if any(_reads(n, weights[name], _SCALES.get(n.operator, ())) for n in readers):
                self._floors[name] = value.detach().clone() * _SMALLEST_SCALE

    def hold(self, step: Callable[[], object]) -> None:
        """Take a *step*, then put right what it broke."""
        before = {name: self._parameters[name].detach().clone() for name in self._fading}
        step()
        with torch.no_grad():
            for name, old in before.items():
                self.zeros[name] |= self._parameters[name] * old < 0
            for name, zeros in self.zeros.items():
                self._parameters[name].masked_fill_(zeros, 0.0)
            for name, floor in self._floors.items():
                value = self._parameters[name]
                value.copy_(torch.where(value * floor.sign() < floor.abs(), floor, value))

    def grow(self, zeros: Mapping[str, torch.Tensor]) -> None:
        """Hold more zeros."""
        for name, more in zeros.items():
            self.zeros[name] = self.zeros[name] | more if name in self.zeros else more

    def penalty(self, weight: float) -> torch.Tensor:
        """Return *weight* times the sum of the absolute values of what fades."""
        return weight * reduce(
            torch.add, (self._parameters[name].abs().sum() for name in self._fading)
        )


def rate(done: float, schedule: str, warmup: float) -> float:
    """Return the share of the learning rate when *done* of all steps (0 to 1) are taken."""
    if done < warmup:
        return done / warmup
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))
