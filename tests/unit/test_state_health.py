"""The health section: what a report changes, and what becomes of every bad one."""

import numpy as np
import pytest

from pipeline.reasons import Noted, Refusal
from pipeline.state.health import ROUNDS_MAX, ApplianceState, Health
from pipeline.state.ids import rounds
from tests.frames import (
    CONFIG,
    NOW_MS,
    HealthWorld,
    appliance,
    fleet_with,
    fold_fleet,
    report,
)

HOUR_MS = 3_600_000
GBPS = 1_000_000_000


def world(appliances: int = 1) -> HealthWorld:
    return HealthWorld(fleet_with(appliances))


def test_a_report_lands_in_its_columns() -> None:
    one = world(2)
    one.fold(report("a1", service="FILLING", egress_bps=25 * GBPS, errors=7, ttfb_ms=12))
    health = one.health
    assert health.heard_ms.tolist() == [0, NOW_MS]
    assert health.last_at_ms.tolist() == [0, NOW_MS]
    assert (health.service[1], health.egress_bps[1]) == (2, 25 * GBPS)
    assert (health.requests[1], health.errors[1], health.ttfb_ms[1]) == (1000, 7, 12)
    assert health.utilisation[1] == 0.25
    assert health.state.tolist() == [ApplianceState.STALE] * 2


def test_utilisation_is_smoothed_in_the_order_of_the_log_even_inside_one_cut() -> None:
    many, one = world(), world()
    loads = (10, 90, 30, 70)
    many.fold(*(report("a0", NOW_MS - 9 + i, egress_bps=x * GBPS) for i, x in enumerate(loads)))
    for i, x in enumerate(loads):
        one.fold(report("a0", NOW_MS - 9 + i, egress_bps=x * GBPS))
    expected = 0.1
    for x in loads[1:]:
        expected += (x / 100 - expected) / 4
    assert many.health.utilisation[0] == one.health.utilisation[0] == pytest.approx(expected)
    assert many.health.good_run.tolist() == [4]


def test_two_reports_of_a_cut_that_came_the_wrong_way_round_do_not_change_the_past() -> None:
    one = world()
    account = one.fold(
        report("a0", NOW_MS - 10, service="DRAINING"), report("a0", NOW_MS - 20, service="OK")
    )
    assert account.notes == {Noted.REORDERED: 1}
    assert account.folded["appliance.health"] == 2
    assert one.health.service[0] == 1


def test_the_same_report_again_is_counted_and_changes_nothing() -> None:
    one = world()
    account = one.fold(report("a0"), report("a0"))
    assert account.notes == {Noted.DUPLICATE: 1}
    assert one.health.good_run.tolist() == [1]
    assert one.fold(report("a0")).notes == {Noted.DUPLICATE: 1}
    # Another thing said in the same millisecond is no duplicate.
    assert not one.fold(report("a0", service="FAILED")).notes
    assert one.health.failed_seen[0]


def test_of_very_many_reports_in_one_cut_the_newest_are_folded_and_no_failure_is_missed() -> None:
    one = world()
    number = ROUNDS_MAX + 20
    reports = [report("a0", NOW_MS - number + i) for i in range(number)]
    reports[3][1]["service"] = "FAILED"
    account = one.fold(*reports)
    assert account.notes == {Noted.LATE: 20}
    assert one.health.good_run.tolist() == [ROUNDS_MAX]
    assert one.health.failed_seen.tolist() == [True]


