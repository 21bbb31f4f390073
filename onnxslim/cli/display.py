"""What a person sees: progress on standard error, tables on standard output.

Rich, which takes a tenth of a second to import, is for what needs it: a bar, tables that wrap.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from onnx import TensorProto, TypeProto

from onnxslim import cost, pack, pipeline, registry, shapes
from onnxslim.cost import Stats
from onnxslim.ir import Constant, Tensor, numpy_type
from onnxslim.pipeline import Report
from onnxslim.recipes import RECIPES

if TYPE_CHECKING:
    from rich.console import Console

    from onnxslim.regress import Verdict

_PLAIN_WIDTH = 100
_PLAIN_INTERVAL = 2.0
"""Seconds between progress lines where standard error is no terminal."""
_MOST_REASONS = 5
_NUMBER = re.compile(r"(?<![\w.,-])\d+(?![\w.,]*\w)")
"""A whole number that stands alone: no part of a name or of a fraction."""
_BLANK = "\0"


class Display:
    """Prints for people; *quiet* prints nothing."""

    def __init__(self, quiet: bool = False) -> None:
        """Print tables to standard output, everything else to standard error."""
        self.quiet = quiet

    @contextmanager
    def progress(self) -> Iterator[pipeline.Progress]:
        """Show a bar on a terminal, a line now and then elsewhere."""
        if self.quiet or not sys.stderr.isatty():
            yield self._line_now_and_then()
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(24))
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
            task = bar.add_task("reading", total=None)

            def show(what: str, done: int, total: int) -> None:
                bar.update(task, description=what, completed=done, total=total or None)

            yield show

    def _line_now_and_then(self) -> pipeline.Progress:
        last = time.monotonic()

        def show(what: str, done: int, total: int) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= _PLAIN_INTERVAL:
                last = now
                self._say(f"onnxslim: {what}", err=True)

        return show

    def _say(self, line: str, err: bool = False, bold: bool = False) -> None:
        if not self.quiet:
            click.secho(line, err=err, bold=bold or None)

    def outcome(self, report: Report, verbose: int = 0) -> None:
        """Print the closing table of a run, then warnings and what was left alone."""
        for index, line in enumerate(_aligned(list(_comparison(report)))):
            self._say(line, bold=not index)
        for warning in report.warnings:
            self._say(f"onnxslim: warning: {warning}", err=True)
        reasons = [
            (count, step.name, reason)
            for step in report.steps
            for reason, count in step.declined.items()
        ]
        reasons += [(1, step.name, step.skipped) for step in report.steps if step.skipped]
        reasons = reasons if verbose else list(_alike(reasons))
        shown = reasons if verbose else reasons[:_MOST_REASONS]
        for count, name, reason in shown:
            self._say(f"left alone: {count} x {name}: {reason}")
        if len(reasons) > len(shown):
            self._say(f"left alone: {len(reasons) - len(shown)} more reasons, with -v")

    def verdict(self, verdict: Verdict, only_failed: bool = False) -> None:
        """Print what was compared with references."""
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False)
        for title in ("", "compared", "found", "allowed"):
            table.add_column(title, overflow="fold")
        for item in verdict.findings:
            if not (only_failed and item.passed):
                cells = ("ok" if item.passed else "FAILED", item.name, item.found, item.allowed)
                table.add_row(*map(Text, cells))
        if not self.quiet:
            _console().print(table)
        failed = sum(not item.passed for item in verdict.findings)
        if failed:
            said = f"{failed} of {len(verdict.findings)} comparisons failed"
            self._say(f"onnxslim: {verdict.model}: {said}", err=True)

    def passes(self) -> None:
        """Print every pass with its effect, options and help line."""
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for title in ("pass", "effect", "what it does", "options"):
            table.add_column(title, no_wrap=title == "pass")
        for name, kind in registry.all_passes().items():
            listed = [f"{k}: {t} = {v!r}" for k, (t, v) in registry.options(kind).items()]
            effect = kind.effect.name.lower()
            table.add_row(name, effect, registry.help_line(kind), ", ".join(listed) or "-")
        out = _console()
        out.print(table)
        for name, recipe in RECIPES.items():
            chosen = ",".join(f"{key}={value}" for key, value in recipe.options.items())
            given = f"{{{chosen}}}" if chosen else ""
            out.print(f"\nrecipe {name}{given}: {recipe.spec}", markup=False)

    def models(self, paths: Sequence[Path]) -> None:
        """Print what models are made of, a column each."""
        from rich.table import Table
        from rich.text import Text

        loaded = [pack.load(path) for path in paths]
        facts = [shapes.infer(model, trust_names=True) for model in loaded]
        stats = [
            cost.measure(m, known, m.disk_size()) for m, known in zip(loaded, facts, strict=True)
        ]
        table = Table(box=None, pad_edge=False)
        table.add_column("", overflow="fold")
        for title in _titles(paths):
            table.add_column(Text(title), justify="right", overflow="fold")
        for title, values in _rows(stats):
            is_operator = title.startswith(" ")
            table.add_row(Text(title), *("-" if is_operator and v == "0" else v for v in values))
        table.add_row("opset / IR version", *(f"{m.opset} / {m.ir_version}" for m in loaded))
        for kind in ("inputs", "outputs"):
            sides = zip((getattr(model.graph, kind) for model in loaded), facts, strict=True)
            lines = ("\n".join(map(_signature, side, repeat(known))) for side, known in sides)
            table.add_row(kind, *map(Text, lines))
        _console().print(table)


def _alike(reasons: Iterable[tuple[int, str, str]]) -> Iterator[tuple[int, str, str]]:
    """Count reasons as one that differ in numbers alone, and say from where to where these go."""
    found: dict[tuple[str, str], list[tuple[int, list[int]]]] = {}
    for count, name, reason in reasons:
        numbers = [int(number) for number in _NUMBER.findall(reason)]
        found.setdefault((name, _NUMBER.sub(_BLANK, reason)), []).append((count, numbers))
    for (name, pattern), items in found.items():
        ends = [(min(n), max(n)) for n in zip(*(numbers for _, numbers in items), strict=True)]
        said = [f"{low:,}" if low == high else f"{low:,} to {high:,}" for low, high in ends]
        first, *others = pattern.split(_BLANK)
        text = first + "".join(n + after for n, after in zip(said, others, strict=True))
        yield sum(count for count, _ in items), name, text


def _console() -> Console:
    from rich.console import Console

    width = None if sys.stdout.isatty() else _PLAIN_WIDTH
    return Console(width=width, highlight=False)


def _titles(paths: Sequence[Path]) -> list[str]:
    """Return the names of files, or their paths where names repeat."""
    names = [path.name for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def _signature(tensor: Tensor, facts: shapes.Facts) -> str:
    """Return the name, type and shape of *tensor*: as declared, else as inferred."""
    shape = facts.shape(tensor) if tensor.shape is None else tensor.shape
    source = None if isinstance(tensor, Constant) else tensor.source
    kind = facts.elem_type(tensor)
    if kind or source is None:
        return f"{tensor.name}: {_typed(kind, shape)}"
    return f"{tensor.name}: {_type(source.type)}"


def _type(declared: TypeProto) -> str:
    """Write a declared type: ``seq(float32[N,4])``."""
    kind = declared.WhichOneof("value")
    if kind in ("sequence_type", "optional_type"):
        inner = _type(getattr(declared, kind).elem_type)
        return f"{'seq' if kind == 'sequence_type' else 'optional'}({inner})"
    if kind == "map_type":
        key, value = declared.map_type.key_type, declared.map_type.value_type
        return f"map({_element(key)}, {_type(value)})"
    tensor = declared.tensor_type
    dims = [dim.dim_value or dim.dim_param or None for dim in tensor.shape.dim]
    return _typed(tensor.elem_type, dims if tensor.HasField("shape") else None)


def _typed(kind: int, shape: Sequence[Any] | None) -> str:
    """Write the type of a tensor: ``float32[N,4]``, or ``float32[...]`` of an unknown rank."""
    dims = "..." if shape is None else ",".join("?" if d is None else str(d) for d in shape)
    return f"{_element(kind)}[{dims}]"


def _element(kind: int) -> str:
    if kind == TensorProto.STRING:
        return "string"
    return str(numpy_type(kind)) if kind else "?"


def _rows(stats: Sequence[Stats], only_changed: bool = False) -> Iterator[tuple[str, list[str]]]:
    """Yield the rows of a table with a column for each of *stats*."""
    yield "nodes", [f"{s.nodes:,}" for s in stats]
    for operator in sorted({op for s in stats for op in s.ops}):
        counts = [s.ops.get(operator, 0) for s in stats]
        if not only_changed or len(set(counts)) > 1:
            yield f"  {operator}", [f"{count:,}" for count in counts]
    yield "parameters", [f"{s.parameters:,}" for s in stats]
    yield "bytes", [f"{s.bytes:,}" for s in stats]
    yield "MACs", [f"{s.macs:,}" for s in stats]


def _comparison(report: Report) -> Iterator[tuple[str, ...]]:
    yield "", "before", "after", "change"
    before, after = report.before, report.after
    for title, values in _rows([before, after], only_changed=True):
        yield title, *values, _change(*values)
    yield "seconds", "", f"{report.seconds:.2f}", ""
    yield "largest error", "", _error(report), ""
    if (held := report.validation.held_out) is not None:
        yield f"{held.metric}, held out", "", f"{held.score:.2%}", ""


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lay out a table: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for title, *values in rows:
        cells = (f"{value:>{width}}" for value, width in zip(values, widths[1:], strict=True))
        yield "  ".join((f"{title:<{widths[0]}}", *cells)).rstrip()


def _change(before: str, after: str) -> str:
    old, new = (int(text.replace(",", "")) for text in (before, after))
    if old == new:
        return "-"
    return f"{(new - old) / old:+.1%}" if old else "new"


def _error(report: Report) -> str:
    validation = report.validation
    if validation.relative is None:
        return f"not compared: {validation.reason}"
    sqnr = "" if validation.sqnr is None else f", {validation.sqnr:.1f} dB"
    return f"{validation.relative:.1e} of scale{sqnr}, {validation.feeds} feeds"
