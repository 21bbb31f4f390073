"""Channels whose value does not depend on the input."""

from typing import Any

import numpy as np
import onnx
import pytest

from kit import assert_declines
from nets import assert_leaves, convolutions, layers, net, norm, weights, zeroed
from onnxslim import Model, Pipeline
from onnxslim.ir import Array, Constant
from onnxslim.passes.channels.fold_constant_channels import FoldConstantChannels

FOLD = FoldConstantChannels(align="bytes")
HEAD = "c = Conv<pads = [1, 1, 1, 1]>(x, w) t = BN(c, n)"
"""Where nothing else is said, there are five channels, of which two are constant."""
CUT = ("Conv 3x3x3x3", "BatchNormalization 3")


def after_head(body: str, gammas: str = "10101", **arrays: Any) -> Model:
    """Put *body*, which makes y of t, behind a convolution and a batch normalization."""
    given: dict[str, Any] = {
        "w": weights(len(gammas), 3, 3, 3),
        **norm("n", gammas, arrays.pop("beta", None)),
        **arrays,
    }
    return net(f"{HEAD} {body}", **given)


def bias(of: Model, op: str) -> Array:
    """Return the bias of the last *op*."""
    node = [node for node in of.nodes() if node.op == op][-1]
    tensor = node.inputs[2]
    assert isinstance(tensor, Constant)
    return tensor.values


# Into the layer that reads them -------------------------------------------------------------------


def test_constants_move_into_the_bias_of_a_convolution() -> None:
    before = after_head("y = Conv(t, v)", v=weights(4, 5, 1, 1))
    after = assert_leaves(before, FOLD, *CUT, "Conv 4x3x1x1")
    beta, v = norm("n", "10101")["n_b"], weights(4, 5, 1, 1)[:, :, 0, 0]
    np.testing.assert_allclose(bias(after, "Conv"), v[:, [1, 3]] @ beta[[1, 3]], rtol=1e-6)


def test_constants_are_added_to_a_bias_that_is_there() -> None:
    before = after_head("y = Conv(t, v, k)", v=weights(4, 5, 3, 3), k=weights(4))
    after = assert_leaves(before, FOLD, *CUT, "Conv 4x3x3x3")
    assert (bias(after, "Conv") != weights(4).astype(np.float32)).all()


def test_zeros_leave_no_bias() -> None:
    before = after_head("y = Conv(t, v)", beta=0.0, v=weights(4, 5, 1, 1))
    after = assert_leaves(before, FOLD, *CUT, "Conv 4x3x1x1")
    assert [len(node.inputs) for node in after.nodes() if node.op == "Conv"] == [2, 2]


@pytest.mark.parametrize("attrs", ["pads = [1, 1, 1, 1]", "pads = [0, 0, 0, 1]"])
def test_a_border_of_zeros_needs_one_constant_channel(attrs: str) -> None:
    before = after_head(f"y = Conv<{attrs}>(t, v)", "10001", v=weights(4, 5, 3, 3))
    assert_leaves(before, FOLD, *CUT, "Conv 4x3x3x3")


def test_a_border_chosen_by_auto_pad_needs_one_constant_channel() -> None:
    body = 'y = Conv<auto_pad = "SAME_UPPER">(t, v)'
    before = after_head(body, "00101", v=weights(4, 5, 3, 3))
    assert_leaves(before, FOLD, *CUT, "Conv 4x3x3x3")


def test_a_border_of_zeros_around_zeros_needs_none() -> None:
    body = "y = Conv<pads = [1, 1, 1, 1]>(t, v)"
    before = after_head(body, beta=0.0, v=weights(4, 5, 3, 3))
    assert_leaves(before, FOLD, *CUT, "Conv 4x3x3x3")


def test_the_only_constant_before_a_border_stays() -> None:
    before = after_head("y = Conv<pads = [1, 1, 1, 1]>(t, v)", "11011", v=weights(4, 5, 3, 3))
    assert_declines(before, FOLD, "pads with zeros, so that one must stay")


def test_one_reader_with_and_one_without_a_border() -> None:
    body = "a = Conv<pads = [1, 1, 1, 1]>(t, v) b = Conv(t, u) y = Add(a, b)"
    before = after_head(body, "10001", v=weights(4, 5, 3, 3), u=weights(4, 5, 1, 1))
    assert_leaves(before, FOLD, *CUT, "Conv 4x3x3x3", "Conv 4x3x1x1")


def test_one_channel_stays_where_all_are_constant() -> None:
    before = after_head("y = Conv(t, v)", "00000", v=weights(4, 5, 1, 1))
    assert_leaves(before, FOLD, "Conv 1x3x3x3", "BatchNormalization 1", "Conv 4x1x1x1")


def test_constants_of_idle_rows_follow_one_another() -> None:
    """An output without weights is its bias; what only reads constants is constant too."""
    body = "a = Conv(x, w, k) r = Relu(a) b = Conv(r, v, l) s = Relu(b) y = Conv(s, u)"
    before = net(
        body,
        w=zeroed(weights(4, 3, 1, 1), [1, 2]), k=weights(4),
        v=zeroed(weights(5, 4, 1, 1), 3, [0, 3]), l=weights(5),
        u=weights(4, 5, 1, 1),
    )  # fmt: skip
    assert_leaves(before, FOLD, "Conv 2x3x1x1", "Conv 4x2x1x1", "Conv 4x4x1x1")


