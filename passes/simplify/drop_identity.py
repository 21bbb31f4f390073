"""Operators that hand their input on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from onnxslim import ir
from onnxslim.base import Effect
from onnxslim.ir import Tensor
from onnxslim.rewrite import BypassPass, Rule, Site


def _identity(site: Site) -> Tensor | None:
    return site.node.input(0)


def _dropout(site: Site) -> Tensor | None:
    return site.node.input(0) if ir.is_inference_dropout(site.node) else None


class DropIdentity(BypassPass):
    """Drop Identity, and Dropout outside training."""

    name = "drop-identity"
    effect = Effect.EXACT
    rules: ClassVar[Mapping[str, Rule]] = {"Identity": _identity, "Dropout": _dropout}
