"""Chains of sums and products with constants, such as (x / 255 - mean) / deviation.

All of a chain is x * scale + shift. Its constants are computed in float64 and rounded once.

Source: Add-7, Sub-7, Mul-7 and Div-7 of the ONNX operator specification and their successors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
from onnx import TensorProto

from onnxslim.base import Effect
from onnxslim.errors import Declined
from onnxslim.ir import Array, Node, Tensor, numpy_type
from onnxslim.passes.simplify._numbers import number
from onnxslim.passes.simplify._trial import Trial, TrialPass, TrialRule

_OPERATORS = ("Add", "Div", "Mul", "Sub")
_LEAST, _MOST = 3, 16
"""How many nodes become two."""


class _Affine(NamedTuple):
    """x * scale + shift, in float64."""

    x: Tensor
    scale: Array
    shift: Array


def _operand(node: Node) -> Tensor | None:
    """Return what *node* combines with a constant; a quotient's divisor must be the constant."""
    a, b = node.inputs
    if number(b) is not None and number(a) is None:
        return a  # type: ignore[no-any-return]
    return b if number(a) is not None and number(b) is None and node.operator != "Div" else None


def _after(node: Node, before: _Affine) -> _Affine:
    """Apply *node* to what is known of its operand."""
    left, right = (number(operand) for operand in node.inputs)
    c = np.asarray(right if left is None else left, np.float64)
    scale, shift = before.scale, before.shift
    match node.operator:
        case "Mul":
            return _Affine(before.x, scale * c, shift * c)
        case "Div":
            return _Affine(before.x, scale / c, shift / c)
        case "Add":
            return _Affine(before.x, scale, shift + c)
    if left is None:
        return _Affine(before.x, scale, shift - c)
    return _Affine(before.x, -scale, c - shift)


def _merge(trial: Trial) -> Tensor | None:
    """Multiply and add once."""
    kind = trial.facts.elem_type(trial.out)
    if trial.opset < 7 or kind not in (TensorProto.FLOAT, TensorProto.DOUBLE) or _goes_on(trial):
        return None
    chain, x = [trial.node], _operand(trial.node)
    while x is not None and len(chain) < _MOST and trial.private(x):
        above = trial.above(x, *_OPERATORS)
        further = None if above is None else _operand(above)
        if above is None or further is None:
            break
        chain.append(above)
        x = further
    if x is None or len(chain) < _LEAST:
        return None
    whole = _Affine(x, np.ones(()), np.zeros(()))
    with np.errstate(all="ignore"):
        for node in reversed(chain):
            whole = _after(node, whole)
    dtype = numpy_type(kind)
    product = trial.new.Mul(x, _rounded(whole.scale, dtype))
    return trial.new.Add(product, _rounded(whole.shift, dtype))


def _goes_on(trial: Trial) -> bool:
    """Say whether the chain has another node."""
    if not trial.private(trial.out):
        return False
    (reader,) = trial.out.outputs
    return reader.operator in _OPERATORS and _operand(reader) is trial.out


def _rounded(wide: Array, dtype: np.dtype[Any]) -> Array:
    with np.errstate(all="ignore"):
        made = wide.astype(dtype)
    tiny = np.finfo(dtype).tiny
    if not np.isfinite(made).all() or ((np.abs(made) < tiny) & (wide != 0)).any():
        raise Declined(f"the constants make one that {dtype} cannot hold")
    return made


class MergeAffine(TrialPass):
    """Merge three or more sums and products with constants into one product and one sum."""

    name = "merge-affine"
    effect = Effect.ROUNDING
    rules: ClassVar[Mapping[str, TrialRule]] = dict.fromkeys(_OPERATORS, _merge)
