"""Numbers of values and sets of channels: what the analysis of channels stands on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxslim.passes.channels._values import Places, Values, distinct

PAIRS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12)


def test_elements_that_are_spread_are_told_apart() -> None:
    values = Values()
    one, other = values.unknown("a", 1), values.unknown("b", 1)
    wide = [values.spread(known, 0, 3, broadcasts=False).base for known in (one, other)]
    assert len(set(np.concatenate(wide).tolist())) == 6


def test_equal_tensors_are_spread_to_equal_elements() -> None:
    values = Values()
    known = values.unknown("a", 1)
    first, again = (values.spread(known, 0, 3, broadcasts=False).base for _ in range(2))
    assert first.tolist() == again.tolist()


def test_what_moves_gets_numbers_that_nothing_else_has() -> None:
    values = Values()
    base = values.spread(values.unknown("a", 1), 0, 3, broadcasts=False).base[[0, 1, 1, 2]]
    first, second = values.moved(base), values.moved(base)
    assert first[1] == first[2]
    assert len({*base.tolist(), *first.tolist(), *second.tolist()}) == 9


def test_both_zeros_are_one_value() -> None:
    numbers = Values().numbers("key", np.array([0.0, -0.0, 1.0]))
    assert numbers[0] == numbers[1] != numbers[2]


@pytest.mark.parametrize("rows", [[3.0, 1.0, 3.0, 2.0], [1.0], []])
def test_distinct_rows_first_stand_where_they_do(rows: list[float]) -> None:
    column = np.array(rows)
    first, index = distinct([column])
    assert column[first][index].tolist() == rows
    assert len(first) == len(set(rows))


@given(PAIRS)
def test_ties_of_ties_are_one_set(pairs: list[tuple[int, int]]) -> None:
    places = Places()
    known = places.fresh(10)
    label = list(range(10))
    for left, right in pairs:
        places.tie(known[[left]], known[[right]])
        old, new = label[left], label[right]
        label = [new if item == old else item for item in label]
    sets = places.settled().of(known).tolist()
    assert [[a == b for b in sets] for a in sets] == [[a == b for b in label] for a in label]


@given(st.permutations(range(9)))
def test_a_chain_of_ties_is_one_set(order: list[int]) -> None:
    places = Places()
    known = places.fresh(10)
    chain = known[:-1][order], known[1:][order]
    places.tie(*chain)
    assert len(set(places.settled().of(known).tolist())) == 1
