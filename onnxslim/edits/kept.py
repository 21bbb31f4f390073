"""What stays in single precision when a model is converted to halves, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import numpy as np

from onnxslim.edits.types import LIKE, RANDOM, WINDOWS, is_standard
from onnxslim.ir import Array, Constant, Graph, Node, Tensor

_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
_ALWAYS = RANDOM | LIKE | WINDOWS | _RECURRENT | {
    "QuantizeLinear", "DequantizeLinear", "QLinearMatMul",  # scales lose their precision
    "BitCast", "DFT", "MeanVarianceNormalization", "Multinomial", "STFT",
}  # fmt: skip
"""Standard operators that halves do not suit, or that onnxruntime has no kernels for."""
_SCATTERS = frozenset({"ScatterElements", "ScatterND"})
_ELEMENTWISE = frozenset({
    "Abs", "Add", "Cast", "Ceil", "Concat", "Cos", "Div", "Exp", "Expand", "Floor", "Gather",
    "Identity", "Log", "Max", "Min", "Mod", "Mul", "Neg", "Pow", "Range", "Reciprocal",
    "Reshape", "Round", "Sin", "Slice", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze",
    "Where",
})  # fmt: skip
"""Operators that compute with positions, sizes and masks, where these take part as floats."""
_SOFTMAX = frozenset({"Softmax", "LogSoftmax"})


class Question(Protocol):
    """What a rule may ask about a conversion."""

    def is_old(self, tensor: Tensor) -> bool:
        """Say whether *tensor* holds the floats that shall change."""

    def converts(self, node: Node, slot: int) -> bool:
        """Say whether an input of *node* may have the new type."""

    def is_cast(self, tensor: Tensor) -> bool:
        """Say whether *tensor* is computed in the old type and cast to the new one."""


def is_stored_half(node: Node) -> bool:
    """Say whether *node* reads weights that are halves in the file, cast where it reads them."""
    return is_standard(node) and node.op in _RECURRENT


def is_always_single(node: Node) -> bool:
    """Say whether *node*, an operator of ONNX, shall not compute in halves in any model."""
    if node.op in _SCATTERS:  # onnxruntime 1.32 has no kernels that reduce halves
        return bool(node.attr("reduction", "none") != "none")
    return node.op in _ALWAYS


def note_kept(graph: Graph, conversion: Question, kept: dict[Node, str]) -> None:
    """Add to *kept* the nodes of *graph*, which is sorted, that stay single; with the reason."""
    for reason, rule in _RULES.items():
        for node in rule(graph, conversion):
            kept.setdefault(node, reason)


def _computed(node: Node, conversion: Question) -> list[Tensor]:
    return [t for t in node.inputs if conversion.is_old(t) and not isinstance(t, Constant)]


def _quantized(graph: Graph, conversion: Question) -> Iterator[Node]:
    """Find what lies between DequantizeLinear and QuantizeLinear: it runs in integers."""
    inside, candidates, kept = set[Tensor](), list[Node](), set[Node]()
    for node in graph.nodes:
        if node.operator == "DequantizeLinear":
            inside.update(node.outputs)
            continue
        floats = _computed(node, conversion)
        quantizes = node.operator == "QuantizeLinear" or node.subgraphs()
        if floats and inside.issuperset(floats) and not quantizes:
            candidates.append(node)
            inside.update(node.outputs)
    for node in reversed(candidates):
        readers = [reader for tensor in node.outputs for reader in tensor.outputs]
        if readers and all(r.operator == "QuantizeLinear" or r in kept for r in readers):
            kept.add(node)
            yield node


def _positions(graph: Graph, conversion: Question) -> Iterator[Node]:
    """Find what is computed from integers alone: positions and sizes need their precision."""
    inside, starts, kept = set[Tensor](), list[Node](), set[Node]()
    for node in graph.nodes:
        if node.operator not in _ELEMENTWISE:
            continue
        computed = _computed(node, conversion)
        if computed and inside.issuperset(computed):
            kept.add(node)
            inside.update(node.outputs)
        elif node.op == "Cast" and not computed and any(map(conversion.is_old, node.outputs)):
            starts.append(node)
            inside.update(node.outputs)
    yield from kept
    for node in starts:
        slots = [(r, r.inputs.index(node.outputs[0])) for r in node.outputs[0].outputs]
        if any(reader in kept or not conversion.converts(reader, slot) for reader, slot in slots):
            yield node


def _out_of_range(graph: Graph, conversion: Question) -> Iterator[Node]:
    """Find what reads constants that halves cannot hold, and what computes on with the result.

    That ends where the result meets another one, or in the softmax behind: a mask that becomes
    infinite where it meets its scores would make rows of NaN there.
    """
    carried, met, fits = set[Tensor](), set[Tensor](), _Range(conversion)
    for node in graph.nodes:
        if fits.excludes(node):
            carried.update(node.outputs)
        elif node.operator in _ELEMENTWISE and not carried.isdisjoint(node.inputs):
            alone = carried.issuperset(_computed(node, conversion))
            (carried if alone else met).update(node.outputs)
        elif node.operator not in _SOFTMAX or (carried | met).isdisjoint(node.inputs):
            continue
        yield node


def _squares(graph: Graph, conversion: Question) -> Iterator[Node]:
    """Find the squares of a layer normalization that starts with a Cast.

    Onnxruntime 1.32 drops the Cast when it fuses the whole, and then refuses the types it made.
    """
    for node in graph.nodes:
        if node.operator == "ReduceMean" and conversion.is_cast(node.inputs[0]):
            for shifted in node.inputs[0].outputs:
                if shifted.operator == "Sub":
                    readers = shifted.outputs[0].outputs
                    yield from (r for r in readers if r.operator in ("Pow", "Mul"))


def _batch_transposes(graph: Graph, conversion: Question) -> Iterator[Node]:
    """Find transposed batches that a MatMul multiplies by a matrix.

    Onnxruntime 1.32 crashes on them: its fusion of the two reads past the shape of the matrix once
    there are Casts around.
    """
    for node in graph.nodes:
        perm = node.attr("perm") if node.operator == "Transpose" else None
        if isinstance(perm, list) and perm and perm[0] != 0 and conversion.is_old(node.outputs[0]):
            readers = [r for r in node.outputs[0].outputs if r.operator == "MatMul"]
            others = [t for r in readers for t in r.inputs if isinstance(t, Constant)]
            if any(len(t.shape) < len(perm) for t in others):
                yield node


_RULES: dict[str, Callable[[Graph, Question], Iterable[Node]]] = {
    "constants out of range": _out_of_range,
    "between quantizers": _quantized,
    "positions and sizes": _positions,
    "fusions of onnxruntime fail on halves": _squares,
    "onnxruntime crashes on halves": _batch_transposes,
}


# Range of halves ----------------------------------------------------------------------------------


class _Range:
    """Which nodes read constants that halves cannot hold."""

    def __init__(self, conversion: Question) -> None:
        self.conversion = conversion
        self.known: dict[Constant, bool] = {}

    def excludes(self, node: Node) -> bool:
        if node.calls_function or node.subgraphs():
            return False
        value = node.attr("value") if node.operator == "ConstantOfShape" else None
        if value is not None and not fits_half(np.asarray(getattr(value, "values", value))):
            return True
        return not all(self._holds(t) for t in node.inputs if isinstance(t, Constant))

    def _holds(self, constant: Constant) -> bool:
        if not self.conversion.is_old(constant):
            return True
        if constant not in self.known:
            self.known[constant] = fits_half(constant.values)
        return self.known[constant]


def fits_half(values: Array) -> bool:
    """Say whether halves hold *values*: none overflows, and a single number does not vanish."""
    if values.dtype != np.float32 or not values.size:
        return True
    limit = np.float32(65520)  # the first that rounds to infinity
    if values.size == 1:
        size = np.abs(values.reshape(-1)[0])
        return not np.isfinite(size) or size == 0 or bool(2.0**-25 < size < limit)
    for part in np.array_split(values.reshape(-1), max(1, values.size >> 22)):
        sizes = np.abs(part)
        if (sizes[np.isfinite(sizes)] >= limit).any():
            return False
    return True
