"""Channels that no output depends on."""

from typing import Any

import numpy as np
import pytest

from kit import assert_declines
from nets import assert_leaves, net, norm, weights, zeroed
from onnxslim import Pipeline
from onnxslim.ir import Array
from onnxslim.passes.channels.drop_dead_channels import DropDeadChannels

DROP = DropDeadChannels(align="bytes")
EVERY = slice(None)
CUT = "Conv 3x3x3x3"


def unread(*shape: int) -> Array:
    """Return weights that do not read their second and fifth input."""
    return zeroed(weights(*shape), EVERY, [1, 4])


def test_columns_of_zeros() -> None:
    body = "c = Conv(x, w, k) r = Relu(c) y = Conv<pads = [1, 1, 1, 1]>(r, v)"
    before = net(body, w=weights(5, 3, 3, 3), k=weights(5), v=unread(4, 5, 3, 3))
    assert_leaves(before, DROP, CUT, "Conv 4x3x3x3")


def test_one_weight_is_enough_to_stay() -> None:
    v = unread(4, 5, 3, 3)
    v[2, 1, 0, 2] = 1e-6
    before = net("c = Conv(x, w) y = Conv(c, v)", w=weights(5, 3, 3, 3), v=v)
    assert_leaves(before, DROP, "Conv 4x3x3x3", "Conv 4x4x3x3")


def test_death_goes_on_from_layer_to_layer() -> None:
    """Only a unit that is dead itself reads input 3."""
    v = zeroed(weights(5, 5, 1, 1), [0, 2, 3], 3)
    body = "c = Conv(x, w) b = Conv(c, v) y = Conv(b, u)"
    before = net(body, w=weights(5, 3, 3, 3), v=v, u=unread(4, 5, 1, 1))
    assert_leaves(before, DROP, "Conv 4x3x3x3", "Conv 3x4x1x1", "Conv 4x3x1x1")


def test_parts_that_nobody_reads() -> None:
    body = "c = Conv(x, w) a, b = Split<axis = 1>(c, s) y = Conv(b, v)"
    before = net(body, w=weights(5, 3, 3, 3), s=np.array([2, 3]), v=weights(4, 3, 1, 1))
    # no part may be empty
    assert_leaves(before, DROP, "Conv 4x3x3x3", "Conv 4x3x1x1")


def test_channels_that_are_sliced_off() -> None:
    body = "c = Conv(x, w) r = Relu(c) s = Slice(r, b0, b1, ax) y = Conv(s, v)"
    before = net(
        body, w=weights(5, 3, 3, 3), b0=np.array([1]), b1=np.array([4]), ax=np.array([1]),
        v=weights(4, 3, 1, 1),
    )  # fmt: skip
    assert_leaves(before, DROP, CUT, "Conv 4x3x1x1")


def test_channels_that_are_not_gathered() -> None:
    body = "c = Conv(x, w) r = Relu(c) s = Gather<axis = 1>(r, i) y = Conv(s, v)"
    before = net(body, w=weights(5, 3, 3, 3), i=np.array([4, 0, 4]), v=weights(4, 3, 1, 1))
    assert_leaves(before, DROP, "Conv 2x3x3x3", "Conv 4x3x1x1")


@pytest.mark.parametrize(
    "part",
    [
        "a, b = Split<axis = 1>(c, s) t = Conv(b, v)",
        "b = Slice(c, b0, b1, ax) t = Conv(b, v)",
        "b = Gather<axis = 1>(c, i) t = Conv(b, v)",
    ],
)
def test_parts_of_a_batch_of_any_size(part: str) -> None:
    before = net(
        f"c = Conv(x, w) {part} y = Relu(t)", x="float[N, 3, 6, 6]", w=weights(5, 3, 3, 3),
        s=np.array([2, 3]), b0=np.array([1]), b1=np.array([4]), ax=np.array([1]),
        i=np.array([4, 0, 4]), v=weights(4, 3, 1, 1),
    )  # fmt: skip
    after, _ = Pipeline((DROP,))(before)
    assert after.size() < before.size()


def test_slices_that_overlap() -> None:
    """The last channel is in neither."""
    body = "c = Conv(x, w) p = Slice(c, b0, b2, ax) q = Slice(c, b1, b3, ax) y = Add(p, q)"
    bounds: dict[str, Any] = {f"b{i}": np.array([i]) for i in range(4)}
    before = net(
        body, x="float[N, 3, 6, 6]", y="float[N, B, C, D] y", w=weights(5, 3, 3, 3),
        ax=np.array([1]), **{**bounds, "b2": np.array([3]), "b3": np.array([4])},
    )  # fmt: skip
    assert_leaves(before, DROP, "Conv 4x3x3x3")


