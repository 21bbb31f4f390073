"""For pytest: the fixture ``onnx_regression`` and the option ``--record-references``."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from onnxslim.api import Data, Source


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that records anew."""
    parser.getgroup("onnxslim").addoption(
        "--record-references",
        action="store_true",
        help="record the models that onnx_regression is called with, in place of checking them",
    )


@pytest.fixture
def onnx_regression(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Return a function that fails the test where a model regressed.

    ``onnx_regression("small.onnx", "references", max_drop="0.5%")`` takes what
    `onnxslim.regress.assert_model` takes. ``data``, used by ``--record-references`` only, is what
    `onnxslim.regress.record` takes, and ``original`` the model that is recorded, if another one.
    """
    recording = bool(request.config.getoption("record_references"))

    def run(
        model: Source,
        references: str | os.PathLike[str],
        *,
        original: Source | None = None,
        data: Data | None = None,
        **limits: Any,
    ) -> None:
        from onnxslim.regress import assert_model, record

        if recording:
            record(model if original is None else original, references, data)
        assert_model(model, references, **limits)

    return run
