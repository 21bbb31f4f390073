"""Optionals that surely hold something, or nothing.

Source: Optional-15, OptionalHasElement-18 and OptionalGetElement-18 of the ONNX operator
specification, and their predecessors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from onnxslim import ir
from onnxslim.base import Effect
from onnxslim.ir import Tensor
from onnxslim.rewrite import BypassPass, Rule, Site


def _holds(site: Site) -> Tensor | None:
    """Say yes of tensors and of optionals made of something, no of others."""
    x = site.node.input(0)
    source = None if x is None else ir.producer(x)
    if source is not None and source.operator == "Optional":
        x = source.input(0)
    elif x is not None and not site.facts.elem_type(x):
        return None
    return ir.constant(site.node.outputs[0].name, np.asarray(x is not None))


def _element(site: Site) -> Tensor | None:
    """Return what the optional was made of, or the tensor that is no optional at all."""
    x = site.node.inputs[0]
    source = ir.producer(x)
    if source is not None and source.operator == "Optional":
        return source.input(0)
    return x if site.facts.elem_type(x) else None


class UnpackOptionals(BypassPass):
    """Read the tensor in an optional directly, and decide whether there is one."""

    name = "unpack-optionals"
    effect = Effect.EXACT
    rules: ClassVar[Mapping[str, Rule]] = {
        "OptionalGetElement": _element,
        "OptionalHasElement": _holds,
    }
