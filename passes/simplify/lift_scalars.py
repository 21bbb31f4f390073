"""Scalars that are made of vectors of one element, and made such vectors again.

Sizes are computed as scalars where exporters squeeze them out of shapes, and are needed as vectors
in shapes. What lies between works as well on vectors of one element. Source: "Broadcasting in
ONNX" and Squeeze-1 of the ONNX specification.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from onnxslim.base import Effect
from onnxslim.ir import Constant, Node, Tensor, has_parameters
from onnxslim.passes.simplify._elementwise import BROADCASTING, UNARY
from onnxslim.passes.simplify._reshape import FAMILY
from onnxslim.passes.simplify._trial import Results, Trial, TrialPass, TrialRule

_MOST = 64
"""How many nodes are made anew at most."""


@dataclass
class _Region:
    """Connected nodes that compute scalars from scalars."""

    trial: Trial
    nodes: dict[Node, None] = field(default_factory=dict)
    lifted: dict[Tensor, Tensor | None] = field(default_factory=dict)
    results: dict[Tensor, Tensor] = field(default_factory=dict)

    def grow(self, node: Node) -> None:
        queue = [node]
        while queue and len(self.nodes) <= _MOST:
            node = queue.pop()
            if node in self.nodes:
                continue
            self.nodes[node] = None
            above = (self.trial.above(operand, *_ARITHMETIC) for operand in node.inputs)
            around = [*filter(None, above), *node.outputs[0].outputs]
            queue += [other for other in around if _is_scalar(self.trial, other)]

    def lift(self, tensor: Tensor) -> Tensor | None:
        """Return *tensor* as a vector of one element; None where that would take a node more."""
        if tensor not in self.lifted:
            self.lifted[tensor] = self._made(tensor)
        return self.lifted[tensor]

    def _made(self, tensor: Tensor) -> Tensor | None:
        if isinstance(tensor, Constant):
            return tensor if tensor.shape == () else None
        node = self.trial.above(tensor, *FAMILY, "Gather", *_ARITHMETIC)
        if node is None:
            return None
        if node.operator in FAMILY:
            return node.inputs[0] if _is_one(self.trial, node.inputs[0]) else None
        if node.operator == "Gather":
            return self._gathered(tensor, node)
        count = len(node.inputs) if node.operator in BROADCASTING else 1
        operands = [self.lift(operand) for operand in node.inputs[:count]]
        if node not in self.nodes or None in operands or _are_constant(operands):
            return None
        vector = self.trial.new.like(node, *operands, *node.inputs[count:])
        return self._handed_on(tensor, vector)

    def _handed_on(self, scalar: Tensor, vector: Tensor) -> Tensor | None:
        """Give *vector* to those who make a vector of *scalar*, and a scalar to all others."""
        trial = self.trial
        outside = [reader for reader in scalar.outputs if reader not in self.nodes]
        sinks = [r for r in outside if _is_sink(trial, r) and r.graph is trial.graph]
        if len(sinks) > 1:
            return None
        if sinks:
            self.results[sinks[0].outputs[0]] = vector
            vector = sinks[0].outputs[0]
        if len(sinks) < len(outside) or id(scalar) in trial.pinned:
            self.results[scalar] = trial.new.Squeeze(vector)
        return vector

    def _gathered(self, tensor: Tensor, node: Node) -> Tensor | None:
        """Gather one element as a vector, if nobody else wants it as a scalar."""
        index = node.inputs[1]
        alone = all(
            reader in self.nodes or _is_sink(self.trial, reader) for reader in tensor.outputs
        )
        if not isinstance(index, Constant) or index.shape != () or id(tensor) in self.trial.pinned:
            return None
        if not alone or self.trial.facts.rank(node.inputs[0]) != 1:
            return None
        return self.trial.new.like(node, node.inputs[0], self.trial.ints([int(index.values)]))


def _are_constant(operands: Iterable[Tensor | None]) -> bool:
    """Say whether none of *operands* is a vector: constants stay scalars."""
    return all(isinstance(operand, Constant) for operand in operands)


def _is_one(trial: Trial, tensor: Tensor) -> bool:
    return trial.facts.dims(tensor) == (1,)


def _is_scalar(trial: Trial, node: Node) -> bool:
    """Say whether *node* computes a scalar from scalars, element by element."""
    if node.operator not in _ARITHMETIC or node.graph is not trial.graph or has_parameters(node):
        return False
    return trial.facts.dims(node.outputs[0]) == ()


def _is_sink(trial: Trial, node: Node) -> bool:
    """Say whether *node* makes a vector of one element."""
    return node.operator in FAMILY and _is_one(trial, node.outputs[0]) and not has_parameters(node)


def _lift(trial: Trial) -> Results | None:
    """Compute all scalars of a region as vectors, from its last node on."""
    if trial.opset < 8 or not _is_scalar(trial, trial.node):
        return None
    if any(reader.operator in _ARITHMETIC for reader in trial.out.outputs):
        return None
    region = _Region(trial)
    region.grow(trial.node)
    if len(region.nodes) > _MOST or None in [region.lift(n.outputs[0]) for n in region.nodes]:
        return None
    return region.results or None


_ARITHMETIC = (*sorted(BROADCASTING), *sorted(UNARY))


class LiftScalars(TrialPass):
    """Compute with vectors of one element what is taken from such and made such again."""

    name = "lift-scalars"
    effect = Effect.EXACT
    rules: ClassVar[Mapping[str, TrialRule]] = dict.fromkeys(_ARITHMETIC, _lift)
