"""Nodes go back to an older opset where that has exactly the same."""

from __future__ import annotations

import numpy as np
import pytest

from conversion import converted, refusal, unchecked
from kit import operators

VECTORS = "main (float[N, 4] x) => (float[?, ?] y)"
IMAGE = "main (float[N, 4, 5, 5] x) => (float[?, ?, ?, ?] y)"


@pytest.mark.parametrize(
    ("body", "opset", "target", "attribute", "value"),
    [
        (f"{VECTORS} <int64[1] a = {{1}}> {{ y = ReduceSum (x, a) }}", 13, 11, "axes", [1]),
        (f"{VECTORS} <int64[1] a = {{1}}> {{ y = ReduceMean (x, a) }}", 18, 17, "axes", [1]),
        (f"{VECTORS} {{ y = ReduceMean (x) }}", 18, 17, "axes", None),
        ("main (float[N, 4] x) => (float[?, ?, ?] y) <int64[1] a = {1}> { y = Unsqueeze (x, a) }",
         13, 12, "axes", [1]),
        ("main (float[1, 4] x) => (float[4] y) { y = Squeeze (x) }", 13, 12, "axes", None),
        (f"{VECTORS} {{ y = Softmax (x) }}", 13, 11, "axis", -1),
        (f"{VECTORS} {{ y = Softmax <axis = 1> (x) }}", 13, 11, "axis", 1),
        (f"{VECTORS} <int64[2] s = {{0, -1}}> {{ y = Reshape <allowzero = 0> (x, s) }}", 14, 13,
         "allowzero", None),
        (f"{VECTORS} {{ y = Dropout (x) }}", 13, 11, "seed", None),
        (f"{IMAGE} {{ y = AveragePool <kernel_shape = [2, 2], dilations = [1, 1]> (x) }}", 19, 11,
         "dilations", None),
        ("main (float[1, 2, 4, 4] x, float[1, 3, 3, 2] g) => (float[1, 2, 3, 3] y) "
         '{ y = GridSample <mode = "cubic"> (x, g) }', 20, 16, "mode", "bicubic"),
    ],
)  # fmt: skip
def test_an_attribute_is(body: str, opset: int, target: int, attribute: str, value: object) -> None:
    assert converted(body, opset, target).graph.nodes[0].attr(attribute) == value


def test_sizes_of_parts_become_an_attribute() -> None:
    text = """main (float[N, 4] x) => (float[N, 1] y, float[N, 3] z) <int64[2] s = {1, 3}>
              { y, z = Split <axis = 1> (x, s) }"""
    assert converted(text, 13, 11).graph.nodes[0].attr("split") == [1, 3]


def test_a_smaller_last_part_is_written_out() -> None:
    text = """main (float[N, 5] x) => (float[N, 3] y, float[N, 2] z)
              { y, z = Split <axis = 1, num_outputs = 2> (x) }"""
    assert converted(text, 18, 11).graph.nodes[0].attr("split") == [3, 2]


def test_equal_parts_stay_unwritten() -> None:
    text = """main (float[N, 4] x) => (float[N, 2] y, float[N, 2] z)
              { y, z = Split <axis = 1, num_outputs = 2> (x) }"""
    assert converted(text, 18, 11).graph.nodes[0].attrs.keys() == {"axis"}


def test_pads_of_some_axes_become_those_of_all() -> None:
    text = f"""{IMAGE} <int64[2] p = {{1, 2}}, float c = {{0}}, int64[1] a = {{-1}}>
               {{ y = Pad (x, p, c, a) }}"""
    pads = converted(text, 18, 13).graph.nodes[0].inputs[1]
    assert pads.values.tolist() == [0, 0, 0, 1, 0, 0, 0, 2]


def test_what_resize_leaves_out_is_empty() -> None:
    text = f"""{IMAGE} <float[4] s = {{1, 1, 2, 2}}>
               {{ y = Resize <coordinate_transformation_mode = "asymmetric"> (x, , s) }}"""
    assert unchecked(text, 13, 11).graph.nodes[0].inputs[1].shape == (0,)


@pytest.mark.parametrize("part", ["start = 1", "end = 1", "start = -3, end = 9", "end = -1"])
def test_a_part_of_a_shape_is_cut_out(part: str) -> None:
    text = f"main (float[N, 4] x) => (int64[?] y) {{ y = Shape <{part}> (x) }}"
    assert operators(converted(text, 15, 11)) == ["Shape", "Slice"]


def test_numbers_become_tensors() -> None:
    text = "main (float[N] x) => (float[N] y) { c = Constant <value_float = 2.0> () y = Mul(x, c) }"
    assert converted(text, 13, 11).graph.nodes[0].attr("value").values == np.float32(2)


def test_normalization_of_channels_does_not_train() -> None:
    text = """main (float[N, 2, 3] x, float[2] s) => (float[N, 2, 3] y)
              { y = BatchNormalization <training_mode = 0> (x, s, s, s, s) }"""
    assert operators(converted(text, 15, 11)) == ["BatchNormalization"]


@pytest.mark.parametrize(
    ("body", "opset", "target", "reason"),
    [
        (f"{VECTORS} {{ y = Gelu (x) }}", 20, 19, "the operator is new in opset 20"),
        (f"{VECTORS} {{ y = Softmax <axis = 0> (x) }}", 13, 12, "not the last"),
        (f"{VECTORS} {{ y = Relu (x) }}", 13, 10, "as far as a model can go back"),
        ("main (float[N, 4] x, int64[K] a) => (float[?, ?] y) { y = ReduceSum (x, a) }", 13, 11,
         "axes are computed"),
        (f"{VECTORS} {{ y = ReduceSum <noop_with_empty_axes = 1> (x) }}", 13, 11,
         "reduces nothing"),
        ("main (float[4, N] x) => (float[?, N] y, float[?, N] z) "
         "{ y, z = Split <axis = 1, num_outputs = 2> (x) }", 18, 13, "the size of the axis"),
        ('main (float[4] x, int64[2] i, float[2] u) => (float[4] y) '
         '{ y = ScatterElements <reduction = "max"> (x, i, u) }', 18, 16, "takes the max"),
        ('main (float[4, 4] x, int64[4] p) => (float[?, ?] y) { y = Pad <mode = "wrap"> (x, p) }',
         19, 18, "wraps around"),
        ("main (int64[N] x) => (int64[N] y) { y = Relu (x) }", 14, 13, "it has no tensor(int64)"),
        (f"{VECTORS} <bool t = {{1}}, float r = {{0.5}}> {{ y = Dropout (x, r, t) }}", 13, 11,
         "it trains"),
        (f"{VECTORS} <float[2] s = {{1, 1}}> "
         "{ y = GroupNormalization <num_groups = 1> (x, s, s) }", 21, 20, "scale and bias"),
    ],
)  # fmt: skip
def test_is_refused(body: str, opset: int, target: int, reason: str) -> None:
    assert reason in refusal(body, opset, target)
