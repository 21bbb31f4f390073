"""Layers fitted again, one after the other, to what the same layers of the original give.

What earlier layers lost reaches the later ones; weights that are fitted to what these really read
make up for a part of it. Source: Zhang et al. 2016, Accelerating Very Deep Convolutional Networks
(asymmetric reconstruction); He et al. 2017, Channel Pruning for Accelerating Very Deep Networks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from onnxslim import ir
from onnxslim.base import Context, Effect, Pass
from onnxslim.errors import CannotRun, Declined, MissingData, PassError
from onnxslim.ir import Array, Constant, Model, Node, Tensor
from onnxslim.observe import layer_rows, output_rows, runs
from onnxslim.passes.factorize._layers import OPERATORS, is_flipped, weight_slot
from onnxslim.passes.factorize._metric import LARGEST

_DAMPINGS = (1e-4, 1e-2, 1.0)
"""Of the mean square of inputs: how much the weights are held where they are."""
_HELD = 4
"""Every so many samples one is held out, to choose among those."""
_ROWS = 1024
"""Rows of one sample that are used."""
_ENOUGH, _SAMPLES = 64, 64
"""Rows for every weight of an output, and samples, that are enough."""
_JUDGES = 128
"""Samples on which the outputs must come closer."""
_ZEROS = 0.1
"""The share of zeros from which on they count as pruned."""


class RefitLayers(Pass):
    """Fit weights again, layer by layer, to what the original's same layers give.

    For Conv, Gemm and MatMul whose outputs the original computes under the same name: what was
    factorized, and what stands behind channels that were removed or layers that lose something.
    Weights are held where they were as far as samples that are held out ask for it, and a layer is
    only changed if the outputs of the model come closer to the original's.
    """

    name = "refit-layers"
    effect = Effect.LOSSY
    needs_data = True
    once = True

    def apply(self, model: Model, context: Context) -> int:
        """Fit the layers in their order; each reads what those before it give by then."""
        original = context.original
        if original is None:
            raise MissingData("refit-layers needs the original model to learn from")
        layers = list(_layers(model, original, context))
        noise, changes = _noise(model, context) if layers else 0.0, 0
        for number, layer in enumerate(layers):
            context.progress("refitting layers", number, len(layers))
            kept = {tensor: tensor.values for tensor in layer.constants}
            try:
                note = _fit(layer, _summed(layer, model, original, context))
                left = _noise(model, context)
                if not left < noise:
                    raise Declined("the outputs would not come closer to the original's")
            except (CannotRun, Declined, PassError) as reason:
                context.decline(layer.node, str(reason))
                for tensor, values in kept.items():
                    tensor.values = values
                continue
            noise, changes = left, changes + len(kept)
            context.notes.append({**note, "noise of the outputs": left})
        return changes


def _noise(model: Model, context: Context) -> float:
    return next(iter(context.noises(model, (), [{}], _JUDGES)))


@dataclass(frozen=True)
class _Layer:
    """y = x U V + b with constant V and b; U is the identity where there is none."""

    node: Node
    kernel: tuple[int, ...]
    basis: Array | None
    """U, (K, r)."""
    free: Constant
    """V, (r, M), or its transpose."""
    turned: bool
    bias: Constant | None

    @property
    def constants(self) -> list[Constant]:
        """What is fitted."""
        return [self.free, *([self.bias] if self.bias else [])]

    @property
    def stacked(self) -> Array:
        """V with b below it, in float64."""
        wide = self.free.values.astype(np.float64)
        matrix = wide.reshape(len(wide), -1).T if self.turned else wide
        if self.bias is None:
            return matrix
        return np.vstack([matrix, self.bias.values.astype(np.float64).reshape(1, -1)])

    def take(self, stacked: Array) -> None:
        """Take over V and b."""
        matrix = stacked if self.bias is None else stacked[:-1]
        if self.bias is not None:
            self.bias.values = _like(self.bias, stacked[-1])
        self.free.values = _like(self.free, matrix.T if self.turned else matrix)


def _like(old: Constant, values: Array) -> Array:
    return np.ascontiguousarray(values, old.dtype).reshape(old.shape)


# Which layers -------------------------------------------------------------------------------------


def _layers(model: Model, original: Model, context: Context) -> Iterator[_Layer]:
    known = {tensor.name for node in original.graph.nodes for tensor in node.outputs}
    pinned = model.pinned()
    for graph, nodes in context.find(model, OPERATORS):
        for node in nodes if graph is model.graph else ():
            slot = weight_slot(node)
            if slot is None:
                continue
            found = _layer(node, slot, pinned)
            if isinstance(found, _Layer) and node.outputs[0].name not in known:
                found = "the original has no such layer"
            if isinstance(found, str):
                context.decline(node, found)
            else:
                yield found


def _layer(node: Node, slot: int, pinned: frozenset[int]) -> _Layer | str:
    """Return what may be fitted of a node, or why nothing may."""
    if slot != 1 or node.attr("transA", 0):
        return "its weights stand on the left"
    if node.op == "Gemm" and (node.attr("alpha", 1.0), node.attr("beta", 1.0)) != (1.0, 1.0):
        return "it is scaled"
    if node.attr("group", 1) != 1:
        return "it is a convolution in groups"
    factors = _factors(node.inputs[1])
    if factors is None:
        return "its weights are computed"
    bias = node.input(2)
    if bias is not None and not isinstance(bias, Constant):
        return "its bias is computed"
    *rest, free = factors
    if free.dtype.kind != "f" or not free.size or (free.values == 0).mean() > _ZEROS:
        return "its weights are no floats, or pruned"
    mine = [free, *([bias] if bias is not None else [])]
    if any(len(t.outputs) > 1 or id(t) in pinned for t in (node.inputs[1], *mine)):
        return "something else reads its weights too"
    if any(len(factor.shape) != 2 for factor in factors) and (rest or node.operator != "Conv"):
        return "its weights are no matrix"
    flipped = is_flipped(node, 1)
    columns = free.shape[0] if flipped else free.shape[-1]
    if free.size > LARGEST * columns:
        return "too many inputs of an output"
    if bias is not None and bias.size != columns:
        return "its bias is spread over its outputs"
    basis = rest[0].values.astype(np.float64) if rest else None
    if basis is not None and flipped:
        basis = basis.T
    return _Layer(node, _kernel(node), basis, free, flipped, bias)


def _kernel(node: Node) -> tuple[int, ...]:
    if node.operator != "Conv":
        return ()
    weight = node.inputs[1]
    if isinstance(weight, Constant):
        return tuple(weight.shape[2:])
    (reshape,) = weight.inputs
    return tuple(int(size) for size in reshape.inputs[1].values[2:])


def _factors(weight: Tensor) -> list[Constant] | None:
    """Return W itself, or U and V where it is their product; the last one is fitted."""
    if isinstance(weight, Constant):
        return [weight]
    product, reader = ir.producer(weight), weight.outputs[0]
    if reader.operator == "Conv":
        product = _reshaped(product)
    if product is None or product.operator != "MatMul":
        return None
    left, right = product.inputs
    if not (isinstance(left, Constant) and isinstance(right, Constant)):
        return None
    return [right, left] if is_flipped(reader, 1) else [left, right]


def _reshaped(node: Node | None) -> Node | None:
    """Return what makes the matrix that *node* gives the shape of a convolution's weights."""
    if node is None or node.operator != "Reshape" or len(node.inputs[0].outputs) > 1:
        return None
    shape = node.constant(1)
    return None if shape is None or shape.min() < 1 else ir.producer(node.inputs[0])


