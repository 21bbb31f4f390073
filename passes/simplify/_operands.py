"""Operands that were attributes in older versions of an operator and are inputs now."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxslim.errors import Declined
from onnxslim.ir import Node, Tensor, Variable
from onnxslim.passes.simplify._trial import Trial


def ints(node: Node, name: str, slot: int) -> list[int] | None:
    """Return attribute *name*, or else the constant at input *slot*, as integers."""
    value = node.attr(name)
    if value is None:
        value = node.constant(slot)
    if value is None or (isinstance(value, np.ndarray) and value.dtype.kind not in "iu"):
        return None
    return [int(number) for number in np.asarray(value).reshape(-1)]


def is_given(node: Node, name: str, slot: int) -> bool:
    """Say whether the operand is there at all."""
    return node.attr(name) is not None or node.input(slot) is not None


def from_front(axes: Sequence[int], rank: int) -> list[int]:
    """Count *axes* from the front; declines what is out of range."""
    if not all(-rank <= axis < rank for axis in axes):
        raise Declined("an axis is out of range")
    return [axis % rank for axis in axes]


def with_axes(trial: Trial, node: Node, x: Tensor, axes: Sequence[int], since: int) -> Variable:
    """Make a node like *node* over *x* and *axes*, which are an input from version *since* on."""
    if trial.opset < since:
        return trial.new.like(node, x, axes=list(axes))
    return trial.new.like(node, x, trial.ints(axes), axes=None)
