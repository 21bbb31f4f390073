"""Convolutions of one input that are added."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from kit import assert_declines, assert_rewrites, holding, model
from onnxslim.ir import Array, Model
from onnxslim.passes.fuse.fuse_conv_sum import FuseConvSum

FUSE = FuseConvSum()


def numbers(*shape: int, dtype: Any = np.float32) -> Array:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(dtype)


def branches(
    body: str,
    x: str = "float[N, 4, 7, 7]",
    opset: int = 20,
    arrays: Mapping[str, Array] = MappingProxyType({}),
) -> Model:
    kind = x.split("[")[0]
    given: dict[str, Array] = {
        "ker3": numbers(4, 4, 3, 3), "ker1": numbers(4, 4, 1, 1), "bias": numbers(4),
        "s": numbers(4), "t": numbers(4) + 1, "m": numbers(4) - 1, "v": np.abs(numbers(4)) + 1,
        **arrays,
    }  # fmt: skip
    used = {
        name: values for name, values in given.items() if f"{name}," in body or f"{name})" in body
    }
    return holding(model(f"g ({x} x) => ({kind}[] y) {{ {body} }}", opset), **used)


KERNEL = "p = Conv<pads = [1, 1, 1, 1]>(x, ker3, bias)"
POINT = "q = Conv(x, ker1, bias)"
NORM = "r = BatchNormalization(x, s, t, m, v)"


@pytest.mark.parametrize("opset", [8, 13, 22])
def test_a_kernel_and_a_point(opset: int) -> None:
    before = branches(f"{KERNEL} {POINT} y = Add(p, q)", opset=opset)
    assert_rewrites(before, FUSE, ["Conv"])


def test_three_branches_of_repvgg() -> None:
    before = branches(f"{KERNEL} {POINT} {NORM} a = Add(p, q) y = Add(a, r)")
    assert_rewrites(before, FUSE, ["Conv"])


def test_one_sum() -> None:
    assert_rewrites(branches(f"{KERNEL} {POINT} {NORM} y = Sum(p, q, x, r)"), FUSE, ["Conv"])


@pytest.mark.parametrize("added", ["Add(x, p)", "Add(p, x)"])
def test_the_input(added: str) -> None:
    assert_rewrites(branches(f"{KERNEL} y = {added}"), FUSE, ["Conv"])


def test_the_input_that_a_node_computes() -> None:
    body = "u = Relu(x) p = Conv<pads = [1, 1, 1, 1]>(u, ker3) y = Add(u, p)"
    assert_rewrites(branches(body), FUSE, ["Relu", "Conv"])


def test_the_same_conv_twice() -> None:
    assert_rewrites(branches(f"{KERNEL} y = Add(p, p)"), FUSE, ["Conv"])


def test_other_terms_stay() -> None:
    body = f"u = Relu(x) {KERNEL} a = Add(p, u) {POINT} y = Add(a, q)"
    assert_rewrites(branches(body), FUSE, ["Relu", "Conv", "Add"])


def test_two_inputs() -> None:
    body = f"""u = Relu(x) {KERNEL} {POINT} k = Conv(u, ker1) l = Conv(u, ker2)
        a = Add(p, k) c = Add(q, l) y = Add(a, c)"""
    before = branches(body, arrays={"ker2": numbers(4, 4, 1, 1) + 1})
    assert_rewrites(before, FUSE, ["Relu", "Conv", "Conv", "Add"])


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("<strides = [2, 2], pads = [1, 1, 1, 1]>(x, ker3)", "<strides = [2, 2]>(x, ker1)"),
        ("<dilations = [2, 2], pads = [2, 2, 2, 2]>(x, ker3)", "(x, ker1)"),
        ("<dilations = [2, 2], pads = [2, 2, 2, 2]>(x, ker3)",
         "<dilations = [2, 2], pads = [2, 2, 2, 2]>(x, ker3)"),
        ("<pads = [2, 2, 2, 2]>(x, ker5)", "<dilations = [2, 2], pads = [2, 2, 2, 2]>(x, ker3)"),
        ('<auto_pad = "SAME_LOWER">(x, ker3)', "(x, ker1)"),
        ("<pads = [1, 1, 1, 1]>(x, ker3)", "<pads = [0, 1, 0, 1]>(x, ker1by3)"),
        ("<pads = [2, 0, 0, 2]>(x, ker3)", "(x, ker1)"),
    ],
)  # fmt: skip
def test_kernels_that_cover_others(one: str, two: str) -> None:
    more = {"ker5": numbers(4, 4, 5, 5), "ker1by3": numbers(4, 4, 1, 3)}
    assert_rewrites(
        branches(f"p = Conv{one} q = Conv{two} y = Add(q, p)", arrays=more), FUSE, ["Conv"]
    )


@pytest.mark.parametrize(
    ("one", "two", "reason"),
    [
        ("<pads = [0, 2, 1, 1]>(x, ker3)", "<pads = [0, 0, 0, 2]>(x, ker2)", "no kernel covers"),
        ("<dilations = [2, 2], pads = [2, 2, 2, 2]>(x, ker3)", "<pads = [1, 1, 1, 1]>(x, ker3)",
         "no kernel covers the others"),
        ("<strides = [7, 7], pads = [1, 1, 1, 1]>(x, ker3)", "<strides = [7, 7]>(x, ker3)",
         "the branches pad differently"),
        ('<auto_pad = "SAME_UPPER", strides = [2, 2]>(x, ker3)', "<strides = [2, 2]>(x, ker1)",
         "the padding depends on the size of the input"),
    ],
)  # fmt: skip
def test_kernels_that_do_not_fit(one: str, two: str, reason: str) -> None:
    body = f"p = Conv{one} q = Conv{two}"
    assert_declines(
        branches(f"{body} y = Add(p, q)", arrays={"ker2": numbers(4, 4, 2, 2)}), FUSE, reason
    )


def test_different_strides() -> None:
    before = branches(
        f"p = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, ker3) {POINT} y = Add(p, q)",
        "float[N, 4, 1, 1]",
    )
    assert_declines(before, FUSE, "different strides")


def test_channels_that_broadcast() -> None:
    before = branches(
        f"p = Conv(x, one) {POINT} y = Add(p, q)", arrays={"one": numbers(1, 4, 1, 1)}
    )
    assert_declines(before, FUSE, "different numbers of channels")


def test_the_input_that_broadcasts() -> None:
    before = branches(
        f"{POINT} y = Add(x, q)", "float[N, 1, 7, 7]", arrays={"ker1": numbers(4, 1, 1, 1)}
    )
    assert_declines(before, FUSE, "different numbers of channels")


@pytest.mark.parametrize("groups", [2, 4])
def test_groups(groups: int) -> None:
    body = f"""p = Conv<group = {groups}, pads = [1, 1, 1, 1]>(x, ker3)
        q = Conv<group = {groups}>(x, ker1) {NORM} y = Sum(p, q, r)"""
    weights = {"ker3": numbers(4, 4 // groups, 3, 3), "ker1": numbers(4, 4 // groups, 1, 1)}
    (conv,) = assert_rewrites(branches(body, arrays=weights), FUSE, ["Conv"]).nodes()
    assert conv.attrs["group"] == groups


def test_a_group_for_every_channel_beside_a_kernel() -> None:
    before = branches(
        "p = Conv<pads = [1, 1, 1, 1]>(x, ker3) q = Conv<group = 4>(x, ker1) y = Add(p, q)",
        arrays={"ker1": numbers(4, 1, 1, 1)},
    )
    assert_rewrites(before, FUSE, ["Conv"])


def test_a_kernel_in_groups_beside_all_channels() -> None:
    before = branches(
        f"p = Conv<group = 4, pads = [1, 1, 1, 1]>(x, ker3) {POINT} y = Add(p, q)",
        arrays={"ker3": numbers(4, 1, 3, 3)},
    )
    assert_declines(before, FUSE, "more multiplications")


def test_half_precision() -> None:
    half = {"ker3": numbers(4, 4, 3, 3, dtype=np.float16), "bias": numbers(4, dtype=np.float16)}
    assert_rewrites(
        branches(f"{KERNEL} y = Add(x, p)", "float16[N, 4, 7, 7]", arrays=half), FUSE, ["Conv"]
    )


def test_a_branch_that_others_read() -> None:
    assert_declines(branches(f"{KERNEL} {POINT} a = Add(p, q) y = Mul(a, p)"), FUSE)


def test_a_normalization_in_training_mode() -> None:
    norm = NORM.replace("(", "<training_mode = 1>(", 1).replace("r =", "r, rm, rv =")
    assert_declines(branches(f"{KERNEL} {norm} y = Add(p, r)"), FUSE, "training mode")


def test_sums_of_what_is_no_convolution() -> None:
    assert_declines(branches("p = Relu(x) y = Add(p, x)"), FUSE)


def test_a_sum_that_others_read() -> None:
    body = f"{KERNEL} {POINT} a = Add(p, q) u = Relu(a) y = Add(a, u)"
    assert_rewrites(branches(body), FUSE, ["Conv", "Relu", "Add"])


def test_a_sum_in_a_branch() -> None:
    text = """g (bool c, float[1, 4, 5, 5] x) => (float[] y) {
        p = Conv(x, ker1)
        y = If (c) <then_branch = t () => (float[] u) { u = Add(p, x) },
                    else_branch = e () => (float[] v) { v = Abs(p) }> }"""
    assert_declines(holding(model(text), ker1=numbers(4, 4, 1, 1)), FUSE)
