"""Recipes of runs: files that say which passes ran, with which options, so that they run again."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

_F = TypeVar("_F", bound=Callable[..., Any])
_FORMAT = 1
_KEPT = (
    *("input_shapes", "inputs", "outputs", "dtype", "keep_io_types", "freeze_initializers"),
    *("target_opset", "contrib", "skip", "size_threshold", "max_error", "min_sqnr", "seed"),
)
"""Parameters of the command that decide what comes out; the data are not the recipe's."""


def recipe_option(function: _F) -> _F:
    """Add the option that reads a recipe."""
    return click.option(
        "--recipe", type=click.Path(path_type=Path), metavar="FILE.toml", is_eager=True,
        expose_value=False, callback=_apply,
        help="Run what --save-recipe wrote; other options win over the file's.",
    )(function)  # fmt: skip


def saving_option(function: _F) -> _F:
    """Add the option that writes a recipe."""
    return click.option(
        "--save-recipe", type=click.Path(path_type=Path), metavar="FILE.toml",
        help="Write which passes ran, and how.",
    )(function)  # fmt: skip


def save(path: Path | None, spec: str, of_search: bool = False) -> None:
    """Write the passes of *spec* and the options of the current command.

    A search has judged its result by a metric, so that no other limit binds when it runs again.
    """
    if path is None:
        return
    import onnxslim
    from onnxslim import registry
    from onnxslim.ir.weights import replace

    context = click.get_current_context()
    options = {
        _key(parameter): context.params[parameter.name]
        for parameter in context.command.params
        if parameter.name in _KEPT and _given(context, parameter.name)
    }
    if of_search:
        options["max-error"] = math.inf
    lines = [
        "# Run again: onnxslim IN -o OUT --recipe FILE.toml",
        f"format = {_FORMAT}",
        f"onnxslim = {_toml(onnxslim.__version__)}",
        "passes = [",
        *(f"    {_toml(registry.unparse(step))}," for step in registry.parse(spec)),
        "]",
        *(["", "[options]"] if options else []),
        *(f"{key} = {_toml(value)}" for key, value in options.items()),
    ]
    replace(path, ["\n".join([*lines, ""]).encode()])


def refuse_passes() -> None:
    """Raise UsageError where -p says what a recipe says too."""
    context = click.get_current_context()
    source = context.get_parameter_source("passes")
    if context.default_map and source is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("-p and --recipe both say which passes run; give one")


def _given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT


def _key(parameter: click.Parameter) -> str:
    return parameter.opts[0].removeprefix("--")


def _toml(value: Any) -> str:
    """Write a text, a number, a truth value or a list of texts."""
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False)


def _apply(context: click.Context, _: click.Parameter, path: Path | None) -> None:
    """Let the recipe in *path* say what options are that are not given."""
    if path is not None:
        context.default_map = _read(path, context.command)


def _read(path: Path, command: click.Command) -> dict[str, Any]:
    """Return the passes and options in *path* by parameter. Raises SpecError, naming *path*."""
    from onnxslim import registry
    from onnxslim.errors import SpecError

    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
        _check(found)
        for item in found["passes"]:
            registry.parse(item)
        options = _options(found.get("options", {}), command)
    except (OSError, ValueError, SpecError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SpecError(f"{path}: {reason}; write one with --save-recipe") from None
    return {"passes": ",".join(found["passes"]), **options}


def _check(found: Mapping[str, Any]) -> None:
    """Raise ValueError where *found* is no recipe that this version reads."""
    unknown = sorted(set(found) - {"format", "onnxslim", "passes", "options"})
    passes = found.get("passes")
    if found.get("format") != _FORMAT:
        raise ValueError(f"format is {found.get('format')}, and this version reads {_FORMAT}")
    if unknown:
        raise ValueError(f"unknown entry {unknown[0]!r}")
    if not isinstance(passes, list) or not all(isinstance(item, str) for item in passes):
        raise ValueError("passes is no list of texts")
    if not isinstance(found.get("options", {}), dict):
        raise ValueError("options is no table")


def _options(given: Mapping[str, Any], command: click.Command) -> dict[str, Any]:
    known = {_key(p): p for p in command.params if p.name in _KEPT}
    for key, value in given.items():
        if key not in known:
            raise ValueError(f"unknown option {key!r}; known are {', '.join(sorted(known))}")
        wanted = "a list" if getattr(known[key], "multiple", False) else "one value"
        if wanted != ("a list" if isinstance(value, list) else "one value"):
            raise ValueError(f"option {key!r} takes {wanted}")
    return {str(known[key].name): value for key, value in given.items()}
