"""A site above its target is planned lower until it is there, and then rests (L10)."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.decide.relief import BAND, eased

TARGET = 9_500
BPS = st.integers(0, 9 * 10**17)


@given(st.lists(st.tuples(BPS, BPS), min_size=1, max_size=20))
def test_never_below_half_nor_above_all_and_nothing_is_taken_below_the_target(
    sites: list[tuple[int, int]],
) -> None:
    site, wanted = (np.array(column, np.int64) for column in zip(*sites, strict=True))
    planned = eased(site, wanted, TARGET)
    assert ((planned >= site // 2) & (planned <= site)).all()
    calm = wanted <= site // 10_000 * (TARGET + BAND)
    assert (planned[calm] == site[calm]).all()


@given(BPS, BPS, BPS)
def test_the_more_is_wanted_the_less_is_planned(site: int, one: int, other: int) -> None:
    low, high = sorted((one, other))
    planned = eased(np.array([site, site]), np.array([low, high]), TARGET)
    assert planned[0] >= planned[1]


@settings(deadline=None)
@given(st.floats(1.0, 3.0), st.sampled_from([5.0, 20.0, 75.0, 300.0]), st.integers(1, 8))
def test_an_overload_goes_away_without_ringing_whatever_the_delays(
    asked: float, follow_s: float, delay: int
) -> None:
    """Steps of 5 s; what plays want is known `delay` of them later; sessions above what is planned
    leave, and come as far as there is demand for the site at its target."""
    room = 10**12
    there, told = asked * room, [int(asked * room)] * delay
    crossings = 0
    for _ in range(int(40 * follow_s / 5) + 60):
        planned = int(eased(np.array([room]), np.array([told[0]]), TARGET)[0]) * TARGET / 10_000
        before = there
        there += (planned - there) * min(5 / follow_s, 1.0)
        told = [*told[1:], int(there)]
        crossings += (before <= TARGET * 1e8) != (there <= TARGET * 1e8)
    assert abs(there / room - TARGET / 10_000) < 0.011
    assert crossings <= 2
