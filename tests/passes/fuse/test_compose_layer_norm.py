"""Normalization over the last dimensions, written out."""

import numpy as np
import pytest

from kit import assert_declines, assert_rewrites, holding, model
from onnxslim.ir import Array, Model
from onnxslim.passes.fuse.compose_layer_norm import ComposeLayerNorm

COMPOSE = ComposeLayerNorm()
TYPES = {"float": np.float32, "float16": np.float16, "double": np.float64}
AXES = np.array([-1])


def formula(
    body: str,
    kind: str = "float",
    x: str = "[N, 4, 6]",
    opset: int = 20,
    axes: Array = AXES,
    params: tuple[int, ...] = (6,),
) -> Model:
    rng = np.random.default_rng(0)
    numbers = {"one": 1, "two": 2, "e": 1e-3, "minus": -0.5}
    arrays: dict[str, Array] = {k: np.array(v, TYPES[kind]) for k, v in numbers.items()}
    arrays |= {name: rng.normal(size=params).astype(TYPES[kind]) for name in ("g", "b")}
    if opset >= 18:
        arrays["axes"] = axes
    else:
        body = body.replace(", axes)", ")").replace("Mean(", f"Mean<axes = {axes.tolist()}>(")
    return holding(model(f"g ({kind}{x} x) => ({kind}[] y) {{ {body} }}", opset), **arrays)


HEAD = "m = ReduceMean(x, axes) d = Sub(x, m)"
POW = "q = Pow(d, two) v = ReduceMean(q, axes) a = Add(v, e)"
MUL = "q = Mul(d, d) v = ReduceMean(q, axes) a = Add(e, v)"
DIV = "s = Sqrt(a) n = Div(d, s)"
FULL = "k = Mul(n, g) y = Add(k, b)"


@pytest.mark.parametrize("opset", [17, 18, 20, 22])
def test_versions(opset: int) -> None:
    before = formula(f"{HEAD} {POW} {DIV} {FULL}", opset=opset)
    assert_rewrites(before, COMPOSE, ["LayerNormalization"])


@pytest.mark.parametrize(
    "quotient",
    [
        DIV,
        "s = Sqrt(a) r = Reciprocal(s) n = Mul(d, r)",
        "s = Sqrt(a) r = Div(one, s) n = Mul(r, d)",
        "r = Pow(a, minus) n = Mul(d, r)",
    ],
)
@pytest.mark.parametrize("square", [POW, MUL])
def test_the_quotient_in_other_words(square: str, quotient: str) -> None:
    before = formula(f"{HEAD} {square} {quotient} {FULL}")
    assert_rewrites(before, COMPOSE, ["LayerNormalization"])


def test_the_scale_over_the_deviation() -> None:
    body = f"{HEAD} {POW} s = Sqrt(a) r = Div(g, s) k = Mul(d, r) y = Add(b, k)"
    assert_rewrites(formula(body), COMPOSE, ["LayerNormalization"])


def test_as_a_batch_normalization_is_written_out() -> None:
    body = f"""{HEAD} {MUL} s = Sqrt(a) i = Reciprocal(s) r = Mul(i, g) k = Mul(x, r)
        h = Mul(m, r) c = Sub(b, h) y = Add(k, c)"""
    assert_rewrites(formula(body), COMPOSE, ["LayerNormalization"])


def test_the_difference_computed_twice() -> None:
    body = f"""m = ReduceMean(x, axes) d = Sub(x, m) m2 = ReduceMean(x, axes) d2 = Sub(x, m2)
        q = Mul(d2, d2) v = ReduceMean(q, axes) a = Add(v, e) {DIV} {FULL}"""
    assert_rewrites(formula(body), COMPOSE, ["LayerNormalization"])


def test_without_a_shift() -> None:
    body = f"{HEAD} {POW} {DIV} y = Mul(n, g)"
    after = assert_rewrites(formula(body), COMPOSE, ["LayerNormalization"])
    assert [len(node.inputs) for node in after.nodes()] == [2]


def test_without_parameters() -> None:
    body = f"{HEAD} {POW} s = Sqrt(a) y = Div(d, s)"
    after = assert_rewrites(formula(body), COMPOSE, ["LayerNormalization"])
    (node,) = after.nodes()
    assert np.all(node.constant(1) == 1)


def test_without_parameters_that_would_have_to_be_many() -> None:
    body = f"{HEAD} {POW} s = Sqrt(a) y = Div(d, s)"
    before = formula(body, x="[N, 1000]")
    assert_declines(before, COMPOSE, "the file would grow")


def test_over_two_dimensions() -> None:
    body = f"{HEAD} {POW} {DIV} {FULL}"
    before = formula(body, axes=np.array([2, 1]), params=(4, 6))
    after = assert_rewrites(before, COMPOSE, ["LayerNormalization"])
    assert next(after.nodes()).attr("axis") == -2


def test_parameters_with_ones_before_their_shape() -> None:
    before = formula(f"{HEAD} {POW} {DIV} {FULL}", params=(1, 1, 6))
    after = assert_rewrites(before, COMPOSE, ["LayerNormalization"])
    (node,) = after.nodes()
    assert node.inputs[1].shape == (6,)


