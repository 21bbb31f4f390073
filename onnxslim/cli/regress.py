"""``onnxslim record`` and ``onnxslim check``: references, and whether a model still meets them."""

from __future__ import annotations

from pathlib import Path

import click

from onnxslim.cli.options import CONTEXT, image_options, images_given

_PATH = click.Path(path_type=Path)


@click.command("record", context_settings=CONTEXT)
@click.argument("model", type=_PATH)
@click.option("-o", "--output", "folder", type=_PATH, required=True, help="Folder to record into.")
@click.option("-c", "--data", metavar="SOURCE", help="Inputs, as for slimming; made up if missing.")
@image_options
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Keep so many samples of the data.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    help="Outputs may move by this part of their scale; as much as rounding does if not given.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of made-up inputs.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
def record(
    model: Path,
    folder: Path,
    data: str | None,
    count: int,
    tolerance: float | None,
    seed: int,
    quiet: bool,
    **images: str | None,
) -> int:
    """Keep what MODEL makes of some inputs, for 'onnxslim check'."""
    from onnxslim import regress
    from onnxslim.cli.display import Display

    given = images_given(images, data)
    with Display(quiet).progress() as progress:
        records = regress.record(
            model,
            folder,
            data,
            images=given,
            count=count,
            tolerance=tolerance,
            seed=seed,
            progress=progress,
        )
    if not quiet:
        click.echo(f"{folder}: {records.sets} samples of {model.name}, {records.size:,} bytes")
    return 0


@click.command("check", context_settings=CONTEXT)
@click.argument("model", type=_PATH)
@click.argument("references", type=_PATH)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    help="Outputs may move by this part of their scale; by what was recorded if not given.",
)
@click.option(
    "--max-drop",
    metavar="X%|X|XdB",
    help="Judge outputs by a metric, which may be so much worse than the recorded model's.",
)
@click.option(
    "--metric",
    metavar="NAME",
    help="With --max-drop: top1, top5 (both with labels), agreement, cosine, sqnr, mse, or "
    "module:function.",
)
@click.option(
    "--max-size",
    metavar="SIZE",
    help="Most bytes: 500KB, 0.3x, 30%; those of the recorded model if not given.",
)
@click.option(
    "--max-latency-ratio",
    type=click.FloatRange(min=0),
    metavar="R",
    help="Longest run, as a multiple of the recorded model's, both timed here.",
)
@click.option("--baseline", type=_PATH, help="Model to time in place of the recorded one.")
@click.option("--junit", type=_PATH, metavar="FILE", help="Write the findings as JUnit XML.")
@click.option("--json", "as_json", type=_PATH, metavar="FILE", help="Write the findings as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but what failed.")
def check(
    model: Path,
    references: Path,
    tolerance: float | None,
    max_drop: str | None,
    metric: str | None,
    max_size: str | None,
    max_latency_ratio: float | None,
    baseline: Path | None,
    junit: Path | None,
    as_json: Path | None,
    quiet: bool,
) -> int:
    """Compare MODEL with what 'onnxslim record' kept in REFERENCES.

    The exit status is 1 where anything is beyond its limit.
    """
    from onnxslim import regress
    from onnxslim.cli.display import Display
    from onnxslim.regress import output

    if metric is not None and max_drop is None:
        raise click.UsageError("--metric goes with --max-drop")
    if baseline is not None and max_latency_ratio is None:
        raise click.UsageError("--baseline goes with --max-latency-ratio")
    limits = regress.Limits(tolerance, max_drop, metric, max_size, max_latency_ratio, baseline)
    verdict = regress.check(model, references, limits)
    for path, text in ((junit, output.junit), (as_json, output.as_json)):
        if path is not None:
            output.write(path, text(verdict))
    Display(quiet and verdict.passed).verdict(verdict, only_failed=quiet)
    return 0 if verdict.passed else 1
