from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from benchmarks.fuzz import motifs, oracle
from benchmarks.fuzz.grower import OPSETS, Grower, Refused
from benchmarks.fuzz.motifs.recipes import RECIPES
from benchmarks.fuzz.opinion import agree_in_double, hangs_on_last_bits, is_random, lawful
from benchmarks.fuzz.oracle import Case, excuse, grown
from benchmarks.fuzz.shrink import shrink
from kit import model
from onnxslim import Context, Effect, Model, Pass
from onnxslim.runtime import Session

assert motifs
UNKNOWN = {"CumProd"}
"""What onnxruntime has no kernel for."""


@dataclass(frozen=True)
class _Swap(Pass):
    """Turn Sub around."""

    name = "swap"
    effect = Effect.EXACT

    def apply(self, model: Model, context: Context) -> int:
        for node in model.nodes():
            if node.op == "Sub" and "swapped" not in node.attrs:
                node.inputs[0], node.inputs[1] = node.inputs[1], node.inputs[0]
                node.op = "Add"
                return 1
        return 0


def chain() -> Case:
    before = model("""g (float[2] x, float[2] y) => (float[2] z) {
        a = Relu(x) b = Abs(y) c = Sub(a, b) z = Tanh(c)
    }""")
    return Case(before.proto(), [{"x": np.ones(2, np.float32), "y": np.ones(2, np.float32)}])


def test_a_seed_says_everything() -> None:
    once, again = grown(5), grown(5)
    assert once is not None
    assert again is not None
    assert once.proto == again.proto


def test_sound_passes_give_no_find() -> None:
    assert chain().check() is None


def test_a_wrong_pass_is_found_and_the_model_shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracle, "recipe", lambda: (_Swap(),))
    find = chain().check()
    assert find is not None
    assert find.kind == "differs"
    assert [n.op_type for n in shrink(chain(), find).proto.graph.node] == ["Sub"]


@dataclass(frozen=True)
class _Stumble(Pass):
    """Crash, but not twice."""

    name = "stumble"
    effect = Effect.EXACT
    stumbled: ClassVar[list[int]] = []

    def apply(self, model: Model, context: Context) -> int:
        if not self.stumbled:
            self.stumbled.append(1)
            raise ZeroDivisionError
        return 0


def test_a_crash_that_a_second_run_hides_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracle, "recipe", lambda: (_Stumble(),))
    find = chain().check()
    assert find is not None
    assert "stumble crashed: ZeroDivisionError" in find.detail


def test_the_second_opinion_tells_rounding_from_mistakes() -> None:
    x = "g (float[2] x) => (float[2] y)"
    one, same, other = (
        model(f"{x} {{ c = Constant<value_float = {number}>() y = {op}(x, c) }}").proto()
        for op, number in (("Div", 8.0), ("Mul", 0.125), ("Mul", 0.126))
    )
    feeds = [{"x": np.ones(2, np.float32)}]
    assert (agree_in_double(one, same, feeds), agree_in_double(one, other, feeds)) == (True, False)


@pytest.mark.parametrize("opset", [7, 9, 14, 15])
def test_the_second_opinion_normalizes_in_every_opset(opset: int) -> None:
    text = """g (float[N, 1, 3] x) => (float[N, 1, 3] y)
    <float[1] a = {2}, float[1] b = {3}, float[1] c = {4}> {
        y = BatchNormalization<epsilon = 0.0>(x, a, b, b, c)
    }"""
    plain = "g (float[N, 1, 3] x) => (float[N, 1, 3] y) { y = Identity(x) }"
    one, other = (model(source, opset=opset).proto() for source in (text, plain))
    feeds = [{"x": np.ones((2, 1, 3), np.float32)}]
    assert agree_in_double(one, other, feeds)


def test_the_second_opinion_is_of_doubles_throughout() -> None:
    zeros = "g (float[2] x, int64[1] s) => (float[?] y) { z = ConstantOfShape(s) y = Add(x, z) }"
    of = model(zeros).proto()
    assert agree_in_double(of, of, [{"x": np.ones(2, np.float32), "s": np.array([2])}])


def test_what_the_original_alone_does_not_run_is_no_ground_to_compare() -> None:
    reshaped = model("""g (float[2] x, int64[1] s) => (float[?] y) { y = Reshape(x, s) }""").proto()
    plain = model("g (float[2] x, int64[1] s) => (float[2] y) { y = Neg(x) }").proto()
    feeds = [{"x": np.ones(2, np.float32), "s": np.array([3])}]
    assert not excuse(reshaped, plain, feeds)


