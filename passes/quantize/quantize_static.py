"""Integers for weights and activations, with ranges that were observed beforehand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from onnx import TensorProto

from onnxslim.base import Context, Effect, Pass, opset_at_least
from onnxslim.ir import Constant, Model, Node
from onnxslim.observe import observe
from onnxslim.passes.quantize._calibrate import Calibrator
from onnxslim.passes.quantize._choice import choose, noise_of
from onnxslim.passes.quantize._qdq import bias_of
from onnxslim.passes.quantize._rescaling import Rescaling
from onnxslim.passes.quantize._study import Study, key


@dataclass(frozen=True)
class QuantizeStatic(Pass):
    """Compute layers on 8-bit integers, whose ranges come from calibration data.

    Conv, Gemm and MatMul with constant weights read uint8 activations and int8 weights, and what
    stands between them (Add, Concat, pooling, reshaping) computes on integers too. Layers stay
    floats where their noise is dearer than more bits would be, or where the outputs would move
    beyond the tolerance.

    The calibrators cover the range of the least squared error (mse), of the least divergence
    (entropy), all that was seen (minmax), or all but a hundred-thousandth at either end
    (percentile). The first is never far from the best: see docs/quantize-static.md. Weights are
    rounded to second order (gptq) or to the nearest, in less time.

    Before anything is rounded, scale can move between neighbours, by powers of two, which leaves
    the function as it is: equalize gives the channels between two layers equal weights, for one
    scale for all of them, where the outputs then are less noisy (auto), or always; smooth (0.5,
    say) moves that share of outliers behind normalizations into the weights of products.
    """

    name = "quantize-static"
    effect = Effect.LOSSY
    needs_data = True
    preconditions = (opset_at_least(10),)

    calibrator: Calibrator = "mse"
    per_channel: bool = True
    bias_correction: bool = True
    """Let biases make up for what rounding does to the means of outputs."""
    rounding: Literal["nearest", "gptq"] = "gptq"
    equalize: Literal["auto", "always", "never"] = "auto"
    smooth: float = 0.0
    tolerance: float = 0.1
    """How far outputs may move, of their scale; layers that move them further stay floats."""
    format: Literal["qdq", "qoperator"] = "qdq"
    """DequantizeLinear and QuantizeLinear around layers, or QLinearConv and its like."""

    def apply(self, model: Model, context: Context) -> int:
        """Quantize as many layers as the tolerance allows."""
        found = _candidates(model, context)
        if not found:
            return 0
        rescaling, study = self.prepared(model, context, found)
        chosen = choose(study, context, self.tolerance)
        for node in found:
            if key(node) not in chosen:
                context.decline(node, "its integers would move the outputs too far")
        if chosen and study.trial(chosen).size() >= model.size():
            context.decline(found[0], "the file would not be smaller")
            chosen = ()
        if not chosen:
            rescaling.undo()
            return 0
        rescaling.finish()
        return study.quantize(model, chosen)

    def prepared(
        self, model: Model, context: Context, found: list[Node]
    ) -> tuple[Rescaling, Study]:
        """Study the layers that were *found*, with equal weights and without; keep the better."""
        rescaling = self.rescaled(model, context, found, equalize=self.equalize == "always")
        study = Study(self, model, context, found)
        if self.equalize != "auto":
            return rescaling, study
        noise = noise_of(study.trial(study.layers), context)
        rescaling.undo()
        other = self.rescaled(model, context, found, equalize=True)
        if other.before:
            equal = Study(self, model, context, found)
            if noise_of(equal.trial(equal.layers), context) < noise:
                return other, equal
        other.undo()
        rescaling.redo()
        return rescaling, study

    def rescaled(
        self, model: Model, context: Context, found: list[Node], equalize: bool
    ) -> Rescaling:
        """Move scale into or out of the weights of the layers that were *found*."""
        rescaling = Rescaling(model, found if equalize or self.smooth else ())
        if equalize:
            rescaling.equalize()
        if self.smooth:
            axes = {seam.tensor.name: seam.axis for seam in rescaling.seams}
            seen = observe(model, context.calibration(), axes, progress=context.progress)
            largest = {name: np.maximum(-of.minimum, of.maximum) for name, of in seen.items()}
            rescaling.smooth(largest, self.smooth)
        return rescaling


def _candidates(model: Model, context: Context) -> list[Node]:
    """Return the layers of the main graph that can be quantized."""
    for node in model.nodes():
        if _is_quantized(node):
            context.decline(node, "the model is quantized already")
            return []
    facts, found = context.facts(model), list[Node]()
    for graph, nodes in context.find(model, ("Conv", "Gemm", "MatMul")):
        for node in nodes:
            reason, kind = _obstacle(node), facts.elem_type(node.inputs[0])
            if graph is not model.graph:
                reason = "it stands in a subgraph or function, whose values are not observed"
            elif not kind:
                reason = "the type of what it reads is not known"
            elif kind != TensorProto.FLOAT:
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
        if bias is not None and bias_of(node) is None:
            return "its bias is no constant vector"
    if node.operator == "MatMul" and len(weight.shape) != 2:
        return "its weights are no matrix"
    return None
