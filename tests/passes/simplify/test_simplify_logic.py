"""Conditions that are constant, negated or compared with true."""

import pytest

from kit import assert_declines, assert_rewrites, model
from onnxslim.passes.simplify.simplify_logic import SimplifyLogic

SIMPLIFY = SimplifyLogic()


@pytest.mark.parametrize(
    ("operator", "opposite"),
    [("Less", "GreaterOrEqual"), ("Greater", "LessOrEqual"),
     ("LessOrEqual", "Greater"), ("GreaterOrEqual", "Less")],
)  # fmt: skip
def test_a_negated_comparison_of_integers(operator: str, opposite: str) -> None:
    before = model(f"""g (int64[N] x, int64[N] z) => (bool[N] y) {{
        a = {operator}(x, z) b = Not(a) y = Identity(b) }}""")
    assert_rewrites(before, SIMPLIFY, [opposite, "Identity"])


def test_a_negated_comparison_of_floats() -> None:
    before = model("g (float[N] x, float[N] z) => (bool[N] y) { a = Less(x, z) y = Not(a) }")
    assert_declines(before, SIMPLIFY)


def test_a_negated_comparison_before_there_is_an_opposite() -> None:
    before = model("g (int64[N] x, int64[N] z) => (bool[N] y) { a = Less(x, z) y = Not(a) }", 11)
    assert_declines(before, SIMPLIFY)


def test_a_choice_by_a_negation() -> None:
    before = model("""g (bool[N] c, float[N] x, float[N] z) => (float[N] y) {
        a = Not(c) b = Where(a, x, z) y = Neg(b) }""")
    assert_rewrites(before, SIMPLIFY, ["Where", "Neg"])


def test_choices_by_one_negation() -> None:
    before = model("""g (bool[N] c, float[N] x, float[N] z) => (float[N] y, float[N] w) {
        a = Not(c) y = Where(a, x, z) w = Where(a, z, x) }""")
    assert_rewrites(before, SIMPLIFY, ["Where", "Where"], 2)


def test_a_negation_that_others_read() -> None:
    before = model("""g (bool[N] c, float[N] x, float[N] z) => (bool[N] a, float[N] y) {
        a = Not(c) y = Where(a, x, z) }""")
    assert_declines(before, SIMPLIFY, "no node would go")


@pytest.mark.parametrize(("condition", "left"), [("1, 1", ["Neg", "Neg"]), ("0, 0", ["Neg"])])
def test_a_constant_condition(condition: str, left: list[str]) -> None:
    before = model(f"""g (float[3, 2] x, float[3, 2] z) => (float[] y) <bool[2] c =
        {{{condition}}}> {{
        a = Neg(x) b = Where(c, a, z) y = Neg(b) }}""")
    assert_rewrites(before, SIMPLIFY, left)


def test_a_condition_that_is_partly_true() -> None:
    before = model("""g (float[N, 2] x, float[N, 2] z) => (float[] y) <bool[2] c = {1, 0}> {
        y = Where(c, x, z) }""")
    assert_declines(before, SIMPLIFY)


def test_a_constant_condition_that_widens_the_choice() -> None:
    before = model("""g (float[2] x, float[N, 2] z) => (float[] y) <bool[2] c = {1, 1}> {
        y = Where(c, x, z) }""")
    assert_declines(before, SIMPLIFY)


def test_a_choice_between_one_tensor() -> None:
    before = model("""g (bool[2] c, float[N, 2] x) => (float[N, 2] y) {
        a = Neg(x) b = Where(c, a, a) y = Neg(b) }""")
    assert_rewrites(before, SIMPLIFY, ["Neg", "Neg"])


@pytest.mark.parametrize(("operator", "value"), [("And", 0), ("Or", 1)])
def test_a_constant_that_decides(operator: str, value: int) -> None:
    before = model(f"""g (bool[2] x) => (bool[2] y) <bool[2] c = {{{value}, {value}}}> {{
        a = Not(x) b = {operator}(a, c) y = Not(b) }}""")
    assert_rewrites(before, SIMPLIFY, ["Not"])


@pytest.mark.parametrize(("operator", "value"), [("And", 1), ("Or", 0)])
def test_a_constant_that_does_not_decide(operator: str, value: int) -> None:
    before = model(f"""g (bool[2] x) => (bool[2] y) <bool[2] c = {{{value}, {value}}}> {{
        y = {operator}(x, c) }}""")
    assert_declines(before, SIMPLIFY)


def test_a_constant_that_decides_a_larger_result() -> None:
    before = model("g (bool[N, 2] x) => (bool[N, 2] y) <bool[2] c = {0, 0}> { y = And(x, c) }")
    assert_declines(before, SIMPLIFY)


@pytest.mark.parametrize("true", ["bool t = {1}", "bool[1] t = {1}"])
def test_what_equals_true(true: str) -> None:
    before = model(f"""g (bool[N] x) => (bool[N] y) <{true}> {{
        a = Not(x) b = Equal(t, a) y = Not(b) }}""")
    assert_rewrites(before, SIMPLIFY, ["Not", "Not"])


@pytest.mark.parametrize("other", ["bool t = {0}", "bool[1, 1] t = {1}"])
def test_what_equals_something_else(other: str) -> None:
    assert_declines(model(f"g (bool[N] x) => (bool[] y) <{other}> {{ y = Equal(x, t) }}"), SIMPLIFY)


@pytest.mark.parametrize("kind", ["float", "double", "int32", "int64"])
@pytest.mark.parametrize("operator", ["Less", "Greater"])
@pytest.mark.parametrize("equal", ["x, z", "z, x"])
def test_two_comparisons(equal: str, operator: str, kind: str) -> None:
    before = model(f"""g ({kind}[N] x, {kind}[N] z) => (bool[N] y) {{
        a = {operator}(x, z) b = Equal({equal}) y = Or(b, a) }}""", 12)  # fmt: skip
    assert_rewrites(before, SIMPLIFY, [f"{operator}OrEqual"])


@pytest.mark.parametrize(
    ("body", "opset"),
    [
        ("a = Less(x, z) b = Equal(x, x) y = Or(a, b)", 12),
        ("a = Less(x, z) b = Equal(x, z) y = Or(a, b)", 11),
        ("a = Less(x, z) b = Equal(x, z) y = Xor(a, b)", 12),
    ],
)
def test_comparisons_of_others(body: str, opset: int) -> None:
    before = model(f"g (float[N] x, float[N] z) => (bool[N] y) {{ {body} }}", opset)
    assert_declines(before, SIMPLIFY)


@pytest.mark.parametrize(
    ("body", "taken"),
    [("Where(c, x, z) b = Where(c, a, w)", "x w"), ("Where(c, x, z) b = Where(c, w, a)", "w z")],
)
def test_a_choice_that_was_made_before(body: str, taken: str) -> None:
    before = model(f"""g (bool[3] c, float[3] x, float[3] z, float[3] w) => (float[3] y) {{
        a = {body} y = Neg(b) }}""")
    after = assert_rewrites(before, SIMPLIFY, ["Where", "Neg"])
    assert [t.name for t in after.graph.nodes[0].inputs] == ["c", *taken.split()]


def test_a_choice_that_gave_the_shape() -> None:
    before = model("""g (bool c, float[1] x, float[3] z, float[1] w) => (float[3] y) {
        a = Where(c, x, z) b = Where(c, a, w) y = Neg(b) }""")
    assert_declines(before, SIMPLIFY)
