"""Passes by name, and pipelines as text."""

import importlib.metadata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from kit import holding, model
from onnxslim import Context, Effect, Model, Pass, Pipeline, registry
from onnxslim.base import Chosen
from onnxslim.errors import SpecError
from onnxslim.passes.prune.prune import Prune
from onnxslim.passes.simplify.drop_dead import DropDead
from onnxslim.passes.simplify.drop_identity import DropIdentity
from onnxslim.passes.simplify.fold_constants import FoldConstants
from onnxslim.recipes import RECIPES
from onnxslim.registry import all_passes, help_line, options, parse, unparse

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Plugin(Pass):
    """Do nothing, with every kind of option.

    Longer explanation.
    """

    name = "plugin"
    effect = Effect.EXACT

    count: int = 1
    ratio: float = 0.5
    label: str = "a"
    fast: bool = False
    limit: int | None = None
    mode: Literal["slow", "fast"] = "slow"

    def apply(self, model: Model, context: Context) -> int:
        return 0


class _Entry:
    name = "plugin"
    value = "somewhere:Plugin"

    def __init__(self, loaded: object) -> None:
        self.loaded = loaded

    def load(self) -> object:
        return self.loaded


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    _plug(monkeypatch, Plugin)
    yield
    all_passes.cache_clear()


def _plug(monkeypatch: pytest.MonkeyPatch, loaded: object) -> None:
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [_Entry(loaded)])
    all_passes.cache_clear()


# Finding passes -----------------------------------------------------------------------------------


def test_every_file_is_a_pass() -> None:
    files = {
        path.stem.replace("_", "-")
        for folder in ("passes", "onnxslim/steps")
        for path in (ROOT / folder).rglob("*.py")
        if "/_" not in path.as_posix()
    }
    assert set(all_passes()) == files


def test_passes_are_in_order_of_their_names() -> None:
    assert list(all_passes()) == sorted(all_passes())


@pytest.mark.usefixtures("plugged")
def test_a_plugin_is_a_pass() -> None:
    assert all_passes()["plugin"] is Plugin
    assert parse("plugin") == (Plugin(),)


@pytest.mark.parametrize("loaded", [object(), int, Pass])
def test_a_plugin_that_is_no_pass(monkeypatch: pytest.MonkeyPatch, loaded: object) -> None:
    _plug(monkeypatch, loaded)
    with pytest.raises(SpecError, match=r"the plugin 'plugin' \(somewhere:Plugin\) is no Pass"):
        all_passes()
    all_passes.cache_clear()


def test_two_passes_of_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Impostor(Plugin):
        """Take the name of another."""

        name = "drop-dead"

    _plug(monkeypatch, Impostor)
    with pytest.raises(RuntimeError, match="two passes are called 'drop-dead'"):
        all_passes()
    all_passes.cache_clear()


def test_help_is_the_first_line() -> None:
    assert help_line(Plugin) == "Do nothing, with every kind of option."


def test_options_with_types_and_defaults() -> None:
    found = options(Plugin)
    assert list(found) == ["count", "ratio", "label", "fast", "limit", "mode"]
    assert found["ratio"][1] == 0.5


def test_the_options_of_a_pass() -> None:
    assert options(FoldConstants) == {"max_bytes": ("int", 1 << 28)}
    assert options(DropDead) == {}


# Reading ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec",
    ["drop-dead,drop-identity", " drop-dead , drop-identity ", "drop-dead{},drop-identity,"],
)
def test_a_list(spec: str) -> None:
    assert parse(spec) == (DropDead(), DropIdentity())


def test_nothing_is_no_passes() -> None:
    assert parse("") == ()


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_stands_for_its_passes(recipe: str) -> None:
    assert parse(recipe) == parse(RECIPES[recipe].written({}))
    assert len(parse(f"drop-dead,{recipe}")) == len(parse(recipe)) + 1


def test_a_recipe_takes_what_may_be_chosen_in_it() -> None:
    found = [getattr(step, "sparsity", None) for step in parse("deep{sparsity=0.5}")]
    assert 0.5 in found


def test_a_recipe_refuses_other_options() -> None:
    with pytest.raises(SpecError, match="deep has no option 'bits'; its options: sparsity, values"):
        parse("deep{bits=4}")


def test_a_recipe_is_not_for_single_weights() -> None:
    with pytest.raises(SpecError, match="deep is a recipe"):
        parse("deep@w")


def test_the_lossless_recipe_is_lossless() -> None:
    assert max(step.effect for step in parse("lossless")) < Effect.LOSSY


@pytest.mark.parametrize("spec", ["fold-constants{max_bytes=7}", "fold-constants{ max-bytes=7 }"])
def test_an_option(spec: str) -> None:
    assert parse(spec) == (FoldConstants(max_bytes=7),)


