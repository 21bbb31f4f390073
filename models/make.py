"""Make the reference models of this folder: ``python models/make.py [NAME...]``.

Every model lies in ONNX's own layout: ``NAME/model.onnx`` and, for each feed, a folder
``NAME/test_data_set_K`` with ``input_I.pb`` and ``output_I.pb``.  The reference outputs are those
of onnxruntime with graph optimizations disabled, on one thread.  Random numbers are seeded by the
model's name, so a second run writes the same bytes.  The trained models are copied from ``shared``
beside the checkout; without it their committed files stay as they are.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)

Array = npt.NDArray[Any]
Feed = dict[str, Array]
Shape = Sequence[int | str]

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[1] / "shared"
FLOAT, HALF, BOOL = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BOOL
INT32, INT64, STRING = TensorProto.INT32, TensorProto.INT64, TensorProto.STRING
INT_MAX = 2**63 - 1


# --------------------------------------------------------------------------------------------
# Building blocks
# --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reference:
    """A model, what to feed it, and the files that hold its weights outside."""

    model: ModelProto
    feeds: list[Feed]
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """How one model is made and the row that describes it in the README."""

    name: str
    family: str
    exercises: str
    licence: str
    build: Callable[[np.random.Generator], Reference | None]


RECIPES: dict[str, Recipe] = {}


def recipe(
    family: str, exercises: str, licence: str = "Apache-2.0, synthetic"
) -> Callable[[Callable[[np.random.Generator], Reference | None]], None]:
    """Register the decorated builder under its function's name."""

    def register(build: Callable[[np.random.Generator], Reference | None]) -> None:
        name = build.__name__
        RECIPES[name] = Recipe(name, family, exercises, licence, build)

    return register


