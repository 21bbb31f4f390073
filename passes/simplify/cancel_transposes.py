"""Transposes that meet each other through operators that do not care about the order of axes.

The lower Transpose is pulled up: element by element operators, and those that work along axes given
to them, may as well work on the transposed operands. Where an operand is an opposite Transpose both
vanish; where it is a constant the constant is transposed; any other operand needs a Transpose of
its own.

Source: Transpose-1, Gemm-7 and the operators below in the ONNX operator specification.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from onnx import TensorProto

from onnxslim.base import Effect
from onnxslim.ir import Constant, Node, Tensor
from onnxslim.passes.simplify._elementwise import BROADCASTING, UNARY
from onnxslim.passes.simplify._operands import from_front, ints
from onnxslim.passes.simplify._permuted import ALONG_AXES, permuted
from onnxslim.passes.simplify._trial import Results, Trial, TrialPass, TrialRule

_MOST = 24
"""How many nodes are made anew at most."""
_ALONG_AXIS = ("Concat", "LogSoftmax", "Softmax")
_COMBINING = (*BROADCASTING, "Concat", "PRelu")
_PASSABLE = (*UNARY, *_COMBINING, *_ALONG_AXIS, *ALONG_AXES)
_INDICES = ("ArgMax", "ArgMin")
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
        node = self.trial.above(tensor, "Transpose", *_PASSABLE)
        if node is not None and node.operator == "Transpose":
            before: Tensor = node.inputs[0]
            if _are_opposite(self.perm, node):
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
        if operator in ALONG_AXES:
            return self._along_axes(node)
        changed: dict[str, Any] = {}
        if operator in _ALONG_AXIS:
            if self.trial.facts.rank(node.outputs[0]) != len(self.perm):
                return None  # it broadcasts further on
            if operator != "Concat" and self.trial.opset < 13:
                return None
            (axis,) = from_front([node.attr("axis", -1)], len(self.perm))
            changed["axis"] = self.perm.index(axis)
        several = operator in _COMBINING
        if several and self.trial.opset < 8:
            return None
        operands = node.inputs if several else node.inputs[:1]
        made = [self.transposed(operand) for operand in operands]
        if None in made:
            return None
        return self.trial.new.like(node, *made, *node.inputs[len(made) :], **changed)

    def _along_axes(self, node: Node) -> Tensor | None:
        change = permuted(self.trial, node, self.perm)
        x = None if change is None else self.transposed(node.inputs[0])
        if change is None or x is None:
            return None
        operands, attrs = change
        return self.trial.new.like(node, x, *operands, **attrs)


def _cancel(trial: Trial) -> Tensor | None:
    perm = trial.node.attr("perm")
    inner = trial.above(trial.node.inputs[0], *_PASSABLE)
    if perm is None or inner is None or not trial.private(trial.node.inputs[0]):
        return None
    pull = _Pull(trial, perm)
    result = pull.transposed(trial.node.inputs[0])
    return result if pull.met and pull.added <= pull.met else None


def _reduce(trial: Trial) -> Tensor | None:
    """Reduce other axes before a Transpose that has nothing left to do."""
    node, inner = trial.node, trial.above(trial.node.inputs[0], "Transpose")
    perm: Sequence[int] | None = None if inner is None else inner.attr("perm")
    of_indices = node.operator in _INDICES
    axes = [node.attr("axis", 0)] if of_indices else ints(node, "axes", 1)
    if inner is None or perm is None or not axes or node.attr("keepdims", 1):
        return None
    axes = from_front(axes, len(perm))
    left = [place for axis, place in enumerate(perm) if axis not in axes]
    if left != sorted(left):
        return None
    trial.even = trial.read_only_by(node.inputs[0], *_SUMS, *_INDICES)
    before = sorted(perm[axis] for axis in axes)
    if of_indices:
        return trial.new.like(node, inner.inputs[0], axis=before[0])
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
    if not changed:
        return None
    if node.operator == "Gemm":
        return trial.new.like(node, *operands, **changed)
    return trial.new.Gemm(*operands, **changed)


def _matmul(trial: Trial) -> Tensor | None:
    """Write a product of matrices, one of them transposed, as a Gemm."""
    operands = trial.node.inputs
    kinds = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
    matrices = all(trial.facts.rank(operand) == 2 for operand in operands)
    if trial.opset < 11 or not matrices or trial.facts.elem_type(trial.out) not in kinds:
        return None
    return _gemm(trial)


def _split(trial: Trial) -> Results | None:
    """Split along another axis where every part is transposed back."""
    node = trial.node
    inner = trial.above(node.inputs[0], "Transpose")
    perm = None if inner is None else inner.attr("perm")
    parts = [output for output in node.outputs if output.outputs or id(output) in trial.pinned]
    readers = [reader for part in parts for reader in part.outputs]
    if inner is None or perm is None or not all(trial.read_only_by(p, "Transpose") for p in parts):
        return None
    if any(r.graph is not trial.graph or not _are_opposite(perm, r) for r in readers):
        return None
    (axis,) = from_front([node.attr("axis", 0)], len(perm))
    attrs = {**node.attrs, "axis": perm[axis]}
    operands = [inner.inputs[0], *node.inputs[1:]]
    trial.new.node("Split", operands, attrs, outputs=len(node.outputs))
    pieces = dict(zip(node.outputs, trial.new.nodes[-1].outputs, strict=True))
    return {reader.outputs[0]: pieces[reader.inputs[0]] for reader in readers}


def _are_opposite(perm: Sequence[int], node: Node) -> bool:
    back = node.attr("perm", ())
    return len(back) == len(perm) and [perm[axis] for axis in back] == sorted(perm)


class CancelTransposes(TrialPass):
    """Cancel Transposes through operators that need no order of axes, or know it; and Gemm."""

    name = "cancel-transposes"
    effect = Effect.ROUNDING
    rules: ClassVar[Mapping[str, TrialRule]] = {
        "Gemm": _gemm,
        "MatMul": _matmul,
        "Split": _split,
        "Transpose": _cancel,
        **dict.fromkeys((*_SUMS, *_INDICES), _reduce),
    }
