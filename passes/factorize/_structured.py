"""Structured matrices in place of weights: candidates, and the nodes they become."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from onnx import TensorProto

from onnxslim.errors import Declined
from onnxslim.ir import Array, Tensor, Variable
from onnxslim.passes.factorize._build import stored
from onnxslim.passes.factorize._candidates import Candidate
from onnxslim.passes.factorize._families._form import Form, Values
from onnxslim.passes.factorize._layers import Layer
from onnxslim.rewrite import Builder


def candidate(form: Form, values: Values, error: float) -> Candidate:
    """Return a weight that is computed of *values* at load."""
    return Candidate(
        form.family,
        form.detail,
        form.parameters,
        error,
        lambda: (*values, *form.fixed()),
        lambda parts: _approximation(form, values, parts),
        expand=partial(_expand, form),
    )


def _approximation(form: Form, values: Values, parts: Sequence[Array]) -> Array:
    return form.expand(tuple(parts[: len(values)]))


def _expand(form: Form, new: Builder, layer: Layer, parts: Sequence[Tensor]) -> Variable:
    """Compute in floats what is stored in halves: onnxruntime folds little of these."""
    if new.version < 11:
        raise Declined("numbers in a row need opset 11")
    if layer.values.dtype != np.float16:
        return stored(new, layer, form.write(new, parts))
    wide = [new.Cast(part, to=TensorProto.FLOAT) for part in parts]
    return stored(new, layer, new.Cast(form.write(new, wide), to=TensorProto.FLOAT16))
