"""The demand section: what a block draws, by event time, for rows in any order."""

import numpy as np
import pytest

from pipeline.config import InputConfig, SteeringConfig
from pipeline.reasons import Noted, Refusal
from pipeline.state.demand import IDLE_MS, Demand
from pipeline.wire.address import format_address
from pipeline.wire.rows import Account
from tests.frames import (
    CONFIG,
    NOW_MS,
    appliance,
    fleet_of,
    fleet_with,
    fold_fleet,
    fold_into,
    play,
    region,
    site,
)

FLEET = fleet_with(2)
BUCKET_MS, WINDOW_MS = CONFIG.inputs.demand_bucket_ms, CONFIG.inputs.demand_window_ms
WHOLE_MS = NOW_MS + BUCKET_MS  # the bucket that begins at NOW_MS is complete from here on
HOUR_MS = 3_600_000


def fold(demand: Demand, *plays: tuple[str, dict[str, object]], now_ms: int = NOW_MS) -> Account:
    return fold_into(demand, "play.events", plays, FLEET, now_ms)


def blocks(demand: Demand) -> list[str]:
    return [
        format_address(int(hi).to_bytes(8, "big") + int(lo).to_bytes(8, "big"))
        for hi, lo in zip(demand.block_hi, demand.block_lo, strict=True)
    ]


def levels(demand: Demand, now_ms: int = WHOLE_MS) -> dict[str, list[int]]:
    return dict(zip(blocks(demand), demand.level_bps(now_ms).tolist(), strict=True))


def test_plays_add_up_by_block_and_class() -> None:
    demand = Demand()
    fold(
        demand,
        play("198.18.1.7", amount=600_000),
        play("198.18.1.200", amount=150_000),
        play("198.18.2.1", amount=75_000, traffic_class="LIVE"),
        play("2001:db8:1:2::3", amount=7_500, traffic_class="GAME"),
        play("2001:db8:1:ffff::", amount=7_500, traffic_class="GAME"),
        play("2001:db8:2::", amount=60),
    )
    assert levels(demand) == {
        "198.18.1.0": [100_000, 0, 0],
        "198.18.2.0": [0, 10_000, 0],
        "2001:db8:1::": [0, 0, 2_000],
        "2001:db8:2::": [8, 0, 0],
    }
    assert demand.drawn_bytes.tolist() == [750_060, 75_000, 15_000]
    assert demand.block_region.tolist() == [0] * 4


def test_what_a_stall_kept_from_a_play_is_wanted_as_well() -> None:
    """Else a full site would seem to be asked for what it can send, and no more."""
    demand = Demand()
    fold(
        demand,
        # ten seconds at 6 Mbit/s, of which four stalled: 4.5 MB came, 7.5 MB were wanted
        play("198.18.1.7", amount=4_500_000, bitrate_bps=6_000_000, stall_ms=4_000, event="STALL"),
        play("198.18.2.7", amount=7_500_000, bitrate_bps=6_000_000),
        # a stall counts for a minute at most: 60 s of 8 kbit/s
        play("198.18.3.7", amount=0, bitrate_bps=8_000, stall_ms=10**12),
    )
    assert levels(demand) == {
        "198.18.1.0": [1_000_000, 0, 0],
        "198.18.2.0": [1_000_000, 0, 0],
        "198.18.3.0": [8_000, 0, 0],
    }


def test_only_complete_buckets_of_the_window_count() -> None:
    demand = Demand()
    fold(demand, play("198.18.1.7", amount=60_000))
    expected = {0: 0, BUCKET_MS - 1: 0, BUCKET_MS: 8000, WINDOW_MS: 8000, WINDOW_MS + BUCKET_MS: 0}
    for later_ms, bps in expected.items():
        assert levels(demand, NOW_MS + later_ms) == {"198.18.1.0": [bps, 0, 0]}, later_ms


def test_rows_are_counted_by_their_own_time_late_ones_without_effect() -> None:
    demand = Demand()
    account = fold(
        demand,
        play("198.18.1.7", NOW_MS - WINDOW_MS, amount=60_000),
        play("198.18.1.7", NOW_MS - WINDOW_MS - 1, amount=60_000),
    )
    assert account.notes == {Noted.LATE: 1}
    assert levels(demand, NOW_MS) == {"198.18.1.0": [8000, 0, 0]}
    assert levels(demand, NOW_MS + BUCKET_MS) == {"198.18.1.0": [0, 0, 0]}


