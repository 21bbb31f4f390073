"""Single layers, and how many times as fast as they what takes their place runs."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from onnxslim import Model

Array = npt.NDArray[Any]
_LEAST = 9
"""Ratios, whatever time they take."""
_SLICE = 5e-3
"""Seconds that a model runs before the other one has its turn."""


def product(weight: Array, batch: int | str = "N") -> Model:
    """Return a model of one product."""
    rows, columns = weight.shape
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return _model([node], [batch, rows], [batch, columns], {"w": weight})


def convolutions(weights: tuple[Array, ...], side: int) -> Model:
    """Return convolutions that keep the size of one image, each with its Relu."""
    nodes, count = [], len(weights)
    for number, weight in enumerate(weights):
        ends = [f"x{number}" if number else "x", f"w{number}"], [f"h{number}"]
        pads = [extent // 2 for extent in weight.shape[2:]] * 2
        after = "y" if number == count - 1 else f"x{number + 1}"
        nodes.append(helper.make_node("Conv", *ends, pads=pads))
        nodes.append(helper.make_node("Relu", [f"h{number}"], [after]))
    shape: list[str | int] = [1, weights[0].shape[1], side, side]
    made: list[str | int] = [1, weights[-1].shape[0], side, side]
    return _model(nodes, shape, made, {f"w{n}": weight for n, weight in enumerate(weights)})


def _model(
    nodes: list[Any], read: list[str | int], made: list[str | int], weights: dict[str, Array]
) -> Model:
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", read), ("y", made))
    ]
    held = [
        numpy_helper.from_array(np.ascontiguousarray(weight, np.float32), name)
        for name, weight in weights.items()
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], held)
    opset = helper.make_opsetid("", 17)
    return Model.from_proto(helper.make_model(graph, opset_imports=[opset], ir_version=8))


def session(model: Model) -> ort.InferenceSession:
    """Load a model with all optimizations, on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(model.to_bytes(), options, providers=["CPUExecutionProvider"])


def speedup(before: Model, after: Model, shape: tuple[int, ...], seconds: float = 0.5) -> float:
    """Return how many times as fast *after* runs as *before*, by turns, in processor time.

    *shape* is that of the input. The ratio is the median of those of all turns.
    """
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    pair = [_Bound(session(model), x) for model in (before, after)]
    runs = max(1, int(_SLICE / pair[0].spent(3)))
    ratios: list[float] = []
    end = time.monotonic() + seconds
    while len(ratios) < _LEAST or time.monotonic() < end:
        first, second = (one.spent(runs) for one in pair)
        ratios.append(first / second)
    return float(np.median(ratios))


class _Bound:
    """A session whose input and output stay where they are."""

    def __init__(self, of: ort.InferenceSession, x: Array) -> None:
        self.session, self.binding, self.x = of, of.io_binding(), x
        self.y = of.run(None, {"x": x})[0]
        self.binding.bind_cpu_input("x", x)
        place = self.y.ctypes.data
        self.binding.bind_output("y", "cpu", 0, np.float32, self.y.shape, place)

    def spent(self, runs: int) -> float:
        """Return the processor seconds of a run."""
        begin = time.thread_time()
        for _ in range(runs):
            self.session.run_with_iobinding(self.binding)
        return (time.thread_time() - begin) / runs
