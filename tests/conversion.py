"""What the tests of conversions need."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import pytest

from kit import holding, model
from onnxslim import Model, Pipeline, versions
from onnxslim.errors import PassError
from onnxslim.passes.convert.convert_opset import ConvertOpset


def converted(text: str, opset: int, target: int, **held: npt.NDArray[Any]) -> Model:
    """Convert a model from text; the pipeline finds that it computes the same."""
    before = holding(model(text, opset), **held)
    after, report = Pipeline((ConvertOpset(target),), check="each")(before)
    assert not report.warnings
    assert report.validation.passed, report.steps[0].declined
    return after


def refusal(text: str, opset: int, target: int, **held: npt.NDArray[Any]) -> str:
    """Return why a model from text is not converted."""
    with pytest.raises(PassError) as error:
        versions.convert(holding(model(text, opset), **held), target)
    return str(error.value)


def unchecked(text: str, opset: int, target: int) -> Model:
    """Convert a model from text that need not run."""
    after = model(text, opset)
    versions.convert(after, target)
    return after
