"""What passes that make operators of com.microsoft have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from onnx import TensorProto

from onnxslim.base import Context, Effect, Pass
from onnxslim.ir import Constant, Model, Node, Tensor, producer
from onnxslim.pattern import Match, Op, Pattern
from onnxslim.rewrite import Builder, RewritePass
from onnxslim.shapes import Facts, infer

DOMAIN = "com.microsoft"
Build = Callable[[Builder, Match, Facts], Tensor | None]
"""Returns what takes the place of the root's output; see `RewritePass.rewrite`."""


@dataclass(frozen=True)
class ContribPass(Pass):
    """Replace what fits one of several patterns by operators of com.microsoft."""

    forms: ClassVar[Sequence[tuple[Op, Build]]]

    def apply(self, model: Model, context: Context) -> int:
        """Sweep every graph once for every form."""
        facts = known(model, *(set(types) for form, _ in self.forms for types in _needed(form)))
        if facts is None:
            return 0
        changes = 0
        for pattern, build in self.forms:
            changes += _Form(pattern, build, facts, model.pinned()).apply(model, context)
        if changes:
            model.import_domain(DOMAIN, 1)
        return changes


@dataclass(frozen=True)
class _Form(RewritePass):
    """One pattern of several."""

    name = "form"
    effect = Effect.ROUNDING
    pattern: Op  # type: ignore[misc]
    build: Build
    facts: Facts
    pinned: frozenset[int]

    def rewrite(self, new: Builder, m: Match) -> Tensor | None:
        result = self.build(new, m, self.facts)
        if result is not None:
            self._absorb(m)
        return result

    def _absorb(self, m: Match) -> None:
        """Add to the match what is not needed without it."""
        for node in m.nodes:
            for tensor in node.inputs:
                source = producer(tensor)
                if source is not None and source not in m.nodes and self._is_private(source, m):
                    m.nodes.append(source)

    def _is_private(self, node: Node, m: Match) -> bool:
        return node.graph is m.root.graph and all(
            id(tensor) not in self.pinned and all(reader in m.nodes for reader in tensor.outputs)
            for tensor in node.outputs
        )


def _needed(pattern: Pattern) -> Iterator[tuple[str, ...]]:
    """Yield, for every node that the pattern cannot do without, its operators."""
    if isinstance(pattern, Op):
        yield pattern.types
        for operand in pattern.operands:
            yield from _needed(operand)


def known(model: Model, *needed: set[str]) -> Facts | None:
    """Return what is known of *model*; None where it lacks all of some operators that are *needed*.

    Dimensions of one name are taken to be equal, as ONNX says: the operators made here do not
    broadcast. None too if a local function may have the name of one of them.
    """
    present = {node.operator for node in model.nodes()}
    if any(present.isdisjoint(types) for types in needed):
        return None
    if any(function.key[0] == DOMAIN for function in model.functions):
        return None
    return infer(model, trust_names=True)


def require_single(tensor: Tensor, m: Match, facts: Facts) -> None:
    """Decline other types than float32, for which onnxruntime has no kernels on the CPU."""
    m.require(facts.elem_type(tensor) == TensorProto.FLOAT, "it is not known to be float32")


def scalar(tensor: Any) -> float | None:
    """Return the only number of a constant."""
    if not isinstance(tensor, Constant) or tensor.size != 1:
        return None
    return float(np.asarray(tensor.values).reshape(-1)[0])
