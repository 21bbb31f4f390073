"""The scale and the shift of a normalization over the last dimension, and the products after it.

Source: LayerNormalization-17, RMSNormalization-23, MatMul and Gemm of the ONNX operator
specification: rows of a matrix take over the scale of what they are multiplied with. The scale of
the normalization has to stay; as ones, it can be shared by all normalizations of a model.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onnxslim import ir
from onnxslim.base import Context, Effect, Pass
from onnxslim.errors import Declined
from onnxslim.ir import Array, Constant, Model, Node
from onnxslim.passes.fuse._batchnorm import as_type_of
from onnxslim.shapes import Facts

_NORMS = ("LayerNormalization", "RMSNormalization")


class FuseNormMatmul(Pass):
    """Move the scale and shift of a LayerNormalization into the products that read it."""

    name = "fuse-norm-matmul"
    effect = Effect.ROUNDING

    def apply(self, model: Model, context: Context) -> int:
        """Sweep every node once."""
        norms = [node for node in model.nodes() if node.operator in _NORMS]
        pinned, changes = model.pinned(), 0
        for norm in norms:
            try:
                changes += _Move(norm, context.facts(model), pinned).run()
            except Declined as verdict:
                context.decline(norm, str(verdict))
        return changes


class _Move:
    """What is to change around one normalization."""

    def __init__(self, norm: Node, facts: Facts, pinned: frozenset[int]) -> None:
        self.norm, self.facts, self.pinned = norm, facts, pinned
        self.new: dict[Constant, Array] = {}

    def run(self) -> bool:
        """Plan all changes, then make them."""
        scale, shift = self.norm.constant(1), self.norm.constant(2)
        shifts = self.norm.input(2) is not None
        if scale is None or (shift is None and shifts) or ((scale == 1).all() and not shifts):
            return False
        self._require_plain(scale, shift)
        for reader in self.norm.outputs[0].outputs:
            self._into(reader, scale.astype(np.float64), shift)
        if (scale != 1).any():
            self._set(self.norm, 1, lambda old: np.ones(old.shape))
        for constant, values in self.new.items():
            constant.values = values
        if shifts:
            dropped = self.norm.inputs[2]
            ir.set_inputs(self.norm, self.norm.inputs[:2])
            ir.release([dropped], self.pinned)
        return True

    def _require_plain(self, scale: Array, shift: Array | None) -> None:
        out = self.norm.outputs[0]
        _require(not ir.has_parameters(self.norm), "an attribute is set by the caller")
        axis, rank = self.norm.attr("axis", -1), self.facts.rank(out)
        last = axis == -1 or (rank is not None and axis == rank - 1)
        _require(last and scale.ndim == 1, "it is not over the last dimension alone")
        _require(shift is None or shift.shape == scale.shape, "scale and shift differ in shape")
        _require(out.outputs and id(out) not in self.pinned, "the result is a graph output")

    def _into(self, reader: Node, scale: Array, shift: Array | None) -> None:
        """Scale the rows of the matrix of a product, and add what the shift gives."""
        plain = reader.operator == "MatMul" or not reader.attr("transA", 0)
        product = reader.operator in ("MatMul", "Gemm") and reader.graph is self.norm.graph
        _require(
            product and plain and not ir.has_parameters(reader), "others than products read it"
        )
        others = list(reader.inputs)[1:]
        alone = all(tensor is not self.norm.outputs[0] for tensor in others)
        _require(alone, "it is not on the left of a product")
        weight = reader.constant(1)
        _require(weight is not None and weight.ndim == 2, "a factor is no constant matrix")
        assert weight is not None
        rows = -1 if reader.attr("transB", 0) else 0
        wide = np.moveaxis(weight.astype(np.float64), rows, 0)
        if (scale != 1).any():
            self._set(reader, 1, lambda _: np.moveaxis(wide * scale[:, None], 0, rows))
        if shift is not None and shift.any():
            moved = shift.astype(np.float64) @ wide * reader.attr("alpha", 1.0)
            self._add(reader, moved)

    def _add(self, product: Node, moved: Array) -> None:
        """Add numbers to what is added to a product already."""
        node, slot, factor = product, 2, product.attr("beta", 1.0)
        if product.operator == "MatMul":
            readers = product.outputs[0].outputs
            alone = len(readers) == 1 and id(product.outputs[0]) not in self.pinned
            _require(alone and readers[0].operator == "Add", "nothing is added to a product")
            node, factor = readers[0], 1.0
            slot = 1 if node.inputs[0] is product.outputs[0] else 0
        old = node.constant(slot)
        _require(old is not None and factor, "nothing is added to a product")
        assert old is not None
        _require(old.shape[-1:] == moved.shape, "what is added is no vector")
        self._set(node, slot, lambda values: values.astype(np.float64) + moved / factor)

    def _set(self, node: Node, slot: int, change: Callable[[Array], Array]) -> None:
        """Plan new values for a constant, in the type and under the name it has."""
        constant = node.inputs[slot]
        alone = len(constant.outputs) == 1 and id(constant) not in self.pinned
        _require(alone and isinstance(constant, Constant), "others use the constants too")
        _require(constant.dtype.kind == "f", f"{constant.dtype} is no floating-point type")
        self.new[constant] = as_type_of(change(constant.values), constant.values)


def _require(condition: object, reason: str) -> None:
    if not condition:
        raise Declined(reason)
