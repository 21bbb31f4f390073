"""The constants that say what the channels of a tensor are, and how to let some of them be zero."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from onnxslim import ir
from onnxslim.ir import Array, Constant, Model, Node
from onnxslim.passes.channels._analysis import FLOATS, Analysis
from onnxslim.passes.channels._values import Sets

_NORMS = frozenset({"BatchNormalization", "InstanceNormalization"})
_SUMS = frozenset({"Add", "Sub", "Sum"})
LAYERS = frozenset({"Conv", "ConvTranspose", "Gather", "Gemm", "MatMul"})


@dataclass(frozen=True)
class Parameter:
    """An input of a node that holds one slice for each channel of its result."""

    node: Node
    slot: int
    axis: int
    """The axis of the constant that is the channels'."""
    sets: Array
    """The set of each channel: what is cut together has one number."""

    @property
    def tensor(self) -> Constant:
        """The constant."""
        tensor = self.node.inputs[self.slot]
        assert isinstance(tensor, Constant)
        return tensor

    @property
    def is_weight(self) -> bool:
        """Whether it is the weights of a layer."""
        return self.node.operator in LAYERS and (self.slot < 2 and len(self.tensor.shape) > 1)

    @property
    def is_gamma(self) -> bool:
        """Whether a batch normalization scales by it."""
        return self.node.operator == "BatchNormalization" and self.slot == 1

    def rows(self, values: Array) -> Array:
        """Return values of the constant's shape as (channels, others)."""
        return np.moveaxis(values, self.axis, 0).reshape(len(self.sets), -1)

    def clear(self, gone: Array, model: Model) -> set[int]:
        """Set the slices of the sets *gone* to zero; return the sets of which any was not."""
        mask = np.isin(self.sets, gone)
        changed = mask & (self.rows(self.tensor.values) != 0).any(1)
        if changed.any():
            values = np.array(self.tensor.values)
            np.moveaxis(values, self.axis, 0)[mask] = 0
            self._store(values, model)
        return set(self.sets[changed].tolist())

    def _store(self, values: Array, model: Model) -> None:
        before = self.tensor
        if len(before.outputs) == 1 and id(before) not in model.pinned():
            before.values = values
        else:
            made = ir.constant(model.names.fresh(before.name), values)
            ir.set_input(self.node, self.slot, made)


def parameters(analysis: Analysis, sets: Sets) -> list[Parameter]:
    """Return what the nodes of a graph hold for channels that are followed."""
    found = []
    for node in analysis.graph.nodes:
        known = analysis.channels.get(node.outputs[0]) if node.outputs else None
        if known is None or known.axis is None:
            continue
        for slot, axis in _slots(node, known.axis - known.rank):
            tensor = node.input(slot)
            if _varies(tensor, axis, len(known.places)):
                found.append(Parameter(node, slot, axis, sets.of(known.places)))
    return found


def _varies(tensor: object, axis: int, count: int) -> bool:
    """Say whether *tensor* is a constant of floats with *count* slices along *axis*."""
    if not isinstance(tensor, Constant) or tensor.elem_type not in FLOATS:
        return False
    rank = len(tensor.shape)
    return -rank <= axis < rank and tensor.shape[axis] == count


def _slots(node: Node, axis: int) -> Iterator[tuple[int, int]]:
    """Yield inputs that may hold a slice for each channel, and along which of their axes.

    *axis* is that of the channels in the result, counted from the end.
    """
    if node.operator in ("Conv", "ConvTranspose"):
        yield from ((1, int(node.op == "ConvTranspose")), (2, 0))
    elif node.operator == "Gemm":
        yield from ((1, 0 if node.attr("transB", 0) else 1), (2, -1))
    elif node.operator == "MatMul":
        yield 1 if axis == -1 else 0, axis
    elif node.operator == "Gather":
        yield 0, axis
    elif node.operator in _NORMS:
        yield from ((1, 0), (2, 0))
    elif node.operator in _SUMS:
        yield from ((slot, axis) for slot in range(len(node.inputs)))
