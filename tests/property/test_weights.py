"""L6: weights are non-negative integers that sum to 10,000; losing one moves only its share."""

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.decide.seats import TOTAL, apportion, apportion_each

CAPACITIES = st.lists(
    st.one_of(
        st.integers(0, 5),
        st.sampled_from([10_000_000_000, 40_000_000_000, 100_000_000_000]),
        st.integers(0, 10**12),
        st.integers(0, 2**63 - 1),
    ),
    min_size=1,
    max_size=40,
)


def highest_averages(capacities: list[int], total: int) -> list[int]:
    """The definition, seat by seat."""
    seats = [0] * len(capacities)
    for _ in range(total if sum(capacities) else 0):
        chosen = max(
            range(len(seats)), key=lambda i: (Fraction(capacities[i], 2 * seats[i] + 1), -i)
        )
        seats[chosen] += 1
    return seats


@given(CAPACITIES)
def test_l6_weights_are_not_negative_and_sum_to_ten_thousand(capacities: list[int]) -> None:
    weights = apportion(capacities)
    assert min(weights) >= 0
    assert sum(weights) == (TOTAL if sum(capacities) else 0)


@given(CAPACITIES, st.integers(0, 120))
def test_equals_the_seat_by_seat_definition(capacities: list[int], total: int) -> None:
    assert apportion(capacities, total) == highest_averages(capacities, total)


@given(CAPACITIES, st.data())
def test_l6_losing_one_appliance_never_lowers_another(
    capacities: list[int], data: st.DataObject
) -> None:
    lost = data.draw(st.integers(0, len(capacities) - 1))
    before = apportion(capacities)
    after = apportion([0 if i == lost else c for i, c in enumerate(capacities)])
    if not sum(after):
        return
    assert after[lost] == 0
    gained = [b - a for i, (a, b) in enumerate(zip(before, after, strict=True)) if i != lost]
    assert all(gain >= 0 for gain in gained)
    assert sum(gained) == before[lost]


@given(CAPACITIES)
def test_equal_machines_differ_by_at_most_one(capacities: list[int]) -> None:
    weights = apportion(capacities)
    for capacity in set(capacities):
        equal = [w for w, c in zip(weights, capacities, strict=True) if c == capacity]
        assert max(equal) - min(equal) <= 1
        assert equal == sorted(equal, reverse=True)


SITES = st.lists(CAPACITIES.filter(any), min_size=1, max_size=6)


@given(SITES)
def test_many_sites_at_once_get_what_each_gets_alone(sites: list[list[int]]) -> None:
    starts = np.cumsum([0, *map(len, sites[:-1])])
    whole = np.array([votes for site in sites for votes in site], np.int64)
    alone = [seats for site in sites for seats in apportion(site)]
    assert apportion_each(whole, starts).tolist() == alone


@given(st.lists(st.integers(1, 2**61), min_size=1, max_size=8), st.integers(0, 10**4))
def test_quotients_that_doubles_cannot_tell_apart(votes: list[int], seats: int) -> None:
    """Beside each a machine that is one bps larger, or of which one seat more is as dear."""
    near = [*votes, *(one + 1 for one in votes), *(one // 3 * (2 * seats + 1) for one in votes)]
    whole = np.array([min(one, 2**61) for one in near], np.int64)
    assert apportion_each(whole, np.zeros(1, np.int64)).tolist() == apportion(whole.tolist())
