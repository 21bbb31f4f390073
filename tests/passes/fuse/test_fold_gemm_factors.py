"""The factors alpha and beta of a Gemm."""

import numpy as np
import pytest

from kit import assert_declines, assert_rewrites, holding, model
from onnxslim.ir import Model
from onnxslim.passes.fuse.fold_gemm_factors import FoldGemmFactors

FOLD = FoldGemmFactors()


def layer(body: str, inputs: str = "float[2, 3] x") -> Model:
    rng = np.random.default_rng(0)
    return holding(
        model(f"g ({inputs}) => (float[] y) {{ {body} }}"),
        w=rng.normal(size=(3, 4)).astype(np.float32),
        b=rng.normal(size=4).astype(np.float32),
    )


@pytest.mark.parametrize(
    ("attrs", "changes"),
    [("alpha = 0.5", 1), ("beta = 2.0", 1), ("alpha = 2.0, beta = 0.0", 2)],
)
def test_constants(attrs: str, changes: int) -> None:
    after = assert_rewrites(layer(f"y = Gemm<{attrs}>(x, w, b)"), FOLD, ["Gemm"], changes)
    assert not next(after.nodes()).attrs


def test_a_constant_on_the_left() -> None:
    before = layer("y = Gemm<alpha = 0.5, transA = 1>(w, x)", "float[3, 2] x")
    after = assert_rewrites(before, FOLD, ["Gemm"])
    assert next(after.nodes()).attrs == {"transA": 1}


def test_a_factor_of_nothing() -> None:
    assert_rewrites(layer("y = Gemm<beta = 2.0>(x, w)"), FOLD, ["Gemm"])


def test_no_constants() -> None:
    before = layer("y = Gemm<alpha = 0.5>(x, z)", "float[2, 3] x, float[3, 4] z")
    assert_declines(before, FOLD)


def test_no_factors() -> None:
    assert_declines(layer("y = Gemm<alpha = 1.0>(x, w, b)"), FOLD)


def test_a_constant_that_others_read() -> None:
    before = layer("g = Gemm<alpha = 0.5>(x, w) n = MatMul(x, w) y = Add(g, n)")
    assert_declines(before, FOLD, "others use the constant too")


def test_an_attribute_of_a_call() -> None:
    text = """g (float[2, 2] x) => (float[2, 2] y) { y = local.F<e = 0.7>(x) }
    <domain: "local", opset_import: ["" : 20]> F <e> (x) => (y) {
        w = Constant<value = float[2, 2] {1, 2, 3, 4}>() y = Gemm<alpha: float = @e>(x, w)
    }"""
    assert_declines(model(text), FOLD)
