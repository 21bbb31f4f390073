"""Products whose inputs are rounded to 8 bits while the model runs."""

from typing import Any

import numpy as np
import pytest

from kit import assert_declines, operators, optimized
from nets import net, weights
from onnxslim import Model, Pipeline
from onnxslim.passes.quantize.quantize_dynamic import QuantizeDynamic

PRODUCT = ["DynamicQuantizeLinear", "MatMulInteger", "Cast", "Mul", "Mul"]


def product(body: str, x: str = "float[3, 64]", opset: int = 17, **arrays: Any) -> Model:
    given: dict[str, Any] = {"w": weights(64, 32), **arrays}
    return net(body, x=x, rank=2, opset=opset, **given)


def quantized(before: Model, **options: Any) -> Model:
    after, report = Pipeline((QuantizeDynamic(**options),))(before)
    assert not report.warnings
    assert report.validation.relative is not None
    assert report.validation.relative < 0.03
    return after


@pytest.mark.parametrize(
    ("body", "ops"),
    [
        ("y = MatMul(x, w)", PRODUCT),
        ("y = Gemm(x, w)", PRODUCT),
        ("y = Gemm <alpha = 0.5> (x, w)", PRODUCT),
        ("y = Gemm <beta = 0.5> (x, w, b)", [*PRODUCT, "Add"]),
        ("y = Gemm <transB = 1> (x, v, b)", [*PRODUCT, "Add"]),
    ],
)
def test_multiplies_in_integers(body: str, ops: list[str]) -> None:
    after = quantized(product(body, b=weights(32, seed=1), v=weights(32, 64)))
    assert sorted(operators(after)) == sorted(ops)


def test_onnxruntime_fuses_the_result() -> None:
    after = quantized(product("y = Gemm(x, w, b)", b=weights(32, seed=1)))
    assert optimized(after) == ["DynamicQuantizeMatMul"]


def test_takes_a_quarter_of_the_bytes() -> None:
    before = product("y = MatMul(x, w)", x="float[3, 512]", w=weights(512, 256))
    assert quantized(before).size() < 0.26 * before.size()


def test_scales_by_channel() -> None:
    spread = weights(64, 32) * np.logspace(0, -4, 32)
    before = product("t = MatMul(x, w) y = Div(t, s)", w=spread, s=np.logspace(0, -4, 32))
    quantized(before)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("y = Gemm <transA = 1> (x, v)", "its input is transposed"),
        ("t = MatMul(x, w) u = MatMul(x, w) y = Add(t, u)", "others use the weights too"),
        ("y = MatMul(x, tiny)", "the file would grow"),
    ],
)
def test_declines(body: str, reason: str) -> None:
    given: dict[str, Any] = {"v": weights(3, 32), "tiny": weights(64, 1)}
    assert_declines(product(body, **given), QuantizeDynamic(), reason)


def test_declines_recurrent_layers() -> None:
    given: dict[str, Any] = {"w": weights(1, 64, 32), "r": weights(1, 64, 16)}
    body = "y, h, c = LSTM <hidden_size = 16> (x, w, r)"
    before = net(body, x="float[4, 2, 32]", rank=4, **given)
    assert_declines(before, QuantizeDynamic(), "ONNX has no LSTM of integers")


def test_declines_half_precision() -> None:
    before = product("y = MatMul(x, w)", x="float16[3, 64]")
    assert_declines(before, QuantizeDynamic(), "not float32")


def test_needs_opset_11() -> None:
    assert_declines(product("y = MatMul(x, w)", opset=10), QuantizeDynamic(), "needs opset 11")
