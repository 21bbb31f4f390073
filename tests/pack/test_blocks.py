"""A block of numbers takes the fewest bytes, whatever the numbers are like."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from onnxslim.errors import ModelError
from onnxslim.pack import blocks
from onnxslim.pack.planes import KINDS, Kind
from onnxslim.pack.text import zstd

RNG = np.random.default_rng(0)
FLOAT, BYTE = Kind(4, True), Kind(1, False)
NORMAL = RNG.normal(0, 0.05, 20_000).astype("<f4")


def packed(data: bytes, kind: Kind) -> int:
    """Return the bytes that *data* takes, having unpacked it again."""
    block = blocks.encode(data, kind)
    assert blocks.decode(memoryview(block), len(data), kind) == data
    return len(block)


@given(st.integers(0, KINDS - 2), st.binary(max_size=40), st.integers(1, 30))
@example(0, b"", 1)
def test_any_bytes_come_back(code: int, raw: bytes, times: int) -> None:
    kind = Kind.of(code)
    assert packed(raw * times * kind.width, kind) <= len(raw) * times * kind.width + 1


def test_floats_take_less_than_by_zstandard() -> None:
    assert packed(NORMAL.tobytes(), FLOAT) < 0.91 * len(zstd(NORMAL.tobytes()))


def test_half_precision_stored_as_single_takes_less_than_half() -> None:
    halves = NORMAL.astype("<f2").astype("<f4")
    assert packed(halves.tobytes(), FLOAT) < 0.48 * halves.nbytes


def test_zeros_between_floats_cost_little() -> None:
    sparse = np.where(RNG.random(NORMAL.size) < 0.1, NORMAL, np.float32(0)).astype("<f4")
    assert packed(sparse.tobytes(), FLOAT) < 0.105 * sparse.nbytes


def test_a_codebook_is_found() -> None:
    codes = RNG.integers(0, 16, NORMAL.size)
    shared = NORMAL[:16][codes]
    assert packed(shared.tobytes(), FLOAT) < 1.02 * NORMAL.size / 2 + 64


@pytest.mark.parametrize(
    ("width", "base", "count"),
    [(1, 16, 2), (1, 6, 3), (1, 3, 5), (1, 2, 8), (2, 9, 5)],
)
def test_codes_packed_in_words_take_their_entropy(width: int, base: int, count: int) -> None:
    share = 0.5 ** np.arange(1, base + 1)
    share /= share.sum()
    digits = RNG.choice(base, (4_000, count), p=share)
    data = (digits @ base ** np.arange(count)).astype(f"<u{width}")
    entropy = -(share * np.log2(share)).sum() * digits.size / 8
    assert packed(data.tobytes(), Kind(width, False)) < 1.02 * entropy + 48


def test_repetition_is_left_to_zstandard() -> None:
    data = RNG.integers(0, 256, 5_000, np.uint8).tobytes() * 4
    assert packed(data, BYTE) < 5_200


def test_small_integers_in_wide_words_take_their_entropy() -> None:
    data = RNG.integers(-8, 8, 4_000).astype("<i8")
    assert packed(data.tobytes(), Kind(8, False)) < 1.03 * data.size / 2 + 64


@pytest.mark.parametrize("method", [blocks.STORED, blocks.ZSTD, blocks.PLANES, 9])
def test_a_block_cut_short_is_refused(method: int) -> None:
    with pytest.raises(ModelError):
        blocks.decode(memoryview(bytes((method, 1))), 8, FLOAT)
