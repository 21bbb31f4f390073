"""The Gaussian error linear unit, written out."""

import numpy as np
import pytest

from kit import assert_declines, assert_rewrites, holding, model
from onnxslim.ir import Model
from onnxslim.passes.fuse.compose_gelu import ComposeGelu

COMPOSE = ComposeGelu()
NUMBERS = {
    "h": 0.5, "o": 1, "r2": 1.4142135, "i2": 0.70710677, "two": 2, "three": 3, "c": 0.044715,
    "s": 0.7978846, "s2": 1.5957691,
}  # fmt: skip
TYPES = {"float": np.float32, "float16": np.float16, "double": np.float64}


def formula(body: str, kind: str = "float", opset: int = 20) -> Model:
    arrays = {name: np.array(value, TYPES[kind]) for name, value in NUMBERS.items()}
    return holding(model(f"g ({kind}[N, 3] x) => ({kind}[] y) {{ {body} }}", opset), **arrays)


ERF = "d = Div(x, r2) e = Erf(d) a = Add(e, o)"
CUBE = "q = Pow(x, three) k = Mul(q, c) p = Add(x, k)"
TANH = "m = Mul(p, s) t = Tanh(m) a = Add(o, t)"
PRODUCTS = [
    "b = Mul(x, a) y = Mul(b, h)",
    "b = Mul(h, x) y = Mul(b, a)",
    "b = Mul(a, h) y = Mul(x, b)",
]


@pytest.mark.parametrize("product", PRODUCTS)
def test_by_the_error_function(product: str) -> None:
    after = assert_rewrites(formula(f"{ERF} {product}"), COMPOSE, ["Gelu"])
    assert not next(after.nodes()).attrs


@pytest.mark.parametrize("product", PRODUCTS)
def test_by_tanh(product: str) -> None:
    after = assert_rewrites(formula(f"{CUBE} {TANH} {product}"), COMPOSE, ["Gelu"])
    assert next(after.nodes()).attrs == {"approximate": "tanh"}


def test_with_a_factor_instead_of_a_quotient() -> None:
    body = f"d = Mul(i2, x) e = Erf(d) a = Add(o, e) {PRODUCTS[0]}"
    assert_rewrites(formula(body), COMPOSE, ["Gelu"])


def test_with_a_half_of_the_error_function() -> None:
    body = "d = Div(x, r2) e = Erf(d) f = Mul(e, h) a = Add(f, h) y = Mul(x, a)"
    assert_rewrites(formula(body), COMPOSE, ["Gelu"])


@pytest.mark.parametrize(
    "polynomial",
    [
        "q = Mul(x, x) k = Mul(x, q) l = Mul(k, c) p = Add(l, x)",
        "k = Mul(c, x) l = Mul(k, x) n = Mul(l, x) p = Add(x, n)",
        "q = Mul(x, x) k = Mul(q, c) l = Add(k, o) p = Mul(x, l)",
        "q = Pow(x, two) k = Mul(q, c) l = Add(o, k) p = Mul(l, x)",
    ],
)
def test_the_polynomial_in_other_words(polynomial: str) -> None:
    assert_rewrites(formula(f"{polynomial} {TANH} {PRODUCTS[0]}"), COMPOSE, ["Gelu"])


def test_the_polynomial_with_the_scale_inside() -> None:
    body = f"""u = Mul(x, s) q = Mul(x, x) k = Mul(q, c) l = Add(k, o) m = Mul(u, l) t = Tanh(m)
        a = Add(t, o) {PRODUCTS[1]}"""
    assert_rewrites(formula(body), COMPOSE, ["Gelu"])


def test_by_a_sigmoid() -> None:
    body = f"{CUBE} m = Mul(p, s2) t = Sigmoid(m) y = Mul(x, t)"
    assert_rewrites(formula(body), COMPOSE, ["Gelu"])