@pytest.mark.usefixtures("plugged")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("count=2,ratio=0.1", Plugin(count=2, ratio=0.1)),
        ("count=2 ratio=0.1", Plugin(count=2, ratio=0.1)),
        ("ratio=1", Plugin(ratio=1.0)),
        ("ratio=1e-3", Plugin(ratio=0.001)),
        ("label=b", Plugin(label="b")),
        ("label='b'", Plugin(label="b")),
        ("fast=true", Plugin(fast=True)),
        ("fast=False", Plugin(fast=False)),
        ("limit=3", Plugin(limit=3)),
        ("limit=none", Plugin(limit=None)),
        ("mode=fast", Plugin(mode="fast")),
        ("count=-1", Plugin(count=-1)),
    ],
)
def test_options_by_type(text: str, expected: Plugin) -> None:
    assert parse(f"plugin{{{text}}}") == (expected,)


@pytest.mark.usefixtures("plugged")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("count=0.5", r"plugin: count=0\.5 is not of type int"),
        ("count=true", "plugin: count=true is not of type int"),
        ("ratio=much", "plugin: ratio=much is not of type float"),
        ("fast=1", "plugin: fast=1 is not of type bool"),
        ("limit=x", r"plugin: limit=x is not of type int \| None"),
        ("mode=medium", "plugin: mode=medium is not of type"),
        ("size=1", "plugin has no option 'size'; its options: count, ratio, label"),
        ("count", "plugin: write count=VALUE"),
    ],
)
def test_options_that_make_no_sense(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse(f"plugin{{{text}}}")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("drop-ded", "no pass is called 'drop-ded'; did you mean 'drop-dead'"),
        ("lossles", "did you mean 'lossless'"),
        ("xyz", "list them with: onnxslim passes"),
        ("lossless{a=1}", "lossless has no option 'a'; its options: none"),
        ("drop-dead{a=1}", "drop-dead has no option 'a'; its options: none"),
        ("drop-dead{", "cannot read 'drop-dead{'"),
        ("drop-dead;drop-identity", "cannot read"),
        (",", "cannot read"),
    ],
)
def test_what_cannot_be_read(spec: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse(spec)


def test_a_pass_may_refuse_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Strict(Plugin):
        """Take no negative count."""

        name = "strict"

        def __post_init__(self) -> None:
            if self.count < 0:
                raise ValueError("count must not be negative")

    _plug(monkeypatch, Strict)
    with pytest.raises(SpecError, match="strict: count must not be negative"):
        parse("strict{count=-1}")
    all_passes.cache_clear()


# Writing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", all_passes())
def test_what_is_written_reads_back(name: str) -> None:
    step = all_passes()[name]()
    assert unparse(step) == name
    assert parse(unparse(step)) == (step,)


@pytest.mark.usefixtures("plugged")
@pytest.mark.parametrize(
    "step",
    [
        Plugin(),
        Plugin(count=2, ratio=1e-9),
        Plugin(fast=True, limit=3, mode="fast"),
        Plugin(label="b-c.d"),
    ],
)
def test_options_read_back(step: Plugin) -> None:
    assert parse(unparse(step)) == (step,)


def test_only_what_differs_is_written() -> None:
    assert unparse(FoldConstants(max_bytes=7)) == "fold-constants{max-bytes=7}"


def test_registry_is_read_once() -> None:
    assert registry.all_passes() is registry.all_passes()


def test_the_recipe_for_bytes_removes_every_channel_it_can() -> None:
    aligned = [step for step in parse("lossless-bytes") if hasattr(step, "align")]
    assert [step.align for step in aligned] == ["bytes"] * 3


def test_a_pass_may_be_for_some_layers_only() -> None:
    (step,) = parse("prune{sparsity=0.9}@a/w;b%20c")
    assert step == Chosen(Prune(0.9), ("a/w", "b c"))
    assert parse(unparse(step)) == (step,)


def test_a_pass_that_does_not_choose_layers_says_so() -> None:
    with pytest.raises(SpecError, match="layer by layer"):
        parse("drop-dead@w")


BY_LAYER = [name for name, kind in all_passes().items() if kind.by_layer]


@pytest.mark.parametrize("name", BY_LAYER)
def test_other_layers_than_the_chosen_stay_as_they_are(name: str) -> None:
    rng = np.random.default_rng(0)
    arrays = {key: rng.normal(size=(64, 64)).astype(np.float32) for key in "wv"}
    before = holding(
        model("""g (float[N, 64] x) => (float[N, 64] y) <float[64, 64] w, float[64, 64] v> {
            a = MatMul(x, w) y = MatMul(a, v) }"""),
        **arrays,
    )
    after, report = Pipeline(parse(f"{name}@v"), budget=np.inf)(before)
    assert report.steps[0].changes == 1
    values = {tensor.name: tensor.values for tensor in after.constants()}
    assert np.array_equal(values["w"], arrays["w"])
