"""Planned shifts are made in part, and never at the cost of what a solution promises."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.decide.assignment import (
    CLASSES,
    TOTAL,
    Problem,
    above_target,
    demand_kbps,
    load_of,
    solve,
)
from pipeline.decide.pacing import part_way
from pipeline.decide.serving import I16
from tests.property.test_assignment import MBPS, problem, problems

SHIFT, STEP = 100, 8_000


def paced(case: Problem, new: I16, step: int = STEP) -> tuple[I16, np.ndarray]:
    """(shares, load) that are left of a solution's shares."""
    shares, load = new.copy(), load_of(case, new)
    part_way(load, case, shares, np.flatnonzero((case.held != new).reshape(-1)), SHIFT, step)
    return shares, load


@st.composite
def moves(draw: st.DrawFn) -> tuple[Problem, I16]:
    """A problem, its solution, and other shares of eligible sites that are held."""
    case = draw(problems())
    rng = np.random.default_rng(draw(st.integers(0, 1 << 20)))
    for group in range(len(case.group)):
        entries = slice(int(case.offsets[group]), int(case.offsets[group + 1]))
        for klass in range(CLASSES):
            parts = rng.integers(0, 4, case.offsets[group + 1] - case.offsets[group])
            if draw(st.booleans()):
                parts *= case.eligible[case.site[entries], klass]
            if parts.any():
                held = parts * TOTAL // parts.sum()
                held[np.argmax(held)] += TOTAL - held.sum()
                case.held[entries, klass] = held
    return case, solve(case, exactly=True).shares


def sums(case: Problem, shares: I16) -> np.ndarray:
    return np.add.reduceat(shares.astype(np.int64), case.offsets[:-1])


@given(moves())
def test_what_is_left_lies_between_and_sums_to_all(made: tuple[Problem, I16]) -> None:
    case, new = made
    shares, load = paced(case, new)
    low, high = np.minimum(case.held, new), np.maximum(case.held, new)
    assert ((low <= shares) & (shares <= high)).all()
    assert (sums(case, shares) == sums(case, new)).all()
    assert (load == load_of(case, shares)).all()


@given(moves())
def test_l8_no_site_is_further_above_target_than_in_the_solution(
    made: tuple[Problem, I16],
) -> None:
    case, new = made
    shares, _ = paced(case, new)
    assert (
        above_target(case, load_of(case, shares)) <= above_target(case, load_of(case, new))
    ).all()


@given(moves())
def test_what_failed_is_full_or_moves_nobody_is_gone_at_once(made: tuple[Problem, I16]) -> None:
    case, new = made
    shares, _ = paced(case, new)
    full = above_target(case, load_of(case, case.held)) > 0
    nobody = demand_kbps(case.demand_bps)[case.owner] == 0
    assert (shares == new)[nobody].all()
    site = case.site
    bad = (case.held > 0) & (~case.eligible[site] | full[site][:, None])
    hit = np.zeros((len(case.group), CLASSES), np.bool_)
    np.logical_or.at(hit, case.owner, bad)
    assert (shares == new)[hit[case.owner]].all()


@given(moves())
def test_a_whole_step_is_the_solution(made: tuple[Problem, I16]) -> None:
    case, new = made
    assert (paced(case, new, TOTAL)[0] == new).all()


@given(moves())
def test_l10_it_gets_there(made: tuple[Problem, I16]) -> None:
    case, new = made
    for plan in range(1, 4):
        case.held[:] = paced(case, new)[0]
        left = np.abs(case.held.astype(np.int64) - new).max(initial=0)
        assert left <= TOTAL * 0.2**plan + 1
        assert left == 0 or left >= SHIFT
    assert left == 0


def test_four_fifths_of_a_shift_are_made_and_shared_out_as_it_was() -> None:
    everything = np.full(3, 10**9)
    by_class = np.full((3, CLASSES), 10**9)
    case = problem([[0, 1, 2]], np.array([[3 * MBPS, 0, 0]]), everything, by_class)
    case.held[:, 0] = 10_000, 0, 0
    new = np.zeros_like(case.held)
    new[:, 0] = 5_000, 4_000, 1_000
    assert paced(case, new)[0][:, 0].tolist() == [6_000, 3_200, 800]
    new[:, 0] = 5_000, 3_333, 1_667
    assert paced(case, new)[0][:, 0].tolist() == [6_000, 2_667, 1_333]
    new[:, 0] = 9_501, 0, 499  # a fifth of that would be less than a hundredth
    assert paced(case, new)[0][:, 0].tolist() == [9_501, 0, 499]


def test_who_makes_room_for_a_failure_goes_wholly() -> None:
    """Group 0 must leave site 0, which is dead, for site 1; group 1 makes room there."""
    site_bps = np.array([0, 10 * MBPS, 10**9])
    by_class = np.repeat(site_bps[:, None], CLASSES, axis=1)
    demand = np.array([[10 * MBPS, 0, 0], [10 * MBPS, 0, 0]])
    case = problem([[0, 1], [1, 2]], demand, site_bps, by_class)
    case.held[:, 0] = 10_000, 0, 10_000, 0
    new = np.zeros_like(case.held)
    new[:, 0] = 0, 10_000, 0, 10_000
    assert not above_target(case, load_of(case, new)).any()
    assert (paced(case, new)[0] == new).all()
