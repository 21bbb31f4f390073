"""The commands and their options; heavy imports wait until a command runs."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnxslim.cli import budget, recipe
from onnxslim.cli.options import CONTEXT, image_options, images_given, warnings_as_lines

if TYPE_CHECKING:
    from onnxslim.api import Outcome

_LISTS = {
    "--input-shapes": r".+:[\d,\s]+",
    "--model-check-inputs": r".+:([\d,\s]+|.+\.npy)",
    "--inputs": r".+:(fp16|fp32|int32|bool)",
    "--outputs": r".+:(fp16|fp32|int32|bool)",
    "--skip-optimizations": r"[A-Za-z][\w-]*",
    "--skip-fusion-patterns": r"[A-Za-z][\w-]*",
}
"""Options that may be followed by several values, and what the second and later ones look like."""


class _Lists(click.Command):
    """A command some of whose options take several values: ``--input-shapes a:1,3 b:2``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Write the name of the option before each of its values."""
        return super().parse_args(ctx, list(_repeated(args)))


def _repeated(args: list[str]) -> Iterator[str]:
    option, values = "", 0
    for index, word in enumerate(args):
        if word == "--":
            yield from args[index:]
            return
        if word.startswith("-"):
            option, values = word if word in _LISTS else "", 0
        elif option and values and re.fullmatch(_LISTS[option], word):
            yield option
        elif option and values:
            option = ""
        else:
            values += 1
        yield word


@click.command(
    cls=_Lists,
    context_settings=CONTEXT,
    epilog="Other commands, each with --help: passes, inspect (what models are made of), many "
    "(models in one go), tune (gradient descent without the training code), pack and unpack (files "
    "for disk and network), record and check (regression tests).",
)
@click.argument("model", type=click.Path(path_type=Path), metavar="IN")
@click.argument("target", type=click.Path(path_type=Path), metavar="[OUT]", required=False)
@click.argument("others", type=click.Path(path_type=Path), metavar="", nargs=-1)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the result here.")
@click.option(
    "-p",
    "--passes",
    default="lossless",
    show_default=True,
    metavar="SPEC",
    help="Passes or recipes, in order: NAME,NAME{option=value,...}.",
)
@recipe.saving_option
@recipe.recipe_option
@click.option(
    "-c",
    "--data",
    metavar="SOURCE",
    help="Inputs to work and compare on: .npz, .npy, a folder of test_data_set_* or of images, a "
    ".toml file that says so, module:function, or random:32 (made up).",
)
@image_options
@click.option(
    "--input-shapes",
    multiple=True,
    metavar="NAME:DIMS",
    help="Fix the shape of an input, e.g. image:1,3,224,224. Repeat for more.",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    help="Write what happened: a page where it ends in .html, else JSON.",
)
@click.option(
    "--check",
    type=click.Choice(["each", "end", "off"]),
    default="end",
    show_default=True,
    help="Compare with the original after each pass, at the end, or never.",
)
@click.option(
    "--max-error",
    type=click.FloatRange(min=0),
    metavar="X",
    help="Lossy passes may move outputs by this part of their scale; 0.1 without --min-sqnr.",
)
@click.option(
    "--min-sqnr",
    type=float,
    metavar="DB",
    help="Signal-to-noise ratio that lossy passes must leave at every output.",
)
@budget.budget_options
@click.option(
    "--freeze-initializers",
    is_flag=True,
    help="Initializers that are inputs too, as old exporters write them, become constants.",
)
@click.option(
    "--importance",
    type=click.Path(path_type=Path),
    metavar="FILE.npz",
    help="Fisher information of weights by initializer, e.g. Adam's second moments, for prune.",
)
@click.option(
    "--provenance/--no-provenance",
    default=True,
    show_default=True,
    help="Note in the model's metadata what was done to it.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of generated inputs.")
@click.option(
    "--external-data",
    "--save-as-external-data",
    "external_data",
    is_flag=True,
    help="Store weights in OUT.data beside the model.",
)
@click.option("--dry-run", is_flag=True, help="Do everything but write OUT, which may be missing.")
@click.option("--explain", is_flag=True, help="Tell what each pass did, and what it left alone.")
@click.option(
    "--skip-optimizations",
    "--skip-fusion-patterns",
    "skip",
    multiple=True,
    metavar="NAME",
    help="Leave out a pass (or what OnnxSlim calls so). Repeat for more.",
)
@click.option(
    "--size-threshold",
    type=click.IntRange(min=0),
    metavar="BYTES",
    help="Constant folding makes no larger values.",
)
@click.option(
    "--model-check-inputs",
    multiple=True,
    metavar="NAME:DIMS|FILE",
    help="Compare on inputs of this shape, or on that .npy file. Repeat for more.",
)
@click.option("--inputs", multiple=True, metavar="A,B", help="Start at these tensors.")
@click.option("--outputs", multiple=True, metavar="C,D", help="End at these tensors.")
@click.option("--dtype", type=click.Choice(["fp16", "fp32"]), help="Convert floats first (lossy).")
@click.option(
    "--keep-io-types", is_flag=True, help="With --dtype: not those of inputs and outputs."
)
@click.option(
    "--target-opset",
    type=click.IntRange(min=1),
    metavar="N",
    help="Convert to this version of ONNX's operators first.",
)
@click.option(
    "--contrib", is_flag=True, help="Allow onnxruntime's own operators, unknown elsewhere."
)
@click.option("--inspect", "inspecting", is_flag=True, help="Only print what models are made of.")
@click.option("--dump-to-disk", is_flag=True, help="With --inspect: write the nodes as CSV too.")
@click.option("--model-check", is_flag=True, hidden=True, help="The default: --check end.")
@click.option("--no-shape-infer", is_flag=True, hidden=True, help="Changes nothing.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("-v", "--verbose", count=True, help="Say what each pass does; -vv says more.")
@click.version_option(package_name="onnxslim", message="%(prog)s %(version)s")
def slim(
    model: Path,
    target: Path | None,
    others: tuple[Path, ...],
    output: Path | None,
    inspecting: bool,
    **given: Any,
) -> int:
    """Write a smaller, faster ONNX model that computes the same as IN to OUT.

    The result is compared with the original in onnxruntime, with optimizations off and fully on,
    and is never larger.
    """
    if inspecting:
        if output is not None:
            raise click.UsageError("--inspect writes no model; leave out -o")
        return _inspect((model, *filter(None, (target,)), *others), given["dump_to_disk"])
    _refuse(others, given)
    destination = _destination(target, output, given["dry_run"])
    images = images_given(given, given["data"])
    _log(given["quiet"], given["verbose"])
    _must_be_writable(model, destination, given)
    if budget.wanted(given):
        _search(model, destination, images, given)
    else:
        _rewrite(model, destination, images, given)
    return 0


_PASSED_ON = (
    *("input_shapes", "dtype", "keep_io_types", "target_opset", "contrib", "skip", "max_error"),
    *("size_threshold", "min_sqnr", "importance", "freeze_initializers", "provenance", "seed"),
)
"""Parameters of `slim` that are those of `onnxslim.run`."""


def _refuse(others: tuple[Path, ...], given: Mapping[str, Any]) -> None:
    """Raise UsageError for what does not go together."""
    if given["dump_to_disk"]:
        raise click.UsageError("--dump-to-disk goes with --inspect")
    if given["data"] is not None and given["model_check_inputs"]:
        raise click.UsageError("-c and --model-check-inputs are the same; give one")
    recipe.refuse_passes()
    if others:
        raise click.UsageError(f"{others[0]} is one file too many; write: onnxslim IN -o OUT")


def _destination(target: Path | None, output: Path | None, dry_run: bool) -> Path | None:
    """Return where to write; None for a dry run."""
    if target is not None and output is not None:
        raise click.UsageError("both OUT and -o given; write: onnxslim IN -o OUT")
    if dry_run:
        return None
    if target is None and output is None:
        raise click.UsageError("no output given; write: onnxslim IN -o OUT")
    return output or target


def _must_be_writable(model: Path, destination: Path | None, given: Mapping[str, Any]) -> None:
    from onnxslim import api

    report, saved = given["report"], given["save_recipe"]
    recipe.refuse_overwriting(saved, model, destination, report)
    for path in filter(None, (destination, report, saved)):
        api.must_be_writable(path)


def _search(
    model: Path, destination: Path | None, images: Mapping[str, Any], given: Mapping[str, Any]
) -> None:
    """Write the best model inside the budget."""
    from onnxslim.cli.display import Display

    quiet = given["quiet"]
    with warnings_as_lines(quiet), Display(quiet).progress() as progress:
        found = budget.searched(model, given, images, progress)
    budget.write(found, destination, given["external_data"], quiet)
    recipe.save(given["save_recipe"], found.best.spec, of_search=True)
    _write_report(
        given["report"], lambda pages: pages.search_page(found, model.name), lambda: found.as_dict()
    )


def _rewrite(
    model: Path, destination: Path | None, images: Mapping[str, Any], given: Mapping[str, Any]
) -> None:
    """Run the passes and write what comes out."""
    from onnxslim import api, dropin
    from onnxslim.cli.display import Display

    display, passes = Display(given["quiet"]), given["passes"]
    checked = given["model_check"] and given["check"] == "off"
    with warnings_as_lines(given["quiet"]), display.progress() as progress:
        if given["no_shape_infer"]:
            dropin.warn(dropin.SHAPES_STAY)
        outcome = api.run(
            model,
            passes,
            data=given["model_check_inputs"] or given["data"],
            images=images,
            inputs=_names(given["inputs"]),
            outputs=_names(given["outputs"]),
            check="end" if checked else given["check"],
            progress=progress,
            **{name: given[name] for name in _PASSED_ON},
        )
        if destination is not None:
            outcome.save(destination, given["external_data"])
    recipe.save(given["save_recipe"], passes)
    _write_report(
        given["report"],
        lambda pages: pages.page(outcome.report, outcome.model, model.name, passes),
        lambda: outcome.report.as_dict(),
    )
    display.outcome(outcome.report, given["verbose"])
    if given["explain"] and not given["quiet"]:
        _explain(outcome)


def _explain(outcome: Outcome) -> None:
    """Print for each pass what it did, and which nodes it left alone for what reason."""
    for step in outcome.report.steps:
        if not (step.changes or step.skipped or step.places):
            continue
        click.echo(f"{step.name} ({step.effect}): {step.changes} changes, {step.seconds:.2f} s")
        if step.skipped:
            click.echo(f"  did not run: {step.skipped}")
        for node, reason in step.places:
            click.echo(f"  left alone {node}: {reason}")


def _names(texts: tuple[str, ...]) -> list[str]:
    return [name.strip() for text in texts for name in text.split(",") if name.strip()]


def _log(quiet: bool, verbose: int) -> None:
    level = (
        logging.ERROR if quiet else [logging.WARNING, logging.INFO, logging.DEBUG][min(verbose, 2)]
    )
    logging.basicConfig(level=level, format="onnxslim: %(message)s")


def _write_report(
    path: Path | None, page: Callable[[Any], str], data: Callable[[], dict[str, Any]]
) -> None:
    """Write a page, or data for programs, by the suffix of *path*."""
    if path is None:
        return
    if path.suffix in (".html", ".htm"):
        from onnxslim import report

        text = page(report)
    else:
        text = json.dumps(data(), indent=2) + os.linesep
    path.write_text(text, encoding="utf-8")


@click.command("passes", context_settings=CONTEXT)
def list_passes() -> None:
    """List every pass: what it does, its effect and its options."""
    from onnxslim.cli.display import Display

    Display().passes()


@click.command("inspect", context_settings=CONTEXT)
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path))
def inspect(models: tuple[Path, ...]) -> None:
    """Print what MODELS are made of, side by side."""
    _inspect(models, False)


def _inspect(models: tuple[Path, ...], dump_to_disk: bool) -> int:
    from onnxslim.cli.display import Display

    Display().models(models)
    if dump_to_disk:
        from onnxslim import utils

        for model in models:
            path = utils.dump_model_info_to_disk(utils.summarize_model(model))
            click.echo(f"onnxslim: the nodes of {model} are in {path}", err=True)
    return 0
