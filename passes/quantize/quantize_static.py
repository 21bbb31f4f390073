"""Integers for weights and activations, with ranges that were observed beforehand."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from onnxslim import ir
from onnxslim.base import Context, Effect, Pass, opset_at_least
from onnxslim.ir import Array, Constant, Model, Node
from onnxslim.observe import observe, outputs, samples
from onnxslim.passes.quantize import _layers as layers
from onnxslim.passes.quantize._calibrate import Calibrator, Grid, bounds
from onnxslim.passes.quantize._placement import Placement, ceiling, place
from onnxslim.passes.quantize._qdq import Layer, bias_of, write

_FEEDS = 8
"""Samples on which layers are compared with each other."""
_NEGLIGIBLE = 1e-3
"""Noise-to-signal ratio below which no layer is worth floats: 30 dB."""
_LITTLE = 0.1
"""Share of the weights above which a layer is worth its noise."""


@dataclass(frozen=True)
class QuantizeStatic(Pass):
    """Compute layers on 8-bit integers, whose ranges come from calibration data.

    Conv, Gemm and MatMul with constant weights read uint8 activations and int8 weights, and what
    stands between them (Add, Concat, pooling, reshaping) computes on integers too. Layers stay
    floats where they alone make much noise, or where the outputs would move beyond the tolerance.
    The percentile is the default: of LPRNet's plates it read 1.1 points more than mse, 1.9 more
    than minmax and 4.8 more than entropy. On ResNet-20 the first three are equal within 0.3 points.
    """

    name = "quantize-static"
    effect = Effect.LOSSY
    needs_data = True
    preconditions = (opset_at_least(10),)

    calibrator: Calibrator = "percentile"
    per_channel: bool = True
    bias_correction: bool = True
    tolerance: float = 0.045
    """How far outputs may move, of their scale; layers that move them further stay floats."""

    def apply(self, model: Model, context: Context) -> int:
        """Quantize as many layers as the tolerance allows."""
        found = _candidates(model, context)
        if not found:
            return 0
        study = _Study(self, model, context, found)
        chosen = study.chosen()
        for node in found:
            if key(node) not in chosen:
                context.decline(node, "its integers would move the outputs too far")
        if chosen and study.trial(chosen).size() >= model.size():
            context.decline(found[0], "the file would not be smaller")
            return 0
        return study.quantize(model, chosen) if chosen else 0


def _candidates(model: Model, context: Context) -> list[Node]:
    """Return the layers of the main graph that can be quantized."""
    for node in model.nodes():
        if _is_quantized(node):
            context.decline(node, "the model is quantized already")
            return []
    facts, found = context.facts(model), list[Node]()
    for graph, nodes in context.find(model, ("Conv", "Gemm", "MatMul")):
        for node in nodes:
            reason = _obstacle(node)
            if graph is not model.graph:
                reason = "it stands in a subgraph or function, whose values are not observed"
            elif facts.elem_type(node.inputs[0]) != TensorProto.FLOAT:
                reason = "onnxruntime's integer kernels take the place of float32 only"
            if reason is None:
                found.append(node)
            else:
                context.decline(node, reason)
    return found


def _is_quantized(node: Node) -> bool:
    name = node.op if isinstance(node.op, str) else ""
    return "QuantizeLinear" in name or name.startswith("QLinear") or "Integer" in name


def _obstacle(node: Node) -> str | None:
    """Return why a layer cannot be quantized."""
    weight = node.input(1)
    if isinstance(node.inputs[0], Constant) or not isinstance(weight, Constant):
        return "its weights are not constant"
    if not weight.size or not np.isfinite(weight.values).all():
        return "it has no weights, or infinite ones"
    if node.operator == "Gemm":
        bias = node.input(2)
        scaled = node.attr("alpha", 1.0) != 1.0 or (bias and node.attr("beta", 1.0) != 1.0)
        if scaled or node.attr("transA", 0):
            return "its operands are scaled or transposed"
        if bias is not None and (not isinstance(bias, Constant) or len(bias.shape) != 1):
            return "its bias is no constant vector"
    if node.operator == "MatMul" and len(weight.shape) != 2:
        return "its weights are no matrix"
    return None


class _Study:
    """What calibration data say about a model; all by name, to serve for copies too."""

    def __init__(
        self, step: QuantizeStatic, model: Model, context: Context, found: Collection[Node]
    ) -> None:
        self.step, self.model, self.context = step, model, context
        facts = context.facts(model)
        self.floats = {
            t.name
            for node in model.graph.nodes
            for t in (*node.inputs, *node.outputs)
            if t.name and facts.elem_type(t) == TensorProto.FLOAT
        }
        placement = place(model.graph, found, self.floats, model.pinned())
        names = {t.name: None for t in placement.tensors}
        names.update({placement.origin(t).name: None for t in placement.tensors})
        data, progress = context.calibration(), context.progress
        self.seen = observe(model, data, names, step.calibrator != "minmax", progress)
        grids = self.grids(placement)
        rows = samples(model, data, list(found), progress=progress)
        self.expected = outputs(model, data, _FEEDS)
        self.layers = {
            key(node): self.layer(node, rows[node], grids[node.inputs[0]], model.opset)
            for node in found
        }

    def grids(self, placement: Placement) -> dict[ir.Tensor, Grid]:
        """Return the numbers that each quantized tensor may take."""
        made = {}
        for tensor in placement.tensors:
            origin = placement.origin(tensor)
            low, high = bounds(self.seen[origin.name], self.step.calibrator)
            source = ir.producer(origin)
            top = ceiling(source) if source is not None else None
            if top is not None:
                low, high = 0.0, min(high, top)
            made[tensor] = Grid.over(low, high)
        return made

    def layer(self, node: Node, rows: Array, grid: Grid, opset: int) -> Layer:
        weight = node.constant(1)
        assert weight is not None
        real = layers.to_rows(node, weight.astype(np.float64))
        rows = rows.astype(np.float64)
        wanted, order = rows @ real.transpose(0, 2, 1), layers.pair_order(node, weight.shape)
        per_channel = self.step.per_channel and opset >= 13
        trials = []  # fourth powers, because saturation is rare but large
        for largest in (layers.FULL, layers.REDUCED):
            made = layers.quantize(real, largest, per_channel)
            error = layers.outputs(rows, grid, made, order) - wanted
            shift = error.sum(axis=1).reshape(-1) / max(1, rows.shape[1])
            trials.append((float((error**4).sum()), made, shift))
        _, best, shift = min(trials, key=lambda trial: trial[0])
        return Layer(best, _bias(node, -shift if self.step.bias_correction else None))

    def chosen(self) -> Collection[str]:
        """Return the layers to quantize: all but those that cost too much.

        First go single small layers that make much of the noise, then as many as the tolerance
        asks for, those first that make the most noise for what they save.
        """
        everything, tolerance = list(self.layers), self.step.tolerance
        if self.noise(everything) <= _NEGLIGIBLE and self.distance(everything) <= tolerance:
            return everything
        alone = {}
        for number, name in enumerate(everything):
            self.context.progress("quantizing layers one by one", number, len(everything))
            alone[name] = self.noise([name])
        order = sorted(everything, key=lambda name: alone[name] / self.size(name))
        while order and self.is_culprit(order[-1], alone, order):
            order.pop()
        if self.distance(order) <= tolerance:
            return order
        fits, fails = 0, len(order)
        while fails - fits > 1:
            middle = (fits + fails) // 2
            close = self.distance(order[:middle]) <= tolerance
            fits, fails = (middle, fails) if close else (fits, middle)
        return order[:fits]

    def is_culprit(self, name: str, alone: Mapping[str, float], order: Sequence[str]) -> bool:
        """Say whether one layer makes a third of noise that matters, and saves little."""
        noise = sum(alone[other] for other in order)
        small = self.size(name) < _LITTLE * sum(map(self.size, self.layers))
        return small and noise > _NEGLIGIBLE and alone[name] > noise / 3

    def noise(self, chosen: Collection[str]) -> float:
        """Return the noise-to-signal ratio of the worst output with *chosen* layers quantized."""
        found = outputs(self.trial(chosen), self.context.calibration(), _FEEDS)
        ratios = [0.0]
        for name in self.expected[0]:
            wanted, made = (
                np.concatenate([np.ravel(values[name]) for values in feeds])
                for feeds in (self.expected, found)
            )
            power = float(np.square(wanted, dtype=np.float64).sum())
            ratios.append(float(np.square(made - wanted, dtype=np.float64).sum()) / (power or 1.0))
        return max(ratios)

    def size(self, name: str) -> int:
        """Return the number of weights of a layer."""
        return self.layers[name].weights.rows.size

    def distance(self, chosen: Collection[str]) -> float:
        """Return how far quantizing the *chosen* layers moves the outputs."""
        return self.context.distance(self.trial(chosen))

    def trial(self, chosen: Collection[str]) -> Model:
        """Return a copy whose *chosen* layers are quantized."""
        made = self.model.copy()
        self.quantize(made, chosen)
        made.compact()
        made.sort()
        return made

    def quantize(self, model: Model, chosen: Collection[str]) -> int:
        """Quantize the *chosen* layers of *model*."""
        found = {n: self.layers[key(n)] for n in model.graph.nodes if key(n) in chosen}
        placement = place(model.graph, found, self.floats, model.pinned())
        return write(model, placement, self.grids(placement), found)


def key(node: Node) -> str:
    """Return what identifies *node* in copies of its model."""
    return str(node.outputs[0].name)


def _bias(node: Node, correction: Array | None) -> Array | None:
    place = bias_of(node)
    values = None
    if place is not None:
        given = place[0].constant(place[1])
        assert given is not None
        values = given.astype(np.float64)
    if correction is None or (node.operator == "MatMul" and values is None):
        return values
    return correction if values is None else values + correction
