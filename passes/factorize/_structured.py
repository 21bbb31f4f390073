"""Structured matrices in place of weights: candidates, and the nodes they become."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from onnx import TensorProto

from onnxslim.errors import Declined
from onnxslim.ir import Array, Tensor, Variable
from onnxslim.passes.factorize import _speed
from onnxslim.passes.factorize._build import Place, finished, stored
from onnxslim.passes.factorize._candidates import Candidate
from onnxslim.passes.factorize._families._form import Form, Values
from onnxslim.passes.factorize._layers import Layer
from onnxslim.rewrite import Builder


def candidates(layer: Layer, form: Form, values: Values, error: float) -> Iterator[Candidate]:
    """Yield what runs structured, where the family can, and what is expanded at load."""
    shared = form.family, form.detail, form.parameters, error
    approximation = partial(_approximation, form, len(values))
    time = _speed.slower_share(layer.rows, form.time, layer.shape)
    if time < math.inf and layer.slot and not layer.is_convolution and not _is_half(layer):
        yield Candidate(
            *shared, lambda: (*values, *form.running()), approximation,
            partial(_run, form), layer.time * time,
        )  # fmt: skip
    yield Candidate(
        *shared, lambda: (*values, *form.fixed()), approximation, expand=partial(_expand, form)
    )


def _is_half(layer: Layer) -> bool:
    return layer.values.dtype == np.float16


def _approximation(form: Form, count: int, parts: Sequence[Array]) -> Array:
    return form.expand(tuple(parts[:count]))


def _run(form: Form, place: Place, parts: Sequence[Tensor]) -> Variable:
    if place.rank is None or place.rank < 2:
        raise Declined("the number of dimensions of its input must be known, and 2 at least")
    new = place.new
    x = new.Transpose(place.x, perm=[1, 0]) if place.turned else place.x
    return finished(place, form.run(new, x, [0] * (place.rank - 1), parts))


def _expand(form: Form, new: Builder, layer: Layer, parts: Sequence[Tensor]) -> Variable:
    """Compute in floats what is stored in halves: onnxruntime folds little of these."""
    if new.version < 11:
        raise Declined("numbers in a row need opset 11")
    if not _is_half(layer):
        return stored(new, layer, form.write(new, parts))
    wide = [new.Cast(part, to=TensorProto.FLOAT) for part in parts]
    return stored(new, layer, new.Cast(form.write(new, wide), to=TensorProto.FLOAT16))
