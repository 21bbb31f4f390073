"""What fusing neighbouring layers is worth: layers before and after, and latency on one thread.

    python benchmarks/fusions.py [--rounds 21]

Every net has random weights and is made here. Both models run in onnxruntime with all its own
optimizations, on one thread, in turns; the ratio is the median of the rounds' ratios, of processor
time, so that a busy machine disturbs it less. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from onnxslim import Model, Pipeline, parse

LAYERS = ("Conv", "MatMul", "Gemm")
ENOUGH = 0.02
"""Seconds that one side of a round takes at least."""


class Net:
    """A graph that grows by calls: each returns the name of what it computes."""

    def __init__(self, *shape: int) -> None:
        """Start with one input, ``x``."""
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.shape = list(shape)
        self.rng = np.random.default_rng(0)

    def add(self, op: str, *inputs: str, outputs: int = 1, **attrs: Any) -> str:
        """Add a node; the names of further outputs end in ``_1`` and so on."""
        name = f"{op.lower()}_output_{len(self.nodes)}"
        names = [name, *(f"{name}_{i}" for i in range(1, outputs))]
        self.nodes.append(helper.make_node(op, list(inputs), names, **attrs))
        return name

    def weight(self, values: npt.NDArray[np.floating[Any]]) -> str:
        """Add an initializer."""
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def noise(self, *shape: int) -> str:
        """Add random weights that keep the scale of what they are applied to."""
        fan_in = int(np.prod(shape[1:])) if len(shape) > 2 else shape[0]
        return self.weight(self.rng.standard_normal(shape, np.float32) / np.sqrt(fan_in))

    def conv(self, x: str, channels: tuple[int, int], kernel: int, stride: int = 1) -> str:
        """Add a Conv with a bias that keeps the size of the image."""
        outs, ins = channels
        weight, bias = self.noise(outs, ins, kernel, kernel), self.noise(outs)
        pads, strides = [kernel // 2] * 4, [stride] * 2
        return self.add("Conv", x, weight, bias, pads=pads, strides=strides)

    def norm(self, x: str, channels: int) -> str:
        """Add a BatchNormalization."""
        values = [self.rng.uniform(0.5, 1.5, channels) for _ in range(4)]
        return self.add("BatchNormalization", x, *(self.weight(v) for v in values))

    def dense(self, x: str, ins: int, outs: int) -> str:
        """Add MatMul and Add."""
        product = self.add("MatMul", x, self.noise(ins, outs))
        return self.add("Add", product, self.weight(self.rng.standard_normal(outs)))

    def model(self, *results: str) -> Model:
        """Return the whole net."""
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)
        ys = [helper.make_tensor_value_info(y, TensorProto.FLOAT, None) for y in results]
        graph = helper.make_graph(self.nodes, "net", [x], ys, self.weights)
        opsets = [helper.make_opsetid("", 17)]
        return Model.from_proto(helper.make_model(graph, opset_imports=opsets, ir_version=8))


def repvgg() -> Model:
    """Twelve blocks: 3x3, 1x1 and the input, each normalised, added, then Relu."""
    net, x, channels = Net(1, 3, 96, 96), "x", 3
    for width, depth in ((32, 3), (64, 4), (128, 5)):
        for block in range(depth):
            stride = 1 if block else 2
            branches = [
                net.norm(net.conv(x, (width, channels), kernel, stride), width) for kernel in (3, 1)
            ]
            if channels == width and stride == 1:
                branches.append(net.norm(x, width))
            total = branches[0]
            for branch in branches[1:]:
                total = net.add("Add", total, branch)
            x, channels = net.add("Relu", total), width
    return net.model(x)


def residual_linear() -> Model:
    """Eight blocks of x + conv(x) without anything between."""
    net, x = Net(1, 64, 28, 28), "x"
    for _ in range(8):
        x = net.add("Relu", net.add("Add", x, net.conv(x, (64, 64), 3)))
    return net.model(x)


def inception() -> Model:
    """Four blocks of branches that begin with 1x1 and end in a Concat."""
    net, x, channels = Net(1, 64, 28, 28), "x", 64
    for _ in range(4):
        one = net.add("Relu", net.conv(x, (32, channels), 1))
        three = net.add("Relu", net.conv(x, (32, channels), 1))
        three = net.add("Relu", net.conv(three, (48, 32), 3))
        five = net.add("Relu", net.conv(x, (16, channels), 1))
        five = net.add("Relu", net.conv(five, (24, 16), 5))
        pool = net.add("MaxPool", x, kernel_shape=[3, 3], pads=[1] * 4)
        pool = net.add("Relu", net.conv(pool, (24, channels), 1))
        x, channels = net.add("Concat", one, three, five, pool, axis=1), 128
    return net.model(x)


def heads() -> Model:
    """Detection heads: at three sizes, boxes, classes and scores from one input, side by side."""
    net, x, results = Net(1, 64, 40, 40), "x", []
    for size in range(3):
        x = net.add("Relu", net.conv(x, (64, 64), 3, 1 if not size else 2))
        parts = [net.conv(x, (width, 64), 3) for width in (12, 63, 3)]
        results.append(net.add("Concat", *parts, axis=1))
    return net.model(*results)


def transitions() -> Model:
    """DenseNet's transitions: a Conv of 1x1, then averages of 2x2."""
    net, x, channels = Net(1, 64, 56, 56), "x", 64
    for width in (64, 128, 256):
        x = net.add("Relu", net.conv(x, (width, channels), 3))
        x = net.conv(x, (width // 2, width), 1)
        x, channels = net.add("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2]), width // 2
    return net.model(x)


def blur() -> Model:
    """A Conv of 3x3 and averages of 2x2, three times."""
    net, x, channels = Net(1, 16, 64, 64), "x", 16
    for width in (32, 64, 128):
        x = net.conv(x, (width, channels), 3)
        x = net.add("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
        x, channels = net.add("Relu", x), width
    return net.model(x)


def linear_convs() -> Model:
    """Six times 1x1 to more channels and 3x3 back, with nothing between."""
    net, x = Net(1, 32, 28, 28), "x"
    for _ in range(6):
        wide = net.add("Conv", x, net.noise(64, 32, 1, 1))
        x = net.add("Relu", net.conv(wide, (32, 64), 3))
    return net.model(x)


def linear_products() -> Model:
    """Four times two products without anything between but a sum."""
    net, x = Net(16, 256), "x"
    for _ in range(4):
        x = net.add("Relu", net.dense(net.dense(x, 256, 512), 512, 256))
    return net.model(x)


def adapters() -> Model:
    """Four dense layers with adapters of rank 16 (LoRA) that nobody merged."""
    net, x = Net(16, 256), "x"
    for _ in range(4):
        low = net.add("MatMul", net.add("MatMul", x, net.noise(256, 16)), net.noise(16, 256))
        x = net.add("Relu", net.add("Add", net.dense(x, 256, 256), low))
    return net.model(x)


def attention(rows: int = 64, width: int = 256) -> Model:
    """LayerNormalization, then queries, keys and values, four times."""
    net, x, heads = Net(1, rows, width), "x", 4
    shape = np.array([1, rows, heads, width // heads], np.int64)
    for _ in range(4):
        net.weights.append(numpy_helper.from_array(shape, name := f"shape_{len(net.weights)}"))
        scale, shift = net.noise(width), net.noise(width)
        normed = net.add("LayerNormalization", x, scale, shift)
        query, key, value = (
            net.add("Transpose", net.add("Reshape", net.dense(normed, width, width), name), perm=p)
            for p in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
        )
        scores = net.add("Softmax", net.add("MatMul", query, key), axis=-1)
        mixed = net.add("Transpose", net.add("MatMul", scores, value), perm=[0, 2, 1, 3])
        net.weights.append(
            numpy_helper.from_array(np.array([1, rows, width], np.int64), flat := f"{name}_flat")
        )
        x = net.add("Add", x, net.dense(net.add("Reshape", mixed, flat), width, width))
    return net.model(x)


MERGED = "lossless,merge-parallel-layers"
NETS: list[tuple[str, Callable[[], Model], str]] = [
    ("RepVGG", repvgg, "lossless"),
    ("x + conv(x)", residual_linear, "lossless"),
    ("1x1 · 3x3, linear", linear_convs, "lossless"),
    ("dense · dense, linear", linear_products, "lossless"),
    ("dense + adapter", adapters, "lossless"),
    ("1x1 and averages", transitions, "lossless"),
    ("3x3 and averages", blur, "lossless,fuse-conv-average-pool"),
    ("detection heads", heads, "lossless"),
    ("Inception", inception, "lossless"),
    ("Inception", inception, MERGED),
    ("attention", attention, "lossless"),
    ("attention", attention, MERGED),
    ("attention, 1 row", lambda: attention(1), "lossless"),
    ("attention, 1 row", lambda: attention(1), MERGED),
    ("attention, 128 rows of 768", lambda: attention(128, 768), "lossless"),
    ("attention, 128 rows of 768", lambda: attention(128, 768), MERGED),
]


def runner(model: Model) -> Callable[[], object]:
    """Return a function that runs *model* once, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.to_bytes(), options, providers=["CPUExecutionProvider"]
    )
    (given,) = session.get_inputs()
    x = np.random.default_rng(1).standard_normal(given.shape, np.float32)
    return lambda: session.run(None, {"x": x})


def speed(before: Model, after: Model, rounds: int) -> tuple[float, float]:
    """Return how many times faster *after* is, and the microseconds that *before* takes."""
    old, new = runner(before), runner(after)

    def seconds(run: Callable[[], object], count: int) -> float:
        start = time.thread_time()
        for _ in range(count):
            run()
        return (time.thread_time() - start) / count

    seconds(new, 3)
    count = max(1, int(ENOUGH / seconds(old, 3)))
    pairs = [(seconds(old, count), seconds(new, count)) for _ in range(rounds)]
    return (
        statistics.median(a / b for a, b in pairs),
        statistics.median(a for a, _ in pairs) * 1e6,
    )


def row(name: str, make: Callable[[], Model], spec: str, rounds: int) -> str:
    """Slim one net and describe what came of it."""
    before = make()
    after, report = Pipeline(parse(spec))(before)
    assert not report.warnings, report.warnings
    counts = [sum(stats.ops.get(op, 0) for op in LAYERS) for stats in (report.before, report.after)]
    macs, size = report.after.macs / report.before.macs, report.after.bytes / report.before.bytes
    ratio, took = speed(before, after, rounds)
    more = spec.removeprefix("lossless").strip(",") or "-"
    return (
        f"| {name} | {more} | {counts[0]} → {counts[1]} | {report.before.nodes} → "
        f"{report.after.nodes} | {macs:.2f} | {size:.2f} | {took:,.0f} | {ratio:.2f}x |"
    )


def main() -> None:
    """Measure every net."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21)
    rounds = parser.parse_args().rounds
    print("| net | beyond `lossless` | layers | nodes | MACs | bytes | µs before | speed |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, make, spec in NETS:
        print(row(name, make, spec, rounds), flush=True)


if __name__ == "__main__":
    main()
