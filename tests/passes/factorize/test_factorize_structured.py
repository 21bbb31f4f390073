"""Weights that are structured matrices already."""

import numpy as np
import pytest

from kit import assert_declines, operators, optimized
from nets import net, weights
from onnxslim import Effect, Model, Pipeline, parse
from onnxslim.ir import Array
from onnxslim.passes.factorize._families import FAMILIES
from onnxslim.passes.factorize._kronecker import Kronecker
from onnxslim.passes.factorize.factorize_structured import FactorizeStructured
from onnxslim.pipeline import Report

RANDOM = np.random.default_rng(0)


def structured(before: Model) -> tuple[Model, Report]:
    after, report = Pipeline((FactorizeStructured(),), check="each")(before)
    assert not report.warnings, report.warnings
    return after, report


def planted(family: str, rows: int = 48, columns: int = 32, ratio: float = 1.0) -> Array:
    form = next(FAMILIES[family].within(rows, columns, int(ratio * rows * columns)))
    return form.expand((RANDOM.standard_normal(form.parameters).reshape(form.shape),))  # type: ignore[attr-defined]


def products(*sizes: tuple[int, int], terms: int = 1) -> Array:
    factors = (RANDOM.standard_normal((terms, *size)) for size in sizes)
    return np.asarray(Kronecker(tuple(factors)).matrix)


def layer(weight: Array, kind: str = "float", body: str = "y = MatMul(x, w)") -> Model:
    return net(body, x=f"{kind}[N, {len(weight)}]", rank=2, w=weight)


SQUARE = {"banded": (64, 64, 3 / 64), "block-circulant": (64, 64, 1 / 8)}


@pytest.mark.parametrize("dtype", ["float", "float16"])
@pytest.mark.parametrize("family", ["circulant", "toeplitz", "hankel", "banded", "block-circulant"])
def test_a_family_is_recognised(family: str, dtype: str) -> None:
    after, report = structured(layer(planted(family, *SQUARE.get(family, ())), dtype))
    assert report.steps[0].notes[0]["family"] == family
    assert optimized(after).count("MatMul") == 1


def test_few_products_are_recognised() -> None:
    _, report = structured(layer(products((6, 4), (8, 8), terms=2)))
    (note,) = report.steps[0].notes
    assert (note["family"], note["parameters"]) == ("Kronecker", 2 * (24 + 64))


def test_a_large_product_runs_as_its_factors() -> None:
    after, _ = structured(layer(products((16, 16), (16, 16)) / 16))
    assert operators(after) == ["Reshape", "MatMul", "MatMul", "Reshape"]


def test_weights_with_outputs_first() -> None:
    before = net("y = Gemm<transB=1>(x, w)", x="float[N, 32]", rank=2, w=products((6, 4), (8, 8)))
    _, report = structured(before)
    assert report.steps[0].notes[0]["family"] == "Kronecker"


def test_a_convolution() -> None:
    weight = planted("toeplitz", 24, 72).reshape(24, 8, 3, 3)
    after, _ = structured(net("y = Conv(x, w)", x="float[1, 8, 9, 9]", w=weight))
    assert optimized(after) == ["Conv"]


def test_noise_is_not_rounding() -> None:
    weight = planted("circulant") * (1 + 1e-5 * RANDOM.standard_normal((48, 32)))
    assert_declines(layer(weight), FactorizeStructured())


def test_other_weights_are_left_alone() -> None:
    assert_declines(layer(weights(48, 32)), FactorizeStructured())


def test_weights_that_are_not_finite_are_left_alone() -> None:
    assert_declines(layer(np.full((32, 32), np.inf)), FactorizeStructured())


def test_it_is_lossless_and_its_result_stays() -> None:
    assert FactorizeStructured.effect is Effect.ROUNDING
    after, _ = structured(layer(planted("toeplitz")))
    again, _ = Pipeline(parse("lossless"))(after)
    assert again.size() <= after.size()


SELECTIONS = {
    "identity": (np.eye(128), ["Identity"]),
    "diagonal": (np.diag(np.arange(1.0, 129)), ["Mul"]),
    "permutation": (np.eye(128)[RANDOM.permutation(128)], ["Gather"]),
    "choice": (np.eye(256)[:, :200] * 2, ["Gather", "Mul"]),
}


@pytest.mark.parametrize("kind", SELECTIONS)
def test_inputs_are_chosen_and_scaled(kind: str) -> None:
    weight, ops = SELECTIONS[kind]
    after, _ = structured(layer(weight))
    assert operators(after) == ops


@pytest.mark.parametrize(
    ("body", "kind", "ops"),
    [
        ("y = MatMul(w, x)", "float[128, N]", ["Reshape", "Mul"]),
        ("y = Gemm<transA=1, alpha=0.5>(x, w)", "float[128, 3]", ["Transpose", "Mul", "Mul"]),
    ],
)
def test_scaled_rows_and_columns(body: str, kind: str, ops: list[str]) -> None:
    weight = np.diag(np.arange(1.0, 129))
    after, _ = structured(net(body, x=kind, rank=2, w=weight))
    assert operators(after) == ops
