"""Blocks of channels moved into space, or of space into channels, by a Transpose between reshapes.

Source: DepthToSpace-1, -11 and SpaceToDepth-1 of the ONNX operator specification.
"""

from __future__ import annotations

from typing import NamedTuple

from onnx import TensorProto

from onnxslim.base import Effect
from onnxslim.ir import Tensor
from onnxslim.pattern import Match, op
from onnxslim.rewrite import Builder, FormsPass
from onnxslim.shapes import Facts


class _Form(NamedTuple):
    """An operator that transposes six dimensions: batch, channels, height, width and two blocks."""

    operator: str
    order: tuple[int, ...]
    """Where these six are before the Transpose."""
    mode: str | None = None
    since: int = 1


_FORMS = {
    (0, 3, 4, 1, 5, 2): _Form("DepthToSpace", (0, 3, 4, 5, 1, 2)),
    (0, 1, 4, 2, 5, 3): _Form("DepthToSpace", (0, 1, 4, 5, 2, 3), "CRD", 11),
    (0, 3, 5, 1, 2, 4): _Form("SpaceToDepth", (0, 1, 2, 4, 3, 5)),
}
"""By permutation."""
_KERNELS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)


def _moved(new: Builder, m: Match, facts: Facts) -> Tensor:
    node, x = m.node("Transpose"), m.tensor("x")
    form, split = _FORMS[tuple(node.attrs["perm"])], facts.dims(node.inputs[0])
    m.require(split is not None, "the shape is not known")
    assert split is not None
    batch, channels, height, width, size, other = (split[place] for place in form.order)
    m.require(isinstance(size, int) and size == other, "the blocks are no squares")
    deep = (batch, channels * size * size, height, width)
    wide = (batch, channels, height * size, width * size)
    shapes = [facts.dims(x), facts.dims(m.root.outputs[0])]
    expected = [deep, wide] if form.operator == "DepthToSpace" else [wide, deep]
    m.require(shapes == expected, "the reshapes do more than to split and join dimensions")
    m.require(new.version >= form.since, f"needs opset {form.since}")
    m.require(facts.elem_type(x) in _KERNELS, "onnxruntime has no kernel for the type")
    attrs = {"blocksize": size} if form.mode is None else {"blocksize": size, "mode": form.mode}
    return new.node(form.operator, [x], attrs)


class ComposeDepthToSpace(FormsPass):
    """Make one DepthToSpace or SpaceToDepth of a Transpose between reshapes."""

    name = "compose-depth-to-space"
    effect = Effect.EXACT
    forms = tuple(
        (op.Reshape(op.Transpose(op.Reshape("x", "split"), perm=list(perm)), "joined"), _moved)
        for perm in _FORMS
    )
