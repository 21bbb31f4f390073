"""Which widths a budget buys."""

import itertools

import numpy as np
import pytest

from onnxslim.passes.quantize._allocation import Layer, narrowest, spent, until_quiet, within

WIDTHS = (2.0, 4.0, 5.8, 8.0, 16.0)


def layers(seed: int) -> list[Layer]:
    rng = np.random.default_rng(seed)
    made = []
    for count in rng.integers(50, 5000, 5).tolist():
        loud = 10 ** rng.uniform(-4, 0)
        noise = {width: loud * 4.0**-width for width in WIDTHS} | {32.0: 0.0}
        made.append(Layer(count, noise, {width: int(count * width) // 8 for width in noise}))
    return made


def total(chosen: list[float], of: list[Layer]) -> float:
    return sum(layer.noise[width] for layer, width in zip(of, chosen, strict=True))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("bits", [2.0, 3.5, 4.0, 6.0, 12.0])
def test_finds_the_least_noise(seed: int, bits: float) -> None:
    some = layers(seed)
    budget = bits * sum(layer.count for layer in some)
    possible = (
        total(list(choice), some)
        for choice in itertools.product((*WIDTHS, 32.0), repeat=5)
        if spent(some, list(choice), "bits") <= budget
    )
    assert total(within(some, "bits", budget), some) <= 1.01 * min(possible)


@pytest.mark.parametrize("noise", [1.0, 1e-3, 1e-6, 0.0])
def test_is_as_quiet_as_asked(noise: float) -> None:
    some = layers(0)
    assert total(until_quiet(some, noise), some) <= noise


def test_takes_the_narrowest_where_nothing_fits() -> None:
    assert within(layers(0), "bytes", 10) == narrowest(layers(0), "bytes") == [2] * 5
