"""Every family of structured matrices is under the same laws."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from onnx import helper

from kit import model, optimized
from onnxslim import Model, runtime
from onnxslim.passes.factorize._families import FAMILIES
from onnxslim.passes.factorize._families._form import Form, Linear
from onnxslim.rewrite import Builder

Array = npt.NDArray[np.float64]
RANDOM = np.random.default_rng(0)
SIZES = [(24, 24), (24, 16), (16, 24)]


def forms(size: tuple[int, int]) -> list[Form]:
    """Return forms of every family, the largest and the smallest."""
    found = []
    for family in FAMILIES.values():
        every = list(family.within(*size, size[0] * size[1] // 2))
        found += every[:1] + every[1:][-1:]
    return found


FORMS = [form for size in SIZES for form in forms(size)]
EVERY = pytest.mark.parametrize("form", FORMS, ids=str)


def gram(size: int) -> Array:
    rows = RANDOM.standard_normal((4 * size, size)) * np.exp(-4 * RANDOM.random(size))
    return np.asarray(rows.T @ rows / len(rows))


def written(form: Form, values: tuple[Array, ...], dtype: type, opset: int) -> Array:
    """Let onnxruntime compute a matrix from what is stored."""
    before = model("g (float[1] x) => (float[1] y) { y = Identity(x) }", opset=opset)
    new = Builder(before.names, before.graph)
    parts = [new.tensor(v.astype(dtype)) for v in (*values, *form.fixed())]
    result = form.write(new, parts)
    before.graph.nodes.extend(new.nodes)
    before.graph.outputs.append(result)
    proto = before.proto()
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    shape = [form.rows, form.columns]
    proto.graph.output[-1].CopyFrom(helper.make_tensor_value_info(result.name, kind, shape))
    assert set(optimized(Model.from_proto(proto))) <= {"Identity"}, "it is not folded at load"
    session = runtime.Session(proto.SerializeToString(), optimize=True)
    return np.asarray(session.run({"x": np.zeros(1, np.float32)})[result.name])


@EVERY
def test_matrices_of_the_form_are_found_again(form: Form) -> None:
    matrix = form.expand(form.fit(RANDOM.standard_normal((form.rows, form.columns)), None))
    again = form.expand(form.fit(matrix, None))
    missed = np.linalg.norm(again - matrix)
    assert missed < (0.05 if form.family == "diagonal-low-rank" else 1e-9) * np.linalg.norm(matrix)


@EVERY
def test_parameters_are_what_is_stored(form: Form) -> None:
    values = form.fit(RANDOM.standard_normal((form.rows, form.columns)), None)
    assert sum(v.size for v in values) == form.parameters


@EVERY
def test_the_metric_of_the_data_is_lowered(form: Form) -> None:
    matrix, metric = RANDOM.standard_normal((form.rows, form.columns)), gram(form.rows)
    root = np.linalg.cholesky(metric).T
    plain, fitted = (
        np.linalg.norm(root @ (matrix - form.expand(form.fit(matrix, given))))
        for given in (None, metric)
    )
    assert fitted < plain


@pytest.mark.parametrize("form", [f for f in FORMS if isinstance(f, Linear)], ids=str)
def test_linear_families_find_the_nearest(form: Linear) -> None:
    """What is left has no part in the direction of any parameter."""
    matrix, metric = RANDOM.standard_normal((form.rows, form.columns)), gram(form.rows)
    missed = matrix - form.expand(form.fit(matrix, metric))
    left, whole = (np.linalg.norm(form.collected(metric @ a)) for a in (missed, matrix))
    assert left < 1e-2 * whole


@EVERY
@pytest.mark.parametrize(("dtype", "opset"), [(np.float32, 11), (np.float64, 13)])
def test_onnxruntime_computes_the_same_matrix(form: Form, dtype: type, opset: int) -> None:
    values = form.fit(RANDOM.standard_normal((form.rows, form.columns)), None)
    exact = form.expand(values)
    made = written(form, values, dtype, opset)
    np.testing.assert_allclose(made, exact, atol=2e-6, rtol=0)


def test_every_file_offers_a_family() -> None:
    assert set(FAMILIES) >= {
        *("circulant", "block-circulant", "toeplitz", "hankel", "banded", "diagonal-low-rank"),
        *("sparse-signs", "fixed-kronecker", "butterfly"),
    }