def test_the_second_opinion_sees_that_a_sum_of_what_is_centred_cancels() -> None:
    at_once = "y = ReduceSum<keepdims = 0>(m, all)"
    by_turns = "n = ReduceSum<keepdims = 0>(m, two) y = ReduceSum<keepdims = 0>(n, two)"
    one, other = (
        model(f"""g (float[1, 1, 4, 4] x) => (float y)
            <int64[4] all = {{0, 1, 2, 3}}, int64[2] two = {{0, 1}}> {{
            m = MeanVarianceNormalization(x) {sums} }}""", 15).proto()
        for sums in (at_once, by_turns)
    )  # fmt: skip
    feeds = [{"x": np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4) ** 2}]
    assert agree_in_double(one, other, feeds)


def test_the_second_opinion_gets_out_of_an_optional_what_was_put_in() -> None:
    text = """g (float[2] x, int64[1] p) => (float[?] y) {
        o = Optional(x) t = OptionalGetElement(o) y = Unsqueeze(t, p)
    }"""
    plain = "g (float[2] x, int64[1] p) => (float[?] y) { y = Unsqueeze(x, p) }"
    feeds = [{"x": np.ones(2, np.float32), "p": np.array([0])}]
    one, other = model(text, 18).proto(), model(plain, 18).proto()
    assert agree_in_double(one, other, feeds)


@pytest.mark.parametrize(("operator", "rounds"), [("Div", True), ("Mul", False)])
def test_what_magnifies_the_rounding_of_constants_magnifies_what_is_rounding(
    operator: str, rounds: bool
) -> None:
    """A sixth as a half is off by 2e-4; multiplied with itself 216 times, by 5 percent."""
    body = (
        "float16[1] e = {23232}, float16[1] six = {17920}, float16[1] sixth = {12629}"  # e is 216
    )
    one, other = (
        model(f"""g (float16[2] x) => (float16[2] y)
            <{body}> {{ a = {op} y = Pow(a, e) }}""").proto()
        for op in ("Mul(x, sixth)", f"{operator}(x, six)")
    )
    feeds = [{"x": np.full(2, 6, np.float16)}]
    assert agree_in_double(one, other, feeds) is rounds


def test_a_difference_that_cancels_is_rounding() -> None:
    one, other = (
        model(f"""g (float[2] x) => (float[2] y) {{
            c = Constant<value_float = {c}>() d = Constant<value_float = {d}>()
            a = {op}(x, c) b = Div(x, d) y = Sub(a, b)
        }}""").proto()
        for op, c, d in (("Div", 3.0, 3.0), ("Mul", 1 / 3.0, 3.0))
    )
    for proto, op in ((one, "Div"), (other, "Mul")):
        assert proto.graph.node[2].op_type == op
    feeds = [{"x": np.ones(2, np.float32)}]
    assert agree_in_double(one, other, feeds)


@pytest.mark.parametrize(
    ("body", "count"),
    [
        ("y = Concat<axis = 0>(x, x)", 2),
        ("y = Concat<axis = 0>(x, m)", 1),
        ("a = Constant<value_ints = [0]>() b = Constant<value_ints = [2147483647]>() "
         "s = Constant<value_ints = [-1]>() y = Slice(x, a, b, a, s)", 0),
    ],
)  # fmt: skip
def test_feeds_that_onnx_forbids_are_told(body: str, count: int) -> None:
    of = model(f"g (float[N, K] x) => (float[?, ?] y) <float[1, 2] m = {{1, 2}}> {{ {body} }}")
    feeds = [{"x": np.ones(shape, np.float32)} for shape in ((1, 2), (3, 0))]
    assert len(lawful(of.proto(), feeds)) == count


def test_numbers_that_overflow_on_the_way_prove_nothing() -> None:
    of = model("""g (float[1] x) => (float[1] y) <float[1] z = {0}> {
        d = Div(x, z) y = Mul(d, z)
    }""")
    assert not lawful(of.proto(), [{"x": np.ones(1, np.float32)}])


def test_sizes_that_a_concat_must_not_join_are_forbidden() -> None:
    of = model("g (float[2, 1] x, float[1, 0] e) => (float[?, ?] y) { y = Concat<axis = 1>(x, e) }")
    feed = {"x": np.ones((2, 1), np.float32), "e": np.ones((1, 0), np.float32)}
    assert not lawful(of.proto(), [feed])


