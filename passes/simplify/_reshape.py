"""The operators that keep the order of the elements."""

from __future__ import annotations

from collections.abc import Sequence

from onnxslim.ir import Node, Tensor
from onnxslim.passes.simplify._trial import Trial
from onnxslim.shapes import Expr

FAMILY = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")


def same_order(trial: Trial, tensor: Tensor) -> list[Tensor]:
    """Return the tensors that *tensor* is reshaped from, nearest first."""
    found: list[Tensor] = []
    while True:
        node = trial.above(tensor, *FAMILY, "Transpose")
        if node is None or not (node.operator != "Transpose" or moves_ones(trial, node)):
            return found
        tensor = node.inputs[0]
        found.append(tensor)


def moves_ones(trial: Trial, node: Node) -> bool:
    """Say whether a Transpose moves nothing but dimensions of size 1."""
    shape = trial.facts.shape(node.inputs[0])
    if shape is None:
        return False
    perm = node.attr("perm", range(len(shape))[::-1])
    moved = [axis for axis in perm if shape[axis] != 1]
    return moved == sorted(moved)


def constant_shape(before: Sequence[Expr] | None, after: Sequence[Expr] | None) -> list[int] | None:
    """Write *after* as a shape for Reshape: at most one -1, or else copied dimensions.

    With a -1 nothing is copied: it means nothing where a copied dimension is 0.
    """
    if after is None or 0 in after:
        return None
    unknown = [axis for axis, dim in enumerate(after) if not isinstance(dim, int)]
    if len(unknown) <= 1:
        return [dim if isinstance(dim, int) else -1 for dim in after]
    if before is None or any(a >= len(before) or before[a] != after[a] for a in unknown):
        return None
    return [dim if isinstance(dim, int) else 0 for dim in after]