class Builder:
    """Collects the nodes and weights of one graph and gives each tensor a name of its own."""

    def __init__(
        self, rng: np.random.Generator, opset: int, dtype: npt.DTypeLike = np.float32
    ) -> None:
        self.rng = rng
        self.opset = opset
        self.dtype = np.dtype(dtype)
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []
        self.scope = ""
        self.taken: set[str] = set()

    def body(self) -> Builder:
        """Start the graph of a body, which shares the names and not the nodes."""
        inner = Builder(self.rng, self.opset, self.dtype)
        inner.scope, inner.taken = self.scope, self.taken
        return inner

    @contextlib.contextmanager
    def within(self, scope: str) -> Iterator[None]:
        """Name what is made inside after a submodule."""
        before = self.scope
        self.scope = f"{before}/{scope}"
        yield
        self.scope = before

    def _fresh(self, stem: str) -> str:
        name, count = stem, 0
        while name in self.taken:
            count += 1
            name = f"{stem}_{count}"
        self.taken.add(name)
        return name

    def ops(
        self, kind: str, *inputs: str, outs: int | Sequence[str], domain: str = "", **attrs: Any
    ) -> list[str]:
        """Add a node of several outputs and return their names."""
        name = self._fresh(f"{self.scope}/{kind}")
        names = [f"{name}_output_{i}" for i in range(outs)] if isinstance(outs, int) else list(outs)
        self.nodes.append(helper.make_node(kind, inputs, names, name, domain=domain, **attrs))
        return names

    def op(
        self, kind: str, *inputs: str, out: str | None = None, domain: str = "", **attrs: Any
    ) -> str:
        """Add a node of one output and return its name."""
        outs: int | Sequence[str] = 1 if out is None else [out]
        return self.ops(kind, *inputs, outs=outs, domain=domain, **attrs)[0]

    def weight(self, name: str, value: npt.ArrayLike, dtype: npt.DTypeLike | None = None) -> str:
        """Add an initializer named as a parameter of the current submodule."""
        full = self._fresh(".".join([*self.scope.split("/")[1:], name]))
        array = np.asarray(value, dtype or self.dtype)
        self.weights.append(numpy_helper.from_array(array, full))
        return full

    def const(self, value: npt.ArrayLike, dtype: npt.DTypeLike | None = None) -> str:
        """Add a Constant node."""
        return self.op(
            "Constant", value=numpy_helper.from_array(np.asarray(value, dtype or self.dtype))
        )

    def ints(self, *values: int) -> str:
        """Add a Constant node holding a vector of int64."""
        return self.const(values, np.int64)

    def normal(self, *shape: int, std: float = 1.0) -> Array:
        """Draw normal random numbers of the builder's float type."""
        return self.rng.normal(0.0, std, shape).astype(self.dtype)

    def he(self, *shape: int, fan_in: int | None = None) -> Array:
        """Draw He-initialised weights; the fan-in is that of a convolution unless given."""
        return self.normal(*shape, std=float(np.sqrt(2.0 / (fan_in or int(np.prod(shape[1:]))))))

    # -- layers ------------------------------------------------------------------------------

    def conv(
        self, x: str, cin: int, cout: int, kernel: int = 3, *, bias: bool = False, **attrs: Any
    ) -> str:
        """Add a square convolution that keeps the size at stride 1."""
        group, dilation = attrs.get("group", 1), attrs.get("dilations", [1, 1])[0]
        attrs.setdefault("kernel_shape", [kernel, kernel])
        attrs.setdefault("pads", [(kernel - 1) // 2 * dilation] * 4)
        inputs = [x, self.weight("weight", self.he(cout, cin // group, kernel, kernel))]
        if bias:
            inputs.append(self.weight("bias", self.normal(cout, std=0.1)))
        return self.op("Conv", *inputs, **attrs)

    def norm(self, x: str, channels: int, dead: int = 0, **attrs: Any) -> str:
        """Add an inference BatchNormalization whose first ``dead`` gammas are zero."""
        gamma = self.rng.uniform(0.7, 1.3, channels)
        gamma[:dead] = 0.0
        parameters = [
            self.weight("bn.weight", gamma),
            self.weight("bn.bias", self.normal(channels, std=0.1)),
            self.weight("bn.running_mean", self.normal(channels, std=0.2)),
            self.weight("bn.running_var", self.rng.uniform(0.6, 1.6, channels)),
        ]
        return self.op("BatchNormalization", x, *parameters, epsilon=1e-5, momentum=0.9, **attrs)

    def linear(self, x: str, cin: int, cout: int, **attrs: Any) -> str:
        """Add a Gemm with PyTorch's transposed weight."""
        weight = self.weight("weight", self.he(cout, cin))
        bias = self.weight("bias", self.normal(cout, std=0.1))
        return self.op("Gemm", x, weight, bias, transB=1, **attrs)

    def dense(self, x: str, cin: int, cout: int) -> str:
        """Add MatMul and Add, a linear layer as exporters write it on more than two axes."""
        product = self.op("MatMul", x, self.weight("weight", self.normal(cin, cout, std=cin**-0.5)))
        return self.op("Add", product, self.weight("bias", self.normal(cout, std=0.1)))

    # -- shape arithmetic --------------------------------------------------------------------

    def dim(self, x: str, axis: int) -> str:
        """Read one extent of a tensor as a scalar: Shape, Constant, Gather."""
        return self.op("Gather", self.op("Shape", x), self.const(axis, np.int64), axis=0)

    def unsqueeze(self, x: str, *axes: int) -> str:
        """Add an Unsqueeze with its axes where the opset wants them."""
        if self.opset < 13:
            return self.op("Unsqueeze", x, axes=list(axes))
        return self.op("Unsqueeze", x, self.ints(*axes))

    def stack(self, *sizes: str | int) -> str:
        """Join scalars and numbers into a shape vector."""
        parts = [
            self.unsqueeze(s if isinstance(s, str) else self.const(s, np.int64), 0) for s in sizes
        ]
        return self.op("Concat", *parts, axis=0)

    def crop(self, x: str, start: int, end: int, axis: int = 0) -> str:
        """Add a Slice of one axis."""
        return self.op("Slice", x, self.ints(start), self.ints(end), self.ints(axis), self.ints(1))

    # -- the end -----------------------------------------------------------------------------

    def graph(
        self, name: str, inputs: Sequence[ValueInfoProto], outputs: Sequence[ValueInfoProto]
    ) -> GraphProto:
        """Return the collected graph."""
        return helper.make_graph(self.nodes, name, inputs, outputs, self.weights)

    def model(
        self,
        inputs: Sequence[ValueInfoProto],
        outputs: Sequence[ValueInfoProto],
        ir: int,
        domains: Mapping[str, int] | None = None,
        functions: Sequence[FunctionProto] = (),
    ) -> ModelProto:
        """Return the collected graph as a model of the builder's opset."""
        graph = self.graph("main_graph", inputs, outputs)
        imports = {"": self.opset, **(domains or {})}
        return helper.make_model(
            graph,
            producer_name="onnxslim-models",
            producer_version="1",
            ir_version=ir,
            opset_imports=[helper.make_opsetid(d, v) for d, v in imports.items()],
            functions=functions,
        )


def info(name: str, kind: int, shape: Shape | None) -> ValueInfoProto:
    """Declare a tensor."""
    return helper.make_tensor_value_info(name, kind, shape)


def images(rng: np.random.Generator, *shapes: tuple[int, ...], name: str = "image") -> list[Feed]:
    """Draw smooth random images, one feed a shape."""
    feeds: list[Feed] = []
    for shape in shapes:
        rows = np.linspace(0, 3, shape[-2])[:, None]
        columns = np.linspace(0, 3, shape[-1])[None, :]
        phase = rng.uniform(0, 6, (*shape[:-2], 1, 1))
        noise = rng.normal(0, 0.5, shape)
        feeds.append({name: (np.sin(rows + columns + phase) + noise).astype(np.float32)})
    return feeds


# --------------------------------------------------------------------------------------------
# Trained models
# --------------------------------------------------------------------------------------------


def seed(name: str) -> Reference | None:
    """Take a trained model and MNIST test images out of ``shared``; None without ``shared``."""
    source, data = SHARED / "models" / "seeds" / f"{name}.onnx", SHARED / "data" / "mnist.npz"
    if not (source.is_file() and data.is_file()):
        return None
    with np.load(data) as mnist:
        pixels = mnist["x_test"][:11, None].astype(np.float32)
    image = (pixels / np.float32(255) - np.float32(0.1307)) / np.float32(0.3081)
    # The committed model is the trained file itself, byte for byte.
    content = source.read_bytes()
    feeds = [{"image": image[:8]}, {"image": image[8:]}]
    return Reference(onnx.load_from_string(content), feeds, {"model.onnx": content})


TRAINED = "Apache-2.0, trained for this project; images: MNIST test set (CC BY-SA 3.0)"


@recipe("trained CNN", "Conv, MaxPool, Gemm; 0.75 % error on MNIST", TRAINED)
def lenet5(rng: np.random.Generator) -> Reference | None:
    """Copy LeNet-5."""
    return seed("lenet5")


@recipe("trained MLP", "three Gemm layers, prunable; 1.43 % error on MNIST", TRAINED)
def lenet300(rng: np.random.Generator) -> Reference | None:
    """Copy LeNet-300-100."""
    return seed("lenet300")


@recipe(
    "trained ResNet",
    "batch norms unfused, 707 of 1808 gammas exactly zero, residual adds; 0.59 % error on MNIST",
    TRAINED,
)
def resnet_gamma_mnist(rng: np.random.Generator) -> Reference | None:
    """Copy a bottleneck ResNet trained with an L1 penalty on its gammas."""
    return seed("resnet_gamma_mnist")


# --------------------------------------------------------------------------------------------
# Convolutional networks
# --------------------------------------------------------------------------------------------


@recipe(
    "raw CNN export",
    "Conv + BatchNormalization with and without bias, zero gammas, Identity, Dropout, no-op Pad, "
    "Reshape, Cast, Transpose, Mul by 1, Add 0; a batch norm after a shared Conv, one after a Relu",
)
def convnet(rng: np.random.Generator) -> Reference:
    """Build a plain CNN as an exporter writes it that keeps everything training needs."""
    b = Builder(rng, 15)
    x = b.op("Identity", "image")
    x = b.op("Pad", x, b.ints(*[0] * 8), b.const(0.0), mode="constant")

    def block(x: str, cin: int, cout: int, **options: Any) -> str:
        with b.within("conv"):
            x = b.conv(x, cin, cout, bias=options.get("bias", False))
            x = b.norm(x, cout, dead=options.get("dead", 0), training_mode=0)
        return b.op("Relu", x)

    with b.within("stem"):
        x = block(x, 3, 16)
        x = b.op("Mul", x, b.const(1.0))
        x = b.op("Reshape", x, b.ints(0, 0, 0, 0))
    with b.within("stage1"):
        x = block(x, 16, 24, bias=True, dead=5)
        x = b.op("Cast", x, to=FLOAT)
        x = block(x, 24, 24)
        x = b.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
        x = b.op("Dropout", x, b.const(0.1), b.const(False, np.bool_))
    with b.within("stage2"):
        x = b.op("Transpose", x, perm=[0, 1, 2, 3])
        x = block(x, 24, 32, dead=4)
        x = b.op("Add", x, b.weight("zero", np.zeros((1, 32, 1, 1))))
        with b.within("affine"):  # an affine layer after the convolution, written out
            x = b.conv(x, 32, 32, bias=True)
            x = b.op("Mul", x, b.weight("scale", rng.uniform(0.8, 1.2, (32, 1, 1))))
            x = b.op("Add", x, b.weight("shift", b.normal(1, 32, 1, 1, std=0.1)))
            x = b.op("Relu", x)
        x = b.op("Sub", x, b.const(0.0))
        x = b.op("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
    with b.within("stage3"):
        x = b.op("Div", x, b.const([1.0]))
        with b.within("preact"):  # nothing to fold these two batch norms into
            x = b.op("Relu", b.norm(x, 32))
        with b.within("shared"):
            y = b.conv(x, 32, 40, bias=True)
            x = b.op("Add", b.norm(y, 40), b.op("Mul", y, b.const(0.25)))
        x = b.op("Relu", x)
        x = b.op("Transpose", x, perm=[0, 2, 3, 1])
        x = b.op("Transpose", x, perm=[0, 3, 1, 2])
        with b.within("out"):  # linear up to the Relu: Conv, Identity, BatchNormalization
            x = b.op("Relu", b.norm(b.op("Identity", b.conv(x, 40, 40)), 40))
    with b.within("head"):
        x = b.op("Flatten", b.op("GlobalAveragePool", x), axis=1)
        x = b.op("Dropout", x, b.const(0.5))
        with b.within("fc1"):
            x = b.op("Relu", b.norm(b.linear(x, 40, 64), 64))
        x = b.op("Reshape", x, b.op("Shape", x))
        with b.within("fc2"):
            x = b.linear(x, 64, 10)
        x = b.op("Identity", x, out="logits")
        b.op("Softmax", b.op("Identity", x), axis=1, out="probabilities")
    model = b.model(
        [info("image", FLOAT, ["N", 3, 32, 32])],
        [info("logits", FLOAT, ["N", 10]), info("probabilities", FLOAT, ["N", 10])],
        ir=8,
    )
    return Reference(model, images(rng, (2, 3, 32, 32), (3, 3, 32, 32)))


@recipe(
    "mobile CNN",
    "depthwise and grouped Conv, channel shuffle, squeeze-and-excite, hard swish and Relu6 written "
    "out, residual Add, Concat, global pooling",
)
def separable_cnn(rng: np.random.Generator) -> Reference:
    """Build a MobileNet-like classifier."""
    b = Builder(rng, 14)

    def swish(x: str) -> str:
        gate = b.op("Clip", b.op("Add", x, b.const(3.0)), b.const(0.0), b.const(6.0))
        return b.op("Div", b.op("Mul", x, gate), b.const(6.0))

    def squeeze(x: str, channels: int) -> str:
        with b.within("se"):
            y = b.op("GlobalAveragePool", x)
            y = b.op("Relu", b.conv(y, channels, channels // 4, 1, bias=True))
            y = b.conv(y, channels // 4, channels, 1, bias=True)
            return b.op("Mul", x, b.op("HardSigmoid", y, alpha=1 / 6, beta=0.5))

    def inverted(x: str, name: str, cin: int, cout: int, stride: int, excite: bool) -> str:
        wide = 3 * cin
        with b.within(name):
            with b.within("expand"):
                y = swish(b.norm(b.conv(x, cin, wide, 1), wide))
            with b.within("depthwise"):
                y = b.conv(y, wide, wide, 3, group=wide, strides=[stride, stride])
                y = b.op("Clip", b.norm(y, wide), b.const(0.0), b.const(6.0))
            if excite:
                y = squeeze(y, wide)
            with b.within("project"):
                y = b.norm(b.conv(y, wide, cout, 1), cout)
            return b.op("Add", x, y) if stride == 1 and cin == cout else y

    def shuffle(x: str, channels: int, groups: int) -> str:
        n, height, width = (b.dim(x, axis) for axis in (0, 2, 3))
        y = b.op("Reshape", x, b.stack(n, groups, channels // groups, height, width))
        y = b.op("Transpose", y, perm=[0, 2, 1, 3, 4])
        return b.op("Reshape", y, b.stack(n, -1, height, width))

    with b.within("stem"):
        x = swish(b.norm(b.conv("image", 3, 16, strides=[2, 2]), 16))
    x = inverted(x, "block1", 16, 16, 1, excite=True)
    x = inverted(x, "block2", 16, 24, 2, excite=False)
    x = inverted(x, "block3", 24, 24, 1, excite=False)
    x = inverted(x, "block4", 24, 24, 1, excite=True)
    with b.within("grouped"):
        x = b.op("Relu", b.norm(b.conv(x, 24, 48, 1, group=4), 48))
        x = shuffle(x, 48, 4)
        x = b.op("Relu", b.norm(b.conv(x, 48, 48, 3, group=4), 48))
    with b.within("branches"):
        with b.within("a"):
            left = b.op("Relu", b.norm(b.conv(x, 48, 16, 1), 16))
        with b.within("b"):
            middle = b.op("Relu", b.norm(b.conv(x, 48, 16, 3, dilations=[2, 2]), 16))
        with b.within("c"):
            right = b.op("AveragePool", x, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1)
            right = b.op("LeakyRelu", b.norm(b.conv(right, 48, 16, 1), 16), alpha=0.1)
        x = b.op("Concat", left, middle, right, axis=1)
    x = inverted(x, "block5", 48, 48, 1, excite=True)
    with b.within("head"):
        x = swish(b.norm(b.conv(x, 48, 96, 1), 96))
        x = b.op("GlobalAveragePool", x)
        x = b.op("Reshape", x, b.stack(b.dim(x, 0), -1))
        x = b.linear(x, 96, 12)
        b.op("Identity", x, out="logits")
    model = b.model(
        [info("image", FLOAT, ["N", 3, 32, 32])], [info("logits", FLOAT, ["N", 12])], ir=7
    )
    return Reference(model, images(rng, (2, 3, 32, 32), (3, 3, 32, 32)))


@recipe(
    "segmentation",
    "ConvTranspose + BatchNormalization, Resize nearest and linear by scales and by sizes, Concat "
    "skips, Pad and Slice that cancel, symbolic N, H and W (multiples of 4)",
)
def unet(rng: np.random.Generator) -> Reference:
    """Build a three-level U-Net with two kinds of upsampling."""
    b = Builder(rng, 13)

    def double(x: str, name: str, cin: int, cout: int) -> str:
        with b.within(name):
            for k, channels in enumerate((cin, cout)):
                with b.within(f"conv{k}"):
                    x = b.norm(b.conv(x, channels, cout), cout, dead=k)
                    x = b.op("Relu", x)
        return x

    def spatial(x: str) -> str:
        return b.crop(b.op("Shape", x), 2, 4)

    d1 = double("image", "down1", 3, 8)
    d2 = double(b.op("MaxPool", d1, kernel_shape=[2, 2], strides=[2, 2]), "down2", 8, 16)
    x = b.op("MaxPool", d2, kernel_shape=[2, 2], strides=[2, 2])
    x = double(x, "bottom", 16, 32)
    with b.within("up2"):
        weight = b.weight("weight", b.he(32, 16, 2, 2, fan_in=32))
        bias = b.weight("bias", b.normal(16, std=0.1))
        y = b.op("ConvTranspose", x, weight, bias, kernel_shape=[2, 2], strides=[2, 2])
        y = b.op("Relu", b.norm(y, 16))
        # The exporter's way to match odd sizes; here every pad is zero.
        gap = b.op("Sub", spatial(d2), spatial(y))
        pads = b.op("Concat", b.ints(0, 0, 0, 0, 0, 0), gap, axis=0)
        y = b.op("Pad", y, pads, b.const(0.0), mode="constant")
    x = double(b.op("Concat", d2, y, axis=1), "merge2", 32, 16)
    with b.within("up1"):
        y = b.op(
            "Resize",
            x,
            "",
            b.const([1.0, 1.0, 2.0, 2.0]),
            mode="nearest",
            nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        )
        y = b.conv(y, 16, 8, 1, bias=True)
        y = b.op("Pad", y, b.ints(0, 0, 1, 1, 0, 0, 1, 1), b.const(0.0), mode="reflect")
        y = b.op("Slice", y, b.ints(1, 1), b.ints(-1, -1), b.ints(2, 3), b.ints(1, 1))
    x = double(b.op("Concat", d1, y, axis=1), "merge1", 16, 8)
    with b.within("mask"):
        b.op("Sigmoid", b.conv(x, 8, 1, 1, bias=True), out="mask")
    with b.within("aux"):
        y = b.conv(d2, 16, 4, 3, bias=True)
        head = b.crop(b.op("Shape", y), 0, 2)
        sizes = b.op("Concat", head, b.op("Cast", spatial("image"), to=INT64), axis=0)
        y = b.op(
            "Resize",
            y,
            "",
            "",
            sizes,
            mode="linear",
            coordinate_transformation_mode="pytorch_half_pixel",
        )
        y = b.op("Softmax", y, axis=1)
        b.op("Slice", y, b.ints(0), b.ints(INT_MAX), b.ints(1), b.ints(1), out="classes")
    model = b.model(
        [info("image", FLOAT, ["N", 3, "H", "W"])],
        [info("mask", FLOAT, ["N", 1, "H", "W"]), info("classes", FLOAT, ["N", 4, "H", "W"])],
        ir=7,
    )
    return Reference(model, images(rng, (1, 3, 32, 48), (2, 3, 20, 28)))


@recipe(
    "half precision",
    "float16 Conv + BatchNormalization + Relu + MatMul, Cast pairs, a float32 Softmax island",
)
def half_precision(rng: np.random.Generator) -> Reference:
    """Build a small ResNet converted to float16."""
    b = Builder(rng, 15, np.float16)
    x = b.op("Cast", "image", to=HALF)
    with b.within("stem"):
        x = b.op("Relu", b.norm(b.conv(x, 3, 16), 16))
    for k in range(3):
        with b.within(f"block{k}"):
            y = x
            for j in range(2):
                with b.within(f"conv{j}"):
                    y = b.norm(b.conv(y, 16, 16, bias=j == 1), 16, dead=2 * j)
                    y = b.op("Relu", y) if j == 0 else y
            # What a float16 converter leaves behind around a blocked operator.
            y = b.op("Cast", b.op("Cast", y, to=FLOAT), to=HALF)
            x = b.op("Relu", b.op("Add", x, b.op("Mul", y, b.const(0.5))))
        x = b.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    with b.within("head"):
        x = b.op("Flatten", x, axis=1)
        with b.within("fc1"):
            x = b.op("Relu", b.dense(x, 256, 48))
        x = b.op("Mul", x, b.const(1.0))
        with b.within("fc2"):
            x = b.op("Identity", b.dense(x, 48, 10), out="logits")
        x = b.op("Softmax", b.op("Cast", x, to=FLOAT), axis=-1, out="probabilities")
    model = b.model(
        [info("image", HALF, ["N", 3, 32, 32])],
        [info("logits", HALF, ["N", 10]), info("probabilities", FLOAT, ["N", 10])],
        ir=8,
    )
    feeds = images(rng, (2, 3, 32, 32), (3, 3, 32, 32))
    return Reference(model, [{k: v.astype(np.float16) for k, v in f.items()} for f in feeds])


@recipe(
    "old export",
    "IR 3, opset 7: initializers listed as inputs, Pad, Slice and Clip with attributes, Dropout, "
    "Reshape, Gemm with a broadcast bias, LRN, Sum",
)
def legacy_opset7(rng: np.random.Generator) -> Reference:
    """Build a CNN as exporters wrote it in 2018."""
    b = Builder(rng, 7)
    x = b.op("Pad", "image", mode="constant", pads=[0, 0, 2, 2, 0, 0, 2, 2], value=0.0)
    x = b.conv(x, 1, 16, 5, bias=True, pads=[0] * 4, strides=[2, 2])
    x = b.op("Relu", b.norm(x, 16))
    x = b.op("LRN", x, size=5, alpha=1e-4, beta=0.75, bias=1.0)
    for _ in range(2):
        a = b.op("Relu", b.norm(b.conv(x, 16, 16, bias=True), 16))
        c = b.op("Elu", b.norm(b.conv(x, 16, 16, 1, bias=True), 16), alpha=1.0)
        x = b.op("Sum", x, a, c)
        x = b.op("Clip", x, min=-4.0, max=6.0)
        x = b.op("Dropout", x, ratio=0.25)
        x = b.op("Identity", x)
    x = b.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = b.op("Pad", x, pads=[0] * 8)
    first = b.op("Slice", x, axes=[1], starts=[0], ends=[8])
    last = b.op("Slice", x, axes=[1], starts=[8], ends=[16])
    x = b.op("Concat", last, first, axis=1)
    x = b.op("Squeeze", b.op("Unsqueeze", x, axes=[2]), axes=[2])
    x = b.op("Reshape", x, b.weight("shape", [-1, 784], np.int64))
    x = b.op("Dropout", x, ratio=0.5)
    weight = b.weight("fc1.weight", b.he(784, 48, fan_in=784))
    x = b.op("Relu", b.op("Gemm", x, weight, b.weight("fc1.bias", b.normal(1, 48, std=0.1))))
    weight = b.weight("fc2.weight", b.he(10, 48))
    x = b.op("Gemm", x, weight, b.weight("fc2.bias", b.normal(1, std=0.1)), transB=1, beta=0.5)
    x = b.op("Add", x, b.weight("prior", b.normal(10, std=0.1)))
    b.op("Softmax", x, axis=1, out="probabilities")
    inputs = [info("image", FLOAT, ["N", 1, 28, 28])]
    inputs += [info(w.name, w.data_type, list(w.dims)) for w in b.weights]
    model = b.model(inputs, [info("probabilities", FLOAT, ["N", 10])], ir=3)
    return Reference(model, images(rng, (2, 1, 28, 28), (3, 1, 28, 28)))


@recipe(
    "external data",
    "Conv over time, dilated, residual; weights in weights.bin beside the model, two initializers "
    "at the same offset, small ones inside the model",
)
def external_data(rng: np.random.Generator) -> Reference:
    """Build a temporal convolution network whose weights lie in a file of their own."""
    b = Builder(rng, 17)

    def conv1d(x: str, cin: int, cout: int, kernel: int, dilation: int) -> str:
        weight = b.weight("weight", b.he(cout, cin, kernel))
        bias = b.weight("bias", b.normal(cout, std=0.1))
        pad = (kernel - 1) // 2 * dilation
        return b.op("Conv", x, weight, bias, dilations=[dilation], pads=[pad, pad])

    with b.within("stem"):
        x = b.op("Relu", b.norm(conv1d("features", 20, 32, 5, 1), 32))
    for k in range(5):
        with b.within(f"block{k}"):
            with b.within("a"):
                y = b.op("Relu", b.norm(conv1d(x, 32, 32, 3, 2**k), 32))
            with b.within("b"):
                y = b.norm(conv1d(y, 32, 32, 1, 1), 32)
            y = b.op("Identity", y)
            x = b.op("Relu", b.op("Add", x, b.op("Mul", y, b.weight("gain", [0.5]))))
    with b.within("pool"):
        mean = b.op("ReduceMean", x, axes=[2], keepdims=0)
        top = b.op("ReduceMax", x, axes=[2], keepdims=0)
        x = b.op("Concat", mean, top, axis=1)
    twins = b.he(64, 64)
    with b.within("head"):  # two layers that share the bytes of their weights, not their names
        for _ in range(2):
            y = b.op("MatMul", x, b.weight("weight", twins))
            x = b.op("Relu", b.op("Add", y, b.weight("bias", b.normal(64, std=0.1))))
        x = b.linear(x, 64, 12)
        b.op("LogSoftmax", x, axis=-1, out="scores")
    model = b.model(
        [info("features", FLOAT, ["N", 20, "T"])], [info("scores", FLOAT, ["N", 12])], ir=9
    )
    blob = bytearray()
    places: dict[bytes, int] = {}
    for tensor in model.graph.initializer:
        content = tensor.raw_data
        if len(content) < 64:
            continue
        if content not in places:
            blob += bytes(-len(blob) % 64)
            places[content] = len(blob)
            blob += content
        entries = {"location": "weights.bin", "offset": places[content], "length": len(content)}
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=str(value))
        tensor.data_location = TensorProto.EXTERNAL
        tensor.ClearField("raw_data")
    feeds = [
        {"features": rng.normal(0, 1, shape).astype(np.float32)}
        for shape in ((2, 20, 50), (3, 20, 37))
    ]
    return Reference(model, feeds, {"weights.bin": bytes(blob)})


# --------------------------------------------------------------------------------------------
# Sequence models
# --------------------------------------------------------------------------------------------


@recipe(
    "transformer",
    "opset 11 TorchScript style: LayerNorm and Gelu written out, weights behind Transpose, shape "
    "arithmetic of symbolic batch and sequence, int64 ids into an embedding, attention mask",
)
def transformer_encoder(rng: np.random.Generator) -> Reference:
    """Build two encoder layers of a small BERT."""
    b = Builder(rng, 11)
    width, heads, inner, vocabulary, longest = 48, 4, 128, 128, 40

    def layer_norm(x: str) -> str:
        with b.within("LayerNorm"):
            mean = b.op("ReduceMean", x, axes=[-1], keepdims=1)
            centred = b.op("Sub", x, mean)
            square = b.op("Pow", centred, b.const(2.0))
            variance = b.op("ReduceMean", square, axes=[-1], keepdims=1)
            deviation = b.op("Sqrt", b.op("Add", variance, b.const(1e-12)))
            x = b.op("Div", centred, deviation)
            x = b.op("Mul", x, b.weight("weight", rng.uniform(0.8, 1.2, width)))
            return b.op("Add", x, b.weight("bias", b.normal(width, std=0.1)))

    def linear(x: str, name: str, cin: int, cout: int) -> str:
        with b.within(name):
            weight = b.weight("weight", b.normal(cout, cin, std=cin**-0.5))
            product = b.op("MatMul", x, b.op("Transpose", weight, perm=[1, 0]))
            return b.op("Add", product, b.weight("bias", b.normal(cout, std=0.1)))

    def gelu(x: str) -> str:
        y = b.op("Erf", b.op("Div", x, b.const(np.sqrt(2.0))))
        y = b.op("Mul", x, b.op("Add", y, b.const(1.0)))
        return b.op("Mul", y, b.const(0.5))

    def split(x: str, perm: Sequence[int]) -> str:
        shape = b.stack(b.dim(x, 0), b.dim(x, 1), heads, width // heads)
        return b.op("Transpose", b.op("Reshape", x, shape), perm=list(perm))

    with b.within("mask"):
        keep = b.op("Cast", b.unsqueeze(b.unsqueeze("attention_mask", 1), 2), to=FLOAT)
        hidden = b.op("Mul", b.op("Sub", b.const(1.0), keep), b.const(-10000.0))
    with b.within("embeddings"):
        length = b.unsqueeze(b.dim("input_ids", 1), 0)
        buffer = b.weight("position_ids", np.arange(longest)[None], np.int64)
        places = b.op("Slice", buffer, b.ints(0), length, b.ints(1), b.ints(1))
        words = b.weight("word_embeddings.weight", b.normal(vocabulary, width))
        positions = b.weight("position_embeddings.weight", b.normal(longest, width, std=0.3))
        kinds = b.weight("token_type_embeddings.weight", b.normal(2, width, std=0.3))
        one_kind = b.op(
            "ConstantOfShape",
            b.op("Shape", "input_ids"),
            value=helper.make_tensor("value", INT64, [1], [0]),
        )
        x = b.op("Gather", words, "input_ids")
        x = b.op("Add", x, b.op("Gather", kinds, one_kind))
        x = b.op("Add", x, b.op("Gather", positions, places))
        x = layer_norm(x)
    for k in range(2):
        with b.within(f"layer.{k}"):
            with b.within("attention"):
                query = split(linear(x, "query", width, width), [0, 2, 1, 3])
                key = split(linear(x, "key", width, width), [0, 2, 3, 1])
                value = split(linear(x, "value", width, width), [0, 2, 1, 3])
                scores = b.op("MatMul", query, key)
                scores = b.op("Div", scores, b.const(np.sqrt(width / heads)))
                scores = b.op("Softmax", b.op("Add", scores, hidden), axis=3)
                y = b.op("Transpose", b.op("MatMul", scores, value), perm=[0, 2, 1, 3])
                y = b.op("Reshape", y, b.stack(b.dim(y, 0), b.dim(y, 1), width))
                x = layer_norm(b.op("Add", linear(y, "output", width, width), x))
            with b.within("feed_forward"):
                y = gelu(linear(x, "intermediate", width, inner))
                x = layer_norm(b.op("Add", linear(y, "output", inner, width), x))
    b.op("Identity", x, out="last_hidden_state")
    with b.within("pooler"):
        first = b.op("Gather", x, b.const(0, np.int64), axis=1)
        b.op("Tanh", b.linear(first, width, width), out="pooler_output")
    model = b.model(
        [
            info("input_ids", INT64, ["batch", "sequence"]),
            info("attention_mask", INT64, ["batch", "sequence"]),
        ],
        [
            info("last_hidden_state", FLOAT, ["batch", "sequence", width]),
            info("pooler_output", FLOAT, ["batch", width]),
        ],
        ir=6,
    )
    feeds: list[Feed] = []
    for batch, sequence in ((2, 11), (3, 7)):
        ids = rng.integers(0, vocabulary, (batch, sequence))
        lengths = sequence - np.arange(batch)[:, None]
        mask = (np.arange(sequence)[None] < lengths).astype(np.int64)
        feeds.append({"input_ids": ids, "attention_mask": mask})
    return Reference(model, feeds)


@recipe(
    "recurrent",
    "bidirectional LSTM after an embedding Gather, gates reordered by Slice and Concat of weights, "
    "initial states by ConstantOfShape and Expand, a GRU, lengths, symbolic sequence, ArgMax tags",
)
def lstm_tagger(rng: np.random.Generator) -> Reference:
    """Build a part-of-speech tagger of two bidirectional LSTMs and a GRU."""
    b = Builder(rng, 14)
    width, state, tags, vocabulary = 24, 20, 9, 150

    def gates(weight: str) -> str:
        # PyTorch orders the gates i, f, g, o; ONNX wants i, o, f, g.
        places = ((0, 1), (3, 4), (1, 3))
        parts = [b.crop(weight, lo * state, hi * state) for lo, hi in places]
        return b.op("Concat", *parts, axis=0)

    def both(parts: Sequence[str]) -> str:
        return b.op("Concat", *[b.unsqueeze(part, 0) for part in parts], axis=0)

    def lstm(x: str, name: str, cin: int) -> str:
        with b.within(name):
            w, r, biases = [], [], []
            for side in ("", "_reverse"):
                w.append(gates(b.weight(f"weight_ih{side}", b.normal(4 * state, cin, std=0.4))))
                r.append(gates(b.weight(f"weight_hh{side}", b.normal(4 * state, state, std=0.4))))
                ih = gates(b.weight(f"bias_ih{side}", b.normal(4 * state, std=0.1)))
                hh = gates(b.weight(f"bias_hh{side}", b.normal(4 * state, std=0.1)))
                biases.append(b.op("Concat", ih, hh, axis=0))
            start = b.op("ConstantOfShape", b.stack(2, b.dim(x, 1), state))
            outs = b.ops(
                "LSTM",
                x,
                both(w),
                both(r),
                both(biases),
                "lengths",
                start,
                b.op("Identity", start),
                outs=3,
                direction="bidirectional",
                hidden_size=state,
            )
            y = b.op("Transpose", outs[0], perm=[0, 2, 1, 3])
            return b.op("Reshape", y, b.ints(0, 0, -1))

    words = b.weight("embedding.weight", b.normal(vocabulary, width))
    x = b.op("Gather", words, "ids")
    x = b.op("Transpose", x, perm=[1, 0, 2])
    x = lstm(x, "lstm0", width)
    x = b.op("Dropout", x, b.const(0.3))
    x = lstm(x, "lstm1", 2 * state)
    with b.within("gru"):
        w = b.weight("W", b.normal(1, 3 * state, 2 * state, std=0.4))
        r = b.weight("R", b.normal(1, 3 * state, state, std=0.4))
        bias = b.weight("B", b.normal(1, 6 * state, std=0.1))
        shape = b.stack(1, b.dim(x, 1), state)
        start = b.op("Expand", b.weight("h0", b.normal(1, 1, state, std=0.1)), shape)
        outs = b.ops(
            "GRU", x, w, r, bias, "", start, outs=2, hidden_size=state, linear_before_reset=1
        )
        x = b.op("Squeeze", outs[0], b.ints(1))
        b.op("Squeeze", outs[1], b.ints(0), out="summary")
    x = b.op("Transpose", x, perm=[1, 0, 2])
    with b.within("tag"):
        x = b.op("Mul", b.dense(x, state, tags), b.const(2.5))
        x = b.op("LogSoftmax", x, axis=-1, out="scores")
        b.op("ArgMax", x, axis=-1, keepdims=0, out="tags")
    model = b.model(
        [info("ids", INT64, ["batch", "sequence"]), info("lengths", INT32, ["batch"])],
        [
            info("scores", FLOAT, ["batch", "sequence", tags]),
            info("tags", INT64, ["batch", "sequence"]),
            info("summary", FLOAT, ["batch", state]),
        ],
        ir=7,
    )
    feeds: list[Feed] = []
    for batch, sequence in ((3, 9), (2, 14)):
        ids = rng.integers(0, vocabulary, (batch, sequence))
        lengths = (sequence - 2 * np.arange(batch)).astype(np.int32)
        feeds.append({"ids": ids, "lengths": lengths})
    return Reference(model, feeds)


# --------------------------------------------------------------------------------------------
# Graphs inside graphs
# --------------------------------------------------------------------------------------------


@recipe(
    "control flow",
    "If, nested If, If on a constant, Loop (counted, fixed, while), Scan; bodies read outer values "
    "and hold initializers, Identity and foldable nodes",
)
def control_flow(rng: np.random.Generator) -> Reference:
    """Build a recurrent toy that takes every way through If, Loop and Scan."""
    b = Builder(rng, 16)
    width = 16

    def yes_no(outer: Builder, condition: str, yes: Builder, no: Builder, *ends: str) -> str:
        branches: dict[str, Any] = {}
        for key, branch, end in zip(("then", "else"), (yes, no), ends, strict=True):
            branches[f"{key}_branch"] = branch.graph(f"{key}_graph", [], [info(end, FLOAT, None)])
        return outer.op("If", condition, **branches)

    def state(name: str) -> ValueInfoProto:
        return info(name, FLOAT, None)

    with b.within("stem"):
        h = b.op("Relu", b.linear("x", width, width))
    recurrent = b.weight("recurrent", b.normal(width, width, std=0.25))
    row = b.weight("row", b.normal(width, std=0.3))

    with b.within("gate"):
        yes, no = b.body(), b.body()
        y = yes.op("MatMul", yes.op("Identity", h), recurrent)
        offset = yes.op("Mul", yes.const([0.5]), yes.op("Sqrt", yes.const([4.0])))
        y = yes.op("Identity", yes.op("Add", y, offset))
        positive = no.op("Greater", no.op("ReduceMean", "x", keepdims=0), no.const(0.0))
        shared = no.op("Identity", h)
        with b.within("inner"):
            deep_yes, deep_no = no.body(), no.body()
            p = deep_yes.op("Add", deep_yes.op("Tanh", shared), row)
            q = deep_no.op("Mul", deep_no.op("Sigmoid", deep_no.op("Identity", shared)), h)
            q = deep_no.op("Mul", q, deep_no.weight("gain", [2.0]))
        n = no.op("Neg", no.op("Neg", yes_no(no, positive, deep_yes, deep_no, p, q)))
        h1 = yes_no(b, "flag", yes, no, y, n)

    with b.within("fixed"):  # a condition that folds to true
        condition = b.op("Not", b.const(False, np.bool_))
        yes, no = b.body(), b.body()
        y = yes.op("LeakyRelu", yes.op("Mul", h1, yes.const(1.0)), alpha=0.1)
        n = no.op("Exp", h1)
        h2 = yes_no(b, condition, yes, no, y, n)

    with b.within("counted"):
        body = b.body()
        go = body.op("Identity", "counted_go")
        step = body.op("Add", body.op("Cast", "counted_i", to=FLOAT), body.const(1.0))
        y = body.op("MatMul", "counted_h", recurrent)
        y = body.op("Add", y, body.weight("bias", b.normal(width, std=0.1)))
        y = body.op("Tanh", body.op("Add", y, body.op("Div", h2, step)))
        parity = body.op("Mod", "counted_i", body.const(2, np.int64))
        even = body.op("Equal", parity, body.const(0, np.int64))
        yes, no = body.body(), body.body()
        y = yes_no(
            body,
            even,
            yes,
            no,
            yes.op("Mul", yes.op("Identity", y), step),
            no.op("Sub", y, no.op("Add", no.const([0.25]), no.const([0.25]))),
        )
        trace = body.op("Identity", y)
        graph = body.graph(
            "counted_body",
            [info("counted_i", INT64, []), info("counted_go", BOOL, []), state("counted_h")],
            [info(go, BOOL, []), state(y), state(trace)],
        )
        always = b.const(True, np.bool_)
        h3, traces = b.ops("Loop", "steps", always, h2, outs=2, body=graph)
        b.op("Identity", traces, out="trace")

    with b.within("thrice"):  # a fixed count, an invariant product in the body
        body = b.body()
        go = body.op("Identity", "thrice_go")
        invariant = body.op("MatMul", recurrent, recurrent)
        y = body.op("MatMul", "thrice_h", body.op("Transpose", invariant, perm=[1, 0]))
        y = body.op("Softsign", body.op("Add", y, h))
        y = body.op("Reshape", y, body.op("Shape", "thrice_h"))
        graph = body.graph(
            "thrice_body",
            [info("thrice_i", INT64, []), info("thrice_go", BOOL, []), state("thrice_h")],
            [info(go, BOOL, []), state(y)],
        )
        h4 = b.op("Loop", b.const(3, np.int64), "", h3, body=graph)

    with b.within("while"):
        body = b.body()
        count = body.op("Add", "while_n", body.const(2, np.int64))
        go = body.op("Less", count, body.op("Add", "steps", body.const(4, np.int64)))
        y = body.op("Mul", "while_h", body.op("Add", body.const(0.5), body.const(0.25)))
        graph = body.graph(
            "while_body",
            [
                info("while_i", INT64, []),
                info("while_go", BOOL, []),
                info("while_n", INT64, []),
                state("while_h"),
            ],
            [info(go, BOOL, []), info(count, INT64, []), state(y)],
        )
        go = b.op("Less", b.const(0, np.int64), "steps")
        counted, h5 = b.ops("Loop", "", go, b.const(0, np.int64), h4, outs=2, body=graph)
        b.op("Identity", counted, out="count")

    with b.within("scan"):
        body = b.body()
        reset = body.op("Sigmoid", body.op("MatMul", "scan_x", recurrent))
        y = body.op("MatMul", "scan_h", body.weight("weight", b.normal(width, width, std=0.25)))
        y = body.op("Tanh", body.op("Add", body.op("Mul", y, reset), "scan_x"))
        y = body.op("Dropout", y)
        last = body.op("Identity", y)
        seen = body.op("ReduceMean", y, axes=[1], keepdims=0)
        graph = body.graph(
            "scan_body",
            [info("scan_h", FLOAT, ["N", width]), info("scan_x", FLOAT, ["N", width])],
            [info(last, FLOAT, ["N", width]), info(seen, FLOAT, ["N"])],
        )
        final, means = b.ops(
            "Scan",
            h5,
            traces,
            outs=2,
            body=graph,
            num_scan_inputs=1,
            scan_input_directions=[1],
        )
        b.op("Identity", means, out="means")
    with b.within("head"):
        b.linear(final, width, 4)
        b.nodes[-1].output[0] = "logits"
    model = b.model(
        [info("x", FLOAT, ["N", width]), info("flag", BOOL, []), info("steps", INT64, [])],
        [
            info("logits", FLOAT, ["N", 4]),
            info("trace", FLOAT, ["steps", "N", width]),
            info("means", FLOAT, ["steps", "N"]),
            info("count", INT64, []),
        ],
        ir=8,
    )
    feeds: list[Feed] = []
    for size, flag, steps, shift in ((4, True, 3, 0.0), (2, False, 5, 0.5), (3, False, 1, -0.5)):
        x = rng.normal(shift, 1.0, (size, width)).astype(np.float32)
        x += np.float32(shift) - x.mean()
        feeds.append({"x": x, "flag": np.array(flag), "steps": np.array(steps, np.int64)})
    return Reference(model, feeds)


@recipe(
    "local functions",
    "functions that call functions, attribute references with and without defaults, an If inside a "
    "function, two outputs, an unused function, Identity and foldable nodes in bodies",
)
def local_functions(rng: np.random.Generator) -> Reference:
    """Build an MLP trunk whose layers are model-local functions."""
    opset, layers, acts = 17, "nn", "nn.act"
    imports = [helper.make_opsetid(d, v) for d, v in (("", opset), (layers, 1), (acts, 1))]
    functions: list[FunctionProto] = []

    def define(
        domain: str,
        name: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        nodes: Sequence[NodeProto],
        attributes: Sequence[str] = (),
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        protos = [helper.make_attribute(k, v) for k, v in (defaults or {}).items()]
        functions.append(
            helper.make_function(
                domain, name, inputs, outputs, nodes, imports, list(attributes), protos
            )
        )

    def node(
        kind: str,
        inputs: str,
        outputs: str,
        domain: str = "",
        refs: Sequence[str] = (),
        **attrs: Any,
    ) -> NodeProto:
        made = helper.make_node(kind, inputs.split(), outputs.split(), domain=domain, **attrs)
        kinds = {"f": AttributeProto.FLOAT, "i": AttributeProto.INT, "I": AttributeProto.INTS}
        for ref in refs:  # "name:kind=reference"
            target, source = ref.split("=")
            name, kind_letter = target.split(":")
            made.attribute.add(name=name, type=kinds[kind_letter], ref_attr_name=source)
        return made

    define(
        acts,
        "Gelu",
        ["x"],
        ["y"],
        [
            node("Constant", "", "two", value_float=2.0),
            node("Sqrt", "two", "root"),
            node("Div", "x root", "scaled"),
            node("Erf", "scaled", "erf"),
            node("Constant", "", "one", value_float=1.0),
            node("Add", "erf one", "shifted"),
            node("Mul", "x shifted", "doubled"),
            node("Div", "doubled two", "half"),
            node("Identity", "half", "y"),
        ],
    )
    define(
        acts,
        "Leaky",
        ["x"],
        ["y"],
        [
            node("LeakyRelu", "x", "t", refs=["alpha:f=slope"]),
            node("Constant", "", "scale", refs=["value_float:f=gain"]),
            node("Mul", "t scale", "y"),
        ],
        defaults={"slope": 0.1, "gain": 1.0},
    )
    define(
        layers,
        "LayerNorm",
        ["x", "scale", "bias"],
        ["y"],
        [
            node("Identity", "x", "same"),
            node("ReduceMean", "same", "mean", refs=["axes:I=axes"], keepdims=1),
            node("Sub", "same mean", "centred"),
            node("Mul", "centred centred", "square"),
            node("ReduceMean", "square", "variance", refs=["axes:I=axes"], keepdims=1),
            node("Constant", "", "eps", refs=["value_float:f=epsilon"]),
            node("Add", "variance eps", "safe"),
            node("Sqrt", "safe", "deviation"),
            node("Div", "centred deviation", "unit"),
            node("Mul", "unit scale", "scaled"),
            node("Add", "scaled bias", "y"),
        ],
        attributes=["epsilon"],
        defaults={"axes": [-1]},
    )
    define(
        layers,
        "Linear",
        ["x", "w", "b"],
        ["y"],
        [node("MatMul", "x w", "p"), node("Add", "p b", "s"), node("Identity", "s", "y")],
    )
    define(
        layers,
        "Block",
        ["x", "scale", "bias", "w1", "b1", "w2", "b2"],
        ["y"],
        [
            node("LayerNorm", "x scale bias", "n", layers, ["epsilon:f=epsilon"]),
            node("Linear", "n w1 b1", "h", layers),
            node("Gelu", "h", "g", acts),
            node("Linear", "g w2 b2", "o", layers),
            node("Leaky", "o", "a", acts, ["gain:f=gain"]),
            node("Dropout", "a", "d"),
            node("Add", "x d", "y"),
        ],
        attributes=["epsilon"],
        defaults={"gain": 0.5},
    )
    define(
        layers,
        "Halves",
        ["x"],
        ["left", "right"],
        [
            node("Shape", "x", "shape"),
            node("Constant", "", "last", value_ints=[-1]),
            node("Gather", "shape last", "size", axis=0),
            node("Constant", "", "two", value_ints=[2]),
            node("Div", "size two", "middle"),
            node("Constant", "", "zero", value_ints=[0]),
            node("Slice", "x zero middle last", "left"),
            node("Slice", "x middle size last", "right"),
        ],
    )
    then_graph = helper.make_graph(
        [node("Sigmoid", "right", "s"), node("Mul", "left s", "gated")],
        "gated",
        [],
        [info("gated", FLOAT, None)],
    )
    else_graph = helper.make_graph(
        [node("Identity", "right", "same"), node("Add", "left same", "summed")],
        "summed",
        [],
        [info("summed", FLOAT, None)],
    )
    define(
        layers,
        "Gate",
        ["x", "flag"],
        ["y"],
        [
            node("Halves", "x", "left right", layers),
            node("If", "flag", "y", then_branch=then_graph, else_branch=else_graph),
        ],
    )
    define(layers, "Unused", ["x"], ["y"], [node("Gelu", "x", "t", acts), node("Neg", "t", "y")])

    b = Builder(rng, opset)
    width, inner = 32, 64

    def dense(x: str, cin: int, cout: int) -> str:
        weight = b.weight("weight", b.normal(cin, cout, std=cin**-0.5))
        bias = b.weight("bias", b.normal(cout, std=0.1))
        return b.op("Linear", x, weight, bias, domain=layers)

    with b.within("stem"):
        x = b.op("Gelu", dense("x", 20, width), domain=acts)
    for k in range(4):
        with b.within(f"block{k}"):
            parameters = [
                b.weight("norm.weight", rng.uniform(0.8, 1.2, width)),
                b.weight("norm.bias", b.normal(width, std=0.1)),
                b.weight("fc1.weight", b.normal(width, inner, std=width**-0.5)),
                b.weight("fc1.bias", b.normal(inner, std=0.1)),
                b.weight("fc2.weight", b.normal(inner, width, std=inner**-0.5)),
                b.weight("fc2.bias", b.normal(width, std=0.1)),
            ]
            attrs: dict[str, Any] = {"gain": 0.25} if k % 2 else {}
            x = b.op("Block", x, *parameters, domain=layers, epsilon=10.0 ** (-5 - k), **attrs)
            x = b.op("Identity", x)
    with b.within("gate"):
        left = b.op("Gate", x, b.const(True, np.bool_), domain=layers)
        limit = b.op("Greater", b.op("Size", "x"), b.const(50, np.int64))
        right = b.op("Gate", x, limit, domain=layers)
        halves = b.ops("Halves", x, outs=2, domain=layers)
        x = b.op("Concat", left, right, halves[1], axis=-1)
    with b.within("norm"):
        scale = b.weight("weight", np.ones(48))
        bias = b.weight("bias", np.zeros(48))
        x = b.op("LayerNorm", x, scale, bias, domain=layers, epsilon=1e-5, axes=[1])
    with b.within("head"):
        x = dense(b.op("Leaky", x, domain=acts, slope=0.2), 48, 10)
        b.op("Softmax", x, axis=-1, out="probabilities")
    model = b.model(
        [info("x", FLOAT, ["N", 20])],
        [info("probabilities", FLOAT, ["N", 10])],
        ir=9,
        domains={layers: 1, acts: 1},
        functions=functions,
    )
    feeds = [{"x": rng.normal(0, 1, (n, 20)).astype(np.float32)} for n in (4, 2)]
    return Reference(model, feeds)


# --------------------------------------------------------------------------------------------
# Quantized, redundant, shape-bound and classical models
# --------------------------------------------------------------------------------------------


@recipe(
    "quantized",
    "QuantizeLinear and DequantizeLinear, int8 per-channel weights (7 bits used, so that no CPU "
    "saturates), int32 biases, a residual Add, one DequantizeLinear with two consumers",
)
def quantized_mlp(rng: np.random.Generator) -> Reference:
    """Build a residual MLP quantized statically."""
    b = Builder(rng, 13)
    sample = rng.normal(0, 1, (64, 96)).astype(np.float32)
    feeds: list[Feed] = [{"x": rng.normal(0, 1, (n, 96)).astype(np.float32)} for n in (4, 5)]
    b_zero = b.weight("zero_point", 0, np.int8)

    def step(values: Array) -> float:
        return float(np.abs(values).max()) / 127

    def qdq(x: str, scale: float) -> str:
        name = b.weight("scale", scale)
        return b.op("DequantizeLinear", b.op("QuantizeLinear", x, name, b_zero), name, b_zero)

    def layer(x: str, values: Array, cin: int, cout: int, relu: bool) -> tuple[str, Array]:
        weight, bias = b.he(cout, cin), b.normal(cout, std=0.1)
        scale = np.abs(weight).max(1) / np.float32(63)
        stored = np.rint(weight / scale[:, None]).astype(np.int8)
        zeros = b.weight("weight_zero_point", np.zeros(cout), np.int8)
        w = b.op(
            "DequantizeLinear",
            b.weight("weight_quantized", stored, np.int8),
            b.weight("weight_scale", scale),
            zeros,
            axis=0,
        )
        bias_scale = scale * np.float32(step(values))
        bias_stored = np.rint(bias / bias_scale)
        bias_name = b.op(
            "DequantizeLinear",
            b.weight("bias_quantized", bias_stored, np.int32),
            b.weight("bias_scale", bias_scale),
            b.weight("bias_zero_point", np.zeros(cout), np.int32),
            axis=0,
        )
        y = b.op("Gemm", x, w, bias_name, transB=1)
        result = values @ weight.T + bias
        if relu:
            y, result = b.op("Relu", y), np.maximum(result, 0)
        return qdq(y, step(result)), result

    x, values = qdq("x", step(sample)), sample
    with b.within("fc1"):
        x, values = layer(x, values, 96, 96, True)
    for k in range(3):
        with b.within(f"block{k}"):
            with b.within("a"):
                y, inner = layer(x, values, 96, 128, True)
            with b.within("b"):
                y, inner = layer(y, inner, 128, 96, False)
            values = values + inner
            x = qdq(b.op("Add", x, y), step(values))
            x, values = qdq(b.op("Relu", x), step(np.maximum(values, 0))), np.maximum(values, 0)
    with b.within("matmul"):  # a weight-only layer, quantized along the last axis
        weight = b.normal(96, 48, std=96**-0.5)
        scale = np.abs(weight).max(0) / np.float32(63)
        w = b.op(
            "DequantizeLinear",
            b.weight("weight_quantized", np.rint(weight / scale), np.int8),
            b.weight("weight_scale", scale),
            b.weight("weight_zero_point", np.zeros(48), np.int8),
            axis=1,
        )
        y = b.op("MatMul", b.op("Reshape", x, b.ints(-1, 96)), w)
        x = b.op("Add", y, b.weight("bias", b.normal(48, std=0.1)))
        x = b.op("Relu", x)
    with b.within("fc2"):
        x = b.linear(x, 48, 10)
        b.op("Identity", x, out="logits")
    model = b.model([info("x", FLOAT, ["N", 96])], [info("logits", FLOAT, ["N", 10])], ir=7)
    return Reference(model, feeds)


@recipe(
    "redundant",
    "repeated subexpressions, equal initializers and near misses (-0.0, other type, other shape), "
    "Constant nodes, dead nodes, unused initializers and input, outputs that alias, metadata, "
    "doc strings, quantization annotations, IR 10",
)
def duplicates(rng: np.random.Generator) -> Reference:
    """Build two equal towers and everything a cleaner may remove or must keep."""
    b = Builder(rng, 18)
    shared = (b.he(32, 24), b.normal(32, std=0.1), b.he(32, 32), b.normal(32, std=0.1))

    def tower(name: str) -> str:
        with b.within(name):
            w1, b1 = b.weight("fc1.weight", shared[0]), b.weight("fc1.bias", shared[1])
            x = b.op("Relu", b.op("Gemm", "x", w1, b1, transB=1))
            w2 = b.const(shared[2])
            b2 = b.weight("fc2.bias", shared[3])
            x = b.op("Tanh", b.op("Gemm", x, w2, b2, transB=1))
            size = b.stack(b.dim("x", 0), 4, 8)
            return b.op("Reshape", x, size)

    left, right = tower("left"), tower("right")
    total = b.op("Add", left, right)
    again = b.op("Add", right, left)  # the same sum, operands swapped
    mixed = b.op("Mul", total, again)
    soft = [b.op("Softmax", mixed), b.op("Softmax", mixed, axis=-1), b.op("Softmax", mixed, axis=1)]
    mixed = b.op("Sum", *soft)

    with b.within("near_misses"):  # equal at a glance, yet not to be merged
        plus, minus = b.weight("plus", [0.0]), b.weight("minus", [-0.0])
        ends = [b.op("Reciprocal", zero) for zero in (plus, minus)]
        signs = [b.op("Clip", end, b.const(-1.0), b.const(1.0)) for end in ends]
        signed = b.op("Mul", b.op("Add", mixed, signs[0]), b.op("Sub", mixed, signs[1]))
        steps = np.linspace(0.25, 2.0, 8, dtype=np.float32)
        row = b.weight("row", steps.reshape(1, 8))
        column = b.weight("column", steps[:4].reshape(4, 1))
        flat = b.weight("flat", steps)
        bits = b.weight("bits", steps.view(np.int32), np.int32)
        signed = b.op("Add", b.op("Add", signed, row), column)
        signed = b.op("Add", signed, b.op("Mul", flat, b.const(0.125)))
        exponent = b.op("Div", bits, b.const(2**23, np.int32))
        exponent = b.op("Mul", b.op("Cast", exponent, to=FLOAT), b.const(1 / 64))
        signed = b.op("Add", signed, exponent)

    with b.within("dead"):
        dead = b.op("Exp", b.op("MatMul", total, b.weight("weight", b.normal(8, 8))))
        b.ops("Split", dead, outs=2, axis=2, num_outputs=2)
        b.op("Shape", left)
    b.weight("forgotten", b.normal(16, 16))
    b.weight("forgotten_twin", numpy_helper.to_array(b.weights[-1]))

    with b.within("half_used"):
        top, where = b.ops("TopK", signed, b.ints(3), outs=2, axis=-1)
        parts = b.ops("Split", top, b.ints(1, 2), outs=2, axis=-1)
        spread = b.op("Sub", parts[0], b.op("ReduceMean", parts[1], b.ints(-1), keepdims=1))
        b.op("Squeeze", spread, b.op("Identity", b.ints(-1)), out="spread")
        b.op("Cast", where, to=INT32, out="order")

    for k in range(3):  # the same chain three times, its constants made anew
        with b.within(f"chain{k}"):
            y = b.op("Add", signed, b.const(0.5))
            y = b.op("Pow", y, b.const(2.0))
            y = b.op("Sqrt", b.op("Add", y, b.const(1e-3)))
            mixed = b.op("Add", mixed, y)
    b.op("ReduceSum", mixed, b.ints(1, 2), keepdims=0, out="score")
    b.op("Identity", "score", out="score_copy")
    b.op("Identity", "x", out="x_copy")
    table = b.weight("version", [3, 1, 4], np.int64)
    b.op("Identity", table, out="table")
    model = b.model(
        [info("x", FLOAT, ["N", 24]), info("unused", FLOAT, ["N", 2])],
        [
            info("score", FLOAT, ["N"]),
            info("score_copy", FLOAT, ["N"]),
            info("x_copy", FLOAT, ["N", 24]),
            info("spread", FLOAT, ["N", 4]),
            info("order", INT32, ["N", 4, 3]),
            info("table", INT64, [3]),
            info(table, INT64, [3]),
        ],
        ir=10,
    )
    model.doc_string = "Redundant on purpose."
    model.domain, model.model_version = "org.onnxslim.models", 7
    helper.set_model_props(model, {"author": "onnxslim", "task": "keep me"})
    graph = model.graph
    graph.doc_string = "Two equal towers."
    graph.metadata_props.add(key="graph.note", value="kept")
    graph.input[0].doc_string = "Twenty-four features."
    graph.input[0].metadata_props.add(key="unit", value="none")
    graph.node[0].doc_string = "The first layer."
    graph.node[0].metadata_props.add(key="source", value="tower.py:12")
    graph.initializer[0].doc_string = "A weight that occurs twice."
    graph.initializer[0].metadata_props.add(key="checksum", value="0")
    graph.value_info.append(info(left, FLOAT, ["N", 4, 8]))
    graph.value_info[0].doc_string = "The left tower."
    for tensor, scale in ((left, 1 / 127), (total, 2 / 127)):
        parameters = []
        for suffix, value in (("scale", np.float32(scale)), ("zero_point", np.int8(0))):
            parameters.append(f"{tensor}_{suffix}")
            graph.initializer.append(numpy_helper.from_array(np.asarray(value), parameters[-1]))
        note = graph.quantization_annotation.add(tensor_name=tensor)
        note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value=parameters[0])
        note.quant_parameter_tensor_names.add(key="ZERO_POINT_TENSOR", value=parameters[1])
    feeds = [
        {
            "x": rng.normal(0, 1, (n, 24)).astype(np.float32),
            "unused": np.zeros((n, 2), np.float32),
        }
        for n in (3, 5)
    ]
    return Reference(model, feeds)


@recipe(
    "detector",
    "hundreds of nodes of shape arithmetic: anchors by Range, meshgrid by Expand with Where, "
    "ConstantOfShape, Cast, Slice, Resize by sizes, heads that share weights, box decoding, TopK",
)
def shape_heavy(rng: np.random.Generator) -> Reference:
    """Build a three-level anchor detector as PyTorch exports it."""
    b = Builder(rng, 14)
    anchors, classes = 3, 4

    def expand(x: str, shape: str) -> str:
        # torch's expand keeps a size given as -1; the exporter writes that out.
        ones = b.op(
            "ConstantOfShape",
            b.op("Shape", shape),
            value=helper.make_tensor("value", INT64, [1], [1]),
        )
        unknown = b.op("Equal", shape, b.op("Mul", ones, b.const(-1, np.int64)))
        return b.op("Expand", x, b.op("Where", unknown, ones, shape))

    def stage(x: str, name: str, cin: int, cout: int) -> str:
        with b.within(name):
            x = b.conv(x, cin, cout, strides=[2, 2])
            return b.op("Relu", b.norm(x, cout))

    x = stage("image", "stem", 3, 8)
    x = stage(x, "c2", 8, 16)
    levels = [stage(x, "c3", 16, 24)]
    levels.append(stage(levels[-1], "c4", 24, 24))
    levels.append(stage(levels[-1], "c5", 24, 24))

    with b.within("fpn"):
        for k in (1, 0):
            with b.within(f"lateral{k}"):
                fine, coarse = levels[k], levels[k + 1]
                size = b.op("Cast", b.crop(b.op("Shape", fine), 2, 4), to=INT64)
                size = b.op("Concat", b.crop(b.op("Shape", coarse), 0, 2), size, axis=0)
                up = b.op(
                    "Resize",
                    coarse,
                    "",
                    "",
                    size,
                    mode="nearest",
                    nearest_mode="floor",
                    coordinate_transformation_mode="asymmetric",
                )
                levels[k] = b.op("Add", b.conv(fine, 24, 24, 1, bias=True), up)

    with b.within("head"):
        tower = [b.weight("tower.weight", b.he(24, 24, 3, 3)), b.weight("tower.bias", np.zeros(24))]
        heads = {
            part: (
                per,
                b.weight(f"{part}.weight", b.normal(anchors * per, 24, 1, 1, std=0.1)),
                b.weight(f"{part}.bias", b.normal(anchors * per, std=0.1)),
            )
            for part, per in (("scores", classes), ("deltas", 4))
        }
    found: dict[str, list[str]] = {"scores": [], "deltas": [], "anchors": []}
    for k, level in enumerate(levels):
        with b.within(f"level{k}"):
            y = b.op("Relu", b.op("Conv", level, *tower, pads=[1] * 4))
            for part, (per, weight, bias) in heads.items():
                z = b.op("Conv", y, weight, bias)
                n, height, width = (b.dim(z, axis) for axis in (0, 2, 3))
                z = b.op("Reshape", z, b.stack(n, anchors, per, height, width))
                z = b.op("Transpose", z, perm=[0, 3, 4, 1, 2])
                found[part].append(b.op("Reshape", z, b.stack(n, -1, per)))
            with b.within("anchors"):
                axes = []
                for axis in (3, 2):
                    stride = b.op("Div", b.dim("image", axis), b.dim(level, axis))
                    count = b.op("Cast", b.dim(level, axis), to=FLOAT)
                    run = b.op("Range", b.const(0.0), count, b.const(1.0))
                    centre = b.op("Add", run, b.const(0.5))
                    axes.append(b.op("Mul", centre, b.op("Cast", stride, to=FLOAT)))
                grid = b.stack(b.dim(level, 2), b.dim(level, 3))
                across = expand(b.op("Reshape", axes[0], b.ints(1, -1)), grid)
                down = expand(b.op("Reshape", axes[1], b.ints(-1, 1)), grid)
                flat = [b.op("Reshape", side, b.ints(-1)) for side in (across, down)]
                shifts = [b.unsqueeze(flat[i], 1) for i in (0, 1, 0, 1)]
                shift = b.op("Reshape", b.op("Concat", *shifts, axis=1), b.ints(-1, 1, 4))
                side = 8.0 * 2**k * np.array([[1.0, 1.0], [1.4, 0.7], [0.7, 1.4]])
                cell = b.weight("cell", np.concatenate([-side / 2, side / 2], 1)[None])
                found["anchors"].append(b.op("Reshape", b.op("Add", shift, cell), b.ints(-1, 4)))
    with b.within("decode"):
        scores = b.op("Sigmoid", b.op("Concat", *found["scores"], axis=1), out="scores")
        deltas = b.op("Concat", *found["deltas"], axis=1)
        boxes = b.op("Concat", *found["anchors"], axis=0)
        shape = b.stack(b.dim(deltas, 0), -1, -1)
        boxes = expand(b.unsqueeze(boxes, 0), shape)

        def span(x: str, start: int, end: int) -> str:
            return b.op("Slice", x, b.ints(start), b.ints(end), b.ints(2), b.ints(1))

        low, high = span(boxes, 0, 2), span(boxes, 2, INT_MAX)
        size = b.op("Sub", high, low)
        middle = b.op("Add", low, b.op("Mul", size, b.const(0.5)))
        middle = b.op("Add", middle, b.op("Mul", span(deltas, 0, 2), size))
        growth = b.op("Clip", span(deltas, 2, INT_MAX), "", b.const(np.log(1000 / 16)))
        half = b.op("Mul", b.op("Mul", b.op("Exp", growth), size), b.const(0.5))
        boxes = b.op("Concat", b.op("Sub", middle, half), b.op("Add", middle, half), axis=2)
        frame = b.op("Cast", b.crop(b.op("Shape", "image"), 2, 4), to=FLOAT)
        frame = b.op("Gather", frame, b.ints(1, 0, 1, 0), axis=0)
        boxes = b.op("Min", b.op("Max", boxes, b.const(0.0)), frame)
        boxes = b.op("Identity", boxes, out="boxes")
        b.op("Floor", b.op("Div", boxes, b.const(4.0)))  # a debugging leftover, dead
    with b.within("select"):
        best = b.op("ReduceMax", scores, axes=[2], keepdims=0)
        limit = b.op("Concat", b.ints(12), b.unsqueeze(b.dim(best, 1), 0), axis=0)
        limit = b.op("ReduceMin", limit, axes=[0], keepdims=1)
        _, where = b.ops("TopK", best, limit, outs=["top_scores", "select/where"], axis=1)
        index = expand(b.unsqueeze(where, 2), b.stack(-1, -1, 4))
        b.op("GatherElements", boxes, index, axis=1, out="top_boxes")
    model = b.model(
        [info("image", FLOAT, ["N", 3, "H", "W"])],
        [
            info("scores", FLOAT, ["N", "anchors", classes]),
            info("boxes", FLOAT, ["N", "anchors", 4]),
            info("top_scores", FLOAT, ["N", "top"]),
            info("top_boxes", FLOAT, ["N", "top", 4]),
        ],
        ir=7,
    )
    return Reference(model, images(rng, (1, 3, 64, 48), (2, 3, 40, 72)))


@recipe(
    "classical",
    "ai.onnx.ml: Imputer, Scaler, LinearClassifier with string labels, Normalizer, ZipMap, "
    "TreeEnsembleClassifier and -Regressor; string and sequence outputs (no .pb for the sequence)",
)
def sklearn_trees(rng: np.random.Generator) -> Reference:
    """Build a vote of a linear model and a forest, as scikit-learn converters write it."""
    b = Builder(rng, 15)
    ml, features, labels = "ai.onnx.ml", 8, 3
    names = ["setosa", "versicolor", "virginica"]

    def forest(trees: int, depth: int, outputs: int, prefix: str) -> dict[str, Any]:
        nodes: dict[str, list[Any]] = defaultdict(list)
        leaves: dict[str, list[Any]] = defaultdict(list)
        for tree in range(trees):
            for at in range(2 ** (depth + 1) - 1):
                leaf = at >= 2**depth - 1
                values = {
                    "treeids": tree,
                    "nodeids": at,
                    "featureids": 0 if leaf else int(rng.integers(features)),
                    "values": 0.0 if leaf else round(float(rng.normal(0, 0.7)), 3),
                    "modes": "LEAF" if leaf else "BRANCH_LEQ",
                    "truenodeids": 0 if leaf else 2 * at + 1,
                    "falsenodeids": 0 if leaf else 2 * at + 2,
                    "hitrates": 1.0,
                    "missing_value_tracks_true": 0,
                }
                for key, value in values.items():
                    nodes[key].append(value)
                share = rng.dirichlet(np.ones(outputs)) if outputs > 1 else rng.normal(0, 1, 1)
                for target in range(outputs if leaf else 0):
                    leaves["treeids"].append(tree)
                    leaves["nodeids"].append(at)
                    leaves["ids"].append(target)
                    leaves["weights"].append(float(np.float32(share[target] / trees)))
        made = {f"nodes_{key}": value for key, value in nodes.items()}
        return made | {f"{prefix}_{key}": value for key, value in leaves.items()}

    x = b.op("Identity", "X")
    x = b.op(
        "Imputer",
        x,
        domain=ml,
        imputed_value_floats=[round(float(v), 3) for v in rng.normal(0, 0.3, features)],
        replaced_value_float=float("nan"),
    )
    x = b.op(
        "Scaler",
        x,
        domain=ml,
        offset=[float(np.float32(v)) for v in rng.normal(0, 0.2, features)],
        scale=[float(np.float32(v)) for v in rng.uniform(0.7, 1.4, features)],
    )
    x = b.op("Cast", x, to=FLOAT)
    with b.within("linear"):
        coefficients = b.normal(labels, features, std=0.5).ravel().tolist()
        _, raw = b.ops(
            "LinearClassifier",
            x,
            outs=["label", "/linear/raw"],
            domain=ml,
            classlabels_strings=names,
            coefficients=coefficients,
            intercepts=b.normal(labels, std=0.3).tolist(),
            multi_class=1,
            post_transform="NONE",
        )
        y = b.op("Normalizer", b.op("Softmax", raw, axis=1), domain=ml, norm="L1")
        linear = b.op("Cast", y, to=FLOAT)
        b.op("ZipMap", y, domain=ml, classlabels_strings=names, out="linear_map")
    with b.within("forest"):
        _, raw = b.ops(
            "TreeEnsembleClassifier",
            x,
            outs=["tree_label", "/forest/raw"],
            domain=ml,
            classlabels_int64s=list(range(labels)),
            post_transform="NONE",
            **forest(12, 4, labels, "class"),
        )
        trees = b.op("Mul", raw, b.const(1.0))
    with b.within("regressor"):
        y = b.op(
            "TreeEnsembleRegressor",
            x,
            domain=ml,
            n_targets=1,
            post_transform="NONE",
            **forest(8, 4, 1, "target"),
        )
        b.op("Add", b.op("Reshape", y, b.ints(-1, 1)), b.const([[0.25]]), out="value")
    with b.within("vote"):
        weights = b.weight("weights", [0.6, 0.4])
        picks = [b.op("ArrayFeatureExtractor", weights, b.ints(k), domain=ml) for k in (0, 1)]
        sides = [b.op("Mul", y, pick) for y, pick in zip((linear, trees), picks, strict=True)]
        vote = b.op("Sum", *sides)
        total = b.op("ReduceSum", vote, b.ints(1), keepdims=1)
        vote = b.op("Div", vote, total, out="probabilities")
        index = b.op("ArgMax", vote, axis=1, keepdims=0)
        b.op(
            "LabelEncoder",
            index,
            domain=ml,
            keys_int64s=list(range(labels)),
            values_strings=names,
            default_string="none",
            out="voted",
        )
    mapping = helper.make_map_type_proto(STRING, helper.make_tensor_type_proto(FLOAT, []))
    model = b.model(
        [info("X", FLOAT, ["N", features])],
        [
            info("label", STRING, ["N"]),
            info("probabilities", FLOAT, ["N", labels]),
            info("tree_label", INT64, ["N"]),
            info("value", FLOAT, ["N", 1]),
            info("voted", STRING, ["N"]),
            helper.make_value_info("linear_map", helper.make_sequence_type_proto(mapping)),
        ],
        ir=8,
        domains={ml: 3},
    )
    feeds: list[Feed] = []
    for size in (6, 4):
        table = rng.normal(0, 1, (size, features)).astype(np.float32)
        table[1, 2] = table[3, 5] = np.nan
        feeds.append({"X": table})
    return Reference(model, feeds)


# --------------------------------------------------------------------------------------------
# Writing and checking
# --------------------------------------------------------------------------------------------


def run(path: Path, feed: Feed, optimized: bool) -> dict[str, Any]:
    """Compute outputs by name, on one thread, with all of onnxruntime's optimizations or none."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimized else level.ORT_DISABLE_ALL
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def difference(reference: Any, other: Any) -> float:
    """Measure relative to the reference's scale; infinite if discrete values differ."""
    if not isinstance(reference, np.ndarray):
        return 0.0
    if reference.shape != other.shape or reference.dtype != other.dtype:
        return float("inf")
    if not np.issubdtype(reference.dtype, np.floating):
        return 0.0 if np.array_equal(reference, other) else float("inf")
    wide, got = reference.astype(np.float64), other.astype(np.float64)
    if not np.isfinite(wide).all():
        return float("inf")
    return float(np.abs(wide - got).max(initial=0) / max(np.abs(wide).max(initial=0), 1e-30))


def write(path: Path, message: ModelProto | TensorProto) -> None:
    """Serialize with a fixed order, so that equal messages are equal bytes."""
    path.write_bytes(message.SerializeToString(deterministic=True))


def make(name: str) -> float | None:
    """Write one model's folder; return how far onnxruntime's optimizations move its outputs."""
    reference = RECIPES[name].build(np.random.default_rng(list(name.encode())))
    if reference is None:
        return None
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    path = folder / "model.onnx"
    write(path, reference.model)
    for file, content in reference.files.items():
        (folder / file).write_bytes(content)
    onnx.checker.check_model(str(path), full_check=True)
    worst = 0.0
    for k, feed in enumerate(reference.feeds):
        data = folder / f"test_data_set_{k}"
        data.mkdir()
        outputs = run(path, feed, optimized=False)
        for i, (key, value) in enumerate(feed.items()):
            write(data / f"input_{i}.pb", numpy_helper.from_array(value, key))
        for i, (key, value) in enumerate(outputs.items()):
            if isinstance(value, np.ndarray):
                write(data / f"output_{i}.pb", numpy_helper.from_array(value, key))
        optimized = run(path, feed, optimized=True)
        worst = max([worst, *(difference(v, optimized[k]) for k, v in outputs.items())])
    half = any(v.type.tensor_type.elem_type == HALF for v in reference.model.graph.input)
    if worst > (1e-2 if half else 1e-5):
        raise RuntimeError(f"{name}: onnxruntime's optimizations move the outputs by {worst:.1e}")
    return worst


def count(graph: GraphProto | FunctionProto) -> int:
    """Count the nodes of a graph, those of inner graphs included."""
    inner = (a for node in graph.node for a in node.attribute)
    graphs = [g for a in inner for g in (a.g, *a.graphs) if g.node]
    return len(graph.node) + sum(count(g) for g in graphs)


def table() -> str:
    """Draw the README's table of the models that lie in this folder."""
    rows = [
        "| name | family | what it exercises | licence, source | IR, opset | nodes | bytes |",
        "| --- | --- | --- | --- | --- | ---: | ---: |",
    ]
    for entry in RECIPES.values():
        path = HERE / entry.name / "model.onnx"
        if not path.is_file():
            continue
        model = onnx.load(path, load_external_data=False)
        nodes = count(model.graph) + sum(count(f) for f in model.functions)
        opset = next(o.version for o in model.opset_import if not o.domain)
        size = sum(f.stat().st_size for f in path.parent.glob("*") if f.is_file())
        rows.append(
            f"| `{entry.name}` | {entry.family} | {entry.exercises} | {entry.licence} "
            f"| {model.ir_version}, {opset} | {nodes} | {size:,} |"
        )
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the named models, or all, and refresh the table of the README."""
    parser = argparse.ArgumentParser(description="Make the reference models of this folder.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(RECIPES))
    names = parser.parse_args(arguments).names
    if unknown := sorted(set(names) - set(RECIPES)):
        parser.error(f"no such model: {', '.join(unknown)}; there are {', '.join(RECIPES)}")
    for name in names or RECIPES:
        moved = make(name)
        print(f"{name:20}", "left as it is: no ../shared" if moved is None else f"{moved:.1e}")
    readme = HERE / "README.md"
    begin, end = "<!-- table: written by make.py -->\n", "<!-- end of the table -->"
    head, _, rest = readme.read_text(encoding="utf-8").partition(begin)
    tail = rest.partition(end)[2]
    readme.write_text(f"{head}{begin}\n{table()}\n\n{end}{tail}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
