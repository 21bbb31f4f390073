"""Passes that know several forms of what they look for, and what they ask about a match."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from onnxslim.base import Context, Effect, Pass
from onnxslim.ir import Constant, Index, Model, Tensor
from onnxslim.pattern import Match, Op, Operand, Pattern, op
from onnxslim.rewrite import Builder, RewritePass
from onnxslim.shapes import Facts

Build = Callable[[Builder, Match, Facts], Tensor | None]
"""Returns what takes the place of the root's output; see `RewritePass.rewrite`."""


@dataclass(frozen=True)
class FormsPass(Pass):
    """Replace what fits one of several patterns; the first ones go first."""

    forms: ClassVar[Sequence[tuple[Op, Build]]]

    def apply(self, model: Model, context: Context) -> int:
        """Sweep every graph once for every form that the operators of the model allow."""
        present = context.once(model, Index).operators
        changes = 0
        for pattern, build in self.forms:
            if all(present.intersection(types) for types in _needed(pattern)):
                form = _Form(pattern, build, context.facts(model), self)
                changes += form.apply(model, context)
        return changes


@dataclass(frozen=True)
class _Form(RewritePass):
    """One pattern of several."""

    name = "form"
    effect = Effect.ROUNDING
    pattern: Op  # type: ignore[misc]
    build: Build
    facts: Facts
    whole: FormsPass

    @property
    def may_grow(self) -> bool:  # type: ignore[override]
        """Whether the pass of which this is a form may grow the file."""
        return self.whole.may_grow

    def rewrite(self, new: Builder, m: Match) -> Tensor | None:
        return self.build(new, m, self.facts)


def _needed(pattern: Pattern) -> Iterator[tuple[str, ...]]:
    """Yield, for every node that the pattern cannot do without, its operators."""
    if isinstance(pattern, Op):
        yield pattern.types
        for operand in pattern.operands:
            yield from _needed(operand)


def products(a: Operand, b: Operand, c: Operand) -> list[Op]:
    """Return the ways to multiply three factors."""
    return [op.Mul(op.Mul(x, y), z) for x, y, z in ((a, b, c), (a, c, b), (b, c, a))]


def require_shape_of(name: str, m: Match, facts: Facts) -> None:
    """Decline where a constant in the match might broadcast what was captured as *name*."""
    rank = facts.rank(m.tensor(name))
    constants = [t for node in m.nodes for t in node.inputs if isinstance(t, Constant)]
    scalars = all(t.size == 1 and len(t.shape) <= (rank or 0) for t in constants)
    if not scalars:
        same = facts.same_shape(m.tensor(name), m.root.outputs[0])
        m.require(same, "a constant may have more elements than it is applied to")


def require_float(constant: Constant, m: Match, *types: str) -> None:
    """Decline element types that onnxruntime has no kernel for."""
    found = constant.dtype.name
    m.require(found in types, f"onnxruntime has no kernel for {found}")
