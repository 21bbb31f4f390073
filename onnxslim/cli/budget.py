"""Budgets on the command line: the best model inside them is looked for."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from onnxslim.pipeline import Progress
    from onnxslim.search import Budget, Result

_F = TypeVar("_F", bound=Callable[..., Any])
NAMES = (
    *("max_drop", "metric", "target_size", "target_latency", "tuning", "pareto", "jobs"),
    *("backend", "scheduler", "state", "time_limit", "sure"),
)
"""The options, by the names of their parameters."""
_BESIDE = (
    *("data", "output", "save_recipe", "report", "external_data", "seed", "dry_run"),
    *("quiet", "verbose"),
    *("color", "resize", "crop", "scale", "mean", "std", "layout"),
)
"""Other options that a search heeds."""
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


class _Duration(click.ParamType[float]):
    """A time such as ``90``, ``10m`` or ``1h``."""

    name = "duration"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Return seconds."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", str(value))
        if found is None:
            self.fail(f"{value!r} is no duration; write 90s, 10m or 1h", param, ctx)
        return float(found[1]) * _UNITS[found[2]]


def budget_options(function: _F) -> _F:
    """Add the options of a search."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


_OPTIONS = (
    click.option(
        "--max-drop",
        metavar="X",
        help="Find the smallest model whose metric drops by no more: 0.5%, 0.005, 30dB.",
    ),
    click.option(
        "--metric",
        metavar="NAME",
        help="top1, top5, agreement, cosine, sqnr, mse or module:function; top1 where the data "
        "have labels.",
    ),
    click.option(
        "--target-size", metavar="SIZE", help="Find a model of that size: 4x smaller, 500KB."
    ),
    click.option(
        "--target-latency", metavar="TIME", help="Find a model as fast: 0.5x of the time, 3ms."
    ),
    click.option(
        "--sure",
        is_flag=True,
        help="The drop that 95 % of resampled judges stay below must be inside --max-drop.",
    ),
    click.option("--tune", "tuning", is_flag=True, help="Allow gradient descent (PyTorch)."),
    click.option(
        "--pareto",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Write the models that nothing beats, a table and a plot.",
    ),
    click.option(
        "--jobs",
        type=click.IntRange(min=1),
        default=None,
        help="Processes; else one a core.",
    ),
    click.option("--backend", type=click.Choice(["local", "dask", "ray"]), default="local"),
    click.option("--scheduler", metavar="ADDRESS", help="Of the cluster: tcp://HOST:8786."),
    click.option(
        "--state",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Keep what was tried there; a search that was stopped goes on.",
    ),
    click.option("--time-limit", type=_Duration(), metavar="TIME", help="Try no longer: 10m."),
)


def wanted(given: Mapping[str, Any]) -> bool:
    """Say whether a budget is given.

    Raises UsageError for options that only go with one, and for others beside one.
    """
    if any(given[name] is not None for name in ("max_drop", "target_size", "target_latency")):
        _refuse_others(click.get_current_context())
        return True
    others = [name for name in NAMES if given[name] and name != "backend"]
    if others:
        option = "--" + others[0].replace("tuning", "tune").replace("_", "-")
        raise click.UsageError(f"{option} goes with --max-drop, --target-size or --target-latency")
    return False


def _refuse_others(context: click.Context) -> None:
    """Raise UsageError for an option that a search would not heed."""
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        said = source is not click.core.ParameterSource.DEFAULT
        if said and isinstance(parameter, click.Option) and name not in (*NAMES, *_BESIDE):
            of_recipe = source is click.core.ParameterSource.DEFAULT_MAP
            option = "--recipe" if of_recipe else parameter.opts[0]
            raise click.UsageError(f"{option} does not go with a budget")


def searched(
    model: Path, given: Mapping[str, Any], images: Mapping[str, Any], progress: Progress
) -> Result:
    """Look for the best model inside the budget that the parameters of the command tell."""
    data, seed = given["data"], given["seed"]
    if data is None:
        raise click.UsageError("a budget needs data to judge by: -c FILE")
    from onnxslim import api
    from onnxslim.search import search

    original = api.as_model(model)
    return search(
        original, data, _budget(original, data, given, images, seed),
        metric=given["metric"], tune=given["tuning"], pareto=given["pareto"],
        jobs=given["jobs"] or os.cpu_count() or 1, backend=given["backend"],
        scheduler=given["scheduler"], state=given["state"], time_limit=given["time_limit"],
        images=images, seed=seed, progress=progress,
    )  # fmt: skip


def _budget(original: Any, data: str, given: Mapping[str, Any], images: Any, seed: int) -> Budget:
    from onnxslim import search
    from onnxslim.metrics import limit

    drop, size, latency = (given[n] for n in ("max_drop", "target_size", "target_latency"))
    seconds = 1.0
    if latency is not None and str(latency).strip()[-1:] == "s":
        seconds = search.seconds(original, data, images, seed)
    return search.Budget(
        None if drop is None else limit(drop),
        None if size is None else search.size(size, original.disk_size()),
        None if latency is None else search.latency(latency, seconds),
        given["sure"],
    )


def write(result: Result, target: Path | None, external_data: bool, quiet: bool) -> None:
    """Write the best model; say what was found."""
    from onnxslim import api

    if target is not None:
        api.save(result.model, target, external_data)
    if not quiet:
        tell(result)


def tell(result: Result) -> None:
    """Print what was found, and what else."""
    best = result.best
    click.echo(
        f"tried {len(result.candidates)} models in {result.seconds:.0f} s; judged by "
        f"{result.metric} on {result.judges} samples"
    )
    for one in result.front:
        mark = "*" if one.spec == best.spec else " "
        taken = "" if one.latency is None else f"  {one.latency:5.2f} of the time"
        click.echo(
            f"{mark} {one.size:>12,} bytes  drop {one.drop:8.4f} (95 % below {one.bound:.4f})"
            f"{taken}  {one.method}"
        )
    click.echo(f"recipe: {best.spec}")
    for note in result.notes:
        click.echo(f"onnxslim: note: {note}", err=True)
