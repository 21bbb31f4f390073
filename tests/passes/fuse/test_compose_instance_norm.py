"""Normalization of every channel over its space, written out."""

import numpy as np
import pytest

from kit import assert_declines, assert_rewrites, holding, model
from onnxslim.ir import Array, Model
from onnxslim.passes.fuse.compose_instance_norm import ComposeInstanceNorm

COMPOSE = ComposeInstanceNorm()
TYPES = {"float": np.float32, "float16": np.float16, "double": np.float64}
BODY = """m = ReduceMean(x) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q) a = Add(v, e)
    s = Sqrt(a) n = Div(d, s)"""
FULL = "k = Mul(n, g) y = Add(k, b)"


def formula(
    tail: str = FULL,
    kind: str = "float",
    x: str = "[N, 3, 4, 5]",
    axes: str = "2, 3",
    opset: int = 13,
    params: tuple[int, ...] = (3, 1, 1),
) -> Model:
    rng = np.random.default_rng(0)
    body = BODY.replace("Mean(", f"Mean<axes = [{axes}]>(")
    arrays: dict[str, Array] = {"e": np.array(1e-3, TYPES[kind])}
    arrays |= {name: rng.normal(size=params).astype(TYPES[kind]) for name in ("g", "b")}
    return holding(model(f"g ({kind}{x} x) => ({kind}[] y) {{ {body} {tail} }}", opset), **arrays)


@pytest.mark.parametrize("opset", [7, 11, 13, 17])
def test_versions(opset: int) -> None:
    assert_rewrites(formula(opset=opset), COMPOSE, ["InstanceNormalization"])


def test_axes_as_an_input() -> None:
    text = """g (float[N, 3, 4, 5] x) => (float[] y) <int64[2] axes = {-1, -2}, float e = {0.1}> {
        m = ReduceMean(x, axes) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, axes) a = Add(v, e)
        s = Sqrt(a) y = Div(d, s)
    }"""
    assert_rewrites(model(text), COMPOSE, ["InstanceNormalization"])


@pytest.mark.parametrize(
    ("x", "axes", "params"),
    [
        ("[2, 3, 4]", "-1", (3, 1)),
        ("[2, 3, 4]", "2", (1, 3, 1)),
        ("[2, 3, 5, 4]", "-1, -2", (1, 3, 1, 1)),
        ("[2, 3, 4, 2, 2]", "2, 3, 4", (3, 1, 1, 1)),
    ],
)
def test_ranks(x: str, axes: str, params: tuple[int, ...]) -> None:
    before = formula(x=x, axes=axes, params=params)
    after = assert_rewrites(before, COMPOSE, ["InstanceNormalization"])
    (node,) = after.nodes()
    assert [tensor.shape for tensor in node.inputs[1:]] == [(3,), (3,)]


def test_an_image_that_may_be_empty() -> None:
    """On one, onnxruntime's kernel ends the process."""
    before = formula(x="[2, 3, H, 4]", axes="-1, -2", params=(1, 3, 1, 1))
    assert_declines(before, COMPOSE, "where the space is empty")


@pytest.mark.parametrize(("tail", "ops"), [("y = Mul(n, g)", 1), ("y = Neg(n)", 2)])
def test_without_parameters(tail: str, ops: int) -> None:
    after = assert_rewrites(formula(tail), COMPOSE, ["InstanceNormalization", "Neg"][:ops])
    assert not next(after.nodes()).inputs[2].values.any()


def test_half_precision() -> None:
    assert_rewrites(formula(kind="float16"), COMPOSE, ["InstanceNormalization"])


def test_double_precision() -> None:
    assert_declines(formula(kind="double"), COMPOSE, "no kernel")


def test_a_layer_normalization() -> None:
    before = formula("y = Neg(n)", x="[2, 3, 4]", axes="2")
    assert_declines(before, COMPOSE, "rather a LayerNormalization")


@pytest.mark.parametrize("axes", ["3", "1, 2, 3", "0, 2, 3"])
def test_over_other_dimensions(axes: str) -> None:
    assert_declines(formula(axes=axes), COMPOSE, "not over the space")


def test_parameters_of_another_alignment() -> None:
    before = formula(x="[N, 3, 5, 3]", params=(3,))
    assert_rewrites(before, COMPOSE, ["InstanceNormalization", "Mul", "Add"])


def test_a_number_of_channels_that_is_not_known() -> None:
    assert_declines(formula("y = Neg(n)", x="[N, C, 4, 5]"), COMPOSE, "not known")