# Least squares ------------------------------------------------------------------------------------


@dataclass
class _Sums:
    """What least squares need of inputs z, with 1 behind them, and outputs y: sums over rows."""

    inputs: Array | float = 0.0
    """Of z zᵀ."""
    both: Array | float = 0.0
    """Of z yᵀ."""
    power: float = 0.0
    """Of |y|²."""

    def add(self, z: Array, y: Array) -> None:
        self.inputs = self.inputs + z.T @ z
        self.both = self.both + z.T @ y
        self.power += float((y**2).sum())

    def error(self, weights: Array) -> float:
        """Return the power of y - zᵀ W, of that of y."""
        moved = (weights * (self.inputs @ weights - 2 * self.both)).sum() + self.power
        return max(0.0, float(moved)) / (self.power or 1.0)

    def fitted(self, weights: Array, damping: float) -> Array:
        """Return the W of the least error, held where *weights* are by *damping*."""
        inputs = np.asarray(self.inputs)
        held = damping * (float(np.diag(inputs).mean()) or 1.0) * np.eye(len(inputs))
        return np.asarray(weights + np.linalg.solve(inputs + held, self.both - inputs @ weights))


@dataclass
class _Pair:
    """Sums over the samples to fit to, and over those that choose how closely."""

    fit: _Sums = field(default_factory=_Sums)
    held: _Sums = field(default_factory=_Sums)


def _summed(layer: _Layer, model: Model, original: Model, context: Context) -> _Pair:
    """Run both models and sum up what the layer reads in the one and gives in the other."""
    node, data, pair, rows = layer.node, context.calibration(), _Pair(), 0
    name, result = node.inputs[0].name, node.outputs[0].name
    read, wanted = (
        runs(of, data, [tensor], context.progress)
        for of, tensor in ((model, name), (original, result))
    )
    for number, (values, expected) in enumerate(zip(read, wanted, strict=True)):
        z = layer_rows(node, np.asarray(values[name], np.float64), _ROWS, layer.kernel)[0]
        y = output_rows(node, np.asarray(expected[result], np.float64), _ROWS)
        if len(z) != len(y) or y.shape[1] != layer.stacked.shape[1]:
            raise Declined("the original's layer has other outputs")
        if not (np.isfinite(z).all() and np.isfinite(y).all()):
            raise Declined("what it reads or gives is not all finite")
        z = z if layer.basis is None else z @ layer.basis
        if layer.bias is not None:
            z = np.hstack([z, np.ones((len(z), 1))])
        (pair.held if number % _HELD == _HELD - 1 else pair.fit).add(z, y)
        rows += len(z)
        if number + 1 >= _SAMPLES and rows >= _ENOUGH * z.shape[1]:
            break
    return pair


def _fit(layer: _Layer, sums: _Pair) -> dict[str, str | int | float | None]:
    """Take over the weights that are best on samples that were held out. Raises Declined."""
    if not sums.held.power:
        raise Declined("there are too few samples to hold some out")
    old = layer.stacked
    before = sums.held.error(old)
    if not before < 1:
        raise Declined("the original's layer gives something else")
    tried = {damping: sums.held.error(sums.fit.fitted(old, damping)) for damping in _DAMPINGS}
    best = min(tried, key=lambda damping: tried[damping])
    if not tried[best] < before:
        raise Declined("nothing is closer on samples that were held out")
    layer.take(sums.fit.fitted(old, best))
    return {
        "layer": layer.node.name or layer.free.name,
        "error before": math.sqrt(before),
        "error": math.sqrt(tried[best]),
        "damping": best,
    }
