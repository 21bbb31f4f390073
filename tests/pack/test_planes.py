"""Numbers become planes of symbols and come back to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxslim.pack.planes import KINDS, TAGGED, Digits, Kind, packings


@given(st.integers(0, KINDS - 1), st.binary(max_size=64))
def test_numbers_come_back_to_the_bit(code: int, raw: bytes) -> None:
    kind = Kind.of(code)
    data = raw * kind.width
    if kind.tagged:
        data = b"".join(b"\x3d" + data[at : at + 4] for at in range(0, len(data), 4))
    assert kind.data(kind.numbers(data)) == data


@pytest.mark.parametrize("code", range(KINDS))
def test_a_kind_comes_back_from_its_code(code: int) -> None:
    assert Kind.of(code).code == code


def test_the_exponent_of_a_float_is_its_first_plane() -> None:
    values = Kind(4, True).numbers(np.array([1.0, -1.5, 1.99, 4.0], "<f4").tobytes())
    first, *_ = Digits(256, 4).split(values)
    assert first.symbols.tolist() == [127, 127, 127, 129]


def test_the_floats_of_an_attribute_lose_their_tags() -> None:
    floats = np.array([1.0, 2.0], "<f4").tobytes()
    tagged = b"\x3d" + floats[:4] + b"\x3d" + floats[4:]
    assert TAGGED.numbers(tagged).tolist() == Kind(4, True).numbers(floats).tolist()


@pytest.mark.parametrize(
    ("width", "largest"), [(1, size) for size in (1, 3, 26, 80, 215, 242, 255)] + [(2, 59_048)]
)
def test_packed_codes_come_back(width: int, largest: int) -> None:
    values = np.arange(largest + 1, dtype=f"u{width}")
    for digits in packings(largest):
        planes = [plane.symbols for plane in digits.split(values)]
        assert digits.join(planes, width).tolist() == values.tolist(), digits


def test_three_codes_to_base_six_in_a_byte_are_seen() -> None:
    assert Digits(6, 3) in packings(6**3 - 1)
