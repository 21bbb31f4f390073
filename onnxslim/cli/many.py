"""``onnxslim many``: models in one go."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnxslim.cli.options import CONTEXT
from onnxslim.cli.recipe import recipe_option, refuse_passes

if TYPE_CHECKING:
    from onnxslim.many import Entry


@click.command("many", context_settings=CONTEXT)
@click.argument(
    "models", type=click.Path(path_type=Path), metavar="MODELS...", nargs=-1, required=True
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, metavar="DIR",
    help="Write the results there, each under its name.",
)  # fmt: skip
@click.option(
    "-p", "--passes", default="lossless", show_default=True, metavar="SPEC",
    help="Passes or recipes, in order: NAME,NAME{option=value,...}.",
)  # fmt: skip
@recipe_option
@click.option("-c", "--data", metavar="SOURCE", help="Inputs, the same for all models.")
@click.option(
    "--check", type=click.Choice(["each", "end", "off"]), default="end", show_default=True,
    help="Compare with the original after each pass, at the end, or never.",
)  # fmt: skip
@click.option(
    "--max-error", type=click.FloatRange(min=0), metavar="X",
    help="Lossy passes may move outputs by this part of their scale; 0.1 without --min-sqnr.",
)  # fmt: skip
@click.option(
    "--min-sqnr", type=float, metavar="DB",
    help="Signal-to-noise ratio that lossy passes must leave at every output.",
)  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of generated inputs.")
@click.option("--jobs", type=click.IntRange(min=1), help="Processes; else one a core.")
@click.option(
    "--backend", type=click.Choice(["local", "dask", "ray"]), default="local",
    show_default=True, help="Processes here, or the workers of a cluster.",
)  # fmt: skip
@click.option("--scheduler", metavar="ADDRESS", help="Of the cluster: tcp://HOST:8786.")
@click.option(
    "--report", type=click.Path(path_type=Path), help="Write what became of each, as JSON."
)
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
def many(
    models: Sequence[Path],
    output: Path,
    passes: str,
    jobs: int | None,
    report: Path | None,
    quiet: bool,
    **options: Any,
) -> int:
    """Slim MODELS, files and folders of them, into DIR; say in a line each what became of it.

    Options are those of onnxslim. A model that fails leaves no file and does not stop the others;
    the exit status is then 1.
    """
    refuse_passes()
    from onnxslim import api
    from onnxslim.many import many as slim_all

    if report is not None:
        api.must_be_writable(report)
    entries = []
    for entry in slim_all(models, output, passes, jobs=jobs or os.cpu_count() or 1, **options):
        entries.append(entry)
        _tell(entry, quiet)
    if report is not None:
        text = json.dumps([entry.as_dict() for entry in entries], indent=2)
        report.write_text(text + os.linesep, encoding="utf-8")
    failed = sum(entry.error is not None for entry in entries)
    if not quiet:
        _sum(entries, failed)
    return 1 if failed else 0


def _tell(entry: Entry, quiet: bool) -> None:
    if entry.error is not None:
        click.echo(f"onnxslim: error: {entry.source}: {entry.error}", err=True)
    elif not quiet:
        for warning in entry.warnings:
            click.echo(f"onnxslim: warning: {entry.source}: {warning}", err=True)
        click.echo(
            f"{entry.target}: {entry.nodes_before} -> {entry.nodes_after} nodes, "
            f"{entry.bytes_before:,} -> {entry.bytes_after:,} bytes, {entry.seconds:.1f} s"
        )


def _sum(entries: Sequence[Entry], failed: int) -> None:
    before, after = (sum(getattr(e, n) for e in entries) for n in ("bytes_before", "bytes_after"))
    click.echo(
        f"{len(entries) - failed} models, {before:,} -> {after:,} bytes"
        + (f"; {failed} failed" if failed else "")
    )
