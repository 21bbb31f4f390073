"""Patterns of normalization by mean and variance, and what they normalize over."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from onnxslim.ir import Array, Constant, Tensor, numpy_type, producer
from onnxslim.pattern import Match, Op, Pattern, const, either, op, opt
from onnxslim.rewrite import Builder
from onnxslim.shapes import Expr, Facts


def _mean(of: Pattern | str) -> Op:
    return op.ReduceMean(of, opt(const()))


def _square(of: Pattern | str) -> Pattern:
    return either(op.Pow(of, 2), op.Mul(of, of))


def _over_deviation(value: Pattern | str, variance: Pattern) -> Pattern:
    """Divide *value* by the square root of *variance* and a little."""
    total = op.Add(variance, const("epsilon"))
    root = op.Sqrt(total)
    inverse = either(op.Reciprocal(root), op.Div(1, root), op.Pow(total, -0.5))
    return either(op.Div(value, root), op.Mul(value, inverse))


def _scaled(value: Pattern | str, variance: Pattern) -> Pattern:
    """Scale the quotient, or *value* by a scale over the deviation."""
    quotient = _over_deviation(value, variance)
    return either(
        op.Mul(either(quotient, op.Cast(quotient)), "scale"),
        op.Mul(value, _over_deviation("scale", variance)),
    )


_CENTERED = op.Sub("x", _mean("x"))
_VARIANCE = _mean(_square(_CENTERED))
_SCALE = _over_deviation("scale", _VARIANCE)
NORMALIZED = _over_deviation(_CENTERED, _VARIANCE)
SCALED = _scaled(_CENTERED, _VARIANCE)
SHIFTED = either(
    op.Add(SCALED, "shift"),
    op.Add(op.Mul("x", _SCALE), op.Sub("shift", op.Mul(_mean("x"), _SCALE))),
)
_POWER = _mean(_square("x"))
RMS_NORMALIZED = _over_deviation("x", _POWER)
RMS_SCALED = _scaled("x", _POWER)


def roots(pattern: Pattern) -> list[Op]:
    """Return the patterns of the nodes that *pattern* may end in."""
    if isinstance(pattern, Op):
        return [pattern]
    return [root for choice in getattr(pattern, "choices", ()) for root in roots(choice)]


class Norm:
    """A place where something is normalized."""

    def __init__(self, new: Builder, m: Match, facts: Facts) -> None:
        """Find out what is normalized, over which axes; declines what is not known or not plain."""
        self.new, self.m, self.facts = new, m, facts
        self.x = _source(m, facts)
        self.type = facts.elem_type(self.x)
        dims = facts.dims(self.x)
        m.require(dims is not None and self.type, "the shape or the type is not known")
        self.dims: tuple[Expr, ...] = dims or ()
        out = m.root.outputs[0]
        m.require(self.type == facts.elem_type(out), "the result has another type")
        m.require(facts.same_shape(self.x, out), "the result has another shape")
        self.axes = _reduced_axes(m, len(self.dims))

    def attributes(self, default: float = 1e-5) -> dict[str, float]:
        """Return epsilon, as an attribute, where it is not the default."""
        epsilon = self.m.constant("epsilon")
        self.m.require(epsilon.size == 1, "epsilon is not one number")
        value = np.float32(epsilon.reshape(-1)[0])
        return {} if value == np.float32(default) else {"epsilon": float(value)}

    def parameter(self, name: str, dims: tuple[Expr, ...], ones: int = 0) -> Tensor:
        """Return what was captured as *name*: a tensor of the shape *dims*.

        In the model that shape may have ones before it, and must have *ones* after it.
        """
        tensor = self.m.tensor(name)
        shape = self.facts.dims(tensor)
        self.m.require(shape is not None, f"the shape of the {name} is not known")
        wanted = (*dims, *[1] * ones)
        lead = len(shape or ()) - len(wanted)
        fits = lead >= 0 and shape == (1,) * lead + wanted
        self.m.require(fits, f"the {name} has another shape than what is normalized")
        if shape == dims:
            return tensor
        self.m.require(isinstance(tensor, Constant), f"the {name} needs a Reshape")
        return self.new.tensor(np.reshape(self.m[name], [int(str(dim)) for dim in dims]), name)

    def filled(self, dims: tuple[Expr, ...], value: float) -> Tensor:
        """Make a parameter that the model goes without."""
        shape = [dim for dim in dims if isinstance(dim, int)]
        self.m.require(len(shape) == len(dims), "the number of parameters is not known")
        return self.new.tensor(np.full(shape, value, numpy_type(self.type)), "p")


def _source(m: Match, facts: Facts) -> Tensor:
    """Return what is normalized; of a computation in float32 between two Casts, what is cast."""
    x = m.tensor("x")
    if all(node.operator != "Cast" for node in m.nodes):
        return x
    cast = producer(x)
    m.require(cast is not None and cast.operator == "Cast", "a Cast stands on one side only")
    m.require(facts.elem_type(x) == TensorProto.FLOAT, "a Cast narrows before it")
    assert cast is not None
    return cast.inputs[0]  # type: ignore[no-any-return]


def _reduced_axes(m: Match, rank: int) -> list[int]:
    """Return the axes that all means are over, counted from the last; declines differing ones."""
    found: set[tuple[int, ...]] = set()
    for node in m.nodes:
        if node.operator == "ReduceMean":
            m.require(node.attr("keepdims", 1), "a mean does not keep its dimensions")
            axes = node.constant(1) if node.attr("axes") is None else node.attr("axes")
            found.add(tuple(sorted(axis % rank - rank for axis in _listed(axes))))
    m.require(() not in found, "a mean is over all dimensions")
    m.require(len(found) == 1, "the means are over different axes")
    return list(found.pop())


def _listed(axes: Array | list[int] | None) -> list[int]:
    return [] if axes is None else [int(axis) for axis in axes]