@pytest.mark.parametrize(
    "gemm",
    ["Gemm(f, v, k)", "Gemm(f, v)", "Gemm<alpha = 0.5, beta = -2.0>(f, v, k)",
     "Gemm<alpha = 0.5>(f, v)", "Gemm<beta = 0.5>(f, v, k1)", "Gemm(f, v, k0)"],
)  # fmt: skip
@pytest.mark.parametrize("transposed", [0, 1])
def test_into_a_gemm(gemm: str, transposed: int) -> None:
    if transposed:
        gemm = (
            gemm.replace("<", "<transB = 1, ")
            if "<" in gemm
            else gemm.replace("(", "<transB = 1>(")
        )
    v = weights(4, 5)
    body = f"p = GlobalAveragePool(t) f = Flatten(p) y = {gemm}"
    used = {"k": weights(1, 4), "k1": weights(1), "k0": np.array(0.5)}
    given: dict[str, Any] = {name: value for name, value in used.items() if f"{name})" in gemm}
    before = after_head(body, rank=2, v=v if transposed else v.T, **given)
    assert_leaves(before, FOLD, *CUT, "Gemm 4x3" if transposed else "Gemm 3x4")


TOKENS = "f = Reshape(t, s) a = Transpose<perm = [0, 2, 1]>(f)"


def test_into_a_product_of_matrices_that_has_no_bias() -> None:
    body = f"{TOKENS} y = MatMul(a, v)"
    before = after_head(body, rank=3, s=np.array([0, 0, -1]), v=weights(5, 4))
    assert_leaves(before, FOLD, *CUT, "MatMul 3x4", "Add 4")


def test_into_a_product_with_weights_on_the_left() -> None:
    body = "f = Reshape(t, s) y = MatMul(v, f)"
    before = after_head(body, rank=3, s=np.array([0, 0, -1]), v=weights(4, 5))
    assert_leaves(before, FOLD, *CUT, "MatMul 4x3", "Add 4x1")


@pytest.mark.parametrize(
    ("op", "more"),
    [("LSTM", ""), ("GRU", ""), ("GRU", ", linear_before_reset = 1"), ("RNN", "")],
)
@pytest.mark.parametrize("biased", [False, True])
def test_into_a_recurrent_layer(op: str, more: str, biased: bool) -> None:
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    given: dict[str, Any] = {"v": weights(2, gates * 2, 5), "r": weights(2, gates * 2, 2)}
    if biased:
        given["k"] = weights(2, gates * 4)
    call = f'{op}<hidden_size = 2, direction = "bidirectional"{more}>'
    tokens = "f = Reshape(t, s) a = Transpose<perm = [2, 0, 1]>(f)"
    body = f"{tokens} y = {call}({', '.join(['a', *given])})"
    before = after_head(body, s=np.array([0, 0, -1]), **given)
    assert_leaves(before, FOLD, *CUT, f"{op} 2x{gates * 2}x3")


def test_zeros_into_a_transposed_convolution() -> None:
    body = "r = Relu(t) y = ConvTranspose<strides = [2, 2]>(r, v, k)"
    before = after_head(body, beta=-1.0, v=weights(5, 4, 3, 3), k=weights(4))
    assert_leaves(before, FOLD, *CUT, "ConvTranspose 3x4x3x3")


def test_others_before_a_transposed_convolution_merge_into_one() -> None:
    before = after_head("y = ConvTranspose(t, v)", "10001", v=weights(5, 4, 2, 2))
    assert_leaves(before, FOLD, *CUT, "ConvTranspose 3x4x2x2")


def test_out_of_a_transposed_convolution() -> None:
    w = zeroed(weights(3, 5, 2, 2), slice(None), [1, 3])
    before = net(
        "c = ConvTranspose(x, w, k) y = Conv(c, v)", w=w, k=weights(5), v=weights(4, 5, 1, 1)
    )
    assert_leaves(before, FOLD, "ConvTranspose 3x3x2x2", "Conv 4x3x1x1")


def test_hidden_units_of_a_perceptron() -> None:
    before = net(
        "a = MatMul(x, w) b = Add(a, k) r = Tanh(b) c = MatMul(r, v) y = Add(c, l)",
        x="float[N, 6]", rank=2,
        w=zeroed(weights(6, 5), slice(None), [0, 4]), k=weights(5), v=weights(5, 4), l=weights(4),
    )  # fmt: skip
    assert_leaves(before, FOLD, "MatMul 6x3", "Add 3", "MatMul 3x4", "Add 4", "Add 4")


# Element by element -------------------------------------------------------------------------------

UNARY = [
    "Relu(t)", "LeakyRelu<alpha = 0.2>(t)", "Sigmoid(t)", "Tanh(t)", "HardSigmoid(t)", "Elu(t)",
    "HardSwish(t)", "Softplus(t)", "Softsign(t)", "Selu(t)", "Celu(t)", "ThresholdedRelu(t)",
    "Neg(t)", "Abs(t)", "Exp(t)", "Erf(t)", "Identity(t)", "Dropout(t)", "Clip(t, lo, hi)",
    "Clip(t)", "PRelu(t, slope)", "PRelu(t, one)", "Mul(t, slope)", "Add(slope, t)", "Sub(t, one)",
    "Sub(one, t)", "Div(t, slope)", "Pow(t, two)", "Max(t, slope)", "Min(t, one)", "Mul(t, t)",
    "Sum(t, slope, t)", "Mean(t, one)",
]  # fmt: skip


