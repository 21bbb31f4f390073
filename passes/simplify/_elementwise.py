"""Operators that compute each element from the elements at its place."""

from __future__ import annotations

UNARY = frozenset(
    {"Abs", "Cast", "Ceil", "Clip", "Cos", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid"}
    | {"HardSwish", "IsInf", "IsNaN", "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal"}
    | {"Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Swish"}
    | {"Tanh", "ThresholdedRelu"}
)
"""Further inputs, such as the bounds of a Clip, are scalars."""
BROADCASTING = frozenset(
    {"Add", "And", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater"}
    | {"GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "Pow"}
    | {"Sub", "Sum", "Where", "Xor"}
)
"""All inputs broadcast to one shape."""
