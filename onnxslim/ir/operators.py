"""What operators are like: which ones may be evaluated once, merged or dropped.

Everything that treats two equal calls as one, or a call on constants as a constant, asks here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxslim.ir.graph import STANDARD_DOMAINS, Node, Opaque

_RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
    | {"Multinomial", "Bernoulli"}
)
_KNOWN_DOMAINS = frozenset({*STANDARD_DOMAINS, "ai.onnx.ml"})


def is_deterministic(node: Node) -> bool:
    """Say whether equal inputs surely give equal outputs.

    Only ONNX's own operators are known to: not random ones, not Dropout while training, not calls
    of local functions or other domains' operators, and not nodes with subgraphs, whose bodies may
    hold any of these.
    """
    if node.calls_function or (node.domain or "") not in _KNOWN_DOMAINS:
        return False
    if node.operator in _RANDOM or node.subgraphs():
        return False
    return node.operator != "Dropout" or is_inference_dropout(node)


def has_parameters(node: Node) -> bool:
    """Say whether the caller of the local function around *node* sets one of its attributes."""
    for value in node.attrs.values():
        if isinstance(value, Opaque) and value.proto.ref_attr_name:
            return True
    return False


def is_inference_dropout(node: Node) -> bool:
    """Say whether a Dropout passes its input on: surely not in training mode.

    Source: Dropout-1 to Dropout-22 of the ONNX operator specification.
    """
    version = node.graph.version if node.graph is not None else 1
    if version < 7:
        return bool(node.attr("is_test", 0))
    if version < 12:
        return True
    if node.input(2) is None:
        return True
    training = node.constant(2)
    return training is not None and not training.any()


def constant_holds(dtype: np.dtype[Any], opset: int) -> bool:
    """Say whether a Constant node may have a value of this type: before opset 9, floats only."""
    return opset >= 9 or dtype.kind == "f"
