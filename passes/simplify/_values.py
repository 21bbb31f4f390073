"""Integer tensors whose value is known before the model runs."""

from __future__ import annotations

import numpy as np

from onnxslim import ir
from onnxslim.ir import Array, Constant, Graph, Node, Tensor, Variable
from onnxslim.shapes import Facts


def known(facts: Facts, tensor: Tensor) -> Array | None:
    """Return the value of *tensor* where all of it is known."""
    if isinstance(tensor, Constant):
        return tensor.values
    value = facts.value(tensor)
    elements = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(element, int) for element in elements):
        return None
    dtype = ir.numpy_type(facts.elem_type(tensor))
    if dtype.kind == "i" and any(not _fits(e, dtype) for e in elements):
        return None
    return np.asarray(value, dtype)


def _fits(element: object, dtype: np.dtype[np.generic]) -> bool:
    limits = np.iinfo(dtype)  # type: ignore[type-var]
    return isinstance(element, int) and limits.min <= element <= limits.max


NO_NODE = "before opset 9, a Constant node holds floats only"


def compute_by_constant(
    node: Node, tensor: Tensor, value: Array, graph: Graph, pinned: frozenset[int], inline: bool
) -> None:
    """Give what *node* computes as *tensor* a fixed value.

    Where initializers cannot be (*inline*), and for a graph output, that is a Constant node.
    """
    if id(tensor) not in pinned and not (inline and ir.constant_holds(value.dtype, graph.version)):
        ir.replace_uses(tensor, ir.constant(tensor.name, value))
        return
    made = Node("Constant", node.name, {"value": ir.constant("", value)}, [], [])
    made.graph = graph
    node.outputs[[t is tensor for t in node.outputs].index(True)] = ir.absent()
    made.outputs.append(tensor)
    if isinstance(tensor, Variable):
        tensor.to_constant(value)
    at = [item is node for item in graph.nodes].index(True)
    graph.nodes.insert(at, made)
