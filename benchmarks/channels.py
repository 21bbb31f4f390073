"""What exact channel removal finds, saves and gains.

    python benchmarks/channels.py made [--rounds 15]
    python benchmarks/channels.py real MODELS DATA [--rounds 15]

``made`` draws networks like ResNet-18, MobileNetV2, DenseNet and ShuffleNetV2 with random weights,
in which 30, 60 and 90 % of the batch-norm gammas are zero, and betas are not. Gammas that meet in
a residual sum or a shuffle agree; ``ResNet-18*`` is the same network with gammas that do not.
``real`` takes trained models from a folder, and labelled data for two of them. What the lossless
recipe runs before these passes (constant folding above all) runs here too.

A channel is counted where a batch normalization makes it. "Stay" are constant channels that cannot
go: one for each tensor that a convolution pads with zeros, and those that others are tied to.
Speed is how many times as fast as the original onnxruntime runs the result, on one thread, fully
optimized, both by turns, medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from onnxslim import api
from onnxslim.ir import Model
from onnxslim.recipes import RECIPES

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
PASSES = ("fold-constant-channels", "merge-duplicate-channels", "drop-dead-channels")
BEFORE = RECIPES["lossless"].spec.partition(f",{PASSES[0]}")[0]
RATES = (0.3, 0.6, 0.9)
SIZE = 112


class Net:
    """A network under construction; it knows which channels of a tensor are constant."""

    def __init__(self, rate: float, seed: int = 0) -> None:
        self.rate, self.rng = rate, np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.constant: dict[str, Mask] = {"x": np.zeros(3, bool)}

    def mask(self, width: int) -> Mask:
        """Choose which of *width* channels are constant."""
        chosen = np.zeros(width, bool)
        chosen[self.rng.permutation(width)[: round(self.rate * width)]] = True
        return chosen

    def node(self, op: str, inputs: Sequence[str], constant: Mask, **attrs: Any) -> str:
        """Add a node and return its output."""
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attrs))
        self.constant[name] = constant
        return name

    def weight(self, array: Array, dtype: Any = np.float32) -> str:
        """Add an initializer and return its name."""
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    def conv(self, x: str, width: int, size: int = 1, stride: int = 1, groups: int = 1) -> str:
        """Convolve."""
        shape = (width, len(self.constant[x]) // groups, size, size)
        w = self.rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        attrs = {"pads": [size // 2] * 4, "strides": [stride] * 2, "group": groups}
        return self.node("Conv", [x, self.weight(w)], np.zeros(width, bool), **attrs)

    def norm(self, x: str, constant: Mask) -> str:
        """Normalise; the gammas of *constant* channels are zero."""
        width, rng = len(constant), self.rng
        gamma = np.where(constant, 0, rng.uniform(0.5, 1.5, width))
        beta, mean = rng.standard_normal(width) * 0.3, rng.standard_normal(width) * 0.1
        values = gamma, beta, mean, rng.uniform(0.5, 2, width)
        return self.node("BatchNormalization", [x, *map(self.weight, values)], constant)

    def relu(self, x: str) -> str:
        """Rectify."""
        return self.node("Relu", [x], self.constant[x])

    def unit(self, x: str, constant: Mask, size: int = 1, stride: int = 1, groups: int = 1) -> str:
        """Convolve and normalise."""
        return self.norm(self.conv(x, len(constant), size, stride, groups), constant)

    def add(self, x: str, y: str) -> str:
        """Add two tensors."""
        return self.node("Add", [x, y], self.constant[x] & self.constant[y])

    def join(self, *parts: str) -> str:
        """Put channels side by side."""
        mask = np.concatenate([self.constant[part] for part in parts])
        return self.node("Concat", parts, mask, axis=1)

    def model(self, x: str) -> onnx.ModelProto:
        """Classify, and return the model."""
        width = len(self.constant[x])
        x = self.node("GlobalAveragePool", [x], self.constant[x])
        x = self.node("Flatten", [x], self.constant[x])
        head = self.rng.standard_normal((100, width)) / np.sqrt(width)
        inputs = [x, self.weight(head), self.weight(np.zeros(100))]
        x = self.node("Gemm", inputs, np.zeros(100, bool), transB=1)
        graph = helper.make_graph(
            self.nodes, "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
            [helper.make_tensor_value_info(x, TensorProto.FLOAT, [1, 100])], self.weights,
        )  # fmt: skip
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def resnet(rate: float, agree: bool = True) -> onnx.ModelProto:
    """ResNet-18: gammas that meet in a sum agree, or do not."""
    net = Net(rate)
    group = net.mask(64)
    x = net.relu(net.unit("x", group, 7, 2))
    x = net.node("MaxPool", [x], group, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for width in (64, 128, 256, 512):
        for block in range(2):
            stride = 2 if width > 64 and not block else 1
            if stride == 2:
                group = net.mask(width)
            y = net.relu(net.unit(x, net.mask(width), 3, stride))
            y = net.unit(y, group if agree else net.mask(width), 3)
            x = net.relu(net.add(y, net.unit(x, group, 1, 2) if stride == 2 else x))
    return net.model(x)


def mobilenet(rate: float) -> onnx.ModelProto:
    """MobileNetV2: both normalizations around a depthwise convolution agree."""
    net = Net(rate)
    x = net.relu(net.unit("x", net.mask(32), 3, 2))
    for factor, width, count, stride in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):  # fmt: skip
        group = net.mask(width)
        for block in range(count):
            hidden = net.mask(factor * len(net.constant[x]))
            y = net.relu(net.unit(x, hidden)) if factor > 1 else x
            hidden = hidden if factor > 1 else net.constant[x]
            y = net.relu(net.unit(y, hidden, 3, 1 if block else stride, groups=len(hidden)))
            y = net.unit(y, group)
            x = net.add(x, y) if block else y
    return net.model(net.relu(net.unit(x, net.mask(1280))))


def densenet(rate: float) -> onnx.ModelProto:
    """DenseNet with four blocks of four layers: all that normalise a feature agree."""
    net, growth = Net(rate), 32
    x = net.conv("x", 64, 7, 2)
    mask = net.mask(64)
    for block in range(4):
        for _ in range(4):
            y = net.relu(net.norm(x, mask))
            y = net.relu(net.unit(y, net.mask(4 * growth)))
            x, mask = net.join(x, net.conv(y, growth, 3)), np.append(mask, net.mask(growth))
        x = net.relu(net.norm(x, mask))
        if block < 3:
            mask = net.mask(len(mask) // 2)
            x = net.conv(x, len(mask))
            x = net.node("AveragePool", [x], mask, kernel_shape=[2, 2], strides=[2, 2])
    return net.model(x)


def shufflenet(rate: float) -> onnx.ModelProto:
    """ShuffleNetV2: channels that a shuffle ties agree."""
    net = Net(rate)
    x = net.relu(net.unit("x", net.mask(24), 3, 2))
    extent = SIZE // 2
    for width, count in ((116, 4), (232, 8), (464, 4)):
        half, extent = width // 2, extent // 2
        mask = net.mask(half)
        a = net.unit(x, net.constant[x], 3, 2, groups=len(net.constant[x]))
        a = net.relu(net.unit(a, mask))
        x = _shuffle(net, a, _branch(net, x, mask, 2), extent)
        for _ in range(count - 1):
            sizes = net.weight(np.array([half, half]), np.int64)
            a, b = (f"s{len(net.nodes)}{part}" for part in "ab")
            net.nodes.append(helper.make_node("Split", [x, sizes], [a, b], axis=1))
            net.constant[a], net.constant[b] = np.split(net.constant[x], 2)
            x = _shuffle(net, a, _branch(net, b, net.constant[a], 1), extent)
    return net.model(net.relu(net.unit(x, net.mask(1024))))


def _branch(net: Net, x: str, mask: Mask, stride: int) -> str:
    hidden = net.mask(len(mask))
    y = net.relu(net.unit(x, hidden))
    y = net.unit(y, hidden, 3, stride, groups=len(hidden))
    return net.relu(net.unit(y, mask))


def _shuffle(net: Net, a: str, b: str, extent: int) -> str:
    x = net.join(a, b)
    mask, width = net.constant[x], len(net.constant[x])
    apart, together = [1, 2, width // 2, extent, extent], [1, width, extent, extent]
    x = net.node("Reshape", [x, net.weight(np.array(apart), np.int64)], mask)
    x = net.node("Transpose", [x], mask, perm=[0, 2, 1, 3, 4])
    mask = mask.reshape(2, -1).T.reshape(-1)
    return net.node("Reshape", [x, net.weight(np.array(together), np.int64)], mask)


MADE: Mapping[str, Callable[[float], onnx.ModelProto]] = {
    "ResNet-18": resnet,
    "ResNet-18*": lambda rate: resnet(rate, agree=False),
    "MobileNetV2": mobilenet,
    "DenseNet": densenet,
    "ShuffleNetV2": shufflenet,
}

# Measuring ----------------------------------------------------------------------------------------


def gammas(proto: onnx.ModelProto) -> list[Array]:
    """Return the scales of all batch normalizations."""
    nodes = Model.from_proto(proto).nodes()
    found = [node.constant(1) for node in nodes if node.op == "BatchNormalization"]
    return [array for array in found if array is not None]


def channels(proto: onnx.ModelProto) -> int:
    """Count the channels that batch normalizations make."""
    return sum(len(array) for array in gammas(proto))


def session(proto: onnx.ModelProto) -> ort.InferenceSession:
    """Load a model as users do, on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def medians(models: Sequence[onnx.ModelProto], feed: dict[str, Array], rounds: int) -> list[float]:
    """Run the models by turns; return the median seconds of each."""
    sessions = [session(proto) for proto in models]
    seconds: list[list[float]] = [[] for _ in models]
    for turn in range(rounds + 2):
        for one, times in zip(sessions, seconds, strict=True):
            start = time.process_time()
            one.run(None, feed)
            if turn >= 2:
                times.append(time.process_time() - start)
    return [statistics.median(times) for times in seconds]


