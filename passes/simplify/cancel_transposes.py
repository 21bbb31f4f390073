"""Transposes that meet each other through operators that do not care about the order of axes.

The lower Transpose is pulled up: element by element operators, Concat, Softmax and reductions may
as well work on the transposed operands. Where an operand is an opposite Transpose both vanish;
where it is a constant the constant is transposed; any other operand needs a Transpose of its own.

Source: Transpose-1, Gemm-7 and the operators below in the ONNX operator specification.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from onnxslim.base import Effect
from onnxslim.ir import Constant, Node, Tensor
from onnxslim.passes.simplify._elementwise import BROADCASTING, UNARY
from onnxslim.passes.simplify._operands import from_front, ints
from onnxslim.passes.simplify._trial import Trial, TrialPass, TrialRule

_MOST = 24
"""How many nodes are made anew at most."""
_ALONG_AXIS = ("Concat", "LogSoftmax", "Softmax")
_SUMS = ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum")


class _Pull:
    """Transposed tensors, and what they save."""

    def __init__(self, trial: Trial, perm: list[int]) -> None:
        self.trial, self.perm = trial, perm
        self.met = self.added = 0

    def transposed(self, tensor: Tensor) -> Tensor | None:
        """Return *tensor* transposed, None if that cannot be."""
        if len(self.trial.new.nodes) > _MOST:
            return None
        if isinstance(tensor, Constant):
            return self._constant(tensor)
        node = self.trial.above(tensor, "Transpose", *UNARY, *BROADCASTING, *_ALONG_AXIS)
        if node is not None and node.operator == "Transpose":
            before: Tensor = node.inputs[0]
            first = node.attr("perm", ())
            same_rank = len(first) == len(self.perm)
            if same_rank and [first[axis] for axis in self.perm] == sorted(first):
                self.met += 1
                return before
        elif node is not None and self.trial.private(tensor) and node.graph is self.trial.graph:
            made = self._rebuilt(node)
            if made is not None:
                return made
        self.added += 1
        known = self.trial.facts.rank(tensor) == len(self.perm)
        return self.trial.new.Transpose(tensor, perm=self.perm) if known else None

    def _constant(self, tensor: Constant) -> Tensor | None:
        rank = len(self.perm)
        if tensor.shape == ():
            return tensor
        if len(tensor.shape) > rank:
            return None
        values = tensor.values.reshape((1,) * (rank - len(tensor.shape)) + tensor.shape)
        return self.trial.new.tensor(np.ascontiguousarray(values.transpose(self.perm)))

    def _rebuilt(self, node: Node) -> Tensor | None:
        """Make a node over transposed operands; None if it depends on the order of axes."""
        operator = node.operator
        changed: dict[str, Any] = {}
        if operator in _ALONG_AXIS:
            if self.trial.facts.rank(node.outputs[0]) != len(self.perm):
                return None  # it broadcasts further on
            if operator != "Concat" and self.trial.opset < 13:
                return None
            (axis,) = from_front([node.attr("axis", -1)], len(self.perm))
            changed["axis"] = self.perm.index(axis)
        several = operator in BROADCASTING or operator == "Concat"
        if several and self.trial.opset < 8:
            return None
        operands = node.inputs if several else node.inputs[:1]
        made = [self.transposed(operand) for operand in operands]
        if None in made:
            return None
        return self.trial.new.like(node, *made, *node.inputs[len(made) :], **changed)


def _cancel(trial: Trial) -> Tensor | None:
    perm = trial.node.attr("perm")
    inner = trial.above(trial.node.inputs[0], *UNARY, *BROADCASTING, *_ALONG_AXIS)
    if perm is None or inner is None or not trial.private(trial.node.inputs[0]):
        return None
    pull = _Pull(trial, perm)
    result = pull.transposed(trial.node.inputs[0])
    return result if pull.met and pull.added <= pull.met else None


def _reduce(trial: Trial) -> Tensor | None:
    """Reduce other axes before a Transpose that has nothing left to do."""
    node, inner = trial.node, trial.above(trial.node.inputs[0], "Transpose")
    perm: Sequence[int] | None = None if inner is None else inner.attr("perm")
    axes = ints(node, "axes", 1)
    if inner is None or perm is None or not axes or node.attr("keepdims", 1):
        return None
    axes = from_front(axes, len(perm))
    left = [place for axis, place in enumerate(perm) if axis not in axes]
    if left != sorted(left):
        return None
    trial.even = trial.read_only_by(node.inputs[0], *_SUMS)
    before = sorted(perm[axis] for axis in axes)
    if trial.opset < (13 if node.operator == "ReduceSum" else 18):
        return trial.new.like(node, inner.inputs[0], axes=before)
    return trial.new.like(node, inner.inputs[0], trial.ints(before))


def _gemm(trial: Trial) -> Tensor | None:
    """Let Gemm transpose its operands."""
    node, operands = trial.node, list(trial.node.inputs)
    changed: dict[str, Any] = {}
    for slot, name in enumerate(("transA", "transB")):
        inner = trial.above(operands[slot], "Transpose")
        if inner is not None and inner.attr("perm", [1, 0]) == [1, 0]:
            operands[slot] = inner.inputs[0]
            changed[name] = 0 if node.attr(name, 0) else 1
    return trial.new.like(node, *operands, **changed) if changed else None


@dataclass(frozen=True)
class CancelTransposes(TrialPass):
    """Cancel Transposes through element by element operators, Concat, Softmax, Reduce and Gemm."""

    name = "cancel-transposes"
    effect = Effect.ROUNDING
    rules: ClassVar[Mapping[str, TrialRule]] = {
        "Gemm": _gemm,
        "Transpose": _cancel,
        **dict.fromkeys(_SUMS, _reduce),
    }
