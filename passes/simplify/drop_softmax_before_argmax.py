"""The largest of a Softmax, or of a LogSoftmax, is where the largest of its input is.

Both rise with each element. They keep elements apart that are not within rounding of each other,
which Sigmoid, Tanh and other functions that saturate do not; half precision is left alone.

Source: ArgMax-13, Softmax-13 and LogSoftmax-13 of the ONNX operator specification and their
predecessors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from onnx import TensorProto

from onnxslim.base import Effect
from onnxslim.ir import Tensor
from onnxslim.passes.simplify._operands import from_front
from onnxslim.passes.simplify._trial import Trial, TrialPass, TrialRule

_KINDS = (TensorProto.FLOAT, TensorProto.DOUBLE)


def _drop(trial: Trial) -> Tensor | None:
    inner = trial.above(trial.node.inputs[0], "Softmax", "LogSoftmax")
    x: Tensor | None = None if inner is None else inner.inputs[0]
    rank = None if x is None else trial.facts.rank(x)
    if inner is None or x is None or not rank or trial.facts.elem_type(x) not in _KINDS:
        return None
    axes = [trial.node.attr("axis", 0), inner.attr("axis", -1 if trial.opset >= 13 else 1)]
    largest, over = from_front(axes, rank)
    together = trial.opset >= 13 or over == rank - 1  # before, over all that follows
    return trial.new.like(trial.node, x) if largest == over and together else None


class DropSoftmaxBeforeArgmax(TrialPass):
    """Drop a Softmax or LogSoftmax of which only the place of the largest element is asked."""

    name = "drop-softmax-before-argmax"
    effect = Effect.ROUNDING
    rules: ClassVar[Mapping[str, TrialRule]] = {"ArgMax": _drop}
