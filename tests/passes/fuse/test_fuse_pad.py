"""A Pad before a layer that can pad by itself."""

import numpy as np
import pytest

from kit import assert_declines, assert_rewrites, holding, model
from onnxslim.ir import Array, Model
from onnxslim.passes.fuse.fuse_pad import FusePad

FUSE = FusePad()
PADS = (0, 0, 1, 0, 0, 0, 2, 1)


def layer(
    body: str,
    pads: tuple[int, ...] = PADS,
    value: float = 0,
    opset: int = 13,
    x: str = "float[N, 2, 5, 6]",
    axes: tuple[int, ...] = (2, 3),
) -> Model:
    kind = np.float16 if x.startswith("float16") else np.float32
    arrays: dict[str, Array] = {
        "pads": np.array(pads),
        "value": np.array(value, kind),
        "axes": np.array(axes),
        "w": np.random.default_rng(0).normal(size=(3, 2, 3, 3)).astype(kind),
        "b": np.ones(3, kind),
    }
    return holding(model(f"g ({x} x) => ({x.split('[')[0]}[] y) {{ {body} }}", opset), **arrays)


PAD = "p = Pad(x, pads, value)"


@pytest.mark.parametrize("opset", [11, 13, 18, 21, 22])
def test_a_conv(opset: int) -> None:
    after = assert_rewrites(layer(f"{PAD} y = Conv(p, w, b)", opset=opset), FUSE, ["Conv"])
    assert next(after.nodes()).attr("pads") == [1, 0, 2, 1]


@pytest.mark.parametrize("opset", [7, 10])
def test_pads_as_an_attribute(opset: int) -> None:
    before = layer(f"p = Pad<pads = {list(PADS)}>(x) y = Conv(p, w)", opset=opset)
    assert_rewrites(before, FUSE, ["Conv"])


def test_pads_of_some_axes() -> None:
    before = layer("p = Pad(x, pads, , axes) y = Conv(p, w)", (1, 0, 2, 1), opset=18, axes=(-1, 2))
    after = assert_rewrites(before, FUSE, ["Conv"])
    assert next(after.nodes()).attr("pads") == [0, 1, 1, 2]


def test_a_conv_that_pads_already() -> None:
    body = f"{PAD} y = Conv<pads = [1, 2, 3, 4], strides = [2, 1]>(p, w)"
    after = assert_rewrites(layer(body), FUSE, ["Conv"])
    assert next(after.nodes()).attr("pads") == [2, 2, 5, 5]


def test_a_conv_that_is_said_not_to_pad() -> None:
    body = f'{PAD} y = Conv<auto_pad = "VALID">(p, w)'
    after = assert_rewrites(layer(body), FUSE, ["Conv"])
    assert "auto_pad" not in next(after.nodes()).attrs


def test_half_precision() -> None:
    before = layer(f"{PAD} y = Conv(p, w)", x="float16[1, 2, 5, 6]")
    assert_rewrites(before, FUSE, ["Conv"])


def test_a_conv_that_pads_by_its_size() -> None:
    body = f'{PAD} y = Conv<auto_pad = "SAME_UPPER">(p, w)'
    assert_declines(layer(body), FUSE, "the layer pads by its size")


def test_another_value() -> None:
    assert_declines(layer(f"{PAD} y = Conv(p, w)", value=1), FUSE, "something else than 0")


@pytest.mark.parametrize("mode", ["reflect", "edge"])
def test_another_mode(mode: str) -> None:
    body = f'p = Pad<mode = "{mode}">(x, pads) y = Conv(p, w)'
    assert_declines(layer(body), FUSE, "the Pad repeats elements")


def test_pads_below_0() -> None:
    pads = (0, 0, 1, -1, 0, 0, 0, 0)
    assert_declines(layer(f"{PAD} y = Conv(p, w)", pads), FUSE, "the Pad cuts")


