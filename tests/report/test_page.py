"""The page says what the report says, and needs nothing from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from kit import model
from onnxslim import run
from onnxslim.cli import main
from onnxslim.report import charts, page

TEXT = """main (float[N, 4] x) => (float[N, 4] y)
<float[4, 4] w = {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16}>
{ i = Identity(x) m = MatMul(i, w) y = Relu(m) }"""


@pytest.fixture(scope="module", name="html")
def _html() -> str:
    outcome = run(model(TEXT))
    return page(outcome.report, outcome.model, "<net>.onnx", "lossless")


class _Balance(HTMLParser):
    """Keeps the open tags."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in ("meta", "rect", "line", "circle"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("rect", "line", "circle"):
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "td" in self.open:
            self.rows.append(data)


def test_tags_are_closed_in_order(html: str) -> None:
    parser = _Balance()
    parser.feed(html)
    assert parser.open == []


def test_operators_are_listed_before_and_after(html: str) -> None:
    parser = _Balance()
    parser.feed(html)
    place = parser.rows.index("Identity")
    assert parser.rows[place : place + 3] == ["Identity", "1", "0"]


def test_nothing_is_loaded_from_elsewhere(html: str) -> None:
    assert not re.findall(r"(?:src|href)=|url\(|@import|https?:", html)


def test_names_are_escaped(html: str) -> None:
    assert "<h1>&lt;net&gt;.onnx</h1>" in html


def test_layers_have_their_bytes(html: str) -> None:
    assert re.search(r'MatMul</td><td class="number" data-value="16">16</td>', html)


def test_what_a_pass_noted_becomes_a_table_and_a_plot() -> None:
    outcome = run(model(TEXT), "quantize-weights", max_error=1.0)
    html = page(outcome.report, outcome.model, "net", "quantize-weights")
    assert ("quantize-weights, layer by layer" in html) == any(
        step.notes for step in outcome.report.steps
    )


def test_each_of_several_outputs_has_its_error() -> None:
    before = model("""g (float[N] x) => (float[N] y, float[N] z) <float[1] two = {2}> {
        i = Identity(x) y = Mul(i, two) z = Exp(i)
    }""")
    outcome = run(before)
    assert [one.name for one in outcome.report.validation.outputs] == ["y", "z"]
    assert "<td>z</td>" in page(outcome.report, outcome.model, "net", "lossless")


def test_points_of_one_value_have_a_range() -> None:
    assert "nan" not in charts.points([("a", 1.0, 2.0), ("b", 1.0, 2.0)], "x", "y")


def test_the_command_writes_a_page_by_its_suffix(tmp_path: Path) -> None:
    model(TEXT).save(tmp_path / "in.onnx")
    options = ["-o", str(tmp_path / "out.onnx"), "--report", str(tmp_path / "r.html"), "-q"]
    assert main([str(tmp_path / "in.onnx"), *options]) == 0
    assert (tmp_path / "r.html").read_text().startswith("<!DOCTYPE html>")
