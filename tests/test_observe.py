"""What flows through a model: ranges, histograms and second moments."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from kit import holding, model
from onnxslim import Calibration, Model, runtime
from onnxslim.errors import CannotRun, DataError, InputError, PassError
from onnxslim.observe import BINS, ROWS, Histogram, layer_rows, observe, runs, second_moments
from onnxslim.runtime import Session

Array = npt.NDArray[Any]


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def samples(*shape: int, count: int = 3) -> Calibration:
    return Calibration.of([{"x": normal(*shape, seed=seed) * (seed + 1)} for seed in range(count)])


def squares() -> Model:
    return model("m (float[N, 3] x) => (float[N, 3] y) { s = Mul(x, x) y = Neg(s) }")


# Ranges and histograms


@pytest.mark.parametrize("name", ["x", "s", "y"])
def test_ranges_and_moments_are_those_of_all_samples(name: str) -> None:
    data = samples(4, 3)
    x = np.concatenate([feed["x"] for feed in data]).astype(np.float64)
    values = {"x": x, "s": x**2, "y": -(x**2)}[name]
    seen = observe(squares(), data, {name: None})[name]
    np.testing.assert_allclose(
        np.array([seen.minimum, seen.maximum, seen.mean, seen.variance, seen.count]),
        [values.min(), values.max(), values.mean(), values.var(), values.size],
        rtol=1e-6,
    )


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_an_axis_is_observed_by_channel(axis: int) -> None:
    data = samples(4, 3)
    x = np.concatenate([feed["x"] for feed in data], 1 - axis % 2).astype(np.float64)
    seen = observe(squares(), data, {"x": axis})["x"]
    over = 1 - axis % 2
    np.testing.assert_allclose(
        [seen.minimum, seen.maximum, seen.mean, seen.variance],
        [x.min(over), x.max(over), x.mean(over), x.var(over)],
        rtol=1e-6,
    )


def test_channels_count_their_own_elements() -> None:
    assert observe(squares(), samples(4, 3), {"x": 1})["x"].count == 12


def test_no_values_leave_no_range() -> None:
    seen = observe(squares(), samples(0, 3), {"s": 1})["s"]
    assert (seen.count, float(seen.mean)) == (0, 0.0)


@pytest.mark.parametrize("scales", [(1, 2, 700), (700, 2, 1), (0, 1e-30, 1e30), (0, 0, 0)])
def test_a_histogram_is_that_of_all_values_at_once(scales: Sequence[float]) -> None:
    histogram, values = Histogram(), normal(3, 1000).astype(np.float64)
    values *= np.array(scales)[:, None]
    for part in values:
        histogram.add(part)
    limit = histogram.limit or 1.0
    wanted, _ = np.histogram(values, BINS, (-limit, limit))
    assert (histogram.counts == wanted).all()


def test_the_range_of_a_histogram_is_not_twice_what_it_must_be() -> None:
    histogram = Histogram()
    histogram.add(np.array([0.75, -3.0]))
    assert (histogram.limit, histogram.edges[0], histogram.edges[-1]) == (4.0, -4.0, 4.0)


def test_histograms_are_made_where_asked_for() -> None:
    seen = observe(squares(), samples(4, 3), {"s": None}, histograms=True)["s"]
    assert seen.histogram is not None
    assert seen.histogram.counts.sum() == 36


# Second moments


def assert_second_moments(of: Model, data: Calibration, weight: Array, axis: int = 1) -> None:
    """Compare E[y yT] with W E[x xT] WT, where y are the outputs on *axis* as onnxruntime has them.

    *weight* is W, (groups, outputs, inputs); so many outputs leave nothing open of E[x xT].
    """
    groups, outputs, inputs = weight.shape
    assert outputs >= inputs
    session = Session(of.to_bytes(), optimize=False)
    made = [np.moveaxis(session.run(feed)["y"], axis, 0) for feed in data]
    y = np.concatenate([part.reshape(len(part), -1) for part in made], 1).astype(np.float64)
    y = y.reshape(groups, outputs, -1)
    (layer,) = of.graph.nodes
    gram = second_moments(of, data, [layer])[layer]
    wanted = y @ y.transpose(0, 2, 1) / y.shape[2]
    found = weight @ gram @ weight.transpose(0, 2, 1)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * wanted.max())


@pytest.mark.parametrize(
    ("x", "w", "attributes"),
    [
        ((2, 3, 7, 6), (32, 3, 3, 2), ""),
        ((2, 3, 7, 6), (32, 3, 3, 2), "<strides = [2, 1]>"),
        ((2, 3, 7, 6), (32, 3, 3, 2), "<pads = [1, 0, 2, 1]>"),
        ((2, 3, 7, 6), (32, 3, 3, 2), "<dilations = [1, 3]>"),
        (
            (2, 3, 9, 9),
            (32, 3, 3, 2),
            "<dilations = [2, 3], strides = [3, 2], pads = [2, 1, 0, 3]>",
        ),
        ((2, 3, 7, 6), (32, 3, 3, 2), '<auto_pad = "SAME_UPPER", strides = [2, 1]>'),
        ((2, 3, 7, 6), (32, 3, 3, 2), '<auto_pad = "SAME_LOWER", strides = [2, 1]>'),
        ((2, 3, 7, 6), (32, 3, 3, 2), '<auto_pad = "VALID", strides = [2, 2]>'),
        ((2, 4, 5, 5), (32, 2, 2, 3), "<group = 2>"),
        ((2, 4, 5, 5), (40, 1, 3, 3), "<group = 4, strides = [2, 2]>"),
        ((2, 3, 9), (16, 3, 4), "<strides = [2], pads = [1, 2]>"),
        ((1, 2, 5, 4, 6), (40, 2, 2, 3, 2), "<strides = [1, 2, 1], pads = [0, 1, 1, 1, 0, 0]>"),
        ((2, 3, 4, 4), (3, 3, 1, 1), ""),
    ],
)
def test_a_convolution_multiplies_patches(
    x: tuple[int, ...], w: tuple[int, ...], attributes: str
) -> None:
    dims = ", ".join("ABCDE"[: len(x)])
    text = f"m (float[{dims}] x) => (float[{dims.lower()}] y) {{ y = Conv{attributes}(x, w) }}"
    weight = normal(*w)
    rows = weight.reshape(x[1] // w[1], -1, weight[0].size)
    assert_second_moments(holding(model(text), w=weight), samples(*x), rows)


@pytest.mark.parametrize(
    ("node", "x", "w", "axis"),
    [
        ("Gemm(x, w)", (4, 3), (3, 5), -1),
        ("Gemm<transB = 1>(x, w)", (4, 3), (5, 3), -1),
        ("Gemm<transA = 1>(x, w)", (3, 4), (3, 5), -1),
        ("Gemm(w, x)", (3, 4), (5, 3), 0),
        ("Gemm<transA = 1, transB = 1>(w, x)", (4, 3), (3, 5), 0),
        ("MatMul(x, w)", (4, 3), (3, 5), -1),
        ("MatMul(x, w)", (2, 6, 4, 3), (3, 5), -1),
        ("MatMul(w, x)", (3, 4), (5, 3), 0),
        ("MatMul(w, x)", (2, 6, 3, 4), (5, 3), -2),
        ("MatMul(x, w)", (3,), (3, 5), -1),
        ("MatMul(w, x)", (3,), (5, 3), 0),
    ],
)
def test_a_product_multiplies_rows_or_columns(
    node: str, x: tuple[int, ...], w: tuple[int, ...], axis: int
) -> None:
    dims = ", ".join("ABCD"[: len(x)])
    text = f"m (float[{dims}] x) => (float[{dims.lower()}] y) {{ y = {node} }}"
    weight = normal(*w)
    rows = weight if w == (5, 3) else weight.T
    assert_second_moments(holding(model(text), w=weight), samples(*x), rows[None], axis)


def test_of_many_rows_some_at_even_distances_count() -> None:
    of = holding(model("m (float[N, 2] x) => (float[N, 2] y) { y = MatMul(x, w) }"), w=np.eye(2))
    (layer,) = of.graph.nodes
    assert layer_rows(layer, np.arange(20.0).reshape(10, 2), 4).tolist() == [
        [[0, 1], [6, 7], [12, 13], [18, 19]]
    ]


def test_of_many_patches_some_at_even_distances_count() -> None:
    of = holding(
        model("m (float[N, 2, H, W] x) => (float[N, a, b, c] y) { y = Conv<group = 2>(x, w) }"),
        w=normal(2, 1, 2, 2),
    )
    (layer,) = of.graph.nodes
    x = normal(3, 2, 6, 5)
    assert (layer_rows(layer, x, 7) == layer_rows(layer, x)[:, ::9]).all()


def test_large_images_are_not_unfolded_as_a_whole() -> None:
    of = holding(
        model("m (float[1, 8, 256, 256] x) => (float[1, 8, a, b] y) { y = Conv(x, w) }"),
        w=normal(8, 8, 5, 5),
    )
    (layer,) = of.graph.nodes
    x = np.zeros((1, 8, 256, 256))
    tracemalloc.start()
    rows = layer_rows(layer, x, ROWS)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * rows.nbytes  # all patches take 16 times that of the chosen


def test_samples_of_several_sizes_weigh_by_their_rows() -> None:
    of = holding(model("m (float[N, 1] x) => (float[N, 1] y) { y = MatMul(x, w) }"), w=normal(1, 1))
    (layer,) = of.graph.nodes
    data = Calibration.of([{"x": np.full((n, 1), n, np.float32)} for n in (1, 2)])
    assert second_moments(of, data, [layer])[layer].tolist() == [[[3.0]]]


# Running


def test_samples_are_forgotten() -> None:
    of = model("m (float[N] x) => (float[N] y) { s = Mul(x, x) y = Neg(s) }")

    def feeds() -> Iterator[dict[str, Array]]:
        for _ in range(16):
            yield {"x": np.ones(1 << 18, np.float32)}

    data = Calibration.of(feeds)
    tracemalloc.start()
    observe(of, data, {"s": None}, histograms=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12 << 20  # one sample takes 1 MiB, 2 MiB in double precision


def test_feeds_take_the_types_of_the_model() -> None:
    data = Calibration.of([{"x": np.ones((1, 3))}])
    assert observe(squares(), data, {"s": None})["s"].maximum == 1.0


def test_a_large_model_is_lent_as_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    sources: list[Any] = []

    class Watched(Session):
        def __init__(self, source: runtime.Source, optimize: bool) -> None:
            sources.append(source)
            super().__init__(source, optimize)

    monkeypatch.setattr("onnxslim.observe.Session", Watched)
    monkeypatch.setattr(runtime, "_IN_MEMORY", 100)
    text = "m (float[N, 3] x) => (float[N, 3] y) { s = Mul(x, w) y = Neg(s) }"
    of = holding(model(text), w=normal(1 << 10, 3))
    observe(of, samples(1, 3), {"s": None})
    assert isinstance(sources[0], Path)
    assert not sources[0].exists()


@pytest.mark.parametrize("when", ["loading", "running"])
def test_where_optimizations_fail_none_are_used(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(Session):
        def __init__(self, source: runtime.Source, optimize: bool) -> None:
            self.fails = optimize and when == "running"
            if optimize and when == "loading":
                raise CannotRun("an optimization fails")
            super().__init__(source, optimize)

        def run(self, feed: Any) -> Any:
            if self.fails:
                raise CannotRun("an optimization fails")
            return super().run(feed)

    monkeypatch.setattr("onnxslim.observe.Session", Failing)
    assert observe(squares(), samples(4, 3), {"s": None})["s"].count == 36


def test_the_model_is_left_as_it_is() -> None:
    of = squares()
    before = of.to_bytes()
    observe(of, samples(4, 3), {"s": None})
    assert of.to_bytes() == before


def test_a_tensor_that_nobody_computes_is_refused() -> None:
    with pytest.raises(InputError, match="the model computes no tensor called 'z'"):
        observe(squares(), samples(4, 3), {"z": None})


def test_a_sample_that_overflows_is_named() -> None:
    data = Calibration.of([{"x": np.full((1, 3), v, np.float32)} for v in (1.0, 1e30)])
    with pytest.raises(PassError, match="sample 1 makes 's' infinite or NaN"):
        observe(squares(), data, {"s": None})


def test_nan_in_the_data_is_refused() -> None:
    data = Calibration.of([{"x": np.full((1, 3), v, np.float32)} for v in (1.0, np.nan)])
    with pytest.raises(DataError, match="sample 1: input 'x' holds NaN"):
        observe(squares(), data, {"s": None})


def test_progress_is_told_by_sample() -> None:
    told: list[tuple[str, int, int]] = []
    observe(squares(), samples(4, 3), {"s": None}, progress=lambda *what: told.append(what))
    assert told == [("observing", 0, 3), ("observing", 1, 3), ("observing", 2, 3)]


def test_a_number_of_samples_that_nobody_knows_is_0() -> None:
    told: list[int] = []
    data = Calibration.of(lambda: ({"x": normal(4, 3)} for _ in range(2)))
    observe(squares(), data, {"s": None}, progress=lambda what, done, total: told.append(total))
    assert told == [0, 0]


def test_nothing_is_run_that_is_not_asked_for() -> None:
    """The product does not fit, and the branches read what stands outside of them."""
    of = model("""g (float[2, 3] x, float[5, 5] u) => (float[?, ?] z) {
        a = Abs(x) n = Neg(x) c = Constant<value = bool {1}>() k = Identity(c)
        y = If(k) <
            then_branch = t () => (float[2, 3] p) { p = Add(a, n) },
            else_branch = e () => (float[2, 3] q) { q = Sub(a, n) }
        >
        z = MatMul(y, u)
    }""")
    values = np.full((2, 3), -2, np.float32)
    data = Calibration.of([{"x": values, "u": np.zeros((5, 5), np.float32)}])
    (found,) = runs(of, data, ["y", "x"], lambda *_: None)
    assert np.array_equal(found["y"], np.full((2, 3), 4))
    assert np.array_equal(found["x"], values)
