"""Constants that are looked up in constants and then reshaped or transposed.

A table read by fixed indices is a way to store weights in few bytes: it must not be unfolded where
that makes the file larger. But what is done to the result can be done to the table and to the
indices, as long as the dimensions that the indices make stay side by side.

Source: Gather-1, GatherND-12, Reshape-5, Transpose-1 of the ONNX operator specification and the
versions around them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxslim.base import Effect
from onnxslim.ir import Array, Constant, Node, Tensor, has_parameters
from onnxslim.passes.simplify._reshape import FAMILY
from onnxslim.passes.simplify._trial import Results, Trial, TrialPass, TrialRule

_LARGEST = 1 << 22
"""Results of more elements stay as they are."""


@dataclass
class _Lookup:
    """A Gather, and the places from which the elements of its result come, moved along."""

    node: Node
    result: Tensor
    rows: Array
    """Which index each element was found by."""
    columns: Array
    """Where it stands in the row of the table."""

    def follow(self, trial: Trial) -> None:
        """Move on through what keeps all elements."""
        while trial.private(self.result) and not has_parameters(self.result.outputs[0]):
            node = self.result.outputs[0]
            shape = trial.facts.static(node.outputs[0])
            if node.inputs[0] is not self.result or shape is None:
                return
            if node.operator == "Transpose":
                perm = node.attr("perm")
                self.rows, self.columns = self.rows.transpose(perm), self.columns.transpose(perm)
            elif node.operator in FAMILY and math.prod(shape) == self.rows.size:
                self.rows, self.columns = self.rows.reshape(shape), self.columns.reshape(shape)
            else:
                return
            self.result = node.outputs[0]

    def apart(self) -> tuple[Array, Array, int] | None:
        """Split the dimensions: those of the indices, those of the table, and where the former are.

        None where one depends on both, or those of the indices are not side by side.
        """
        shape = self.rows.shape
        own = [axis for axis in range(len(shape)) if _varies(self.rows, axis)]
        if not own:
            return None
        first, last = own[0], own[-1] + 1
        if any(_varies(self.columns, axis) for axis in range(first, last)):
            return None
        inside = tuple(slice(None) if first <= i < last else 0 for i in range(len(shape)))
        outside = tuple(0 if first <= i < last else slice(None) for i in range(len(shape)))
        return self.rows[inside], self.columns[outside], first


def _varies(places: Array, axis: int) -> bool:
    return bool((places != places.take([0], axis)).any())


def _lookup(node: Node) -> _Lookup | None:
    """Look at a Gather, or a GatherND that does the same, of two constants."""
    table, index = node.inputs[0], node.inputs[1]
    if not (isinstance(table, Constant) and isinstance(index, Constant)) or has_parameters(node):
        return None
    axis, shape = _axis(node), _index_shape(node)
    if shape is None or not -len(table.shape) <= axis < len(table.shape):
        return None
    axis %= len(table.shape)
    before, after = table.shape[:axis], table.shape[axis + 1 :]
    whole = (*before, *shape, *after)
    if not 0 < math.prod(whole) <= _LARGEST:
        return None
    rows = np.arange(math.prod(shape)).reshape((1,) * axis + shape + (1,) * len(after))
    columns = np.arange(math.prod(before + after)).reshape(before + (1,) * len(shape) + after)
    result = node.outputs[0]
    return _Lookup(node, result, np.broadcast_to(rows, whole), np.broadcast_to(columns, whole))


def _axis(node: Node) -> int:
    return int(node.attr("axis", 0)) if node.operator == "Gather" else 0


def _index_shape(node: Node) -> tuple[int, ...] | None:
    shape = tuple(node.inputs[1].shape)
    if node.operator == "Gather":
        return shape
    return shape[:-1] if shape[-1] == 1 and not node.attr("batch_dims", 0) else None


def _merge(trial: Trial) -> Results | None:
    """Move all tables that are read by the same indices, if all want them moved alike."""
    index = trial.node.inputs[1]
    if not isinstance(index, Constant) or not trial.read_only_by(index, "Gather", "GatherND"):
        return None
    made, indices = dict[Tensor, Tensor](), dict[bytes, Tensor]()
    for node in dict.fromkeys(index.outputs):
        lookup = _lookup(node) if node.graph is trial.graph and node.inputs[1] is index else None
        if lookup is None:
            return None
        lookup.follow(trial)
        if lookup.result is node.outputs[0] and node.operator == "Gather":
            return None
        trial.even = trial.even or node.operator == "GatherND"
        parts = lookup.apart()
        if parts is None:
            return None
        made[lookup.result] = _gather(trial, node, parts, indices)
    return made


def _gather(
    trial: Trial, node: Node, parts: tuple[Array, Array, int], indices: dict[bytes, Tensor]
) -> Tensor:
    rows, columns, place = parts
    table, index = node.inputs
    key = repr(rows.shape).encode() + rows.tobytes()
    if key not in indices:
        indices[key] = trial.new.tensor(index.values.reshape(-1)[rows], "Gather")
    moved = np.moveaxis(table.values, _axis(node), 0)
    flat = moved.reshape(moved.shape[0], -1)
    moved = np.moveaxis(flat[:, columns], 0, place)
    axis = {"axis": place} if place else {}
    return trial.new.Gather(np.ascontiguousarray(moved), indices[key], **axis)


class MergeGatherMoves(TrialPass):
    """Do to constants what is done to what is gathered from them."""

    name = "merge-gather-moves"
    effect = Effect.EXACT
    rules: ClassVar[Mapping[str, TrialRule]] = {"Gather": _merge, "GatherND": _merge}
