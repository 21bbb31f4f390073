"""Does a feed fit the model? Names, shapes, types and NaN."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from onnxslim.data.specs import Array, Dim, Feed, InputSpec, is_float, is_integer, numpy_type
from onnxslim.errors import DataError


def check(feed: Mapping[str, Any], specs: Sequence[InputSpec]) -> Feed:
    """Return *feed* in the types that the model declares.

    Floats change their width, integers too where every value fits. Raises DataError for unknown
    and missing inputs, wrong shapes, other types, and NaN.
    """
    check_names(named(feed), specs)
    return {spec.name: _checked(feed[spec.name], spec) for spec in specs}


def named(feed: Any, specs: Sequence[InputSpec] | None = None) -> Mapping[str, Any]:
    """Return *feed* as a mapping; an array goes to the only input. Raises DataError."""
    if isinstance(feed, Mapping):
        return feed
    if specs and len(specs) == 1 and hasattr(feed, "__array__"):
        return {specs[0].name: feed}
    raise DataError(
        f"a feed is a dict of arrays by input name, not {type(feed).__name__}; "
        "give a list of such dicts"
    )


def check_names(names: Iterable[str], specs: Sequence[InputSpec]) -> None:
    """Raise DataError unless *names* are those of *specs*."""
    given, wanted = list(names), [spec.name for spec in specs]
    known = ", ".join(wanted) or "none"
    for name in given:
        if name not in wanted:
            raise DataError(f"the model has no input {name!r}; its inputs are: {known}")
    for name in wanted:
        if name not in given:
            there = ", ".join(given) or "nothing"
            raise DataError(f"input {name!r} is missing; given are: {there}")


def _checked(value: Any, spec: InputSpec) -> Any:
    kind = spec.kind
    if kind.startswith("optional"):
        if value is None:
            return None
        kind = kind.removeprefix("optional").strip() or "tensor"
    if kind == "sequence":
        if not isinstance(value, (list, tuple)):
            raise DataError(f"input {spec.name!r} is a sequence; give a list of arrays")
        return [_checked_tensor(item, spec) for item in value]
    return _checked_tensor(value, spec) if kind == "tensor" else value


def _checked_tensor(value: Any, spec: InputSpec) -> Array:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise DataError(f"input {spec.name!r} is no array: {error}") from error
    if spec.elem_type:
        array = _cast(array, spec)
    declared = spec.shape
    if declared is not None and not _agrees(array.shape, declared):
        raise DataError(
            f"input {spec.name!r} has shape {_show(array.shape)}, the model wants {_show(declared)}"
        )
    if not spec.nan and is_float(array.dtype) and np.isnan(array).any():
        raise DataError(f"input {spec.name!r} holds NaN; remove or replace such values")
    return array


def _agrees(shape: Sequence[int], declared: Sequence[Dim]) -> bool:
    return len(shape) == len(declared) and all(
        size == dim for size, dim in zip(shape, declared, strict=True) if isinstance(dim, int)
    )


def _show(shape: Sequence[Dim]) -> str:
    return "[" + ", ".join("?" if dim is None else str(dim) for dim in shape) + "]"


def _cast(array: Array, spec: InputSpec) -> Array:
    wanted = numpy_type(spec.elem_type)
    have = array.dtype
    if have == wanted and have.kind != "O":
        return array
    if spec.elem_type == TensorProto.STRING:
        if have.kind not in "OUS":
            raise _wrong_type(have, "strings", spec)
        texts = [t.decode() if isinstance(t, bytes) else str(t) for t in array.reshape(-1).tolist()]
        return np.array(texts, object).reshape(array.shape)
    if type(have) is np.dtypes.VoidDType and have.itemsize == wanted.itemsize:
        return np.ascontiguousarray(array).view(wanted).reshape(array.shape)
    if is_float(have) and is_float(wanted):
        with np.errstate(over="ignore"):
            cast = array.astype(wanted)
        fits = bool((np.isinf(cast) <= np.isinf(array)).all())
    elif is_integer(have) and is_integer(wanted):
        cast = array.astype(wanted)
        fits = bool(np.array_equal(cast.astype(have), array)) and not _wrapped(array, cast)
    else:
        raise _wrong_type(have, str(wanted), spec)
    if not fits:
        raise DataError(f"input {spec.name!r} holds values that do not fit into {wanted}")
    return cast


def _wrapped(array: Array, cast: Array) -> bool:
    """Say whether a change of signedness turned large values into negative ones, or back."""
    return bool(((array < array.dtype.type(0)) != (cast < cast.dtype.type(0))).any())


def _wrong_type(have: Any, wanted: str, spec: InputSpec) -> DataError:
    return DataError(
        f"input {spec.name!r} is {have}, the model wants {wanted}; convert it the way the model's "
        "preprocessing does"
    )
