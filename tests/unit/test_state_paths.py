"""The paths section: round-trip time as a step of a ladder that does not go back and forth."""

import numpy as np
import pytest

from pipeline.reasons import Noted, Refusal
from pipeline.state.paths import (
    COMPACT_EVERY_MS,
    FALL_US,
    LADDER_US,
    RISE_US,
    ROUNDS_MAX,
    RTT_MAX_US,
    Paths,
    rtt_ms_of_step,
)
from pipeline.wire.address import parse_prefix
from pipeline.wire.rows import Account
from tests.frames import CONFIG, NOW_MS, fleet_with, fold_into, path_sample

HOUR_MS = 3_600_000
FLEET = fleet_with(0, sites=3)
CLIENT = "198.18.1.0/24"


class Path:
    """One path that is measured once a second."""

    def __init__(self) -> None:
        self.paths, self.now_ms = Paths(), NOW_MS

    def measure(self, *rtts_us: int) -> list[int]:
        steps = []
        for rtt_us in rtts_us:
            self.now_ms += 1000
            sample = path_sample("s0", CLIENT, self.now_ms, rtt_us=rtt_us)
            fold_into(self.paths, "traffic.paths", [sample], FLEET, self.now_ms)
            steps.append(int(self.paths.step[0]))
        return steps


def fold(paths: Paths, *samples: tuple[str, dict[str, object]]) -> Account:
    return fold_into(paths, "traffic.paths", samples, FLEET)


def test_the_ladder_rises_by_a_quarter_from_one_millisecond() -> None:
    assert LADDER_US[:4].tolist() == [1000, 1250, 1562, 1952]
    ratio = LADDER_US[1:] / LADDER_US[:-1]
    assert ((ratio > 1.24) & (ratio <= 1.25)).all()
    assert LADDER_US[-1] > RTT_MAX_US
    assert (FALL_US < LADDER_US).all()
    assert (RISE_US[:-1] > LADDER_US[1:]).all()
    assert len(FALL_US) == len(RISE_US) == len(LADDER_US)
    assert [rtt_ms_of_step(step) for step in (-1, 0, 3, 10)] == [-1, 1, 1, 9]


def test_the_first_sample_finds_its_step() -> None:
    samples = [
        path_sample("s0", f"198.18.{n}.0/24", rtt_us=rtt)
        for n, rtt in enumerate((0, 999, 1249, 1250, 10_000, RTT_MAX_US))
    ]
    paths = Paths()
    fold(paths, *samples)
    expected = np.maximum(
        np.searchsorted(LADDER_US, [0, 999, 1249, 1250, 10_000, RTT_MAX_US], side="right") - 1, 0
    )
    assert paths.step.tolist() == expected.tolist()
    assert paths.site.tolist() == [0] * 6
    assert paths.length.tolist() == [120] * 6
    prefix = parse_prefix("198.18.4.0/24")
    assert int(paths.lo[4]) == int.from_bytes(prefix[8:16], "big")
    assert paths.hi.tolist() == [0] * 6


def test_a_time_that_wavers_about_an_edge_does_not_change_its_step() -> None:
    path = Path()
    step = path.measure(int(LADDER_US[10]) + 50)[-1]
    edge = int(LADDER_US[10])
    version = path.paths.version
    assert set(path.measure(*[edge - 900, edge + 900] * 40)) == {step} == {10}
    assert path.paths.version == version


def test_a_time_that_leaves_its_step_by_half_a_step_changes_it_and_not_before() -> None:
    path = Path()
    path.measure(int(LADDER_US[10]))
    assert set(path.measure(*[int(RISE_US[10]) - 1] * 100)) == {10}
    version = path.paths.version
    assert path.measure(*[int(RISE_US[10]) + 100] * 100)[-1] == 11
    assert path.paths.version == version + 1
    assert set(path.measure(*[int(FALL_US[11]) + 10] * 100)) == {11}
    assert path.measure(*[int(FALL_US[11]) - 100] * 100)[-1] == 10


