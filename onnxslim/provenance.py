"""A note in a model that says what was done to it: one entry of its metadata.

Its value has an item for every run that changed the model, parted by ``; ``: the version of
onnxslim and the passes that ran, as ``0.1.0 lossless,quantize-weights{bits=4}``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import onnxslim
from onnxslim.base import Pass
from onnxslim.ir import Model
from onnxslim.pipeline import Report
from onnxslim.recipes import RECIPES
from onnxslim.registry import unparse

KEY = "onnxslim"
_NAMED = ("lossless", "lossless-bytes")
"""Recipes that are written by their names."""
_LONGEST = 200
"""Letters of an item; where passes take more, only those that changed something are named."""
_KEPT = 4
"""Items that are kept, the latest."""


def sign(model: Model, report: Report, steps: Sequence[Pass]) -> Report:
    """Note in *model*, in place, what *steps* did; return the report with the bytes that takes.

    Nothing is noted where the file would become larger than the input.
    """
    before = model.metadata.get(KEY)
    items = [*(before.split("; ") if before else ()), _item(report, steps)]
    kept = [item for item, after in zip(items, [*items[1:], None], strict=True) if item != after]
    size = model.metadata_bytes()
    model.note(KEY, "; ".join(kept[-_KEPT:]))
    grown = model.metadata_bytes() - size
    if report.after.bytes + grown > report.before.bytes:
        model.note(KEY, before)
        return report
    return replace(report, after=replace(report.after, bytes=report.after.bytes + grown))


def _item(report: Report, steps: Sequence[Pass]) -> str:
    """Return the same whether a recipe was asked for by its name or written out."""
    text = ",".join(map(unparse, steps)).replace("'", "")
    for name in _NAMED:
        text = text.replace(RECIPES[name].spec, name)
    if len(text) > _LONGEST:
        text = ",".join(step.name for step in report.steps if step.changes)
    return f"{onnxslim.__version__} {text}"
