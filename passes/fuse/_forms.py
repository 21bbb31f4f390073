"""What passes that know several forms of what they look for ask about a match."""

from __future__ import annotations

from onnxslim.ir import Constant
from onnxslim.pattern import Match, Op, Operand, op
from onnxslim.shapes import Facts


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
