"""Sums of Kronecker products: a layer as two products of small matrices."""

from typing import Any

import numpy as np
import pytest

from kit import assert_declines, operators, optimized
from nets import net, weights
from onnxslim import Calibration, Model, Pipeline, parse
from onnxslim.ir import Array, Constant
from onnxslim.passes.factorize._kronecker import Kronecker
from onnxslim.passes.factorize.factorize_kronecker import FactorizeKronecker
from onnxslim.pipeline import Report

FAST = ["Reshape", "MatMul", "MatMul", "Reshape"]
EXPANDED = ["Reshape", "Reshape", "Mul", "Reshape"]


def feeds(of: Model, count: int = 2) -> Calibration:
    (x,) = of.graph.inputs
    shape = [n if isinstance(n, int) else 16 for n in x.shape or ()]
    rng = np.random.default_rng(0)
    values = [rng.standard_normal(shape).astype(x.dtype) for _ in range(count)]
    return Calibration.of([{x.name: value} for value in values])


def kronecker(before: Model, **options: Any) -> tuple[Model, Report]:
    after, report = Pipeline((FactorizeKronecker(**options),), budget=1e9)(before, feeds(before))
    assert not report.warnings, report.warnings
    return after, report


def moved(report: Report) -> float:
    """Return how far the outputs moved, by the pipeline's own comparison."""
    assert report.validation.relative is not None
    return report.validation.relative


def planted(*sizes: tuple[int, int], terms: int = 1, tied: bool = False) -> Array:
    rng = np.random.default_rng(terms)
    factors = tuple(rng.standard_normal((terms, *size)) for size in sizes)
    made = Kronecker(factors[:1] * len(sizes) if tied else factors)
    return np.asarray(made.matrix / np.sqrt(len(made.matrix)))


LARGE = planted((16, 16), (16, 16))

FORMS = {
    "right": ("y = MatMul(x, w)", "float[N, 256]", FAST),
    "in three dimensions": ("y = MatMul(x, w)", "float[N, 3, 256]", FAST),
    "transposed": ("y = Gemm<transA=1>(x, w)", "float[256, 16]", ["Transpose", *FAST]),
    "scaled": (
        "y = Gemm<alpha=0.5, beta=2.0>(x, w, b)",
        "float[N, 256]",
        [*FAST, "Mul", "Mul", "Add"],
    ),
    "left": ("y = MatMul(w, x)", "float[256, 16]", [*EXPANDED, "MatMul"]),
}


@pytest.mark.parametrize("form", FORMS)
def test_products(form: str) -> None:
    body, kind, ops = FORMS[form]
    after, report = kronecker(net(body, x=kind, rank=kind.count(",") + 1, w=LARGE, b=weights(256)))
    assert operators(after) == ops
    assert moved(report) < 1e-5


def test_a_weight_with_outputs_first() -> None:
    after, report = kronecker(net("y = Gemm<transB=1>(x, w)", x="float[N, 256]", rank=2, w=LARGE.T))
    assert operators(after) == FAST
    assert moved(report) < 1e-5


def test_terms_are_stacked() -> None:
    weight = planted((16, 16), (32, 32), terms=3)
    before = net("y = MatMul(x, w)", x="float[N, 512]", rank=2, w=weight)
    after, report = kronecker(before, terms=3, first="16x16")
    assert operators(after) == ["Reshape", "MatMul", "Reshape", "MatMul", "Reshape"]
    assert moved(report) < 1e-5


def test_a_ratio_sets_the_terms() -> None:
    weight = planted((16, 32), (32, 16), terms=7)
    before = net("y = MatMul(x, w)", x="float[N, 512]", rank=2, w=weight)
    _, report = kronecker(before, ratio=7.1 / 256, first="16x32")
    (note,) = report.steps[0].notes
    assert note["parameters"] == 7 * 1024


@pytest.mark.parametrize(("factor", "count"), [((16, 16), 2), ((8, 8), 3)])
def test_a_power_stores_one_factor(factor: tuple[int, int], count: int) -> None:
    weight = planted(*[factor] * count, tied=True)
    before = net("y = MatMul(x, w)", x=f"float[N, {len(weight)}]", rank=2, w=weight)
    after, report = kronecker(before, shared=True, factors=count)
    stored = {t for node in after.nodes() for t in node.inputs if isinstance(t, Constant)}
    assert [t.shape for t in stored if t.dtype == np.float32] == [factor]
    assert moved(report) < 1e-5


