"""Capacity that several cells share: never given twice, divided as they want it, and at rest once
they want the same again."""

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cell import Cell
from pipeline.cut import Cause
from pipeline.decide.sharing import divide, regrant, shares_of, targets
from pipeline.decide.transport import TOTAL
from pipeline.reasons import Reason
from pipeline.state.sharing import Claim, Grant
from tests.cell_world import GBPS
from tests.shared_world import REGIONS, SharedWorld

WANTS = st.lists(st.integers(0, TOTAL), min_size=1, max_size=6)
TARGET_BPS = 30 * GBPS * 95 // 100


@given(WANTS)
def test_a_division_is_of_all_and_max_min_fair(wants: list[int]) -> None:
    shares = divide(wants)
    assert sum(shares) == TOTAL
    assert min(shares) >= 0
    short = [(want, share) for want, share in zip(wants, shares, strict=True) if share < want]
    if not short:
        return
    level = min(share for _, share in short)
    for want, share in zip(wants, shares, strict=True):
        assert share <= max(level + 1, min(want, share))  # nobody has more than the shortest ...
        assert share <= want  # ... nor more than it wants


@given(WANTS, st.integers(0, 10**14))
def test_wants_as_shares_cover_what_is_wanted(wants: list[int], capacity_bps: int) -> None:
    for want, share in zip(wants, shares_of(wants, capacity_bps), strict=True):
        assert share == TOTAL or share * max(capacity_bps, 1) >= want * TOTAL


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 5), st.integers(0, 300))
def test_nothing_is_given_twice_however_late_words_are_and_whoever_is_silent(
    seed: int, regions: int, min_shift: int
) -> None:
    """The home and others as they would be, with words that take their time; what each uses."""
    random = Random(seed)
    names = [f"r{number}" for number in range(regions)]
    given_, claims = dict[str, Grant](), dict[str, Claim]()
    using, planned = dict.fromkeys(names[1:], Grant(0, 0)), TOTAL
    to_home: dict[str, list[Claim]] = {name: [] for name in names[1:]}
    to_them: dict[str, list[Grant]] = {name: [] for name in names[1:]}
    wants = [random.randrange(TOTAL) for _ in names]
    silent = random.choice(names[1:])
    for cut in range(1, 300):
        if cut < 150 and random.random() < 0.2:
            wants = [random.randrange(TOTAL) for _ in names]
        before = dict(given_)
        given_ = regrant(names, divide(wants), before, claims, planned, cut, min_shift)
        for name in names[1:]:
            if given_[name] != before.get(name, Grant(0, 0)):
                to_them[name].append(given_[name])
            if to_them[name] and random.random() < 0.5:
                using[name] = to_them[name].pop(0)
            if random.random() < 0.5 and not (name == silent and cut < 100):
                to_home[name].append(Claim(cut, 0, 0, 0, using[name].share, using[name].cut))
            if to_home[name] and random.random() < 0.5:
                claims[name] = to_home[name].pop(0)
        if random.random() < 0.5:
            planned = given_[names[0]].share
        at_home = max(planned, given_[names[0]].share)
        assert at_home + sum(one.share for one in using.values()) <= TOTAL
    for name, want in zip(names, divide(wants), strict=True):
        assert abs(given_[name].share - want) < max(min_shift, 1) * regions


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_three_cells_come_to_rest_on_one_shared_site_and_never_overload_it(seed: int) -> None:
    """L8, L10 across cells: 36 Gbit/s are wanted of 28.5."""
    world = SharedWorld(seed)
    world.run(110, {"eu": 6, "us": 10, "ap": 20})
    loads, parts = world.history("loads"), world.history("parts")
    assert parts.sum(axis=1).max() <= TOTAL
    assert loads.sum(axis=1).max() <= TARGET_BPS * 1.01
    assert (parts[-25:] == parts[-1]).all()
    assert np.abs(loads[-1] - np.array([6, 10, 12.5]) * GBPS).max() < 0.02 * TARGET_BPS
    assert loads[-1].sum() > 0.98 * TARGET_BPS

    world.run(110, {"eu": 20, "us": 10, "ap": 3})
    loads, parts = world.history("loads"), world.history("parts")
    assert parts.sum(axis=1).max() <= TOTAL
    assert loads.sum(axis=1).max() <= TARGET_BPS * 1.01
    assert (parts[-25:] == parts[-1]).all()
    assert np.abs(loads[-1] - np.array([15.5, 10, 3]) * GBPS).max() < 0.02 * TARGET_BPS


