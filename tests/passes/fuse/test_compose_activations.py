"""Activations, written out."""

import numpy as np
import pytest

from kit import assert_declines, assert_rewrites, holding, model
from onnxslim.ir import Array, Model
from onnxslim.passes.fuse.compose_activations import ComposeActivations

COMPOSE = ComposeActivations()
TYPES = {"float": np.float32, "float16": np.float16, "double": np.float64}
NUMBERS = {"zero": 0, "one": 1, "two": 2, "three": 3, "six": 6, "sixth": 1 / 6, "half": 0.5}
RELU6 = "a = Add(x, three) c = Clip(a, zero, six)"


def formula(body: str, opset: int = 13, kind: str = "float", x: str = "[N, 5]") -> Model:
    arrays: dict[str, Array] = {name: np.array(v, TYPES[kind]) for name, v in NUMBERS.items()}
    version = max(9, 11 if opset > 22 else 0)
    return holding(model(f"g ({kind}{x} x) => ({kind}[] y) {{ {body} }}", opset, version), **arrays)


# HardSigmoid --------------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", [11, 13, 21, 22])
@pytest.mark.parametrize("tail", ["y = Div(c, six)", "y = Mul(c, sixth)"])
def test_hard_sigmoid(tail: str, opset: int) -> None:
    assert_rewrites(formula(f"{RELU6} {tail}", opset), COMPOSE, ["HardSigmoid"])


@pytest.mark.parametrize("opset", [7, 10])
def test_hard_sigmoid_with_bounds_as_attributes(opset: int) -> None:
    body = "a = Add(three, x) c = Clip<min = 0.0, max = 6.0>(a) y = Div(c, six)"
    assert_rewrites(formula(body, opset), COMPOSE, ["HardSigmoid"])


@pytest.mark.parametrize("scaled", ["Mul(x, sixth)", "Div(x, six)", "Mul(two, x)"])
def test_hard_sigmoid_with_the_scale_first(scaled: str) -> None:
    body = f"m = {scaled} a = Add(m, half) y = Clip(a, zero, one)"
    assert_rewrites(formula(body), COMPOSE, ["HardSigmoid"])


def test_hard_sigmoid_in_half_precision() -> None:
    before = formula(f"{RELU6} y = Mul(c, sixth)", kind="float16")
    assert_rewrites(before, COMPOSE, ["HardSigmoid"])


def test_hard_sigmoid_in_double_precision() -> None:
    before = formula(f"{RELU6} y = Div(c, six)", kind="double")
    assert_declines(before, COMPOSE, "no kernel for float64")


@pytest.mark.parametrize(
    "body",
    [
        f"{RELU6} y = Div(c, two)",
        "a = Add(x, three) c = Clip(a, one, six) y = Div(c, six)",
        "a = Add(x, three) c = Clip(a, zero) y = Div(c, six)",
        "a = Add(x, three) c = Clip(a, , six) y = Div(c, six)",
        "m = Mul(x, two) a = Add(m, half) y = Clip(a, zero, two)",
    ],
)
def test_a_clip_of_other_bounds(body: str) -> None:
    assert_declines(formula(body), COMPOSE, "the Clip has other bounds")


@pytest.mark.parametrize("factor", [-1, 0])
def test_a_factor_that_is_not_above_0(factor: float) -> None:
    before = holding(
        formula("m = Mul(x, f) a = Add(m, half) y = Clip(a, zero, one)"),
        f=np.array(factor, np.float32),
    )
    assert_declines(before, COMPOSE, "not above 0")


def test_several_factors() -> None:
    before = holding(
        formula("m = Mul(x, f) a = Add(m, half) y = Clip(a, zero, one)"),
        f=np.ones(5, np.float32),
    )
    assert_declines(before, COMPOSE, "several numbers")


# HardSwish ----------------------------------------------------------------------------------------

PRODUCTS = [
    "p = Mul(x, c) y = Div(p, six)",
    "p = Mul(x, c) y = Mul(sixth, p)",
    "p = Div(x, six) y = Mul(p, c)",
    "p = Div(c, six) y = Mul(p, x)",
    "p = Mul(c, sixth) y = Mul(x, p)",
]


