"""Channels that equal, or are multiples of, other channels."""

from typing import Any

import numpy as np
import pytest

from kit import assert_declines
from nets import assert_leaves, net, norm, weights, zeroed
from onnxslim.ir import Array
from onnxslim.passes.channels.merge_duplicate_channels import MergeDuplicateChannels

MERGE = MergeDuplicateChannels(align="bytes")


def repeated(array: Array, *rows: int) -> Array:
    """Return the chosen rows of *array*."""
    return np.asarray(array[list(rows)])


def twins(*shape: int) -> Array:
    """Return weights for five outputs: 2 equals 0, and 4 equals 3."""
    return repeated(weights(5, *shape), 0, 1, 0, 3, 3)


CUT = "Conv 3x3x3x3"


@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 1, 1, 1]])
def test_equal_rows(pads: list[int]) -> None:
    """Equal channels are equal at the border too."""
    before = net(
        f"c = Conv(x, w, k) r = Relu(c) y = Conv<pads = {pads}>(r, v)",
        w=twins(3, 3, 3), k=repeated(weights(5), 0, 1, 0, 3, 3), v=weights(4, 5, 3, 3),
    )  # fmt: skip
    assert_leaves(before, MERGE, CUT, "Conv 4x3x3x3")


def test_the_weights_that_read_them_are_added() -> None:
    v = weights(4, 5, 1, 1)
    after = assert_leaves(
        net("c = Conv(x, w) y = Conv(c, v)", w=twins(3, 3, 3), v=v), MERGE, CUT, "Conv 4x3x1x1"
    )
    left = after.graph.nodes[1].constant(1)
    assert left is not None
    expected = np.stack([v[:, 0] + v[:, 2], v[:, 1], v[:, 3] + v[:, 4]], 1)
    np.testing.assert_allclose(left, expected, rtol=1e-6)


def test_equal_rows_with_other_biases_stay() -> None:
    body = "c = Conv(x, w, k) r = Relu(c) y = Conv(r, v)"
    before = net(body, w=twins(3, 3, 3), k=weights(5), v=weights(4, 5, 1, 1))
    assert_declines(before, MERGE)


@pytest.mark.parametrize("same", [True, False])
def test_behind_a_batch_normalization(same: bool) -> None:
    given = norm("n", "11111")
    if same:
        given = {name: repeated(array, 0, 1, 0, 3, 3) for name, array in given.items()}
    body = "c = Conv(x, w) t = BN(c, n) r = Sigmoid(t) y = Conv(r, v)"
    before = net(body, w=twins(3, 3, 3), v=weights(4, 5, 1, 1), **given)
    if same:
        assert_leaves(before, MERGE, CUT, "BatchNormalization 3", "Conv 4x3x1x1")
    else:
        assert_declines(before, MERGE)


@pytest.mark.parametrize(
    ("call", "merged"),
    [("Mul(c, f)", True), ("Neg(c)", True), ("Div(c, f)", True), ("Mul(f, c)", True),
     ("Add(c, f)", False), ("Max(c, f)", False), ("Pow(c, f)", False)],
)  # fmt: skip
def test_multiples(call: str, merged: bool) -> None:
    given: dict[str, Any] = {"f": weights(5, 1, 1)} if "f" in call else {}
    body = f"c = Conv(x, w) m = {call} y = Conv(m, v)"
    before = net(body, w=twins(3, 3, 3), v=weights(4, 5, 1, 1), **given)
    op = call.split("(")[0]
    if merged:
        middle = [f"{op} 3x1x1"] if given else []
        assert_leaves(before, MERGE, CUT, *middle, "Conv 4x3x1x1")
    else:
        assert_declines(before, MERGE)


@pytest.mark.parametrize("op", ["Relu", "LeakyRelu", "Abs"])
@pytest.mark.parametrize("factor", [2.0, -2.0])
def test_multiples_behind_a_function(op: str, factor: float) -> None:
    """f(s x) = s f(x) for s > 0 only, but for Abs."""
    body = f"c = Conv(x, w) m = Mul(c, f) r = {op}(m) y = Conv(r, v)"
    f = np.array([1, 1, factor, 1, 3.0]).reshape(5, 1, 1)
    before = net(body, w=twins(3, 3, 3), f=f, v=weights(4, 5, 1, 1))
    left = 3 if factor > 0 else 4
    assert_leaves(before, MERGE, f"Conv {left}x3x3x3", f"Mul {left}x1x1", f"Conv 4x{left}x1x1")


def test_what_is_subtracted_from_zero_is_negative() -> None:
    body = (
        "c = Conv(x, w) a, b = Split<axis = 1>(c, s) m = Sub(z, b) d = Concat<axis = 1>(a, m)"
        "r = Relu(d) y = Conv(r, v)"
    )
    rows = repeated(weights(3, 3, 3, 3), 0, 1, 2, 0, 1, 2)
    z = np.zeros((3, 1, 1))
    before = net(body, w=rows, s=np.array([3, 3]), z=z, v=weights(4, 6, 1, 1))
    assert_declines(before, MERGE)


