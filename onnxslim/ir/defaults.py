"""Initializers that a caller of the model may override."""

from __future__ import annotations

from onnx import TensorProto

from onnxslim.ir.graph import Constant, Tensor, Variable
from onnxslim.ir.model import Model
from onnxslim.ir.surgery import replace_uses
from onnxslim.ir.weights import Weight


def overridable(model: Model) -> list[Variable]:
    """Return the inputs of the main graph that have default values."""
    return [tensor for tensor in model.graph.inputs if tensor.default is not None]


def freeze(model: Model) -> int:
    """Turn the inputs that have default values into constants; return how many there were."""
    found: dict[Tensor, Tensor] = {t: _constant(t, model) for t in overridable(model)}
    if not found:
        return 0
    for old, new in found.items():
        replace_uses(old, new)
    for inner in model.graphs():
        inner.outputs = [found.get(tensor, tensor) for tensor in inner.outputs]
    graph = model.graph
    graph.initializers = [found.get(tensor, tensor) for tensor in graph.initializers]
    graph.inputs = [tensor for tensor in graph.inputs if tensor not in found]
    graph.input_order = [tensor for tensor in graph.input_order if tensor not in found]
    model.pristine = False
    return len(found)


def _constant(tensor: Variable, model: Model) -> Constant:
    assert isinstance(tensor.default, TensorProto)
    made = Constant(tensor.name, Weight(tensor.default, model.store))
    made.source = tensor.default
    return made


OVERRIDABLE = "an input with a default, which callers may change; see --freeze-initializers"
"""What to say of such a tensor where only a constant will do."""


def is_overridable(tensor: Tensor | None) -> bool:
    """Say whether *tensor* is an initializer that a caller may replace."""
    return isinstance(tensor, Variable) and isinstance(tensor.default, TensorProto)
