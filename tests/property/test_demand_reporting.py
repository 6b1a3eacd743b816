"""Plays that cease while the bytes go on are no viewers that left; viewers that leave are."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.state.reporting import LEARNING, Drawn, Heard, Reporting

BUCKETS, BUCKET_MS, CLASSES = 12, 5_000, 3
SLOTS = BUCKETS + 1
VIEWER = 5_000_000 * BUCKET_MS // 8000
APPLIANCES, BLOCKS = 40, 300
LEARNED = LEARNING * BUCKETS + BUCKETS + 1
SEEDS = st.integers(0, 2**32 - 1)
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


class World:
    """Two regions of twenty appliances each and the blocks that they serve, a bucket at a time."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.viewers: F64 = 2 + 20 * self.rng.random(BLOCKS)
        self.region = (np.arange(BLOCKS) % 2).astype(np.int32)
        self.appliance_region = (np.arange(APPLIANCES) % 2).astype(np.int32)
        self.reporting = Reporting(CLASSES)
        self.reporting.grow(SLOTS, APPLIANCES)
        self.ring: I64 = np.zeros((SLOTS, BLOCKS), np.int64)
        self.held = np.full(SLOTS, -1)
        self.at = 1_000
        self.level = 0.0

    def pass_bucket(self, lost: Bools, scale: float = 1.0, silent: Bools | None = None) -> None:
        """Viewers draw; the plays of `lost` appliances do not arrive, nor do the reports of
        `silent` ones; then it is judged."""
        slot = self.at % SLOTS
        self.held[slot], self.ring[slot] = self.at, 0
        self.reporting.begin(slot)
        drawn = self.rng.poisson(scale * self.viewers) * VIEWER
        # a block is served by four appliances of its region, in turn
        egress = np.zeros(APPLIANCES)
        for turn in range(4):
            serving = (np.arange(BLOCKS) * 2 + turn * 2 * 5) // 2 % (APPLIANCES // 2) * 2
            serving = serving + self.region
            part = drawn // 4
            np.add.at(egress, serving, part)
            told = np.flatnonzero(~lost[serving])
            self.ring[slot, told] += part[told]
            self.reporting.add(np.full(len(told), slot), serving[told], part[told])
        self.at += 1
        self.judge(egress, NOBODY if silent is None else silent)

    def judge(self, egress: F64, silent: Bools) -> None:
        complete = (self.held < self.at) & (self.held >= self.at - BUCKETS)
        newer = complete & (self.held >= self.at - BUCKETS // 2)
        newest = complete & (self.held >= self.at - BUCKETS // 4)
        whole, recent = (
            np.stack([self.ring[one].sum(axis=0)] + [np.zeros(BLOCKS, np.int64)] * 2, axis=1)
            for one in (complete, newer)
        )
        heard = Heard(
            (egress * 8000 / BUCKET_MS).astype(np.int64),
            ~silent,
            self.appliance_region,
            2,
        )
        if (complete & ~newer).any():
            drawn = Drawn(whole, recent, self.region, complete, complete & ~newer, newest)
            self.reporting.judge(heard, drawn, VIEWER, self.at)
        added = self.reporting.added
        self.by_region = np.array([whole[self.region == one].sum() for one in (0, 1)], np.float64)
        self.added = np.array(
            [added[self.region[: len(added)] == one].sum() for one in (0, 1)], np.float64
        )

    def wanted(self, region: int) -> float:
        return float(self.viewers[self.region == region].sum()) * VIEWER * BUCKETS


NOBODY = np.zeros(APPLIANCES, bool)
FIRST = np.arange(APPLIANCES) % 2 == 0


@settings(max_examples=20)
@given(SEEDS)
def test_while_all_plays_arrive_nothing_is_added(seed: int) -> None:
    world = World(seed)
    for _ in range(120):
        world.pass_bucket(NOBODY)
        assert not len(world.reporting.short)
        assert not len(world.reporting.added)


@settings(max_examples=20)
@given(SEEDS, st.integers(1, 10), st.integers(20, 60))
def test_viewers_that_leave_are_believed(seed: int, left_tenths: int, after: int) -> None:
    """At once, and however many: what appliances send falls with them."""
    world = World(seed)
    for number in range(LEARNED + after + 30):
        world.pass_bucket(NOBODY, 1.0 if number < LEARNED + after else 1 - left_tenths / 10)
        assert not len(world.reporting.added)


@settings(max_examples=20)
@given(SEEDS, st.integers(13, 100))
def test_demand_of_a_region_whose_plays_cease_stays_and_follows_what_is_sent(
    seed: int, length: int
) -> None:
    """It is whole again from the second bucket on, within 10 %; the other region is left alone."""
    world = World(seed)
    for _ in range(LEARNED):
        world.pass_bucket(NOBODY)
    for number in range(length):
        world.pass_bucket(FIRST)
        if number >= 2:
            assert world.reporting.short.tolist() == [0]
            planned = world.by_region[0] + world.added[0]
            assert planned == pytest.approx(world.wanted(0), rel=0.1)
        assert world.added[1] == 0
    for _ in range(4 * BUCKETS):  # half of the viewers leave, as one sees by what is sent
        world.pass_bucket(FIRST, 0.5)
    assert world.by_region[0] == 0
    assert world.added[0] == pytest.approx(world.wanted(0) / 2, rel=0.15)
    for _ in range(2 * BUCKETS + 2):  # the plays come back
        world.pass_bucket(NOBODY, 0.5)
        planned = world.by_region[0] + world.added[0]
        assert planned == pytest.approx(world.wanted(0) / 2, rel=0.2)
    assert not len(world.reporting.added)


@settings(max_examples=20)
@given(SEEDS, st.integers(1, 8))
def test_demand_of_appliances_whose_plays_cease_stays(seed: int, count: int) -> None:
    world = World(seed)
    for _ in range(LEARNED):
        world.pass_bucket(NOBODY)
    lost = FIRST & (np.arange(APPLIANCES) < 2 * count)
    for _ in range(BUCKETS + 2):
        world.pass_bucket(lost)
    planned = world.by_region[0] + world.added[0]
    assert planned == pytest.approx(world.wanted(0), rel=0.08)
    assert world.added[1] == 0


@settings(max_examples=20)
@given(SEEDS, st.integers(0, APPLIANCES - 1))
def test_an_appliance_that_is_restarted_is_gone_and_back_and_not_missing(
    seed: int, which: int
) -> None:
    """Its last report counts for three buckets more. A window after it is back holds too little of
    its plays for what it sends again; they were not lost."""
    world = World(seed)
    restarted = np.arange(APPLIANCES) == which
    for number in range(LEARNED + 4 * BUCKETS):
        off = LEARNED <= number < LEARNED + 9
        silent = restarted if off and number >= LEARNED + 3 else NOBODY
        world.pass_bucket(restarted if off else NOBODY, silent=silent)
        assert not len(world.reporting.short)
        assert not len(world.reporting.added)


@settings(max_examples=10)
@given(SEEDS, st.integers(0, LEARNED + 20))
def test_what_is_held_goes_on_from_a_snapshot(seed: int, stop: int) -> None:
    one, other = World(seed), World(seed)
    for number in range(LEARNED + 30):
        lost = FIRST if LEARNED <= number < LEARNED + 15 else NOBODY
        one.pass_bucket(lost)
        other.pass_bucket(lost)
        if number == stop:
            other.reporting = Reporting.of(other.reporting.fields())
        assert np.array_equal(one.reporting.added, other.reporting.added)
        assert np.array_equal(one.reporting.usual, other.reporting.usual)


def test_blocks_that_are_numbered_anew_keep_what_is_held() -> None:
    reporting = Reporting(1)
    reporting.held, reporting.added = np.array([[1], [2], [3]]), np.array([[4], [5], [6]])
    reporting.renumber(np.array([0, 2, 3]))
    assert reporting.held.tolist() == [[1], [3], [0]]
    assert reporting.added.tolist() == [[4], [6], [0]]
