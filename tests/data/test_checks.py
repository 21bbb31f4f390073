"""What a model declares of its inputs, and whether a feed fits."""

from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
import onnx.parser
import pytest
from onnx import TensorProto

from onnxslim.data import InputSpec, check, input_specs
from onnxslim.errors import DataError

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
X = InputSpec("x", FLOAT, ("N", 3))
IDS = InputSpec("ids", INT64, ("N",))
f32 = partial(np.array, dtype=np.float32)
f64 = partial(np.array, dtype=np.float64)
i8 = partial(np.array, dtype=np.int8)
i32 = partial(np.array, dtype=np.int32)
i64 = partial(np.array, dtype=np.int64)
u64 = partial(np.array, dtype=np.uint64)


def specs_of(inputs: str, body: str = "{ y = Identity(x) }") -> list[InputSpec]:
    text = f'<ir_version: 8, opset_import: ["" : 17]> g ({inputs}) => (y) {body}'
    return input_specs(onnx.parser.parse_model(text))


def ones(*shape: int) -> npt.NDArray[np.float32]:
    return np.ones(shape, np.float32)


# What a model declares


@pytest.mark.parametrize(
    ("inputs", "spec"),
    [
        ("float[N,3] x", X),
        ("int64[2,?] x", InputSpec("x", INT64, (2, None))),
        ("float[] x", InputSpec("x", FLOAT, None)),
        ("float x", InputSpec("x", FLOAT, ())),
        ("seq(float[N,3]) x", InputSpec("x", FLOAT, ("N", 3), "sequence")),
        ("optional(float[N,3]) x", InputSpec("x", FLOAT, ("N", 3), "optional")),
        ("optional(seq(float[3])) x", InputSpec("x", FLOAT, (3,), "optional sequence")),
        ("map(int64, float) x", InputSpec("x", 0, None, "map")),
    ],
)
def test_a_spec_is_what_the_model_declares(inputs: str, spec: InputSpec) -> None:
    assert specs_of(inputs) == [spec]


def test_an_initializer_needs_no_feed() -> None:
    specs = specs_of("float[N,3] x, float[3] w", "<float[3] w = {1, 2, 3}> { y = Add(x, w) }")
    assert [spec.name for spec in specs] == ["x"]


# Checking a feed


@pytest.mark.parametrize(
    ("feed", "message"),
    [
        ({"z": ones(1, 3)}, "the model has no input 'z'; its inputs are: x, ids"),
        ({"x": ones(1, 3)}, "input 'ids' is missing; given are: x"),
        ({"x": ones(1, 4), "ids": [0]}, r"input 'x' has shape \[1, 4\], the model wants \[N, 3\]"),
        ({"x": ones(3), "ids": [0]}, r"input 'x' has shape \[3\]"),
        ({"x": ones(1, 3).astype("u1"), "ids": [0]}, "input 'x' is uint8, the model wants float32"),
        ({"x": ones(1, 3), "ids": ones(1)}, "input 'ids' is float32, the model wants int64"),
        ({"x": ones(1, 3) * np.nan, "ids": [0]}, "input 'x' holds NaN"),
        ({"x": np.full((1, 3), 1e300), "ids": [0]}, "input 'x' holds values that do not fit"),
        ({"x": ones(1, 3), "ids": u64([2**63])}, "input 'ids' holds values that do not fit"),
        ({"x": [[1.0], [1.0, 2.0]], "ids": [0]}, "input 'x' is no array"),
        ([ones(1, 3)], "a feed is a dict of arrays by input name, not list"),
    ],
)
def test_a_feed_that_does_not_fit_is_refused(feed: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check(feed, [X, IDS])


@pytest.mark.parametrize(
    ("elem_type", "given", "wanted"),
    [
        (FLOAT, f64([1.5]), f32([1.5])),
        (FLOAT, f64([np.inf]), f32([np.inf])),
        (INT64, i8([-1]), i64([-1])),
        (TensorProto.INT32, i64([7]), i32([7])),
        (TensorProto.BFLOAT16, f32([1.5]), np.array([1.5], ml_dtypes.bfloat16)),
        (TensorProto.STRING, np.array(["ü"]), np.array(["ü"], object)),
        (TensorProto.STRING, np.array([b"a"]), np.array(["a"], object)),
    ],
)
def test_a_feed_takes_the_declared_type(
    elem_type: int, given: npt.NDArray[Any], wanted: npt.NDArray[Any]
) -> None:
    found = check({"x": given}, [InputSpec("x", elem_type, (1,))])["x"]
    assert (found.dtype, found.tolist()) == (wanted.dtype, wanted.tolist())


def test_sequences_and_optionals_are_checked_inside() -> None:
    sequence = InputSpec("s", FLOAT, (2,), "sequence")
    optional = InputSpec("o", FLOAT, (2,), "optional")
    feed = check({"s": [f64([1, 2])], "o": None}, [sequence, optional])
    assert (feed["s"][0].dtype, feed["o"]) == (np.float32, None)


def test_nan_is_fine_where_the_model_reads_it() -> None:
    (spec,) = specs_of("float[1] x", "{ y = IsNaN(x) }")
    assert np.isnan(check({"x": f32([np.nan])}, [spec])["x"])
