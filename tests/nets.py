"""Small networks in ONNX text over numpy weights, and what is left of their layers."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from kit import holding, model
from onnxslim import Model, Pass, Pipeline
from onnxslim.ir import Array, Constant
from onnxslim.registry import unparse


def net(
    body: str,
    *,
    x: str = "float[2, 3, 6, 6]",
    y: str = "",
    rank: int = 4,
    opset: int = 17,
    **arrays: Any,
) -> Model:
    """Make a model that computes *y*, or one tensor of *rank*, from *x*.

    ``BN(t, n)`` stands for a batch normalization of t by what `norm` made for n.
    """
    kind = x.partition("[")[0]
    outputs = y or f"{kind}[{', '.join('ABCDE'[:rank])}] y"
    body = re.sub(r"BN\((\w+), (\w+)\)", r"BatchNormalization(\1, \2_s, \2_b, \2_m, \2_v)", body)
    dtype = np.float16 if kind == "float16" else np.float32
    cast = {k: v.astype(dtype) if v.dtype.kind == "f" else v for k, v in arrays.items()}
    return holding(model(f"g ({x} x) => ({outputs}) {{ {body} }}", opset, 8), **cast)


def weights(*shape: int, seed: int = 0) -> Array:
    """Make random weights, none of them zero."""
    rng = np.random.default_rng([seed, *shape])
    values = rng.uniform(0.5, 1.5, shape) * rng.choice([-1, 1], shape)
    return np.asarray(values / math.sqrt(math.prod(shape[1:])))


KINDS = {"0": 0.0, "d": 1e-41, "t": 1e-7, "m": 1e-3}


def norm(name: str, gammas: str, beta: float | None = None) -> dict[str, Any]:
    """Make the parameters of a batch normalization, a character for the gamma of each channel.

    ``0`` is zero, ``d`` denormal, ``t`` tiny, ``m`` a thousandth, anything else a number near 1.
    """
    rng = np.random.default_rng(list(map(ord, name + gammas)))
    count = len(gammas)
    near = rng.uniform(0.5, 1.5, count)
    gamma = [KINDS.get(kind, value) for kind, value in zip(gammas, near, strict=True)]
    return {
        f"{name}_s": np.array(gamma),
        f"{name}_b": rng.uniform(0.5, 1.5, count) if beta is None else np.full(count, beta),
        f"{name}_m": rng.uniform(-0.3, 0.3, count),
        f"{name}_v": rng.uniform(0.5, 2, count),
    }


def zeroed(array: Array, *index: Any) -> Array:
    """Return a copy of *array* with zeros at *index*."""
    made = np.array(array)
    made[index] = 0
    return made


def layers(of: Model) -> list[str]:
    """Return operators with the shapes of their first weights, such as ``Conv 4x3x1x1``."""
    found = []
    for node in of.nodes():
        constants = (t for t in node.inputs if isinstance(t, Constant) and t.shape)
        shape = next((t.shape for t in constants if t.elem_type in (1, 10)), None)
        if shape is not None:
            found.append(f"{node.op} {'x'.join(map(str, shape))}")
    return found


def convolutions(of: Model) -> list[str]:
    """Return those of `layers` that are convolutions."""
    return [layer for layer in layers(of) if layer.startswith("Conv ")]


def assert_leaves(before: Model, step: Pass, *expected: str) -> Model:
    """Apply *step*: these `layers` remain, the function is the same, and nothing more changes."""
    after, report = Pipeline((step,), check="each")(before)
    (done,) = report.steps
    assert not report.warnings, f"{unparse(step)}: {report.warnings}"
    assert layers(after) == list(expected), f"{unparse(step)} declined: {done.places}"
    assert report.validation.passed, report.validation
    _, again = Pipeline((step,), check="off")(after)
    assert not again.changed, "applied again, it changes more"
    return after
