"""Operands whose constant channels need not be computed: they are put back where they are read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnxslim.ir import Array, Node, Tensor, Variable
from onnxslim.passes.channels._linear import Way
from onnxslim.passes.channels._values import NOWHERE, Channels
from onnxslim.rewrite import Builder

_TINY = float(np.finfo(np.float32).tiny)
_OVERHEAD = 400
"""Bytes that the nodes take which put channels back."""


@dataclass(eq=False)
class Expansion:
    """An operand that is computed without its constant channels.

    Where all of them are constant, the operand becomes a constant.
    """

    node: Node
    slot: int
    inputs: Channels
    rows: Array
    """Places of the result."""
    ways: Array = field(default_factory=lambda: NOWHERE)
    target: Array = field(default_factory=lambda: NOWHERE)

    @property
    def constant(self) -> Array:
        """Which channels have a known value."""
        return along(self.inputs.constant & (self.inputs.slack <= _TINY), self.inputs)

    def plan(self, constants: bool, duplicates: bool) -> None:
        """Do without constants; see `Linear.plan`."""
        self.ways = np.where(self.constant & constants, int(Way.BIAS), int(Way.NOT))
        self.target = np.arange(len(self.rows))

    def used(self, rows: Array) -> Array:
        """Return the channels that *rows* read: themselves."""
        return rows

    def gain(self, weights: Array) -> int:
        """Return how many bytes go; *weights* are the bytes behind every channel."""
        return int(weights[self.constant].sum()) - 12 * len(weights) - _OVERHEAD

    def rewrite(
        self, rows: Array, columns: Array, new: Builder, tensor: Tensor, dtype: Any
    ) -> Tensor:
        """Return what stands in for *tensor*, of which *columns* are left; *rows* are wanted."""
        values = along(self.inputs.scale, self.inputs)
        axis, rank = self.inputs.axis, self.inputs.rank
        assert axis is not None
        shape = [1] * rank
        shape[axis] = int(rows.sum())
        if self.constant.all():
            return new.tensor(values[rows].astype(dtype).reshape(shape), "channels")
        if np.array_equal(rows, columns):
            return tensor
        position = np.where(columns, np.cumsum(columns) - 1, columns.sum())
        padded = _padded(new, tensor, axis, rank, dtype)
        made = new.Gather(padded, position[rows].astype(np.int64), axis=axis)
        shift = np.where(columns, 0.0, values)[rows].astype(dtype)
        return new.Add(made, shift.reshape(shape)) if shift.any() else made


def along(array: Array, known: Channels) -> Array:
    """Return *array* as a vector along the channels; it must not vary otherwise."""
    flat = np.broadcast_to(
        array, [n if a != known.axis else len(known.places) for a, n in enumerate(known.base.shape)]
    )
    rows = np.moveaxis(flat, known.axis or 0, -1).reshape(-1, len(known.places))
    return np.asarray(rows[0])


def _padded(new: Builder, tensor: Tensor, axis: int, rank: int, dtype: Any) -> Variable:
    """Add one channel of zeros behind the others."""
    pads = [0] * (2 * rank)
    pads[rank + axis] = 1
    if new.version < 11:
        return new.Pad(tensor, pads=pads)
    return new.Pad(tensor, np.array(pads, np.int64), np.zeros((), dtype))
