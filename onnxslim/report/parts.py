"""What pages are made of: the document, cards, charts of the models, tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from onnxslim import cost
from onnxslim.cost import Stats
from onnxslim.ir import Model
from onnxslim.report import charts

_MOST_BARS = 20
_FILES = ("style.css", "tables.js")
Cell = str | int | float | None


def document(title: str, sections: Iterable[str]) -> str:
    """Return a page that holds *sections*, empty ones left out."""
    style, script = (files("onnxslim.report").joinpath(f).read_text() for f in _FILES)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}: onnxslim</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        + "\n".join(section for section in sections if section)
        + f"\n<script>\n{script}</script>\n</body>\n</html>\n"
    )


def summary(title: str, verdict: str, before: Stats, after: Stats) -> str:
    """Return the heading, a sentence, and what the model weighs."""
    cards = [
        _card("bytes", before.bytes, after.bytes),
        _card("nodes", before.nodes, after.nodes),
        _card("parameters", before.parameters, after.parameters),
        _card("multiply-accumulates", before.macs, after.macs),
    ]
    return f'<h1>{escape(title)}</h1>\n<p>{verdict}</p>\n<div class="cards">{"".join(cards)}</div>'


def _card(what: str, old: int, new: int) -> str:
    change = "as before" if new == old else f"{(new - old) / old:+.1%}" if old else "new"
    was = f"was {old:,}, {change}" if new != old else change
    return f'<div>{what}<b>{new:,}</b><span class="soft">{was}</span></div>'


def warnings(texts: Iterable[str]) -> str:
    """Return *texts* so that they are seen."""
    return "\n".join(f'<p class="warning">{escape(text)}</p>' for text in texts)


def operators(old: Stats, new: Stats) -> str:
    """Return how many operators of each kind there were and are."""
    before, after = old.ops, new.ops
    names = sorted(before.keys() | after.keys(), key=lambda n: (-before.get(n, 0), n))
    rows = [(name, before.get(name, 0), after.get(name, 0)) for name in names]
    key = (
        '<figcaption><span class="key old"></span>before<span class="key new"></span>after'
        "</figcaption>"
    )
    chart = charts.bars([(n, float(a), float(b)) for n, a, b in rows[:_MOST_BARS]])
    found = table(("operator", "before", "after"), rows)
    everything = more("All operators", found)
    return f"<h2>Operators</h2>\n<figure>{key}{chart}</figure>\n{everything}"


def layers(result: Model) -> str:
    """Return what the layers of *result* take."""
    found = sorted(cost.layers(result), key=lambda layer: -layer.bytes)
    if not found:
        return ""
    largest = [(layer.name, None, float(layer.bytes)) for layer in found[:_MOST_BARS]]
    head = ("layer", "operator", "parameters", "bytes", "multiply-accumulates")
    rows = [(x.name, x.op, x.parameters, x.bytes, x.macs) for x in found]
    return (
        "<h2>Layers of the result</h2>\n<figure><figcaption>bytes of the constants that one layer "
        f"alone reads, the largest {len(largest)}</figcaption>{charts.bars(largest)}</figure>\n"
        + more(f"All {len(found)} layers", table(head, rows))
    )


def origin(recipe: str, seconds: float, versions: Mapping[str, str]) -> str:
    """Return what the model was made by, and how long that took."""
    said = ", ".join(f"{name} {number}" for name, number in versions.items())
    return (
        f"<h2>How it was made</h2>\n<p><code>{escape(recipe)}</code></p>\n"
        f'<p class="soft">{seconds:.2f} seconds; {escape(said)}</p>'
    )


# Tables -------------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Return a table that can be sorted; columns of numbers are known by what they hold."""
    rows = list(rows)
    numbers = [all(row[i] is None or is_number(row[i]) for row in rows) for i in range(len(head))]
    titles = "".join(
        f"<th{_class(number)}><button>{escape(title)}</button></th>"
        for title, number in zip(head, numbers, strict=True)
    )
    body = "".join("<tr>" + "".join(map(_cell, row, numbers)) + "</tr>\n" for row in rows)
    content = f"<thead><tr>{titles}</tr></thead>\n<tbody>\n{body}</tbody>"
    return f'<div class="wide"><table>\n{content}</table></div>'


def _cell(value: Cell, number: bool) -> str:
    if value is None:
        return f"<td{_class(number)}></td>"
    if not is_number(value):
        return f"<td{_class(number)}>{escape(str(value))}</td>"
    text = f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
    return f'<td{_class(number)} data-value="{value}">{text}</td>'


def _class(number: bool) -> str:
    return ' class="number"' if number else ""


def is_number(value: Any) -> bool:
    """Say whether *value* is a number to sort by."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def more(title: str, content: str) -> str:
    """Return *content* folded under *title*."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>"
