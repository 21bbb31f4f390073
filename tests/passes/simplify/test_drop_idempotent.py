"""Operators that repeat or undo the one before them go."""

import pytest

from kit import assert_declines, assert_rewrites, model
from onnxslim.passes.simplify.drop_idempotent import DropIdempotent

DROP = DropIdempotent()


@pytest.mark.parametrize(
    "pair",
    ["Relu Relu", "Abs Abs", "Abs Relu", "Relu Abs", "Exp Abs", "Sigmoid Relu", "Softmax Abs",
     "Sqrt Relu", "Ceil Floor", "Floor Round", "Round Ceil", "Sign Sign", "Sign Round"],
)  # fmt: skip
def test_what_changes_nothing(pair: str) -> None:
    first, second = pair.split()
    before = model(
        f"g (float[N] x) => (float[N] y) {{ a = {first}(x) b = {second}(a) y = Neg(b) }}"
    )
    assert_rewrites(before, DROP, [first, "Neg"])


@pytest.mark.parametrize("pair", ["Tanh Relu", "Sign Abs", "Relu Round", "Sin Abs", "Ceil Sign"])
def test_what_changes_something(pair: str) -> None:
    first, second = pair.split()
    before = model(f"g (float[N] x) => (float[N] y) {{ a = {first}(x) y = {second}(a) }}")
    assert_declines(before, DROP)


def test_the_absolute_value_of_a_square() -> None:
    before = model("g (float[N] x) => (float[N] y) { a = Mul(x, x) b = Abs(a) y = Neg(b) }")
    assert_rewrites(before, DROP, ["Mul", "Neg"])


def test_the_absolute_value_of_a_product() -> None:
    assert_declines(
        model("g (float[N] x, float[N] z) => (float[N] y) { a = Mul(x, z) y = Abs(a) }"), DROP
    )


@pytest.mark.parametrize("first", ["Abs(x)", "Mul(x, x)"])
def test_integers_that_wrap_around(first: str) -> None:
    before = model(f"g (int32[N] x) => (int32[N] y) {{ a = {first} y = Relu(a) }}")
    assert_declines(before, DROP)


@pytest.mark.parametrize(
    ("operator", "kind"), [("Neg", "float"), ("Not", "bool"), ("BitwiseNot", "int32")]
)
def test_what_undoes_itself(operator: str, kind: str) -> None:
    before = model(f"""g ({kind}[N] x) => ({kind}[N] y) {{
        a = Identity(x) b = {operator}(a) c = {operator}(b) y = Identity(c) }}""")
    assert_rewrites(before, DROP, ["Identity", "Identity"])


@pytest.mark.parametrize(
    ("operator", "kind"), [("And", "bool"), ("Or", "bool"), ("Max", "float"), ("Min", "float")]
)
def test_the_same_operand_twice(operator: str, kind: str) -> None:
    before = model(f"""g ({kind}[N] x) => ({kind}[N] y) {{
        a = Identity(x) b = {operator}(a, a) y = Identity(b) }}""")
    assert_rewrites(before, DROP, ["Identity", "Identity"])


def test_the_same_operand_twice_and_another() -> None:
    assert_declines(model("g (float[N] x, float[N] z) => (float[N] y) { y = Max(x, x, z) }"), DROP)


def test_in_a_function() -> None:
    before = model("""g (float[N] x) => (float[N] y) { y = local.F(x) }
    <domain: "local", opset_import: ["" : 20]> F (p) => (q) { a = Relu(p) b = Relu(a) q = Neg(b)
        }""")
    assert_rewrites(before, DROP, ["F", "Relu", "Neg"])


def test_in_a_function_of_unknown_type() -> None:
    before = model("""g (float[N] x) => (float[N] y) { y = local.F(x) }
    <domain: "local", opset_import: ["" : 20]> F (p) => (q) { a = Abs(p) q = Relu(a) }""")
    assert_declines(before, DROP)


def test_a_function_of_the_same_name() -> None:
    before = model("""g (float[N] x) => (float[N] y) { a = local.Relu(x) y = local.Relu(a) }
    <domain: "local", opset_import: ["" : 20]> Relu (p) => (q) { q = Neg(p) }""")
    assert_declines(before, DROP)


@pytest.mark.parametrize("packed", ["uint8 z = {0}", "int8 z = {-128}"])
def test_what_is_dequantized_from_zero_on(packed: str) -> None:
    before = model(f"""g ({packed.split()[0]}[N] x) => (float[N] y) <float s = {{0.5}}, {packed}> {{
        a = DequantizeLinear(x, s, z) b = Relu(a) y = Neg(b) }}""")
    assert_rewrites(before, DROP, ["DequantizeLinear", "Neg"])


@pytest.mark.parametrize("packed", ["uint8 z = {1}", "int8 z = {0}"])
def test_what_is_dequantized_to_both_signs(packed: str) -> None:
    before = model(f"""g ({packed.split()[0]}[N] x) => (float[N] y) <float s = {{0.5}}, {packed}> {{
        a = DequantizeLinear(x, s, z) b = Relu(a) y = Neg(b) }}""")
    assert_declines(before, DROP)


def test_what_is_dequantized_by_a_scale_below_zero() -> None:
    before = model("""g (uint8[N] x) => (float[N] y) <float s = {-0.5}, uint8 z = {0}> {
        a = DequantizeLinear(x, s, z) b = Relu(a) y = Neg(b) }""")
    assert_declines(before, DROP)