def test_samples_are_smoothed_in_the_order_of_the_log_inside_a_cut_too() -> None:
    rtts = [10_000, 90_000, 20_000, 40_000]
    once, one_by_one = Paths(), Paths()
    samples = [path_sample("s0", CLIENT, NOW_MS - 9 + n, rtt_us=r) for n, r in enumerate(rtts)]
    fold(once, *samples)
    for sample in samples:
        fold(one_by_one, sample)
    assert once.rtt_us.tolist() == one_by_one.rtt_us.tolist() == [22_500]
    assert once.step.tolist() == one_by_one.step.tolist()


def test_older_repeated_and_surplus_samples_are_counted_and_change_nothing() -> None:
    paths = Paths()
    account = fold(
        paths,
        path_sample("s0", CLIENT, NOW_MS - 5),
        path_sample("s0", CLIENT, NOW_MS - 9, rtt_us=90_000, loss=1.0),
        path_sample("s0", CLIENT, NOW_MS - 5),
    )
    assert account.notes == {Noted.REORDERED: 1, Noted.DUPLICATE: 1}
    assert (paths.rtt_us[0], paths.loss[0]) == (10_000, 0.0)
    many = [path_sample("s1", CLIENT, NOW_MS - 999 + n) for n in range(ROUNDS_MAX + 5)]
    assert fold(paths, *many).notes == {Noted.LATE: 5}


def test_where_all_was_lost_there_is_loss_and_no_time() -> None:
    paths = Paths()
    fold(paths, path_sample("s0", CLIENT, NOW_MS - 1, samples=0, rtt_us=0, loss=1.0))
    assert (paths.step[0], paths.loss[0]) == (-1, 1.0)
    fold(paths, path_sample("s0", CLIENT, rtt_us=5_000, loss=0.0))
    assert (rtt_ms_of_step(paths.step[0]), paths.loss[0]) == (4, 0.5)


def test_what_is_not_measured_any_more_is_forgotten() -> None:
    paths = Paths()
    fold(paths, path_sample("s0", CLIENT), path_sample("s1", CLIENT))
    later_ms = NOW_MS + CONFIG.inputs.age_max_ms
    fold_into(paths, "traffic.paths", [path_sample("s1", CLIENT, later_ms)], FLEET, later_ms)
    assert len(paths) == 2
    version = paths.version
    later_ms += COMPACT_EVERY_MS
    assert paths.compact(later_ms, CONFIG)
    assert paths.site.tolist() == [1]
    assert paths.version == version + 1
    assert len(paths.step) == len(paths.loss) == len(paths.last_at_ms) == 1
    assert not paths.compact(later_ms, CONFIG)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"site": "|"}, Refusal.BAD_ID),
        ({"site": "nowhere"}, Refusal.UNKNOWN_SITE),
        ({"client": b"\0" * 16 + b"\xff"}, Refusal.BAD_PREFIX_LENGTH),
        ({"client": b"\1" * 16 + b"\x08"}, Refusal.HOST_BITS),
        ({"loss": float("nan")}, Refusal.NOT_A_NUMBER),
        ({"loss": 1.5}, Refusal.OUT_OF_RANGE),
        ({"loss": -0.1}, Refusal.OUT_OF_RANGE),
        ({"rtt_us": -1}, Refusal.OUT_OF_RANGE),
        ({"rtt_us": RTT_MAX_US + 1}, Refusal.OUT_OF_RANGE),
        ({"samples": -1}, Refusal.OUT_OF_RANGE),
        ({"throughput_bps": 10**15}, Refusal.OUT_OF_RANGE),
        ({"at_ms": NOW_MS + HOUR_MS}, Refusal.FROM_THE_FUTURE),
        ({"at_ms": NOW_MS - HOUR_MS}, Refusal.TOO_OLD),
    ],
)
def test_a_bad_sample_is_refused_by_itself(fields: dict[str, object], reason: Refusal) -> None:
    paths = Paths()
    name, bad = path_sample("s0", CLIENT)
    account = fold(paths, (name, {**bad, **fields}), path_sample("s1", CLIENT))
    assert [(one.offset, one.reason) for one in account.refused["traffic.paths"]] == [(0, reason)]
    assert paths.site.tolist() == [1]