def test_padded_channels() -> None:
    before = layer(f"{PAD} y = Conv(p, w)", (0, 1, 0, 0, 0, 0, 0, 0), x="float[1, 1, 5, 6]")
    assert_declines(before, FUSE, "it pads batches or channels")


def test_pads_that_are_computed() -> None:
    text = "g (float[1, 2, 5, 6] x, int64[8] n) => (float[] y) { p = Pad(x, n) y = Conv(p, w) }"
    before = holding(model(text, 13), w=np.ones((3, 2, 3, 3), np.float32))
    assert_declines(before, FUSE, "pads is not a constant")


def test_a_pad_that_others_read() -> None:
    before = layer(f"{PAD} c = Conv(p, w) s = ReduceSum(p) y = Add(c, s)")
    assert_declines(before, FUSE, "an inner result is read elsewhere too")


# Pooling ------------------------------------------------------------------------------------------

AVERAGE = "y = AveragePool<kernel_shape = [3, 3]{0}>(p)"
LARGEST = "y = MaxPool<kernel_shape = [3, 3]{0}>({1})"


@pytest.mark.parametrize("more", ["", ", strides = [2, 2]", ", pads = [0, 1, 0, 1]"])
def test_an_average_that_counts_padding(more: str) -> None:
    before = layer(f"{PAD} {AVERAGE.format(more + ', count_include_pad = 1')}")
    assert_rewrites(before, FUSE, ["AveragePool"])


def test_an_average_without_padding() -> None:
    assert_rewrites(layer(f"{PAD} {AVERAGE.format('')}"), FUSE, ["AveragePool"])


def test_an_average_that_does_not_count_its_padding() -> None:
    before = layer(f"{PAD} {AVERAGE.format(', pads = [1, 1, 1, 1]')}")
    assert_declines(before, FUSE, "does not count its own padding")


def test_windows_that_may_reach_over_the_end() -> None:
    before = layer(f"{PAD} {AVERAGE.format(', ceil_mode = 1, strides = [2, 2]')}")
    assert_declines(before, FUSE, "windows may reach over the end")


def test_windows_of_padding_alone() -> None:
    before = layer(f"{PAD} {AVERAGE.format('')}", (0, 0, 3, 0, 0, 0, 0, 0))
    assert_declines(before, FUSE, "nothing but padding")


def test_the_largest_of_what_is_never_below_0() -> None:
    body = f"r = Relu(x) p = Pad(r, pads, value) {LARGEST.format('', 'p')}"
    assert_rewrites(layer(body), FUSE, ["Relu", "MaxPool"])


def test_the_largest_of_several_that_are_never_below_0() -> None:
    body = "r = Relu(x) s = Sigmoid(x) c = Concat<axis = 1>(r, s) p = Pad(c, pads, value)"
    before = layer(f"{body} {LARGEST.format('', 'p')}")
    assert_rewrites(before, FUSE, ["Relu", "Sigmoid", "Concat", "MaxPool"])


def test_the_largest_over_a_padding_below_all_numbers() -> None:
    before = layer(f"{PAD} {LARGEST.format('', 'p')}", value=-np.inf)
    assert_rewrites(before, FUSE, ["MaxPool"])


def test_the_largest_of_anything() -> None:
    assert_declines(layer(f"{PAD} {LARGEST.format('', 'p')}"), FUSE, "might be the largest")


def test_the_largest_where_one_is_not_surely_above_0() -> None:
    body = "r = Relu(x) c = Concat<axis = 1>(r, x) p = Pad(c, pads, value)"
    before = layer(f"{body} {LARGEST.format('', 'p')}")
    assert_declines(before, FUSE, "might be the largest")


def test_windows_with_holes() -> None:
    body = LARGEST.format(", dilations = [2, 1]", "p")
    assert_declines(layer(f"{PAD} {body}", value=-np.inf), FUSE, "the windows have holes")


def test_an_image_that_is_empty() -> None:
    before = layer(f"{PAD} y = AveragePool<kernel_shape = [3, 2]>(p)", x="float[1, 2, 3, 0]")
    assert_declines(before, FUSE, "no empty image")
