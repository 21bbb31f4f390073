"""Nodes that would mean something else in a newer opset are adapted to it."""

from __future__ import annotations

import numpy as np
import pytest

from conversion import converted, refusal, unchecked
from kit import operators

IMAGE = "main (float[N, 4, 5, 5] x) => (float[?, ?, ?, ?] y)"


@pytest.mark.parametrize(
    ("body", "opset", "target", "ops"),
    [
        ("main (float[N, 4] x) => (float[?, ?, ?] y) { y = Unsqueeze <axes = [0]> (x) }", 12, 13,
         ["Unsqueeze"]),
        ("main (float[N, 1, 4] x) => (float[?, ?] y) { y = Squeeze <axes = [1]> (x) }", 11, 13,
         ["Squeeze"]),
        ("main (float[1, 4, 1] x) => (float[4] y) { y = Squeeze (x) }", 11, 13, ["Squeeze"]),
        ("main (float[N, 4] x) => (float[N] y) { y = ReduceSum <axes = [1], keepdims = 0> (x) }",
         11, 13, ["ReduceSum"]),
        ("main (float[N, 4] x) => (float[N] y) { y = ReduceMax <axes = [-1], keepdims = 0> (x) }",
         13, 18, ["ReduceMax"]),
        ("main (float[N, 4] x) => (float[] y) { y = ReduceL2 <keepdims = 0> (x) }", 13, 18,
         ["ReduceL2"]),
        ("main (float[N, 4] x) => (float[?, ?] y) "
         "{ y = Slice <starts = [1], ends = [9223372036854775807], axes = [1]> (x) }", 9, 13,
         ["Slice"]),
        ("main (float[N, 4] x) => (float[?, ?] y) { y = Slice <starts = [0], ends = [1]> (x) }",
         9, 10, ["Slice"]),
        ("main (float[N, 4] x) => (float[?, ?] y, int64[?, ?] i) { y, i = TopK <k = 2> (x) }",
         9, 11, ["TopK"]),
        ("main (float[N, 4] x) => (float[N, 1] y, float[N, 3] z) "
         "{ y, z = Split <axis = 1, split = [1, 3]> (x) }", 11, 18, ["Split"]),
        ("main (float[N, 4] x) => (float[N, 2] y, float[N, 2] z) { y, z = Split <axis = 1> (x) }",
         11, 18, ["Split"]),
        ("main (float[N, 4] x) => (float[N, 4] y) { y = Clip <min = -0.5, max = 0.5> (x) }",
         10, 13, ["Clip"]),
        (f"{IMAGE} {{ y = Pad <pads = [0, 0, 1, 1, 0, 0, 1, 1], value = 2.0> (x) }}", 10, 18,
         ["Pad"]),
        ("main (float[N, 4] x) => (float[N, 4] y) { y = Dropout <ratio = 0.3> (x) }", 11, 13,
         ["Dropout"]),
        (f"{IMAGE} {{ y = Upsample <mode = \"nearest\", scales = [1.0, 1.0, 2.0, 2.0]> (x) }}",
         8, 19, ["Resize"]),
        (f"{IMAGE} {{ y = Upsample <mode = \"linear\", scales = [1.0, 1.0, 1.7, 2.0]> (x) }}",
         8, 13, ["Resize"]),
        (f"{IMAGE} "
         "{ y = AveragePool <kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1> (x) }",
         11, 22, ["AveragePool"]),
    ],
)  # fmt: skip
def test_is_adapted(body: str, opset: int, target: int, ops: list[str]) -> None:
    assert operators(converted(body, opset, target)) == ops


def test_softmax_of_the_last_axis_stays_one_node() -> None:
    text = "main (float[N, 2, 4] x) => (float[N, 2, 4] y) { y = Softmax <axis = 2> (x) }"
    assert operators(converted(text, 12, 13)) == ["Softmax"]


def test_softmax_before_dimensions_of_one_keeps_its_axis() -> None:
    text = "main (float[N, 4, 1, 1] x) => (float[N, 4, 1, 1] y) { y = Softmax <axis = 1> (x) }"
    assert converted(text, 9, 13).graph.nodes[0].attr("axis") == 1


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
def test_softmax_of_several_dimensions_is_one_of_a_matrix(op: str) -> None:
    text = f"main (float[N, 2, 4] x) => (float[N, 2, 4] y) {{ y = {op} (x) }}"
    assert operators(converted(text, 12, 22)) == ["Shape", "Flatten", op, "Reshape"]


def test_softmax_of_an_unknown_rank_is_one_of_a_matrix() -> None:
    text = """main (float[N, 2, 4] x, int64[R] s) => (float y)
              { r = Reshape(x, s) y = Softmax <axis = 2> (r) }"""
    assert "Flatten" in operators(unchecked(text, 12, 13))


