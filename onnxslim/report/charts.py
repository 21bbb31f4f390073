"""Charts as SVG, drawn without a library so that the page needs none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

_WIDTH, _ROW, _LABEL, _NUMBER = 640, 26, 190, 90
_HEIGHT, _MARGIN = 260, 44
_LEFT, _RIGHT, _TOP, _BOTTOM = _MARGIN, _WIDTH - _MARGIN, _MARGIN, _HEIGHT - _MARGIN


def bars(rows: Sequence[tuple[str, float | None, float]]) -> str:
    """Draw a row for each label, old number and new one; the old may be None."""
    largest = max((max(old or 0, new) for _, old, new in rows), default=0) or 1
    scale = (_WIDTH - _LABEL - _NUMBER) / largest
    drawn = (_row(index * _ROW, scale, *row) for index, row in enumerate(rows))
    return _svg(max(1, len(rows)) * _ROW, "".join(drawn))


def _row(top: float, scale: float, label: str, old: float | None, new: float) -> str:
    was = "" if old is None else f"{old:,.0f} to "
    inset = 0 if old is None else 4
    end = _LABEL + scale * max(old or 0, new) + 6
    parts = [
        f"<title>{escape(label)}: {was}{new:,.0f}</title>",
        _text(_LABEL - 8, top + 17, _short(label), "end"),
        "" if old is None else _bar("old", top + 3, 20, scale * old),
        _bar("new", top + 3 + inset, 20 - 2 * inset, scale * new),
        _text(end, top + 17, f"{new:,.0f}"),
    ]
    return f"<g>{''.join(parts)}</g>"


def _bar(kind: str, top: float, height: float, width: float) -> str:
    place = f'x="{_LABEL}" y="{top}" width="{max(width, 1):.1f}" height="{height}"'
    return f'<rect class="{kind}" {place} rx="2"/>'


def _short(label: str) -> str:
    return label if len(label) <= 26 else f"…{label[-25:]}"


def points(rows: Sequence[tuple[str, float, float]], across: str, up: str) -> str:
    """Draw a point for each labelled pair of numbers; the axis that goes across is logarithmic."""
    rows = [row for row in rows if math.isfinite(row[1]) and math.isfinite(row[2])]
    if not rows:
        return ""
    xs, ys = [math.log10(max(x, 1)) for _, x, _ in rows], [y for _, _, y in rows]
    left, right = _range(xs)
    low, high = _range(ys)
    parts = [
        _line(_LEFT, _BOTTOM, _RIGHT, _BOTTOM),
        _line(_LEFT, _TOP, _LEFT, _BOTTOM),
        _text(_RIGHT, _HEIGHT - 8, f"{across} (logarithmic)", "end"),
        _text(_LEFT, _TOP - 14, up),
        _text(_LEFT, _BOTTOM + 18, f"{10**left:,.4g}"),
        _text(_RIGHT, _BOTTOM + 18, f"{10**right:,.4g}", "end"),
        _text(_LEFT - 6, _BOTTOM, f"{low:.3g}", "end"),
        _text(_LEFT - 6, _TOP + 4, f"{high:.3g}", "end"),
    ]
    for (label, x, y), place in zip(rows, xs, strict=True):
        horizontal = _LEFT + (_RIGHT - _LEFT) * (place - left) / (right - left)
        vertical = _BOTTOM - (_BOTTOM - _TOP) * (y - low) / (high - low)
        title = f"<title>{escape(label)}: {x:,.4g}, {y:.4g}</title>"
        spot = f'cx="{horizontal:.1f}" cy="{vertical:.1f}" r="4"'
        parts.append(f'<circle class="new" {spot}>{title}</circle>')
    return _svg(_HEIGHT, "".join(parts))


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="axis" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if low < high else (low - 1, high + 1)


def _svg(height: int, content: str) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img">{content}</svg>'
