"""What passes that make operators of com.microsoft have in common."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from onnxslim.base import Context
from onnxslim.ir import Constant, Model, Tensor, producer
from onnxslim.pattern import Match
from onnxslim.rewrite import FormsPass
from onnxslim.shapes import Facts, infer

DOMAIN = "com.microsoft"


class ContribPass(FormsPass):
    """Replace what fits one of several patterns by operators of com.microsoft."""

    def facts(self, model: Model, context: Context) -> Facts:
        """Take dimensions of one name to be equal, as ONNX says.

        The operators made here do not broadcast.
        """
        return infer(model, trust_names=True)

    def apply(self, model: Model, context: Context) -> int:
        """Sweep every graph, unless a local function may have the name of an operator made here."""
        if any(function.key[0] == DOMAIN for function in model.functions):
            return 0
        changes = super().apply(model, context)
        if changes:
            model.import_domain(DOMAIN, 1)
        return changes


def take_private(m: Match) -> None:
    """Add to the match what is not needed without it."""
    for node in m.nodes:
        sources = [producer(tensor) for tensor in node.inputs]
        m.take(source for source in sources if source is not None and m.owns(source))


def require_single(tensor: Tensor, m: Match, facts: Facts) -> None:
    """Decline other types than float32, for which onnxruntime has no kernels on the CPU."""
    m.require(facts.elem_type(tensor) == TensorProto.FLOAT, "it is not known to be float32")


def scalar(tensor: Any) -> float | None:
    """Return the only number of a constant."""
    if not isinstance(tensor, Constant) or tensor.size != 1:
        return None
    return float(np.asarray(tensor.values).reshape(-1)[0])
