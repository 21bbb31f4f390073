"""Layers that read the same tensor and differ in nothing but their weights.

Source: Conv, Gemm, MatMul and Add of the ONNX operator specification. What such layers compute is
what one layer computes with their weights one after the other.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

from onnxslim import ir
from onnxslim.ir import Array, Constant, Node, Tensor, producer
from onnxslim.rewrite import Builder

ACTIVATIONS = frozenset(
    {"Abs", "Celu", "Clip", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu"}
    | {"Mish", "Neg", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Sqrt", "Tanh"}
)
"""Operators on single elements, whose further operands are single numbers."""


class Layer(NamedTuple):
    """A Conv, Gemm or MatMul with the sum and the activation after it."""

    head: Node
    total: Node | None
    activation: Node | None

    @property
    def nodes(self) -> list[Node]:
        """All nodes, the first one first."""
        found = (self.head, self.total, self.activation)
        return [node for node in found if node is not None]

    @property
    def out(self) -> Tensor:
        """What the layer computes."""
        return self.nodes[-1].outputs[0]  # type: ignore[no-any-return]

    @property
    def weight(self) -> Array:
        """The weights."""
        values: Array = self.head.inputs[1].values
        return values

    @property
    def axis(self) -> int:
        """The axis of the weights along which the output channels lie."""
        return 0 if self.head.operator == "Conv" or self.head.attr("transB", 0) else 1

    @property
    def width(self) -> int:
        """The number of output channels."""
        return int(self.weight.shape[self.axis])

    @property
    def bias(self) -> Array | None:
        """What is added to every channel; None where nothing is."""
        values: Array | None = self.head.constant(2)
        if self.total is not None:
            (values,) = (t.values for t in self.total.inputs if isinstance(t, Constant))
        return None if values is None else np.broadcast_to(np.ravel(values), self.width)

    def key(self) -> Hashable:
        """Return what two layers must have in common to become one."""
        kernel = self.weight.shape[2:], self.weight.dtype.name, self.weight.shape[1 - self.axis]
        parts = [self.head.inputs[0], kernel]
        for node in self.nodes:
            attrs = sorted((k, repr(v)) for k, v in node.attrs.items() if k != "kernel_shape")
            parts.append((node.operator, tuple(attrs)))
        if self.activation is not None:
            bounds = [_number(tensor) for tensor in self.activation.inputs[1:]]
            parts.append(tuple(bounds))
        return tuple(parts)


def _number(tensor: Tensor) -> Hashable:
    """Return a stand-in for an operand of an activation: equal for equal numbers only."""
    return tensor.values.tobytes() if isinstance(tensor, Constant) else None


def above(tensor: Tensor, pinned: frozenset[int]) -> Layer | None:
    """Return the layer that ends in *tensor*; only the last node may be read elsewhere."""
    node, activation, total = producer(tensor), None, None
    if node is not None and node.operator in ACTIVATIONS:
        activation, node = node, _before(node, 0, pinned)
    if node is not None and node.operator == "Add":
        slots = [slot for slot in (0, 1) if isinstance(node.inputs[1 - slot], Constant)]
        total, node = node, _before(node, slots[0], pinned) if len(slots) == 1 else None
        if node is not None and node.operator != "MatMul":
            return None
    return None if node is None else _layer(Layer(node, total, activation))


def below(head: Node, pinned: frozenset[int]) -> Layer | None:
    """Return the layer that starts in *head*, as far as nothing else reads what is between."""
    total = activation = None
    last = head
    node = _after(last, pinned)
    if node is not None and node.operator == "Add" and head.operator == "MatMul":
        other = node.inputs[1] if node.inputs[0] is last.outputs[0] else node.inputs[0]
        if isinstance(other, Constant):
            total, last = node, node
            node = _after(last, pinned)
    if node is not None and node.operator in ACTIVATIONS and node.inputs[0] is last.outputs[0]:
        activation = node
    return _layer(Layer(head, total, activation)) or _layer(Layer(head, None, None))


def _before(node: Node, slot: int, pinned: frozenset[int]) -> Node | None:
    """Return what computes an operand, if *node* alone reads it."""
    source = producer(node.inputs[slot])
    return source if source is not None and _after(source, pinned) is node else None


def _after(node: Node, pinned: frozenset[int]) -> Node | None:
    """Return the only reader of *node*, in the same graph."""
    out = node.outputs[0]
    if len(node.outputs) > 1 or len(out.outputs) != 1 or id(out) in pinned:
        return None
    reader: Node = out.outputs[0]
    return reader if reader.graph is node.graph else None


def _layer(found: Layer) -> Layer | None:
    """Return *found* if it is a layer whose channels are independent of each other."""
    head = found.head
    if head.operator not in ("Conv", "Gemm", "MatMul") or any(map(ir.has_parameters, found.nodes)):
        return None
    if len({node.graph for node in found.nodes}) > 1 or head.attr("group", 1) != 1:
        return None
    if head.graph is None or head.graph.version < 7:
        return None
    weight = head.constant(1)
    if weight is None or (weight.ndim != 2 and head.operator != "Conv"):
        return None
    bounds = found.activation.inputs[1:] if found.activation is not None else ()
    if any(
        bound.name and not (isinstance(bound, Constant) and bound.size == 1) for bound in bounds
    ):
        return None
    return found if _is_per_channel(found) else None


def _is_per_channel(layer: Layer) -> bool:
    """Say whether the bias, if there is one, is a constant with one number for every channel."""
    if layer.total is not None:
        (bias,) = (t for t in layer.total.inputs if isinstance(t, Constant))
        if len(bias.shape) > 1:
            return False
    elif layer.head.input(2) is None:
        return True
    else:
        bias = layer.head.inputs[2]
    if not isinstance(bias, Constant) or len(bias.shape) > 2:
        return False
    return bias.size in (1, layer.width) and bias.shape[-1:] in ((), (1,), (layer.width,))


def built(new: Builder, layers: Sequence[Layer]) -> Tensor:
    """Make one layer of several that have the same key."""
    first = layers[0]
    weight = np.concatenate([layer.weight for layer in layers], first.axis)
    operands = [first.head.inputs[0], new.tensor(weight, "w")]
    bias = _biases(layers)
    if bias is not None and first.total is None:
        operands.append(new.tensor(bias, "b"))
    result = new.named(new.like(first.head, *operands), "t")
    if bias is not None and first.total is not None:
        result = new.named(new.like(first.total, result, new.tensor(bias, "b")), "t")
    if first.activation is not None:
        bounds = first.activation.inputs[1:]
        result = new.named(new.like(first.activation, result, *bounds), "t")
    return result


def _biases(layers: Sequence[Layer]) -> Array | None:
    biases = [layer.bias for layer in layers]
    if all(bias is None for bias in biases):
        return None
    parts = [
        np.zeros(layer.width, layer.weight.dtype) if bias is None else bias
        for layer, bias in zip(layers, biases, strict=True)
    ]
    return np.concatenate(parts)