def test_constants_are_not_dead() -> None:
    body = "c = Conv(x, w) t = BN(c, n) y = Conv(t, v)"
    before = net(body, w=weights(5, 3, 3, 3), v=weights(4, 5, 1, 1), **norm("n", "10101"))
    assert_declines(before, DROP)


def test_behind_a_batch_normalization() -> None:
    body = "c = Conv(x, w) t = BN(c, n) r = HardSwish(t) y = Conv(r, v)"
    before = net(body, w=weights(5, 3, 3, 3), v=unread(4, 5, 1, 1), **norm("n", "11111"))
    assert_leaves(before, DROP, CUT, "BatchNormalization 3", "Conv 4x3x1x1")


def test_constant_channels_that_are_joined() -> None:
    body = "c = Conv(x, w) s = Concat<axis = 1>(c, k) y = Conv(s, v)"
    k = np.broadcast_to(weights(1, 2, 1, 1), (2, 2, 4, 4))
    before = net(body, w=weights(5, 3, 3, 3), k=k, v=zeroed(weights(4, 7, 1, 1), EVERY, [1, 5]))
    assert_leaves(before, DROP, "Conv 4x3x3x3", "Concat 2x1x4x4", "Conv 4x5x1x1")


def test_a_joined_constant_that_nobody_reads() -> None:
    body = "c = Conv(x, w) s = Concat<axis = 1>(c, k) y = Conv(s, v)"
    k = np.broadcast_to(weights(1, 2, 1, 1), (2, 2, 4, 4))
    before = net(body, w=weights(5, 3, 3, 3), k=k, v=zeroed(weights(4, 7, 1, 1), EVERY, [5, 6]))
    assert_leaves(before, DROP, "Conv 5x3x3x3", "Conv 4x5x1x1")


def test_a_residual_sum() -> None:
    body = "a = Conv(x, w) b = Conv(x, u) s = Add(a, b) y = Conv(s, v)"
    before = net(body, w=weights(5, 3, 3, 3), u=weights(5, 3, 3, 3) + 1, v=unread(4, 5, 1, 1))
    assert_leaves(before, DROP, CUT, CUT, "Conv 4x3x1x1")


def test_a_residual_sum_that_is_read_elsewhere() -> None:
    body = "a = Conv(x, w) b = Conv(x, u) s = Add(a, b) d = Conv(s, v) e = Conv(a, t) y = Add(d, e)"
    before = net(
        body, w=weights(5, 3, 3, 3), u=weights(5, 3, 3, 3) + 1, v=unread(4, 5, 1, 1),
        t=zeroed(weights(4, 5, 1, 1), EVERY, 4),
    )  # fmt: skip
    four = "Conv 4x3x3x3"
    assert_leaves(before, DROP, four, four, "Conv 4x4x1x1", "Conv 4x4x1x1")


def test_groups_lose_the_same_channels() -> None:
    u = weights(4, 4, 1, 1)
    u[:2, 1] = u[2:, 1] = u[:2, 2] = 0
    body = "c = Conv(x, w) d = Conv<group = 2>(c, u) y = Conv(d, v)"
    before = net(body, w=weights(8, 3, 3, 3), u=u, v=weights(4, 4, 1, 1))
    assert_leaves(before, DROP, "Conv 6x3x3x3", "Conv 4x3x1x1", "Conv 4x4x1x1")


def test_outputs_of_groups_go_together() -> None:
    v = zeroed(weights(4, 6, 1, 1), EVERY, [1, 4, 5])
    body = "c = Conv(x, w) d = Conv<group = 2>(c, u) y = Conv(d, v)"
    before = net(body, w=weights(8, 3, 3, 3), u=weights(6, 4, 1, 1), v=v)
    assert_leaves(before, DROP, "Conv 8x3x3x3", "Conv 4x4x1x1", "Conv 4x4x1x1")


def test_depthwise_with_a_multiplier_goes_by_inputs() -> None:
    v = zeroed(weights(4, 6, 1, 1), EVERY, [0, 2, 3])
    body = "c = Conv(x, w) d = Conv<group = 3>(c, u) y = Conv(d, v)"
    before = net(body, w=weights(3, 3, 3, 3), u=weights(6, 1, 3, 3), v=v)
    assert_leaves(before, DROP, "Conv 2x3x3x3", "Conv 4x1x3x3", "Conv 4x4x1x1")


def test_values_of_attention() -> None:
    body = (
        "q = MatMul(x, w) k = Transpose<perm = [0, 2, 1]>(q) a = MatMul(q, k)"
        "p = Softmax<axis = -1>(a) v = MatMul(x, u) o = MatMul(p, v) y = MatMul(o, z)"
    )
    before = net(
        body, x="float[2, 7, 6]", rank=3, w=weights(6, 4), u=weights(6, 5), z=unread(4, 5).T
    )
    assert_leaves(before, DROP, "MatMul 6x4", "MatMul 6x3", "MatMul 3x4")


