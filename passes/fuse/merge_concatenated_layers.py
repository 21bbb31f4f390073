"""Convolutions or products of one input whose results stand side by side.

Source: Concat-4 of the ONNX operator specification and its successors.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator

from onnxslim.base import Effect
from onnxslim.ir import Tensor
from onnxslim.passes.fuse._parallel import Layer, above, built
from onnxslim.pattern import Match, op, rest
from onnxslim.rewrite import Builder, FormsPass
from onnxslim.shapes import Facts


def _merge(new: Builder, m: Match, facts: Facts) -> Tensor | None:
    runs = list(_runs(m, facts))
    if all(len(run) == 1 for run in runs):
        return None
    parts: list[Tensor] = []
    for run in runs:
        layers = [layer for _, layer in run if layer is not None]
        if len(run) == 1:
            parts.append(run[0][0])
        else:
            m.take(node for layer in layers for node in layer.nodes)
            parts.append(built(new, layers))
    return parts[0] if len(parts) == 1 else new.like(m.root, *parts)


def _runs(m: Match, facts: Facts) -> Iterator[list[tuple[Tensor, Layer | None]]]:
    """Yield the operands of the Concat; together those that one layer can compute."""
    found = [(tensor, _layer(m, tensor, facts)) for tensor in m.root.inputs]

    def key(item: tuple[Tensor, Layer | None]) -> Hashable:
        tensor, layer = item
        return tensor if layer is None else layer.key()

    for _, run in itertools.groupby(found, key):
        items = list(run)
        if items[0][1] is None:
            yield from ([item] for item in items)
        else:
            yield items


def _layer(m: Match, tensor: Tensor, facts: Facts) -> Layer | None:
    """Return the layer whose channels *tensor* holds along the axis of the Concat."""
    layer = above(tensor, m.pinned)
    if layer is None or not m.owns(layer.nodes[-1]):
        return None
    axis = m.root.attr("axis", 1)
    rank = layer.weight.ndim if layer.head.operator != "MatMul" else facts.rank(tensor)
    wanted = 1 if layer.head.operator == "Conv" else -1
    same = axis == wanted if rank is None else (axis - wanted) % rank == 0
    return layer if same else None


class MergeConcatenatedLayers(FormsPass):
    """Make one Conv, Gemm or MatMul of several of one input that a Concat puts side by side."""

    name = "merge-concatenated-layers"
    effect = Effect.ROUNDING
    forms = ((op.Concat(rest("parts")), _merge),)