def row(
    name: str, proto: onnx.ModelProto, feed: dict[str, Array], rounds: int
) -> tuple[list[str], list[onnx.ModelProto]]:
    """Slim a model for bytes and for speed; return what to print, and the results."""
    planted = sum(int((np.abs(gamma) < 1e-6).sum()) for gamma in gammas(proto))
    cells, results = [name, str(planted)], []
    for align in ("bytes", "speed"):
        spec = ",".join((BEFORE, *(f"{step}{{align={align}}}" for step in PASSES)))
        done = api.run(proto, spec, check="end")
        assert not done.report.warnings, done.report.warnings
        results.append(done.model.proto())
        stays = sum(
            count for reason, count in _declined(done.report) if "constant channel" in reason
        )
        before, after = done.report.before, done.report.after
        cells.append(str(channels(proto) - channels(results[-1])))
        if align == "bytes":
            cells.append(str(stays))
        cells.append(f"{after.parameters / before.parameters:.1%}")
        cells.append(f"{after.macs / before.macs:.1%}")
    original, *others = medians([proto, *results], feed, rounds)
    speeds = [f"{original / other:.2f}" for other in others]
    return [*cells[:6], speeds[0], *cells[6:], speeds[1]], results


def _declined(report: Any) -> list[tuple[str, int]]:
    first = next((step for step in report.steps if step.name == PASSES[0]), None)
    return [] if first is None else list(first.declined.items())


