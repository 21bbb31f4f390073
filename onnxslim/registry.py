"""Find passes by name and read pipelines from text.

Passes are found, not registered: every module below ``onnxslim.passes`` with no leading underscore
in its name or its folder's defines one, of the same name with dashes. Packages outside add their
own through the entry-point group ``onnxslim.passes``, whose values name Pass classes. A pipeline
imports the passes that it names and no others.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.metadata
import inspect
import os
import pkgutil
import re
import types
import typing
from collections.abc import Collection, Iterable, Iterator
from dataclasses import fields
from typing import Any
from urllib.parse import quote, unquote

import onnxslim.passes
from onnxslim.base import Chosen, Pass
from onnxslim.errors import SpecError, did_you_mean
from onnxslim.recipes import RECIPES

LIST_THEM = "; list them with: onnxslim passes"
_STEPS = ("onnxslim.steps.factorize_toward_outputs", "onnxslim.steps.tune")
"""Modules of passes that lie above this one, so that only their names are known here."""
_ITEM = re.compile(r"\s*([A-Za-z0-9_-]+)\s*(?:\{([^{}]*)\})?(?:@([^\s,{}]+))?\s*(?:,|$)")
_PLAIN = "/.:_-"
"""What stands for itself in the name of a weight, beside letters and digits."""


@functools.cache
def all_passes() -> dict[str, type[Pass]]:
    """Map the name of every pass to its class, by name in order."""
    found: dict[str, type[Pass]] = {}
    for kind in (*_built_in(), *_plugins()):
        if found.setdefault(kind.name, kind) is not kind:
            raise RuntimeError(f"two passes are called {kind.name!r}")
    return dict(sorted(found.items()))


def _built_in() -> Iterator[type[Pass]]:
    return map(_defined, _modules().values())


@functools.cache
def _modules() -> dict[str, str]:
    """Map the name of every built-in pass to its module, which is not imported."""
    names = [*_below(onnxslim.passes.__path__, onnxslim.passes.__name__), *_STEPS]
    return {name.rpartition(".")[2].replace("_", "-"): name for name in names}


def _below(folders: Iterable[str], package: str) -> Iterator[str]:
    """Yield the modules of a package and its packages, none of which is imported."""
    for info in pkgutil.iter_modules(folders):
        name = f"{package}.{info.name}"
        if info.name.startswith("_"):
            continue
        if info.ispkg:
            yield from _below([os.path.join(folder, info.name) for folder in folders], name)
        else:
            yield name


def _defined(name: str) -> type[Pass]:
    """Return the pass that a module defines."""
    module = importlib.import_module(name)
    (kind,) = (v for v in vars(module).values() if _is_pass(v) and v.__module__ == name)
    return kind  # type: ignore[no-any-return]


def _kind(name: str) -> type[Pass]:
    """Return the pass called *name*; where it is built in, no other is imported."""
    if name in _modules():
        return _defined(_modules()[name])
    kinds = all_passes()
    if name not in kinds:
        hint = did_you_mean(name, [*kinds, *RECIPES], otherwise=LIST_THEM)
        raise SpecError(f"no pass is called {name!r}{hint}")
    return kinds[name]


def _plugins() -> Iterator[type[Pass]]:
    for entry in importlib.metadata.entry_points(group="onnxslim.passes"):
        kind = entry.load()
        if not _is_pass(kind):
            raise SpecError(f"the plugin {entry.name!r} ({entry.value}) is no Pass class")
        yield kind


def _is_pass(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, Pass) and not inspect.isabstract(value)


def help_line(kind: type[Pass]) -> str:
    """Return the first line of the pass's docstring."""
    return (kind.__doc__ or "").strip().splitlines()[0]


def options(kind: type[Pass]) -> dict[str, tuple[str, Any]]:
    """Return the options of a pass: type as written, and default, by name."""
    return {f.name: (str(f.type), f.default) for f in fields(kind)}


def parse(spec: str) -> tuple[Pass, ...]:
    """Read ``"lossless"``, ``"fuse-conv-bn,drop-dead"`` or ``"prune{sparsity=0.9}@w1;w2"``.

    Behind @ stand the weights that the pass may change, parted by ``;``, with other characters than
    letters, digits and ``/.:_-`` as in addresses (``%20``). Options are separated by commas or
    blanks and read by the annotations of the pass's fields. Raises SpecError for unknown names,
    unknown options and values of the wrong type.
    """
    passes: list[Pass] = []
    end = 0
    while end < len(spec):
        item = _ITEM.match(spec, end)
        if item is None:
            raise SpecError(f"cannot read {spec[end:]!r}; write name,name{{option=value}},…")
        name, text, weights = item.groups()
        if name in RECIPES:
            if weights:
                raise SpecError(f"{name} is a recipe, which cannot be kept to single weights")
            recipe = RECIPES[name]
            passes += parse(recipe.written(dict(_pairs(name, text or "", recipe.options))))
        else:
            passes.append(_chosen(_pass(name, text or ""), weights))
        end = item.end()
    return tuple(passes)


def _pass(name: str, text: str) -> Pass:
    kind = _kind(name)
    try:
        return kind(**_options(kind, text)) if text.strip() else kind()
    except ValueError as error:
        raise SpecError(f"{name}: {error}") from error


def _chosen(step: Pass, weights: str | None) -> Pass:
    if weights is None:
        return step
    try:
        return Chosen(step, tuple(map(unquote, weights.split(";"))))
    except ValueError as error:
        raise SpecError(f"{step.name}: {error}") from error


def _options(kind: type[Pass], text: str) -> dict[str, object]:
    annotations = typing.get_type_hints(kind)
    pairs = _pairs(kind.name, text, [f.name for f in fields(kind)])
    return {key: _read(kind.name, key, value, annotations[key]) for key, value in pairs}


def _pairs(name: str, text: str, known: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield options as they are written between braces, none of which is not *known*."""
    for item in re.split(r"[,\s]+", text.strip()):
        if not item:
            continue
        key, equals, value = item.partition("=")
        key = key.replace("-", "_")
        if key not in known:
            names = ", ".join(known) or "none"
            raise SpecError(f"{name} has no option {key!r}; its options: {names}")
        if not equals:
            raise SpecError(f"{name}: write {key}=VALUE")
        yield key, value


def _read(name: str, key: str, text: str, annotation: Any) -> object:
    """Read *text* as a value of the type *annotation*."""
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    allowed = typing.get_args(annotation) if union else (annotation,)
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        lowered = {"true": True, "false": False, "none": None}
        value = lowered.get(text.lower(), text)
    for kind in allowed:
        if typing.get_origin(kind) is typing.Literal:
            if value in typing.get_args(kind):
                return value
        elif kind in (None, type(None)):
            if value is None:
                return None
        elif kind is float and type(value) in (int, float):
            return float(value)
        elif type(value) is kind:
            return value
    wanted = getattr(annotation, "__name__", None) or str(annotation).replace("typing.", "")
    raise SpecError(f"{name}: {key}={text} is not of type {wanted}")


def at(weights: Iterable[str]) -> str:
    """Write which weights a pass may change, the way `parse` reads it: ``@w1;w2``."""
    return "@" + ";".join(quote(name, safe=_PLAIN) for name in weights)


def unparse(step: Pass) -> str:
    """Write *step* the way `parse` reads it."""
    if isinstance(step, Chosen):
        return unparse(step.step) + at(step.weights)
    changed = [
        f"{f.name.replace('_', '-')}={getattr(step, f.name)!r}"
        for f in fields(step)
        if getattr(step, f.name) != f.default
    ]
    return step.name + (f"{{{','.join(changed)}}}" if changed else "")