def test_a_clock_ahead_counts_as_now() -> None:
    demand = Demand()
    fold(demand, play("198.18.1.7", NOW_MS + 200_000, amount=60_000))
    assert levels(demand) == {"198.18.1.0": [8000, 0, 0]}


def test_the_order_of_rows_and_their_cuts_do_not_matter() -> None:
    rng = np.random.default_rng(5)
    plays = [
        play(f"198.18.{a}.{b}", NOW_MS - int(t), amount=int(n), traffic_class=c)
        for a, b, t, n, c in zip(
            rng.integers(0, 9, 300),
            rng.integers(0, 256, 300),
            rng.integers(0, WINDOW_MS, 300),
            rng.integers(0, 10**9, 300),
            rng.choice(["VOD", "LIVE", "GAME"], 300),
            strict=True,
        )
    ]
    once, piecewise = Demand(), Demand()
    fold(once, *plays)
    for start in range(0, 300, 50):
        fold(piecewise, *reversed(plays[start : start + 50]))
    assert levels(once) == levels(piecewise)
    again = Demand()
    fold(again, *plays)
    assert blocks(again) == blocks(once) == sorted(blocks(once))


def test_a_long_silence_empties_the_ring_and_only_it() -> None:
    demand = Demand()
    fold(demand, play("198.18.1.7", amount=60_000))
    later_ms = NOW_MS + 10 * HOUR_MS
    fold(demand, play("198.18.2.7", later_ms, amount=60_000), now_ms=later_ms)
    assert levels(demand, later_ms + BUCKET_MS) == {
        "198.18.1.0": [0, 0, 0],
        "198.18.2.0": [8000, 0, 0],
    }


def test_a_play_of_an_unknown_appliance_counts_for_the_only_region_or_for_none() -> None:
    demand = Demand()
    account = fold(demand, play("198.18.1.7", amount=60_000, appliance="nobody"))
    assert account.notes == {Noted.UNPLACED_PLAY: 1}
    assert levels(demand) == {"198.18.1.0": [8000, 0, 0]}
    two = fleet_of(region("r1"), region("r2"), site("s", region="r2"), appliance("a0", "s"))
    demand = Demand()
    plays = [play("198.18.1.7", amount=60_000, appliance=one) for one in ("nobody", "a0", "")]
    account = fold_into(demand, "play.events", plays, two)
    assert account.notes == {Noted.UNPLACED_PLAY: 2}
    assert account.folded["play.events"] == 3
    assert [two.regions.names[one] for one in demand.block_region] == ["r2"]
    assert levels(demand) == {"198.18.1.0": [8000, 0, 0]}
    fold_fleet(two, tombstones=[b"appliance:a0"])
    assert fold_into(demand, "play.events", plays[1:2], two).notes == {Noted.UNPLACED_PLAY: 1}


def test_the_same_block_in_two_regions_is_two_blocks() -> None:
    fleet = fleet_of(
        *(region("r1"), region("r2"), site("s1", region="r1"), site("s2", region="r2")),
        *(appliance("a1", "s1"), appliance("a2", "s2")),
    )
    demand = Demand()
    plays = [play("198.18.1.7", amount=60_000, appliance=one) for one in ("a1", "a2", "a2")]
    fold_into(demand, "play.events", plays, fleet)
    assert demand.block_region.tolist() == [0, 1]
    assert demand.level_bps(WHOLE_MS)[:, 0].tolist() == [8000, 16000]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"bytes": -1}, Refusal.OUT_OF_RANGE),
        ({"bytes": 10**12 + 1}, Refusal.OUT_OF_RANGE),
        ({"bitrate_bps": 10**15}, Refusal.OUT_OF_RANGE),
        ({"stall_ms": -5}, Refusal.OUT_OF_RANGE),
        ({"startup_ms": 2**62}, Refusal.OUT_OF_RANGE),
        ({"at_ms": NOW_MS + HOUR_MS}, Refusal.FROM_THE_FUTURE),
        ({"at_ms": NOW_MS - HOUR_MS}, Refusal.TOO_OLD),
    ],
)
def test_a_bad_play_is_refused_by_itself(fields: dict[str, int], reason: Refusal) -> None:
    demand = Demand()
    name, bad = play("198.18.1.7")
    account = fold(demand, (name, {**bad, **fields}), play("198.18.2.7", amount=60_000))
    assert [(one.offset, one.reason) for one in account.refused["play.events"]] == [(0, reason)]
    assert levels(demand) == {"198.18.2.0": [8000, 0, 0]}


