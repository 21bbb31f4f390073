"""How Sphinx builds these pages: ``sphinx-build -W docs SITE``."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING

from sphinx.util.docutils import SphinxDirective

import onnxslim
from onnxslim.base import Pass
from onnxslim.recipes import RECIPES
from onnxslim.registry import all_passes, options

if TYPE_CHECKING:
    from docutils.nodes import Node
    from sphinx.application import Sphinx

project = "onnxslim"
author = "the founders of onnxslim"
release = onnxslim.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = "onnxslim"
nitpicky = False
myst_heading_anchors = 3
autodoc_typehints = "description"
autodoc_mock_imports = [] if importlib.util.find_spec("torch") else ["torch"]
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": False}


def reference() -> Iterator[str]:
    """Yield a section in Markdown for every pass, by the folder that it is found in."""
    for group, kinds in groupby(
        sorted(all_passes().values(), key=place), key=lambda k: place(k)[0]
    ):
        yield f"## {group}"
        for kind in kinds:
            yield from entry(kind)
    yield "## recipes"
    for name, recipe in RECIPES.items():
        yield f"### {name}"
        yield f"`{recipe.spec.replace(',', ', ')}`"
        if recipe.options:
            yield from table((key, "", value) for key, value in recipe.options.items())


def place(kind: type[Pass]) -> tuple[str, str]:
    """Return the folder and the name of a pass."""
    parts = kind.__module__.split(".")
    return parts[-2], kind.name


def entry(kind: type[Pass]) -> Iterator[str]:
    """Yield what a pass does, needs and may be told."""
    yield f"### {kind.name}"
    lines = (kind.__doc__ or "").strip().splitlines()
    yield "\n".join(line.strip() for line in lines)
    needs = [kind.effect.name.lower()]
    needs += ["needs calibration data"] if kind.needs_data else []
    needs += ["runs once, where it stands"] if kind.once else []
    needs += ["may be kept to single weights"] if kind.by_layer else []
    yield f"*{', '.join(needs)}*"
    found = options(kind)
    if found:
        yield from table((name, kind_, repr(value)) for name, (kind_, value) in found.items())


def table(rows: Iterator[tuple[str, str, str]]) -> Iterator[str]:
    """Yield options as a table in Markdown."""
    lines = [f"| `{name}` | {kind.replace('|', 'or')} | `{value}` |" for name, kind, value in rows]
    yield "\n".join(["| option | type | default |", "| --- | --- | --- |", *lines])


class Passes(SphinxDirective):
    """The reference of all passes, made from what they say of themselves."""

    def run(self) -> list[Node]:
        """Return its sections."""
        text = "\n\n".join(reference())
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def setup(app: Sphinx) -> None:
    """Offer the directive."""
    app.add_directive("passes", Passes)