def test_columns_of_an_embedding() -> None:
    before = net(
        "i = Cast<to = 7>(x) e = Gather(t, i) r = Tanh(e) y = MatMul(r, v)",
        x="float[2, 7]", rank=3, t=weights(20, 5), v=unread(4, 5).T,
    )  # fmt: skip
    assert_leaves(before, DROP, "Gather 20x3", "MatMul 3x4")


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_inputs_of_a_recurrent_layer(op: str) -> None:
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op] * 3
    body = f"a = MatMul(x, w) b = Relu(a) y = {op}<hidden_size = 3>(b, v, r)"
    v = zeroed(weights(1, gates, 5), EVERY, EVERY, [1, 4])
    before = net(body, x="float[7, 2, 6]", w=weights(6, 5), v=v, r=weights(1, gates, 3))
    assert_leaves(before, DROP, "MatMul 6x3", f"{op} 1x{gates}x3")


def test_flattened_maps() -> None:
    v = weights(4, 5, 16)
    v[:, [1, 4]] = 0
    body = "c = Conv(x, w) f = Reshape(c, s) y = Gemm<transB = 1>(f, v)"
    before = net(body, rank=2, w=weights(5, 3, 3, 3), s=np.array([2, 80]), v=v.reshape(4, 80))
    assert_leaves(before, DROP, CUT, "Gemm 4x48")


def test_flattened_maps_that_are_read_in_part_stay() -> None:
    v = weights(4, 5, 16)
    v[:, 1, 1:] = 0
    body = "c = Conv(x, w) f = Flatten(c) y = Gemm<transB = 1>(f, v)"
    before = net(body, rank=2, w=weights(5, 3, 3, 3), v=v.reshape(4, 80))
    assert_declines(before, DROP)


def test_a_target_shape_that_copies_another_axis() -> None:
    """The second zero copies an extent that is cut, but is not of the channels."""
    before = net(
        "a = Conv(x, w) f = Reshape(a, s) y = MatMul(v, f)", x="float[1, 3, 7, 1]", rank=2,
        w=weights(5, 3, 3, 1), s=np.array([5, 0]), v=unread(4, 5),
    )  # fmt: skip
    assert_leaves(before, DROP, "Conv 3x3x3x1", "MatMul 4x3")


def test_more_than_one_reader() -> None:
    body = "c = Conv(x, w) a = Conv(c, v) b = Conv(c, u) y = Add(a, b)"
    before = net(
        body, w=weights(5, 3, 3, 3), v=unread(4, 5, 1, 1),
        u=zeroed(weights(4, 5, 1, 1), EVERY, [0, 1]),
    )  # fmt: skip
    assert_leaves(before, DROP, "Conv 4x3x3x3", "Conv 4x4x1x1", "Conv 4x4x1x1")


@pytest.mark.parametrize("opset", [7, 11, 13, 18, 22])
def test_in_every_opset(opset: int) -> None:
    body = "c = Conv(x, w) r = Relu(c) y = Conv(r, v)"
    before = net(body, opset=opset, w=weights(5, 3, 3, 3), v=unread(4, 5, 1, 1))
    assert_leaves(before, DROP, CUT, "Conv 4x3x1x1")


def test_in_half_precision() -> None:
    body = "c = Conv(x, w) r = Relu(c) y = Conv(r, v)"
    before = net(body, x="float16[N, 3, 6, 6]", w=weights(5, 3, 3, 3), v=unread(4, 5, 1, 1))
    assert_leaves(before, DROP, CUT, "Conv 4x3x1x1")


@pytest.mark.parametrize(("width", "dead", "kept"), [(32, 13, 24), (12, 3, 12), (6, 3, 4)])
def test_for_speed_counts_are_multiples(width: int, dead: int, kept: int) -> None:
    v = zeroed(weights(4, width, 3, 3), EVERY, slice(width - dead, None))
    before = net("c = Conv(x, w) y = Conv(c, v)", w=weights(width, 3, 3, 3), v=v)
    if kept == width:
        assert_declines(before, DropDeadChannels())
    else:
        assert_leaves(before, DropDeadChannels(), f"Conv {kept}x3x3x3", f"Conv 4x{kept}x3x3")


def test_the_last_channel_of_a_tensor_stays() -> None:
    before = net("c = Conv(x, w) y = Conv(c, v)", w=weights(5, 3, 3, 3), v=np.zeros((4, 5, 1, 1)))
    assert_leaves(before, DROP, "Conv 1x3x3x3", "Conv 4x1x1x1")