def test_the_largest_sums_do_not_overflow() -> None:
    demand = Demand()
    fold(demand, *(play("198.18.1.7", amount=10**12) for _ in range(3000)))
    assert levels(demand) == {"198.18.1.0": [3000 * 10**12 * 8 // 60, 0, 0]}


def test_idle_blocks_are_forgotten_once_they_are_many_and_generation_tells() -> None:
    demand = Demand()
    fold(demand, play("198.18.1.7", amount=60_000), play("198.18.2.7", amount=1))
    generation = demand.generation
    assert not demand.compact(NOW_MS)
    later_ms = NOW_MS + IDLE_MS
    fold(demand, play("198.18.2.7", later_ms, amount=60_000), now_ms=later_ms)
    assert demand.generation == generation
    assert demand.compact(later_ms + BUCKET_MS)
    assert demand.generation == generation + 1
    assert levels(demand, later_ms + BUCKET_MS) == {"198.18.2.0": [8000, 0, 0]}
    assert not demand.compact(later_ms + BUCKET_MS)
    fold(demand, play("198.18.9.7", later_ms), now_ms=later_ms)
    assert demand.generation == generation + 1  # new blocks come behind the others
    assert blocks(demand) == ["198.18.2.0", "198.18.9.0"]
    assert not Demand().compact(NOW_MS)


def test_many_new_blocks_keep_what_the_old_ones_drew() -> None:
    demand = Demand()
    fold(demand, play("198.18.1.7", amount=60_000))
    for third in range(200):
        fold(demand, play(f"198.19.{third}.1", amount=60_000))
    assert set(map(tuple, levels(demand).values())) == {(8000, 0, 0)}
    assert len(demand) == 201


def test_another_window_or_bucket_takes_over_what_is_in_the_ring() -> None:
    demand = Demand()
    fold(demand, *(play("198.18.1.7", NOW_MS - s * 1000, amount=1_000) for s in range(40)))
    config = SteeringConfig(inputs=InputConfig(demand_window_ms=30_000, demand_bucket_ms=2_000))
    fold_into(demand, "play.events", [play("198.18.2.7")], FLEET, NOW_MS + 10_000, config)
    # 30 s of 1000 bytes a second, less what buckets of 5 s blur at the edge
    assert 4_000 <= levels(demand, NOW_MS + 10_000)["198.18.1.0"][0] <= 8_000
    fold(demand, play("198.18.2.7"), now_ms=NOW_MS + 10_000)
    assert levels(demand, NOW_MS + 10_000)["198.18.1.0"][0] > 0
    assert demand.drawn_bytes[0] == 40_000


def test_sessions_are_counted_by_class() -> None:
    demand = Demand()
    fold(
        demand,
        play("198.18.1.7", event="START", traffic_class="LIVE"),
        play("198.18.1.7", event="STOP"),
        play("198.18.1.7", event="START"),
    )
    assert demand.starts.tolist() == [1, 1, 0]


def test_nothing_yet_is_no_demand() -> None:
    assert Demand().level_bps(NOW_MS).shape == (0, 3)
    demand = Demand()
    assert fold_into(demand, "play.events", [], FLEET).rows.total() == 0
    assert fold(demand, play("198.18.1.7", amount=-1)).folded["play.events"] == 0


def test_what_grows_is_planned_for_before_it_is_there() -> None:
    """Two minutes of 10 kB in each bucket, then half a minute of ten times as much."""
    demand, now_ms = Demand(), NOW_MS
    for bucket in range(30):
        amount = 10_000 if bucket < 24 else 100_000
        fold(demand, play("198.18.1.7", now_ms, amount=amount), now_ms=now_ms)
        now_ms += BUCKET_MS
        demand.learn(now_ms)
        if bucket == 23:
            assert demand.planned_bps(now_ms).tolist() == demand.level_bps(now_ms).tolist()
    # six buckets of each are 88 kbit/s; the difference of 90 kB a bucket less what chance makes:
    # a 64th of 64 KiB of noise was believed in each bucket since it is known, twice that each time
    (level, planned) = demand.level_bps(now_ms)[0, 0], demand.planned_bps(now_ms)[0, 0]
    assert level == 88_000
    error = (demand.trend.noise[0] * 55_000 / 3) ** 0.5
    assert planned == pytest.approx(88_000 + (90_000 - 3 * error) * 8 / 5 * 1.5, abs=2)
    assert planned > 200_000
    risen = demand.trend.risen
    assert (risen.before_bps.tolist(), risen.after_bps.tolist()) == ([16_000], [160_000])
    # and what is forgotten takes it along
    fold(demand, play("198.18.2.7", now_ms + IDLE_MS), now_ms=now_ms + IDLE_MS)
    assert demand.compact(now_ms + IDLE_MS)
    assert demand.planned_bps(now_ms + IDLE_MS).tolist() == [[0, 0, 0]]
    assert not len(demand.forecast.kept)  # nothing of the block that is left was forecast


def test_a_minute_ahead_is_forecast_with_how_far_that_was_off() -> None:
    """10 kB in each bucket by one block and 20 by another, of the same region; then the first one
    draws twice as much for two minutes."""
    demand, now_ms = Demand(), NOW_MS
    for bucket in range(60):
        for block in (1, 2):
            amount = block * 10_000 * (2 if block == 1 and bucket >= 36 else 1)
            fold(demand, play(f"198.18.{block}.7", now_ms, amount=amount), now_ms=now_ms)
        now_ms += BUCKET_MS
        demand.learn(now_ms)
        level, expected, error = demand.expected_bps(now_ms, np.arange(2))
        if bucket < 12:
            assert (expected[:, 0] == level[:, 0]).all()
            assert (error == -1).all()
        if bucket == 35:  # nothing has changed yet, and two forecasts of each were right
            assert expected[:, 0].tolist() == level[:, 0].tolist() == [16_000, 32_000]
            assert error[:, 0].tolist() == [0, 0]
            whole = demand.expected_of(0)
            assert [each[0] for each in whole] == [48_000, 48_000, 0]
        if bucket == 41:  # 24 kbit/s, and 1.5 times what it changed less chance
            change = demand.trend.moving.change[0]
            assert 5_000 < change < 10_000
            assert expected[0, 0] == pytest.approx(24_000 + 1.5 * change * 1.6, rel=0.02)
            assert expected[1, 0] == pytest.approx(32_000, rel=0.02)
    assert 1_000 < error[0, 0] < 16_000
    assert error[1, 0] < 500
    assert 1_000 < demand.expected_of(0).error_bps[0] < 16_000
    again = Demand.from_bytes(bytes(demand.to_bytes()))
    assert [each.tolist() for each in again.expected_bps(now_ms, np.arange(2))] == [
        each.tolist() for each in demand.expected_bps(now_ms, np.arange(2))
    ]
    assert [each.tolist() for each in demand.expected_of(7)] == [[0] * 3, [0] * 3, [-1] * 3]


def test_what_plays_do_not_tell_is_forecast_as_well() -> None:
    demand = Demand()
    fold(demand, play("198.18.1.7", amount=60_000))
    demand.reporting.added = np.array([[75_000, 0, 0]])
    level, expected, _ = demand.expected_bps(WHOLE_MS, np.arange(1))
    assert level[0, 0] == expected[0, 0] == 18_000
    assert demand.expected_of(0).bps.tolist() == [10_000, 0, 0]


def test_without_plays_there_is_nothing_to_learn() -> None:
    demand = Demand()
    assert not demand.learn(NOW_MS)
    assert demand.planned_bps(NOW_MS).shape == (0, 3)
    assert demand.chance_bps(np.array([1, 1, 1])).tolist() == [0, 0, 0]
