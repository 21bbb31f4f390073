"""A Reshape and its opposite around operators that work element by element.

Between two tensors of the same shape it does not matter in which shape the elements are added to a
constant, if the constant is reshaped as well.

Source: Reshape-5 and its successors, and "Broadcasting in ONNX", of the ONNX specification.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from onnxslim.base import Effect
from onnxslim.ir import Array, Constant, Node, Tensor
from onnxslim.passes.simplify._elementwise import BROADCASTING, UNARY
from onnxslim.passes.simplify._reshape import FAMILY, same_order
from onnxslim.passes.simplify._trial import Trial, TrialPass, TrialRule
from onnxslim.shapes import Expr

_DEEPEST = 12
_LARGEST = 1 << 22
"""Elements that a constant may have for a moment."""

Dims = tuple[Expr, ...]


class _Rebuild:
    """Tensors that are computed in the shape of the result instead of their own."""

    def __init__(self, trial: Trial, inner: Dims, outer: Dims) -> None:
        self.trial, self.inner, self.outer = trial, inner, outer

    def made(self, tensor: Tensor, depth: int = 0) -> Tensor | None:
        """Return *tensor* in the other shape, None where a Reshape would be needed."""
        trial, facts = self.trial, self.trial.facts
        if isinstance(tensor, Constant):
            return self._constant(tensor)
        if facts.dims(tensor) != self.inner:
            return None
        for before in same_order(trial, tensor):
            if facts.dims(before) == self.outer:
                return before
        node = trial.above(tensor, *UNARY, *BROADCASTING)
        usable = node is not None and node.graph is trial.graph and trial.private(tensor)
        return self._node(node, depth) if node is not None and usable and depth < _DEEPEST else None

    def _node(self, node: Node, depth: int) -> Tensor | None:
        count = len(node.inputs) if node.operator in BROADCASTING else 1
        made = [self.made(operand, depth + 1) for operand in node.inputs[:count]]
        if None in made or all(isinstance(operand, Constant) for operand in made):
            return None
        return self.trial.new.like(node, *made, *node.inputs[count:])

    def _constant(self, tensor: Constant) -> Tensor | None:
        """Return a constant that broadcasts in the other shape as *tensor* does in its own."""
        shape, new = list(tensor.shape), self.trial.new
        while shape and shape[0] == 1:
            shape.pop(0)
        if len(shape) <= _common(self.inner, self.outer):
            fits = len(tensor.shape) <= len(self.outer)
            return tensor if fits else new.tensor(tensor.values.reshape(shape))
        inner = [dim for dim in self.inner if isinstance(dim, int)]
        outer = [dim for dim in self.outer if isinstance(dim, int)]
        unknown = len(inner) < len(self.inner) or len(outer) < len(self.outer)
        if unknown or not 0 < math.prod(inner) <= _LARGEST:
            return None
        return new.tensor(tensor.values.reshape(-1)[_places(tensor.shape, inner, outer)])


def _common(left: Dims, right: Dims) -> int:
    """Return how many of the last dimensions are equal."""
    count = 0
    for a, b in zip(reversed(left), reversed(right), strict=False):
        if a != b:
            break
        count += 1
    return count


def _places(shape: Sequence[int], inner: list[int], outer: list[int]) -> Array:
    """Say which element stands where when a tensor is broadcast to *inner* and reshaped.

    Axes along which nothing changes have one place.
    """
    places = np.arange(math.prod(shape)).reshape(shape)
    places = np.broadcast_to(places, inner).reshape(outer)
    for axis in range(len(outer)):
        first = places.take([0], axis)
        if (places == first).all():
            places = first
    return places


def _cancel(trial: Trial) -> Tensor | None:
    x = trial.node.inputs[0]
    outer, inner = trial.facts.dims(trial.out), trial.facts.dims(x)
    node = trial.above(x, *UNARY, *BROADCASTING)
    if trial.opset < 8 or node is None or outer is None or inner is None or not trial.private(x):
        return None
    return _Rebuild(trial, inner, outer).made(x)


class CancelReshapes(TrialPass):
    """Cancel a Reshape and its opposite through element by element operators."""

    name = "cancel-reshapes"
    effect = Effect.EXACT
    rules: ClassVar[Mapping[str, TrialRule]] = dict.fromkeys(FAMILY, _cancel)
