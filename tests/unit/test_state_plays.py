"""The plays section: what was wanted of each appliance and what of it came, by event time."""

from typing import Any

import numpy as np
import pytest

from pipeline.state.playrows import play_rows
from pipeline.state.plays import BUCKET_MS, BUCKETS, Plays
from tests.frames import NOW_MS, fleet_with, play, topic_rows

FLEET = fleet_with(3)
START_MS = NOW_MS // BUCKET_MS * BUCKET_MS


def fold(plays: Plays, *told: tuple[str, dict[str, Any]], now_ms: int = START_MS) -> None:
    frame = topic_rows("play.events", told).frames["PlayEvent"]
    plays.fold(play_rows(frame, np.ones(len(told), bool), FLEET), FLEET, now_ms)


def at(appliance: str, amount: int, stall_ms: int = 0, at_ms: int = START_MS) -> tuple:
    return play(
        "20.0.0.1", at_ms, amount, appliance=appliance, stall_ms=stall_ms, bitrate_bps=8_000_000
    )


def recent(plays: Plays, now_ms: int = START_MS) -> list[list[int]]:
    return [one.tolist() for one in plays.recent(now_ms)]


def test_a_stall_is_missed_at_the_bitrate_of_the_play() -> None:
    plays = Plays()
    fold(plays, at("a0", 7_000_000, 3_000), at("a0", 10_000_000), at("a2", 0, 10_000))
    wanted, missed = [20_000_000, 0, 10_000_000], [3_000_000, 0, 10_000_000]
    assert recent(plays) == [[2, 0, 1], [0, 0, 0], wanted, missed]


def test_a_session_that_fails_over_has_left_the_appliance_that_its_event_names() -> None:
    plays = Plays()
    left = [at("a1", amount) for amount in (0, 1_000)]
    for _, fields in left:
        fields["event"] = "FAILOVER"
    fold(plays, *left, at("a1", 500), at("a0", 500))
    assert recent(plays) == [[1, 3, 0], [0, 2, 0], [500, 1_500, 0], [0, 0, 0]]


def test_who_is_unknown_refused_or_says_nothing_does_not_count() -> None:
    plays = Plays()
    fold(plays, at("elsewhere", 5), at("a0", 0))
    frame = topic_rows("play.events", [at("a0", 5), at("a1", 7)]).frames["PlayEvent"]
    plays.fold(play_rows(frame, np.array([False, True]), FLEET), FLEET, START_MS)
    assert recent(plays)[:3] == [[0, 1, 0], [0, 0, 0], [0, 7, 0]]


def test_what_is_too_old_has_no_effect_and_a_clock_ahead_counts_as_now() -> None:
    plays = Plays()
    old_ms = START_MS - (BUCKETS - 1) * BUCKET_MS
    fold(plays, at("a0", 1, at_ms=old_ms - 1), at("a0", 10, at_ms=old_ms), at("a0", 100))
    fold(plays, at("a0", 1_000, at_ms=START_MS + 60_000))
    assert recent(plays)[2][0] == 1_110


def test_the_ring_turns_and_forgets() -> None:
    plays = Plays()
    fold(plays, at("a0", 3_000_000))
    for passed in range(1, BUCKETS):
        now_ms = START_MS + passed * BUCKET_MS
        fold(plays, at("a1", 1_000, at_ms=now_ms), now_ms=now_ms)
        assert plays.wanted_bps(now_ms)[0] == 3_000_000 * 8 // 30
        assert recent(plays, now_ms)[2][0] == 3_000_000
    now_ms = START_MS + BUCKETS * BUCKET_MS
    assert recent(plays, now_ms)[2] == [0, (BUCKETS - 1) * 1_000, 0]
    assert plays.wanted_bps(now_ms)[0] == 0
    fold(plays, at("a1", 7, at_ms=now_ms + 900_000), now_ms=now_ms + 900_000)
    assert recent(plays, now_ms + 900_000)[2] == [0, 7, 0]


def test_the_bucket_that_is_not_complete_is_no_part_of_the_level() -> None:
    plays = Plays()
    fold(plays, at("a0", 3_000_000, at_ms=START_MS + 9_000), now_ms=START_MS + 9_999)
    assert plays.wanted_bps(START_MS + 9_999)[0] == 0
    assert plays.wanted_bps(START_MS + 10_000)[0] == 800_000


@pytest.mark.parametrize("seed", range(3))
def test_pieces_come_to_the_same_and_come_back(seed: int) -> None:
    random = np.random.default_rng(seed)
    told = [
        at(f"a{int(n)}", int(size), int(stall), START_MS - int(late))
        for n, size, stall, late in zip(
            random.integers(0, 4, 200),
            random.integers(0, 10**7, 200),
            random.integers(0, 5_000, 200),
            random.integers(0, 50_000, 200),
            strict=True,
        )
    ]
    once, piecewise = Plays(), Plays()
    fold(once, *told)
    for first in range(0, len(told), 7):
        fold(piecewise, *told[first : first + 7])
        piecewise = Plays.from_bytes(bytes(piecewise.to_bytes()))
    assert bytes(once.to_bytes()) == bytes(piecewise.to_bytes())
