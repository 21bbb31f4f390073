"""Whole channels that become zeros, so that other passes remove them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nets import layers, net, norm, weights, zeroed
from onnxslim import Calibration, Model, Pipeline, parse
from onnxslim.errors import MissingData
from onnxslim.passes.channels.prune_channels import PruneChannels

HALF = PruneChannels(0.5, multiple=1)
PADS = "<pads = [1, 1, 1, 1]>"


def pruned(before: Model, step: PruneChannels = HALF, **given: Any) -> tuple[Model, Any]:
    after, report = Pipeline((step,), budget=np.inf, **given)(before)
    return after, report.steps[0]


def removed(before: Model, step: PruneChannels = HALF, **given: Any) -> list[str]:
    """Return the layers that are left once the exact passes have removed what was pruned."""
    steps = (step, *parse("lossless-bytes"))
    return layers(Pipeline(steps, budget=np.inf, **given)(before)[0])


def small(*shape: int, rows: Any) -> Any:
    """Return weights of which those of some outputs are small."""
    made = weights(*shape)
    made[rows] *= 0.01
    return made


def zeros(after: Model, name: str) -> list[int]:
    """Return the outputs of a layer whose weights are all zero."""
    values = next(t.values for t in after.constants() if t.name == name)
    return np.flatnonzero((values.reshape(len(values), -1) == 0).all(1)).tolist()


def chain(width: int = 8, rows: Any = (1, 4, 5, 6)) -> Model:
    return net(
        f"c = Conv{PADS}(x, w) b = BN(c, n) r = Relu(b) y = Conv{PADS}(r, v)",
        w=small(width, 3, 3, 3, rows=list(rows)), v=weights(4, width, 3, 3),
        **norm("n", "1" * width),
    )  # fmt: skip


def residual(rows: Any = (0, 2)) -> Model:
    """Make two branches that are added; only the first says which channels are small."""
    return net(
        f"a = Conv{PADS}(x, w) b = BN(a, n) c = Conv{PADS}(b, u) s = Add(b, c) r = Relu(s) "
        f"y = Conv{PADS}(r, v)",
        w=small(4, 3, 3, 3, rows=list(rows)), u=small(4, 4, 3, 3, rows=list(rows)),
        v=weights(5, 4, 3, 3), **norm("n", "1111"),
    )  # fmt: skip


def test_the_smallest_channels_go() -> None:
    assert zeros(pruned(chain())[0], "w") == [1, 4, 5, 6]


def test_what_normalises_and_shifts_them_goes_with_them() -> None:
    after, _ = pruned(chain())
    assert zeros(after, "n_s") == zeros(after, "n_b") == [1, 4, 5, 6]


def test_exact_passes_remove_them() -> None:
    assert removed(chain()) == ["Conv 4x3x3x3", "Conv 4x4x3x3"]


def test_a_bias_is_no_hindrance() -> None:
    body = f"c = Conv{PADS}(x, w, k) a = Add(c, m) y = Conv{PADS}(a, v)"
    before = net(
        body, w=small(4, 3, 3, 3, rows=[0, 3]), k=weights(4), m=weights(1, 4, 1, 1),
        v=weights(4, 4, 3, 3),
    )  # fmt: skip
    assert removed(before) == ["Conv 2x3x3x3", "Conv 4x2x3x3"]


def test_branches_that_are_added_lose_the_same_channels() -> None:
    after, _ = pruned(residual())
    assert zeros(after, "w") == zeros(after, "u") == [0, 2]


def test_branches_that_are_added_are_removed_together() -> None:
    assert removed(residual()) == ["Conv 2x3x3x3", "Conv 2x2x3x3", "Conv 5x2x3x3"]


def test_depthwise_layers_lose_the_channels_that_they_read() -> None:
    before = net(
        f"a = Conv(x, w) b = Conv<group = 4, pads = [1, 1, 1, 1]>(a, d, k) y = Conv{PADS}(b, v)",
        w=small(4, 3, 1, 1, rows=[1, 3]), d=weights(4, 1, 3, 3), k=weights(4),
        v=weights(5, 4, 3, 3),
    )  # fmt: skip
    assert removed(before) == ["Conv 2x3x1x1", "Conv 2x1x3x3", "Conv 5x2x3x3"]


def test_what_is_joined_is_pruned_part_by_part() -> None:
    before = net(
        "a = Conv(x, w) b = Conv(x, u) c = Concat<axis = 1>(a, b) r = Relu(c) y = Conv(r, v)",
        w=small(4, 3, 1, 1, rows=[1, 3]), u=small(6, 3, 1, 1, rows=[0, 1, 2]),
        v=weights(5, 10, 1, 1),
    )  # fmt: skip
    after, _ = pruned(before)
    assert (zeros(after, "w"), zeros(after, "u")) == ([1, 3], [0, 1, 2])


def test_products_of_matrices() -> None:
    before = net(
        "a = MatMul(x, w) b = Relu(a) c = Gemm<transB = 1>(b, u, k) d = Relu(c) y = MatMul(d, v)",
        x="float[2, 3]", rank=2, w=weights(3, 4), u=weights(6, 4), k=weights(6), v=weights(6, 5),
    )  # fmt: skip
    assert removed(before) == ["MatMul 3x2", "Gemm 3x2", "MatMul 3x5"]


def test_values_of_attention() -> None:
    before = net(
        "t = Transpose<perm = [0, 2, 1]>(x) s = MatMul(x, t) p = Softmax(s) a = MatMul(x, w) "
        "c = MatMul(p, a) y = MatMul(c, v)",
        x="float[2, 5, 3]", rank=3, w=weights(3, 4), v=weights(4, 6),
    )  # fmt: skip
    assert removed(before) == ["MatMul 3x2", "MatMul 2x6"]


def test_channels_of_outputs_stay() -> None:
    assert zeros(pruned(chain())[0], "v") == []


def test_says_why_nothing_can_go() -> None:
    _, said = pruned(net("y = Conv(x, w)", w=weights(8, 3, 3, 3)))
    assert (said.changes, list(said.declined)) == (0, ["a graph output"])


def test_says_where_a_group_is_too_small_for_the_multiple() -> None:
    _, said = pruned(chain(), PruneChannels(0.5, multiple=8))
    assert "it has no more than 8 channels (multiple=8)" in said.declined


def test_says_where_the_ratio_is_too_small_for_the_multiple() -> None:
    _, said = pruned(chain(16), PruneChannels(0.3))
    assert "the ratio takes less than multiple=8 channels of it" in said.declined


@pytest.mark.parametrize(("ratio", "left"), [(0.3, 16), (0.5, 16), (0.7, 8), (0.99, 8)])
def test_a_multiple_of_channels_stays(ratio: float, left: int) -> None:
    assert len(zeros(pruned(chain(20), PruneChannels(ratio))[0], "w")) == 20 - left


def test_one_channel_stays() -> None:
    assert len(zeros(pruned(chain(), PruneChannels(0.99, multiple=1))[0], "w")) == 7


def test_zeros_count_and_stay() -> None:
    once, _ = pruned(chain())
    assert pruned(once)[1].changes == 0


def test_gamma_decides_whatever_the_weights_are() -> None:
    before = net(
        "c = Conv(x, w) b = BN(c, n) r = Relu(b) y = Conv(r, v)",
        w=small(4, 3, 3, 3, rows=[0, 1]), v=weights(4, 4, 3, 3), **norm("n", "1m1m"),
    )  # fmt: skip
    assert zeros(pruned(before, PruneChannels(0.5, "gamma", multiple=1))[0], "w") == [1, 3]


def test_says_where_there_is_no_gamma() -> None:
    before = net("c = Conv(x, w) y = Conv(c, v)", w=weights(4, 3, 1, 1), v=weights(4, 4, 1, 1))
    _, said = pruned(before, PruneChannels(0.5, "gamma", multiple=1))
    assert "no batch normalization scales its channels" in said.declined


def test_information_decides_whatever_the_weights_are() -> None:
    importance = {"w": zeroed(np.ones((8, 3, 3, 3)), [0, 2, 3, 7])}
    step = PruneChannels(0.5, "fisher", multiple=1)
    assert zeros(pruned(chain(rows=()), step, importance=importance)[0], "w") == [0, 2, 3, 7]


def test_information_must_be_given() -> None:
    with pytest.raises(MissingData, match="importance"):
        pruned(chain(), PruneChannels(0.5, "fisher"))


def test_groups_compare_across_the_model() -> None:
    """The second layer has channels that matter little beside its others; the first has none."""
    before = net(
        "a = Conv(x, w) b = Relu(a) c = Conv(b, u) d = Relu(c) y = Conv(d, v)",
        w=weights(4, 3, 1, 1) * 9, u=small(4, 4, 1, 1, rows=[0, 1, 3]), v=weights(4, 4, 1, 1),
    )  # fmt: skip
    step = PruneChannels(0.375, scope="model", multiple=1)
    after, _ = pruned(before, step)
    assert (zeros(after, "w"), zeros(after, "u")) == ([], [0, 1, 3])


def test_shared_parameters_stay_for_others() -> None:
    before = net(
        "a = Conv(x, w, k) b = Relu(a) y = Conv(b, v, k)",
        w=small(4, 3, 1, 1, rows=[0, 1]), k=weights(4), v=weights(4, 4, 1, 1),
    )  # fmt: skip
    assert zeros(pruned(before)[0], "k") == []


@pytest.mark.parametrize("options", [{"ratio": 1.0}, {"ratio": -0.1}, {"multiple": 0}])
def test_refuses_what_makes_no_sense(options: Any) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        PruneChannels(**options)


def samples(*shape: int) -> Calibration:
    rng = np.random.default_rng(3)
    return Calibration.of([{"x": rng.normal(size=shape).astype(np.float32)} for _ in range(8)])


def test_by_the_error_of_what_reads_the_channels() -> None:
    reading = weights(4, 8, 3, 3)
    reading[:, [0, 2, 3, 7]] *= 0.01
    before = net(f"c = Conv{PADS}(x, w) r = Relu(c) y = Conv{PADS}(r, v)",
                 w=weights(8, 3, 3, 3), v=reading)  # fmt: skip
    step = PruneChannels(0.5, criterion="error", multiple=1)
    after, report = Pipeline((step,), budget=np.inf)(before, samples(2, 3, 6, 6))
    assert report.changed
    assert zeros(after, "w") == [0, 2, 3, 7]


def test_positions_of_a_channel_that_a_product_reads_count_together() -> None:
    reading = weights(4 * 36, 5)
    reading[36:71] *= 0.01
    reading[[35, 107, 143]] *= 0.01  # the last position of a channel says little of it
    before = net("c = Conv<pads = [1, 1, 1, 1]>(x, w) f = Flatten(c) y = MatMul(f, v)", rank=2,
                 w=weights(4, 3, 3, 3), v=reading)  # fmt: skip
    step = PruneChannels(0.25, criterion="error", multiple=1)
    after, _ = Pipeline((step,), budget=np.inf)(before, samples(2, 3, 6, 6))
    assert zeros(after, "w") == [1]


def test_the_error_needs_data() -> None:
    with pytest.raises(MissingData, match="calibration data"):
        Pipeline((PruneChannels(criterion="error"),))(chain())


def test_channels_that_no_observed_layer_reads_are_left_alone() -> None:
    before = net(f"c = Conv{PADS}(x, w) r = Relu(c) y = ConvTranspose(r, v)",
                 w=weights(8, 3, 3, 3), v=weights(8, 4, 1, 1))  # fmt: skip
    step = PruneChannels(0.5, criterion="error", multiple=1)
    _, report = Pipeline((step,), budget=np.inf)(before, samples(2, 3, 6, 6))
    assert "no layer that reads its channels is observed" in report.steps[0].declined
