"""Which layers are found, and as what matrix."""

from typing import Any

import numpy as np
import pytest

from kit import holding, model
from nets import net, weights
from onnxslim import Model, runtime, shapes
from onnxslim.base import Context
from onnxslim.observe import layer_rows
from onnxslim.passes.factorize._layers import Layer, find
from onnxslim.runtime import Session


def looked(of: Model) -> tuple[list[Layer], Context]:
    context = Context(infer=shapes.infer, run=runtime.evaluate)
    return find(of, context), context


def only(of: Model) -> Layer:
    (layer,), _ = looked(of)
    return layer


def refused(of: Model) -> str:
    found, context = looked(of)
    assert not found
    (reason,) = context.declined
    return reason


W, B = weights(12, 20), weights(20)
PRODUCTS = {
    "right": ("y = MatMul(x, w)", "float[3, 12]", W),
    "left": ("y = MatMul(w, x)", "float[20, 3]", W),
    "gemm": ("y = Gemm(x, w)", "float[3, 12]", W),
    "transB": ("y = Gemm<transB=1>(x, w)", "float[3, 20]", W),
    "transA": ("y = Gemm<transA=1>(x, w)", "float[12, 3]", W),
    "left gemm": ("y = Gemm(w, x)", "float[20, 3]", W),
    "left transA": ("y = Gemm<transA=1>(w, x)", "float[12, 3]", W),
    "left transB": ("y = Gemm<transB=1>(w, x)", "float[3, 20]", W),
    "conv": ("y = Conv<strides=[2,1],pads=[1,0,0,1]>(x, w)", "float[2,3,7,8]", weights(5, 3, 3, 2)),
}  # fmt: skip


@pytest.mark.parametrize("case", PRODUCTS)
def test_the_matrix_makes_the_outputs_of_the_rows(case: str) -> None:
    body, kind, weight = PRODUCTS[case]
    shape = [int(n) for n in kind[6:-1].split(",")]
    before = net(body, x=kind, rank=len(shape), w=weight)
    x = weights(*shape)
    y = Session(before.to_bytes(), optimize=False).run({"x": x.astype(np.float32)})["y"]
    layer = only(before)
    made = layer_rows(layer.nodes[0], x)[0] @ layer.matrix
    assert np.allclose(np.sort(made, axis=None), np.sort(y, axis=None), atol=1e-5)


def test_counts_the_rows_of_all_its_nodes() -> None:
    body = "t = MatMul(x, w) r = Relu(t) y = MatMul(r, w)"
    layer = only(net(body, x="float[3, 7, 12]", rank=3, w=weights(12, 12)))
    assert (len(layer.nodes), layer.rows, layer.macs) == (2, 42, 42 * 144)


STORED = {
    "transposed": "w = Transpose(v) y = MatMul(x, w)",
    "cast": "h = Cast<to=10>(v) g = Cast<to=1>(h) w = Transpose(g) y = MatMul(x, w)",
    "scaled": "s = Mul(v, c) w = Transpose(s) y = MatMul(x, w)",
    "dequantized": "q = DequantizeLinear(i, c, z) w = Transpose(q) y = MatMul(x, w)",
}


@pytest.mark.parametrize("case", STORED)
def test_finds_weights_that_are_computed(case: str) -> None:
    arrays: dict[str, Any] = {"v": weights(20, 12), "c": np.array(0.5)}
    arrays |= {"i": (weights(20, 12) * 90).astype(np.int8), "z": np.zeros((), np.int8)}
    used = {k: v for k, v in arrays.items() if f"({k}" in STORED[case] or f" {k}" in STORED[case]}
    assert only(net(STORED[case], x="float[3, 12]", rank=2, **used)).shape == (12, 20)


def test_finds_layers_in_bodies() -> None:
    before = holding(
        model("""g (bool c, float[3, 12] x) => (float[3, 20] y) {
            y = If(c) <then_branch = t () => (float[3, 20] a) { a = MatMul(x, w) },
                       else_branch = e () => (float[3, 20] b) { b = MatMul(x, w) }> }"""),
        w=W.astype(np.float32),
    )  # fmt: skip
    assert len(only(before).nodes) == 2


def test_declines_layers_in_functions() -> None:
    before = model("""g (float[2, 2] x) => (float[2, 2] y) { y = local.f(x) }
        <domain: "local", opset_import: ["" : 20]> f (x) => (y) {
            w = Constant<value = float[2, 2] {1, 2, 3, 4}>() y = MatMul(x, w) }""")
    assert refused(before) == "it stands in a local function"


DECLINED: dict[str, tuple[str, str, Any]] = {
    "something else reads its weights too, or in another way": (
        "t = MatMul(x, w) s = ReduceSum<keepdims=1>(w) y = Add(t, s)", "float[3, 12]", W),
    "it is a factor of a product already": (
        "t = MatMul(x, w) y = MatMul(t, v)", "float[3, 12]", W),
    "it is a convolution in groups": ("y = Conv<group=2>(x, w)", "float[1, 6, 7, 7]",
        weights(4, 3, 3, 3)),
    "its weights are no matrix": ("y = MatMul(x, w)", "float[2, 3, 12]", weights(2, 12, 4)),
    "it computes on integers": (
        "q = QuantizeLinear(x, c) d = DequantizeLinear(q, c) y = MatMul(d, w)", "float[3, 12]", W),
    "its weights are stored in fewer numbers than they are already": (
        "m = MatMul(u, v) y = MatMul(x, m)", "float[3, 12]", None),
}  # fmt: skip


@pytest.mark.parametrize("reason", DECLINED)
def test_says_why_not(reason: str) -> None:
    body, kind, weight = DECLINED[reason]
    arrays: dict[str, Any] = {} if weight is None else {"w": weight}
    arrays |= {"v": weights(20, 12)} if "v)" in body else {}
    arrays |= {"u": weights(12, 1), "v": weights(1, 20)} if "u" in body.split("(")[1] else {}
    arrays |= {"c": np.array(0.1)} if "c)" in body else {}
    assert refused(net(body, x=kind, rank=kind.count(",") + 1, **arrays)) == reason


def test_a_bias_between_makes_two_layers() -> None:
    body = "t = Gemm(x, w, b) y = MatMul(t, v)"
    found, _ = looked(net(body, x="float[3, 12]", rank=2, w=W, b=B, v=weights(20, 12)))
    assert len(found) == 2
