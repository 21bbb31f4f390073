"""What counts as the same model, and what does not."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

import kit
from onnxslim import validate
from onnxslim.base import Effect
from onnxslim.data import Calibration
from onnxslim.errors import BrokenModel, CannotRun, DataError, MissingData
from onnxslim.ir import Model
from onnxslim.validate import Difference, Reference, check_structure, index_bounds

f16, f32 = partial(np.array, dtype=np.float16), partial(np.array, dtype=np.float32)


def model(text: str, opset: int = 17, ir: int = 8) -> Model:
    return kit.model(text, opset, ir)


def compare(before: str, after: str, effect: Effect = Effect.ROUNDING, **given: Any) -> Difference:
    """Compare two models, on the feeds *given* by input name where there are any."""
    original = model(before)
    data = Calibration.of([given]) if given else None
    reference = Reference(original.to_bytes(), original, data)
    assert reference.reason is None
    return reference.compare(model(after).to_bytes(), effect)


def unary(body: str, constants: str = "", y: str = "float[N]") -> str:
    return f"g (float[N] x) => ({y} y) <{constants}> {{ {body} }}"


def on(of: Model, **options: Any) -> Reference:
    return Reference(of.to_bytes(), of, **options)


# The same function

TWICE = unary("y = Mul(x, c)", "float[1] c = {2}")


def test_a_model_equals_itself() -> None:
    assert compare(TWICE, TWICE, Effect.EXACT).relative == 0


def test_doubling_is_adding_to_itself() -> None:
    assert compare(TWICE, unary("y = Add(x, x)"), Effect.EXACT).passed


def test_a_wrong_weight_is_seen() -> None:
    found = compare(TWICE, unary("y = Mul(x, c)", "float[1] c = {2.001}"), x=f32([1, 4]))
    assert (found.max_abs, found.relative) == pytest.approx((0.004, 5e-4), 1e-3)
    assert not found.passed


def test_the_worst_output_is_named() -> None:
    before = "g (float[N] x) => (a, b) { a = Neg(x)  b = Abs(x) }"
    after = """g (float[N] x) => (a, b) <float[1] c = {-1.1}> { a = Mul(x, c)  b = Abs(x) }"""
    assert compare(before, after).output == "a"


ROUNDED = ("a = Mul(x, c)  y = Mul(a, c)", "y = Mul(x, d)")
CONSTANTS = "float[1] c = {0.1}, float[1] d = {0.01}"


@pytest.mark.parametrize(("effect", "passed"), [(Effect.EXACT, False), (Effect.ROUNDING, True)])
def test_rounding_is_allowed_unless_the_effect_is_exact(effect: Effect, passed: bool) -> None:
    before, after = (unary(text, CONSTANTS) for text in ROUNDED)
    assert compare(before, after, effect).passed is passed


def test_minus_zero_is_not_zero_bit_for_bit() -> None:
    before = unary("y = Mul(x, c)", "float[1] c = {0}")
    after = unary("y = Sub(x, x)")
    assert compare(before, after, x=f32([-1])).passed
    assert not compare(before, after, Effect.EXACT, x=f32([-1])).passed


def test_nan_equals_nan_whatever_its_sign() -> None:
    after = unary("a = Sqrt(x)  y = Abs(a)")
    assert compare(unary("y = Sqrt(x)"), after, Effect.EXACT, x=f32([-1, 4])).passed


def test_nan_in_place_of_a_number_is_infinitely_wrong() -> None:
    after = unary("a = Log(x)  y = Exp(a)")
    assert compare(unary("y = Neg(x)"), after, x=f32([-1, 4])).relative == math.inf


@pytest.mark.parametrize("x", [[1, 0], [-1, 2]])
def test_infinities_and_nan_must_stay_where_they_are(x: list[float]) -> None:
    found = compare(
        unary("a = Reciprocal(x)  y = Sqrt(a)"),
        unary("a = Reciprocal(x)  b = Abs(a)  c = Sqrt(b)  y = Clip(c, , m)", "float m = {9}"),
        x=f32(x),
    )
    assert found.relative == math.inf


@pytest.mark.parametrize(
    ("scale", "relative"),
    [(1e6, 1e-6), (0, 1.0), (1e-6, 1e6)],
)
def test_errors_are_relative_to_the_scale_of_the_output(scale: float, relative: float) -> None:
    before = unary("y = Concat <axis = 0> (x, c)", "float[1] c = {0}")
    after = unary("y = Concat <axis = 0> (x, c)", "float[1] c = {1}")
    assert compare(before, after, x=f32([scale])).relative == pytest.approx(relative)


@pytest.mark.parametrize(
    ("before", "after", "passed"),
    [
        ("y = ArgMax(x)", "y = ArgMax(x)", True),
        ("y = ArgMax(x)", "y = ArgMin(x)", False),
        ("y = Less(x, c)", "y = LessOrEqual(x, c)", False),
        ("y = Cast <to = 8> (x)", "a = Neg(x)  y = Cast <to = 8> (a)", False),
        ("y = Cast <to = 8> (x)", "a = Identity(x)  y = Cast <to = 8> (a)", True),
    ],
)
def test_discrete_outputs_must_be_equal(before: str, after: str, passed: bool) -> None:
    text = "g (float[N] x) => (y) <float[1] c = {{1}}> {{ {} }}"
    found = compare(text.format(before), text.format(after), x=f32([1, 2]))
    assert found.passed is passed


MAPS = """g (float[N, 2] x) => (seq(map(int64, float)) y)
    {{ {body}  y = ai.onnx.ml.ZipMap <classlabels_int64s = [{labels}]> (a) }}"""


@pytest.mark.parametrize(
    ("body", "labels", "passed"),
    [
        ("a = Identity(x)", "1, 2", True),
        ("a = Neg(x)", "1, 2", False),
        ("a = Identity(x)", "1, 3", False),
    ],
)
def test_maps_are_compared_inside(body: str, labels: str, passed: bool) -> None:
    before, after = (
        MAPS.format(body="a = Abs(x)", labels="1, 2"),
        MAPS.format(body=body, labels=labels),
    )
    assert compare(before, after, x=f32([[1, 2]])).passed is passed


SEQUENCE = "g (float[N] x) => (seq(float[N]) y) {{ a = {op}(x)  y = SequenceConstruct({items}) }}"


def test_sequences_are_compared_inside() -> None:
    before = SEQUENCE.format(op="Abs", items="x, a")
    assert compare(before, before).passed
    assert not compare(before, SEQUENCE.format(op="Neg", items="x, a"), x=f32([1])).passed


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (unary("y = Neg(x)"), unary("y = Concat <axis = 0> (x, x)"), "was float32.*, became"),
        (unary("y = Neg(x)"), unary("y = Cast <to = 11> (x)", y="double[N]"), "became float64"),
        (
            SEQUENCE.format(op="Abs", items="x, a"),
            SEQUENCE.format(op="Abs", items="x"),
            "had 2 items, has 1",
        ),
        (SEQUENCE.format(op="Abs", items="x"), unary("y = Abs(x)"), "was a list, became"),
        (unary("y = Abs(x)"), SEQUENCE.format(op="Abs", items="x"), "is no tensor any more"),
        (unary("y = Neg(x)"), "g (float[N] x) => (float[N] z) { z = Neg(x) }", "'y' is gone"),
        (unary("y = Neg(x)"), unary("y = Foo(x)"), "does not run: This is an invalid model"),
        (unary("y = Neg(x)"), unary("y = Reshape(x, c)", "int64[1] c = {7}"), "does not run: Resh"),
        (unary("y = Neg(x)"), "g (float[N] z) => (float[N] y) { y = Neg(z) }", "does not run: Req"),
    ],
)
def test_another_kind_of_result_is_a_broken_model(before: str, after: str, message: str) -> None:
    with pytest.raises(BrokenModel, match=message):
        compare(before, after)


def test_half_precision_may_move_further() -> None:
    text = """g (float16[N] x) => (float16[N] y) <float[1] c = {{{c}}}>
        {{ h = Cast <to = 10> (c)  y = Mul(x, h) }}"""
    found = compare(text.format(c=1), text.format(c=1.005), x=f16([1, 2]))
    assert (found.allowed, found.passed, found.relative > 1e-3) == (1e-2, True, True)


@pytest.mark.parametrize(
    ("body", "constants"),
    [
        ("a = Cast <to = 10> (x)  y = Cast <to = 1> (a)", ""),
        ("a = Cast <to = 1> (c)  y = Mul(x, a)", "float16[1] c = {1}"),
    ],
)
def test_half_precision_inside_counts_too(body: str, constants: str) -> None:
    text = unary(body, constants)
    assert compare(text, text).allowed == 1e-2


# What onnxruntime itself changes


class Fake:
    """A session whose outputs the test decides, by source and optimization."""

    outputs: Mapping[tuple[bytes, bool], float | None] = {}

    def __init__(self, source: bytes, optimize: bool, profile: bool = False) -> None:
        assert not profile
        self.value = self.outputs[source if source in (b"good", b"bad") else b"original", optimize]

    def run(self, feed: Mapping[str, Any]) -> dict[str, Any]:
        if self.value is None:
            raise CannotRun("it does not run")
        return {"y": f32([1, self.value])}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Difference]:
    def run(
        plain: float | None, full: float | None, own: float | None, effect: Effect = Effect.ROUNDING
    ) -> Difference:
        Fake.outputs = {
            (b"original", False): 1.0,
            (b"original", True): own,
            (b"good", False): plain,
            (b"good", True): full,
        }
        monkeypatch.setattr(validate, "Session", Fake)
        return on(model(unary("y = Neg(x)"))).compare(b"good", effect)

    return run


@pytest.mark.parametrize(
    ("plain", "full", "own", "passed"),
    [
        (1, 1, 1, True),
        (1 + 9e-6, 1, 1, True),
        (1 + 2e-5, 1, 1, False),
        (1, 1 + 2e-5, 1, False),
        (1 + 3e-3, 1, 1 + 1e-3, True),
        (1, 1 + 3e-3, 1 + 1e-3, True),
        (1 + 5e-3, 1, 1 + 1e-3, False),
        (1, 1 + 5e-3, 1 + 1e-3, False),
        (math.nan, 1, 1 + 1e-3, False),
    ],
)
def test_four_times_what_onnxruntime_changes_is_rounding(
    fake: Callable[..., Difference], plain: float, full: float, own: float, passed: bool
) -> None:
    assert fake(plain, full, own).passed is passed


@pytest.mark.parametrize(("plain", "own"), [(1, None), (1 + 3e-3, 1e-3)])
def test_what_onnxruntime_changes_in_many_nodes_is_measured_where_it_decides(
    fake: Callable[..., Difference], monkeypatch: pytest.MonkeyPatch, plain: float, own: float
) -> None:
    monkeypatch.setattr(validate, "_MANY", 0)
    found = fake(plain, 1, 1 + 1e-3)
    assert (found.passed, found.onnxruntime) == (True, own and pytest.approx(own, 1e-2))


@pytest.mark.parametrize(("plain", "full", "passed"), [(1, 1 + 3e-3, True), (1 + 3e-6, 1, False)])
def test_exact_forbids_only_what_the_model_itself_changes(
    fake: Callable[..., Difference], plain: float, full: float, passed: bool
) -> None:
    assert fake(plain, full, 1 + 1e-3, Effect.EXACT).passed is passed


def test_what_onnxruntime_changes_is_reported(fake: Callable[..., Difference]) -> None:
    assert fake(1, 1, 1 + 1e-3).onnxruntime == pytest.approx(1e-3, 1e-2)


def test_failing_when_optimized_counts_unless_the_original_fails_too(
    fake: Callable[..., Difference],
) -> None:
    assert fake(1, None, None).passed
    with pytest.raises(BrokenModel, match="with onnxruntime's optimizations: it does not run"):
        fake(1, None, 1)


def test_one_level_is_enough_where_asked() -> None:
    original = model(TWICE)
    assert on(original).compare(original.to_bytes(), Effect.EXACT, both=False).relative == 0


# Feeds


def sizes(of: Reference) -> list[tuple[int, ...]]:
    return [case.feed["x"].shape for case in of._cases]


def test_free_sizes_are_tried_at_several_values() -> None:
    found = sizes(on(model("g (float[N, C] x) => (y) { y = Neg(x) }")))
    assert len(set(found)) == len(found) == 3


def test_feeds_that_do_not_run_are_passed_over() -> None:
    text = "g (float[N, C] x) => (y) <int64[2] s = {-1, 128}> { y = Reshape(x, s) }"
    assert {n * c % 128 for n, c in sizes(on(model(text)))} == {0}


def test_feeds_that_give_nothing_but_nan_are_passed_over() -> None:
    text = "g (float[4] x) => (y) { a = Abs(x)  b = Neg(a)  c = Sqrt(b)  y = Mul(x, c) }"
    assert on(model(text)).count == 3  # there is nothing else
    mixed = "g (float[1] x) => (y) <float[1] c = {1}> { a = Sub(x, c)  y = Sqrt(a) }"
    assert all(case.informative for case in on(model(mixed))._cases)


def test_feeds_that_magnify_rounding_are_passed_over() -> None:
    before = unary("b = Mul(x, c)  y = Sin(b)", "float[1] c = {10}")
    factors = "float[1] c = {2.5}, float[1] d = {4}"
    after = unary("a = Mul(x, c)  b = Mul(a, d)  y = Sin(b)", factors)
    assert all(np.abs(case.feed["x"]).max() < 10 for case in on(model(before))._cases)
    assert compare(before, after).passed


def test_without_others_feeds_that_magnify_rounding_do() -> None:
    of = model(unary("b = Mul(x, c)  y = Sin(b)", "float[1] c = {1e9}"))
    assert on(of).count == 3


def test_the_only_size_that_runs_is_run_twice() -> None:
    text = "g (float[C] x) => (y) <int64[1] s = {3}> { y = Reshape(x, s) }"
    assert on(model(text)).count == 2


def test_given_feeds_are_used_up_to_eight() -> None:
    of = model(TWICE)
    reference = on(of, data=Calibration.of([{"x": f32([i])} for i in range(10)]))
    assert (reference.count, reference.synthetic) == (8, False)


def test_a_given_feed_must_fit_the_model() -> None:
    with pytest.raises(DataError, match="no input 'z'"):
        on(model(TWICE), data=Calibration.of([{"z": f32([1])}]))


def test_no_feed_is_added_when_the_time_is_up() -> None:
    assert on(model(TWICE), budget=0.0).count == 1


def test_one_feed_is_enough_for_a_slow_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validate, "_SLOW", 0.0)
    assert on(model(TWICE)).count == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (unary("y = Foo(x)"), "onnxruntime cannot load the original: This is an invalid model"),
        (unary("y = Reshape(x, c)", "int64[2] c = {7, 11}"), "runs the original on no made-up"),
        ("g (map(int64, float) x) => (y) { y = ai.onnx.ml.CastMap(x) }", "no made-up feed: there"),
        ("g () => (y) { y = RandomNormal <shape = [3]> () }", "every output of the original is r"),
    ],
)
def test_a_reason_says_why_nothing_can_be_compared(text: str, reason: str) -> None:
    assert reason in str(on(model(text)).reason)


def test_given_feeds_that_do_not_run_are_a_reason() -> None:
    of = model(unary("y = Reshape(x, c)", "int64[1] c = {7}"))
    reference = on(of, data=Calibration.of([{"x": f32([1])}]))
    assert "on no given feed: Reshape: The input tensor cannot" in str(reference.reason)


def test_random_outputs_are_left_out_and_noted() -> None:
    text = "g (float[4] x) => (y, r) {{ y = {op}(x)  r = RandomNormalLike <seed = {seed}> (x) }}"
    reference = on(model(text.format(op="Neg", seed=1.0)))
    assert reference.note == "random from run to run, not compared: r"
    for op, passed in (("Neg", True), ("Abs", False)):
        after = model(text.format(op=op, seed=2.0)).to_bytes()
        assert reference.compare(after, Effect.EXACT).passed is passed


# What integers mean

BOUNDS = [
    ("y = Gather(t, x)", (0, 5)),
    ("y = Gather <axis = 1> (t, x)", (0, 3)),
    ("a = Cast <to = 6> (x)  b = Unsqueeze(a, z)  y = Gather(t, b)", (0, 5)),
    ("a = Gather(t, x)  b = Gather(w, x)  y = MatMul(a, b)", (0, 3)),
    ("a = Add(x, two)  y = Gather(t, a)", (0, 3)),
    ("a = Sub(x, two)  y = Gather(t, a)", (2, 7)),
    ("y = GatherElements(v, x)", (0, 4)),
    ("a = Concat <axis = 0> (x, z)  y = GatherND(t, a)", (0, 3)),
    ("y = OneHot(x, depth, pair)", (0, 6)),
    ("y = Reshape(t, x)", (1, 5)),
    ("y = Expand(t, x)", (1, 5)),
    ("y = Slice(t, z, x)", (1, 5)),
    ("y = Tile(t, x)", (1, 5)),
    ("y = If(c) <then_branch = p () => (u) { u = Gather(t, x) }, "
     "else_branch = q () => (u) { u = Gather(w, x) }>", (0, 3)),
    ("y = local.f(x)", (0, 2)),
    ("y = Neg(x)", None),
]  # fmt: skip


@pytest.mark.parametrize(("body", "bounds"), BOUNDS)
def test_indices_and_sizes_have_bounds(body: str, bounds: tuple[int, int] | None) -> None:
    constants = """int64[1] z = {0}, int64 depth = {6}, float[2] pair = {0, 1}, bool c = {1},
        int64[1] two = {2}, float[4] v = {1, 2, 3, 4}"""
    function = ""
    if "local" in body:
        function = '<domain: "local", opset_import: ["" : 17]> f (b) => (y) '
        function += "{ a = Constant <value = float[2] {1, 2}> ()  y = Gather(a, b) }"
    text = f"g (int64[N] x) => (y) <{constants}> {{ {body} }} {function}"
    tables = {"t": np.ones((5, 3), np.float32), "w": np.ones((3, 7), np.float32)}
    found = index_bounds(kit.holding(model(text), **tables))
    assert found == ({"x": bounds} if bounds else {})


def test_indices_of_a_large_table_are_drawn_from_all_of_it() -> None:
    text = "g (int64[N] x) => (y) { y = Gather(t, x) }"
    reference = on(kit.holding(model(text), t=np.ones((1000, 2), np.float32)))
    drawn = np.concatenate([case.feed["x"] for case in reference._cases])
    assert (reference.count, drawn.max() > 500) == (3, True)


def test_scales_of_a_resize_stay_small() -> None:
    text = """g (float[1, 1, 4, 4] x, float[4] scales) => (y)
        { y = Resize <mode = "nearest"> (x, , scales) }"""
    assert index_bounds(model(text)) == {"scales": (1, 3)}


# Structure

CONV = """g (float[N, 3, 8, 8] x) => (float[N, 4, 6, 6] y) { a = Conv(x, w)  y = Relu(a) }"""
W = np.ones((4, 3, 3, 3), np.float32)
BIG = np.ones((40, 40), np.float32)


def structure(before: Model, after: Model, source: Path | None = None) -> None:
    check_structure(before, after, source or after.to_bytes())


def test_a_copy_is_as_valid_as_the_model() -> None:
    of = kit.holding(model(CONV), w=W)
    structure(of, of.copy())


IFACE = "g (float[N] x, int64[2] i) => (float[N] y, float[N] z) { y = Neg(x)  z = Abs(x) }"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("g (float[N] x, int64[2] i)", "g (int64[2] i, float[N] x)", "inputs x, i became i, x"),
        ("g (float[N] x, int64[2] i)", "g (float[N] x)", "inputs x, i became x"),
        ("(float[N] y, float[N] z)", "(float[N] z, float[N] y)", "outputs y, z became z, y"),
        ("int64[2] i", "int32[2] i", "input 'i' was INT64, 2, became INT32, 2"),
        ("float[N] x", "float[M] x", "input 'x' was FLOAT, N, became FLOAT, M"),
        ("float[N] z", "float[4] z", "output 'z' was FLOAT, N, became FLOAT, 4"),
        ("float[N] z", "float[N, N] z", "output 'z' was FLOAT, N, became FLOAT, NxN"),
    ],
)
def test_the_interface_must_not_change(old: str, new: str, message: str) -> None:
    with pytest.raises(BrokenModel, match=message):
        structure(model(IFACE), model(IFACE.replace(old, new)))


def test_an_input_that_may_be_overridden_is_part_of_the_interface() -> None:
    before = "g (float[1] x, float[1] w) => (float[1] y) <float[1] w = {1}> { y = Neg(x) }"
    after = "g (float[1] x) => (float[1] y) { y = Neg(x) }"
    with pytest.raises(BrokenModel, match="inputs x, w became x"):
        structure(model(before), model(after))
    structure(model(before, ir=3), model(after, ir=3))  # there it may not be overridden


@pytest.mark.parametrize("as_file", [False, True])
@pytest.mark.parametrize(
    ("after", "message"),
    [
        (CONV.replace("Relu", "Nonsense"), "No Op registered for Nonsense"),
        (CONV.replace("Relu(a)", "Relu(b)"), "topologically sorted"),
        (CONV.replace("Conv(", "Conv <foo = 1> ("), "Unrecognized attribute: foo"),
        (CONV.replace("Relu(a)", "Reshape(a)"), "Reshape"),
        (CONV.replace("Relu(a)", "MaxPool <kernel_shape = [9]> (a)"), "kernel_shape"),
    ],
)
def test_the_result_must_satisfy_the_checker(after: str, message: str, as_file: bool) -> None:
    before, broken = (kit.holding(model(text), w=W) for text in (CONV, after))
    with pytest.raises(BrokenModel, match=f"not valid ONNX: .*{message}"):
        structure(before, broken, Path("nowhere.onnx") if as_file else None)


def test_the_checker_asks_no_more_of_the_result_than_of_the_original() -> None:
    """Shape inference fails on one, and the plain checker on the other."""
    wrong_shape = CONV.replace("Conv(x, w)", "MatMul(x, w)")
    unknown = CONV.replace("Relu", "Nonsense")
    for text in (wrong_shape, unknown):
        of = kit.holding(model(text), w=W)
        structure(of, of.copy())
    half, none = (kit.holding(model(text), w=W) for text in (wrong_shape, unknown))
    with pytest.raises(BrokenModel, match="No Op registered for Nonsense"):
        structure(half, none)


INNER = """g (bool c, float[N, 40] x) => (float[N, 40] y) {
    y = If (c) <
        then_branch = p () => (float[N, 40] u) { u = MatMul(x, big) },
        else_branch = q () => (float[N, 40] v) { v = Neg(x) }
    > }"""


def with_large_constants() -> Model:
    """Put weights where they can be: initializers and Constant nodes, inside and outside."""
    proto = kit.holding(model(INNER), big=BIG).proto()
    branch = proto.graph.node[0].attribute[0].g
    branch.initializer.add().CopyFrom(proto.graph.initializer.pop())
    constant = branch.node.add(op_type="Constant", output=["other"])
    constant.attribute.add(name="value", type=4).t.CopyFrom(branch.initializer[0])
    return Model.from_proto(proto)


def test_large_weights_anywhere_are_not_read_for_the_check() -> None:
    of = with_large_constants()
    light = validate._without_weights(of)
    assert light.ByteSize() < 1000
    assert {info.name for info in light.graph.input} == {"c", "x", "big", "other"}
    structure(of, of.copy(), Path("nowhere.onnx"))


def test_weights_of_the_same_name_in_two_branches_do_not_clash() -> None:
    proto = with_large_constants().proto()
    other = proto.graph.node[0].attribute[1].g
    tensor = other.initializer.add(name="big", dims=[500], data_type=TensorProto.FLOAT)
    tensor.raw_data = bytes(2000)
    of = Model.from_proto(proto)
    other = validate._without_weights(of).graph.node[0].attribute[1].g
    assert list(other.initializer[0].dims) == [500]
    structure(of, of.copy(), Path("nowhere.onnx"))


# Noise

LOUDER = unary("y = Mul(x, c)", "float[1] c = {2.2}")


def noise(before: str, after: str) -> float:
    return on(model(before)).noise(model(after).to_bytes())


def test_noise_is_a_ratio_of_powers() -> None:
    assert noise(TWICE, LOUDER) == pytest.approx(0.01, rel=1e-4)


def test_a_model_adds_no_noise_to_itself() -> None:
    assert noise(TWICE, TWICE) == 0


def test_what_becomes_nan_is_infinitely_noisy() -> None:
    assert noise(TWICE, unary("y = Mul(x, c)", "float[1] c = {nan}")) == math.inf


def test_noise_needs_an_output_of_floats() -> None:
    discrete = unary("y = Cast <to = 7> (x)", y="int64[N]")
    with pytest.raises(MissingData, match="no output of floats"):
        noise(discrete, discrete)
