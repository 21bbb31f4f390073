"""Every operator that can be tuned through, against onnxruntime and against finite differences."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from kit import model
from onnxslim.errors import CannotRun, CannotTune
from onnxslim.ir import Model
from onnxslim.runtime import Session
from onnxslim.tune.executor import Executor, array_of
from onnxslim.tune.operators import TABLE
from test_backend import Case, corpus

NOT_COMPUTED = ("it trains", "its mask is read", "FLOAT", "STRING", "its maxima", "does not go to")
"""What is left of a reason why an operator of the table declines a case."""


@functools.cache
def nodes(at: int) -> frozenset[str]:
    found = {node.operator for node in Model.from_proto(corpus()[at].model).nodes()}
    return frozenset(found - {"Constant"})


def claimed() -> list[Case]:
    return [
        case
        for at, case in enumerate(corpus())
        if case.feeds and nodes(at) and nodes(at) <= {*TABLE, "If"} and not case.model.functions
    ]


def few(cases: Sequence[Case]) -> list[Case]:
    """Return a case for each set of attributes and each number of inputs of each operator."""
    chosen: dict[object, Case] = {}
    for case in cases:
        if len(case.model.graph.node) == 1:
            (node,) = case.model.graph.node
            names = frozenset(attribute.name for attribute in node.attribute)
            chosen.setdefault((node.op_type, names, tuple(map(bool, node.input))), case)
    return list(chosen.values())


def verdict(case: Case) -> str:
    """Compute a case by torch and by onnxruntime."""
    try:
        session = Session(case.model.SerializeToString(), optimize=False)
        expected = [session.run(feed) for feed in case.feeds]
    except CannotRun:
        return "not runnable"
    if not all(isinstance(value, np.ndarray) for found in expected for value in found.values()):
        return "no tensors"
    try:
        executor = Executor(Model.from_proto(case.model))
        found = [executor(feed) for feed in case.feeds]
    except CannotTune as reason:
        return "declined" if any(r in str(reason) for r in NOT_COMPUTED) else f"wrong: {reason}"
    for wanted, values in zip(expected, found, strict=True):
        for name, value in wanted.items():
            if not close(array_of(values[name], executor.types[name]), value):
                return f"wrong: {name} is {values[name]}, not {value}"
    return "kept"


def close(found: np.ndarray, expected: np.ndarray) -> bool:
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    if expected.dtype.kind in "biu":
        return bool((found == expected).all())
    left, right = found.astype(np.float64), expected.astype(np.float64)
    scale = np.abs(right[np.isfinite(right)]).max(initial=0)
    tolerance = scale * (1e-2 if expected.dtype.itemsize < 4 else 1e-5)
    return bool(np.allclose(left, right, rtol=0, atol=tolerance, equal_nan=True))


def broken(cases: Sequence[Case]) -> dict[str, str]:
    verdicts = {case.name: verdict(case) for case in cases}
    assert Counter(verdicts.values())["kept"] > len(cases) // 2
    return {name: text for name, text in verdicts.items() if text.startswith("wrong")}


def test_cases_of_the_corpus_are_computed_as_onnxruntime_does() -> None:
    assert not broken(few(claimed()))


@pytest.mark.slow
def test_all_cases_of_the_corpus_are_computed_as_onnxruntime_does() -> None:
    assert not broken(claimed())


def test_every_operator_has_a_case() -> None:
    covered = {node.op_type for case in claimed() for node in case.model.graph.node}
    assert TABLE.keys() - covered == ALONE.keys()


ALONE = {
    "GlobalLpPool": "y = GlobalLpPool <p = 3> (x)",
    "com.microsoft::FastGelu": "y = com.microsoft.FastGelu (x)",
    "com.microsoft::Gelu": "y = com.microsoft.Gelu (x)",
    "com.microsoft::QuickGelu": "y = com.microsoft.QuickGelu (x)",
}
"""Operators that the corpus has no case of."""


@pytest.mark.parametrize("operator", ALONE)
def test_operators_without_a_case_are_computed_as_onnxruntime_does(operator: str) -> None:
    before = model(f"main (float[2, 3, 4, 4] x) => (float y) {{ {ALONE[operator]} }}", opset=17)
    assert operator in {node.operator for node in before.nodes()}
    feed = {"x": np.random.default_rng(0).normal(size=(2, 3, 4, 4)).astype(np.float32)}
    expected = Session(before.to_bytes(), optimize=False).run(feed)["y"]
    assert close(array_of(Executor(before)(feed)["y"], 1), expected)
