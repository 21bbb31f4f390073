"""Something added to whole channels before the mean of each channel is taken off."""

import numpy as np
import pytest

from kit import assert_declines, assert_rewrites, holding, model
from onnxslim.ir import Model
from onnxslim.passes.fuse.drop_shift_before_norm import DropShiftBeforeNorm

DROP = DropShiftBeforeNorm()
NORM = "y = InstanceNormalization(a, s, t)"


def layer(body: str, c: tuple[int, ...] = (4, 1), x: str = "[N, 4, 9]", opset: int = 20) -> Model:
    rng = np.random.default_rng(0)
    arrays = {"w": (4, 4, 2), "b": (4,), "c": c, "s": (4,), "t": (4,)}
    made = {name: rng.normal(size=shape).astype(np.float32) for name, shape in arrays.items()}
    return holding(model(f"g (float{x} x) => (float[] y) {{ {body} {NORM} }}", opset), **made)


@pytest.mark.parametrize("operator", ["Conv", "ConvTranspose"])
def test_a_bias(operator: str) -> None:
    before = layer(f"a = {operator}<pads = [1, 0]>(x, w, b)")
    after = assert_rewrites(before, DROP, [operator, "InstanceNormalization"])
    assert len(next(after.nodes()).inputs) == 2


@pytest.mark.parametrize("total", ["Add(x, c)", "Add(c, x)", "Sub(x, c)"])
@pytest.mark.parametrize("shape", [(), (4, 1), (1, 4, 1)])
def test_a_sum(total: str, shape: tuple[int, ...]) -> None:
    assert_rewrites(layer(f"a = {total}", shape), DROP, ["InstanceNormalization"])


def test_the_opposite() -> None:
    assert_declines(layer("a = Sub(c, x)"), DROP)


@pytest.mark.parametrize("shape", [(9,), (4, 9)])
def test_a_sum_that_differs_within_a_channel(shape: tuple[int, ...]) -> None:
    assert_declines(layer("a = Add(x, c)", shape), DROP, "other dimensions than the channels")


def test_a_sum_that_adds_channels() -> None:
    assert_declines(layer("a = Add(x, c)", x="[N, 1, 9]"), DROP, "the sum may have another shape")


def test_a_sum_that_others_read() -> None:
    text = f"g (float[2, 4, 9] x) => (float[] z) {{ a = Add(x, c) {NORM} z = Add(y, a) }}"
    ones = np.ones(4, np.float32)
    before = holding(model(text), c=np.ones((4, 1), np.float32), s=ones, t=ones)
    assert_declines(before, DROP, "an inner result is read elsewhere too")