@pytest.mark.parametrize("opset", [14, 22])
@pytest.mark.parametrize("product", PRODUCTS)
def test_hard_swish(product: str, opset: int) -> None:
    assert_rewrites(formula(f"{RELU6} {product}", opset), COMPOSE, ["HardSwish"])


@pytest.mark.parametrize("product", PRODUCTS)
def test_hard_swish_before_the_operator_existed(product: str) -> None:
    assert_rewrites(formula(f"{RELU6} {product}", 13), COMPOSE, ["HardSigmoid", "Mul"])


def test_hard_swish_of_a_hard_sigmoid() -> None:
    body = "h = HardSigmoid<alpha = 0.16666667, beta = 0.5>(x) y = Mul(h, x)"
    assert_rewrites(formula(body, 14), COMPOSE, ["HardSwish"])


@pytest.mark.parametrize("attrs", ["", "<alpha = 0.2>", "<alpha = 0.16666667, beta = 0.25>"])
def test_hard_swish_of_another_hard_sigmoid(attrs: str) -> None:
    before = formula(f"h = HardSigmoid{attrs}(x) y = Mul(h, x)", 14)
    assert_declines(before, COMPOSE, "other parameters")


def test_hard_swish_of_something_else() -> None:
    before = formula(f"{RELU6} z = Abs(x) p = Mul(z, c) y = Div(p, six)", 14)
    assert_declines(before, COMPOSE)


# Sigmoid ------------------------------------------------------------------------------------------

OVER = "n = Neg(x) e = Exp(n) a = Add({}) "


@pytest.mark.parametrize("kind", ["float", "float16", "double"])
@pytest.mark.parametrize("tail", ["y = Div(one, a)", "y = Reciprocal(a)"])
def test_sigmoid(tail: str, kind: str) -> None:
    before = formula(OVER.format("one, e") + tail, 13, kind)
    assert_rewrites(before, COMPOSE, ["Sigmoid"])


@pytest.mark.parametrize("numerator", ["x", "two"])
def test_a_product_with_sigmoid(numerator: str) -> None:
    before = formula(OVER.format("e, one") + f"y = Div({numerator}, a)", 7)
    assert_rewrites(before, COMPOSE, ["Sigmoid", "Mul"])


def test_what_is_no_sigmoid() -> None:
    assert_declines(formula(OVER.format("e, two") + "y = Div(one, a)"), COMPOSE)


def test_a_sigmoid_with_a_constant_that_adds_dimensions() -> None:
    before = holding(
        formula(OVER.format("e, ones") + "y = Div(one, a)"), ones=np.ones((1, 1, 1), np.float32)
    )
    assert_declines(before, COMPOSE, "more elements")


# Mish and Softsign --------------------------------------------------------------------------------

MISH = "s = Softplus(x) t = Tanh(s) y = Mul(x, t)"


@pytest.mark.parametrize("opset", [18, 22])
def test_mish(opset: int) -> None:
    assert_rewrites(formula(MISH, opset), COMPOSE, ["Mish"])


def test_mish_before_the_operator_existed() -> None:
    assert_declines(formula(MISH, 17), COMPOSE, "needs opset 18")


def test_softsign() -> None:
    assert_rewrites(formula("a = Abs(x) b = Add(one, a) y = Div(x, b)"), COMPOSE, ["Softsign"])


def test_softsign_with_a_constant_that_adds_dimensions() -> None:
    before = holding(
        formula("a = Abs(x) b = Add(a, ones) y = Div(x, b)"), ones=np.ones((1, 1, 1), np.float32)
    )
    assert_declines(before, COMPOSE, "more elements")


def test_softsign_of_whole_numbers() -> None:
    text = """g (int32[2] x) => (int32[2] y) <int32 one = {1}> {
        a = Abs(x) b = Add(a, one) y = Div(x, b)
    }"""
    assert_declines(model(text), COMPOSE, "no kernel for int32")


def test_a_gate_that_others_read() -> None:
    body = f"{RELU6} p = Mul(x, c) q = Div(p, six) y = Add(q, c)"
    assert_declines(formula(body), COMPOSE, "an inner result is read elsewhere too")