def test_strings_that_onnxruntime_miscopies_prove_nothing() -> None:
    of = model("""g (string[2, 1, 2] x) => (string[2, 1, 2] y) <int64[1] i = {0}> {
        y = Gather<axis = 1>(x, i)
    }""")
    feed = {"x": np.array([[["a", "b"]], [["c", "d"]]], object)}
    copied = Session(of.to_bytes(), optimize=False).run(feed)["y"]
    assert len(lawful(of.proto(), [feed])) == np.array_equal(copied, feed["x"])


@pytest.mark.parametrize(("last", "hangs"), [(1.0, True), (2.0, False)])
def test_which_of_equal_numbers_is_larger_hangs_on_last_bits(last: float, hangs: bool) -> None:
    of = model("g (float[2] x) => (int64[?] y) { y = ArgMax<axis = 0>(x) }")
    assert hangs_on_last_bits(of.proto(), [{"x": np.array([1, last], np.float32)}]) is hangs


@pytest.mark.parametrize(("operator", "chance"), [("Bernoulli", True), ("Abs", False)])
def test_what_chance_decides_proves_nothing(operator: str, chance: bool) -> None:
    of = model(f"g (float[2] x) => (float[2] y) {{ y = {operator}(x) }}")
    assert is_random(of.proto(), [{"x": np.full(2, 0.5, np.float32)}]) is chance


@pytest.mark.parametrize(("opset", "count"), [(10, 0), (11, 1)])
def test_negative_places_of_a_one_are_forbidden_at_first(opset: int, count: int) -> None:
    of = model("g (int64[2] x) => (float[?, ?] y) <int64 d = {3}, float[2] v = {0, 1}> {"
               "y = OneHot(x, d, v) }", opset=opset)  # fmt: skip
    assert len(lawful(of.proto(), [{"x": np.array([1, -1])}])) == count


def test_what_onnx_misreads_is_lawful() -> None:
    of = model("g (float[1, 3, 1] x) => (float[3] y) { y = Squeeze<axes = [2, 0]>(x) }", opset=10)
    feed = {"x": np.ones((1, 3, 1), np.float32)}
    assert lawful(of.proto(), [feed]) == [feed]


@pytest.mark.parametrize("operator", sorted(RECIPES.keys() - UNKNOWN))
def test_a_recipe_makes_its_operator(operator: str) -> None:
    assert any(_makes(operator, seed) for seed in range(400)), operator


def _makes(operator: str, seed: int) -> bool:
    grower = Grower(seed, OPSETS[-1 - seed % len(OPSETS)])
    try:
        RECIPES[operator](grower, operator)
    except (Refused, IndexError, ValueError):
        return False
    return any(node.op_type == operator for node in grower.main.nodes)


def test_what_onnxruntime_misreads_is_no_fault_of_a_pass() -> None:
    """Before opset 11, ONNX overlooks axes of a Squeeze that are out of order."""
    one, other = (
        model(f"""g (double[1, 1, 1, 2] x) => (double[3] y) {{
            a = Squeeze<axes = [1, 0, 2]>(x) {between} y = Pad<pads = [-1, 2]>(b)
        }}""", 7).proto()
        for between in ("b = Transpose<perm = [0]>(a)", "b = Identity(a)")
    )  # fmt: skip
    assert excuse(one, other, [{"x": np.array([21.0, 18.0]).reshape(1, 1, 1, 2)}])


@pytest.mark.parametrize(("rows", "allowed"), [(2, True), (3, False)])
def test_sequences_are_joined_by_the_rules_of_concat(rows: int, allowed: bool) -> None:
    """ONNX wants the other sizes to match; onnxruntime does not mind those of empty tensors."""
    joins = model("""g (float[?, ?] a, float[?, ?] b) => (float[?, ?] y) {
        s = SequenceConstruct(a, b) y = ConcatFromSequence<axis = 1>(s) }""").proto()
    feed = {"a": np.ones((2, 4), np.float32), "b": np.ones((rows, 0), np.float32)}
    assert bool(lawful(joins, [feed])) is allowed


def test_a_step_of_one_element_breaks_the_rules_of_range() -> None:
    counts = model("""g (int64 n) => (int64[?] y) <int64 zero = {0}, int64[1] step = {1}> {
        y = Range(zero, n, step) }""").proto()
    assert not lawful(counts, [{"n": np.array(3)}])
