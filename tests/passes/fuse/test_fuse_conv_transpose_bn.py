"""ConvTranspose followed by BatchNormalization."""

import numpy as np
import pytest

from kit import assert_declines, assert_rewrites, holding, model
from onnxslim.ir import Array, Model
from onnxslim.passes.fuse.fuse_conv_transpose_bn import FuseConvTransposeBn

FUSE = FuseConvTransposeBn()


def conv_bn(
    conv: str = "ConvTranspose(x, w)",
    weight: tuple[int, ...] = (2, 3, 3, 3),
    channels: int = 3,
    x: str = "float[1, 2, 4, 4]",
    opset: int = 20,
    bn: str = "y = BatchNormalization(c, s, b, m, v)",
) -> Model:
    rng = np.random.default_rng(0)
    arrays: dict[str, Array] = {name: rng.normal(size=channels) for name in "sbmk"}
    arrays |= {"w": rng.normal(size=weight), "v": rng.uniform(0.5, 2, size=channels)}
    rank = len(weight)
    text = f"g ({x} x) => (float[{', '.join('ABCDE'[:rank])}] y) {{ c = {conv} {bn} }}"
    arrays = {name: value.astype(np.float32) for name, value in arrays.items()}
    if "k" not in conv:
        del arrays["k"]
    return holding(model(text, opset), **arrays)


@pytest.mark.parametrize("opset", [7, 9, 11, 14, 20, 22])
def test_without_a_bias(opset: int) -> None:
    assert_rewrites(conv_bn(opset=opset), FUSE, ["ConvTranspose"])


def test_with_a_bias() -> None:
    assert_rewrites(conv_bn("ConvTranspose(x, w, k)"), FUSE, ["ConvTranspose"])


@pytest.mark.parametrize("groups", [2, 4])
def test_in_groups(groups: int) -> None:
    before = conv_bn(
        f"ConvTranspose<group = {groups}>(x, w, k)", (4, 3, 2, 2), 3 * groups, "float[1, 4, 3, 3]"
    )
    assert_rewrites(before, FUSE, ["ConvTranspose"])


def test_one_dimension_in_groups() -> None:
    before = conv_bn("ConvTranspose<group = 2>(x, w)", (4, 2, 3), 4, "float[1, 4, 5]")
    assert_rewrites(before, FUSE, ["ConvTranspose"])


def test_places_that_no_filter_reaches() -> None:
    conv = "ConvTranspose<strides = [3, 3], output_padding = [1, 1]>(x, w)"
    assert_rewrites(conv_bn(conv, (2, 3, 1, 1)), FUSE, ["ConvTranspose"])


def test_attributes_stay() -> None:
    after = assert_rewrites(
        conv_bn("ConvTranspose<strides = [2, 2]>(x, w)"), FUSE, ["ConvTranspose"]
    )
    (conv,) = after.nodes()
    assert conv.attrs == {"strides": [2, 2]}


def test_training() -> None:
    bn = "y, p, q = BatchNormalization<training_mode = 1>(c, s, b, m, v)"
    assert_declines(conv_bn(bn=bn), FUSE, "BatchNormalization is in training mode")


def test_read_elsewhere() -> None:
    bn = "n = BatchNormalization(c, s, b, m, v) y = Add(n, c)"
    assert_declines(conv_bn(bn=bn), FUSE, "an inner result is read elsewhere too")


def test_weights_of_the_input() -> None:
    before = model("""g (float[1, 1, 2, 2] x, float[1, 1, 2, 2] w) => (float[A, B, C, D] y)
    <float[1] s = {1}> { c = ConvTranspose(x, w) y = BatchNormalization(c, s, s, s, s) }""")
    assert_declines(before, FUSE, "weight is not a constant")
