"""Recipes for what works on images: resizing, pooling, regions, sampling, integer convolution."""

# ruff: noqa: D103 (a recipe is described by the operators it is for)

from __future__ import annotations

from typing import Any

from benchmarks.fuzz.grower import Grower
from benchmarks.fuzz.motifs.recipes import data, indices, needs, recipe, smooth
from benchmarks.fuzz.values import Value

MODES = ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "tf_half_pixel_for_nn")
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


@recipe("Resize")
def resize(g: Grower, op: str) -> None:
    needs(g, 10)
    x = smooth(g, 3, 4)
    factors = [1.0, 1.0, *(g.choose(1.0, 1.0, 2.0, 0.5, 1.5) for _ in range(x.rank - 2))]
    attrs: dict[str, Any] = {"mode": g.choose("nearest", "nearest", "linear")}
    if g.opset == 10:
        g.node(op, [x, g.constant(factors, "tensor(float)")], **attrs)
        return
    if g.flip(0.6):
        attrs["coordinate_transformation_mode"] = g.choose(*MODES)
    if g.flip(0.4):
        attrs["nearest_mode"] = g.choose(*ROUNDINGS)
    g.node(op, [x, *_target(g, x, factors)], **attrs)


def _target(g: Grower, x: Value, factors: list[float]) -> list[Value | None]:
    """Return the inputs that say the new size: regions, factors and sizes."""
    regions = g.constant([], "tensor(float)") if g.opset < 13 else None
    if g.flip():
        return [regions, g.constant(factors, "tensor(float)")]
    none = g.constant([], "tensor(float)") if g.opset < 13 else None
    sizes = [max(int(dim * f), 1) for dim, f in zip(x.shape, factors, strict=True)]
    return [regions, none, g.ints(*sizes)]


@recipe("Upsample")
def upsample(g: Grower, op: str) -> None:
    x = smooth(g, 4)
    factors, mode = (
        [1.0, 1.0, g.choose(1.0, 2.0), g.choose(1.0, 2.0)],
        g.choose("nearest", "linear"),
    )
    if g.opset < 9:
        g.node(op, [x], scales=factors, mode=mode)
    else:
        g.node(op, [x, g.constant(factors, "tensor(float)")], mode=mode)


@recipe("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "LRN", "MeanVarianceNormalization")
def over_image(g: Grower, op: str) -> None:
    attrs = {"size": g.choose(1, 3)} if op == "LRN" else {}
    g.node(op, [smooth(g, 3, 4)], **attrs)


@recipe("LpPool", "AveragePool", "MaxPool")
def pool(g: Grower, op: str) -> None:
    x = smooth(g, 3, 4)
    spatial = x.rank - 2
    attrs: dict[str, Any] = {"kernel_shape": [g.choose(1, 1, 2) for _ in range(spatial)]}
    if g.flip(0.3) and g.opset >= 10 and op != "LpPool":
        attrs["ceil_mode"] = 1
    if g.flip(0.4):
        attrs["strides"] = [g.choose(1, 2) for _ in range(spatial)]
    if op == "MaxPool" and g.flip() and g.opset >= 8:
        g.node(op, [x], 2, **attrs)
    else:
        g.node(op, [x], **attrs)


@recipe("MaxUnpool")
def unpool(g: Grower, op: str) -> None:
    x = data(g, (1, 2, 4, 4), "tensor(float)")
    shapes: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2]}
    pooled = g.node("MaxPool", [x], 2, **shapes)
    g.node(op, [pooled, g.scope.values[-1]], **shapes)


@recipe("MaxRoiPool", "RoiAlign")
def regions(g: Grower, op: str) -> None:
    x = data(g, (1, 2, 4, 4), "tensor(float)")
    boxes = [[0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 3.0, 3.0]]
    if op == "MaxRoiPool":
        rois = g.constant([[0.0, *box] for box in boxes], "tensor(float)")
        g.node(op, [x, rois], pooled_shape=[2, 2])
    else:
        rois = g.constant(boxes, "tensor(float)")
        g.node(op, [x, rois, indices(g, 1, (2,))], output_height=2, output_width=g.choose(1, 2))


@recipe("NonMaxSuppression")
def suppression(g: Grower, op: str) -> None:
    boxes = g.constant([[[0, 0, 1, 1], [0, 0.125, 1, 1.125], [2, 2, 3, 3]]], "tensor(float)")
    scores = data(g, (1, 2, 3), "tensor(float)")
    g.node(op, [boxes, scores, g.scalar(g.choose(1, 2), "tensor(int64)"),
                g.scalar(0.5, "tensor(float)")])  # fmt: skip


@recipe("GridSample")
def sample(g: Grower, op: str) -> None:
    grid = g.constant(g.array(g.float, (1, 2, 3, 2)) / 4)
    mode = g.choose("linear", "nearest") if g.opset >= 20 else g.choose("bilinear", "nearest")
    g.node(op, [data(g, (1, 2, 3, 4)), grid], mode=mode, align_corners=g.choose(0, 1))


@recipe("AffineGrid")
def grid(g: Grower, op: str) -> None:
    theta = data(g, (1, 2, 3), "tensor(float)")
    g.node(op, [theta, g.ints(1, 2, 3, 4)], align_corners=g.choose(0, 1))


@recipe("Col2Im")
def columns(g: Grower, op: str) -> None:
    g.node(op, [data(g, (1, 8, 4), "tensor(float)"), g.ints(3, 3), g.ints(2, 2)])


@recipe("DeformConv")
def deformed(g: Grower, op: str) -> None:
    x, weight = data(g, (1, 1, 3, 3), "tensor(float)"), data(g, (1, 1, 2, 2), "tensor(float)")
    offset = g.constant(g.array("tensor(float)", (1, 8, 2, 2)) / 4, "tensor(float)")
    g.node(op, [x, weight, offset], kernel_shape=[2, 2])


@recipe("ConvInteger", "QLinearConv")
def integer_convolution(g: Grower, op: str) -> None:
    kind = "tensor(uint8)"
    x, weight = data(g, (1, 2, 3, 3), kind), g.constant(g.array(kind, (2, 2, 2, 2)), kind)
    zeros = [g.scalar(g.choose(0, 1), kind) for _ in range(2)]
    if op == "ConvInteger":
        g.node(op, [x, weight, *zeros[: g.choose(0, 1, 2)]])
        return
    scales = [g.scalar(g.choose(0.5, 0.25), "tensor(float)") for _ in range(3)]
    read = [x, scales[0], zeros[0], weight, scales[1], zeros[1], scales[2], g.scalar(1, kind)]
    g.node(op, read)
