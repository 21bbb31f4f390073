"""Symbols are coded near their entropy and come back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxslim.errors import ModelError
from onnxslim.pack.coder import PRIORS, STORED, Decoder, Encoder, ways
from onnxslim.pack.planes import Symbols


def coded(symbols: Symbols, alphabet: int, way: int) -> Encoder:
    encoder = Encoder()
    encoder.group(symbols, alphabet, way)
    return encoder


def decoder(encoder: Encoder) -> Decoder:
    return Decoder(memoryview(bytes(encoder.stored)), memoryview(encoder.words()))


@given(
    st.lists(st.integers(0, 6), max_size=200),
    st.sampled_from(range(len(PRIORS))),
    st.integers(7, 300),
)
def test_symbols_come_back(symbols: list[int], way: int, alphabet: int) -> None:
    encoder = coded(np.array(symbols, np.uint8), alphabet, way)
    assert decoder(encoder).group(len(symbols), alphabet).tolist() == symbols


def test_choices_come_back_in_order() -> None:
    encoder = Encoder()
    for choice in (3, 0, 7):
        encoder.choose(choice, 8)
    source = decoder(encoder)
    assert [source.choose(8) for _ in range(3)] == [3, 0, 7]


def test_takes_little_more_than_the_entropy() -> None:
    rng = np.random.default_rng(0)
    share = np.array([0.7, 0.2, 0.06, 0.04])
    symbols = rng.choice(4, 20_000, p=share).astype(np.uint8)
    entropy = -(share * np.log2(share)).sum() * len(symbols) / 8
    way = int(ways(np.bincount(symbols)[None])[0][0])
    assert len(coded(symbols, 4, way).words()) < 1.02 * entropy


def test_the_estimate_is_near_what_is_written() -> None:
    rng = np.random.default_rng(1)
    symbols = np.clip(rng.normal(100, 9, 5_000), 0, 255).astype(np.uint8)
    best, bits = ways(np.bincount(symbols, minlength=256)[None])
    written = len(coded(symbols, 256, int(best[0])).words())
    assert bits[0] / 8 == pytest.approx(written, rel=0.02)


def test_noise_is_stored() -> None:
    noise = np.random.default_rng(2).integers(0, 256, 5_000)
    assert ways(np.bincount(noise, minlength=256)[None])[0].tolist() == [STORED]


def test_stored_bytes_beyond_the_alphabet_are_refused() -> None:
    encoder = coded(np.array([9], np.uint8), 10, STORED)
    with pytest.raises(ModelError, match="does not exist"):
        decoder(encoder).group(1, 4)
