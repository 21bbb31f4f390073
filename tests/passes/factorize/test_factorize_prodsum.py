"""Structured matrices: a weight that is computed of few numbers at load."""

from typing import Any

import numpy as np
import pytest

from kit import assert_declines, optimized
from nets import net, weights
from onnxslim import Calibration, Model, Pipeline, ir, parse, runtime
from onnxslim.ir import Array
from onnxslim.passes.factorize._families import FAMILIES
from onnxslim.passes.factorize._families._form import Linear
from onnxslim.passes.factorize._families._product import Product
from onnxslim.passes.factorize._families.block_circulant import BlockCirculant
from onnxslim.passes.factorize.factorize_prodsum import FactorizeProdsum
from onnxslim.pipeline import Report
from onnxslim.rewrite import Builder

LINEAR = [name for name, family in FAMILIES.items() if issubclass(family, Linear)]


def prodsum(before: Model, data: Calibration | None = None, **options: Any) -> tuple[Model, Report]:
    after, report = Pipeline((FactorizeProdsum(**options),), budget=1e9)(before, data)
    assert not report.warnings, report.warnings
    return after, report


def moved(report: Report) -> float:
    """Return how far the outputs moved, by the pipeline's own comparison."""
    assert report.validation.relative is not None
    return report.validation.relative


def planted(family: str, rows: int = 32, columns: int = 32, ratio: float = 0.25) -> Array:
    """Return a random matrix of a family."""
    form = next(FAMILIES[family].within(rows, columns, round(ratio * rows * columns)))
    random = np.random.default_rng(0).standard_normal((rows, columns))
    made = form.expand(form.fit(random, None))
    return np.asarray(made / np.linalg.norm(made) * np.sqrt(columns))


def layer(weight: Array, kind: str = "float") -> Model:
    return net("y = MatMul(x, w)", x=f"{kind}[N, {len(weight)}]", rank=2, w=weight)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_planted_matrix_is_found_and_folded_at_load(family: str) -> None:
    after, report = prodsum(layer(planted(family)), family=family)
    assert optimized(after) == ["MatMul"]
    assert moved(report) < (0.3 if family == "diagonal-low-rank" else 1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_halves_are_folded_too(family: str) -> None:
    before = layer(planted(family), "float16")
    after, report = prodsum(before, family=family)
    kept = sorted(set(optimized(after)))
    assert kept == sorted(set(optimized(before)))
    assert moved(report) < (0.3 if family == "diagonal-low-rank" else 1e-2)


@pytest.mark.parametrize("family", ["circulant", "toeplitz", "hankel", "block-circulant", "banded"])
def test_the_family_is_recognised(family: str) -> None:
    _, report = prodsum(layer(planted(family, ratio=0.2)), ratio=0.2)
    assert report.steps[0].notes[0]["family"] == family


def test_a_convolution() -> None:
    weight = planted("toeplitz", 72, 24).T.reshape(24, 8, 3, 3)
    before = net(
        "y = Conv<pads=[1,1,1,1]>(x, w, b)", x="float[1, 8, 9, 9]", w=weight, b=weights(24)
    )
    after, report = prodsum(before, family="toeplitz")
    assert optimized(after) == ["Conv"]
    assert moved(report) < 1e-5


def test_a_product_of_two_families() -> None:
    """A circulant times a diagonal is neither."""
    weight = planted("circulant") * np.linspace(1, 2, 32)
    _, plain = prodsum(layer(weight), family="circulant", ratio=0.125)
    after, report = prodsum(layer(weight), family="circulant*banded", ratio=0.125)
    assert optimized(after) == ["MatMul"]
    assert moved(report) < 0.05 * moved(plain)


@pytest.mark.parametrize("size", [(24, 16), (16, 24)])
def test_products_are_fitted_in_the_metric_of_the_data(size: tuple[int, int]) -> None:
    families = [FAMILIES["toeplitz"], FAMILIES["circulant"]]
    (form,) = Product.of(families, *size, 100)
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((99, size[0])) * np.exp(-4 * rng.random(size[0]))
    matrix = rng.standard_normal(size)
    plain, fitted = (
        np.linalg.norm(rows @ (matrix - form.expand(form.fit(matrix, gram))))
        for gram in (None, rows.T @ rows)
    )
    assert fitted < plain


def test_data_make_the_outputs_move_less() -> None:
    rng = np.random.default_rng(1)
    before = layer(rng.standard_normal((32, 32)))
    rows = rng.standard_normal((256, 32)) * np.exp(-4 * rng.random(32))
    data = Calibration.of([{"x": rows.astype(np.float32)}])
    (with_data, without) = (
        prodsum(before, given, family="block-circulant")[1].steps[0].notes[0]["error"]
        for given in (data, None)
    )
    assert isinstance(with_data, float)
    assert isinstance(without, float)
    assert with_data < 0.95 * without


def test_it_survives_the_lossless_recipe() -> None:
    after, _ = prodsum(layer(planted("toeplitz")), family="toeplitz")
    again, _ = Pipeline(parse("lossless"))(after)
    assert again.size() <= after.size()


def test_numbers_in_a_row_need_opset_11() -> None:
    before = net("y = MatMul(x, w)", x="float[N, 32]", rank=2, opset=10, w=planted("toeplitz"))
    assert_declines(before, FactorizeProdsum(family="toeplitz"), "need opset 11")


def test_too_few_parameters() -> None:
    before = layer(weights(32, 32))
    assert_declines(
        before, FactorizeProdsum(family="hankel", ratio=0.01), "no structured matrix has so few"
    )


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"family": "vandermonde"}, "no family is called"), ({"ratio": 0.0}, "not between 0 and 1")],
)
def test_options_that_make_no_sense_are_refused(options: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        FactorizeProdsum(**options)


@pytest.mark.parametrize(("kind", "rank"), [("float[N, 512]", 2), ("float[N, 2, 512]", 3)])
def test_large_blocks_run_as_spectra(kind: str, rank: int) -> None:
    weight = planted("block-circulant", 512, 512, 1 / 16)
    before = net("y = MatMul(x, w)", x=kind, rank=rank, w=weight)
    after, report = prodsum(before, family="block-circulant", ratio=1 / 16)
    assert optimized(after).count("MatMul") == 3
    assert moved(report) < 1e-5


@pytest.mark.parametrize("block", [2, 5, 8])
def test_spectra_of_odd_and_even_blocks(block: int) -> None:
    form = BlockCirculant(3 * block, 2 * block, block)
    values = form.fit(np.random.default_rng(0).standard_normal((form.rows, form.columns)), None)
    before = net("y = Identity(x)", x=f"float[4, {form.rows}]", rank=2)
    new = Builder(before.names, before.graph)
    parts = [new.tensor(v.astype(np.float32)) for v in (*values, *form.running())]
    result = form.run(new, before.graph.inputs[0], [0], parts)
    before.graph.nodes = [*new.nodes, *before.graph.nodes]
    ir.set_inputs(before.graph.nodes[-1], [result])
    x = np.random.default_rng(1).standard_normal((4, form.rows)).astype(np.float32)
    made = runtime.Session(before.to_bytes(), optimize=False).run({"x": x})["y"]
    np.testing.assert_allclose(made, x @ form.expand(values), atol=1e-5)
