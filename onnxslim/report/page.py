"""The page about a run: one self-contained file, no scripts, styles or fonts from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from onnxslim.ir import Model
from onnxslim.pipeline import Report, Step
from onnxslim.report import charts
from onnxslim.report.parts import (
    document,
    is_number,
    layers,
    operators,
    origin,
    summary,
    table,
    warnings,
)


def page(report: Report, result: Model, title: str, recipe: str) -> str:
    """Return the page about a run that made *result* from a model called *title* by *recipe*."""
    return document(
        title,
        (
            summary(title, _verdict(report), report.before, report.after),
            warnings(report.warnings),
            _outputs(report),
            operators(report.before, report.after),
            layers(result),
            _passes(report),
            _declined(report),
            _notes(report),
            origin(recipe, report.seconds, report.versions),
        ),
    )


def _verdict(report: Report) -> str:
    found = report.validation
    if found.relative is None:
        return f"Not compared with the original: {escape(found.reason or 'no reason given')}."
    said = (
        f'<span class="passed">Compared with the original</span> on {found.feeds} inputs: the '
        f"outputs moved by at most {found.relative:.1e} of their scale"
    )
    if found.allowed is not None:
        said += f", allowed was {found.allowed:.1e}"
    if found.onnxruntime is not None:
        said += f"; onnxruntime's own optimizations move the original by {found.onnxruntime:.1e}"
    if found.held_out is not None:
        held = found.held_out
        said += f". On samples that nothing learned from, {held.metric} is {held.score:.2%}"
    return f"{said}." + (f" {escape(found.reason)}." if found.reason else "")


def _outputs(report: Report) -> str:
    """Show how far each output moved, where there are several."""
    found = report.validation.outputs
    if len(found) < 2:
        return ""
    rows = [(one.name, one.max_abs, one.relative, one.allowed) for one in found]
    head = ("output", "largest error", "relative to its scale", "allowed as rounding")
    return "<h2>Outputs</h2>\n" + table(head, rows)


def _passes(report: Report) -> str:
    rows = [
        (step.name, step.effect, step.changes, round(step.seconds, 3), step.skipped or "")
        for step in report.steps
        if step.changes or step.skipped
    ]
    head = ("pass", "effect", "changes", "seconds", "did not run because")
    idle = len(report.steps) - len(rows)
    said = f'<p class="soft">{idle} more passes found nothing to do.</p>' if idle else ""
    return "<h2>Passes</h2>\n" + (table(head, rows) if rows else "") + said


def _declined(report: Report) -> str:
    rows = [
        (count, step.name, reason)
        for step in report.steps
        for reason, count in step.declined.items()
    ]
    if not rows:
        return ""
    rows.sort(key=lambda row: -row[0])
    return "<h2>What was left alone, and why</h2>\n" + table(("times", "pass", "reason"), rows)


def _notes(report: Report) -> str:
    return "\n".join(_noted(step) for step in report.steps if step.notes)


def _noted(step: Step) -> str:
    """Show the table that a pass made, and its numbers against bytes where it has both."""
    columns = list(dict.fromkeys(key for row in step.notes for key in row))
    rows = [[row.get(column) for column in columns] for row in step.notes]
    return (
        f"<h2>{escape(step.name)}, layer by layer</h2>\n"
        + "".join(f"<figure>{chart}</figure>" for chart in _plots(step.notes, columns))
        + table(columns, rows)
    )


def _plots(notes: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Iterator[str]:
    """Draw the measures of damage against the bytes of each layer."""
    names = [c for c in columns if c in ("layer", "tensor", "weight", "name")]
    size = next((c for c in columns if c in ("bytes", "parameters", "elements")), None)
    for measure in (c for c in columns if c in ("sqnr", "error", "noise")):
        rows = [
            (str(row.get(names[0], "")) if names else "", float(row[size]), float(row[measure]))
            for row in notes
            if size and is_number(row.get(size)) and is_number(row.get(measure))
        ]
        if len(rows) > 1:
            yield charts.points(rows, str(size), measure)
