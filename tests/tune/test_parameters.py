"""Which initializers are weights."""

from __future__ import annotations

import pytest
import torch

from kit import model
from onnxslim.tune.parameters import Constraints, gammas, rate, tunable


def names(body: str, initializers: str = "float[4] w = {1, 2, 3, 4}") -> set[str]:
    text = f"main (float[N, 4] x) => (float[N, 4] y) <{initializers}> {{ {body} }}"
    return set(tunable(model(text)))


def test_weights_are_tuned() -> None:
    assert names("y = Mul (x, w)") == {"w"}


def test_a_scale_of_one_number_is_tuned() -> None:
    assert names("y = Mul (x, s)", "float s = {0.5}") == {"s"}


@pytest.mark.parametrize(
    "body", ["y = Add (x, s)", "y = Max (x, s)", "y = Pow (x, s)", "y = Clip (x, s)"]
)
def test_an_epsilon_a_bound_and_an_exponent_are_settings(body: str) -> None:
    assert not names(body, "float s = {0.5}")


def test_a_weight_that_is_also_a_setting_is_not_tuned() -> None:
    assert not names("a = Mul (x, s) y = Clip (a, s)", "float s = {0.5}")


def test_integers_are_not_tuned() -> None:
    codebook = "float[2] w = {1, 2}, int64[4] p = {0, 1, 1, 0}"
    assert names("i = Gather (w, p) y = Mul (x, i)", codebook) == {"w"}


def test_infinite_numbers_are_not_tuned() -> None:
    assert not names("y = Mul (x, w)", "float[4] w = {1, 2, inf, 4}")


def test_patterns_freeze() -> None:
    text = """main (float[N, 4] x) => (float[N, 4] y) <float[4] w1 = {1, 2, 3, 4},
    float[4] w2 = {1, 2, 3, 4}> { a = Mul (x, w1) y = Mul (a, w2) }"""
    assert set(tunable(model(text), ["*1"])) == {"w2"}


def test_the_scales_of_batch_normalization_are_found() -> None:
    text = """main (float[N, 2] x) => (float[N, 2] y)
    <float[2] g = {1, 2}, float[2] b = {1, 2}, float[2] m = {0, 0}, float[2] v = {1, 1}>
    { y = BatchNormalization (x, g, b, m, v) }"""
    found = tunable(model(text))
    assert (set(found), gammas(found)) == ({"g", "b"}, ["g"])


def test_the_learning_rate_rises_and_falls_along_a_cosine() -> None:
    rates = [rate(done, "cosine", 0.2) for done in (0.1, 0.2, 0.6, 1.0)]
    assert rates == pytest.approx([0.5, 1.0, 0.5, 0.0])


def test_a_constant_learning_rate_rises_too() -> None:
    assert [rate(done, "constant", 0.2) for done in (0.1, 0.2, 1.0)] == [0.5, 1.0, 1.0]


@pytest.mark.parametrize(("start", "end"), [(0.5, 5e-4), (-0.5, -5e-4)])
def test_scales_of_quantization_keep_their_sign(start: float, end: float) -> None:
    text = f"""main (float[N, 2] x) => (int8[N, 2] y) <float s = {{{start}}}, int8 z = {{0}}>
    {{ y = QuantizeLinear (x, s, z) }}"""
    scale = torch.tensor(start)
    constraints = Constraints({"s": scale}, tunable(model(text)), [])
    constraints.hold(lambda: scale.neg_())
    assert scale.item() == pytest.approx(end)