@pytest.mark.parametrize("call", UNARY)
def test_functions_of_constants_are_constants(call: str) -> None:
    given: dict[str, Any] = {
        "lo": np.array(-0.5), "hi": np.array(0.9), "slope": weights(5, 1, 1),
        "one": np.array([0.3]), "two": np.array(2.0),
    }  # fmt: skip
    before = after_head(
        f"a = {call} y = Conv(a, v)",
        v=weights(4, 5, 1, 1),
        **{name: array for name, array in given.items() if name in call},
    )
    after, report = Pipeline((FOLD,), check="each")(before)
    assert not report.warnings
    assert convolutions(after) == ["Conv 3x3x3x3", "Conv 4x3x1x1"]


@pytest.mark.parametrize("opset", [18, 20, 22])
@pytest.mark.parametrize("op", ["Mish", "Gelu", "Relu"])
def test_functions_of_later_opsets(op: str, opset: int) -> None:
    if op == "Gelu" and opset < 20:
        pytest.skip("Gelu is an operator since opset 20")
    before = after_head(f"a = {op}(t) y = Conv(a, v)", opset=opset, v=weights(4, 5, 1, 1))
    assert_leaves(before, FOLD, *CUT, "Conv 4x3x1x1")


def test_nothing_times_anything_is_nothing() -> None:
    body = "c = Conv(x, w) g = Conv(x, u) h = Sigmoid(g) a = Mul(c, z) t = Mul(a, h) y = Conv(t, v)"
    before = net(
        body,
        w=weights(5, 3, 1, 1), u=weights(5, 3, 1, 1, seed=1),
        z=zeroed(weights(5, 1, 1), [0, 3]), v=weights(4, 5, 1, 1),
    )  # fmt: skip
    assert_leaves(before, FOLD, "Conv 3x3x1x1", "Conv 3x3x1x1", "Mul 3x1x1", "Conv 4x3x1x1")


# Channels that are tied ---------------------------------------------------------------------------


def test_a_residual_sum_keeps_what_one_operand_needs() -> None:
    body = "c = Conv(x, w) a = BN(c, n) d = Conv(x, v) b = BN(d, o) s = Add(a, b) y = Conv(s, u)"
    before = net(
        body,
        w=weights(5, 3, 1, 1), v=weights(5, 3, 1, 1, seed=1), u=weights(4, 5, 1, 1),
        **norm("n", "10100"), **norm("o", "10010"),
    )  # fmt: skip
    cut = ("Conv 3x3x1x1", "BatchNormalization 3")
    # channels 1 and 4 are constant in both
    assert_leaves(before, FOLD, *cut, *cut, "Conv 4x3x1x1")


def test_a_residual_sum_with_the_input_keeps_all() -> None:
    body = "c = Conv(x, w) a = BN(c, n) s = Add(a, x) y = Conv(s, u)"
    before = net(body, w=weights(3, 3, 1, 1), u=weights(4, 3, 1, 1), **norm("n", "100"))
    assert_declines(before, FOLD, "Add combines it with what cannot be cut")


def test_a_residual_sum_over_a_long_chain() -> None:
    body = (
        "a = Conv<pads = [1, 1, 1, 1]>(x, w) t0 = BN(a, n)"
        "b = Conv(t0, v) p = BN(b, o) t1 = Add(t0, p)"
        "c = Conv(t1, v1) q = BN(c, m) t2 = Add(t1, q) r = Relu(t2) y = Conv(r, u)"
    )
    before = net(
        body,
        w=weights(5, 3, 3, 3), v=weights(5, 5, 1, 1), v1=weights(5, 5, 1, 1, seed=1),
        u=weights(4, 5, 1, 1), **norm("n", "11000"), **norm("o", "10100"), **norm("m", "10010"),
    )  # fmt: skip
    three = ("Conv 4x4x1x1", "BatchNormalization 4")
    first = ("Conv 4x3x3x3", "BatchNormalization 4")
    assert_leaves(before, FOLD, *first, *three, *three, "Conv 4x4x1x1")


def branch(gammas: str, beta: float | None = None, **options: Any) -> Model:
    """Add a branch, some of whose channels are constant, to a trunk of which none is."""
    return net(
        "c = Conv(x, w) d = Conv<pads = [1, 1, 1, 1]>(c, v) t = BN(d, n) s = Add(c, t)"
        "r = Relu(s) y = Conv(r, u)",
        w=weights(16, 3, 1, 1), v=weights(16, 16, 3, 3), u=weights(4, 16, 1, 1),
        **norm("n", gammas, beta), **options,
    )  # fmt: skip


