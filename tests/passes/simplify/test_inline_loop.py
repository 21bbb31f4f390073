"""Loops that run once or never."""

import pytest

from kit import assert_declines, assert_rewrites, model
from onnxslim.ir import Model
from onnxslim.passes.simplify.inline_loop import InlineLoop

INLINE = InlineLoop()


def loop(
    most: str,
    start: str,
    body: str = "go_on = Identity(go) b = Relu(a) row = Neg(b)",
    outputs: str = "z, rows",
    after: str = "y = Exp(z) r = Abs(rows)",
    opset: int = 20,
) -> Model:
    return model(
        f"""g (int64 n, bool c, float[N] x) => (float[M] y, float[K, L] r)
    <int64 none = {{0}}, int64 one = {{1}}, int64 two = {{2}}, bool yes = {{1}}, bool no = {{0}}> {{
        {outputs} = Loop ({most}, {start}, x) <body =
            body (int64 i, bool go, float[P] a) => (bool go_on, float[Q] b, float[R] row) {{
                {body} }}>
        {after} }}""",
        opset,
    )


@pytest.mark.parametrize("opset", [11, 13, 16, 19, 21])
def test_one_round_is_the_body(opset: int) -> None:
    before = loop("one", "yes", opset=opset)
    assert_rewrites(before, INLINE, ["Identity", "Relu", "Neg", "Unsqueeze", "Exp", "Abs"])


def test_without_a_condition_one_round_runs() -> None:
    before = loop("one", "", "go_on = Identity(go) b = Relu(a) row = Neg(b)")
    assert_rewrites(before, INLINE, ["Identity", "Relu", "Neg", "Unsqueeze", "Exp", "Abs"])


def test_a_body_that_stops_at_once_runs_once() -> None:
    before = loop("two", "yes", "go_on = Constant <value = bool {0}> () b = Relu(a) row = Neg(b)")
    assert_rewrites(before, INLINE, ["Relu", "Neg", "Unsqueeze", "Exp", "Abs"])


def test_a_body_that_stops_at_once_may_not_even_start() -> None:
    before = loop("n", "yes", "go_on = Constant <value = bool {0}> () b = Relu(a) row = Neg(b)")
    assert_declines(before, INLINE)


@pytest.mark.parametrize(
    ("most", "start"), [("two", "yes"), ("n", "yes"), ("one", "c"), ("n", "c")]
)
def test_other_numbers_of_rounds_stay(most: str, start: str) -> None:
    assert_declines(loop(most, start), INLINE)


def test_the_round_is_number_0() -> None:
    body = "go_on = Identity(go) f = CastLike(i, a) b = Add(a, f) row = Neg(b)"
    before = loop("one", "yes", body)
    ops = ["Identity", "CastLike", "Add", "Neg", "Unsqueeze", "Exp", "Abs"]
    assert_rewrites(before, INLINE, ops)


def test_values_that_change_places_do() -> None:
    before = model("""g (float[N] x, float[N] w) => (float[a] y) <int64 one = {1}, bool yes = {1}> {
        p, q = Loop (one, yes, x, w) <body =
            body (int64 i, bool go, float[P] a, float[P] b)
                => (bool go_on, float[P] b, float[P] a) {
                go_on = Identity(go) }>
        y = Sub(p, q) }""")
    assert_rewrites(before, INLINE, ["Identity", "Sub"])


def never(most: str, start: str, after: str, out: str = "float[M] y") -> Model:
    return model(f"""g (int64 n, float[N] x) => ({out})
    <int64 none = {{0}}, int64 two = {{2}}, bool yes = {{1}}, bool no = {{0}}> {{
        z, rows = Loop ({most}, {start}, x) <body =
            body (int64 i, bool go, float[P] a) => (bool go_on, float[Q] b, float[R] row) {{
                go_on = Identity(go) b = Relu(a) row = Neg(b) }}>
        {after} }}""")


@pytest.mark.parametrize(
    ("most", "start"), [("none", "yes"), ("two", "no"), ("none", ""), ("n", "no")]
)
def test_no_round_leaves_the_initial_value(most: str, start: str) -> None:
    assert_rewrites(never(most, start, "y = Exp(z)"), INLINE, ["Exp"])


def test_the_gathered_rows_of_no_round_stay() -> None:
    before = never("none", "yes", "y = Exp(z) r = Abs(rows)", "float[M] y, float[K, L] r")
    assert_declines(before, INLINE, "gathers")


def test_a_loop_in_a_function_is_inlined_there() -> None:
    before = model("""g (float[N] x) => (float[a] y) { y = local.f(x) }
        <domain: "local", opset_import: ["" : 20]> f (x) => (y) {
            one = Constant <value = int64 {1}> () yes = Constant <value = bool {1}> ()
            z = Loop (one, yes, x) <body =
                body (int64 i, bool go, float[P] a) => (bool go_on, float[P] b) {
                    go_on = Identity(go) b = Relu(a) }>
            y = Neg(z) }""")
    assert_rewrites(before, INLINE, ["f", "Identity", "Relu", "Neg"])


def test_names_that_clash_change() -> None:
    one = """Loop (one, yes, {0}) <body =
            body (int64 i, bool go, float[P] a) => (bool go_on, float[P] b) {{
                go_on = Identity(go) h = Relu(a) b = Neg(h) }}>"""
    before = model(f"""g (float[N] x) => (float[a] y) <int64 one = {{1}}, bool yes = {{1}}> {{
        v = {one.format("x")} w = {one.format("v")} y = Add(v, w) }}""")
    ops = ["Identity", "Relu", "Neg", "Identity", "Relu", "Neg", "Add"]
    assert_rewrites(before, INLINE, ops, changes=2)
