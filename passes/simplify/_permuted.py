"""What operators that work along axes become where the axes are in another order.

Source: the operators in the ONNX operator specification, from opset 8 on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from onnxslim.ir import Node
from onnxslim.passes.simplify._operands import from_front, ints, is_given
from onnxslim.passes.simplify._trial import Trial

Change = tuple[list[Any], dict[str, Any]]
"""All operands but the first, and the attributes that change."""


def permuted(trial: Trial, node: Node, perm: Sequence[int]) -> Change | None:
    """Return what *node* becomes over an operand transposed by *perm*; None if that cannot be."""
    if trial.facts.rank(node.inputs[0]) != len(perm) or trial.opset < 8:
        return None
    return ALONG_AXES[node.operator](trial, node, perm)


def _places(axes: Sequence[int], perm: Sequence[int]) -> list[int]:
    return [list(perm).index(axis) for axis in from_front(axes, len(perm))]


def _axis(trial: Trial, node: Node, perm: Sequence[int]) -> Change | None:
    """The axis is an attribute."""
    if not node.attr("keepdims", 1):
        return None
    (axis,) = _places([node.attr("axis", 0)], perm)
    return node.inputs[1:], {"axis": axis}


def _reduced(trial: Trial, node: Node, perm: Sequence[int]) -> Change | None:
    if not node.attr("keepdims", 1):
        return None
    if not is_given(node, "axes", 1):
        return [], {}
    axes = ints(node, "axes", 1)
    if not axes:
        return None
    places = sorted(_places(axes, perm))
    return ([], {"axes": places}) if node.attr("axes") is not None else ([trial.ints(places)], {})


def _sliced(trial: Trial, node: Node, perm: Sequence[int]) -> Change | None:
    axes = ints(node, "axes", 3)
    if axes is None:
        starts = None if is_given(node, "axes", 3) else ints(node, "starts", 1)
        if starts is None:
            return None
        axes = list(range(len(starts)))
    places = _places(axes, perm)
    if trial.opset < 10:
        return [], {"axes": places}
    return [*node.inputs[1:3], trial.ints(places), *node.inputs[4:]], {}


def _padded(trial: Trial, node: Node, perm: Sequence[int]) -> Change | None:
    pads = ints(node, "pads", 1)
    if pads is None or len(pads) != 2 * len(perm) or node.input(3) is not None:
        return None
    moved = [*(pads[axis] for axis in perm), *(pads[axis + len(perm)] for axis in perm)]
    return (
        ([], {"pads": moved}) if trial.opset < 11 else ([trial.ints(moved), *node.inputs[2:]], {})
    )


def _sized(trial: Trial, node: Node, perm: Sequence[int]) -> Change | None:
    """One number for each axis is the only other operand."""
    sizes = ints(node, "", 1)
    if sizes is None or len(sizes) != len(perm):
        return None
    return [trial.ints([sizes[axis] for axis in perm])], {}


def _resized(trial: Trial, node: Node, perm: Sequence[int]) -> Change | None:
    """Scales; those of an interpolation must be 1 along the first two axes."""
    scales, region = node.constant(2), node.input(1)
    plain = node.attr("axes") is None and (region is None or region.shape == (0,))
    if scales is None or len(scales) != len(perm) or node.input(3) is not None or not plain:
        return None
    moved = scales[list(perm)]
    nearest = node.attr("mode", "nearest") == "nearest"
    if trial.opset < 11 or not (nearest or (len(perm) == 4 and (moved[:2] == 1).all())):
        return None
    return [region, moved], {}


def _quantized(trial: Trial, node: Node, perm: Sequence[int]) -> Change | None:
    packed = node.outputs[0] if node.operator == "QuantizeLinear" else node.inputs[0]
    bytewise = trial.facts.elem_type(packed) in (TensorProto.INT8, TensorProto.UINT8)
    shape = trial.facts.static(node.inputs[1])
    if not bytewise or node.attr("block_size", 0) or shape is None:
        return None
    if shape in ((), (1,)):
        return node.inputs[1:], {}
    (axis,) = _places([node.attr("axis", 1)], perm)
    return (node.inputs[1:], {"axis": axis}) if trial.opset >= 13 else None


def _cumulated(trial: Trial, node: Node, perm: Sequence[int]) -> Change | None:
    axis = ints(node, "", 1)
    if axis is None or len(axis) != 1:
        return None
    (place,) = _places(axis, perm)
    return [np.asarray(place)], {}


ALONG_AXES: Mapping[str, Callable[[Trial, Node, Sequence[int]], Change | None]] = {
    **dict.fromkeys(("ArgMax", "ArgMin"), _axis),
    **dict.fromkeys(("DequantizeLinear", "QuantizeLinear"), _quantized),
    **dict.fromkeys(("Expand", "Tile"), _sized),
    **dict.fromkeys(("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp"), _reduced),
    **dict.fromkeys(("ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd"), _reduced),
    **dict.fromkeys(("ReduceSum", "ReduceSumSquare"), _reduced),
    "CumSum": _cumulated,
    "Pad": _padded,
    "Resize": _resized,
    "Slice": _sliced,
}
"""How each operator's axes follow a Transpose; the first operand is what is transposed."""