@pytest.mark.parametrize("opset", [9, 11, 17])
def test_a_branch_is_computed_without_its_constants_which_are_put_back(opset: int) -> None:
    after = assert_leaves(
        branch("1" * 9 + "0" * 7, opset=opset), FOLD,
        "Conv 16x3x1x1", "Conv 9x16x3x3", "BatchNormalization 9", "Add 1x16x1x1", "Conv 4x16x1x1",
    )  # fmt: skip
    middle = ["Pad", "Gather", "Add", "Add"]
    assert [node.op for node in after.nodes()][3:7] == middle


def test_a_branch_of_half_precision() -> None:
    after, report = Pipeline((FOLD,), check="each")(
        branch("1" * 6 + "0" * 10, x="float16[2, 3, 6, 6]")
    )
    assert not report.warnings
    assert "Conv 6x16x3x3" in convolutions(after)


def test_zeros_of_a_branch_are_put_back_by_padding_alone() -> None:
    after = assert_leaves(
        branch("1" * 9 + "0" * 7, 0.0), FOLD,
        "Conv 16x3x1x1", "Conv 9x16x3x3", "BatchNormalization 9", "Conv 4x16x1x1",
    )  # fmt: skip
    assert [node.op for node in after.nodes()][3:6] == ["Pad", "Gather", "Add"]


def test_for_speed_a_branch_is_computed_in_full() -> None:
    assert_declines(branch("1" * 9 + "0" * 7), FoldConstantChannels(), "tied to it")


def test_a_branch_that_saves_too_little_is_computed_in_full() -> None:
    assert_declines(branch("1" * 15 + "0"), FOLD, "tied to it")


def test_a_constant_branch_becomes_a_constant() -> None:
    after, report = Pipeline((FOLD,), check="each")(branch("0" * 16))
    assert not report.warnings
    assert layers(after)[-2:] == ["Add 1x16x1x1", "Conv 4x16x1x1"]


def test_concat_shifts_channels() -> None:
    body = (
        "a = Conv(x, w) b = BN(a, n) d = Conv(x, v) e = BN(d, o)"
        "s = Concat<axis = 1>(b, x, e) y = Conv(s, u)"
    )
    before = net(
        body,
        w=weights(4, 3, 1, 1), v=weights(5, 3, 1, 1), u=weights(4, 12, 1, 1),
        **norm("n", "1001"), **norm("o", "01110"),
    )  # fmt: skip
    assert_leaves(
        before, FOLD, "Conv 2x3x1x1", "BatchNormalization 2", "Conv 3x3x1x1",
        "BatchNormalization 3", "Conv 4x8x1x1",
    )  # fmt: skip


@pytest.mark.parametrize("opset", [9, 11, 13, 18])
def test_split_into_uneven_parts(opset: int) -> None:
    if opset < 13:
        split, given = "a, b = Split<axis = 1, split = [2, 3]>(t)", {}
    else:
        split, given = "a, b = Split<axis = 1>(t, s)", {"s": np.array([2, 3])}
    body = f"{split} d = Conv(a, v) e = Conv(b, u) y = Add(d, e)"
    before = after_head(
        body, "10011", opset=opset, v=weights(4, 2, 1, 1), u=weights(4, 3, 1, 1), **given
    )
    assert_leaves(before, FOLD, *CUT, "Conv 4x1x1x1", "Conv 4x2x1x1")


def test_split_into_equal_parts_becomes_uneven() -> None:
    body = "a, b = Split<axis = 1, num_outputs = 2>(t) d = Conv(a, v) e = Conv(b, u) y = Add(d, e)"
    before = after_head(
        body, "110001", opset=18, v=weights(4, 3, 1, 1), u=weights(4, 3, 1, 1, seed=1)
    )
    assert_leaves(before, FOLD, *CUT, "Conv 4x2x1x1", "Conv 4x1x1x1")


def test_a_part_of_one_channel_stays() -> None:
    body = "a, b = Split<axis = 1>(t, s) d = Conv(a, v) e = Conv(b, u) y = Add(d, e)"
    before = after_head(
        body, "01001", s=np.array([1, 4]), v=weights(4, 1, 1, 1), u=weights(4, 4, 1, 1)
    )
    # what reads it is constant as a whole
    assert_leaves(before, FOLD, *CUT, "Conv 4x2x1x1", "Add 1x4x1x1")


@pytest.mark.parametrize(
    ("bounds", "gammas", "read"),
    [
        ((1, 4, 1), "10110", 2),  # channels 1..3, of which 1 is constant; 4 is not read
        ((-4, 100, 1), "10101", 2),
        ((0, 5, 2), "10110", 2),  # channels 0, 2, 4
        ((-1, -100, -2), "00110", 1),
    ],
)  # fmt: skip
def test_slices(bounds: tuple[int, int, int], gammas: str, read: int) -> None:
    start, end, step = bounds
    width = len(range(5)[start:end:step])
    before = after_head(
        "a = Slice(t, b0, b1, ax, st) d = Relu(a) y = Conv(d, v)",
        gammas,
        b0=np.array([start]), b1=np.array([end]), ax=np.array([1]), st=np.array([step]),
        v=weights(4, width, 1, 1),
    )  # fmt: skip
    kept = max(read, 1)
    assert_leaves(
        before, FOLD, f"Conv {kept}x3x3x3", f"BatchNormalization {kept}", f"Conv 4x{kept}x1x1"
    )