def test_the_usual_bounds_of_clip_are_left_out() -> None:
    text = "main (float[N] x) => (float[N] y) { y = Clip <min = 0.0> (x) }"
    assert len(converted(text, 10, 11).graph.nodes[0].inputs) == 2


def test_bounds_of_clip_have_the_type_of_its_input() -> None:
    text = "main (float16[N] x) => (float16[N] y) { y = Clip <min = 0.0, max = 6.0> (x) }"
    after = unchecked(text, 10, 11)
    assert after.graph.nodes[0].inputs[2].dtype == np.float16


def test_equal_axes_are_stored_once() -> None:
    text = """main (float[N] x) => (float[1, 1, N] y)
              { u = Unsqueeze <axes = [0]> (x) y = Unsqueeze <axes = [0]> (u) }"""
    first, second = converted(text, 11, 13).graph.nodes
    assert first.inputs[1] is second.inputs[1]


def test_scales_and_biases_of_groups_become_those_of_channels() -> None:
    text = f"""{IMAGE} <float[2] s = {{1, 2}}, float[2] b = {{3, 4}}>
              {{ y = GroupNormalization <num_groups = 2> (x, s, b) }}"""
    scale = converted(text, 18, 21).graph.nodes[0].inputs[1]
    assert scale.values.tolist() == [1, 1, 2, 2]


def test_computed_scales_of_groups_are_expanded() -> None:
    text = """main (float[N, 4, 5] x, float[2] s, float[2] b) => (float[N, 4, 5] y)
              { y = GroupNormalization <num_groups = 2> (x, s, b) }"""
    spread = ["Reshape", "Expand", "Reshape"]
    assert operators(converted(text, 18, 21)) == [*spread, *spread, "GroupNormalization"]


def test_roi_align_keeps_its_grid() -> None:
    text = """main (float[1, 2, 8, 8] x, float[3, 4] r, int64[3] b) => (float[3, 2, 2, 2] y)
              { y = RoiAlign <output_height = 2, output_width = 2> (x, r, b) }"""
    after = unchecked(text, 11, 16)
    assert after.graph.nodes[0].attr("coordinate_transformation_mode") == "output_half_pixel"


def test_scatter_gets_its_newer_name() -> None:
    text = """main (float[4] x, float[2] u) => (float[4] y) <int64[2] i = {1, 3}>
              { y = Scatter <axis = 0> (x, i, u) }"""
    assert operators(converted(text, 10, 18)) == ["ScatterElements"]


def test_grid_sample_renames_its_mode() -> None:
    text = """main (float[1, 2, 4, 4] x, float[1, 3, 3, 2] g) => (float[1, 2, 3, 3] y)
              { y = GridSample <mode = "bicubic"> (x, g) }"""
    assert converted(text, 16, 20).graph.nodes[0].attr("mode") == "cubic"


def test_batch_norm_loses_what_it_does_not_compute() -> None:
    text = """main (float[N, 2, 3] x) => (float[N, 2, 3] y)
              <float[2] s = {1, 2}, float[2] b = {3, 4}, float[2] m = {0, 1}, float[2] v = {1, 2}>
              { y = BatchNormalization <spatial = 1> (x, s, b, m, v) }"""
    assert "spatial" not in converted(text, 8, 15).graph.nodes[0].attrs


def test_a_default_that_changed_is_written_out() -> None:
    text = "main (float[N, 4] x) => (float[N, 4] y) { y = Softmax (x) }"
    assert converted(text, 11, 13).graph.nodes[0].attr("axis") == -1


@pytest.mark.parametrize(
    ("body", "opset", "target", "reason"),
    [
        ("main (float[N, 4] x) => (float[N, 4] y, float[N, 4] m) { y, m = Dropout (x) }", 9, 11,
         "its mask is another"),
        ("main (float[N, 2, 4] x, float[2] s) => (float[N, 2, 4] y, float[2] m, float[2] v) "
         "{ y, m, v = BatchNormalization (x, s, s, s, s) }", 9, 14, "it trains"),
        (f"{IMAGE} {{ y = Upsample <scales = [1.0, 1.0, 0.7, 0.7]> (x) }}", 8, 11,
         "how nearest rounds"),
        (f"{IMAGE} {{ y = MaxPool <kernel_shape = [1, 1], strides = [3, 3], ceil_mode = 1> (x) }}",
         12, 22, "its last window may start in the padding"),
        ("main (float[N, C, 5] x) => (float[N, C, 5] y) <float[2] s = {1, 2}> "
         "{ y = GroupNormalization <num_groups = 2> (x, s, s) }", 20, 21, "its channels"),
        ("main (int32[N] x) => (int32[N] y) { y = Erf (x) }", 9, 13, "it has no tensor(int32)"),
    ],
)  # fmt: skip
def test_is_refused(body: str, opset: int, target: int, reason: str) -> None:
    assert reason in refusal(body, opset, target)