def test_half_precision() -> None:
    assert_rewrites(formula(f"{ERF} {PRODUCTS[0]}", "float16"), COMPOSE, ["Gelu"])


def test_double_precision() -> None:
    before = formula(f"{CUBE} {TANH} {PRODUCTS[0]}", "double")
    assert_declines(before, COMPOSE, "no kernel for float64")


def test_before_the_operator_existed() -> None:
    assert_declines(formula(f"{ERF} {PRODUCTS[0]}", opset=19), COMPOSE, "needs opset 20")


@pytest.mark.parametrize(
    "body",
    [
        f"d = Div(x, two) e = Erf(d) a = Add(e, o) {PRODUCTS[0]}",
        f"d = Div(x, r2) e = Erf(d) a = Add(e, two) {PRODUCTS[0]}",
        f"{ERF} b = Mul(x, a) y = Mul(b, o)",
        f"q = Pow(x, two) k = Mul(q, c) p = Add(x, k) {TANH} {PRODUCTS[0]}",
        f"{CUBE} m = Mul(p, s) t = Sigmoid(m) y = Mul(x, t)",
    ],
)
def test_other_formulas(body: str) -> None:
    assert_declines(formula(body), COMPOSE)


def test_of_two_tensors() -> None:
    body = "d = Div(z, r2) e = Erf(d) a = Add(e, o) b = Mul(x, a) y = Mul(b, h)"
    before = formula(f"z = Abs(x) {body}")
    assert_declines(before, COMPOSE)


def test_an_inner_result_that_others_read() -> None:
    before = formula(f"{ERF} b = Mul(x, a) v = Mul(b, h) y = Add(v, e)")
    assert_declines(before, COMPOSE, "an inner result is read elsewhere too")


def test_a_constant_that_adds_dimensions() -> None:
    text = """g (float[3] x) => (float[A, B] y) <float r2 = {1.4142135}, float o = {1},
        float[1, 1] h = {0.5}> { d = Div(x, r2) e = Erf(d) a = Add(e, o) b = Mul(x, a)
        y = Mul(b, h) }"""
    assert_declines(model(text), COMPOSE, "more elements")


def test_a_constant_of_several_numbers_that_changes_no_shape() -> None:
    text = """g (float[2, 3] x) => (float[2, 3] y) <float r2 = {1.4142135}, float[3] o = {1, 1, 1},
        float[1, 1] h = {0.5}> { d = Div(x, r2) e = Erf(d) a = Add(e, o) b = Mul(x, a)
        y = Mul(b, h) }"""
    assert_rewrites(model(text), COMPOSE, ["Gelu"])


def test_inside_a_function() -> None:
    text = """g (float[2] x) => (float[2] y) { y = local.F(x) }
    <domain: "local", opset_import: ["" : 20]> F (x) => (y) {
        r = Constant<value_float = 1.4142135>() o = Constant<value_float = 1.0>()
        h = Constant<value_float = 0.5>()
        d = Div(x, r) e = Erf(d) a = Add(e, o) b = Mul(x, a) y = Mul(b, h)
    }"""
    assert_rewrites(model(text), COMPOSE, ["F", "Gelu"])


def test_inside_a_branch() -> None:
    text = """g (float[2] x, bool p) => (float[2] y)
    <float r = {1.4142135}, float o = {1}, float h = {0.5}> {
        y = If (p) <
            then_branch = t () => (float[2] u) {
                d = Div(x, r) e = Erf(d) a = Add(e, o) b = Mul(x, a) u = Mul(b, h) },
            else_branch = f () => (float[2] v) { v = Abs(x) }
        >
    }"""
    assert_rewrites(model(text), COMPOSE, ["If", "Gelu", "Abs"])


def test_the_name_of_the_output_stays() -> None:
    after = assert_rewrites(formula(f"{ERF} {PRODUCTS[0]}"), COMPOSE, ["Gelu"])
    assert [tensor.name for tensor in after.graph.outputs] == ["y"]