def test_slice_by_attributes() -> None:
    body = "a = Slice<axes = [1], starts = [1], ends = [5]>(t) b = Conv(a, v) y = Add(b, k)"
    before = after_head(body, "10110", opset=9, v=weights(4, 4, 1, 1), k=weights(4, 1, 1))
    assert_leaves(before, FOLD, "Conv 2x3x3x3", "BatchNormalization 2", "Conv 4x2x1x1", "Add 4x1x1")


def test_gather_permutes_repeats_and_leaves_out() -> None:
    before = after_head(
        "a = Gather<axis = 1>(t, i) y = Conv(a, v)",
        "10011",
        i=np.array([3, -5, 0, 1, 2]),
        v=weights(4, 5, 1, 1),
    )
    assert_leaves(before, FOLD, "Conv 2x3x3x3", "BatchNormalization 2", "Conv 4x3x1x1")


def test_gather_of_one_channel_keeps_it() -> None:
    body = (
        "a = Gather<axis = 1>(t, i) b = Gather<axis = 1>(t, j) p = ReduceMean<axes = [1]>(b)"
        "y = Mul(a, p)"
    )
    before = after_head(body, "10011", i=np.array([1]), j=np.array([0, 1, 3]), rank=4)
    after, report = Pipeline((FOLD,), check="each")(before)
    assert not report.warnings
    assert convolutions(after) == ["Conv 3x3x3x3"]


@pytest.mark.parametrize("opset", [7, 11, 18])
def test_pad_adds_channels(opset: int) -> None:
    pads = [0, 2, 0, 0, 0, 1, 0, 0]
    call = f"Pad<pads = {pads}>(t)" if opset < 11 else "Pad(t, p)"
    given: dict[str, Any] = {} if opset < 11 else {"p": np.array(pads)}
    before = after_head(f"a = {call} y = Conv(a, v)", opset=opset, v=weights(4, 8, 1, 1), **given)
    assert_leaves(before, FOLD, *CUT, "Conv 4x3x1x1")


@pytest.mark.parametrize("value", [0.0, 1.5])
def test_pad_of_the_border_with_another_value_spoils_a_constant(value: float) -> None:
    given: dict[str, Any] = {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "q": np.array(value)}
    before = after_head("a = Pad(t, p, q) y = Conv(a, v)", "10111", v=weights(4, 5, 1, 1), **given)
    assert_declines(before, FOLD, "a constant channel stays")


def test_pad_of_the_border_with_itself_keeps_a_constant() -> None:
    body = 'a = Pad<mode = "reflect">(t, p) y = Conv(a, v)'
    before = after_head(body, v=weights(4, 5, 1, 1), p=np.array([0, 0, 1, 1, 0, 0, 1, 1]))
    assert_leaves(before, FOLD, *CUT, "Conv 4x3x1x1")


# Groups -------------------------------------------------------------------------------------------


def test_depthwise() -> None:
    body = "d = Conv<group = 5>(t, u) e = Relu(d) y = Conv(e, v)"
    before = after_head(body, u=weights(5, 1, 3, 3), v=weights(4, 5, 1, 1))
    assert_leaves(before, FOLD, *CUT, "Conv 3x1x3x3", "Conv 4x3x1x1")


def test_depthwise_with_a_multiplier() -> None:
    body = "d = Conv<group = 5>(t, u, k) y = Conv(d, v)"
    before = after_head(body, u=weights(10, 1, 2, 2), k=weights(10), v=weights(4, 10, 1, 1))
    assert_leaves(before, FOLD, *CUT, "Conv 6x1x2x2", "Conv 4x6x1x1")


def test_depthwise_with_a_border_spoils_constants_but_zeros() -> None:
    body = "d = Conv<group = 5, pads = [1, 1, 1, 1]>(t, u) y = Conv(d, v)"
    given: dict[str, Any] = {"u": weights(5, 1, 3, 3), "v": weights(4, 5, 1, 1)}
    assert_declines(after_head(body, **given), FOLD, "a constant channel stays")
    assert_leaves(after_head(body, beta=0.0, **given), FOLD, *CUT, "Conv 3x1x3x3", "Conv 4x3x1x1")


def test_groups_give_up_the_same_channels() -> None:
    body = "d = Conv<group = 2>(t, u) y = Conv(d, v)"
    before = after_head(body, "10010011", u=weights(4, 4, 1, 1), v=weights(4, 4, 1, 1))
    # channels 1 and 5 are constant in both groups; 2 and 4 have a partner that is not
    assert_leaves(
        before, FOLD, "Conv 6x3x3x3", "BatchNormalization 6", "Conv 4x3x1x1", "Conv 4x4x1x1"
    )


def test_shuffled_channels() -> None:
    """Two groups of three: the order is that of 0 3 1 4 2 5, so channels go in pairs."""
    body = (
        "a = Reshape(t, s5) b = Transpose<perm = [0, 2, 1, 3, 4]>(a) d = Reshape(b, s4)"
        "e = Conv<group = 6>(d, u) y = Conv(e, v)"
    )
    before = after_head(
        body,
        "101101",
        u=weights(6, 1, 3, 3),
        v=weights(4, 6, 1, 1),
        s5=np.array([0, 2, 3, 6, 6]),
        s4=np.array([0, 6, 6, 6]),
    )
    assert_leaves(
        before, FOLD, "Conv 4x3x3x3", "BatchNormalization 4", "Conv 4x1x3x3", "Conv 4x4x1x1"
    )


