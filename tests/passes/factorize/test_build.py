"""Subgraphs compute what they stand for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from kit import operators
from nets import net, weights
from onnxslim import Calibration, Model, Pipeline
from onnxslim.base import Effect
from onnxslim.ir import Array, Tensor, Variable
from onnxslim.passes.factorize._build import Place, stacked_kronecker
from onnxslim.passes.factorize._candidates import Candidate
from onnxslim.passes.factorize._layers import Layer
from onnxslim.passes.factorize._metric import Metric
from onnxslim.passes.factorize._pass import FactorizePass

A, B = weights(3, 4, 5), weights(3, 6, 7)
SUM = np.sum([np.kron(a, b) for a, b in zip(A, B, strict=True)], axis=0)


def parts() -> tuple[Array, Array]:
    left = A.transpose(2, 0, 1).reshape(15, 4)
    return left, B.reshape(18, 7)


@dataclass(frozen=True)
class Kronecker(FactorizePass):
    """Put a sum of Kronecker products in the place of every weight."""

    name = "kronecker"
    effect = Effect.LOSSY

    def candidates(self, layer: Layer, metric: Metric) -> list[Candidate]:
        return [Candidate("kronecker", "3", 186, 0.0, parts, lambda _: SUM, run)]


def run(place: Place, made: Sequence[Tensor]) -> Variable:
    return stacked_kronecker(place, made, (4, 6, 5, 7, 3))


def kronecker(before: Model) -> Model:
    shape = before.graph.inputs[0].shape
    assert shape is not None
    x = weights(*(int(n) for n in shape)).astype(np.float32)
    feeds = Calibration.of([{"x": x}])
    after, report = Pipeline((Kronecker(),), budget=1e-5)(before, feeds)
    assert not report.warnings, report.warnings
    assert report.validation.passed
    return after


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("y = MatMul(x, w)", "float[3, 24]"),
        ("y = MatMul(x, w)", "float[2, 3, 24]"),
        ("y = Gemm<alpha=2.0, beta=0.5>(x, w, b)", "float[3, 24]"),
        ("y = Gemm<transA=1>(x, w, b)", "float[24, 3]"),
    ],
)
def test_stacked_kronecker_products(body: str, kind: str) -> None:
    arrays: dict[str, Any] = {"b": weights(35)} if "b)" in body else {}
    after = kronecker(net(body, x=kind, rank=kind.count(",") + 1, w=SUM, **arrays))
    assert operators(after).count("MatMul") == 2
