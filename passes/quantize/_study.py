"""What calibration data say about the layers and tensors of a model that shall be quantized.

Everything is kept by name, to serve for copies of the model too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal, Protocol

import numpy as np
from onnx import TensorProto

from onnxslim import ir
from onnxslim.base import Context
from onnxslim.ir import Array, Model, Node, Tensor
from onnxslim.observe import Observation, observe, samples, second_moments
from onnxslim.passes.quantize import _layers as layers
from onnxslim.passes.quantize._calibrate import Calibrator, Grid, bounds
from onnxslim.passes.quantize._placement import Placement, ceiling, place
from onnxslim.passes.quantize._qdq import Layer, bias_of, takes_bias, write
from onnxslim.passes.quantize._qoperator import to_operators

_ROWS = 256
"""How many rows of what a layer reads are looked at."""
_GRAM_ROWS = 1 << 14
"""How many go into a Gram matrix, about."""
_LARGEST = 4096
"""Weights of one output beyond which rounding to second order takes too long."""


class Settings(Protocol):
    """How to quantize: options of the pass."""

    @property
    def calibrator(self) -> Calibrator: ...

    @property
    def per_channel(self) -> bool: ...

    @property
    def bias_correction(self) -> bool: ...

    @property
    def rounding(self) -> Literal["nearest", "gptq"]: ...

    @property
    def format(self) -> Literal["qdq", "qoperator"]: ...


class Study:
    """Ranges of tensors and integers of layers."""

    def __init__(
        self, settings: Settings, model: Model, context: Context, found: Collection[Node]
    ) -> None:
        self.settings, self.model = settings, model
        self.floats = _floats(model, context)
        placement = place(model.graph, found, self.floats, model.pinned())
        data, progress = context.calibration(), context.progress
        tensors = {t.name: t for t in placement.tensors}
        tensors.update({t.name: t for t in map(placement.origin, placement.tensors)})
        names = dict.fromkeys(tensors)
        seen = observe(model, data, names, settings.calibrator != "minmax", progress)
        facts = context.facts(model)
        self.ranks = {node: len(facts.shape(node.inputs[0]) or ()) for node in found}
        self.rows = samples(model, data, list(found), _ROWS, progress)
        self.grams: Mapping[Node, Array] = {}
        if settings.rounding == "gptq":
            few = [node for node in found if self.rows[node].shape[-1] <= _LARGEST]
            each = max(1, _GRAM_ROWS // (data.count or _GRAM_ROWS))
            self.grams = second_moments(model, data, few, progress, each)
        self.ranges = {name: self.range(t, seen[name]) for name, t in tensors.items()}
        grids = self.grids(placement)
        self.layers = {
            key(node): self.layer(node, grids[node.inputs[0]], model.opset) for node in found
        }

    def range(self, tensor: Tensor, seen: Observation) -> tuple[float, float]:
        """Return what the numbers of *tensor* shall cover."""
        low, high = bounds(seen, self.settings.calibrator)
        source = ir.producer(tensor)
        top = ceiling(source) if source is not None else None
        return (low, high) if top is None else (0.0, min(high, top))

    def grids(self, placement: Placement) -> dict[Tensor, Grid]:
        """Return the numbers that each quantized tensor may take."""
        return {
            tensor: Grid.over(*self.ranges[placement.origin(tensor).name])
            for tensor in placement.tensors
        }

    def layer(self, node: Node, grid: Grid, opset: int) -> Layer:
        """Round the weights of a layer in the way that moves its outputs least."""
        corrected = self.settings.bias_correction and takes_bias(node)
        trial = layers.Trial.of(node, _weights(node), self.rows[node], grid, corrected)
        per_channel = self.settings.per_channel and opset >= 13
        if per_channel and node.operator != "Conv" and self.ranks.get(node) == 2:
            made = trial.simplest()  # vectors times matrices are a tenth faster with one scale
        else:
            made = trial.nearest(per_channel)
        if node in self.grams:
            made = trial.second_order(made, self.grams[node])
        return Layer(made, _bias(node, -np.ravel(trial.shift(made)) if corrected else None))

    def quantize(self, model: Model, chosen: Collection[str]) -> int:
        """Quantize the *chosen* layers of *model*."""
        found = {n: self.layers[key(n)] for n in model.graph.nodes if key(n) in chosen}
        placement = place(model.graph, found, self.floats, model.pinned())
        changed = write(model, placement, self.grids(placement), found)
        if self.settings.format == "qoperator":
            to_operators(model, placement)
        return changed

    def trial(self, chosen: Collection[str]) -> Model:
        """Return a copy whose *chosen* layers are quantized."""
        made = self.model.copy()
        self.quantize(made, chosen)
        made.compact()
        made.sort()
        return made


def key(node: Node) -> str:
    """Return what identifies *node* in copies of its model."""
    return str(node.outputs[0].name)


def _floats(model: Model, context: Context) -> set[str]:
    """Return the names of the float32 tensors of the main graph."""
    facts = context.facts(model)
    return {
        t.name
        for node in model.graph.nodes
        for t in (*node.inputs, *node.outputs)
        if t.name and facts.elem_type(t) == TensorProto.FLOAT
    }


def _weights(node: Node) -> Array:
    """Return the weights of a layer, (groups, outputs, K)."""
    values = node.constant(1)
    assert values is not None
    return layers.to_rows(node, values.astype(np.float64))


def _bias(node: Node, correction: Array | None) -> Array | None:
    place = bias_of(node)
    if place is None:
        return correction
    given = place[0].constant(place[1])
    assert given is not None
    return given.reshape(-1).astype(np.float64) + (0.0 if correction is None else correction)
