"""Operators of any number of operands, one inside the other.

Source: Max-8, Min-8 and Sum-8 of the ONNX operator specification and their successors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from onnxslim.base import Effect
from onnxslim.ir import Tensor
from onnxslim.passes.simplify._trial import Trial, TrialPass, TrialRule


def _merge(trial: Trial) -> Tensor | None:
    """Write the operands of the inner nodes in their place."""
    operator, before = trial.node.operator, list(trial.node.inputs)
    if trial.opset < 8:
        return None
    operands: list[Tensor] = []
    for tensor in before:
        inner = trial.above(tensor, operator)
        use = inner is not None and trial.private(tensor)
        operands += inner.inputs if inner is not None and use else [tensor]
    return trial.new.like(trial.node, *operands) if len(operands) > len(before) else None


class MergeVariadic(TrialPass):
    """Merge Max of Max, Min of Min, and Sum of Sum."""

    name = "merge-variadic"
    effect = Effect.ROUNDING
    rules: ClassVar[Mapping[str, TrialRule]] = dict.fromkeys(("Max", "Min", "Sum"), _merge)