def test_squeeze_and_excite() -> None:
    body = (
        "p = GlobalAveragePool(t) d = Conv(p, u, k) e = Relu(d) f = Conv(e, o, l) g = Sigmoid(f)"
        "h = Mul(t, g) y = Conv(h, v)"
    )
    before = after_head(
        body, "10101", beta=0.0, u=weights(2, 5, 1, 1), k=weights(2),
        o=weights(5, 2, 1, 1), l=weights(5), v=weights(4, 5, 1, 1),
    )  # fmt: skip
    assert_leaves(before, FOLD, *CUT, "Conv 2x3x1x1", "Conv 3x2x1x1", "Conv 4x3x1x1")


def test_a_gate_spoils_constants_but_zeros() -> None:
    body = "g = Conv(x, u) h = Sigmoid(g) a = Mul(t, h) y = Conv(a, v)"
    before = after_head(body, u=weights(5, 3, 1, 1, seed=1), v=weights(4, 5, 1, 1))
    assert_declines(before, FOLD, "a constant channel stays")


# Channel by channel -------------------------------------------------------------------------------

FEATURES = [
    "MaxPool<kernel_shape = [2, 2], pads = [1, 1, 0, 0]>(t)", "GlobalMaxPool(t)",
    "AveragePool<kernel_shape = [2, 2], pads = [1, 1, 0, 0]>(t)", "GlobalAveragePool(t)",
    "InstanceNormalization(t, i_s, i_b)", "Resize(t, , sc)", "Resize(t, , , sz)",
    'Resize<mode = "linear">(t, , sc)', "ReduceMean<axes = [2, 3]>(t)",
    "ReduceMax<axes = [-1], keepdims = 1>(t)", "Tile(t, rep)", "Expand(t, ex)",
    "Transpose<perm = [0, 1, 3, 2]>(t)",
]  # fmt: skip


@pytest.mark.parametrize("call", FEATURES)
def test_what_treats_channels_alike_keeps_constants(call: str) -> None:
    given: dict[str, Any] = {
        "i_s": weights(5), "i_b": weights(5), "sc": np.array([1, 1, 2, 2], np.float32),
        "sz": np.array([2, 5, 9, 9]), "rep": np.array([1, 1, 2, 1]), "ex": np.array([1, 5, 6, 6]),
    }  # fmt: skip
    before = after_head(
        f"a = {call} y = Conv(a, v)",
        v=weights(4, 5, 1, 1),
        **{name: array for name, array in given.items() if name in call},
    )
    after, report = Pipeline((FOLD,), check="each")(before)
    assert not report.warnings
    assert convolutions(after) == ["Conv 3x3x3x3", "Conv 4x3x1x1"]


@pytest.mark.parametrize(
    "call",
    ["AveragePool<kernel_shape = [2, 2], pads = [1, 1, 0, 0], count_include_pad = 1>(t)",
     "LpPool<kernel_shape = [2, 2]>(t)", "ReduceL2<axes = [2, 3]>(t)", "ReduceSum(t, ax)"],
)  # fmt: skip
def test_what_spoils_constants_keeps_zeros(call: str) -> None:
    given: dict[str, Any] = {"ax": np.array([2, 3])} if "ax)" in call else {}
    body = f"a = {call} y = Conv(a, v)"
    kept = after_head(body, v=weights(4, 5, 1, 1), **given)
    assert_declines(kept, FOLD, "a constant channel stays")
    before = after_head(body, beta=0.0, v=weights(4, 5, 1, 1), **given)
    assert_leaves(before, FOLD, *CUT, "Conv 4x3x1x1")


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(mode: str) -> None:
    body = f'a = DepthToSpace<blocksize = 2, mode = "{mode}">(t) y = Conv(a, v)'
    # the second of three results: every third channel, or four in a row
    gammas = "101101101101" if mode == "DCR" else "111100001111"
    before = after_head(body, gammas, beta=0.5, v=weights(4, 3, 1, 1))
    assert_leaves(before, FOLD, "Conv 8x3x3x3", "BatchNormalization 8", "Conv 4x2x1x1")


def test_depth_to_space_into_one_channel_keeps_all() -> None:
    body = "a = DepthToSpace<blocksize = 2>(t) y = Conv(a, v)"
    before = after_head(body, "0000", v=weights(4, 1, 1, 1))
    assert_declines(before, FOLD, "a tensor cannot be empty")


def test_space_to_depth() -> None:
    before = after_head("a = SpaceToDepth<blocksize = 2>(t) y = Conv(a, v)", v=weights(4, 20, 1, 1))
    assert_leaves(before, FOLD, *CUT, "Conv 4x12x1x1")


@pytest.mark.parametrize("keep", [0, 1])
def test_a_mean_over_channels_is_corrected(keep: int) -> None:
    body = f"a = ReduceMean<axes = [1], keepdims = {keep}>(t) y = Relu(a)"
    before = after_head(body, rank=3 + keep)
    after, report = Pipeline((FOLD,), check="each")(before)
    assert not report.warnings
    assert [n.op for n in after.nodes()][2:] == ["ReduceMean", "Mul", "Add", "Relu"]


