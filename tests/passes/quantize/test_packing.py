"""How many codes go into how many bits."""

import math

import numpy as np
import pytest

from onnxslim.passes.quantize._packing import (
    PACKINGS,
    Packing,
    into_bytes,
    into_words,
    out_of_bytes,
    within,
)

WORDS = [packing for packing in PACKINGS if not packing.per_byte]


def codes(levels: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.random.default_rng(0).integers(0, levels, count)


@pytest.mark.parametrize("packing", WORDS, ids=lambda packing: f"{packing.levels}")
@pytest.mark.parametrize("count", [1, 100])
def test_digits_of_words_are_the_codes(packing: Packing, count: int) -> None:
    given = codes(packing.levels, count)
    digits = into_words(given, packing) // packing.powers % packing.levels
    assert digits.reshape(-1)[:count].tolist() == given.tolist()


@pytest.mark.parametrize("packing", WORDS, ids=lambda packing: f"{packing.levels}")
def test_the_largest_codes_fit(packing: Packing) -> None:
    largest = np.full(packing.per_word, packing.levels - 1)
    assert into_words(largest, packing).item() == packing.levels**packing.per_word - 1


@pytest.mark.parametrize("packing", PACKINGS, ids=lambda packing: f"{packing.levels}")
def test_bits_are_not_wasted(packing: Packing) -> None:
    assert packing.bits - math.log2(packing.levels) < 0.12


@pytest.mark.parametrize("bits", [2, 4])
def test_the_table_undoes_bytes(bits: int) -> None:
    given = codes(1 << bits, 99) - (1 << (bits - 1))
    found = out_of_bytes(bits)[into_bytes(given, bits)]
    assert found.reshape(-1)[:99].tolist() == given.tolist()


@pytest.mark.parametrize(("bits", "levels"), [(2, 4), (3, 7), (4, 16), (5, 28), (6, 52), (8, 256)])
def test_takes_no_more_than_so_many_bits(bits: int, levels: int) -> None:
    assert within(bits).levels == levels
