"""Rectifiers with a slope below 0, written out."""

import numpy as np
import pytest

from kit import assert_declines, assert_rewrites, holding, model
from onnxslim.ir import Array, Model
from onnxslim.passes.fuse.compose_prelu import ComposePrelu

COMPOSE = ComposePrelu()
TYPES = {"float": np.float32, "float16": np.float16, "int32": np.int32}
SLOPE = np.array(0.25)
CHANNELS = np.array([[[0.25]], [[-2]], [[0.5]]])


def formula(
    body: str, slope: Array = SLOPE, kind: str = "float", opset: int = 16, x: str = "[N, 3, 4, 4]"
) -> Model:
    numbers = {"zero": 0, "half": 0.5, "c": slope}
    arrays: dict[str, Array] = {k: np.asarray(v, TYPES[kind]) for k, v in numbers.items()}
    return holding(model(f"g ({kind}{x} x) => ({kind}[] y) {{ {body} }}", opset), **arrays)


BELOW = "n = Neg(x) b = Relu(n)"
FORMULAS = [
    "p = Greater(x, zero) s = Mul(x, c) y = Where(p, x, s)",
    "p = GreaterOrEqual(x, zero) s = Mul(c, x) y = Where(p, x, s)",
    "p = Less(x, zero) s = Mul(x, c) y = Where(p, s, x)",
    "p = LessOrEqual(x, zero) s = Mul(x, c) y = Where(p, s, x)",
    f"{BELOW} a = Relu(x) s = Mul(b, c) y = Sub(a, s)",
    f"{BELOW} a = Relu(x) s = Mul(b, c) y = Add(a, s)",
    f"{BELOW} a = Relu(x) m = Neg(b) s = Mul(m, c) y = Add(a, s)",
    "a = Relu(x) m = Min(x, zero) s = Mul(m, c) y = Add(a, s)",
    "a = Relu(x) t = Abs(x) d = Sub(x, t) s = Mul(d, c) y = Add(a, s)",
    "a = Relu(x) t = Abs(x) d = Sub(x, t) s = Mul(d, c) h = Mul(s, half) y = Add(a, h)",
    "a = Relu(x) t = Abs(x) d = Sub(x, t) h = Mul(d, half) s = Mul(h, c) y = Add(a, s)",
]


@pytest.mark.parametrize("body", FORMULAS)
def test_one_slope(body: str) -> None:
    assert_rewrites(formula(body), COMPOSE, ["LeakyRelu"])


@pytest.mark.parametrize("body", FORMULAS)
def test_a_slope_for_each_channel(body: str) -> None:
    assert_rewrites(formula(body, CHANNELS), COMPOSE, ["PRelu"])


def test_the_larger_of_two() -> None:
    assert_rewrites(formula("s = Mul(x, c) y = Max(s, x)"), COMPOSE, ["LeakyRelu"])


@pytest.mark.parametrize("slope", [-0.5, 1.5])
def test_the_larger_of_two_that_is_no_rectifier(slope: float) -> None:
    before = formula("s = Mul(x, c) y = Max(s, x)", np.array(slope))
    assert_declines(before, COMPOSE, "not from 0 to 1")


@pytest.mark.parametrize("opset", [7, 9, 13])
def test_versions(opset: int) -> None:
    assert_rewrites(formula(FORMULAS[4], CHANNELS, opset=opset), COMPOSE, ["PRelu"])


def test_half_precision() -> None:
    assert_rewrites(formula(FORMULAS[0], kind="float16"), COMPOSE, ["LeakyRelu"])


def test_whole_numbers() -> None:
    body = "p = Greater(x, zero) s = Mul(x, c) y = Where(p, x, s)"
    before = formula(body, np.array(2), kind="int32")
    assert_declines(before, COMPOSE, "no kernel for int32")


def test_slopes_that_add_elements() -> None:
    before = formula(FORMULAS[0], CHANNELS, x="[N, 1, 4, 4]")
    assert_declines(before, COMPOSE, "more elements")


def test_a_condition_on_something_else() -> None:
    before = formula("z = Neg(x) p = Greater(z, zero) s = Mul(x, c) y = Where(p, x, s)")
    assert_declines(before, COMPOSE)


def test_a_threshold_that_is_not_0() -> None:
    before = formula("p = Greater(x, half) s = Mul(x, c) y = Where(p, x, s)")
    assert_declines(before, COMPOSE)