SMALL = {
    "product": (FactorizeKronecker(), planted((8, 8), (8, 8))),
    "outputs first": (FactorizeKronecker(), planted((8, 8), (8, 8)).T),
    "sum": (FactorizeKronecker(terms=2), planted((8, 8), (8, 8), terms=2)),
    "power": (FactorizeKronecker(shared=True), planted((8, 6), (8, 6), tied=True)),
    "power of three": (
        FactorizeKronecker(shared=True, factors=3),
        planted(*[(4, 3)] * 3, tied=True),
    ),
}


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_small_layer_is_multiplied_out_at_load(kind: str, dtype: type) -> None:
    step, weight = SMALL[kind]
    flipped = kind == "outputs first"
    body = f"y = Gemm<transB={int(flipped)}>(x, w)"
    elem = "float" if dtype is np.float32 else "float16"
    size = weight.shape[1 if flipped else 0]
    before = net(body, x=f"{elem}[N, {size}]", rank=2, w=weight.astype(dtype))
    after, report = Pipeline((step,), budget=1e9)(before, feeds(before))
    assert optimized(after).count("Gemm") + optimized(after).count("MatMul") == 1
    assert moved(report) < (1e-5 if dtype is np.float32 else 1e-2)
    assert after.size() < before.size() / 3


def test_it_survives_the_lossless_recipe() -> None:
    before = net("y = MatMul(x, w)", x="float[N, 64]", rank=2, w=planted((8, 8), (8, 8)))
    after, _ = kronecker(before)
    again, _ = Pipeline(parse("lossless"))(after)
    assert again.size() <= after.size()


def test_a_convolution_keeps_its_kernel_in_the_second_factor() -> None:
    weight = planted((4, 4), (8 * 9, 8)).T.reshape(32, 32, 3, 3)
    before = net("y = Conv<pads=[1,1,1,1]>(x, w)", x="float[1, 32, 9, 9]", w=weight)
    after, report = kronecker(before, first="4x4")
    assert optimized(after) == ["Conv"]
    assert moved(report) < 1e-5


def test_a_prime_dimension_is_padded() -> None:
    before = net("y = MatMul(x, w)", x="float[N, 61]", rank=2, w=planted((8, 8), (8, 7))[:61])
    after, report = kronecker(before)
    (note,) = report.steps[0].notes
    assert note["parameters"] <= 8 * 7 + 8 * 8
    assert optimized(after) == ["MatMul"]


def test_data_make_the_outputs_move_less() -> None:
    rng = np.random.default_rng(1)
    before = net("y = MatMul(x, w)", x="float[N, 64]", rank=2, w=rng.standard_normal((64, 64)))
    scales = np.exp(-4 * rng.random(64))
    data = Calibration.of([{"x": (rng.standard_normal((256, 64)) * scales).astype(np.float32)}])
    errors = [
        Pipeline((FactorizeKronecker(terms=4),), budget=1e9)(before, given)[1].steps[0].notes[0]
        for given in (data, None)
    ]
    assert float(errors[0]["error"] or 0) < 0.9 * float(errors[1]["error"] or 0)


@pytest.mark.parametrize("size", [256, 512])
def test_a_weight_far_from_products_runs_as_one(size: int) -> None:
    """All shapes of as many parameters are as bad; one that runs faster is taken."""
    weight = np.random.default_rng(0).standard_normal((size, size)) / size
    after, _ = kronecker(net("y = MatMul(x, w)", x=f"float[N, {size}]", rank=2, w=weight))
    assert operators(after) == FAST


def test_equal_factors_need_powers() -> None:
    before = net("y = MatMul(x, w)", x="float[N, 625]", rank=2, w=np.zeros((625, 10)))
    assert_declines(before, FactorizeKronecker(shared=True), "625 and 10 are not both powers of 2")


def test_speed_declines_what_would_be_slower() -> None:
    before = net("y = MatMul(x, w)", x="float[N, 64]", rank=2, w=planted((8, 8), (8, 8)))
    assert_declines(
        before, FactorizeKronecker(aim="speed"), "nothing that is close enough would be faster"
    )


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"first": "28"}, "no size such as"),
        ({"terms": 2, "ratio": 0.5}, "give terms or ratio"),
        ({"shared": True, "terms": 2}, "leave out the others"),
        ({"factors": 3}, "add shared=true"),
        ({"ratio": 1.5}, "not between 0 and 1"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        FactorizeKronecker(**options)
