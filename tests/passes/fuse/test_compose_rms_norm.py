"""Normalization by the root of the mean square, written out."""

import numpy as np
import pytest

from kit import assert_declines, assert_rewrites, holding, model
from onnxslim.ir import Array, Model
from onnxslim.passes.fuse.compose_rms_norm import ComposeRmsNorm

COMPOSE = ComposeRmsNorm()
HEAD = "q = Pow(x, two) v = ReduceMean(q, axes) a = Add(v, e) s = Sqrt(a)"
TYPES = {"float": np.float32, "float16": np.float16}
BODY = f"{HEAD} n = Div(x, s) y = Mul(g, n)"


def formula(body: str = BODY, x: str = "float[N, 4, 6]", opset: int = 23, axis: int = -1) -> Model:
    kind = "float16" if "Cast" in body else "float"
    arrays: dict[str, Array] = {
        "two": np.array(2, np.float32),
        "e": np.array(1e-3, np.float32),
        "g": np.random.default_rng(0).normal(size=6).astype(TYPES[kind]),
        "axes": np.array([axis]),
    }
    return holding(model(f"g ({x} x) => ({kind}[] y) {{ {body} }}", opset, 11), **arrays)


@pytest.mark.parametrize("opset", [23, 24, 26])
def test_versions(opset: int) -> None:
    assert_rewrites(formula(opset=opset), COMPOSE, ["RMSNormalization"])


@pytest.mark.parametrize(
    "body",
    [
        f"{HEAD} r = Reciprocal(s) n = Mul(x, r) y = Mul(n, g)",
        BODY.replace("Pow(x, two)", "Mul(x, x)"),
        f"{HEAD} y = Div(x, s)",
    ],
)
def test_in_other_words(body: str) -> None:
    assert_rewrites(formula(body), COMPOSE, ["RMSNormalization"])


def test_half_precision_widened_for_the_statistics() -> None:
    body = f"x = Cast<to = 1>(x16) {HEAD} n = Div(x, s) c = Cast<to = 10>(n) y = Mul(g, c)"
    before = formula(body, "float16[2, 6]")
    proto = before.proto()
    proto.graph.input[0].name = "x16"
    after = assert_rewrites(Model.from_proto(proto), COMPOSE, ["RMSNormalization"])
    assert next(after.nodes()).inputs[0].name == "x16"


def test_before_the_operator_existed() -> None:
    assert_declines(formula(opset=22), COMPOSE, "needs opset 23")


def test_over_another_dimension() -> None:
    assert_declines(formula(axis=1), COMPOSE, "not over the last dimensions")


def test_of_something_else() -> None:
    assert_declines(formula(f"{HEAD} w = Abs(x) n = Div(w, s) y = Mul(g, n)"), COMPOSE)
