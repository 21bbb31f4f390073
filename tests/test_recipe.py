"""Recipes of runs: what was written runs again, and what cannot be read is said in a line."""

from __future__ import annotations

from pathlib import Path

import pytest

from kit import model
from onnxslim.cli import main
from onnxslim.recipes import RECIPES

TEXT = """main (float[N, 32] x) => (float[N, 32] y) <float[32, 32] w = {W}, float[32, 32] v = {W}>
{ i = Identity(x) m = MatMul(i, w) r = Relu(m) y = MatMul(r, v) }"""
GOOD = 'format = 1\npasses = ["drop-identity"]\n'


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.onnx"
    weights = ", ".join(f"{(7 * n % 31) / 8 - 2}" for n in range(1024))
    model(TEXT.replace("W}", weights + "}")).save(path)
    return path


@pytest.mark.parametrize(
    "spec",
    [
        *sorted(RECIPES.keys() - {"deep"}),  # which needs data
        "lossless,quantize-weights{bits=4}@w",
        "drop-identity,prune{sparsity=0.5},share{values=8}",
    ],
)
def test_a_recipe_makes_the_same_bytes_again(source: Path, tmp_path: Path, spec: str) -> None:
    first, again, recipe = (tmp_path / name for name in ("1.onnx", "2.onnx", "r.toml"))
    given = ["-q", "-p", spec, "--max-error", "0.5", "--seed", "3", "--save-recipe", str(recipe)]
    assert main([str(source), "-o", str(first), *given]) == 0
    assert main([str(source), "-o", str(again), "-q", "--recipe", str(recipe)]) == 0
    assert first.read_bytes() == again.read_bytes()


def test_a_recipe_of_a_run_without_comparison_makes_the_same_bytes_again(
    source: Path, tmp_path: Path
) -> None:
    first, again, recipe = (tmp_path / name for name in ("1.onnx", "2.onnx", "r.toml"))
    given = ["-p", "quantize-weights{bits=2}", "--check", "off", "--save-recipe", str(recipe)]
    main([str(source), "-o", str(first), "-q", *given])
    main([str(source), "-o", str(again), "-q", "--recipe", str(recipe)])
    assert again.read_bytes() == first.read_bytes() != source.read_bytes()


def test_options_given_beside_a_recipe_win(source: Path, tmp_path: Path) -> None:
    recipe, other = tmp_path / "r.toml", tmp_path / "other.toml"
    recipe.write_text(GOOD + "[options]\nseed = 3\ntarget-opset = 20\n")
    given = ["--recipe", str(recipe), "--target-opset", "21", "--save-recipe", str(other), "-q"]
    assert main([str(source), "-o", str(tmp_path / "out.onnx"), *given]) == 0
    assert other.read_text().endswith("[options]\nseed = 3\ntarget-opset = 21\n")


def test_a_failed_run_writes_no_recipe(source: Path, tmp_path: Path) -> None:
    given = ["-p", "drop-identity,nosuch", "--save-recipe", str(tmp_path / "r.toml")]
    assert main([str(source), "-o", str(tmp_path / "out.onnx"), *given]) == 2
    assert not (tmp_path / "r.toml").exists()


@pytest.mark.parametrize("name", ["in.onnx", "out.onnx", "report.json"])
def test_a_recipe_overwrites_no_other_file(source: Path, tmp_path: Path, name: str) -> None:
    given = ["-o", str(tmp_path / "out.onnx"), "--report", str(tmp_path / "report.json")]
    assert main([str(source), *given, "--save-recipe", str(tmp_path / name)]) == 2
    assert list(tmp_path.iterdir()) == [source]


def test_a_recipe_beside_a_budget_is_refused_by_its_name(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r.toml").write_text(GOOD)
    given = ["--recipe", str(tmp_path / "r.toml"), "--max-drop", "1%", "-c", "random:8"]
    main([str(source), "-o", str(tmp_path / "out.onnx"), *given])
    assert "--recipe does not go with a budget" in capsys.readouterr().err


def test_passes_beside_a_recipe_are_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(GOOD)
    given = ["--recipe", str(tmp_path / "r.toml"), "-p", "lossless"]
    assert main([str(source), "-o", str(tmp_path / "out.onnx"), *given]) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("passes = ", "Invalid value"),
        ("", "format is None, and this version reads 1"),
        (GOOD.replace("1", "2", 1), "format is 2, and this version reads 1; update onnxslim"),
        (GOOD.replace("1", "true", 1), "format is True, and this version reads 1"),
        ("passes = " + 5000 * "[", "r.toml: maximum recursion depth exceeded"),
        ("format = 1", "passes is no list of texts"),
        ("format = 1\npasses = [3]", "passes is no list of texts"),
        ('format = 1\npasses = ["drop-idenity"]', "did you mean 'drop-identity'?"),
        ('format = 1\npasses = ["share{value=3}"]', "share has no option 'value'"),
        (GOOD + "recipes = 3", "unknown entry 'recipes'"),
        (GOOD + "options = 3", "options is no table"),
        (GOOD + "[options]\noutput = 'x'", "unknown option 'output'"),
        (GOOD + "[options]\ninput-shapes = ['3']", "input shape '3'"),
        (GOOD + "[options]\nseed = [3]", "option 'seed' takes one value"),
        (GOOD + "[options]\noutputs = 'a'", "option 'outputs' takes a list"),
        (GOOD + "[options]\nseed = 'a'", "r.toml: option 'seed' takes no 'a'; its type is integer"),
        (GOOD + "[options]\nseed = 1.5", "option 'seed' takes no 1.5"),
        (GOOD + "[options]\nseed = true", "option 'seed' takes no True"),
        (GOOD + "[options]\nseed = 1979-05-27", "option 'seed' takes no datetime.date"),
        (GOOD + "[options]\nseed = {a = 1}", "option 'seed' takes no {'a': 1}"),
        (GOOD + "[options]\ncontrib = 3", "option 'contrib' takes no 3; its type is boolean"),
        (GOOD + "[options]\noutputs = [3]", "option 'outputs' takes no 3; its type is text"),
        (GOOD + "[options]\nmax-error = -1", "option 'max-error': -1.0 is not in the range"),
        (GOOD + "[options]\ndtype = 'fp64'", "r.toml: option 'dtype': 'fp64' is not one of"),
    ],
)
def test_a_bad_recipe_is_one_line_and_no_output(
    source: Path, tmp_path: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, target = tmp_path / "r.toml", tmp_path / "out.onnx"
    recipe.write_text(text)
    assert main([str(source), "-o", str(target), "--recipe", str(recipe)]) == 2
    assert not target.exists()
    assert message in capsys.readouterr().err


def test_a_missing_recipe_is_named(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["-o", str(tmp_path / "out.onnx"), "--recipe", str(tmp_path / "no.toml")]
    assert main([str(source), *given]) == 2
    assert f"{tmp_path / 'no.toml'}: No such file" in capsys.readouterr().err
