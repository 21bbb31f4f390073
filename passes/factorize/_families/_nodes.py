"""Nodes that several families write."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxslim.ir import Tensor, Variable
from onnxslim.rewrite import Builder


def count(new: Builder, start: int, stop: int, dtype: Any = np.int32) -> Variable:
    """Return the numbers from *start* to *stop* along the last axis."""
    return new.Range(*(np.array(n, dtype) for n in (start, stop, 1)))


def upright(new: Builder, numbers: Tensor) -> Variable:
    """Return *numbers* along the axis before the last."""
    return new.Reshape(numbers, np.array([-1, 1]))


def matrix(new: Builder, values: Variable, rows: int, columns: int) -> Variable:
    """Return *values* as a matrix."""
    return new.Reshape(values, np.array([rows, columns]))
