"""Signs and reciprocals are taken over by the sum or product behind them."""

import pytest

from kit import assert_declines, assert_rewrites, model
from onnxslim.ir import Model
from onnxslim.passes.simplify.simplify_arithmetic import SimplifyArithmetic

SIMPLIFY = SimplifyArithmetic()


def formula(body: str, kind: str = "float", opset: int = 20) -> Model:
    return model(
        f"""g ({kind}[N, 2] x, {kind}[2] z) => ({kind}[N, 2] y) <{kind} one = {{1}},
        {kind} two = {{2}}, {kind}[1] minus = {{-1}}, {kind}[1, 1] wide = {{-1}}> {{ {body} }}""",
        opset,
    )


@pytest.mark.parametrize("kind", ["float", "int32"])
@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("a = Neg(z) y = Add(x, a)", "Sub"),
        ("a = Neg(z) y = Add(a, x)", "Sub"),
        ("a = Neg(z) y = Sub(x, a)", "Add"),
        ("a = Sub(z, x) y = Neg(a)", "Sub"),
        ("a = Mul(z, minus) y = Add(x, a)", "Sub"),
        ("a = Mul(minus, z) y = Sub(x, a)", "Add"),
    ],
)
def test_signs(body: str, left: str, kind: str) -> None:
    assert_rewrites(formula(body, kind), SIMPLIFY, [left])


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("a = Reciprocal(z) y = Mul(x, a)", "Div"),
        ("a = Div(one, z) y = Mul(a, x)", "Div"),
        ("a = Reciprocal(z) y = Div(x, a)", "Mul"),
        ("a = Neg(x) b = Neg(z) y = Mul(a, b)", "Mul"),
        ("a = Neg(x) b = Neg(z) y = Div(a, b)", "Div"),
    ],
)
def test_factors(body: str, left: str) -> None:
    assert_rewrites(formula(body), SIMPLIFY, [left])


@pytest.mark.parametrize(
    "body",
    ["a = Mul(z, wide) y = Add(x, a)", "a = Neg(z) y = Sub(a, x)", "a = Neg(x) y = Mul(a, z)",
     "a = Div(two, z) y = Mul(a, x)", "a = Reciprocal(z) y = Add(x, a)",
     "a = Reciprocal(x) y = Div(a, z)"],
)  # fmt: skip
def test_what_saves_nothing(body: str) -> None:
    assert_declines(formula(body), SIMPLIFY)


@pytest.mark.parametrize(
    "body", ["a = Div(one, z) y = Mul(a, x)", "a = Neg(x) b = Neg(z) y = Div(a, b)"]
)
def test_integers_are_not_divided_otherwise(body: str) -> None:
    assert_declines(formula(body, "int32"), SIMPLIFY)


def test_a_negation_that_others_read() -> None:
    before = model("""g (float[N] x, float[N] z) => (float[N] a, float[N] y) {
        a = Neg(z) y = Add(x, a) }""")
    assert_declines(before, SIMPLIFY, "no node would go")


def test_in_a_function() -> None:
    before = model("""g (float[N] x, float[N] z) => (float[N] y) { y = local.F(x, z) }
    <domain: "local", opset_import: ["" : 20]> F (p, r) => (q) { a = Neg(p) q = Add(a, r) }""")
    assert_rewrites(before, SIMPLIFY, ["F", "Sub"])