def test_epsilon_stays() -> None:
    after = assert_rewrites(formula(f"{HEAD} {POW} {DIV} {FULL}"), COMPOSE, ["LayerNormalization"])
    assert next(after.nodes()).attr("epsilon") == pytest.approx(1e-3)


def test_parameters_that_are_computed() -> None:
    text = """g (float[2, 3] x, float[3] g, float[3] b) => (float[] y)
    <float two = {2}, float e = {0.5}, int64[1] axes = {-1}> {
        m = ReduceMean(x, axes) d = Sub(x, m) q = Pow(d, two) v = ReduceMean(q, axes)
        a = Add(v, e) s = Sqrt(a) n = Div(d, s) k = Mul(n, g) y = Add(k, b)
    }"""
    assert_rewrites(model(text), COMPOSE, ["LayerNormalization"])


@pytest.mark.parametrize("kind", ["float16", "double"])
def test_other_types(kind: str) -> None:
    before = formula(f"{HEAD} {POW} {DIV} {FULL}", kind)
    assert_rewrites(before, COMPOSE, ["LayerNormalization"])


def between_casts(scale: str) -> Model:
    text = f"""g (float16[2, 6] x16) => (float16[2, 6] y) <float two = {{2}}, float e = {{0.5}},
    int64[1] axes = {{-1}}> {{
        x = Cast<to = 1>(x16) {HEAD} {POW} {DIV} {scale} }}"""
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=6).astype(np.float16) for name in ("g", "b")}
    return holding(model(text), **arrays)


def test_half_precision_widened_for_the_statistics() -> None:
    before = between_casts("c = Cast<to = 10>(n) k = Mul(g, c) y = Add(k, b)")
    after = assert_rewrites(before, COMPOSE, ["LayerNormalization"])
    assert next(after.nodes()).inputs[0].name == "x16"


def test_a_cast_on_one_side_only() -> None:
    text = f"""g (float[2, 6] x) => (float16[2, 6] y) <float two = {{2}}, float e = {{0.5}},
    int64[1] axes = {{-1}}> {{ {HEAD} {POW} {DIV} c = Cast<to = 10>(n) y = Mul(g, c) }}"""
    before = holding(model(text), g=np.ones(6, np.float16))
    assert_rewrites(before, COMPOSE, ["LayerNormalization", "Cast", "Mul"])


# Not a normalization of this kind -----------------------------------------------------------------


def test_before_the_operator_existed() -> None:
    assert_declines(formula(f"{HEAD} {POW} {DIV} {FULL}", opset=16), COMPOSE, "needs opset 17")


def test_over_a_dimension_that_is_not_the_last() -> None:
    before = formula(f"{HEAD} {POW} {DIV} {FULL}", axes=np.array([1]))
    assert_declines(before, COMPOSE, "not over the last dimensions")


def test_means_over_different_dimensions() -> None:
    body = f"{HEAD} {POW.replace('axes', 'one_axis')} {DIV} {FULL}"
    before = holding(formula(body, x="[1, 1, 6]"), one_axis=np.array([1]))
    assert_declines(before, COMPOSE, "different axes")


def test_a_mean_over_everything() -> None:
    body = f"{HEAD} {POW} {DIV} {FULL}".replace(", axes)", ")")
    assert_declines(formula(body), COMPOSE, "a mean is over all dimensions")


def test_a_mean_that_loses_its_dimension() -> None:
    body = f"{HEAD} {POW} {DIV} {FULL}".replace("ReduceMean(", "ReduceMean<keepdims = 0>(")
    before = formula(body, x="[6, 6]")
    assert_declines(before, COMPOSE, "does not keep its dimensions")


@pytest.mark.parametrize(("x", "params"), [("[N, 4, 6]", (4, 1)), ("[N, 4, 1]", (6,))])
def test_parameters_for_something_else_stay(x: str, params: tuple[int, ...]) -> None:
    before = formula(f"{HEAD} {POW} {DIV} {FULL}", x=x, params=params)
    assert_rewrites(before, COMPOSE, ["LayerNormalization", "Mul", "Add"])


def test_a_shape_that_is_not_known() -> None:
    text = """g (float[2, 3] x, int64[K] k) => (float[] y)
    <float two = {2}, float e = {0.5}, int64[1] axes = {-1}, float[3] g = {1, 2, 3}> {
        z = Reshape(x, k)
        m = ReduceMean(z, axes) d = Sub(z, m) q = Pow(d, two) v = ReduceMean(q, axes)
        a = Add(v, e) s = Sqrt(a) n = Div(d, s) y = Mul(n, g)
    }"""
    assert_declines(model(text), COMPOSE, "not known")


def test_a_deviation_from_another_mean() -> None:
    body = f"""w = Abs(x) m = ReduceMean(w, axes) d = Sub(x, m) {POW} {DIV} {FULL}"""
    assert_declines(formula(body), COMPOSE)


def test_the_mean_is_read_elsewhere() -> None:
    before = formula(f"{HEAD} {POW} {DIV} k = Mul(n, g) c = Add(k, b) y = Add(c, m)")
    assert_declines(before, COMPOSE, "an inner result is read elsewhere too")