def test_a_mean_of_integers_reads_all() -> None:
    body = "i = Cast<to = 7>(t) a = ReduceMean<axes = [1]>(i) y = Cast<to = 1>(a)"
    assert_declines(after_head(body), FOLD, "ReduceMean reads it")


@pytest.mark.parametrize("index", [np.array(0), np.array([0]), np.array([[1, -2]])])
def test_gather_of_one_token(index: Array) -> None:
    """Constants stay what they are; the channels lie along another axis."""
    body = f"{TOKENS} g = Gather<axis = 1>(a, i) y = MatMul(g, v)"
    rank = 2 + index.ndim
    before = after_head(body, rank=rank, s=np.array([0, 0, -1]), i=index, v=weights(5, 4))
    assert_leaves(before, FOLD, *CUT, "MatMul 3x4", "Add 4")


def test_a_sum_over_gathered_tokens_reads_all() -> None:
    body = f"{TOKENS} g = Gather<axis = 1>(a, i) y = ReduceSum(g, ax)"
    before = after_head(body, rank=3, s=np.array([0, 0, -1]), i=np.array([0, 3]), ax=np.array([2]))
    assert_declines(before, FOLD, "ReduceSum")


def test_a_sum_over_channels_does_without_zeros_only() -> None:
    body = "y = ReduceSum(t, ax)"
    assert_declines(after_head(body, ax=np.array([1])), FOLD, "ReduceSum")
    assert_leaves(after_head(body, beta=0.0, ax=np.array([1])), FOLD, *CUT)


def test_a_maximum_over_channels_reads_all() -> None:
    assert_declines(after_head("y = ReduceMax<axes = [1]>(t)"), FOLD, "ReduceMax reads it")


def test_flattened_maps_go_in_blocks() -> None:
    body = "f = Flatten(t) y = Gemm<transB = 1>(f, v, k)"
    before = after_head(body, rank=2, v=weights(4, 180), k=weights(4))
    assert_leaves(before, FOLD, *CUT, "Gemm 4x108")


def test_reshape_with_a_stated_size() -> None:
    body = "p = GlobalAveragePool(t) f = Reshape(p, s) y = Gemm<transB = 1>(f, v, k)"
    before = after_head(body, rank=2, s=np.array([2, 5]), v=weights(4, 5), k=weights(4))
    assert_leaves(before, FOLD, *CUT, "Gemm 4x3")


def test_attention_leaves_out_inner_channels_that_are_zero() -> None:
    body = "q = MatMul(x, w) k = MatMul(x, v) kt = Transpose<perm = [0, 2, 1]>(k) y = MatMul(q, kt)"
    before = net(
        body, x="float[2, 6, 3]", rank=3,
        w=zeroed(weights(3, 4), slice(None), 1), v=zeroed(weights(3, 4, seed=1), slice(None), 2),
    )  # fmt: skip
    assert_leaves(before, FOLD, "MatMul 3x2", "MatMul 3x2")


# Nearly zero --------------------------------------------------------------------------------------


@pytest.mark.parametrize("gammas", ["1d1d1", "1d101"])
def test_denormal_gammas_count_as_zero(gammas: str) -> None:
    before = after_head("a = Relu(t) y = Conv(a, v)", gammas, v=weights(4, 5, 1, 1))
    assert_leaves(before, FOLD, *CUT, "Conv 4x3x1x1")


def test_tiny_gammas_drown_where_many_products_are_added() -> None:
    rng = np.random.default_rng(0)
    many = norm("n", "1" * 60 + "tttt")
    v = rng.normal(size=(8, 64, 3, 3))
    before = after_head("y = Conv(t, v)", "1" * 60 + "tttt", v=v, n_s=many["n_s"] * 4)
    cut = ("Conv 60x3x3x3", "BatchNormalization 60")
    assert_leaves(before, FOLD, *cut, "Conv 8x60x3x3")


def test_a_gamma_of_a_thousandth_stays() -> None:
    before = after_head("y = Conv(t, v)", "1m1m1", v=weights(4, 5, 1, 1))
    assert_declines(before, FOLD)


# Other places -------------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 14, 15, 18, 20, 21, 22])
def test_in_every_opset(opset: int) -> None:
    body = "a = Relu(t) b = MaxPool<kernel_shape = [2, 2]>(a) d = Conv(b, v) y = Add(d, k)"
    before = after_head(body, opset=opset, v=weights(4, 5, 3, 3), k=weights(4, 1, 1))
    assert_leaves(before, FOLD, *CUT, "Conv 4x3x3x3", "Add 4x1x1")


def test_in_half_precision() -> None:
    before = after_head("y = Conv(t, v)", x="float16[2, 3, 6, 6]", v=weights(4, 5, 1, 1))
    assert_leaves(before, FOLD, *CUT, "Conv 4x3x1x1")


def test_with_symbolic_dimensions() -> None:
    body = "a = Relu(t) b = AveragePool<kernel_shape = [2, 2]>(a) y = Conv(b, v)"
    before = after_head(body, x="float[N, 3, H, W]", v=weights(4, 5, 1, 1))
    assert_leaves(before, FOLD, *CUT, "Conv 4x3x1x1")


