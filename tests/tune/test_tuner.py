"""Tuning whole models: they come closer, and stay what they are."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kit import holding, model
from onnxslim.data import Calibration
from onnxslim.errors import CannotTune, DataError, InputError
from onnxslim.ir import Constant, Model
from onnxslim.runtime import Session
from onnxslim.tune import Epoch, Options, Result, Tuner

RANDOM = np.random.default_rng(0)
FEEDS = [{"x": x[None]} for x in RANDOM.normal(size=(64, 4)).astype(np.float32)]
QUICK = Options(epochs=3, batch=8, lr=0.05)

LAYER = """main (float[N, 4] x) => (float[N, 3] y)
<float[4, 3] w = {1, 0, 2, -1, 3, 0, 0.5, 1, -2, 2, 1, 1}, float[3] b = {0.1, -0.2, 0.3}>
{ m = MatMul (x, w) y = Add (m, b) }"""


def changed(text: str, **values: Sequence[float]) -> Model:
    """Return the model with other values of some initializers."""
    found = model(text)
    for tensor in found.graph.initializers:
        if isinstance(tensor, Constant) and tensor.name in values:
            tensor.values = np.array(values[tensor.name], tensor.dtype).reshape(tensor.shape)
    return found


def weight(of: Model, name: str) -> np.ndarray:
    (found,) = (t for t in of.graph.initializers if t.name == name)
    assert isinstance(found, Constant)
    return found.values


def tuned(
    before: Model,
    original: Model | None,
    options: Options = QUICK,
    labels: np.ndarray | None = None,
) -> Result:
    data = Calibration(lambda: FEEDS, labels=labels)
    return Tuner(before, original, data, options).run()


def pruned() -> Model:
    return changed(LAYER, w=[2, 0, 1, -1, 2, 0, 1, 1, -1, 1, 1, 2])


def test_tuning_comes_closer_to_the_original() -> None:
    result = tuned(pruned(), model(LAYER))
    assert result.after.loss < 0.3 * result.before.loss


def test_zeros_stay_zero() -> None:
    before = pruned()
    after = tuned(before, model(LAYER)).model
    assert ((weight(after, "w") == 0) == (weight(before, "w") == 0)).all()


def test_a_tensor_of_zeros_alone_is_free() -> None:
    after = tuned(changed(LAYER, b=[0, 0, 0]), model(LAYER)).model
    assert (weight(after, "b") != 0).all()


def test_only_float_initializers_differ() -> None:
    before = pruned()
    after = tuned(before, model(LAYER)).model
    restored = after.copy()
    for tensor in restored.graph.initializers:
        assert isinstance(tensor, Constant)
        tensor.values = weight(before, tensor.name)
    assert after.to_bytes() != before.to_bytes()
    assert restored.proto().graph.node == before.proto().graph.node
    assert after.size() == before.size()


def test_the_given_model_stays_what_it_was() -> None:
    before = pruned()
    frozen = before.to_bytes()
    tuned(before, model(LAYER))
    assert before.to_bytes() == frozen


def test_the_same_seed_gives_the_same_bytes() -> None:
    first, second = (tuned(pruned(), model(LAYER)).model.to_bytes() for _ in range(2))
    assert first == second


def test_frozen_initializers_stay() -> None:
    after = tuned(pruned(), model(LAYER), replace(QUICK, freeze=("b*",))).model
    assert (weight(after, "b") == weight(pruned(), "b")).all()


CODEBOOK = """main (float[N, 4] x) => (float[N, 3] y)
<float[4] codes = {0, 1, -1, 2}, int64[4, 3] places = {1, 0, 3, 2, 3, 0, 1, 1, 2, 3, 1, 1}>
{ w = Gather (codes, places) y = MatMul (x, w) }"""
FACTORS = """main (float[N, 4] x) => (float[N, 3] y)
<float[4, 1] u = {1, 2, 3, 4},
 float[1, 3] v = {1, -1, 1}>
{ w = MatMul (u, v) y = MatMul (x, w) }"""
KRONECKER = """main (float[N, 4] x) => (float[N, 3] y)
<int64[3] in = {-1, 2, 2}, int64[2] out = {-1, 3}, float[2, 1] a = {1, -1},
 float[2, 3] b = {1, 0.5, -1, 2, 1, 1}>
{ r = Reshape (x, in) p = MatMul (r, b) at = Transpose (a) q = MatMul (at, p)
  y = Reshape (q, out) }"""
HALVES = """main (float[N, 4] x) => (float[N, 3] y)
{ h = Cast <to = 10> (x) m = MatMul (h, w) y = Cast <to = 1> (m) }"""
QUANTIZED = """main (float[N, 4] x) => (float[N, 3] y)
<int8[4, 3] q = {10, 0, 20, -10, 30, 0, 5, 10, -20, 20, 10, 10},
 float[3] s = {0.05, 0.05, 0.05}>
{ w = DequantizeLinear <axis = 1> (q, s) y = MatMul (x, w) }"""


def halves() -> Model:
    values = [1, 1, 2, -1, 2, 1, 1, 1, -2, 1, 1, 1]
    return holding(model(HALVES), w=np.array(values, np.float16).reshape(4, 3))


def test_weights_in_half_precision_are_tuned() -> None:
    result = tuned(halves(), model(LAYER))
    assert weight(result.model, "w").dtype == np.float16
    assert result.after.loss < 0.9 * result.before.loss
    assert result.model.size() == halves().size()


@pytest.mark.parametrize("text", [CODEBOOK, FACTORS, KRONECKER, QUANTIZED])
def test_compressed_weights_are_tuned_as_they_are_stored(text: str) -> None:
    result = tuned(model(text), model(LAYER))
    assert result.after.loss < 0.9 * result.before.loss
    assert result.model.size() == model(text).size()


def test_a_zero_in_a_codebook_stays_zero() -> None:
    assert weight(tuned(model(CODEBOOK), model(LAYER)).model, "codes")[0] == 0


def test_an_initializer_of_two_readers_stays_one() -> None:
    text = """main (float[N, 4] x) => (float[N, 4] y)
    <float[4, 4] w = {1, 1, 0, 2, 0, 1, 1, 0, 2, 0, 1, 1, 1, 0, 0, 1}>
    { h = MatMul (x, w) r = Relu (h) y = MatMul (r, w) }"""
    result = tuned(changed(text, w=[0.5] * 16), model(text))
    assert result.tuned == 16
    assert result.after.loss < result.before.loss


SOFTMAX = LAYER.replace("y = Add (m, b)", "a = Add (m, b) y = Softmax (a)")


@pytest.mark.parametrize("loss", ["auto", "kl", "mse"])
def test_probabilities_are_compared_by_any_loss(loss: str) -> None:
    before = changed(SOFTMAX, w=[1, 1, 1, -1, 2, 0, 0, 1, -2, 1, 1, 0])
    result = tuned(before, model(SOFTMAX), replace(QUICK, loss=loss))  # type: ignore[arg-type]
    assert result.metric == ("relative error" if loss == "mse" else "agreement")
    assert result.after.loss < 0.5 * result.before.loss


def right(labels_of: Model) -> np.ndarray:
    session = Session(labels_of.to_bytes(), optimize=False)
    return np.concatenate([session.run(feed)["y"].argmax(1) for feed in FEEDS])


def test_labels_alone_need_no_original() -> None:
    options = replace(QUICK, labels=1.0, loss="kl", epochs=10)
    result = tuned(changed(LAYER, w=[1] * 12), None, options, right(model(LAYER)))
    assert result.metric == "accuracy"
    assert result.after.metric > result.before.metric


def test_features_are_compared_too() -> None:
    result = tuned(pruned(), model(LAYER), replace(QUICK, features=("m",)))
    assert result.after.loss < 0.3 * result.before.loss


def test_what_makes_it_worse_is_not_returned() -> None:
    before = changed(LAYER, b=[0.1, -0.2, 0.31])
    result = tuned(before, model(LAYER), replace(QUICK, lr=50.0))
    assert result.model is before
    assert any("nothing better" in note for note in result.notes)


def test_a_loss_that_explodes_ends_the_run() -> None:
    text = LAYER.replace("y = Add (m, b)", "a = Exp (m) y = Mul (a, b)")
    result = tuned(changed(text, b=[0.1, -0.2, 0.31]), model(text), replace(QUICK, lr=1e4))
    assert any("lower --lr" in note for note in result.notes)
    assert np.isfinite(result.after.loss)


def test_patience_ends_a_run_that_comes_no_further() -> None:
    options = replace(QUICK, lr=2.0, schedule="constant", epochs=40, patience=2)
    assert len(tuned(pruned(), model(LAYER), options).history) < 40


NORMED = """main (float[N, 4] x) => (float[N, 2] y)
<float[4, 4] w = {1, 0.5, 0.1, 2, 0.3, 1, 1, 0.2, 2, 0.1, 1, 1, 1, 0.4, 0.6, 1},
 float[4] g = {1, 0.02, 0.8, 0.03}, float[4] s = {0.1, 0.2, 0.3, 0.4},
 float[4] mean = {0, 0.1, 0, 0.1}, float[4] var = {1, 2, 1, 2},
 float[4, 2] v = {1, -1, 0.1, 0.2, 1, 1, 0.1, 0.1}>
{ m = MatMul (x, w) n = BatchNormalization (m, g, s, mean, var) r = Relu (n) y = MatMul (r, v) }"""


def test_batch_norm_scales_fade_and_stay_zero() -> None:
    result = tuned(model(NORMED), model(NORMED), replace(QUICK, l1_gamma=0.1, lr=0.01))
    gamma = weight(result.model, "g")
    assert (gamma == 0).tolist() == [False, True, False, True]


def test_statistics_of_batch_normalization_are_not_tuned() -> None:
    after = tuned(changed(NORMED, v=[1] * 8), model(NORMED)).model
    assert all((weight(after, n) == weight(model(NORMED), n)).all() for n in ("mean", "var"))


def test_importance_has_the_shape_of_the_weights() -> None:
    found = tuned(pruned(), model(LAYER)).importance
    assert {name: value.shape for name, value in found.items()} == {"w": (4, 3), "b": (3,)}
    assert (found["w"] > 0).any()


def test_stochastic_rounding_tunes_weights_in_half_precision() -> None:
    result = tuned(halves(), model(LAYER), replace(QUICK, rounding="stochastic"))
    assert result.after.loss < result.before.loss


FIXED = LAYER.replace("float[N, 4]", "float[1, 4]").replace("float[N, 3]", "float[1, 3]")


def test_a_fixed_batch_gives_the_steps_of_a_free_one() -> None:
    """Gradients of single samples add up to that of the batch."""
    values = [1, 0, 0, -1, 2, 0, 0, 1, -2, 1, 1, 0]
    one, many = (tuned(changed(text, w=values), model(text)) for text in (FIXED, LAYER))
    assert np.allclose(weight(one.model, "w"), weight(many.model, "w"), atol=1e-4)


def test_a_branch_that_depends_on_the_input_is_tuned_through() -> None:
    text = """main (float[N, 4] x) => (float[N, 4] y)
    <float[4] a = {1, 2, 3, 4}, float[4] b = {-1, 1, -1, 1}, float zero = {0}>
    { t = ReduceSum <keepdims = 0> (x) up = Greater (t, zero)
      y = If (up) <then_branch = g () => (float[N, 4] p) { p = Mul (x, a) },
                   else_branch = h () => (float[N, 4] q) { q = Mul (x, b) }> }"""
    result = tuned(changed(text, a=[1] * 4, b=[1] * 4), model(text), replace(QUICK, batch=4))
    assert result.after.loss < 0.9 * result.before.loss


# Checkpoints --------------------------------------------------------------------------------------


class Stopped(Exception):
    pass


def stop_after(count: int) -> Callable[[Epoch], None]:
    def progress(epoch: Epoch) -> None:
        if epoch.number > count:
            raise Stopped

    return progress


def test_a_resumed_run_ends_as_one_that_was_not_interrupted(tmp_path: Path) -> None:
    options = replace(QUICK, epochs=4, rounding="stochastic", l1_gamma=0.01)
    before = changed(NORMED, v=[1, 0, 0.5, 1, 2, 1, 0, 1])

    def tuner() -> Tuner:
        return Tuner(before, model(NORMED), FEEDS, options)

    with pytest.raises(Stopped):
        tuner().run(tmp_path / "state", progress=stop_after(2))
    resumed, whole = tuner().run(tmp_path / "state", resume=True), tuner().run()
    assert resumed.model.to_bytes() == whole.model.to_bytes()
    assert all((resumed.importance[n] == v).all() for n, v in whole.importance.items())


PATCHES = """main (float[N, 1, 6, 6] x) => (float[N, 2] y) <float[2, 1, 3, 3] w, float[2, 2] v>
{ c = Conv (x, w) r = Relu (c) s = GlobalAveragePool (r) f = Flatten (s) y = MatMul (f, v) }"""


def test_a_resumed_run_sees_the_same_moved_images(tmp_path: Path) -> None:
    dice = np.random.default_rng(1)
    feeds = [{"x": x[None]} for x in dice.normal(size=(32, 1, 6, 6)).astype(np.float32)]
    w, v = (dice.normal(size=shape).astype(np.float32) for shape in ((2, 1, 3, 3), (2, 2)))
    original, before = holding(model(PATCHES), w=w, v=v), holding(model(PATCHES), w=w + 0.3, v=v)
    options = replace(QUICK, epochs=4, shift=1, mirror=True)

    def tuner() -> Tuner:
        return Tuner(before, original, feeds, options)

    with pytest.raises(Stopped):
        tuner().run(tmp_path / "state", progress=stop_after(2))
    resumed, whole = tuner().run(tmp_path / "state", resume=True), tuner().run()
    assert resumed.model.to_bytes() == whole.model.to_bytes() != before.to_bytes()


def test_a_checkpoint_of_other_options_is_refused(tmp_path: Path) -> None:
    Tuner(pruned(), model(LAYER), FEEDS, QUICK).run(tmp_path / "state")
    other = Tuner(pruned(), model(LAYER), FEEDS, replace(QUICK, lr=0.1))
    with pytest.raises(InputError, match="other models, options or data"):
        other.run(tmp_path / "state", resume=True)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"no checkpoint")
    with pytest.raises(InputError, match="is no checkpoint"):
        Tuner(pruned(), model(LAYER), FEEDS, QUICK).run(tmp_path / "state", resume=True)


# Refusals -----------------------------------------------------------------------------------------


def test_an_operator_that_is_missing_is_named() -> None:
    text = """main (float[N, 4] x) => (float[N, 4] y) <float[4] w = {1, 2, 3, 4}>
    { a = Mul (x, w) y = Det (a) }"""
    with pytest.raises(CannotTune, match=re.escape("Det -> 'y' cannot be tuned through")):
        Tuner(model(text), model(text), FEEDS, QUICK)


def test_without_an_original_labels_are_needed() -> None:
    with pytest.raises(InputError, match="give the original"):
        Tuner(model(LAYER), None, FEEDS, QUICK)


def test_another_interface_is_refused() -> None:
    with pytest.raises(InputError, match="differ in their inputs or outputs"):
        Tuner(model(LAYER), model(LAYER.replace(" y", " z")), FEEDS, QUICK)


def test_missing_labels_are_told() -> None:
    with pytest.raises(DataError, match="have no labels"):
        Tuner(model(LAYER), model(LAYER), FEEDS, replace(QUICK, labels=0.5))


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="held_out=2"):
        Options(held_out=2)


def test_one_sample_is_not_enough() -> None:
    with pytest.raises(DataError, match="two samples"):
        Tuner(model(LAYER), model(LAYER), FEEDS[:1], QUICK)
