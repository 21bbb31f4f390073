"""Expand in front of operators that broadcast anyway.

Source: Expand-8 and "Broadcasting in ONNX" of the ONNX specification.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from onnxslim.base import Effect
from onnxslim.ir import Node, Tensor
from onnxslim.passes.simplify._elementwise import BROADCASTING, UNARY
from onnxslim.passes.simplify._trial import Results, Trial, TrialPass, TrialRule
from onnxslim.shapes import Expr
from onnxslim.shapes.expr import broadcast

_Shape = tuple[Expr, ...]
_MOST = 100
"""How many nodes may compute smaller tensors than before."""


@dataclass
class _Smaller:
    """The tensors that become smaller without the Expand, and those that do not any more."""

    trial: Trial
    made: dict[Tensor, Tensor]
    shapes: dict[Tensor, _Shape]
    results: dict[Tensor, Tensor] = field(default_factory=dict)

    def follow(self) -> bool:
        """Rebuild every reader until its result is as large as before; say whether that ends."""
        queue = list(self.made)
        done: set[Node] = set()
        for tensor in queue:
            if id(tensor) in self.trial.pinned:
                return False
            for reader in tensor.outputs:
                if reader in done or reader is self.trial.node:
                    continue
                done.add(reader)
                if len(done) > _MOST or not self._rebuild(reader, queue):
                    return False
        return bool(self.results)

    def _rebuild(self, reader: Node, queue: list[Tensor]) -> bool:
        operator = reader.operator
        binary = operator in BROADCASTING
        if (not binary and operator not in UNARY) or reader.graph is not self.trial.graph:
            return False
        if any(t in self.made for t in reader.inputs[1:]) and not binary:
            return False
        read = [self._shape(t) for t in (reader.inputs if binary else reader.inputs[:1])]
        out = reader.outputs[0]
        before = self.trial.facts.dims(out)
        if before is None or None in read:
            return False
        after = _broadcast([shape for shape in read if shape is not None])
        made = self.trial.new.like(reader, *(self.made.get(t, t) for t in reader.inputs))
        if after == before:
            self.results[out] = made
        else:
            self.made[out], self.shapes[out] = made, after
            queue.append(out)
        return True

    def _shape(self, tensor: Tensor) -> _Shape | None:
        return self.shapes[tensor] if tensor in self.shapes else self.trial.facts.dims(tensor)


def _broadcast(shapes: list[_Shape]) -> _Shape:
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    return tuple(map(broadcast, zip(*padded, strict=True)))


def _drop(trial: Trial) -> Results | None:
    """Hand the input on to all readers, if what they compute in the end has the same shape."""
    x, out = trial.node.inputs[0], trial.out
    shape = trial.facts.dims(x)
    if shape is None or trial.opset < 8:
        return None
    smaller = _Smaller(trial, {out: x}, {out: shape})
    return smaller.results if smaller.follow() else None


class DropExpands(TrialPass):
    """Drop Expand where the operators that read it broadcast to the same shape."""

    name = "drop-expands"
    effect = Effect.ROUNDING  # onnxruntime computes Tanh of one number otherwise than of many
    rules: ClassVar[Mapping[str, TrialRule]] = {"Expand": _drop}
