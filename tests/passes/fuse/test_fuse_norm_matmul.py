"""The scale and the shift of a normalization, and the products after it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from kit import assert_declines, assert_rewrites, holding, model
from onnxslim.ir import Array, Model
from onnxslim.passes.fuse.fuse_norm_matmul import FuseNormMatmul

FUSE = FuseNormMatmul()


def numbers(*shape: int, dtype: Any = np.float32) -> Array:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(dtype)


NORM = "n = LayerNormalization(x, g, h)"


def normed(
    body: str,
    x: str = "float[N, 3, 6]",
    opset: int = 20,
    given: Mapping[str, Array] = MappingProxyType({}),
    ir: int = 9,
) -> Model:
    kind = x.split("[")[0]
    dtype = np.float16 if kind == "float16" else np.float32
    arrays: dict[str, Array] = {
        "g": numbers(6), "h": numbers(6) + 1, "w": numbers(6, 5), "v": numbers(6, 4),
        "t": numbers(5, 6), "b": numbers(5), "c": numbers(4), **given,
    }  # fmt: skip
    words = body.replace("(", " ").replace(")", " ").replace(",", " ").split()
    used = {name: values.astype(dtype) for name, values in arrays.items() if name in words}
    return holding(model(f"g ({x} x) => ({kind}[] y) {{ {body} }}", opset, ir), **used)


def assert_no_scale(after: Model) -> None:
    norm = next(node for node in after.nodes() if "Normalization" in node.op)
    assert len(norm.inputs) == 2
    assert (norm.inputs[1].values == 1).all()


def test_a_product_and_a_sum() -> None:
    before = normed(f"{NORM} p = MatMul(n, w) y = Add(p, b)")
    assert_no_scale(assert_rewrites(before, FUSE, ["LayerNormalization", "MatMul", "Add"]))


def test_a_scale_alone() -> None:
    before = normed("n = LayerNormalization(x, g) y = MatMul(n, w)")
    assert_no_scale(assert_rewrites(before, FUSE, ["LayerNormalization", "MatMul"]))


def test_a_shift_of_zeros() -> None:
    before = normed(f"{NORM} y = MatMul(n, w)", given={"h": np.zeros(6)})
    assert_no_scale(assert_rewrites(before, FUSE, ["LayerNormalization", "MatMul"]))


def test_root_mean_square() -> None:
    before = normed("n = RMSNormalization(x, g) y = MatMul(n, w)", opset=23, ir=10)
    assert_no_scale(assert_rewrites(before, FUSE, ["RMSNormalization", "MatMul"]))


def test_several_products() -> None:
    body = f"""{NORM} p = MatMul(n, w) q = Add(b, p) r = MatMul(n, v) s = Add(r, c)
        y = Concat<axis = -1>(q, s)"""
    ops = ["LayerNormalization", "MatMul", "Add", "MatMul", "Add", "Concat"]
    assert_no_scale(assert_rewrites(normed(body), FUSE, ops))


@pytest.mark.parametrize(
    "gemm",
    ["Gemm(n, w, b)", "Gemm<transB = 1>(n, t, b)", "Gemm<alpha = 0.5, beta = 2.0>(n, w, b)"],
)
def test_a_gemm(gemm: str) -> None:
    before = normed(f"{NORM} y = {gemm}", "float[N, 6]")
    assert_no_scale(assert_rewrites(before, FUSE, ["LayerNormalization", "Gemm"]))


@pytest.mark.parametrize("axis", [-1, 2])
def test_the_last_axis(axis: int) -> None:
    before = normed(f"n = LayerNormalization<axis = {axis}>(x, g) y = MatMul(n, w)")
    assert_no_scale(assert_rewrites(before, FUSE, ["LayerNormalization", "MatMul"]))


def test_more_axes() -> None:
    before = normed(
        "n = LayerNormalization<axis = 1>(x, g) y = MatMul(n, w)", given={"g": numbers(3, 6)}
    )
    assert_declines(before, FUSE, "not over the last dimension alone")


def test_half_precision() -> None:
    before = normed(f"{NORM} p = MatMul(n, w) y = Add(p, b)", "float16[N, 3, 6]")
    assert_no_scale(assert_rewrites(before, FUSE, ["LayerNormalization", "MatMul", "Add"]))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (f"{NORM} y = MatMul(n, w)", "nothing is added to a product"),
        (f"{NORM} p = MatMul(n, w) y = Relu(p)", "nothing is added to a product"),
        (f"{NORM} p = MatMul(n, v) q = Add(p, c) y = Add(q, n)", "others than products read it"),
        ("n = LayerNormalization(x, g) p = MatMul(n, w) q = Relu(g) y = Add(p, z)",
         "others use the constants too"),
        ("n = LayerNormalization(x, g) p = MatMul(n, w) r = Relu(w) y = Add(p, z)",
         "others use the constants too"),
        ("n = LayerNormalization(x, g) t0 = Transpose<perm = [0, 2, 1]>(x) y = MatMul(t0, n)",
         "it is not on the left of a product"),
        ("n = LayerNormalization(x, g) t0 = Transpose<perm = [0, 2, 1]>(x) y = MatMul(n, t0)",
         "a factor is no constant matrix"),
        ("y = LayerNormalization(x, g)", "the result is a graph output"),
        (f"{NORM} p = MatMul(n, w) y = Add(p, z)", "what is added is no vector"),
    ],
)  # fmt: skip
def test_what_is_in_the_way(body: str, reason: str) -> None:
    assert_declines(normed(body, given={"z": numbers(1)}), FUSE, reason)


def test_a_result_that_is_added() -> None:
    before = normed(
        "n = LayerNormalization(x, g) y = Gemm(x, w, n)", "float[N, 6]", given={"w": numbers(6, 6)}
    )
    assert_declines(before, FUSE, "it is not on the left of a product")


def test_ones_that_others_use() -> None:
    body = f"{NORM} k = LayerNormalization(x, g) p = MatMul(n, w) q = Add(p, b) y = Max(q, k)"
    before = normed(body, given={"g": np.ones(6), "w": numbers(6, 6), "b": numbers(6)})
    ops = ["LayerNormalization", "LayerNormalization", "MatMul", "Add", "Max"]
    assert_no_scale(assert_rewrites(before, FUSE, ops))


def test_nothing_to_move() -> None:
    before = normed("n = LayerNormalization(x, g) y = MatMul(n, w)", given={"g": np.ones(6)})
    assert_declines(before, FUSE)
