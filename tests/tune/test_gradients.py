"""Gradients through operators, against finite differences in double precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kit import model
from onnxslim.tune.executor import Executor
from onnxslim.tune.operators import TABLE

AXES = "axes = Constant <value_ints = [1]> ()"

CASES: dict[str, tuple[list[tuple[int, ...]], str]] = {
    **{
        op: ([(2, 3)], f"y = {op} (a)")
        for op in (
            *("Abs", "Asinh", "Atan", "Celu", "Cos", "Cosh", "Elu", "Erf", "Exp", "Gelu"),
            *("HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "LogSoftmax", "Mish", "Neg"),
            *("Reciprocal", "Relu", "Selu", "Shrink", "Sigmoid", "Sin", "Sinh", "Softmax"),
            *("Softplus", "Softsign", "Tan", "Tanh", "ThresholdedRelu", "Transpose", "Flatten"),
            *("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1"),
            *("ReduceL2", "ReduceLogSumExp", "ReduceSumSquare", "LpNormalization", "Trilu"),
        )
    },
    **{
        op: ([(2, 3), (1, 3)], f"y = {op} (a, b)")
        for op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean", "PRelu")
    },
    **{
        op: ([(2, 2, 4, 4)], f"y = {op} (a)")
        for op in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
    },
    **{op: ([(2, 3)], f"t = Tanh (a) y = {op} (t)") for op in ("Acos", "Asin", "Atanh", "Dropout")},
    **{
        f"com.microsoft::{op}": ([(2, 3)], f"y = com.microsoft.{op} (a)")
        for op in ("FastGelu", "Gelu", "QuickGelu")
    },
    "Acosh": ([(2, 3)], "t = Exp (a) u = Exp (t) y = Acosh (u)"),
    "Cast": ([(2, 3)], "y = Cast <to = 11> (a)"),
    "CastLike": ([(2, 3)], "y = CastLike (a, a)"),
    "Compress": ([(3,)], "c = Constant <value = bool[3] {1, 0, 1}> () y = Compress (a, c)"),
    "Mod": ([(2, 3)], "m = Constant <value = double {0.7}> () y = Mod <fmod = 1> (a, m)"),
    "OneHot": (
        [(2,)],
        "i = Constant <value_ints = [1, 0]> () d = Constant <value_int = 3> () "
        "y = OneHot (i, d, a)",
    ),
    "ReverseSequence": (
        [(3, 2)],
        "n = Constant <value_ints = [2, 3]> () y = ReverseSequence (a, n)",
    ),
    "Swish": ([(2, 3)], "y = Swish (a)"),
    "Sqrt": ([(2, 3)], "s = Mul (a, a) y = Sqrt (s)"),
    "Log": ([(2, 3)], "s = Mul (a, a) y = Log (s)"),
    "ReduceLogSum": ([(2, 3)], "s = Mul (a, a) y = ReduceLogSum (s)"),
    "Pow": ([(2, 3)], "two = Constant <value = double {3}> () y = Pow (a, two)"),
    "Clip": ([(2, 3)], "low = Constant <value = double {-0.5}> () y = Clip (a, low)"),
    "Where": ([(2, 3), (2, 3)], "less = Less (a, b) y = Where (less, a, b)"),
    "Concat": ([(2, 3), (2, 1)], "y = Concat <axis = 1> (a, b)"),
    "Split": ([(2, 4)], "y, z = Split <axis = 1, num_outputs = 2> (a)"),
    "Squeeze": ([(2, 1, 3)], f"{AXES} y = Squeeze (a, axes)"),
    "Unsqueeze": ([(2, 3)], f"{AXES} y = Unsqueeze (a, axes)"),
    "Reshape": ([(2, 3)], "s = Constant <value_ints = [3, -1]> () y = Reshape (a, s)"),
    "Expand": ([(1, 3)], "s = Constant <value_ints = [2, 1]> () y = Expand (a, s)"),
    "Tile": ([(1, 3)], "s = Constant <value_ints = [2, 2]> () y = Tile (a, s)"),
    "CumSum": ([(2, 3)], "s = Constant <value_int = 1> () y = CumSum <exclusive = 1> (a, s)"),
    "Slice": (
        [(2, 5)],
        "s = Constant <value_ints = [4]> () e = Constant <value_ints = [0]> () "
        f"{AXES} t = Constant <value_ints = [-2]> () y = Slice (a, s, e, axes, t)",
    ),
    "Pad": ([(2, 3)], 'p = Constant <value_ints = [1, 0, 0, 2]> () y = Pad <mode = "edge"> (a, p)'),
    "Gather": ([(4,)], "i = Constant <value_ints = [3, -4, 0, 3]> () y = Gather (a, i)"),
    "GatherElements": (
        [(2, 3)],
        "i = Constant <value = int64[1, 3] {1, 0, -1}> () y = GatherElements (a, i)",
    ),
    "GatherND": (
        [(2, 3)],
        "i = Constant <value = int64[2, 2] {1, 0, 0, -1}> () y = GatherND (a, i)",
    ),
    "ScatterElements": (
        [(3, 2), (1, 2)],
        "i = Constant <value = int64[1, 2] {2, 0}> () y = ScatterElements (a, i, b)",
    ),
    "ScatterND": (
        [(3, 2), (1, 2)],
        'i = Constant <value = int64[1, 1] {-1}> () y = ScatterND <reduction = "add"> (a, i, b)',
    ),
    "TopK": ([(2, 4)], "k = Constant <value_ints = [2]> () y, i = TopK (a, k)"),
    "DepthToSpace": ([(1, 4, 2, 2)], "y = DepthToSpace <blocksize = 2> (a)"),
    "SpaceToDepth": ([(1, 1, 4, 4)], "y = SpaceToDepth <blocksize = 2> (a)"),
    "MatMul": ([(2, 3), (3, 2)], "y = MatMul (a, b)"),
    "Gemm": ([(3, 2), (3, 2), (2,)], "y = Gemm <transA = 1, alpha = 0.5, beta = 2.0> (a, b, c)"),
    "Einsum": ([(2, 3), (3, 2)], 'y = Einsum <equation = "ij, jk -> ik"> (a, b)'),
    "Conv": (
        [(1, 2, 4, 4), (2, 1, 3, 3), (2,)],
        "y = Conv <group = 2, pads = [1, 0, 1, 2], strides = [2, 1]> (a, b, c)",
    ),
    "ConvTranspose": (
        [(1, 2, 3, 3), (2, 1, 3, 3), (1,)],
        "y = ConvTranspose <strides = [2, 2], pads = [1, 1, 0, 0], output_padding = [1, 0]>"
        " (a, b, c)",
    ),
    "MaxPool": ([(1, 1, 4, 4)], "y = MaxPool <kernel_shape = [2, 2], pads = [1, 1, 0, 0]> (a)"),
    "AveragePool": (
        [(1, 1, 4, 4)],
        "y = AveragePool <kernel_shape = [2, 2], pads = [1, 1, 0, 0], ceil_mode = 1> (a)",
    ),
    "LpPool": ([(1, 1, 4, 4)], "y = LpPool <kernel_shape = [2, 2]> (a)"),
    "InstanceNormalization": ([(2, 2, 3), (2,), (2,)], "y = InstanceNormalization (a, b, c)"),
    "GroupNormalization": (
        [(2, 4, 3), (4,), (4,)],
        "y = GroupNormalization <num_groups = 2> (a, b, c)",
    ),
    "LayerNormalization": ([(2, 4), (4,), (4,)], "y = LayerNormalization (a, b, c)"),
    "RMSNormalization": ([(2, 4), (4,)], "y = RMSNormalization (a, b)"),
    "MeanVarianceNormalization": ([(2, 2, 2, 3)], "y = MeanVarianceNormalization (a)"),
    "LRN": ([(1, 4, 2, 2)], "y = LRN <size = 3> (a)"),
    "BatchNormalization": (
        [(2, 2, 3), (2,), (2,)],
        "m = Constant <value = double[2] {0.1, 0.2}> () "
        "v = Constant <value = double[2] {0.5, 2.0}> () y = BatchNormalization (a, b, c, m, v)",
    ),
    "Resize": (
        [(1, 1, 3, 3)],
        "s = Constant <value_floats = [1.0, 1.0, 2.0, 1.5]>"
        ' () y = Resize <mode = "cubic"> (a, , s)',
    ),
    "GridSample": ([(1, 1, 3, 3), (1, 2, 2, 2)], "y = GridSample (a, b)"),
    "LSTM": (
        [(3, 2, 2), (2, 8, 2), (2, 8, 2)],
        'y = LSTM <hidden_size = 2, direction = "bidirectional"> (a, b, c)',
    ),
    "GRU": ([(3, 2, 2), (1, 6, 2), (1, 6, 2)], "y = GRU <hidden_size = 2> (a, b, c)"),
    "RNN": (
        [(3, 2, 2), (1, 2, 2), (1, 2, 2)],
        'y = RNN <hidden_size = 2, direction = "reverse"> (a, b, c)',
    ),
}


WITHOUT = {
    *("And", "ArgMax", "ArgMin", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor"),
    *("ConstantOfShape", "Equal", "EyeLike", "Greater", "GreaterOrEqual", "Hardmax", "IsInf"),
    *(
        "IsNaN",
        "Less",
        "LessOrEqual",
        "NonZero",
        "Not",
        "Or",
        "Range",
        "Shape",
        "Sign",
        "Size",
        "Xor",
    ),
}
"""Operators whose outputs do not change with their inputs, or jump."""
BELOW = {
    *("Ceil", "DequantizeLinear", "DynamicQuantizeLinear", "Floor", "MatMulInteger"),
    *("QuantizeLinear", "Round"),
}
"""Operators that gradients pass straight through, which finite differences do not see, and such as
have no double precision: they are tested below."""


def test_the_gradient_of_every_operator_is_tested_if_it_has_one() -> None:
    assert TABLE.keys() == CASES.keys() | WITHOUT | BELOW


@pytest.mark.parametrize("operator", CASES)
def test_gradients_are_those_of_finite_differences(operator: str) -> None:
    assert operator in TABLE
    shapes, body = CASES[operator]
    names = "abc"[: len(shapes)]
    declared = [f"double{list(shape)} {n}" for n, shape in zip(names, shapes, strict=True)]
    before = model(f"main ({', '.join(declared)}) => (double y) {{ {body} }}", opset=24, ir=10)
    executor = Executor(before)
    draw = np.random.default_rng(len(body))
    inputs = [torch.tensor(draw.normal(size=shape), requires_grad=True) for shape in shapes]

    def compute(*values: torch.Tensor) -> torch.Tensor:
        return executor(dict(zip(names, values, strict=True)))["y"]

    assert torch.autograd.gradcheck(compute, inputs)


def test_rounding_is_the_identity_for_gradients() -> None:
    """That of a quantized value is 1 inside the range, and 0 outside."""
    before = model(
        """main (float[3] x) => (float[3] y)
        <float s = {0.5}, int8 z = {0}>
        { q = QuantizeLinear (x, s, z) y = DequantizeLinear (q, s, z) }"""
    )
    x = torch.tensor([0.3, -1.1, 99.0], requires_grad=True)
    y = Executor(before)({"x": x})["y"]
    y.sum().backward()
    assert (y.tolist(), x.grad.tolist()) == ([0.5, -1.0, 63.5], [1.0, 1.0, 0.0])


def test_the_scale_of_quantized_values_has_a_gradient() -> None:
    """It is the rounding error in steps, and the bound for what is beyond."""
    before = model(
        """main (float[2] x) => (float[2] y)
        <float s = {0.5}, int8 z = {0}>
        { q = QuantizeLinear (x, s, z) y = DequantizeLinear (q, s, z) }"""
    )
    executor = Executor(before, ["s"])
    executor({"x": np.array([0.3, 99.0], np.float32)})["y"].sum().backward()
    assert executor.parameters["s"].grad.item() == pytest.approx(1 - 0.6 + 127)


@pytest.mark.parametrize(
    "body",
    [
        *("i = Cast <to = 6> (x)", "i = Floor (x)", "i = Ceil (x)", "i = Round (x)"),
        *("i, s, z = DynamicQuantizeLinear (x)", "i = Cast <to = 10> (x)"),
    ],
)
def test_what_is_rounded_lets_gradients_through(body: str) -> None:
    before = model(f"main (float[2] x) => (float[2] y) {{ {body} y = Cast <to = 1> (i) }}")
    x = torch.tensor([0.7, -2.6], requires_grad=True)
    Executor(before)({"x": x})["y"].sum().backward()
    assert (x.grad != 0).all()


def test_dividing_quantized_integers_drops_the_fraction() -> None:
    before = model(
        "main (float[2] x) => (int32[2] y) <int32 two = {2}> { i = Cast <to = 6> (x) "
        "y = Div (i, two) }"
    )
    x = torch.tensor([7.9, -7.9], requires_grad=True)
    assert Executor(before)({"x": x})["y"].tolist() == [3.0, -3.0]


def test_products_of_quantized_integers_have_gradients() -> None:
    before = model(
        """main (float[1, 2] x) => (float[1, 1] y)
        <float s = {0.5}, int8 z = {0}, int8[2, 1] w = {3, -4}>
        { q = QuantizeLinear (x, s, z) m = MatMulInteger (q, w) y = Cast <to = 1> (m) }"""
    )
    x = torch.tensor([[0.7, -2.6]], requires_grad=True)
    Executor(before)({"x": x})["y"].sum().backward()
    assert x.grad.tolist() == [[6.0, -8.0]]