def test_declared_shapes_follow() -> None:
    before = after_head("y = Conv(t, v)", v=weights(4, 5, 1, 1))
    declared = Model.from_proto(onnx.shape_inference.infer_shapes(before.proto()))
    after = assert_leaves(declared, FOLD, *CUT, "Conv 4x3x1x1").proto()
    shapes = {
        info.name: [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        for info in after.graph.value_info
    }
    assert shapes == {"c": [2, 3, 6, 6], "t": [2, 3, 6, 6]}


def test_a_graph_output_keeps_all() -> None:
    outputs = "float[A, B, C, D] y, float[A, B, C, D] t"
    before = after_head("y = Conv(t, v)", y=outputs, v=weights(4, 5, 1, 1))
    assert_declines(before, FOLD, "a graph output")


def branches(then: str, other: str) -> str:
    """Return a condition that runs one of two texts, which make o and p."""
    return (
        "b = Constant<value = bool {1}>() y = If(b) <"
        f"then_branch = g1 () => (float[A, B, C, D] o) {{ {then} }}, "
        f"else_branch = g2 () => (float[A, B, C, D] p) {{ {other} }}>"
    )


def test_a_subgraph_that_reads_it_keeps_all() -> None:
    before = after_head(branches("o = Conv(t, v)", "p = Neg(x)"), v=weights(4, 5, 1, 1))
    assert_declines(before, FOLD, "a subgraph reads it")


def test_inside_a_subgraph() -> None:
    before = net(
        branches(f"{HEAD} o = Conv(t, v)", "p = Conv(x, u)"),
        w=weights(5, 3, 3, 3), v=weights(4, 5, 1, 1), u=weights(4, 3, 1, 1), **norm("n", "10101"),
    )  # fmt: skip
    assert_leaves(before, FOLD, *CUT, "Conv 4x3x1x1", "Conv 4x3x1x1")


@pytest.mark.parametrize(
    "call", ["LRN<size = 3>(t)", "ArgMax<axis = 1>(t)", "com.microsoft.Gelu(t)"]
)
def test_an_unknown_operator_keeps_all(call: str) -> None:
    y = "int64[A, B, C, D] y" if "ArgMax" in call else ""
    assert_declines(
        after_head(f"y = {call}", y=y),
        FOLD,
        f"{call.split('(')[0].split('<')[0].replace('com.microsoft.', 'com.microsoft::')} reads it",
    )


@pytest.mark.parametrize(
    ("opset", "bn"),
    [(14, "BatchNormalization<training_mode = 1>"), (15, "BatchNormalization<training_mode = 1>")],
)
def test_training_mode_is_not_constant(opset: int, bn: str) -> None:
    body = f"c = Conv(x, w) t, m1, v1 = {bn}(c, n_s, n_b, n_m, n_v) y = Conv(t, v)"
    before = net(
        body, opset=opset, w=weights(5, 3, 1, 1), v=weights(4, 5, 1, 1), **norm("n", "10101")
    )
    assert_declines(before, FOLD)


def test_shared_weights_keep_all() -> None:
    body = "a = Conv(t, v) b = Conv(t, v) y = Add(a, b)"
    before = after_head(body, v=weights(4, 5, 1, 1))
    assert_declines(before, FOLD, "its weights are shared")


def test_computed_weights_keep_all() -> None:
    body = "u = Relu(v0) q = Neg(x0) a = Mul(u, q) y = Conv(t, a)"
    before = after_head(f"x0 = ReduceMean<axes = [0, 1, 2, 3]>(x) {body}", v0=weights(4, 5, 1, 1))
    assert_declines(before, FOLD, "its weights are computed")


def test_squeeze_of_every_axis_of_one_keeps_all() -> None:
    body = "p = GlobalAveragePool(t) s = Squeeze(p) y = Gemm<transB = 1>(s, v)"
    before = after_head(body, "00000", rank=2, v=weights(4, 5))
    assert_declines(before, FOLD, "a constant channel stays")


# Counts that run fast -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "constants", "kept"),
    [(32, 13, 24), (32, 16, 16), (12, 3, 12), (12, 5, 8), (6, 3, 4), (7, 2, 7), (24, 23, 8)],
)
def test_for_speed_counts_are_multiples(width: int, constants: int, kept: int) -> None:
    gammas = "1" * (width - constants) + "0" * constants
    before = after_head("y = Conv(t, v)", gammas, v=weights(4, width, 3, 3))
    step = FoldConstantChannels()
    assert step.align == "speed"
    after, report = Pipeline((step,), check="each")(before)
    assert not report.warnings
    assert convolutions(after) == [f"Conv {kept}x3x3x3", f"Conv 4x{kept}x3x3"]


def test_a_file_that_would_grow_stays_as_it_is() -> None:
    """One weight goes, but a sum is needed and new names are longer."""
    before = net(
        "a = MatMul(x, w) b = Add(a, k) y = MatMul(b, v)", x="float[N, 1]", rank=2,
        w=zeroed(weights(1, 2), 0, 1), k=weights(2), v=weights(2, 6),
    )  # fmt: skip
    assert_declines(before, FOLD, "the file would grow by")
