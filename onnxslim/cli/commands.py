"""The commands and their options; heavy imports wait until a command runs."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from onnxslim.api import Outcome

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.command(
    context_settings=_CONTEXT,
    epilog="Other commands: 'onnxslim passes' lists the passes, 'onnxslim inspect MODEL...' prints "
    "what models are made of.",
)
@click.argument("model", type=click.Path(path_type=Path), metavar="IN")
@click.argument("target", type=click.Path(path_type=Path), metavar="[OUT]", required=False)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the result here.")
@click.option(
    "-p",
    "--passes",
    default="lossless",
    show_default=True,
    metavar="SPEC",
    help="Passes or recipes, in order: NAME,NAME{option=value,...}.",
)
@click.option(
    "-c",
    "--data",
    type=click.Path(path_type=Path),
    metavar="FILE|DIR",
    help="Inputs to work and compare on: .npz, .npy, or a folder of test_data_set_*.",
)
@click.option(
    "--input-shapes",
    multiple=True,
    metavar="NAME:DIMS",
    help="Fix the shape of an input, e.g. image:1,3,224,224. Repeat for more.",
)
@click.option("--report", type=click.Path(path_type=Path), help="Write what happened as JSON.")
@click.option(
    "--check",
    type=click.Choice(["each", "end", "off"]),
    default="end",
    show_default=True,
    help="Compare with the original after each pass, at the end, or never.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of generated inputs.")
@click.option("--external-data", is_flag=True, help="Store weights in OUT.data beside the model.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("-v", "--verbose", count=True, help="Say what each pass does; -vv says more.")
@click.version_option(package_name="onnxslim", message="%(prog)s %(version)s")
def slim(
    model: Path,
    target: Path | None,
    output: Path | None,
    passes: str,
    data: Path | None,
    input_shapes: tuple[str, ...],
    report: Path | None,
    check: str,
    seed: int,
    external_data: bool,
    quiet: bool,
    verbose: int,
) -> int:
    """Write a smaller, faster ONNX model that computes the same as IN to OUT.

    The result is compared with the original in onnxruntime, with optimizations off and fully on,
    and is never larger.
    """
    if (target is None) == (output is None):
        given = "both OUT and -o" if target else "no output"
        raise click.UsageError(f"{given} given; write: onnxslim IN -o OUT")
    destination = output or target
    assert destination is not None
    _log(quiet, verbose)
    from onnxslim import api
    from onnxslim.cli.display import Display

    for path in filter(None, (destination, report)):
        api.must_be_writable(path)
    display = Display(quiet)
    with display.progress() as progress:
        outcome = api.run(
            model,
            passes,
            data=data,
            input_shapes=_shapes(input_shapes),
            check=check,  # type: ignore[arg-type]
            seed=seed,
            progress=progress,
        )
        outcome.save(destination, external_data)
    _write_report(outcome, report)
    display.outcome(outcome.report, verbose)
    return 0


def _log(quiet: bool, verbose: int) -> None:
    level = (
        logging.ERROR if quiet else [logging.WARNING, logging.INFO, logging.DEBUG][min(verbose, 2)]
    )
    logging.basicConfig(level=level, format="onnxslim: %(message)s")


def _shapes(texts: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, colon, dims = text.rpartition(":")
        try:
            shapes[name] = tuple(int(dim) for dim in dims.split(",") if dim.strip())
        except ValueError:
            colon = ""
        if not colon or not name:
            raise click.UsageError(f"--input-shapes {text}: write NAME:1,3,224,224")
    return shapes


def _write_report(outcome: Outcome, path: Path | None) -> None:
    if path is not None:
        path.write_text(json.dumps(outcome.report.as_dict(), indent=2) + os.linesep)


@click.command("passes", context_settings=_CONTEXT)
def list_passes() -> None:
    """List every pass: what it does, its effect and its options."""
    from onnxslim.cli.display import Display

    Display().passes()


@click.command("inspect", context_settings=_CONTEXT)
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path))
def inspect(models: tuple[Path, ...]) -> None:
    """Print what MODELS are made of, side by side."""
    from onnxslim.cli.display import Display

    Display().models(models)


COMMANDS = {"passes": list_passes, "inspect": inspect}
