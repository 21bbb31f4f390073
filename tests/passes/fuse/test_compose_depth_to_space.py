"""Blocks moved by a Transpose between reshapes."""

import pytest

from kit import assert_declines, assert_rewrites, model
from onnxslim.ir import Model
from onnxslim.passes.fuse.compose_depth_to_space import ComposeDepthToSpace

COMPOSE = ComposeDepthToSpace()
DCR = ("0, 3, 4, 1, 5, 2", "float[N, 12, 4, 5]", "0, 2, 2, 3, 4, 5", "0, 3, 8, 10")
CRD = ("0, 1, 4, 2, 5, 3", "float[N, 12, 4, 5]", "0, 3, 2, 2, 4, 5", "0, 3, 8, 10")
S2D = ("0, 3, 5, 1, 2, 4", "float[N, 3, 8, 10]", "0, 3, 4, 2, 5, 2", "0, 12, 4, 5")


def blocks(perm: str, x: str, split: str, joined: str, opset: int = 13) -> Model:
    kind = x.split("[")[0]
    text = f"""g ({x} x) => ({kind}[] y)
    <int64[6] split = {{{split}}}, int64[{joined.count(",") + 1}] joined = {{{joined}}}> {{
        a = Reshape(x, split) b = Transpose<perm = [{perm}]>(a) y = Reshape(b, joined)
    }}"""
    return model(text.replace("{0, ", "{-1, "), opset)


@pytest.mark.parametrize("opset", [7, 11, 13, 22])
def test_depth_to_space(opset: int) -> None:
    after = assert_rewrites(blocks(*DCR, opset), COMPOSE, ["DepthToSpace"])
    assert next(after.nodes()).attrs == {"blocksize": 2}


@pytest.mark.parametrize("opset", [11, 13, 22])
def test_depth_to_space_by_columns(opset: int) -> None:
    after = assert_rewrites(blocks(*CRD, opset), COMPOSE, ["DepthToSpace"])
    assert next(after.nodes()).attrs == {"blocksize": 2, "mode": "CRD"}


@pytest.mark.parametrize("opset", [7, 13, 22])
def test_space_to_depth(opset: int) -> None:
    assert_rewrites(blocks(*S2D, opset), COMPOSE, ["SpaceToDepth"])


def test_half_precision() -> None:
    before = blocks(DCR[0], "float16[1, 12, 4, 5]", *DCR[2:])
    assert_rewrites(before, COMPOSE, ["DepthToSpace"])


def test_a_type_without_a_kernel() -> None:
    before = blocks(DCR[0], "int64[1, 12, 4, 5]", *DCR[2:])
    assert_declines(before, COMPOSE, "no kernel for the type")


def test_by_columns_before_there_was_a_mode() -> None:
    assert_declines(blocks(*CRD, 10), COMPOSE, "needs opset 11")


def test_blocks_that_are_no_squares() -> None:
    before = blocks(DCR[0], DCR[1], "0, 1, 4, 3, 4, 5", "0, 3, 4, 20")
    assert_declines(before, COMPOSE, "the blocks are no squares")


@pytest.mark.parametrize("joined", ["0, 3, 4, 20", "0, 6, 8, 5", "0, 240"])
def test_dimensions_joined_otherwise(joined: str) -> None:
    assert_declines(blocks(*DCR[:3], joined), COMPOSE, "do more than to split and join")


def test_dimensions_split_otherwise() -> None:
    before = blocks(DCR[0], "float[N, 4, 12, 5]", *DCR[2:])
    assert_declines(before, COMPOSE, "do more than to split and join")


def test_another_permutation() -> None:
    assert_declines(blocks("0, 3, 4, 2, 5, 1", *DCR[1:]), COMPOSE)
