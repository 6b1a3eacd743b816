"""Shares as they are kept: reacting equals planning where it must, pacing, who is passed over."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.decide.assignment import CLASSES, TOTAL
from pipeline.decide.eligibility import ELIGIBLE, Eligibility
from pipeline.decide.serving import Ranked
from pipeline.decide.shares import PATH_LOSS, ROUTE_DAMPED, SITE_FULL, RegionShares

SITES = 5
MBPS = 1_000_000
RANKINGS = st.lists(
    st.lists(st.integers(0, SITES - 1), min_size=1, max_size=SITES, unique=True),
    min_size=1,
    max_size=10,
)
STATUS = st.lists(
    st.sampled_from([0, 0, 0, 1, 2]), min_size=SITES * CLASSES, max_size=SITES * CLASSES
)
DEMAND = st.lists(
    st.sampled_from([0, MBPS, 7 * MBPS, 30 * MBPS]), min_size=10 * CLASSES, max_size=10 * CLASSES
)


def ranked(rankings: list[list[int]], first_id: int = 1) -> Ranked:
    """Groups of these sites, of which the third is damped and later ones lossy."""
    site = np.array([site for ranking in rankings for site in ranking], np.int32)
    return Ranked(
        group=np.arange(first_id, first_id + len(rankings), dtype=np.uint64),
        count=np.array([len(ranking) for ranking in rankings], np.int64),
        site=site,
        tier=np.zeros(len(site), np.int32),
        as_path_len=np.ones(len(site), np.int32),
        med=np.full(len(site), -1, np.int64),
        rtt_ms=np.full(len(site), -1, np.int32),
        distance_km=np.full(len(site), -1, np.int32),
        last=np.array(
            [min(max(rank - 1, 0), 2) for ranking in rankings for rank in range(len(ranking))],
            np.uint8,
        ),
    )


def eligibility(status: list[int], capacity_bps: int = 40 * MBPS) -> Eligibility:
    codes = np.array(status, np.uint8).reshape(SITES, CLASSES)
    class_bps = np.where(codes == ELIGIBLE, capacity_bps, 0)
    whole = np.full(SITES, TOTAL, np.int64)
    panic = np.zeros(codes.shape, bool)
    return Eligibility(
        codes, panic, class_bps.max(axis=1), class_bps, whole, whole, np.zeros(SITES, bool)
    )


def region(rankings: list[list[int]]) -> RegionShares:
    shares = RegionShares()
    shares.groups.change(ranked(rankings), np.empty(0, np.uint64))
    return shares


EVERY = np.ones(SITES, bool)


def check(shares: RegionShares, now: Eligibility) -> None:
    """Sums, no share with a site that may not, and who is passed over, by brute force."""
    groups = shares.groups
    for slot, (first, end) in enumerate(pairwise(groups.offsets.tolist())):
        if not groups.alive[slot]:
            continue
        for klass in range(CLASSES):
            share = groups.shares[first:end, klass]
            status = now.status[groups.site[first:end], klass]
            assert share.sum() == (TOTAL if (status == ELIGIBLE).any() else 0)
            assert not share[status != ELIGIBLE].any()
            last = max(np.flatnonzero(share), default=len(share))
            expected = [
                0 if part
                else int(code) or SITE_FULL if rank < last
                else int(code) or (ROUTE_DAMPED if rank == 2 else PATH_LOSS) if rank > 1
                else 0
                for rank, (code, part) in enumerate(zip(status, share, strict=True))
            ]  # fmt: skip
            assert groups.passed[first:end, klass].tolist() == expected


@given(RANKINGS, STATUS, STATUS, DEMAND)
def test_every_group_is_served_by_sites_that_may_and_says_whom_it_passed_over(
    rankings: list[list[int]], before: list[int], after: list[int], demand: list[int]
) -> None:
    shares = region(rankings)
    demand_bps = np.array(demand).reshape(10, CLASSES)[: len(rankings)]
    shares.plan(eligibility(before), EVERY, demand_bps, 9_500, 100, 10_000)
    check(shares, eligibility(before))
    changed = (eligibility(before).status != eligibility(after).status).any(axis=1)
    shares.react(eligibility(after), changed, 9_500, 100)
    check(shares, eligibility(after))
    shares.plan(eligibility(after), ~EVERY, demand_bps, 9_500, 100, 10_000)
    check(shares, eligibility(after))


@given(RANKINGS, STATUS, STATUS, DEMAND)
def test_reacting_touches_only_groups_that_name_a_changed_site(
    rankings: list[list[int]], before: list[int], after: list[int], demand: list[int]
) -> None:
    shares = region(rankings)
    groups = shares.groups
    demand_bps = np.array(demand).reshape(10, CLASSES)[: len(rankings)]
    shares.plan(eligibility(before), EVERY, demand_bps, 9_500, 0, 10_000)
    groups.dirty[:] = False
    old = groups.shares.copy()
    changed = (eligibility(before).status != eligibility(after).status).any(axis=1)
    shares.react(eligibility(after), changed, 9_500, 0)
    names = np.array([changed[ranking].any() for ranking in rankings])
    moved = (groups.shares != old).any(axis=1)
    assert not moved[~names[groups.owner]].any()
    assert not groups.dirty[~names].any()
    assert groups.dirty[groups.owner[moved]].all()


@given(RANKINGS, STATUS, STATUS)
def test_without_load_reacting_is_planning(
    rankings: list[list[int]], before: list[int], after: list[int]
) -> None:
    nothing = np.zeros((len(rankings), CLASSES), np.int64)
    reacted, planned = region(rankings), region(rankings)
    reacted.plan(eligibility(before), EVERY, nothing, 9_500, 100, 10_000)
    changed = (eligibility(before).status != eligibility(after).status).any(axis=1)
    reacted.react(eligibility(after), changed, 9_500, 100)
    planned.plan(eligibility(after), EVERY, nothing, 9_500, 100, 10_000)
    assert (reacted.groups.shares == planned.groups.shares).all()
    assert (reacted.groups.passed == planned.groups.passed).all()


@given(RANKINGS, RANKINGS, STATUS, st.sets(st.integers(1, 10)))
def test_groups_may_come_and_go(
    rankings: list[list[int]], more: list[list[int]], status: list[int], died: set[int]
) -> None:
    shares, now = region(rankings), eligibility(status)
    shares.plan(now, EVERY, np.zeros((len(rankings), CLASSES), np.int64), 9_500, 100, 10_000)
    shares.groups.change(ranked(more, first_id=100), np.array(sorted(died), np.uint64))
    size = len(shares.groups.alive)
    shares.plan(now, ~EVERY, np.zeros((size, CLASSES), np.int64), 9_500, 100, 10_000)
    check(shares, now)
    survivors = {number for number in range(1, len(rankings) + 1) if number not in died}
    expected = {number: rankings[number - 1] for number in survivors}
    expected |= {100 + number: ranking for number, ranking in enumerate(more)}
    groups = shares.groups
    assert len(groups) == len(expected)
    for group, ranking in expected.items():
        slot = int(groups.slots(np.array([group], np.uint64))[0])
        assert groups.site[groups.offsets[slot] : groups.offsets[slot + 1]].tolist() == ranking
    for group in died:
        assert groups.slots(np.array([group], np.uint64))[0] == -1


def test_a_planned_shift_below_the_least_is_not_made() -> None:
    """One group, two sites of 40 Mb/s: 40.0 and 40.2 Mb/s of demand differ by half a per cent."""
    shares, now = region([[0, 1]]), eligibility([0] * SITES * CLASSES)
    shares.plan(now, EVERY, np.array([[40 * MBPS, 0, 0]]), 9_500, 100, 10_000)
    assert shares.groups.shares[:, 0].tolist() == [9_500, 500]
    shares.plan(now, ~EVERY, np.array([[40_200_000, 0, 0]]), 9_500, 100, 10_000)
    assert shares.groups.shares[:, 0].tolist() == [9_500, 500]
    shares.plan(now, ~EVERY, np.array([[41 * MBPS, 0, 0]]), 9_500, 100, 10_000)
    assert shares.groups.shares[:, 0].tolist() == [9_268, 732]


def test_a_failure_is_not_paced() -> None:
    shares, now = region([[0, 1, 2]]), eligibility([0] * SITES * CLASSES)
    shares.plan(now, EVERY, np.array([[38_100_000, 0, 0]]), 9_500, 100, 10_000)
    assert shares.groups.shares[:, 0].tolist() == [9_973, 27, 0]
    lost = eligibility([0] * 3 + [1] * 3 + [0] * 9)
    shares.react(lost, np.array([False, True, False, False, False]), 9_500, 100)
    assert shares.groups.shares[:, 0].tolist() == [9_973, 0, 27]


def test_reacting_counts_the_load_that_others_keep() -> None:
    """Site 0 fails; site 1 has room for half of what it leaves, because another group fills it."""
    shares, now = region([[0, 1, 2], [1, 2]]), eligibility([0] * SITES * CLASSES)
    demand = np.array([[38 * MBPS, 0, 0], [19 * MBPS, 0, 0]])
    shares.plan(now, EVERY, demand, 9_500, 100, 10_000)
    lost = eligibility([1] * 3 + [0] * 12)
    shares.react(lost, np.array([True, False, False, False, False]), 9_500, 100)
    assert shares.groups.shares[:, 0].tolist() == [0, 5_000, 5_000, 10_000, 0]


def load_by_hand(shares: RegionShares) -> list[list[int]]:
    """What the shares of the living groups come to at each site."""
    groups, load = shares.groups, [[0] * CLASSES for _ in range(SITES)]
    for slot, (first, end) in enumerate(pairwise(groups.offsets.tolist())):
        for entry in range(first, end) if groups.alive[slot] else ():
            for klass, bps in enumerate(groups.demand_bps[slot].tolist()):
                share = int(groups.shares[entry, klass])
                load[groups.site[entry]][klass] += -(-bps // 1000) * share
    return load


@given(RANKINGS, RANKINGS, STATUS, DEMAND, DEMAND, st.sets(st.integers(1, 10)), st.data())
def test_settling_decides_the_groups_named_and_keeps_the_account_of_load(
    rankings: list[list[int]],
    more: list[list[int]],
    status: list[int],
    demand: list[int],
    later: list[int],
    died: set[int],
    data: st.DataObject,
) -> None:
    shares, now = region(rankings), eligibility(status)
    demand_bps = np.array(demand).reshape(10, CLASSES)[: len(rankings)]
    shares.plan(now, EVERY, demand_bps, 9_500, 100, 10_000)
    shares.change(ranked(more, first_id=100), np.array(sorted(died), np.uint64))
    groups = shares.groups
    born = groups.slots(np.arange(100, 100 + len(more), dtype=np.uint64))
    living = set(np.flatnonzero(groups.alive).tolist()) - set(born.tolist())
    others = data.draw(st.sets(st.sampled_from(sorted(living)))) if living else set()
    slots = np.array(sorted({*born.tolist(), *others}), np.int64)
    before, kept = groups.shares.copy(), ~np.isin(groups.owner, slots)
    demand_bps = np.resize(np.array(later, np.int64), (len(slots), CLASSES))
    shares.settle(slots, demand_bps, now, 9_500, 100)
    check(shares, now)
    assert (groups.shares == before)[kept].all()
    assert (groups.demand_bps[slots] == demand_bps).all()
    assert shares.sites.load.tolist() == load_by_hand(shares)


@given(RANKINGS, STATUS, DEMAND, DEMAND)
def test_settling_all_groups_is_planning_where_nothing_overloads(
    rankings: list[list[int]], status: list[int], demand: list[int], later: list[int]
) -> None:
    settled, planned = region(rankings), region(rankings)
    now = eligibility(status, capacity_bps=1_000 * MBPS)
    for shares in (settled, planned):
        first = np.array(demand).reshape(10, CLASSES)[: len(rankings)]
        shares.plan(now, EVERY, first, 9_500, 0, 10_000)
    then = np.array(later).reshape(10, CLASSES)[: len(rankings)]
    settled.settle(np.arange(len(rankings)), then, now, 9_500, 0)
    planned.plan(now, ~EVERY, then, 9_500, 0, 10_000)
    assert (settled.groups.shares == planned.groups.shares).all()
    assert (settled.sites.load == planned.sites.load).all()


def test_what_pacing_left_above_target_is_no_overflow_when_others_are_settled() -> None:
    """Of 40.2 Mb/s 200 kb/s are not worth a shift from a site of 38: they have room elsewhere."""
    shares, now = region([[0, 1], [2], [0]]), eligibility([0] * SITES * CLASSES)
    demand = np.array([[40 * MBPS, 0, 0], [0, 0, 0], [0, 0, 0]])
    shares.plan(now, EVERY, demand, 9_500, 100, 10_000)
    demand[0, 0] = 40_200_000
    shares.plan(now, ~EVERY, demand, 9_500, 100, 10_000)
    paced = [190_000 * TOTAL // 1000, 0, 0, 0, 0]
    assert not shares.sites.overflow.any()
    assert shares.sites.paced.tolist() == paced
    shares.settle(np.array([1]), np.array([[MBPS, 0, 0]]), now, 9_500, 100)
    assert not shares.sites.overflow.any()
    assert shares.sites.paced.tolist() == paced
    shares.settle(np.array([2]), np.array([[MBPS, 0, 0]]), now, 9_500, 100)
    assert shares.sites.overflow.tolist() == [1_000 * TOTAL, 0, 0, 0, 0]
    assert shares.sites.paced.tolist() == paced


@given(RANKINGS, STATUS, DEMAND, DEMAND, st.sets(st.integers(0, 9), min_size=1))
def test_all_that_is_above_target_is_overflow_or_paced(
    rankings: list[list[int]], status: list[int], demand: list[int], later: list[int], some: set
) -> None:
    shares, now = region(rankings), eligibility(status)
    demand_bps = np.array(demand).reshape(10, CLASSES)[: len(rankings)]
    shares.plan(now, EVERY, demand_bps, 9_500, 100, 10_000)
    slots = np.array(sorted(slot for slot in some if slot < len(rankings)), np.int64)
    for part in (slots[:0], slots):
        shares.settle(part, np.resize(later, (len(part), CLASSES)), now, 9_500, 100)
        load = shares.sites.load
        above = np.maximum(load - now.class_bps // 1000 * 9_500, 0).max(axis=1)
        above = np.maximum(above, load.sum(axis=1) - now.site_bps // 1000 * 9_500)
        assert (shares.sites.overflow + shares.sites.paced >= above).all()
        assert (shares.sites.paced <= above).all()


@given(
    st.lists(st.tuples(RANKINGS, st.sets(st.integers(1, 40), max_size=5)), max_size=4),
    st.lists(st.tuples(STATUS, DEMAND), min_size=2, max_size=4),
)
def test_looking_only_where_shares_differ_finds_all(
    changes: list[tuple[list[list[int]], set[int]]], plans: list[tuple[list[int], list[int]]]
) -> None:
    lean, full = RegionShares(), RegionShares()
    first, before = 1, np.full((SITES, CLASSES), 255)
    for number, (status, demand) in enumerate(plans):
        if number < len(changes):
            rankings, died = changes[number]
            gone = np.array(sorted(died), np.uint64)
            for shares in (lean, full):
                living = gone[shares.groups.slots(gone) >= 0]
                shares.change(ranked(rankings, first), living)
            first += len(rankings)
        now = eligibility(status)
        changed, before = (now.status != before).any(axis=1), now.status
        demand_bps = np.resize(np.array(demand, np.int64), (len(lean.groups.group), CLASSES))
        lean.plan(now, changed, demand_bps, 9_500, 100, 8_000)
        full.plan(now, EVERY, demand_bps, 9_500, 100, 8_000, everything=True)
        alive = lean.groups.alive
        entries = alive[lean.groups.owner]
        assert (lean.groups.shares == full.groups.shares)[entries].all()
        assert (lean.groups.passed == full.groups.passed)[entries].all()
        assert (lean.groups.dirty == full.groups.dirty)[alive].all()
        assert (lean.sites.load == full.sites.longer(SITES).load).all()
        assert (
            lean.groups.slots(full.groups.group[alive]).tolist() == np.flatnonzero(alive).tolist()
        )
