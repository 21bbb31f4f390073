"""One self-contained page: no scripts, styles or fonts from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from onnxslim import cost
from onnxslim.ir import Model
from onnxslim.pipeline import Report, Step
from onnxslim.report import charts

_MOST_BARS = 20
_Cell = str | int | float | None


def page(report: Report, result: Model, title: str, recipe: str) -> str:
    """Return the page about a run that made *result* from a model called *title* by *recipe*."""
    sections = (
        _summary(report, title),
        _warnings(report),
        _operators(report),
        _layers(result),
        _passes(report),
        _declined(report),
        _notes(report),
        _origin(report, recipe),
    )
    style, script = (files("onnxslim.report").joinpath(f).read_text() for f in _FILES)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}: onnxslim</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        + "\n".join(section for section in sections if section)
        + f"\n<script>\n{script}</script>\n</body>\n</html>\n"
    )


_FILES = ("style.css", "tables.js")


def _summary(report: Report, title: str) -> str:
    before, after = report.before, report.after
    cards = [
        _card("bytes", before.bytes, after.bytes),
        _card("nodes", before.nodes, after.nodes),
        _card("parameters", before.parameters, after.parameters),
        _card("multiply-accumulates", before.macs, after.macs),
    ]
    return (
        f"<h1>{escape(title)}</h1>\n<p>{_verdict(report)}</p>\n"
        f'<div class="cards">{"".join(cards)}</div>'
    )


def _card(what: str, old: int, new: int) -> str:
    change = "as before" if new == old else f"{(new - old) / old:+.1%}" if old else "new"
    was = f"was {old:,}, {change}" if new != old else change
    return f'<div>{what}<b>{new:,}</b><span class="soft">{was}</span></div>'


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


def _warnings(report: Report) -> str:
    return "\n".join(f'<p class="warning">{escape(text)}</p>' for text in report.warnings)


def _operators(report: Report) -> str:
    before, after = report.before.ops, report.after.ops
    names = sorted(before.keys() | after.keys(), key=lambda n: (-before.get(n, 0), n))
    rows = [(name, before.get(name, 0), after.get(name, 0)) for name in names]
    key = (
        '<figcaption><span class="key old"></span>before<span class="key new"></span>after'
        "</figcaption>"
    )
    chart = charts.bars([(n, float(a), float(b)) for n, a, b in rows[:_MOST_BARS]])
    table = _table(("operator", "before", "after"), rows)
    return f"<h2>Operators</h2>\n<figure>{key}{chart}</figure>\n{_more('All operators', table)}"


def _layers(result: Model) -> str:
    layers = sorted(cost.layers(result), key=lambda layer: -layer.bytes)
    if not layers:
        return ""
    largest = [(layer.name, None, float(layer.bytes)) for layer in layers[:_MOST_BARS]]
    head = ("layer", "operator", "parameters", "bytes", "multiply-accumulates")
    rows = [(x.name, x.op, x.parameters, x.bytes, x.macs) for x in layers]
    return (
        "<h2>Layers of the result</h2>\n<figure><figcaption>bytes of the constants that one layer "
        f"alone reads, the largest {len(largest)}</figcaption>{charts.bars(largest)}</figure>\n"
        + _more(f"All {len(layers)} layers", _table(head, rows))
    )


def _passes(report: Report) -> str:
    rows = [
        (step.name, step.effect, step.changes, round(step.seconds, 3), step.skipped or "")
        for step in report.steps
        if step.changes or step.skipped
    ]
    head = ("pass", "effect", "changes", "seconds", "did not run because")
    idle = len(report.steps) - len(rows)
    said = f'<p class="soft">{idle} more passes found nothing to do.</p>' if idle else ""
    return "<h2>Passes</h2>\n" + (_table(head, rows) if rows else "") + said


def _declined(report: Report) -> str:
    rows = [
        (count, step.name, reason)
        for step in report.steps
        for reason, count in step.declined.items()
    ]
    if not rows:
        return ""
    rows.sort(key=lambda row: -row[0])
    return "<h2>What was left alone, and why</h2>\n" + _table(("times", "pass", "reason"), rows)


def _notes(report: Report) -> str:
    return "\n".join(_noted(step) for step in report.steps if step.notes)


def _noted(step: Step) -> str:
    """Show the table that a pass made, and its numbers against bytes where it has both."""
    columns = list(dict.fromkeys(key for row in step.notes for key in row))
    rows = [[row.get(column) for column in columns] for row in step.notes]
    return (
        f"<h2>{escape(step.name)}, layer by layer</h2>\n"
        + "".join(f"<figure>{chart}</figure>" for chart in _plots(step.notes, columns))
        + _table(columns, rows)
    )


def _plots(notes: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Iterator[str]:
    """Draw the measures of damage against the bytes of each layer."""
    names = [c for c in columns if c in ("layer", "tensor", "weight", "name")]
    size = next((c for c in columns if c in ("bytes", "parameters", "elements")), None)
    for measure in (c for c in columns if c in ("sqnr", "error", "noise")):
        rows = [
            (str(row.get(names[0], "")) if names else "", float(row[size]), float(row[measure]))
            for row in notes
            if size and _is_number(row.get(size)) and _is_number(row.get(measure))
        ]
        if len(rows) > 1:
            yield charts.points(rows, str(size), measure)


def _origin(report: Report, recipe: str) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in report.versions.items())
    return (
        f"<h2>How it was made</h2>\n<p><code>{escape(recipe)}</code></p>\n"
        f'<p class="soft">{report.seconds:.2f} seconds; {escape(versions)}</p>'
    )


# Tables -------------------------------------------------------------------------------------------


def _table(head: Sequence[str], rows: Iterable[Sequence[_Cell]]) -> str:
    rows = list(rows)
    numbers = [all(row[i] is None or _is_number(row[i]) for row in rows) for i in range(len(head))]
    titles = "".join(
        f"<th{_class(number)}><button>{escape(title)}</button></th>"
        for title, number in zip(head, numbers, strict=True)
    )
    body = "".join("<tr>" + "".join(map(_cell, row, numbers)) + "</tr>\n" for row in rows)
    content = f"<thead><tr>{titles}</tr></thead>\n<tbody>\n{body}</tbody>"
    return f'<div class="wide"><table>\n{content}</table></div>'


def _cell(value: _Cell, number: bool) -> str:
    if value is None:
        return f"<td{_class(number)}></td>"
    if not _is_number(value):
        return f"<td{_class(number)}>{escape(str(value))}</td>"
    text = f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
    return f'<td{_class(number)} data-value="{value}">{text}</td>'


def _class(number: bool) -> str:
    return ' class="number"' if number else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _more(title: str, content: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{content}</details>"
