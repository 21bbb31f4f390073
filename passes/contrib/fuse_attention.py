"""Attention with several heads.

Source: MultiHeadAttention of onnxruntime's contrib operators. Its queries are rows of all heads
side by side, (batch, length, heads * size); its keys and values are such rows too, or both of them
have an axis for the heads, (batch, heads, length, size).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxslim.base import Effect
from onnxslim.ir import Node, Tensor, producer
from onnxslim.passes.contrib._contrib import (
    DOMAIN,
    ContribPass,
    require_single,
    scalar,
    take_private,
)
from onnxslim.pattern import Match, const, either, op
from onnxslim.rewrite import Builder
from onnxslim.shapes import Facts

_PRODUCT = op.MatMul("q", "k")
_SCORES = either(op.Mul(_PRODUCT, const("times")), op.Div(_PRODUCT, const("over")), _PRODUCT)
_MASKED = either(op.Add(_SCORES, "mask"), op.Where("allowed", _SCORES, const("fill")), _SCORES)
_WEIGHTS = op.Softmax(_MASKED)
_HEADS_LAST = [0, 2, 1, 3]
_BELOW_ALL = -1e37
"""Float32 cannot tell this and less from its sum with a score, unless that is beyond 1e29."""


@dataclass
class _Heads:
    """The heads of one match, and what is known around them."""

    new: Builder
    m: Match
    facts: Facts
    factor: float = 1.0

    def build(self) -> Tensor:
        m, dims = self.m, self._dims
        require_single(m.tensor("q"), m, self.facts)
        self._require_last_axis()
        (batch, heads, length, size), keys, values = dims("q"), dims("k"), dims("v")
        fixed = isinstance(heads, int) and isinstance(size, int) and isinstance(values[3], int)
        m.require(fixed, "the number of heads and their size are not known")
        fits = keys[:3] == (batch, heads, size) and values[:3] == (batch, heads, keys[3])
        m.require(fits, "keys or values are broadcast")
        rows = self.facts.dims(m.root.outputs[0])
        m.require(
            rows == (batch, length, heads * values[3]), "the results are not rows of all heads"
        )
        query = self._query(self._unscaled(m.tensor("q")))
        key, value = self._key_and_value(values[3] == size)
        scale = self._scale()
        result = self.new.node(
            "MultiHeadAttention",
            (query, key, value, None, None, self._mask(query, keys[3])),
            {"num_heads": heads, "scale": scale},
            domain=DOMAIN,
        )
        take_private(m)
        return result

    def _dims(self, name: str) -> tuple[Any, ...]:
        dims = self.facts.dims(self.m.tensor(name))
        self.m.require(dims is not None and len(dims) == 4, f"{name} is not known to have 4 axes")
        return dims or ()

    def _require_last_axis(self) -> None:
        axis = self.m.node("Softmax").attr("axis", -1 if self.new.version >= 13 else 1)
        self.m.require(axis in (-1, 3), "the softmax is of another axis")

    # Scale

    def _unscaled(self, tensor: Tensor) -> Tensor:
        """Take a factor away from *tensor*, and remember it."""
        node = producer(tensor)
        if node is None or node.operator not in ("Mul", "Div"):
            return tensor
        for data, other in ((0, 1), (1, 0)) if node.op == "Mul" else ((0, 1),):
            number = scalar(node.inputs[other])
            if number and len(node.inputs[other].shape or ()) <= 4:
                self.factor *= number if node.op == "Mul" else 1 / number
                return node.inputs[data]  # type: ignore[no-any-return]
        return tensor

    def _scale(self) -> float:
        times, over = (self.m.tensors.get(name) for name in ("times", "over"))
        for tensor in (times, over):
            self.m.require(tensor is None or scalar(tensor), "the scores have no single factor")
        scale = self.factor * (scalar(times) or 1.0) / (scalar(over) or 1.0)
        self.m.require(math.isfinite(scale) and scale, "the scores have no finite factor")
        return scale

    # Rows

    def _rows(self, tensor: Tensor) -> Tensor | None:
        """Return the rows whose heads *tensor* has on an axis of their own."""
        node, dims = producer(tensor), self.facts.dims(tensor)
        if node is None or dims is None:
            return None
        if _is_transpose(node, _HEADS_LAST):
            return self._merged(node.inputs[0], (dims[0], dims[2], dims[1], dims[3]))
        if node.operator == "Gather" and node.attr("axis", 0) == 0:
            return self._third(node, dims)
        return None

    def _merged(self, tensor: Tensor, dims: tuple[Any, ...]) -> Tensor | None:
        """Return the rows that a Reshape made *tensor* of."""
        node = producer(tensor)
        if node is None or node.operator != "Reshape":
            return None
        rows: Tensor = node.inputs[0]
        wanted = (*dims[:2], dims[2] * dims[3])
        return rows if self.facts.dims(rows) == wanted else None

    def _third(self, node: Node, dims: tuple[Any, ...]) -> Tensor | None:
        """Return a third of the rows that hold queries, keys and values side by side."""
        index, moved = scalar(node.inputs[1]), producer(node.inputs[0])
        if index not in (0, 1, 2) or moved is None or not _is_transpose(moved, [2, 0, 3, 1, 4]):
            return None
        batch, heads, length, size = dims
        parts = producer(moved.inputs[0])
        if parts is None or parts.operator != "Reshape":
            return None
        wide = heads * size
        if self.facts.dims(parts.inputs[0]) != (batch, length, 3 * wide):
            return None
        if self.facts.dims(moved.inputs[0]) != (batch, length, 3, heads, size):
            return None
        return self._split(parts.inputs[0])[int(index)]

    def _split(self, rows: Tensor) -> list[Tensor]:
        """Cut rows into three, once for all."""
        for node in self.new.nodes:
            if node.op == "Split" and node.inputs[0] is rows:
                return list(node.outputs)
        attrs = {"axis": 2, "num_outputs": 3} if self.new.version >= 18 else {"axis": 2}
        self.new.node("Split", (rows,), attrs, outputs=3)
        return list(self.new.nodes[-1].outputs)

    def _query(self, tensor: Tensor) -> Tensor:
        rows = self._rows(tensor)
        if rows is not None:
            return rows
        heads = self.new.Transpose(tensor, perm=_HEADS_LAST)
        return self.new.Reshape(heads, np.asarray([0, 0, -1], np.int64))

    def _key_and_value(self, same_size: bool) -> tuple[Tensor, Tensor]:
        """Return keys and values as rows if both can be, else with their heads apart."""
        turned = self._unscaled(self.m.tensor("k"))
        node, values = producer(turned), self.m.tensor("v")
        if node is not None and _is_transpose(node, [0, 2, 3, 1]):
            batch, heads, size, length = self._dims("k")
            rows = self._merged(node.inputs[0], (batch, length, heads, size))
            apart = None
        elif node is not None and _is_transpose(node, [0, 1, 3, 2]):
            apart = self._unscaled(node.inputs[0])
            rows = self._rows(apart)
        else:
            rows, apart = None, self.new.Transpose(turned, perm=[0, 1, 3, 2])
        value = self._rows(values) if rows is not None else None
        if rows is not None and value is not None:
            return rows, value
        if apart is None or not same_size:
            self.m.require(False, "keys and values are laid out in two ways")
        assert apart is not None
        return apart, values

    # Mask

    def _mask(self, query: Tensor, total: object) -> Tensor | None:
        """Return what is added to the scores, a row for every query."""
        if "allowed" in self.m.tensors:
            return self._filled(query, total)
        return self._spread("mask", query, total) if "mask" in self.m.tensors else None

    def _filled(self, query: Tensor, total: object) -> Tensor:
        """Add what no score matters beside, where scores were replaced by it."""
        fill = scalar(self.m.tensor("fill"))
        endless = fill is not None and fill <= _BELOW_ALL
        self.m.require(endless, "masked scores are not replaced by the lowest number")
        allowed = self._spread("allowed", query, total)
        return self.new.Where(allowed, np.float32(0), np.float32(fill or -np.inf))

    def _spread(self, name: str, query: Tensor, total: object) -> Tensor:
        """Return a mask with a row for every query."""
        mask, (batch, heads, length, _) = self.m.tensor(name), self._dims("q")
        dims = self._dims(name)
        fits = dims[0] in (1, batch) and dims[1] in (1, heads) and dims[3] == total
        self.m.require(fits and dims[2] in (1, length), "the mask is of another shape")
        if dims[2] == length:
            return mask
        if isinstance(length, int):
            self.m.require(self.new.version >= 8, "needs opset 8")
            return self.new.Expand(mask, np.asarray([1, 1, length, 1], np.int64))
        self.m.require(self.new.version >= 15, "needs opset 15")
        count, ones = self.new.Shape(query, start=1, end=2), np.ones(2, np.int64)
        return self.new.Expand(mask, self.new.Concat(ones, count, ones[:1], axis=0))


def _is_transpose(node: Node, perm: list[int]) -> bool:
    return node.operator == "Transpose" and node.attr("perm") == perm


def _attention(new: Builder, m: Match, facts: Facts) -> Tensor:
    return _Heads(new, m, facts).build()


class FuseAttention(ContribPass):
    """Make one MultiHeadAttention (com.microsoft) of scores, softmax and weighted values."""

    name = "fuse-attention"
    effect = Effect.ROUNDING
    forms = (
        (op.Reshape(op.Transpose(op.MatMul(_WEIGHTS, "v"), perm=_HEADS_LAST), "rows"), _attention),
    )
