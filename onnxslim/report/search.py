"""The page about a search for the best model inside a budget."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from onnxslim.pipeline import versions
from onnxslim.report import charts
from onnxslim.report.parts import (
    document,
    layers,
    operators,
    origin,
    summary,
    table,
    warnings,
)

if TYPE_CHECKING:
    from onnxslim.search import Candidate, Result


def search_page(result: Result, title: str) -> str:
    """Return the page about a search that began with a model called *title*."""
    return document(
        title,
        (
            summary(title, _verdict(result), result.before, result.after),
            warnings(result.notes),
            _tried(result),
            _sensitivity(result),
            operators(result.before, result.after),
            layers(result.model),
            origin(result.best.spec, result.seconds, versions()),
        ),
    )


def _verdict(result: Result) -> str:
    best = result.best
    said = (
        f"Chosen among {len(result.candidates)} models by {escape(result.metric)} on "
        f"{result.judges} samples that nothing was fitted to: it drops by {best.drop:.4g}, and by "
        f"less than {best.bound:.4g} for 95 % of such samples."
    )
    return said if best.latency is None else f"{said} It takes {best.latency:.2f} of the time."


def _tried(result: Result) -> str:
    made = [one for one in result.candidates if one.failed is None]
    plot = charts.points(
        [(one.method, float(one.size), one.drop) for one in made], "bytes",
        f"drop of {result.metric}",
    )  # fmt: skip
    head = ("", "bytes", "drop", "95 % below", "time", "method", "pipeline", "why not")
    rows = [_row(one, result) for one in sorted(result.candidates, key=_order)]
    return f"<h2>What was tried</h2>\n<figure>{plot}</figure>\n{table(head, rows)}"


def _order(one: Candidate) -> tuple[bool, int, float]:
    return one.failed is not None, one.size, one.drop


def _row(one: Candidate, result: Result) -> tuple[str | int | float | None, ...]:
    mark = "chosen" if one == result.best else "best of its size" if one in result.front else ""
    failed = one.failed is not None
    figures = (None, None, None) if failed else (one.size, one.drop, one.bound)
    return mark, *figures, one.latency, one.method, one.spec, one.failed or ""


def _sensitivity(result: Result) -> str:
    """Show what each way to store a layer adds to the noise of the outputs."""
    rows = result.sensitivity
    if not rows:
        return ""
    columns = list(rows[0])
    points = [
        (f"{row['layer']}, {row['level']}", float(size), float(noise))
        for row in rows
        if isinstance(size := row["bytes"], int) and isinstance(noise := row["noise"], float)
    ]
    return (
        "<h2>Layer by layer</h2>\n<figure><figcaption>noise that one layer alone adds to the "
        f"outputs</figcaption>{charts.points(points, 'bytes', 'noise')}</figure>\n"
        + table(columns, [[row[column] for column in columns] for row in rows])
    )
