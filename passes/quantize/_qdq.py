"""Write QuantizeLinear and DequantizeLinear around layers, in the form that onnxruntime fuses.

Activations are uint8, weights int8, each with its zero point, and a float bias becomes a part of
the fused layer; but where a Gemm puts out floats, or a MatMul is followed by its bias, only an
int32 bias on the scale of the products does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from onnxslim import ir
from onnxslim.ir import Array, Constant, Model, Node, Tensor, Variable
from onnxslim.passes.quantize import _placement
from onnxslim.passes.quantize._calibrate import Grid
from onnxslim.passes.quantize._layers import Weights, channel_axis, from_rows
from onnxslim.passes.quantize._placement import Placement
from onnxslim.rewrite import Builder


@dataclass(frozen=True)
class Layer:
    """Weights of a layer, and its bias."""

    weights: Weights
    bias: Array | None


def write(
    model: Model,
    placement: Placement,
    grids: Mapping[Tensor, Grid],
    layers: Mapping[Node, Layer],
) -> int:
    """Quantize the main graph of *model*; return how many nodes compute with integers."""
    return _Writer(model, placement, grids, layers).run()


class _Writer:
    def __init__(
        self,
        model: Model,
        placement: Placement,
        grids: Mapping[Tensor, Grid],
        layers: Mapping[Node, Layer],
    ) -> None:
        self.model, self.placement, self.grids, self.layers = model, placement, grids, layers
        self.new = Builder(model.names, model.graph)
        self.pinned = model.pinned()
        self.quantized = set(placement.tensors)
        self.floating = {
            node
            for end, node in placement.ends.items()
            if node.operator == "MatMul" or (node.operator == "Gemm" and end not in self.quantized)
        }
        """Layers that put out floats, or whose bias comes after them."""
        self.biases = {node: bias_of(node) for node in placement.layers}
        self.known: dict[tuple[str, str, bytes], Constant] = {}

    def run(self) -> int:
        inside = {*self.placement.layers, *self.placement.carriers}
        sources = {node: node.inputs[0] for node in self.placement.layers}
        for tensor in self.placement.tensors:
            self.activation(tensor, inside)
        for node in self.placement.layers:
            self.layer(node, self.grids[sources[node]])
        self.model.graph.nodes.extend(self.new.nodes)
        return len(inside)

    def constant(self, values: Array) -> Constant:
        """Return an initializer of this value, the same one each time."""
        values = np.asarray(values)
        key = (values.dtype.str, str(values.shape), values.tobytes())
        if key not in self.known:
            made = self.new.tensor(values)
            assert isinstance(made, Constant)
            made.name = self.model.names.fresh("c")
            self.known[key] = made
        return self.known[key]

    # Activations

    def activation(self, tensor: Tensor, inside: set[Node]) -> None:
        """Let those who read *tensor* read what is left of it after quantization."""
        grid = self.grids[tensor]
        parameters = (
            self.constant(np.asarray(grid.scale)),
            self.constant(np.array(grid.zero, np.uint8)),
        )
        if tensor in self.placement.ends:
            node = ir.producer(tensor)
            assert node is not None
            before = Variable(self.model.names.fresh("f"))
            slot = next(i for i, t in enumerate(node.outputs) if t is tensor)
            ir.set_output(node, slot, before)
            self.dequantized(before, parameters)
            ir.set_output(self.new.nodes[-1], 0, tensor)
            return
        after = self.dequantized(tensor, parameters)
        for node, slot in list(_placement.readers(tensor, inside)):
            ir.set_input(node, slot, after)

    def dequantized(self, tensor: Tensor, parameters: tuple[Constant, Constant]) -> Variable:
        quantized = self.new.named(self.new.QuantizeLinear(tensor, *parameters), "q")
        return self.new.named(self.new.DequantizeLinear(quantized, *parameters), "d")

    # Layers

    def layer(self, node: Node, grid: Grid) -> None:
        made, before = self.layers[node], node.inputs[1]
        assert isinstance(before, Constant)
        scales = made.weights.scales.reshape(-1)
        integers = from_rows(node, made.weights.rows, before.shape).astype(np.int8)
        given = [self.constant(integers), self.scales(scales)]
        if node.operator != "Conv":  # QGemm wants a zero point
            given.append(self.constant(np.zeros(given[1].shape, np.int8)))
        attrs = {"axis": channel_axis(node)} if given[1].shape else {}
        weight = self.new.named(self.new.DequantizeLinear(*given, **attrs), "w")
        ir.set_input(node, 1, weight)
        ir.release([before], self.pinned)
        if made.bias is not None:
            products = float(grid.scale) * scales.astype(np.float64)
            self.bias(node, made.bias, products)

    def scales(self, scales: Array) -> Constant:
        """Return scales of channels, one number where they are equal."""
        scales = scales.astype(np.float32)
        return self.constant(scales[0] if (scales == scales[0]).all() else scales)

    def bias(self, node: Node, values: Array, scales: Array) -> None:
        """Replace the bias of a layer, or give it one."""
        reader, slot = self.biases[node] or (node, 2)
        old = reader.input(slot)
        if old is None:
            new = self.new_bias(values, scales, node in self.floating)
            ir.set_inputs(node, [*node.inputs[:2], new])
            return
        assert isinstance(old, Constant)
        if reader is not node and len(old.shape) > 1:  # the sum may have as many dimensions
            new = self.constant(values.reshape(old.shape).astype(np.float32))
        else:
            new = self.new_bias(values, scales, node in self.floating)
        ir.set_input(reader, slot, new)
        ir.release([old], self.pinned)

    def new_bias(self, values: Array, scales: Array, as_integers: bool) -> Tensor:
        """Return a bias, *as_integers* on the grid of the products where 32 bits hold them."""
        integers = np.rint(values / scales)
        if not as_integers or np.abs(integers).max(initial=0) >= 2**31:
            return self.constant(values.astype(np.float32))
        given = [self.constant(integers.astype(np.int32)), self.scales(scales)]
        attrs = {"axis": 0} if given[1].shape else {}
        return self.new.named(self.new.DequantizeLinear(*given, **attrs), "b")


def takes_bias(node: Node) -> bool:
    """Say whether a layer has a bias that can be changed, or a place for one."""
    return bias_of(node) is not None or (node.operator != "MatMul" and node.input(2) is None)


def bias_of(node: Node) -> tuple[Node, int] | None:
    """Return who adds a constant bias to what a layer makes, and the slot; None without one."""
    if node.operator != "MatMul":
        reader, slot, count = node, 2, node.inputs[1].shape[channel_axis(node)]
    else:
        readers = node.outputs[0].outputs
        if len(readers) != 1 or readers[0].operator != "Add" or readers[0].graph is not node.graph:
            return None
        reader, count = readers[0], node.inputs[1].shape[-1]
        slot = 1 if reader.inputs[0] is node.outputs[0] else 0
    bias = reader.input(slot)
    fits = isinstance(bias, Constant) and bias.shape[-1:] == (count,) and bias.size == count
    return (reader, slot) if fits else None
