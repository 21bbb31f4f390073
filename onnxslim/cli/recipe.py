"""Recipes of runs: files that say which passes ran, with which options, so that they run again."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

_F = TypeVar("_F", bound=Callable[..., Any])
_FORMAT = 1
_KEPT = (
    *("input_shapes", "inputs", "outputs", "dtype", "keep_io_types", "freeze_initializers"),
    *("target_opset", "contrib", "skip", "size_threshold", "max_error", "min_sqnr", "seed"),
    *("check", "provenance"),
)
"""Parameters of the command that decide what comes out; the data are not the recipe's."""
_TYPES: Mapping[str, tuple[type, ...]] = {
    "boolean": (bool,),
    "integer": (int,),
    "integer range": (int,),
    "float": (int, float),
    "float range": (int, float),
}
"""What TOML may give for the types of click; for all others, texts."""


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


def refuse_overwriting(path: Path | None, *others: Path | None) -> None:
    """Raise UsageError where the recipe in *path* would take the place of another file."""
    taken = [other.resolve() for other in others if other is not None]
    if path is not None and path.resolve() in taken:
        raise click.UsageError(f"--save-recipe would overwrite {path}; name another file")


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
    import tomllib

    from onnxslim import dropin, registry
    from onnxslim.errors import InputError, SpecError

    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
        _check(found)
        for item in found["passes"]:
            registry.parse(item)
        options = _options(found.get("options", {}), command)
        dropin.shapes(options.get("input_shapes", ()))
    except (OSError, ValueError, RecursionError, InputError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SpecError(f"{path}: {reason}; write one with --save-recipe") from None
    return {"passes": ",".join(found["passes"]), **options}


def _check(found: Mapping[str, Any]) -> None:
    """Raise ValueError where *found* is no recipe that this version reads."""
    unknown = sorted(set(found) - {"format", "onnxslim", "passes", "options"})
    passes = found.get("passes")
    number = found.get("format")
    if type(number) is not int or number != _FORMAT:
        way_out = "; update onnxslim" if type(number) is int and number > _FORMAT else ""
        raise ValueError(f"format is {number}, and this version reads {_FORMAT}{way_out}")
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
        _check_value(known[key], key, value)
    return {str(known[key].name): value for key, value in given.items()}


def _check_value(parameter: click.Parameter, key: str, value: object) -> None:
    """Raise ValueError where *value* is none of *parameter*."""
    several = bool(getattr(parameter, "multiple", False))
    if several != isinstance(value, list):
        raise ValueError(f"option {key!r} takes {'a list' if several else 'one value'}")
    kind = parameter.type
    for item in value if isinstance(value, list) else [value]:
        if type(item) not in _TYPES.get(kind.name, (str,)):
            raise ValueError(f"option {key!r} takes no {item!r}; its type is {kind.name}")
        try:
            kind.convert(item, parameter, None)
        except click.BadParameter as error:
            raise ValueError(f"option {key!r}: {error.message}") from None
