"""Scale that moves from one layer to another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nets import net
from onnxslim import Model
from onnxslim.ir import Array, Node
from onnxslim.passes.quantize._rescaling import Rescaling
from onnxslim.runtime import Session


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def layers(of: Model) -> list[Node]:
    return [node for node in of.nodes() if node.op in ("Conv", "Gemm", "MatMul")]


def outputs(of: Model, *shape: int) -> Array:
    (values,) = Session(of.to_bytes(), optimize=False).run({"x": normal(*shape)}).values()
    return np.asarray(values)


UNEVEN = np.logspace(-2, 2, 8)


def images(body: str, **arrays: Any) -> Model:
    made = {
        "w": normal(8, 3, 3, 3) * UNEVEN.reshape(-1, 1, 1, 1),
        "b": normal(8),
        "v": normal(8, 8, 3, 3, seed=1),
        "d": normal(8, 1, 3, 3),
        "g": normal(4, 4, 3, 3),
    }
    return net(body, x="float[2, 3, 9, 9]", opset=17, **{**made, **arrays})


def products(body: str) -> Model:
    return net(
        body, x="float[2, 8]", rank=2, w=normal(8, 8) * UNEVEN, v=normal(8, 8, seed=1),
        b=normal(8), c=normal(8), s=UNEVEN, u=normal(8, 8).T * UNEVEN[:, None],
    )  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        "h = Conv(x, w, b) y = Conv(h, v)",
        "h = Conv(x, w, b) r = Relu(h) y = Conv(r, v)",
        "h = Conv(x, w) r = LeakyRelu(h) p = MaxPool<kernel_shape = [2, 2]>(r) y = Conv(p, v)",
        "h = Conv(x, w) r = Relu(h) i = Conv<group = 8>(r, d) y = Conv(i, v)",
        "h = Conv(x, w) y = Conv<group = 2>(h, g)",
    ],
)
def test_equal_ranges_keep_the_function_of_convolutions(body: str) -> None:
    model = images(body)
    before = outputs(model, 2, 3, 9, 9)
    Rescaling(model, layers(model)).equalize()
    made = np.abs(layers(model)[0].inputs[1].values).max((1, 2, 3))
    assert made.max() / made.min() < 1e3
    assert np.array_equal(outputs(model, 2, 3, 9, 9), before)


@pytest.mark.parametrize(
    "body",
    [
        "h = MatMul(x, w) y = MatMul(h, v)",
        "h = MatMul(x, w) i = Add(b, h) r = Relu(i) y = Gemm(r, v, c)",
        "h = Gemm<transB = 1>(x, u, b) y = Gemm<transB = 1>(h, v)",
    ],
)
def test_equal_ranges_keep_the_function_of_products(body: str) -> None:
    model = products(body)
    before = outputs(model, 2, 8)
    rescaling = Rescaling(model, layers(model))
    rescaling.equalize()
    assert rescaling.before
    assert np.array_equal(outputs(model, 2, 8), before)


@pytest.mark.parametrize(
    "body",
    [
        "h = LayerNormalization(x, s, b) y = MatMul(h, v)",
        "h = LayerNormalization(x, s, b) i = MatMul(h, v) j = MatMul(h, w) y = Add(i, j)",
        "h = Tanh(x) m = Mul(h, s) a = Add(m, b) y = MatMul(a, v)",
        "h = MatMul(x, w) y = MatMul(h, v)",
    ],
)
def test_smoothing_keeps_the_function(body: str) -> None:
    model = products(body)
    before = outputs(model, 2, 8)
    rescaling = Rescaling(model, layers(model))
    (seam,) = rescaling.seams
    rescaling.smooth({seam.tensor.name: UNEVEN}, 0.5)
    assert rescaling.before
    assert np.array_equal(outputs(model, 2, 8), before)


@pytest.mark.parametrize(
    "body",
    [
        "h = Conv(x, w) r = Sigmoid(h) y = Conv(r, v)",
        "h = Conv(x, w) r = Clip(h, n, o) y = Conv(r, v)",
        "h = Conv(x, w) i = Conv(h, v) a = GlobalMaxPool(h) y = Mul(a, i)",
        "h = Conv(x, w) r = Conv(h, v) y = Conv(r, v)",
    ],
)
def test_declines(body: str) -> None:
    model = images(body, n=np.array(0.0), o=np.array(6.0))
    rescaling = Rescaling(model, layers(model))
    rescaling.equalize()
    assert not rescaling.before


def test_what_is_undone_leaves_no_trace() -> None:
    model = images("h = Conv(x, w, b) y = Conv(h, v)")
    before = model.to_bytes()
    rescaling = Rescaling(model, layers(model))
    rescaling.equalize()
    rescaling.undo()
    assert model.to_bytes() == before
