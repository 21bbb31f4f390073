"""Layers fitted again, one after the other, to what the same layers of the original give."""

from typing import Any

import numpy as np
import pytest

from kit import operators
from nets import net, weights
from onnxslim import Calibration, Context, Model, Pipeline, parse
from onnxslim.passes.factorize.refit_layers import RefitLayers
from onnxslim.pipeline import Report
from onnxslim.validate import Reference

PRODUCTS = "a = MatMul(x, w) h = Relu(a) y = Gemm(h, v, b)"
ROUGH = "factorize-low-rank{ratio=0.5}"


def feeds(of: Model, count: int = 48, seed: int = 0) -> Calibration:
    (x,) = of.graph.inputs
    rng = np.random.default_rng(seed)
    values = [rng.standard_normal(x.shape or ()).astype(x.dtype) for _ in range(count)]
    return Calibration.of([{x.name: value} for value in values])


def layers() -> Model:
    return net(
        PRODUCTS, x="float[16, 96]", rank=2, w=weights(96, 128), v=weights(128, 96), b=weights(96)
    )


def images() -> Model:
    body = """
        a = Conv<pads = [1, 1, 1, 1]>(x, w, b) h = Relu(a)
        y = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(h, v)
    """
    return net(
        body,
        x="float[1, 16, 12, 12]",
        w=weights(32, 16, 3, 3),
        b=weights(32),
        v=weights(16, 32, 3, 3),
    )


def noise(before: Model, after: Model) -> float:
    """Return noise over signal on samples that nothing was fitted to."""
    unseen = feeds(before, 8, seed=1)
    return Reference(before.to_bytes(), before, unseen).noise(after.to_bytes())


def refitted(before: Model, rough: str, data: Calibration | None = None) -> tuple[Model, Report]:
    steps = parse(f"{rough},refit-layers" if rough else "refit-layers")
    after, report = Pipeline(steps, budget=1e9)(before, data or feeds(before))
    assert not report.warnings, report.warnings
    return after, report


def rough(before: Model, how: str) -> Model:
    return Pipeline(parse(how), budget=1e9)(before, feeds(before))[0]


@pytest.mark.parametrize("of", [layers, images])
@pytest.mark.parametrize(
    "how", [ROUGH, "factorize-low-rank{ratio=0.2}", "quantize-weights{bits=2}@w"]
)
def test_later_layers_make_up_for_what_was_lost(of: Any, how: str) -> None:
    before = of()
    after, report = refitted(before, how)
    assert report.steps[-1].changes
    assert noise(before, after) < noise(before, rough(before, how))


@pytest.mark.parametrize("tail", ["y = MatMul(h, v)", "y = Gemm<transB = 1>(h, v)"])
def test_factors_that_are_multiplied_out_at_load_stay_factors(tail: str) -> None:
    body = f"a = MatMul(x, w) h = Relu(a) {tail}"
    before = net(body, x="float[16, 64]", rank=2, w=weights(64, 64), v=weights(64, 64, seed=1))
    start = rough(before, "factorize-low-rank{rank=12}")
    after, report = refitted(before, "factorize-low-rank{rank=12}")
    assert operators(after) == operators(start)
    assert after.size() == start.size()
    assert len(report.steps[-1].notes) == 1
    assert noise(before, after) < noise(before, start)


def test_what_the_original_says_is_left_alone() -> None:
    before = layers()
    after, report = refitted(before, "")
    assert after is before
    assert set(report.steps[-1].declined) <= {
        "nothing is closer on samples that were held out",
        "the outputs would not come closer to the original's",
    }


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("y = MatMul(w, x)", "its weights stand on the left"),
        ("y = Gemm<alpha = 0.5>(x, w)", "it is scaled"),
        ("a = MatMul(x, w) c = MatMul(x, w) y = Sub(a, c)", "something else reads its weights too"),
        ("b = Add(w, x) y = MatMul(x, w)", "something else reads its weights too"),
    ],
)
def test_layers_that_are_left_alone(body: str, reason: str) -> None:
    before = net(body, x="float[16, 16]", rank=2, w=weights(16, 16))
    after, report = refitted(before, "")
    assert after is before
    assert reason in report.steps[-1].declined


def test_three_samples_are_too_few() -> None:
    before = layers()
    _, report = refitted(before, ROUGH, feeds(before, 3))
    assert "there are too few samples to hold some out" in report.steps[-1].declined


def test_convolutions_that_are_multiplied_out_at_load() -> None:
    """As factors they would be slower: there are few of them."""
    body = "a = Conv<pads = [1, 1, 1, 1]>(x, w, b) h = Relu(a) y = Conv<pads = [1, 1, 1, 1]>(h, v)"
    before = net(
        body, x="float[1, 8, 6, 6]", w=weights(8, 8, 3, 3), b=weights(8), v=weights(8, 8, 3, 3)
    )
    start = rough(before, "factorize-low-rank{rank=3,form=channel}")
    assert operators(start).count("MatMul") == 2
    after, report = refitted(before, "factorize-low-rank{rank=3,form=channel}")
    assert report.steps[-1].changes
    assert noise(before, after) < noise(before, start)


def test_zeros_stay_zeros() -> None:
    _, report = refitted(layers(), "prune{sparsity=0.5,criterion=magnitude}")
    assert "its weights are no floats, or pruned" in report.steps[-1].declined


def test_a_layer_that_gives_something_else_is_no_aim() -> None:
    """Another pass may have scaled what lies between two layers."""
    before, other = layers(), layers()
    tensor = next(t for t in other.constants() if t.name == "w")
    tensor.values = -3 * tensor.values
    context = Context(feeds(before), original=before, measure_noises=noises(9, 1, 1))
    RefitLayers().apply(other, context)
    assert "the original's layer gives something else" in context.declined


def test_a_layer_that_moves_the_outputs_away_is_taken_back() -> None:
    before = layers()
    start = rough(before, ROUGH)
    content = start.to_bytes()
    context = Context(feeds(before), original=before, measure_noises=noises(1, 2, 2, 2))
    assert not RefitLayers().apply(start, context)
    assert start.to_bytes() == content
    assert not context.notes


def noises(*values: float) -> Any:
    """Return what measures these noises, one after the other."""
    left = iter(values)
    return lambda *given: iter([next(left)])
