"""Put operators on integers in the place of layers between DequantizeLinear and QuantizeLinear.

They are ONNX's own: QLinearConv, QLinearMatMul, and MatMulInteger where floats come out; operators
that move numbers move integers. What has no such operator (Add, Concat, averages) stays between
DequantizeLinear and QuantizeLinear.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from onnxslim import ir
from onnxslim.ir import Array, Constant, Model, Node, Tensor
from onnxslim.passes.quantize._placement import MOVES, Placement, ceiling
from onnxslim.rewrite import Builder

_LARGEST_BIAS = 2**30
"""Larger ones might overflow 32 bits with the products."""


def to_operators(model: Model, placement: Placement) -> None:
    """Change what `_qdq.write` wrote."""
    change = _Change(model)
    for node in placement.layers:
        change.layer(node)
    for node in placement.carriers:
        if node.operator in MOVES:
            change.move(node)
        elif node.operator == "MatMul":
            change.product(node)
    model.graph.nodes.extend(change.new.nodes)


class _Change:
    def __init__(self, model: Model) -> None:
        self.graph, self.pinned = model.graph, model.pinned()
        self.new = Builder(model.names, model.graph)

    def layer(self, node: Node) -> None:
        if node.operator == "Conv":
            self.convolution(node)
        elif node.operator == "Gemm" or not self.product(node):
            self.floating_product(node)

    def convolution(self, node: Node) -> None:
        x, w, after = _source(node, 0), _source(node, 1), _requantized(node)
        scales = _value(x.inputs[1]) * _value(w.inputs[1])
        bias = _integers(node.constant(2), scales)
        if after is None or (node.input(2) is not None and bias is None):
            return
        zero = np.zeros(w.inputs[1].shape, np.int8)
        made = self.new.node(
            "QLinearConv",
            [*x.inputs, *w.inputs[:2], zero, *after.inputs[1:], *([] if bias is None else [bias])],
            node.attrs,
        )
        self.put(after, made)

    def product(self, node: Node) -> bool:
        """Change a MatMul whose result is quantized."""
        after = _requantized(node)
        if after is None:
            return False
        sources = [_source(node, slot) for slot in (0, 1)]
        operands = [tensor for source in sources for tensor in source.inputs]
        self.put(after, self.new.QLinearMatMul(*operands, *after.inputs[1:]))
        return True

    def floating_product(self, node: Node) -> None:
        """Change a Gemm, or a MatMul that puts out floats."""
        x, w = _source(node, 0), _source(node, 1)
        scales = _value(x.inputs[1]) * _value(w.inputs[1])
        bias = _integers(_bias(node), scales)
        if node.input(2) is not None and bias is None:
            return
        weight = w.constant(0)
        assert weight is not None
        turned = node.operator == "Gemm" and node.attr("transB", 0)
        sums = self.new.MatMulInteger(x.inputs[0], weight.T if turned else weight, x.inputs[2])
        if bias is not None:
            sums = self.new.Add(sums, bias)
        made = self.new.Mul(self.new.Cast(sums, to=TensorProto.FLOAT), scales.astype(np.float32))
        ir.substitute(node.outputs[0], made, self.graph, self.pinned)
        ir.erase([node], self.pinned)

    def move(self, node: Node) -> None:
        """Let an operator move integers, which keep their meaning."""
        given = _source(node, 0)
        readers = [tensor.outputs[0] for tensor in node.outputs if tensor.outputs]
        if any(r.inputs[1] is not given.inputs[1] for r in readers):
            return
        before = node.inputs[0]
        ir.set_input(node, 0, given.inputs[0])
        ir.release([before], self.pinned)
        for reader in readers:
            moved = reader.inputs[0]
            ir.replace_uses(reader.outputs[0], moved)
            ir.erase([reader], frozenset([*self.pinned, id(moved)]))

    def put(self, after: Node, made: Tensor) -> None:
        """Let *made* be read in place of what *after* quantizes."""
        ir.replace_uses(after.outputs[0], made)
        ir.erase([after], self.pinned)


def _source(node: Node, slot: int) -> Node:
    source = ir.producer(node.inputs[slot])
    assert source is not None
    assert source.operator == "DequantizeLinear"
    return source


def _requantized(node: Node) -> Node | None:
    """Return what quantizes the result of *node*, behind a Relu or Clip that it stands for."""
    readers = node.outputs[0].outputs
    top = ceiling(readers[0]) if len(readers) == 1 else None
    if top is not None:
        readers = readers[0].outputs[0].outputs
    if len(readers) != 1 or readers[0].operator != "QuantizeLinear":
        return None
    after: Node = readers[0]
    if top is not None and (_value(after.inputs[2]) or 255 * _value(after.inputs[1]) > top):
        return None
    return after


def _value(tensor: Tensor) -> Array:
    assert isinstance(tensor, Constant)
    return np.asarray(tensor.values, np.float64)


def _bias(node: Node) -> Array | None:
    """Return the bias of a Gemm, which `_qdq` may have written as integers."""
    given = node.input(2)
    source = None if given is None else ir.producer(given)
    if source is None:
        return node.constant(2)
    return _value(source.inputs[0]) * _value(source.inputs[1])


def _integers(bias: Array | None, scales: Array) -> Array | None:
    """Return a bias on the scale of the products, None where there is none or it is too large."""
    if bias is None:
        return None
    integers = np.rint(bias / scales)
    return integers.astype(np.int32) if np.abs(integers).max(initial=0) < _LARGEST_BIAS else None