def test_shares_go_one_way_while_demand_does() -> None:
    """No oscillation: what grows does not shrink again on its way, beyond a step's worth."""
    world = SharedWorld(4)
    world.run(110, {"eu": 6, "us": 10, "ap": 20})
    world.run(110, {"eu": 20, "us": 10, "ap": 3})
    home = world.history("parts")[110:, 0]
    assert home[-1] - home[0] > 3000
    assert np.diff(home).min() >= -100


def test_a_cell_that_is_silent_keeps_its_part_and_the_others_go_on() -> None:
    world = SharedWorld(5)
    demand = {"eu": 6, "us": 10, "ap": 20}
    world.run(100, demand)
    held = world.parts()["ap"]
    world.run(80, {"eu": 20, "us": 10, "ap": 0}, silent=("ap",))
    assert world.parts()["ap"] == held
    eu, us = (world.cells[region] for region in ("eu", "us"))
    assert eu.parts[-1] + us.parts[-1] <= TOTAL - held
    assert eu.loads[-1] + us.loads[-1] > 0.95 * (TARGET_BPS * (TOTAL - held) // TOTAL)


def test_a_machine_that_fails_takes_from_all_alike_without_a_word() -> None:
    world = SharedWorld(6)
    world.run(100, {"eu": 6, "us": 10, "ap": 20})
    before = {region: one.cell.eligibility for region, one in world.cells.items()}
    parts = world.parts()
    for one in world.cells.values():
        one.log._fleet(
            "Appliance", "x-a0", site="x", cluster="", region=one.region,
            capacity_bps=15 * GBPS, serves=["VOD"], addresses=[],
        )  # fmt: skip
    world.run(1, {"eu": 6, "us": 10, "ap": 20})
    for region, one in world.cells.items():
        site = one.cell.fleet.sites.get("x")
        assert one.parts[-1] == parts[region]
        half = before[region].site_bps[site] // 2
        assert abs(int(one.cell.eligibility.site_bps[site]) - half) <= TOTAL


def test_a_cell_goes_on_from_its_snapshot_and_says_again_at_a_take_over() -> None:
    world = SharedWorld(7)
    demand = {"eu": 6, "us": 10, "ap": 20}
    world.run(60, demand)
    for one in world.cells.values():
        one.cell = Cell.from_bytes(one.partition, one.cell.partitions, one.cell.to_bytes())
    for region in REGIONS:
        one = world.cells[region]
        one.report(demand[region])
        told = one.cut(Cause.TAKEOVER).prices
        assert len(told) == (2 if region == "eu" else 1)
        world.tell(one.effects[-1])
    world.run(50, demand)
    assert world.history("parts").sum(axis=1).max() <= TOTAL
    assert abs(world.loads()["ap"] - 12.5 * GBPS) < 0.02 * TARGET_BPS


def test_what_changes_is_told_with_its_reason() -> None:
    world = SharedWorld(8)
    world.run(40, {"eu": 6, "us": 10, "ap": 20})
    told = [
        row for one in world.cells["eu"].effects for row in one.verdicts
        if row.reason == Reason.DIVIDED
    ]  # fmt: skip
    assert {row.to_state.split()[0] for row in told} == set(REGIONS)
    assert all(row.kind == "site" and row.entity == "x" for row in told)


def test_a_home_without_memory_believes_what_the_others_say_they_have() -> None:
    claims = {"us": Claim(90, 0, 0, 0, share=3000, grant_cut=70)}
    now = regrant(["eu", "us"], [5000, 5000], {}, claims, 10_000, 80, 100)
    assert now == {"eu": Grant(80, 5000), "us": Grant(70, 3000)}
    now = regrant(["eu", "us"], [5000, 5000], now, claims, 5000, 81, 100)
    assert now == {"eu": Grant(80, 5000), "us": Grant(81, 5000)}


def test_while_nobody_is_short_nothing_is_divided_anew() -> None:
    regions, heard = ["eu", "us", "ap"], [True, True, False]
    given_ = {"eu": Grant(5, 6000), "us": Grant(6, 4000)}
    assert targets(regions, [5999, 4000, 0], given_, heard) == [6000, 4000, 0]
    assert targets(regions, [2000, 4001, 0], given_, heard) == [4000, 6000, 0]
    assert targets(regions, [100, 0, 0], {}, heard) == [10_000, 0, 0]
    assert targets(regions, [0, 1, 0], {}, heard) == [5000, 5000, 0]