def test_a_clock_that_is_a_little_ahead_does_not_shut_out_its_later_reports() -> None:
    one = world()
    one.fold(report("a0", NOW_MS + 200_000))
    assert one.health.last_at_ms.tolist() == [NOW_MS]
    one.now_ms += 5_000
    assert not one.fold(report("a0", one.now_ms)).notes  # set right: not older than what is known
    assert one.health.heard_ms.tolist() == [one.now_ms]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"appliance": ""}, Refusal.BAD_ID),
        ({"appliance": "a\x00"}, Refusal.BAD_ID),
        ({"appliance": "nobody"}, Refusal.UNKNOWN_APPLIANCE),
        ({"appliance": "gone"}, Refusal.UNKNOWN_APPLIANCE),
        ({"cpu": float("nan")}, Refusal.NOT_A_NUMBER),
        ({"disk": float("-inf")}, Refusal.NOT_A_NUMBER),
        ({"cpu": -0.01}, Refusal.OUT_OF_RANGE),
        ({"disk": 1.2}, Refusal.OUT_OF_RANGE),
        ({"egress_bps": -1}, Refusal.OUT_OF_RANGE),
        ({"egress_bps": 10**14 + 1}, Refusal.OUT_OF_RANGE),
        ({"capacity_bps": -(2**63)}, Refusal.OUT_OF_RANGE),
        ({"requests": 2**63 - 1}, Refusal.OUT_OF_RANGE),
        ({"errors": 1001}, Refusal.OUT_OF_RANGE),
        ({"at_ms": NOW_MS + HOUR_MS}, Refusal.FROM_THE_FUTURE),
        ({"at_ms": NOW_MS - HOUR_MS}, Refusal.TOO_OLD),
        ({"at_ms": 2**63 - 1}, Refusal.FROM_THE_FUTURE),
        ({"at_ms": -(2**63)}, Refusal.TOO_OLD),
    ],
)
def test_a_bad_report_is_refused_by_itself(fields: dict[str, object], reason: Refusal) -> None:
    one = world()
    fold_fleet(one.fleet, appliance("gone", "s0"))
    fold_fleet(one.fleet, tombstones=[b"appliance:gone"])
    name, bad = report("a0")
    account = one.fold((name, {**bad, **fields}), report("a0", egress_bps=0))
    assert [(r.offset, r.reason) for r in account.refused["appliance.health"]] == [(0, reason)]
    assert account.folded["appliance.health"] == 1
    assert one.health.utilisation[0] == 0.0


@pytest.mark.parametrize("off_ms", [-CONFIG.inputs.age_max_ms, CONFIG.inputs.future_max_ms])
def test_a_clock_just_inside_the_limits_is_believed(off_ms: int) -> None:
    assert world().fold(report("a0", NOW_MS + off_ms)).folded["appliance.health"] == 1


def test_capacity_is_the_lesser_of_inventory_and_report_and_a_reported_zero_says_nothing() -> None:
    one = world(3)
    one.fold(
        report("a0", capacity_bps=40 * GBPS),
        report("a1", capacity_bps=0),
        report("a2", capacity_bps=900 * GBPS),
    )
    trusted = one.health.trusted_capacity_bps(one.fleet)
    assert trusted.tolist() == [40 * GBPS, 100 * GBPS, 100 * GBPS]


def test_an_appliance_without_capacity_divides_by_nothing() -> None:
    one = HealthWorld(fleet_with(1, capacity_bps=0))
    one.fold(report("a0", capacity_bps=0))
    assert np.isfinite(one.health.utilisation).all()
    one.cut()
    assert one.usable_bps("a0") == 0


def test_the_penalty_halves_by_half_lives_and_falls_in_between() -> None:
    health = Health()
    health.sync(fleet_with(1))
    health.penalty[:], health.penalty_at_ms[:] = 8000, NOW_MS
    half_life = CONFIG.health.penalty_half_life_ms
    values = [
        int(health.penalty_at(NOW_MS + at, CONFIG)[0]) for at in range(0, 3 * half_life, 60_000)
    ]
    assert values == sorted(values, reverse=True)
    halves = [int(health.penalty_at(NOW_MS + n * half_life, CONFIG)[0]) for n in range(5)]
    assert halves == [8000, 4000, 2000, 1000, 500]
    for at, value in zip(range(0, 3 * half_life, 60_000), values, strict=True):
        assert 1.0 - 1e-3 <= value / (8000 * 0.5 ** (at / half_life)) <= 1.062
    assert health.penalty_at(NOW_MS + 10**12, CONFIG).tolist() == [0]


def test_rounds_keep_the_order_of_each_id_and_leave_out_the_oldest() -> None:
    ids = np.array([5, 7, 5, 5, 7, 9], dtype=np.int32)
    parts, left_out = rounds(ids, 10)
    assert [ids[part].tolist() for part in parts] == [[5, 7, 9], [5, 7], [5]]
    every = np.arange(len(ids))
    assert [sorted(every[part].tolist()) for part in parts] == [[0, 1, 5], [2, 4], [3]]
    assert left_out.tolist() == []
    parts, left_out = rounds(ids, 2)
    assert [sorted(every[part].tolist()) for part in parts] == [[1, 2, 5], [3, 4]]
    assert left_out.tolist() == [0]
    assert rounds(ids[:0], 2)[0] == []
    parts, left_out = rounds(ids[[3, 1, 5]], 2)  # each once: all of them, as they are
    assert [ids[[3, 1, 5]][part].tolist() for part in parts] == [[5, 7, 9]]
    assert left_out.tolist() == []


def test_a_topic_without_reports_changes_nothing() -> None:
    one = world()
    assert one.fold().rows.total() == 0
    assert one.health.heard_ms.tolist() == [0]
