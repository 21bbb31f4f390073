"""Low rank: a layer as a narrow one and one that widens again."""

from typing import Any

import numpy as np
import pytest

from kit import operators
from nets import net, weights
from onnxslim import Calibration, Model, Pipeline
from onnxslim.ir import Array
from onnxslim.passes.factorize.factorize_low_rank import FactorizeLowRank
from onnxslim.pipeline import Report


def feeds(of: Model, count: int = 2) -> Calibration:
    (x,) = of.graph.inputs
    shape = [n if isinstance(n, int) else 16 for n in x.shape or ()]
    rng = np.random.default_rng(0)
    values = [rng.standard_normal(shape).astype(x.dtype) for _ in range(count)]
    return Calibration.of([{x.name: value} for value in values])


def low_rank(before: Model, **options: Any) -> tuple[Model, Report]:
    after, report = Pipeline((FactorizeLowRank(**options),), budget=1e9)(before, feeds(before))
    assert not report.warnings, report.warnings
    return after, report


def planted(inputs: int, outputs: int, rank: int, noise: float = 0.0) -> Array:
    rng = np.random.default_rng(rank)
    made = rng.standard_normal((inputs, rank)) @ rng.standard_normal((rank, outputs))
    return np.asarray(made + noise * rng.standard_normal(made.shape))


FORMS = {
    "right": ("y = MatMul(x, w)", "float[16, 256]", ["MatMul", "MatMul"]),
    "left": ("y = MatMul(w, x)", "float[256, 16]", ["MatMul", "MatMul"]),
    "transB": ("y = Gemm<transB=1, alpha=0.5>(x, w)", "float[16, 256]", ["MatMul", "Gemm"]),
    "transA": ("y = Gemm<transA=1>(x, w)", "float[256, 16]", ["Gemm", "Gemm"]),
    "left gemm": ("y = Gemm<transB=1>(w, x)", "float[16, 256]", ["Gemm", "Gemm"]),
}


@pytest.mark.parametrize("form", FORMS)
def test_products(form: str) -> None:
    body, kind, ops = FORMS[form]
    after, report = low_rank(net(body, x=kind, rank=2, w=planted(256, 256, 40)))
    assert operators(after) == ops
    assert report.validation.relative is not None
    assert report.validation.relative < 1e-5


def test_a_convolution() -> None:
    weight = planted(64 * 9, 64, 20).T.reshape(64, 64, 3, 3)
    body = "y = Conv<pads=[1, 1, 1, 1], strides=[2, 1]>(x, w, b)"
    before = net(body, x="float[1, 64, 20, 20]", w=weight, b=weights(64))
    after, report = low_rank(before)
    assert operators(after) == ["Conv", "Conv"]
    assert report.validation.relative is not None
    assert report.validation.relative < 1e-5
