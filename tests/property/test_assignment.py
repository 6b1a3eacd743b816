"""L8, and what else holds of every assignment. That the objective is the optimum: test_exact.py."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.decide.admission import NO_CAP
from pipeline.decide.assignment import (
    CLASSES,
    TOTAL,
    Problem,
    demand_kbps,
    load_of,
    nearest,
    solve,
)

MBPS = 1_000_000


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    sites = draw(st.integers(1, 6))
    rankings = draw(
        st.lists(
            st.lists(st.integers(0, sites - 1), min_size=1, max_size=sites, unique=True),
            min_size=1,
            max_size=12,
        )
    )
    amount = st.sampled_from([0, 0, 1, 999, 3 * MBPS, 10 * MBPS, 40 * MBPS, 7_777_777])
    room = st.sampled_from([0, MBPS, 10 * MBPS, 20 * MBPS, 55_555_555, 10**12])
    rows = len(rankings)
    demand = draw(st.lists(amount, min_size=rows * CLASSES, max_size=rows * CLASSES))
    per_class = np.array(draw(st.lists(room, min_size=sites * CLASSES, max_size=sites * CLASSES)))
    per_class = per_class.reshape(sites, CLASSES).astype(np.int64)
    total = np.array(draw(st.lists(room, min_size=sites, max_size=sites)), np.int64)
    counts = np.array([len(ranking) for ranking in rankings])
    steps = draw(
        st.lists(st.integers(0, 3), min_size=int(counts.sum()), max_size=int(counts.sum()))
    )
    cost = np.concatenate(
        [np.cumsum(part) for part in np.split(np.array(steps), np.cumsum(counts)[:-1])]
    )
    return problem(
        rankings,
        np.array(demand).reshape(rows, CLASSES),
        total,
        per_class,
        cost=cost,
        target=draw(st.sampled_from([9500, 10_000, 5000])),
    )


def problem(
    rankings: list[list[int]],
    demand: np.ndarray,
    site_bps: np.ndarray,
    class_bps: np.ndarray,
    *,
    cost: np.ndarray | None = None,
    target: int = TOTAL,
) -> Problem:
    counts = [len(ranking) for ranking in rankings]
    rank = np.concatenate([np.arange(count) for count in counts])
    return Problem(
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        owner=np.repeat(np.arange(len(rankings)), counts).astype(np.int32),
        site=np.concatenate([np.array(ranking) for ranking in rankings]).astype(np.int32),
        cost=(rank if cost is None else cost).astype(np.int64),
        group=np.arange(len(rankings), dtype=np.uint64) * np.uint64(7919) % np.uint64(13),
        demand_bps=demand.astype(np.int64),
        eligible=(class_bps > 0) & (site_bps > 0)[:, None],
        resort=np.zeros_like(class_bps, np.bool_),
        cap=np.full(len(site_bps), NO_CAP, np.int64),
        site_bps=site_bps.astype(np.int64),
        class_bps=class_bps.astype(np.int64),
        target=target,
        other_load=np.zeros_like(class_bps, np.int64),
        held=np.zeros((sum(counts), CLASSES), np.int16),
    )


@given(problems())
def test_shares_sum_to_ten_thousand_wherever_a_site_is_eligible(case: Problem) -> None:
    shares = solve(case).shares
    assert shares.min() >= 0
    able = case.eligible[case.site]
    assert not shares[~able].any()
    for first, end in pairwise(case.offsets):
        served = able[first:end].any(axis=0)
        assert (shares[first:end].sum(axis=0) == np.where(served, TOTAL, 0)).all()


@given(problems())
def test_groups_without_demand_stay_at_their_nearest_site(case: Problem) -> None:
    shares, base = solve(case).shares, nearest(case)
    for group, klass in zip(*np.nonzero(case.demand_bps == 0), strict=True):
        if base[group, klass] >= 0:
            assert shares[base[group, klass], klass] == TOTAL


@given(problems())
def test_the_load_reported_is_the_load_of_the_shares(case: Problem) -> None:
    solution = solve(case)
    assert (solution.load == load_of(case, solution.shares)).all()


@given(problems())
def test_l8_no_site_is_above_target_while_an_eligible_alternative_has_room(case: Problem) -> None:
    solution = solve(case)
    limit_site = case.site_bps // 1000 * case.target
    limit_class = case.class_bps // 1000 * case.target
    over_site = solution.load.sum(axis=1) > limit_site
    over = (solution.load > limit_class) | (over_site[:, None] & (solution.load > 0))
    room = np.minimum(
        limit_class - solution.load, (limit_site - solution.load.sum(axis=1))[:, None]
    )
    demand = demand_kbps(case.demand_bps)
    for group, (first, end) in enumerate(pairwise(case.offsets)):
        for klass in range(CLASSES):
            for entry in range(first, end):
                if not (solution.shares[entry, klass] and over[case.site[entry], klass]):
                    continue
                later = case.site[entry + 1 : end]
                able = case.eligible[later, klass] & (room[later, klass] >= demand[group, klass])
                assert not (demand[group, klass] and able.any())


@given(problems())
def test_no_site_is_overloaded_that_was_not_by_more_than_crumbs(case: Problem) -> None:
    """Ten-thousandths that fit nowhere stay above target, where everything around is full."""
    crumbs = 10 * int(demand_kbps(case.demand_bps).max(initial=0))
    before, after = load_of(case, _base(case)), solve(case).load
    limit_site = case.site_bps // 1000 * case.target
    limit_class = case.class_bps // 1000 * case.target
    assert (after.sum(axis=1) <= np.maximum(limit_site, before.sum(axis=1)) + crumbs).all()
    assert (after <= np.maximum(limit_class, before) + crumbs).all()


@given(problems())
def test_every_assignment_is_the_optimum(case: Problem) -> None:
    solution = solve(case)
    assert solution.exact
    crumbs = len(case.group) * int(demand_kbps(case.demand_bps).max(initial=0))
    room = case.class_bps // 1000 * case.target - solution.load
    over_all = case.site_bps // 1000 * case.target - solution.load.sum(axis=1)
    room = np.minimum(room, over_all[:, None])
    assert not solution.price[room > crumbs].any()


@given(problems())
def test_nothing_moves_where_nothing_overloads(case: Problem) -> None:
    solution, base = solve(case), _base(case)
    if not (solution.spilled.any() or solution.overflow.any()):
        assert (solution.shares == base).all()


@given(problems(), st.randoms(use_true_random=False))
def test_the_answer_does_not_depend_on_the_order_of_the_groups(
    case: Problem, random: object
) -> None:
    unique = case.group * np.uint64(1000) + np.arange(len(case.group), dtype=np.uint64)
    order = list(range(len(case.group)))
    random.shuffle(order)  # type: ignore[attr-defined]
    entries = np.concatenate([np.arange(case.offsets[g], case.offsets[g + 1]) for g in order])
    counts = np.diff(case.offsets)[order]
    shuffled = Problem(
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        owner=np.repeat(np.arange(len(order)), counts).astype(np.int32),
        site=case.site[entries],
        cost=case.cost[entries],
        group=unique[order],
        demand_bps=case.demand_bps[order],
        eligible=case.eligible,
        resort=case.resort,
        cap=case.cap,
        site_bps=case.site_bps,
        class_bps=case.class_bps,
        target=case.target,
        other_load=case.other_load,
        held=case.held[entries],
    )
    straight = Problem(**{**{f: getattr(case, f) for f in case.__slots__}, "group": unique})
    assert (solve(straight).shares[entries] == solve(shuffled).shares).all()


def _base(case: Problem) -> np.ndarray:
    shares = np.zeros((len(case.site), CLASSES), np.int16)
    first = nearest(case)
    for klass in range(CLASSES):
        shares[first[first[:, klass] >= 0, klass], klass] = TOTAL
    return shares


def test_a_full_site_gives_the_cheapest_part_to_the_next() -> None:
    """Two groups of 10 Mb/s at a site for 12: the one that loses less by moving gives 8."""
    demand = np.array([[10 * MBPS, 0, 0], [10 * MBPS, 0, 0]])
    capacity = np.array([12 * MBPS, 100 * MBPS, 100 * MBPS])
    case = problem(
        [[0, 1], [0, 2]],
        demand,
        capacity,
        np.repeat(capacity[:, None], 3, axis=1),
        cost=np.array([0, 5, 0, 3]),
    )
    solution = solve(case)
    assert solution.shares[:, 0].tolist() == [10_000, 0, 2_000, 8_000]
    assert solution.spilled.tolist() == [True, False, False]
    assert solution.taking.tolist() == [False, False, True]
    assert not solution.overflow.any()


def test_what_finds_no_room_stays_nearest_and_is_reported() -> None:
    demand = np.array([[10 * MBPS, 0, 0]])
    capacity = np.array([4 * MBPS, 2 * MBPS])
    case = problem([[0, 1]], demand, capacity, np.repeat(capacity[:, None], 3, axis=1))
    solution = solve(case)
    assert solution.shares[:, 0].tolist() == [8_000, 2_000]
    assert solution.overflow.tolist() == [4_000 * TOTAL, 0]


def test_a_link_limits_a_site_across_classes_and_vod_moves_first() -> None:
    demand = np.array([[6 * MBPS, 6 * MBPS, 0]])
    case = problem(
        [[0, 1]],
        demand,
        np.array([9 * MBPS, 50 * MBPS]),
        np.full((2, 3), 50 * MBPS),
    )
    assert solve(case).shares[:, :2].tolist() == [[5_000, 10_000], [5_000, 0]]


@pytest.mark.parametrize("moved", [0, 1])
def test_other_load_counts_and_does_not_move(moved: int) -> None:
    demand = np.array([[5 * MBPS, 0, 0]])
    capacity = np.full((2, 3), 10 * MBPS)
    case = problem([[0, 1]], demand, capacity[:, 0], capacity)
    case.other_load[0, 0] = moved * 9_000 * TOTAL
    assert solve(case).shares[:, 0].tolist() == ([2_000, 8_000] if moved else [10_000, 0])
