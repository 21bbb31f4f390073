"""Something added to whole channels before the mean of each channel is taken off.

Source: InstanceNormalization-6 of the ONNX operator specification and its successor.
"""

from __future__ import annotations

from onnxslim.base import Effect
from onnxslim.ir import Tensor
from onnxslim.passes.fuse._affine import affine
from onnxslim.pattern import Match, const, op
from onnxslim.rewrite import Builder, FormsPass
from onnxslim.shapes import Facts

_BIASED = ("x", "weight", const("bias"))
_LAYER = op.Conv(*_BIASED) | op.ConvTranspose(*_BIASED)


def _no_bias(new: Builder, m: Match, _: Facts) -> Tensor:
    layer = m.nodes[1]
    made = new.like(layer, m.tensor("x"), m.tensor("weight"))
    return new.like(m.root, made, *m.root.inputs[1:])


def _no_sum(new: Builder, m: Match, facts: Facts) -> Tensor:
    rank = facts.rank(m.root.outputs[0])
    affine(m, m.nodes[1], new.version, 1, rank)
    m.require(facts.same_shape(m.tensor("x"), m.root.outputs[0]), "the sum may have another shape")
    return new.like(m.root, m.tensor("x"), *m.root.inputs[1:])


class DropShiftBeforeNorm(FormsPass):
    """Drop what is added to channels that an InstanceNormalization centers."""

    name = "drop-shift-before-norm"
    effect = Effect.ROUNDING
    forms = (
        (op.InstanceNormalization(_LAYER, "scale", "shift"), _no_bias),
        (op.InstanceNormalization(op.Add("x", const("c")), "scale", "shift"), _no_sum),
        (op.InstanceNormalization(op.Sub("x", const("c")), "scale", "shift"), _no_sum),
    )
