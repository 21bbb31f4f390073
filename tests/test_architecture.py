"""The house rules about files and imports that no linter can state."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PASSES = ROOT / "passes"
MODULES_OPEN_TO_PASSES = {
    f"onnxslim.{name}"
    for name in (
        *("base", "cost", "errors", "ir", "moments", "observe", "pattern", "rewrite"),
        *("saliency", "shapes", "sites", "versions"),
    )
}


class Import(NamedTuple):
    name: str
    """``a.b.c`` for both ``import a.b.c`` and ``from a.b import c``."""
    for_types: bool
    """Whether it stands under ``if TYPE_CHECKING:``."""


def imports_of(path: Path) -> Iterator[Import]:
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    for_types = {
        node
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and ast.unparse(branch.test).endswith("TYPE_CHECKING")
        for statement in branch.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (Import(name, node in for_types) for name in names)


def python_files(*folders: str) -> list[str]:
    """List files by their path from the root; a symlinked folder is not entered."""
    return sorted(
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if path.resolve() == path
    )


def pass_files() -> list[str]:
    return [path for path in python_files("passes") if "/_" not in path]


def is_open_to(path: Path, name: str) -> bool:
    """Whether the file of a pass may import *name*."""
    if name.split(".")[0] != "onnxslim":
        return True
    folder = path.parent.parent if path.parent.name.startswith("_") else path.parent
    beside = ".".join(["onnxslim", *folder.relative_to(ROOT).parts, "_"])
    return ".".join(name.split(".")[:2]) in MODULES_OPEN_TO_PASSES or name.startswith(beside)


@pytest.mark.parametrize("file", python_files("passes"))
def test_a_pass_imports_the_framework_only(file: str) -> None:
    path = ROOT / file
    closed = [
        name
        for name, for_types in imports_of(path)
        if not is_open_to(path, name) and not (for_types and name.startswith("onnxslim.data."))
    ]
    assert not closed, (
        f"{file} imports {closed}; a pass may import {sorted(MODULES_OPEN_TO_PASSES)} and modules "
        "beside it whose names start with an underscore"
    )


@pytest.mark.parametrize("file", pass_files())
def test_a_file_holds_the_one_pass_it_is_named_after(file: str) -> None:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"), file)
    names = [
        statement.value.value
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        for statement in node.body
        if isinstance(statement, ast.Assign | ast.AnnAssign)
        and isinstance(statement.value, ast.Constant)
        and ast.unparse(statement).split("=")[0].split(":")[0].strip() == "name"
    ]
    assert names == [Path(file).stem.replace("_", "-")]


@pytest.mark.parametrize("file", pass_files())
def test_a_pass_has_a_test_file(file: str) -> None:
    path = Path(file)
    assert (ROOT / "tests" / path.parent / f"test_{path.name}").is_file()


@pytest.mark.parametrize(
    ("library", "home", "folders"),
    [
        ("onnx_graphsurgeon", "onnxslim/ir/", ["onnxslim", "passes", "benchmarks", "models"]),
        ("onnxruntime", "onnxslim/runtime.py", ["onnxslim", "passes"]),
    ],
)
def test_a_library_has_one_home(library: str, home: str, folders: list[str]) -> None:
    strangers = [
        file
        for file in python_files(*folders)
        if not file.startswith(home)
        and any(name.split(".")[0] == library for name, _ in imports_of(ROOT / file))
    ]
    assert not strangers, f"{strangers} import {library}, which only {home} may"
