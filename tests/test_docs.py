"""What the documents show is run: commands end well, Python runs, and pages name what there is.

Blocks of a page run in order in one folder, where ``model.onnx`` is LeNet-300-100, ``data.npz``
holds samples for it, and ``NAME.onnx`` is each of the models in models/. A comment before a block
says ``<!-- not run: why -->``, or ``<!-- slow -->`` where it takes long.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxslim.cli import main

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", *sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("docs/*.md")))
BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>not run: [^\n]+?|slow) -->\n(?:<!-- [^\n]* -->\n)?)?"
    r"^```(?P<kind>sh|python|toml)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
RUNS = ("sh", "python")
SAMPLES = 64


@dataclass
class Block:
    """A block of code, and what is said of it."""

    kind: str
    text: str
    mark: str

    @property
    def is_run(self) -> bool:
        """Whether it is one that can be run, and shall be."""
        return self.kind in RUNS and not self.mark.startswith("not run")


def blocks(page: str) -> Iterator[Block]:
    for found in BLOCK.finditer((ROOT / page).read_text(encoding="utf-8")):
        yield Block(found["kind"], found["text"], found["mark"] or "")


def commands(text: str) -> Iterator[list[str]]:
    """Yield the commands of a block; what installs packages is left out."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words and words[0] != "pip":
            yield words


def pages(slow: bool) -> list[str]:
    """Return the pages that have blocks to run, of which any or none is slow."""
    of = {page: [block for block in blocks(page) if block.is_run] for page in PAGES}
    return [page for page, found in of.items() if found and any(b.mark for b in found) == slow]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as the documents take it to be."""
    for path in ROOT.glob("models/*/model.onnx"):
        shutil.copytree(path.parent, tmp_path / "models" / path.parent.name)
        shutil.copy(path, tmp_path / f"{path.parent.name}.onnx")
    shutil.copy(tmp_path / "lenet300.onnx", tmp_path / "model.onnx")
    shutil.copy(tmp_path / "lenet300.onnx", tmp_path / "small.onnx")
    dice = np.random.default_rng(0)
    images = dice.standard_normal((SAMPLES, 1, 28, 28)).astype(np.float32)
    np.savez(tmp_path / "data.npz", image=images, labels=dice.integers(0, 10, SAMPLES))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def run(page: str, folder: Path) -> None:
    """Run all of a page."""
    known: dict[str, Any] = {"__name__": "documented"}
    for block in blocks(page):
        if not block.is_run:
            continue
        if block.kind == "python":
            name = re.match(r"# (\w+\.py)\n", block.text)
            if name is not None:
                (folder / name[1]).write_text(block.text, encoding="utf-8")
            known["__name__"] = "documented"
            sys.modules.setdefault("documented", type(sys)("documented"))
            exec(compile(block.text, page, "exec"), known)
            continue
        for words in commands(block.text):
            assert words[0] == "onnxslim", f"{page}: {shlex.join(words)} cannot be run; say why"
            assert main(words[1:]) == 0, f"{page}: {shlex.join(words)}"


def needs_torch(page: str) -> bool:
    return any(re.search(r"\btune\b", block.text) for block in blocks(page) if block.is_run)


@pytest.mark.parametrize("page", pages(slow=False))
@pytest.mark.filterwarnings("default")
def test_what_a_page_shows_runs(page: str, place: Path) -> None:
    if needs_torch(page):
        pytest.importorskip("torch")
    run(page, place)


@pytest.mark.slow
@pytest.mark.parametrize("page", pages(slow=True))
@pytest.mark.filterwarnings("default")
def test_what_a_page_shows_runs_for_a_while(page: str, place: Path) -> None:
    run(page, place)


@pytest.mark.parametrize("page", PAGES)
def test_blocks_that_are_not_run_say_why(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    marks = re.findall(r"^<!-- not run: (.*) -->$", text, re.MULTILINE)
    assert len(marks) == sum(block.mark.startswith("not run") for block in blocks(page))


def test_every_page_has_a_place_in_the_contents() -> None:
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8").split()
    assert {Path(page).stem for page in PAGES[1:]} - {"index"} <= set(index)
