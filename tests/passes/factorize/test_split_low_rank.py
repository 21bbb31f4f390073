"""Weights that are products already, but for being multiplied out."""

import numpy as np
import pytest

from kit import assert_declines, assert_rewrites, holding, model, operators
from nets import net, weights
from onnxslim import Model, Pipeline, cost, parse
from onnxslim.ir import Array
from onnxslim.passes.factorize.split_low_rank import SplitLowRank


def narrow(inputs: int, outputs: int, rank: int) -> Array:
    rng = np.random.default_rng(rank)
    return rng.standard_normal((inputs, rank)) @ rng.standard_normal((rank, outputs))


def product(weight: Array, kind: str = "float[N, 128]") -> Model:
    return net("y = MatMul(x, w)", x=kind, rank=2, w=weight)


@pytest.mark.parametrize("rank", [1, 7, 32])
def test_a_product(rank: int) -> None:
    after = assert_rewrites(product(narrow(128, 512, rank)), SplitLowRank(), ["MatMul", "MatMul"])
    assert cost.parameters(after) == rank * (128 + 512)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("y = MatMul(w, x)", "float[512, 8]"),
        ("y = Gemm<transB=1, alpha=0.5, beta=2.0>(x, w, b)", "float[8, 512]"),
        ("y = Gemm<transA=1>(x, w, b)", "float[512, 8]"),
    ],
)
def test_other_products(body: str, kind: str) -> None:
    before = net(body, x=kind, rank=2, w=narrow(512, 512, 9), b=weights(512))
    after, report = Pipeline((SplitLowRank(),))(before)
    assert report.steps[0].changes == 1
    assert cost.parameters(after) < 512 * 20


def test_a_convolution() -> None:
    weight = narrow(64 * 9, 64, 16).T.reshape(64, 64, 3, 3)
    before = net("y = Conv<pads=[1, 1, 1, 1], strides=[2, 2]>(x, w, b)", x="float[1, 64, 16, 16]",
                 w=weight, b=weights(64))  # fmt: skip
    assert_rewrites(before, SplitLowRank(), ["Conv", "Conv"])


def test_rows_and_columns_of_all_sizes() -> None:
    """Small ones count as much as large ones: what they lack would be no rounding."""
    scales = 10.0 ** np.linspace(-9, 9, 128)
    weight = narrow(128, 512, 8) * scales[:, None]
    weight[0] += weights(512)[:] * 1e-12
    after = assert_rewrites(product(weight), SplitLowRank(), ["MatMul", "MatMul"])
    assert cost.parameters(after) == 9 * (128 + 512)


def test_zeros_stay_zeros() -> None:
    weight = np.zeros((128, 512))
    weight[:64, :256], weight[64:, 256:] = narrow(64, 256, 4), narrow(64, 256, 5)
    after = assert_rewrites(product(weight), SplitLowRank(), ["MatMul", "MatMul"])
    made = np.eye(128, dtype=np.float64)
    for node in after.graph.nodes:
        made = made @ node.inputs[1].values.astype(np.float64)
    assert not made[:64, 256:].any()
    assert not made[64:, :256].any()


@pytest.mark.parametrize(
    "weight",
    [
        narrow(128, 512, 100),
        narrow(128, 512, 8) + 1e-4 * weights(128, 512),
        narrow(24, 24, 1),
        np.zeros((128, 512)),
        np.full((128, 512), np.inf),
    ],
    ids=["high rank", "noise", "small", "zeros", "infinite"],
)
def test_leaves_alone(weight: Array) -> None:
    assert_declines(product(weight, f"float[N, {len(weight)}]"), SplitLowRank())


def test_leaves_halves_alone() -> None:
    before = holding(
        model("g (float16[N, 128] x) => (float16[A, B] y) { y = MatMul(x, w) }"),
        w=narrow(128, 512, 1).astype(np.float16),
    )
    assert_declines(before, SplitLowRank())


def test_the_lossless_recipe_settles() -> None:
    once, _ = Pipeline(parse("lossless"))(product(narrow(128, 512, 8)))
    assert operators(once) == ["MatMul", "MatMul"]
    _, report = Pipeline(parse("lossless"))(once)
    assert not report.changed