HEADER = (
    "model", "zero gammas", "removed", "stay", "parameters", "MACs", "speed",
    "removed for speed", "parameters", "MACs", "speed",
)  # fmt: skip


def show(cells: Sequence[str]) -> None:
    """Print a row of a Markdown table."""
    print("|", " | ".join(cells), "|", flush=True)


def heading(cells: Sequence[str]) -> None:
    """Print the head of a Markdown table."""
    show(cells)
    show(["---", *["---:"] * (len(cells) - 1)])


def made(rounds: int) -> None:
    """Measure the networks made here."""
    heading(HEADER)
    feed = {"x": np.random.default_rng(1).standard_normal((1, 3, SIZE, SIZE)).astype(np.float32)}
    for name, build in MADE.items():
        for rate in RATES:
            show(row(f"{name}, {rate:.0%}", build(rate), feed, rounds)[0])


# Trained models -----------------------------------------------------------------------------------

REAL = {
    "ocr/lprnet_bn": (1, 3, 24, 94),
    "ocr/ppocr_v3_det": (1, 3, 320, 320),
    "segment/sinet_bn": (1, 3, 224, 224),
    "seeds/resnet_gamma_mnist": (1, 1, 28, 28),
}


def real(models: Path, data: Path, rounds: int) -> None:
    """Measure trained models, and their accuracy where there are labels."""
    heading((*HEADER, "accuracy before", "for bytes", "for speed"))
    scores = {"ocr/lprnet_bn": plates, "seeds/resnet_gamma_mnist": digits}
    for name, shape in REAL.items():
        proto = onnx.load(str(models / f"{name}.onnx"))
        values = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
        cells, results = row(name, proto, {proto.graph.input[0].name: values}, rounds)
        score = scores.get(name)
        found = ["", "", ""]
        if score is not None:
            found = [f"{score(one, data):.2%}" for one in (proto, *results)]
        show([*cells, *found])


PROVINCES = "京沪津渝冀晋蒙辽吉黑苏浙皖闽赣鲁豫鄂湘粤桂琼川贵云藏陕甘青宁新"


def plates(proto: onnx.ModelProto, data: Path) -> float:
    """Return the share of licence plates that are read without a mistake."""
    held, one = np.load(data / "plates.npz"), session(proto)
    letters = PROVINCES + "0123456789ABCDEFGHJKLMNPQRSTUVWXYZIO"
    right = 0
    for image, text in zip(held["x"], held["text"], strict=True):
        pixels = (image[..., ::-1].astype(np.float32) - 127.5) * 0.0078125
        feed = {one.get_inputs()[0].name: pixels.transpose(2, 0, 1)[None]}
        steps = one.run(None, feed)[0][0].argmax(0)
        found = [b for a, b in zip([-1, *steps[:-1]], steps, strict=True) if a != b and b < 67]
        right += "".join(letters[index] for index in found) == str(text)
    return right / len(held["x"])


def digits(proto: onnx.ModelProto, data: Path) -> float:
    """Return the share of MNIST test images that are recognised."""
    held, one, right = np.load(data / "mnist.npz"), session(proto), 0
    images = ((held["x_test"] / 255 - 0.1307) / 0.3081).astype(np.float32)[:, None]
    for start in range(0, len(images), 500):
        logits = one.run(None, {one.get_inputs()[0].name: images[start : start + 500]})[0]
        right += int((logits.argmax(1) == held["y_test"][start : start + 500]).sum())
    return right / len(images)


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("what", choices=("made", "real"))
    parser.add_argument("models", nargs="?", type=Path, help="a folder, for real")
    parser.add_argument("data", nargs="?", type=Path, help="a folder, for real")
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    if args.what == "made":
        made(args.rounds)
    else:
        real(args.models, args.data, args.rounds)


if __name__ == "__main__":
    main()
