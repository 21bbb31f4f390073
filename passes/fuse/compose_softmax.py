"""Softmax and LogSoftmax, written out.

Source: Softmax-13, LogSoftmax-13, ReduceLogSumExp-18 and their predecessors of the ONNX operator
specification. The formula is the
operator only where it takes the largest element off first: else it may overflow. For a like reason
the logarithm of a Softmax is no LogSoftmax: it is infinite where the probability rounds to 0.
"""

from __future__ import annotations

from onnx import TensorProto

from onnxslim.base import Effect
from onnxslim.ir import Node, Tensor, producer
from onnxslim.pattern import Match, const, op, opt
from onnxslim.rewrite import Builder, FormsPass
from onnxslim.shapes import Facts

_SHIFTED = op.Sub("x", "top")
_EXP = op.Exp(_SHIFTED)
_PASSES_ON = ("Reshape", "Unsqueeze", "Squeeze", "Identity")
"""Operators that the largest element may go through."""


def _softmax(new: Builder, m: Match, facts: Facts, operator: str = "Softmax") -> Tensor:
    x = m.tensor("x")
    dims = facts.dims(x)
    m.require(dims is not None, "the shape is not known")
    assert dims is not None
    m.require(dims, "it is of one number")
    (total,) = {node for node in m.nodes if node.operator in ("ReduceSum", "ReduceLogSumExp")}
    axis = _axis(m, total, len(dims))
    m.require(total.attr("keepdims", 1), "the sum does not keep its dimensions")
    if "top" in m.tensors:
        tops = facts.dims(m.tensor("top"))
        fits = tops == (*dims[:axis], 1, *dims[axis + 1 :])
        m.require(fits and _is_largest(m.tensor("top"), x, axis, len(dims)), "it might overflow")
    last = axis == len(dims) - 1
    m.require(last or new.version >= 13, "needs opset 13")
    m.require(facts.elem_type(x) in _KERNELS, "there is no kernel for it")
    attrs = {} if new.version >= 13 and last else {"axis": axis}
    return new.node(operator, [x], attrs)


def _log_softmax(new: Builder, m: Match, facts: Facts) -> Tensor:
    return _softmax(new, m, facts, "LogSoftmax")


_KERNELS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)


def _axis(m: Match, node: Node, rank: int) -> int:
    """Return the only axis of a reduction, counted from the first."""
    axes = node.attr("axes") if node.attr("axes") is not None else node.constant(1)
    m.require(axes is not None and len(axes) == 1, "it is not over one dimension")
    return int(axes[0]) % rank  # type: ignore[index]


def _is_largest(top: Tensor, x: Tensor, axis: int, rank: int) -> bool:
    """Say whether *top* is surely the largest element along *axis*."""
    node = producer(top)
    while node is not None and node.operator in _PASSES_ON:
        node = producer(node.inputs[0])
    if node is None or node.operator != "ReduceMax" or node.inputs[0] is not x:
        return False
    axes = node.attr("axes") if node.attr("axes") is not None else node.constant(1)
    return axes is not None and [int(a) % rank for a in axes] == [axis]


class ComposeSoftmax(FormsPass):
    """Make one Softmax or LogSoftmax of its formula."""

    name = "compose-softmax"
    effect = Effect.ROUNDING
    forms = (
        (op.Div(_EXP, op.ReduceSum(_EXP, opt(const()))), _softmax),
        (op.Sub(_SHIFTED, op.Log(op.ReduceSum(_EXP, opt(const())))), _log_softmax),
        (op.Sub("x", op.ReduceLogSumExp("x", opt(const()))), _log_softmax),
    )
