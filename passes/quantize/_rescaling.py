"""Move scale between those who make a tensor and the layers that read it, channel by channel.

What stands between must not mind: Relu, LeakyRelu, pooling. Scales are powers of two, so that the
model stays the same bit by bit; only what 8 bits make of it is another.

Sources: Nagel et al. 2019, Data-free quantization through weight equalization and bias correction;
Xiao et al. 2023, SmoothQuant.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from onnxslim import ir
from onnxslim.ir import Array, Constant, Model, Node, Tensor
from onnxslim.passes.quantize._layers import channel_axis, to_rows

_SWEEPS = 20
"""After so many, equal channels have spread over chains of layers."""
_INDIFFERENT = ("Relu", "LeakyRelu")
_POOLS = ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")
_NORMS = {"LayerNormalization": -1, "InstanceNormalization": 1}
"""Operators that end in a scale and a bias, with the axis that these count."""
_LARGEST = 20
"""Exponent of the largest factor."""


@dataclass(frozen=True)
class Seam:
    """A tensor whose channels can be scaled by constants before it and behind it."""

    tensor: Tensor
    axis: int
    """The channels: 1 where convolutions read it, -1 where products do."""
    readers: tuple[Node, ...]
    divided: list[tuple[Node, int, tuple[int, ...]]] = field(default_factory=list)
    """Slots of the constants that make it, with the shape that scales of channels have there."""

    @property
    def vector(self) -> tuple[int, ...]:
        """The shape of scales beside the tensor."""
        return (-1,) if self.axis == -1 else (-1, *[1] * (len(self.readers[0].inputs[1].shape) - 2))


class Rescaling:
    """Scaled constants in the place of those of a model, until that is undone."""

    def __init__(self, model: Model, layers: Collection[Node]) -> None:
        self.model, self.pinned, self.layers = model, model.pinned(), set(layers)
        self.before: dict[tuple[Node, int], Constant] = {}
        self.after: dict[tuple[Node, int], Constant] = {}
        inputs = dict.fromkeys(node.inputs[0] for node in layers)
        self.seams = [seam for t in inputs for seam in [self.seam(t)] if seam is not None]

    def undo(self) -> None:
        """Put back what was there before."""
        for (node, slot), constant in self.before.items():
            ir.set_input(node, slot, constant)

    def redo(self) -> None:
        """Take back what `undo` did."""
        for (node, slot), constant in self.after.items():
            ir.set_input(node, slot, constant)

    def finish(self) -> None:
        """Let go of what was there before."""
        ir.release(self.before.values(), self.pinned)

    def equalize(self) -> None:
        """Give weights equal ranges on both sides of each channel."""
        seams = [seam for seam in self.seams if any(map(_is_weight, seam.divided))]
        for _ in range(_SWEEPS):
            scaled = [self.scale(seam, _made(seam) ** 0.5, _read(seam) ** 0.5) for seam in seams]
            if not any(scaled):
                return

    def smooth(self, largest: Mapping[str, Array], share: float) -> None:
        """Let weights take a *share* of what makes the *largest* inputs of channels differ."""
        for seam in self.seams:
            if seam.axis == -1:
                self.scale(seam, largest[seam.tensor.name] ** share, _read(seam) ** (1 - share))

    # Finding

    def seam(self, tensor: Tensor) -> Seam | None:
        """Return how *tensor* can be scaled, None where it cannot."""
        readers = tuple(dict.fromkeys(tensor.outputs))
        axes = {1 if node.operator == "Conv" else -1 for node in readers}
        fit = all(n in self.layers and list(n.inputs).count(tensor) == 1 for n in readers)
        if len(axes) != 1 or not fit or id(tensor) in self.pinned:
            return None
        seam = Seam(tensor, axes.pop(), readers)
        if not all(_is_own(n.inputs[1]) for n in readers) or not self.trace(tensor, seam):
            return None
        return seam

    def trace(self, tensor: Tensor, seam: Seam) -> bool:
        """Find all that must be divided to divide *tensor*; say whether it can be."""
        node = ir.producer(tensor)
        if node is None or node.graph is not self.model.graph or len(node.outputs) != 1:
            return False
        if tensor is not seam.tensor and (len(tensor.outputs) > 1 or id(tensor) in self.pinned):
            return False
        if node.operator in _INDIFFERENT or (node.operator in _POOLS and seam.axis == 1):
            return self.trace(node.inputs[0], seam)
        if node.operator in ("Add", "Mul"):
            return self.trace_affine(node, seam)
        return self.trace_layer(node, seam)

    def trace_affine(self, node: Node, seam: Seam) -> bool:
        slot = 0 if isinstance(node.inputs[0], Constant) else 1
        operand, other = node.inputs[slot], node.inputs[1 - slot]
        rank = len(seam.vector) + 1  # at least: products may read more dimensions
        if not _is_own(operand) or isinstance(other, Constant) or len(operand.shape) > rank:
            return False
        seam.divided.append((node, slot, seam.vector))
        return node.operator == "Mul" or self.trace(other, seam)

    def trace_layer(self, node: Node, seam: Seam) -> bool:
        slots = range(1, len(node.inputs))
        if node.operator == "Conv" or node.operator in _NORMS:
            axis = _NORMS.get(node.operator, 1)
            rank = 1 if node.operator in _NORMS else len(node.inputs[1].shape)
            shapes = [(-1, *[1] * (rank - 1)), (-1,)]
        elif node.operator in ("Gemm", "MatMul"):
            axis = -1
            shapes = [(-1, 1) if channel_axis(node) == 0 else (-1,), (-1,)]
        else:
            return False
        if axis != seam.axis or not all(_is_own(node.inputs[slot]) for slot in slots):
            return False
        if node.operator == "LayerNormalization" and len(node.inputs[1].shape) != 1:
            return False
        seam.divided.extend((node, slot, shapes[slot - 1]) for slot in slots)
        return True

    # Scaling

    def scale(self, seam: Seam, over: Array, under: Array) -> bool:
        """Divide channels by *over* / *under*, multiply weights; say whether anything changed."""
        with np.errstate(divide="ignore", invalid="ignore"):
            powers = np.rint(np.log2(over / under))
        powers = np.where(np.isfinite(powers), np.clip(powers, -_LARGEST, _LARGEST), 0)
        if not powers.any():
            return False
        scales = np.exp2(powers).astype(np.float32)
        for node, slot, shape in seam.divided:
            self.put(node, slot, _values(node.inputs[slot]) / scales.reshape(shape))
        for node in seam.readers:
            weight = _values(node.inputs[1])
            self.put(node, 1, weight * _along_inputs(node, scales))
        return True

    def put(self, node: Node, slot: int, values: Array) -> None:
        before = node.inputs[slot]
        assert isinstance(before, Constant)
        self.before.setdefault((node, slot), before)
        made = ir.constant(self.model.names.fresh(before.name), values.astype(np.float32))
        self.after[node, slot] = made
        ir.set_input(node, slot, made)


def _is_own(tensor: Tensor) -> bool:
    return isinstance(tensor, Constant) and len(tensor.outputs) == 1 and tensor.size > 0


def _is_weight(divided: tuple[Node, int, tuple[int, ...]]) -> bool:
    node, slot, _ = divided
    return slot == 1 and node.operator in ("Conv", "Gemm", "MatMul")


def _values(tensor: Tensor) -> Array:
    assert isinstance(tensor, Constant)
    return tensor.values


def _along_inputs(node: Node, scales: Array) -> Array:
    """Return scales of the inputs of a layer in a shape that multiplies its weights."""
    shape = node.inputs[1].shape
    if node.operator != "Conv":
        return scales if channel_axis(node) == 0 else scales[:, None]
    groups = int(node.attr("group", 1))
    by_output = np.repeat(scales.reshape(groups, -1), shape[0] // groups, axis=0)
    return by_output.reshape(shape[0], shape[1], *[1] * (len(shape) - 2))


def _made(seam: Seam) -> Array:
    """Return the largest weight that makes each channel."""
    (largest,) = (
        np.abs(to_rows(node, _values(node.inputs[slot]))).max(-1).reshape(-1)
        for node, slot, _ in filter(_is_weight, seam.divided)
    )
    return np.asarray(largest, np.float64)


def _read(seam: Seam) -> Array:
    """Return the largest weight that reads each channel."""
    found = [_largest_by_input(node) for node in seam.readers]
    return np.asarray(np.max(found, axis=0), np.float64)


def _largest_by_input(node: Node) -> Array:
    weight = np.abs(_values(node.inputs[1]))
    if node.operator != "Conv":
        return np.asarray(weight.max(channel_axis(node)))
    groups = int(node.attr("group", 1))
    grouped = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    return np.asarray(grouped.max((1, 3)).reshape(-1))