def test_multiples_behind_another_function_stay() -> None:
    body = "c = Conv(x, w) m = Mul(c, f) r = Tanh(m) y = Conv(r, v)"
    before = net(body, w=twins(3, 3, 3), f=weights(5, 1, 1), v=weights(4, 5, 1, 1))
    assert_declines(before, MERGE)


def test_a_channel_gathered_twice_is_read_once() -> None:
    body = "c = Conv(x, w) g = Gather<axis = 1>(c, i) d = Conv<group = 4>(g, u) y = Conv(d, v)"
    u = repeated(weights(4, 1, 3, 3), 0, 1, 0, 3)
    before = net(body, w=weights(3, 3, 3, 3), i=np.array([0, 1, 0, 2]), u=u, v=weights(4, 4, 1, 1))
    # channels are cut with their source, which another one needs
    assert_declines(before, MERGE)


def test_a_tensor_joined_to_itself_is_read_once() -> None:
    body = "c = Conv(x, w) g = Concat<axis = 1>(c, c) y = Conv(g, v)"
    before = net(body, w=weights(3, 3, 3, 3), v=weights(4, 6, 1, 1))
    assert_declines(before, MERGE)


def test_depthwise_twins() -> None:
    body = "c = Conv(x, w) d = Conv<group = 5, pads = [1, 1, 1, 1]>(c, u) y = Conv(d, v)"
    before = net(body, w=twins(3, 3, 3), u=twins(1, 3, 3), v=weights(4, 5, 1, 1))
    assert_leaves(before, MERGE, CUT, "Conv 3x1x3x3", "Conv 4x3x1x1")


def test_depthwise_with_other_weights_stays() -> None:
    body = "c = Conv(x, w) d = Conv<group = 5, pads = [1, 1, 1, 1]>(c, u) y = Conv(d, v)"
    before = net(body, w=twins(3, 3, 3), u=weights(5, 1, 3, 3), v=weights(4, 5, 1, 1))
    assert_declines(before, MERGE)


def test_in_groups() -> None:
    """Channels merge within their group, and groups keep the same shape."""
    rows = repeated(weights(8, 3, 3, 3), 0, 1, 0, 3, 4, 5, 4, 7)
    body = "c = Conv(x, w) d = Conv<group = 2>(c, u) y = Conv(d, v)"
    before = net(body, w=rows, u=weights(4, 4, 1, 1), v=weights(4, 4, 1, 1))
    assert_leaves(before, MERGE, "Conv 6x3x3x3", "Conv 4x3x1x1", "Conv 4x4x1x1")


def test_across_groups_stays() -> None:
    rows = repeated(weights(8, 3, 3, 3), 0, 1, 2, 3, 0, 1, 2, 3)
    body = "c = Conv(x, w) d = Conv<group = 2>(c, u) y = Conv(d, v)"
    before = net(body, w=rows, u=weights(4, 4, 1, 1), v=weights(4, 4, 1, 1))
    assert_declines(before, MERGE)


def test_residual_twins() -> None:
    body = "a = Conv(x, w) b = Conv(x, u) s = Add(a, b) r = Relu(s) y = Conv(r, v)"
    before = net(body, w=twins(3, 3, 3), u=twins(3, 3, 3) * 2, v=weights(4, 5, 1, 1))
    assert_leaves(before, MERGE, CUT, CUT, "Conv 4x3x1x1")


def test_residual_twins_of_one_operand_stay() -> None:
    body = "a = Conv(x, w) b = Conv(x, u) s = Add(a, b) r = Relu(s) y = Conv(r, v)"
    before = net(body, w=twins(3, 3, 3), u=weights(5, 3, 3, 3), v=weights(4, 5, 1, 1))
    assert_declines(before, MERGE)


@pytest.mark.parametrize("pool", ["MaxPool", "AveragePool", "LpPool"])
def test_pooled_twins(pool: str) -> None:
    body = (
        f"c = Conv(x, w) p = {pool}<kernel_shape = [2, 2], pads = [1, 1, 1, 1]>(c) y = Conv(p, v)"
    )
    before = net(body, w=twins(3, 3, 3), v=weights(4, 5, 1, 1))
    assert_leaves(before, MERGE, CUT, "Conv 4x3x1x1")


def test_normalised_twins() -> None:
    body = "c = Conv(x, w) p = InstanceNormalization(c, s, b) y = Conv(p, v)"
    given: dict[str, Any] = {name: repeated(weights(5), 0, 1, 0, 3, 3) for name in ("s", "b")}
    before = net(body, w=twins(3, 3, 3), v=weights(4, 5, 1, 1), **given)
    assert_leaves(before, MERGE, CUT, "InstanceNormalization 3", "Conv 4x3x1x1")


