"""Convolutions or products of one input."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from kit import assert_declines, assert_rewrites, holding, model
from onnxslim.ir import Array, Model
from onnxslim.passes.fuse.merge_parallel_layers import MergeParallelLayers

NONE: Mapping[str, Array] = MappingProxyType({})
MERGE = MergeParallelLayers()


def numbers(*shape: int, dtype: Any = np.float32) -> Array:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(dtype)


QUERY = {"query": numbers(8, 6), "key": numbers(8, 6) + 1, "value": numbers(8, 4)}
BIAS = {"bias_q": numbers(6), "bias_k": numbers(6) + 1, "bias_v": numbers(4)}


def layers(
    body: str, x: str = "float[N, 3, 8]", opset: int = 20, arrays: Mapping[str, Array] = NONE
) -> Model:
    kind = x.split("[")[0]
    results = ", ".join(f"{kind}[] {name}" for name in "uvw" if f" {name} = " in f" {body}")
    given = {**QUERY, **BIAS, **arrays}
    used = {
        n: a for n, a in given.items() if f" {n})" in body or f"({n}," in body or f" {n}," in body
    }
    return holding(model(f"g ({x} x) => ({results}) {{ {body} }}", opset), **used)


@pytest.mark.parametrize("opset", [7, 11, 13, 18, 22])
@pytest.mark.parametrize("x", ["float[N, 3, 8]", "float[N, 8]"])
def test_queries_keys_and_values(x: str, opset: int) -> None:
    body = "u = MatMul(x, query) v = MatMul(x, key) w = MatMul(x, value)"
    assert_rewrites(layers(body, x, opset), MERGE, ["MatMul", "Split"])


def test_with_sums() -> None:
    body = """a = MatMul(x, query) u = Add(a, bias_q) b = MatMul(x, key) v = Add(b, bias_k)
        c = MatMul(x, value) w = Add(bias_v, c)"""
    assert_rewrites(layers(body), MERGE, ["MatMul", "Add", "Split"])


def test_with_activations() -> None:
    body = "a = MatMul(x, query) u = Relu(a) b = MatMul(x, key) v = Relu(b)"
    assert_rewrites(layers(body), MERGE, ["MatMul", "Relu", "Split"])


def test_gemms() -> None:
    body = "u = Gemm(x, query, bias_q) v = Gemm(x, key, bias_k)"
    assert_rewrites(layers(body, "float[N, 8]"), MERGE, ["Gemm", "Split"])


def test_convs() -> None:
    body = "u = Conv<pads = [1, 1]>(x, filters_a) v = Conv<pads = [1, 1]>(x, filters_b, bias_v)"
    kernels = {"filters_a": numbers(5, 3, 3), "filters_b": numbers(4, 3, 3)}
    assert_rewrites(layers(body, "float[N, 3, 9]", arrays=kernels), MERGE, ["Conv", "Split"])


def test_two_families() -> None:
    body = """a = MatMul(x, query) u = Relu(a) b = MatMul(x, key) v = Relu(b)
        w1 = MatMul(x, value) w2 = MatMul(x, other) w = Add(w1, w2)"""
    before = layers(body, arrays={"other": numbers(8, 4) + 2})
    ops = ["MatMul", "Relu", "Split", "MatMul", "Split", "Add"]
    assert_rewrites(before, MERGE, ops, changes=2)


def test_layers_that_differ() -> None:
    assert_declines(layers("a = MatMul(x, query) u = Relu(a) v = MatMul(x, key)"), MERGE)


def test_weights_that_others_read() -> None:
    body = "y = Relu(x) u = MatMul(x, query) v = MatMul(x, key) w = MatMul(y, query)"
    assert_declines(layers(body), MERGE, "others use the weights too")


def test_bounds_that_are_computed() -> None:
    body = """s = ReduceMin<keepdims = 0>(x) t = ReduceMax<keepdims = 0>(x)
        a = MatMul(x, query) u = Clip(a, s) b = MatMul(x, key) v = Clip(b, t)"""
    ops = ["ReduceMin", "ReduceMax", "MatMul", "Split", "Clip", "Clip"]
    assert_rewrites(layers(body), MERGE, ops)
