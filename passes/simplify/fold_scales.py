"""A number that multiplies what a layer computes, though other operators stand between.

Weights can be scaled before the model runs. The number passes through everything that only moves
elements, through sums with a constant, and through one operand of a product of matrices.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from onnxslim.base import Effect
from onnxslim.errors import Declined
from onnxslim.ir import Array, Node, Tensor
from onnxslim.passes.simplify._numbers import combine, number
from onnxslim.passes.simplify._scale import scale_factor
from onnxslim.passes.simplify._trial import Results, Trial, TrialPass, TrialRule

_MOVES = ("Flatten", "Gather", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
"""Operators whose first operand is moved and not computed with."""
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_LONGEST = 12


def _fold(trial: Trial) -> Results | None:
    """Scale the weights of the layer that *x* comes from instead of *x*."""
    factor = scale_factor(trial)
    if factor is None:
        return None
    x, scale = factor
    layers = _layers(trial, x)
    if layers is None:
        return None
    results = {node.outputs[0]: _scaled(trial, node, scale) for node in layers}
    return {**results, trial.out: x}


def _layers(trial: Trial, tensor: Tensor) -> list[Node] | None:
    """Climb to a layer on which nothing else depends; return it and the sums on the way."""
    found: list[Node] = []
    for _ in range(_LONGEST):
        node = trial.above(tensor, *_MOVES, *_LAYERS, "Add")
        if node is None or not trial.private(tensor) or node.graph is not trial.graph:
            return None
        constants = [t for t in node.inputs[1:] if number(t) is not None]
        if node.operator in _LAYERS and len(constants) == len(node.inputs) - 1:
            return [*found, node]
        if node.operator in ("Conv", "ConvTranspose", "Gemm"):
            return None
        tensor = node.inputs[0]
        if node.operator == "Add":
            found.append(node)
            if number(tensor) is not None:
                tensor = node.inputs[1]
            elif not constants:
                return None
    return None


def _scaled(trial: Trial, node: Node, scale: Array) -> Tensor:
    """Make *node* anew with its constants scaled."""
    inputs: list[Tensor | Array] = list(node.inputs)
    for slot, tensor in enumerate(node.inputs):
        values = number(tensor)
        if values is None:
            continue
        if values.dtype != scale.dtype:
            raise Declined("the weights have another type than the scale")
        inputs[slot] = combine(np.multiply, values, scale)
    return trial.new.like(node, *inputs)


class FoldScales(TrialPass):
    """Multiply weights by the number that multiplies what comes of them."""

    name = "fold-scales"
    effect = Effect.ROUNDING
    rules: ClassVar[Mapping[str, TrialRule]] = {"Mul": _fold, "Div": _fold}