def test_twin_hidden_units() -> None:
    before = net(
        "a = MatMul(x, w) b = Add(a, k) r = Tanh(b) y = MatMul(r, v)",
        x="float[N, 6]", rank=2,
        w=twins(6).T, k=repeated(weights(5), 0, 1, 0, 3, 3), v=weights(5, 9),
    )  # fmt: skip
    assert_leaves(before, MERGE, "MatMul 6x3", "Add 3", "MatMul 3x9")


def test_twins_into_a_recurrent_layer() -> None:
    body = (
        "c = Conv(x, w) f = Reshape(c, s) a = Transpose<perm = [2, 0, 1]>(f)"
        "y = LSTM<hidden_size = 2>(a, v, r)"
    )
    before = net(
        body, w=twins(3, 3, 3), s=np.array([0, 0, -1]), v=weights(1, 8, 5), r=weights(1, 8, 2)
    )
    assert_leaves(before, MERGE, CUT, "LSTM 1x8x3")


def test_twins_into_a_transposed_convolution() -> None:
    body = "c = Conv(x, w) y = ConvTranspose<strides = [2, 2]>(c, v)"
    before = net(body, w=twins(3, 3, 3), v=weights(5, 4, 2, 2))
    assert_leaves(before, MERGE, CUT, "ConvTranspose 3x4x2x2")


def test_constants_divided_by_something_computed() -> None:
    """They are multiples of each other, one of which stays."""
    body = (
        "c = Conv(x, w) t = BN(c, n) g = ReduceMean<axes = [1, 2, 3]>(x) e = Exp(g)"
        "d = Div(t, e) y = Conv(d, v)"
    )
    before = net(body, w=weights(5, 3, 3, 3), v=weights(4, 5, 1, 1), **norm("n", "00101"))
    assert_leaves(before, MERGE, CUT, "BatchNormalization 3", "Conv 4x3x1x1")


def test_what_is_random_is_never_equal() -> None:
    body = "c = Conv(x, w) z = RandomNormalLike(c) s = Add(c, z) y = Conv(s, v)"
    before = net(body, w=twins(3, 3, 3), v=weights(4, 5, 1, 1))
    assert_declines(before, MERGE)


def test_integers_divide_otherwise() -> None:
    """3 / 2 is 1, so that quotients of integers are no multiples."""
    body = (
        "c = Conv(x, w) h = Mul(c, f) i = Cast<to = 7>(h) q = Div(i, two) z = Cast<to = 1>(q)"
        "y = Conv(z, v)"
    )
    before = net(
        body, w=twins(3, 3, 3), f=np.array([8, 8, 24, 8, 8.0]).reshape(5, 1, 1),
        two=np.array(2), v=weights(4, 5, 1, 1),
    )  # fmt: skip
    assert_leaves(before, MERGE, "Conv 4x3x3x3", "Mul 4x1x1", "Conv 4x4x1x1")


@pytest.mark.parametrize("opset", [7, 11, 13, 18, 22])
def test_in_every_opset(opset: int) -> None:
    body = "c = Conv(x, w) r = Relu(c) y = Conv(r, v)"
    before = net(body, opset=opset, w=twins(3, 3, 3), v=weights(4, 5, 1, 1))
    assert_leaves(before, MERGE, CUT, "Conv 4x3x1x1")


def test_in_half_precision() -> None:
    body = "c = Conv(x, w) r = Relu(c) y = Conv(r, v)"
    before = net(body, x="float16[2, 3, 6, 6]", w=twins(3, 3, 3), v=weights(4, 5, 1, 1))
    assert_leaves(before, MERGE, CUT, "Conv 4x3x1x1")


def test_for_speed_some_twins_stay() -> None:
    rows = repeated(weights(24, 3, 3, 3), *range(13), *[0] * 11)
    before = net("c = Conv(x, w) r = Relu(c) y = Conv(r, v)", w=rows, v=weights(4, 24, 1, 1))
    assert_leaves(before, MergeDuplicateChannels(), "Conv 16x3x3x3", "Conv 4x16x1x1")


def test_a_row_that_another_reader_needs_stays() -> None:
    body = "c = Conv(x, w) a = LRN<size = 3>(c) d = Conv(c, v) y = Concat<axis = 1>(a, d)"
    before = net(body, w=twins(3, 3, 3), v=weights(4, 5, 1, 1))
    assert_declines(before, MERGE)


def test_a_target_that_is_not_read_is_not_written() -> None:
    """Two constants without weights in the reader that pads: both go."""
    w = zeroed(weights(1, 5, 2, 2), slice(None), [1, 2])
    body = (
        "z = ReduceMean<axes = [1]>(x) t = ConvTranspose(z, w, k) a = Conv(t, u)"
        "b = Conv<pads = [1, 1, 1, 1]>(t, v) y = Add(a, b)"
    )
    before = net(
        body, w=w, k=weights(5), u=weights(4, 5, 1, 1),
        v=zeroed(weights(4, 5, 3, 3), slice(None), [1, 2]),
    )  # fmt: skip
    assert_leaves(before, MERGE, "ConvTranspose 1x3x2x2", "Conv 4x3x1x1", "Conv 4x3x3x3")
