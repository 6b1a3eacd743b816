"""Sites on their way out of service and back: the pace, who has no other site, what returns."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.decide.assignment import CLASSES, TOTAL
from pipeline.decide.eligibility import DRAINED, ELIGIBLE, Eligibility
from pipeline.decide.shares import RegionShares
from pipeline.state.drains import FULL, Drain
from tests.property.test_shares import DEMAND, EVERY, MBPS, RANKINGS, SITES, region

NONE = np.zeros(SITES, np.bool_)
OUT = st.sets(st.integers(0, SITES - 1), min_size=1, max_size=SITES)
TARGET, MIN_SHIFT, STEP = 9_500, 100, 8_000


def admitting(shares: list[int], capacity_bps: int) -> Eligibility:
    """Of each site this share is admitted."""
    admitted = np.array(shares, np.int64)
    status = np.where(admitted[:, None] > 0, ELIGIBLE, DRAINED) * np.ones((1, CLASSES), np.int64)
    class_bps = np.full((SITES, CLASSES), capacity_bps, np.int64)
    site_bps = np.full(SITES, capacity_bps, np.int64)
    whole, panic = np.full(SITES, TOTAL, np.int64), status < 0
    return Eligibility(
        status.astype(np.uint8), panic, site_bps, class_bps, admitted, whole, NONE.copy()
    )


def plan(
    shares: RegionShares, demand: np.ndarray, out: set[int], share: int, capacity_bps: int
) -> np.ndarray:
    """Plan with `share` admitted at the sites in `out`; load of each site."""
    now = admitting([share if site in out else TOTAL for site in range(SITES)], capacity_bps)
    changed = EVERY if share in (0, TOTAL) else NONE
    shares.plan(now, changed, demand, TARGET, MIN_SHIFT, STEP)
    return shares.sites.load.sum(axis=1)


def demand_of(rankings: list[list[int]], demand: list[int]) -> np.ndarray:
    return np.array(demand, np.int64).reshape(10, CLASSES)[: len(rankings)]


@settings(max_examples=40, deadline=None)
@given(RANKINGS, DEMAND, OUT, st.integers(2, 30), st.sampled_from([40 * MBPS, 10**12]))
def test_no_step_takes_more_than_its_part_and_the_last_leaves_only_who_has_no_other(
    rankings: list[list[int]], demand: list[int], out: set[int], steps: int, capacity_bps: int
) -> None:
    shares, demand_bps = region(rankings), demand_of(rankings, demand)
    start = plan(shares, demand_bps, out, TOTAL, capacity_bps)
    before, unpaced = start, demand_bps.sum() // 1000 * MIN_SHIFT
    for step in range(1, steps + 1):
        share = TOTAL * (steps - step) // steps
        after = plan(shares, demand_bps, out, share, capacity_bps)
        if share:
            ceiling = start // TOTAL * share
            for site in out:
                lost = before[site] - after[site]
                fell_behind = max(before[site] - ceiling[site], 0)
                assert lost <= fell_behind + unpaced
        before = after
    groups = shares.groups
    for slot, ranking in enumerate(rankings):
        first = groups.offsets[slot]
        stays = groups.shares[first : first + len(ranking)] > 0
        alone = set(ranking) <= out
        assert stays.any(axis=0).all()  # L7
        held = np.isin(ranking, list(out))
        assert stays[held].any() == alone


@settings(max_examples=40, deadline=None)
@given(RANKINGS, DEMAND, OUT, st.lists(st.integers(1, TOTAL - 1), max_size=6))
def test_with_room_for_all_what_is_undone_leaves_no_more_than_is_not_worth_moving(
    rankings: list[list[int]], demand: list[int], out: set[int], path: list[int]
) -> None:
    shares, demand_bps = region(rankings), demand_of(rankings, demand)
    plan(shares, demand_bps, out, TOTAL, 10**12)
    groups = shares.groups
    held, passed = groups.shares.copy(), groups.passed.copy()
    for share in [*path, 0, *path]:
        plan(shares, demand_bps, out, share, 10**12)
    for _ in range(3):  # four fifths of the way each
        plan(shares, demand_bps, out, TOTAL, 10**12)
    assert np.abs(groups.shares.astype(np.int64) - held).max() < MIN_SHIFT
    same = np.ones(len(rankings), np.bool_)
    same[groups.owner[(groups.shares != held).any(axis=1)]] = False
    assert np.array_equal(groups.passed[same[groups.owner]], passed[same[groups.owner]])


@given(st.integers(0, FULL), st.sampled_from([0, FULL]), st.integers(1, 10**7), st.data())
def test_a_share_never_jumps_nor_turns_back(
    start: int, end: int, length: int, data: st.DataObject
) -> None:
    drain = Drain(start, end, 1000, 1000 + length)
    moments = sorted(data.draw(st.lists(st.integers(1000, 2000 + length), min_size=2)))
    seen = [drain.share(at) for at in moments]
    assert seen == sorted(seen, reverse=start > end)
    assert drain.share(1000) == start
    assert drain.share(1000 + length) == end
    for (at, then), (share, after) in zip(pairwise(moments), pairwise(seen), strict=True):
        assert abs(after - share) <= abs(end - start) * (then - at) // length + 1
