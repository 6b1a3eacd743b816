"""The appliance's state machine: every pair and reason, hysteresis both ways, mass silence."""

import os
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from pipeline.config import HealthConfig, SteeringConfig
from pipeline.decide.health import BLIND_MIN, evaluate
from pipeline.decide.transitions import TRANSITIONS, Signal, transition_table_markdown
from pipeline.effects import VerdictRow
from pipeline.reasons import Reason
from pipeline.state.health import CODE, ApplianceState, Service
from tests.frames import (
    NOW_MS,
    HealthWorld,
    appliance,
    fleet_of,
    fleet_with,
    play,
    region,
    report,
    site,
)

S = ApplianceState
GBPS = 1_000_000_000
FULL_BPS = 100 * GBPS
DOC = Path(__file__).parents[2] / "docs" / "health.md"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"


def up(appliances: int = 1, config: SteeringConfig | None = None) -> HealthWorld:
    """Appliances a0... that have reported once and are UP."""
    world = HealthWorld(fleet_with(appliances), config or SteeringConfig())
    world.cut(*(report(f"a{number}") for number in range(appliances)))
    assert all(world.state(f"a{number}") is S.UP for number in range(appliances))
    return world


def moved(verdicts: list[VerdictRow]) -> list[tuple[str, str, str]]:
    return [(one.from_state, one.to_state, one.reason) for one in verdicts]


def viewers(
    world: HealthWorld, appliances: int, missed: dict[str, float], plays: int = 60
) -> list[tuple[str, dict]]:
    """Heartbeats of as many plays of each a0..., of which those named miss a share."""
    told = []
    for number in range(appliances):
        share = missed.get(f"a{number}", 0.0)
        received = {"amount": int((1 - share) * 6_250_000), "stall_ms": int(share * 10_000)}
        one = play("20.0.0.1", world.now_ms, appliance=f"a{number}", **received)
        told += [one] * plays
    return told


def leaving(world: HealthWorld, failed: dict[str, int]) -> list[tuple[str, dict]]:
    """So many sessions that fail over from each."""
    return [
        play("20.0.0.1", world.now_ms, appliance=name, event="FAILOVER")
        for name, count in failed.items()
        for _ in range(count)
    ]


# The table


def test_every_pair_is_decided_and_the_documentation_shows_it() -> None:
    assert set(TRANSITIONS) == set(product(ApplianceState, Signal))
    before, _, rest = DOC.read_text().partition(BEGIN)
    text = before + BEGIN + transition_table_markdown() + END + rest.partition(END)[2]
    if os.environ.get("EDGESTEER_REGENERATE") == "1":
        DOC.write_text(text)
    assert DOC.read_text() == text, "run this test with EDGESTEER_REGENERATE=1"


def provoke(  # noqa: C901 (one case a signal)
    world: HealthWorld, state: ApplianceState, signal: Signal
) -> list[VerdictRow]:
    """Put a0 into `state`, make `signal` true of it as far as it can be, and evaluate."""
    health, now_ms, limits = world.health, world.now_ms, world.config.health
    health.state[0], health.reason[0] = state, CODE[Reason.PROMOTED]
    health.heard_ms[:] = now_ms
    health.load[0], health.ramp_from_ms[0] = 0.9, now_ms
    health.good_run[0] = health.bad_run[0] = 0
    # An appliance that is OK says so: what else it says must come from the signal.
    says = {S.FILLING: Service.FILLING, S.DRAINING: Service.DRAINING, S.DOWN: Service.FAILED}
    health.service[0] = says.get(state, Service.OK)
    match signal:
        case Signal.FAILED_REPORT:
            health.service[0] = Service.FAILED
        case Signal.SILENT:
            health.heard_ms[0] = now_ms - limits.stale_after_ms
        case Signal.ERRORS:
            health.bad_run[0] = limits.error_reports
        case Signal.OUTLIER:
            health.errors[0] = 400
        case Signal.STALLS:
            world.watch(*viewers(world, 12, {"a0": 0.5}))
        case Signal.LEFT:
            world.watch(*viewers(world, 12, {}), *leaving(world, {"a0": 20}))
        case Signal.RESENDS:
            health.resent[0] = 40.0
        case Signal.DRAIN_REPORT:
            health.service[0] = Service.DRAINING
        case Signal.FILL_REPORT:
            health.service[0] = Service.FILLING
        case Signal.HELD:
            health.penalty[0], health.penalty_at_ms[0] = limits.penalty_suppress, now_ms
            health.service[0], health.good_run[0] = Service.OK, limits.recover_reports
            health.ramp_from_ms[0] = 0
        case Signal.FIRST_REPORT:
            health.reason[0], health.good_run[0] = CODE[Reason.NEVER_REPORTED], 1
        case Signal.RECOVERED:
            health.good_run[0] = limits.recover_reports
        case Signal.OK_REPORT:
            health.service[0] = Service.OK
        case Signal.RAMP_DONE:
            health.ramp_from_ms[0] = now_ms - limits.slow_start_ms
        case Signal.OVER_TARGET:
            health.load[0] = limits.saturated_enter
        case Signal.RELIEVED:
            health.load[0] = 0.5
            health.below_since_ms[0] = now_ms - limits.saturated_leave_after_ms
    return evaluate(health, world.plays, world.fleet, now_ms, world.config)


@pytest.mark.parametrize(("state", "signal"), TRANSITIONS)
def test_each_signal_does_to_each_state_what_the_table_says(
    state: ApplianceState, signal: Signal
) -> None:
    world = HealthWorld(fleet_with(12))
    world.cut(*(report(f"a{number}") for number in range(12)))
    verdicts = provoke(world, state, signal)
    to = TRANSITIONS[state, signal]
    if to is None:
        assert verdicts == []
        assert world.state("a0") is state
        return
    assert moved(verdicts) == [(state.name, to[0].name, to[1])]
    assert (world.state("a0"), world.reason("a0")) == to
    assert verdicts[0].kind == "appliance"
    assert verdicts[0].entity == "a0"
    assert verdicts[0].detail


def test_a_signal_that_is_nowhere_listed_is_an_error_at_import(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from pipeline.decide import transitions

    monkeypatch.setitem(transitions._STAYS, S.UP, transitions._STAYS[S.UP][1:])
    with pytest.raises(LookupError, match="UP and HELD"):
        transitions._complete()


# Life stories


def test_an_appliance_that_never_reported_is_stale_and_its_first_report_takes_it_up() -> None:
    world = HealthWorld(fleet_with(1))
    assert world.cut() == []
    assert (world.state("a0"), world.reason("a0")) == (S.STALE, Reason.NEVER_REPORTED)
    assert world.usable_bps("a0") == 0
    assert moved(world.cut(report("a0"))) == [("STALE", "UP", Reason.FIRST_REPORT)]
    assert world.usable_bps("a0") == FULL_BPS


def test_a_first_report_that_is_not_ok_does_not_take_it_up() -> None:
    for service, state in (("FAILED", S.DOWN), ("DRAINING", S.DRAINING), ("FILLING", S.STALE)):
        world = HealthWorld(fleet_with(1))
        world.cut(report("a0", service=service))
        assert world.state("a0") is state
    world.cut(report("a0", service="FILLING"), after_ms=5_000)
    world.cut(after_ms=1_000)
    assert world.state("a0") is S.FILLING
    assert world.usable_bps("a0") == FULL_BPS // 20  # a tenth of a half: it has to ramp up


def test_a_failed_appliance_falls_at_once_and_comes_back_slowly() -> None:
    world = up()
    assert moved(world.cut(report("a0", service="FAILED"), after_ms=100)) == [
        ("UP", "DOWN", Reason.REPORTED_FAILED)
    ]
    assert world.usable_bps("a0") == 0
    assert world.cut(report("a0"), after_ms=5_000) == []
    assert moved(world.cut(report("a0"), after_ms=5_000)) == [
        ("DOWN", "PROBATION", Reason.SLOW_START)
    ]
    shares = []
    for _ in range(30):
        shares.append(world.usable_bps("a0") * 100 // FULL_BPS)
        last = world.cut(report("a0"), after_ms=1_000)
    assert shares[::3] == [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
    assert moved(last) == [("PROBATION", "UP", Reason.PROMOTED)]


def test_a_failure_counts_even_if_the_same_cut_brings_the_recovery() -> None:
    world = up()
    world.now_ms += 1_000
    world.fold(report("a0", world.now_ms - 2, service="FAILED"), report("a0", world.now_ms - 1))
    verdicts = evaluate(world.health, world.plays, world.fleet, world.now_ms, world.config)
    assert moved(verdicts) == [("UP", "DOWN", Reason.REPORTED_FAILED)]
    assert verdicts[0].detail == "reported FAILED"


def test_a_silent_appliance_goes_stale_at_the_deadline_and_not_before() -> None:
    world = up(2)
    limit_ms = world.config.health.stale_after_ms
    assert world.cut(report("a1"), after_ms=limit_ms - 1) == []
    verdicts = world.cut(after_ms=1)
    assert moved(verdicts) == [("UP", "STALE", Reason.SILENT)]
    assert verdicts[0].detail == "silent for 15.0 s, limit 15.0 s"
    assert world.cut(after_ms=1) == []
    world.cut(report("a0"), after_ms=1_000)
    assert world.state("a0") is S.STALE
    world.cut(report("a0"), after_ms=1_000)
    assert (world.state("a0"), world.reason("a0")) == (S.PROBATION, Reason.SLOW_START)


def test_a_draining_appliance_that_falls_silent_does_not_go_back_and_forth() -> None:
    world = up()
    assert moved(world.cut(report("a0", service="DRAINING"), after_ms=10)) == [
        ("UP", "DRAINING", Reason.REPORTED_DRAINING)
    ]
    assert moved(world.cut(after_ms=15_000)) == [("DRAINING", "STALE", Reason.SILENT)]
    assert [world.cut(after_ms=1_000) for _ in range(5)] == [[]] * 5


def test_clocks_off_by_less_than_the_limit_make_nobody_stale() -> None:
    world = up(2)
    for _ in range(10):
        world.now_ms += 5_000
        account = world.fold(
            report("a0", world.now_ms - 600_000 + _), report("a1", world.now_ms + 200_000)
        )
        assert account.folded["appliance.health"] == 2
    # a0 began with a right clock, so what it now says lies before what is known.
    assert (world.state("a0"), world.state("a1")) == (S.UP, S.UP)
    assert (
        evaluate(world.health, world.plays, world.fleet, world.now_ms, world.config)[0].entity
        == "a0"
    )
    behind = HealthWorld(fleet_with(1))
    for _ in range(10):
        behind.now_ms += 5_000
        behind.fold(report("a0", behind.now_ms - 600_000))
        evaluate(behind.health, behind.plays, behind.fleet, behind.now_ms, behind.config)
        assert behind.state("a0") is S.UP


def test_filling_serves_with_a_share_and_comes_back_without_a_dip() -> None:
    world = up()
    assert moved(world.cut(report("a0", service="FILLING"), after_ms=10)) == [
        ("UP", "FILLING", Reason.REPORTED_FILLING)
    ]
    assert world.usable_bps("a0") == FULL_BPS // 2
    assert moved(world.cut(report("a0"), after_ms=5_000)) == [
        ("FILLING", "PROBATION", Reason.REPORTED_OK)
    ]
    assert world.usable_bps("a0") == FULL_BPS
    assert moved(world.cut(after_ms=1_000)) == [("PROBATION", "UP", Reason.PROMOTED)]


def draining(world: HealthWorld, by_ms: int, after_ms: int = 10) -> list[VerdictRow]:
    return world.cut(report("a0", service="DRAINING", drain_by_ms=by_ms), after_ms=after_ms)


def test_an_appliance_with_a_deadline_leaves_evenly_until_then() -> None:
    world = up()
    by_ms = world.now_ms + 10 + 10_000
    (told,) = draining(world, by_ms)
    assert (told.to_state, told.detail) == ("DRAINING", "reported DRAINING, within 10.0 s")
    seen = []
    for _ in range(11):
        seen.append(world.usable_bps("a0") * 100 // FULL_BPS)
        draining(world, by_ms, after_ms=1000)
    assert seen == [100, 90, 80, 70, 60, 50, 40, 30, 20, 10, 0]
    assert world.state("a0") is S.DRAINING


@pytest.mark.parametrize("by_ms", [0, NOW_MS - 5])
def test_without_a_deadline_or_after_it_an_appliance_leaves_at_once(by_ms: int) -> None:
    world = up()
    (told,) = draining(world, by_ms)
    assert told.detail == "reported DRAINING"
    assert world.usable_bps("a0") == 0


def test_who_is_in_slow_start_does_not_get_more_by_draining() -> None:
    world = up()
    draining(world, 0)
    world.cut(report("a0"), report("a0"), after_ms=1000)
    assert world.usable_bps("a0") == FULL_BPS // 10
    draining(world, world.now_ms + 60_010)
    assert world.usable_bps("a0") == FULL_BPS // 10


@pytest.mark.parametrize(("after_ms", "percent"), [(0, 100), (2_000, 80), (5_000, 50), (9_500, 10)])
def test_a_drain_that_is_undone_goes_back_from_where_it_was(after_ms: int, percent: int) -> None:
    world = up()
    by_ms = world.now_ms + 10 + 10_000
    draining(world, by_ms)
    assert moved(world.cut(report("a0"), after_ms=after_ms)) == [
        ("DRAINING", "PROBATION", Reason.REPORTED_OK)
    ]
    assert world.usable_bps("a0") * 100 // FULL_BPS == percent
    for _ in range(10):
        world.cut(report("a0"), after_ms=3_000)
    assert world.state("a0") is S.UP


def test_an_undrained_appliance_starts_slowly() -> None:
    world = up()
    world.cut(report("a0", service="DRAINING"), after_ms=10)
    assert world.usable_bps("a0") == 0
    assert moved(world.cut(report("a0"), after_ms=10)) == [
        ("DRAINING", "PROBATION", Reason.REPORTED_OK)
    ]
    assert world.usable_bps("a0") == FULL_BPS // 10


def test_errors_take_it_down_only_when_they_last_and_rest_on_enough_requests() -> None:
    world = up()
    bad = report("a0", requests=100, errors=51)
    assert world.cut(bad, after_ms=5_000) == []
    assert world.cut(bad, after_ms=5_000) == []
    assert world.cut(report("a0"), after_ms=5_000) == []
    for _ in range(5):
        assert world.cut(report("a0", requests=99, errors=99), after_ms=5_000) == []
    for expected in ([], [], [("UP", "DOWN", Reason.ERROR_RATE)]):
        assert moved(world.cut(bad, after_ms=5_000)) == expected


def test_saturation_has_hysteresis_in_level_and_in_time() -> None:
    world = up()
    health = world.health

    def load(share: float, seconds: int) -> list[VerdictRow]:
        verdicts = []
        for _ in range(seconds):
            health.utilisation[0] = health.load[0] = share
            verdicts += world.cut(report("a0", egress_bps=int(share * FULL_BPS)), after_ms=1_000)
        return verdicts

    assert load(0.94, 20) == []
    assert moved(load(0.95, 1)) == [("UP", "SATURATED", Reason.SATURATED)]
    assert world.usable_bps("a0") == FULL_BPS
    assert load(1.0, 3) == []
    assert world.usable_bps("a0") == FULL_BPS * 95 // 100
    assert load(0.90, 60) == []
    assert load(0.84, 9) == []
    assert load(0.86, 1) == []
    assert load(0.84, 10) == []
    assert moved(load(0.84, 1)) == [("SATURATED", "UP", Reason.RELIEVED)]


def test_flapping_holds_back_promotion_never_withdrawal() -> None:
    world = up()

    def flap() -> list[VerdictRow]:
        first = world.cut(report("a0", service="FAILED"), after_ms=1_000)
        assert world.state("a0") is S.DOWN
        first += world.cut(report("a0"), after_ms=1_000)
        return first + world.cut(report("a0"), after_ms=1_000)

    for _ in range(6):
        assert moved(flap())[-1] == ("DOWN", "PROBATION", Reason.SLOW_START)
    assert moved(flap())[-1] == ("DOWN", "DOWN", Reason.FLAPPING)
    half_life_s = world.config.health.penalty_half_life_ms // 1000
    held = 0
    while world.state("a0") is S.DOWN:
        verdicts = world.cut(report("a0"), after_ms=5_000)
        held += 5
    assert moved(verdicts) == [("DOWN", "PROBATION", Reason.SLOW_START)]
    assert 3 * half_life_s < held < 4 * half_life_s  # from 6000 or so below 750
    world.cut(report("a0", service="FAILED"), after_ms=1_000)
    assert world.state("a0") is S.DOWN


def test_the_penalty_has_a_ceiling() -> None:
    world = up()
    for _ in range(100):
        world.health.state[0] = S.UP
        world.cut(report("a0", service="FAILED"), after_ms=1_000)
    assert int(world.health.penalty[0]) == 12_000


def test_silence_or_draining_is_no_way_out_of_a_suppression() -> None:
    world = up()
    world.health.penalty[0], world.health.penalty_at_ms[0] = 9_000, world.now_ms
    world.cut(after_ms=15_000)
    assert world.state("a0") is S.STALE
    world.cut(report("a0"), after_ms=1_000)
    assert moved(world.cut(report("a0"), after_ms=1_000)) == [("STALE", "DOWN", Reason.FLAPPING)]
    world.cut(report("a0", service="DRAINING"), after_ms=1_000)
    assert moved(world.cut(report("a0"), after_ms=1_000)) == [
        ("DRAINING", "DRAINING", Reason.FLAPPING)
    ]
    assert world.cut(report("a0"), after_ms=1_000) == []


# Outliers


def test_an_outlier_among_its_peers_goes_down_and_not_more_than_a_tenth() -> None:
    world = up(12)
    reports = [report(f"a{n}", errors=300 + n if n < 2 else 0) for n in range(12)]
    verdicts = world.cut(*reports, after_ms=5_000)
    assert [(one.entity, one.reason) for one in verdicts] == [("a1", Reason.OUTLIER)]
    assert "301 of 1000" in verdicts[0].detail
    assert world.cut(*reports[:1], *reports[2:], after_ms=5_000) == []


def test_too_few_hosts_too_few_requests_or_a_small_difference_make_no_outlier() -> None:
    few = up(4)
    assert few.cut(*(report(f"a{n}", errors=400 * (n == 0)) for n in range(4)), after_ms=5) == []
    idle = up(12)
    asked = [report(f"a{n}", requests=99, errors=49 * (n == 0)) for n in range(12)]
    assert idle.cut(*asked, after_ms=5) == []
    small = up(12)
    assert small.cut(*(report(f"a{n}", errors=50 * (n == 0)) for n in range(12)), after_ms=5) == []


def test_peers_are_those_of_the_cluster_or_else_of_the_site() -> None:
    fleet = fleet_of(
        region(),
        site("s0"),
        *(appliance(f"a{n}", "s0", cluster="c") for n in range(6)),
        *(appliance(f"b{n}", "s0") for n in range(4)),
    )
    world = HealthWorld(fleet)
    names = fleet.appliances.names
    world.cut(*(report(name) for name in names))
    verdicts = world.cut(
        *(report(name, errors=300 * (name in ("a0", "b0"))) for name in names), after_ms=5_000
    )
    assert [one.entity for one in verdicts] == ["a0"]


# What plays say


def watched(missed: dict[str, float], appliances: int = 12, plays: int = 60) -> list[VerdictRow]:
    """What comes of plays that miss these shares at appliances that say they are well."""
    world = up(appliances)
    world.watch(*viewers(world, appliances, missed, plays))
    return world.cut(*(report(f"a{n}") for n in range(appliances)), after_ms=1_000)


def test_an_appliance_whose_plays_alone_stall_is_taken_out_whatever_it_says() -> None:
    verdicts = watched({"a3": 0.4})
    assert [one.entity for one in verdicts] == ["a3"]
    assert moved(verdicts) == [("UP", "DOWN", Reason.PLAYS_STALL)]
    assert verdicts[0].detail == "40 % missed in 60 plays, clearly more than at its peers"
    assert moved(watched({"a0": 0.4}, appliances=2)) == moved(verdicts)  # one peer is enough


def test_what_all_suffer_is_laid_to_no_appliance() -> None:
    everywhere = {f"a{n}": 0.4 for n in range(12)}
    assert watched(everywhere) == []
    assert watched(everywhere | {"a3": 0.55}) == []
    assert watched({"a0": 0.9}, appliances=1) == []


def test_the_clearer_the_fewer_plays_are_needed() -> None:
    assert watched({"a3": 0.19}, plays=1_000) == []
    assert len(watched({"a3": 0.25}, plays=50)) == 1
    assert watched({"a3": 0.25}, plays=20) == []
    assert len(watched({"a3": 0.66}, plays=5)) == 1
    assert watched({"a3": 1.0}, plays=4) == []


def test_no_more_are_taken_out_than_may_be_and_the_worst_first() -> None:
    verdicts = watched({"a1": 0.5, "a3": 0.6, "a5": 0.4})
    assert [one.entity for one in verdicts] == ["a3"]


def test_who_stalls_because_it_is_full_or_refuses_is_left_to_the_weights() -> None:
    for fields in ({"disk": 1.0}, {"errors": 60}):
        world = up(12)
        world.cut(*(report(f"a{n}", **(fields if n == 3 else {})) for n in range(12)), after_ms=1)
        world.health.load[3] = 1.0 if "disk" in fields else 0.5
        world.watch(*viewers(world, 12, {"a3": 0.6}))
        found = world.cut(after_ms=1_000)
        assert Reason.PLAYS_STALL not in {one.reason for one in found}


def test_who_was_taken_out_comes_back_in_its_time_and_later_each_time() -> None:
    """It reports that it is well all the time; nobody is there to say otherwise."""
    world = up(12)
    out_s = []
    for _ in range(4):
        world.watch(*viewers(world, 12, {"a3": 0.6}))
        assert Reason.PLAYS_STALL in {one.reason for one in world.cut(after_ms=1_000)}
        began = world.now_ms
        while world.state("a3") is S.DOWN:
            world.cut(*(report(f"a{n}") for n in range(12)), after_ms=1_000)
        out_s.append((world.now_ms - began) // 1_000)
        world.cut(*(report(f"a{n}") for n in range(12)), after_ms=40_000)  # forgotten
        world.health.penalty_at_ms[:] = world.now_ms  # no time to decay
    assert out_s == [30, 60, 90, 120]


# What sessions leave


def left(failed: dict[str, int], appliances: int = 12, plays: int = 60) -> list[VerdictRow]:
    """What comes of so many sessions that fail over from appliances that say they are well."""
    world = up(appliances)
    world.watch(*viewers(world, appliances, {}, plays), *leaving(world, failed))
    return world.cut(*(report(f"a{n}") for n in range(appliances)), after_ms=1_000)


def test_an_appliance_that_sessions_leave_is_taken_out_before_it_falls_silent() -> None:
    verdicts = left({"a3": 12, "a5": 1})
    assert [one.entity for one in verdicts] == ["a3"]
    assert moved(verdicts) == [("UP", "DOWN", Reason.PLAYS_LEAVE)]
    assert verdicts[0].detail == "12 of 72 plays failed over, clearly more than at its peers"
    assert moved(left({"a0": 12}, appliances=2)) == moved(verdicts)


def test_sessions_that_leave_everywhere_or_by_chance_are_laid_to_no_appliance() -> None:
    assert left({f"a{n}": 30 for n in range(12)}) == []
    assert left({"a0": 60}, appliances=1) == []
    assert left({"a3": 4}, plays=5) == []  # nearly half, of nine
    assert left({"a3": 6}, plays=100) == []  # more than one in twenty, by chance
    assert len(left({"a3": 12}, plays=100)) == 1
    assert left({"a3": 45}, plays=1_000) == []  # certain, and one in twenty-three


def test_sessions_that_leave_what_refuses_them_by_its_own_word_are_left_to_the_weights() -> None:
    world = up(12)
    world.cut(*(report(f"a{n}", errors=60 if n == 3 else 0) for n in range(12)), after_ms=1)
    world.watch(*viewers(world, 12, {}), *leaving(world, {"a3": 30}))
    assert Reason.PLAYS_LEAVE not in {one.reason for one in world.cut(after_ms=1_000)}


# What is sent again


def resent(
    world: HealthWorld, a3: int, others: int = 3, reports: int = 3, **fields: float
) -> list[VerdictRow]:
    """Reports of 1000 requests each, with so many retransmits."""
    found = []
    for _ in range(reports):
        told = [
            report(f"a{n}", retransmits=a3 if n == 3 else others, **(fields if n == 3 else {}))
            for n in range(12)
        ]
        found += world.cut(*told, after_ms=5_000)
    return found


def test_an_appliance_that_sends_much_again_is_taken_out_at_its_second_such_report() -> None:
    world = up(12)
    assert resent(world, 16_000, reports=1) == []
    verdicts = resent(world, 16_000, reports=1)
    assert [one.entity for one in verdicts] == ["a3"]
    assert moved(verdicts) == [("UP", "DOWN", Reason.RETRANSMITS)]
    assert verdicts[0].detail == "7.0 retransmits a request, clearly more than at its peers"


def test_what_all_send_again_or_little_or_under_load_is_laid_to_no_appliance() -> None:
    assert resent(up(12), 20_000, others=20_000) == []
    assert resent(up(12), 20_000, others=6_000) == []  # three times as much
    assert resent(up(12), 4_000) == []  # a thousand times as much, of 0.4 % of the packets
    busy = up(12)
    busy.health.load[3] = 1.0
    assert Reason.RETRANSMITS not in {one.reason for one in resent(busy, 20_000, disk=1.0)}
    few = up(12)
    assert resent(few, 2_000, requests=99) == []


# Silence of many


def test_when_most_fall_silent_at_once_reporting_is_doubted_and_not_the_appliances() -> None:
    world = up(20)
    talking = [report(f"a{n}") for n in range(4)]
    seen = []
    for _ in range(60):
        seen += world.cut(*talking, after_ms=1_000)
    assert [(one.kind, one.entity, *moved([one])[0]) for one in seen] == [
        ("cell", "0", "REPORTING", "BLIND", Reason.PANIC)
    ]
    assert seen[0].detail == "16 of 20 appliances quiet for 10.0 s or more"
    assert all(world.state(f"a{n}") is S.UP for n in range(20))
    # Reports come back one after the other; who is not among them goes stale in the end.
    back = []
    for second in range(40):
        told = range(4 + min(second, 12))
        back += world.cut(*(report(f"a{n}") for n in told), after_ms=1_000)
    kinds = [(one.kind, one.to_state) for one in back]
    assert kinds[0] == ("cell", "REPORTING")
    assert back[0].reason == Reason.RELEASED
    assert sorted(one.entity for one in back[1:]) == ["a16", "a17", "a18", "a19"]
    assert {one.to_state for one in back[1:]} == {"STALE"}


def test_it_does_not_matter_how_the_last_reports_were_spread_in_time() -> None:
    world = up(20)
    for second in range(5):
        world.cut(*(report(f"a{n}") for n in range(second, 20, 5)), after_ms=1_000)
    verdicts = [one for _ in range(40) for one in world.cut(after_ms=1_000)]
    assert [one.kind for one in verdicts] == ["cell"]


def test_half_or_fewer_or_a_handful_are_believed_to_be_silent_themselves() -> None:
    half = up(20)
    seen = [
        one
        for _ in range(20)
        for one in half.cut(*(report(f"a{n}") for n in range(10)), after_ms=1_000)
    ]
    assert {(one.kind, one.to_state) for one in seen} == {("appliance", "STALE")}
    assert len(seen) == 10
    handful = up(BLIND_MIN - 1)
    assert len(handful.cut(after_ms=15_000)) == BLIND_MIN - 1


def sites_of(members: int, sites: int) -> HealthWorld:
    """Sites s0... with appliances s0a0... that are UP (`talk`: each reports every 5 s)."""
    named = [f"s{at}" for at in range(sites)]
    records = [appliance(f"{at}a{n}", at) for at in named for n in range(members)]
    world = HealthWorld(fleet_of(region(), *(site(at) for at in named), *records))
    world.cut(*(report(name) for name in world.fleet.appliances.names))
    return world


def talk(world: HealthWorld, second: int, *, but: tuple[str, ...]) -> list[VerdictRow]:
    told = world.fleet.appliances.names[second % 5 :: 5]
    return world.cut(*(report(one) for one in told if not one.startswith(but)), after_ms=1_000)


def test_a_site_of_which_nobody_is_heard_is_down_before_its_appliances_are_overdue() -> None:
    world = sites_of(4, 5)
    for second in range(10):
        assert talk(world, second, but=("none",)) == []
    fell = [(second, talk(world, second, but=("s1",))) for second in range(10, 20)]
    gone = [(second, one) for second, verdicts in fell for one in verdicts]
    assert [(one.entity, one.to_state, one.reason) for _, one in gone] == [
        (f"s1a{n}", "STALE", Reason.SILENT) for n in range(4)
    ]
    assert {second for second, _ in gone} == {16}  # the last was heard in second 9
    assert gone[0][1].detail == "silent for 7.0 s like its whole site"


def test_two_of_a_site_or_all_but_one_or_more_than_half_of_a_cell_have_the_usual_time() -> None:
    small = sites_of(2, 5)
    assert [one for s in range(11) for one in talk(small, s, but=("s1",))] == []
    one_left = sites_of(4, 5)
    but = ("s1a0", "s1a1", "s1a2")
    assert [one for s in range(11) for one in talk(one_left, s, but=but)] == []
    most = sites_of(4, 5)
    found = [one for s in range(30) for one in talk(most, s, but=("s0", "s1", "s2"))]
    assert {(one.kind, one.to_state) for one in found} == {("cell", "BLIND")}


def test_a_failure_is_still_seen_while_most_are_silent() -> None:
    world = up(20)
    for _ in range(30):
        world.cut(report("a0"), after_ms=1_000)
    assert world.health.blind
    assert moved(world.cut(report("a0", service="FAILED"), after_ms=10)) == [
        ("UP", "DOWN", Reason.REPORTED_FAILED)
    ]


# Quiet


def test_l10_under_constant_input_there_are_no_verdicts() -> None:
    world = up(50)
    load = {f"a{n}": int((0.5 + 0.009 * n) * FULL_BPS) for n in range(50)}
    noise = []
    for second in range(300):
        told = [report(name, egress_bps=bps) for name, bps in load.items()][second % 5 :: 5]
        verdicts = world.cut(*told, after_ms=1_000)
        if second >= 120:
            noise += verdicts
    assert noise == []


def test_what_is_gone_from_the_inventory_is_left_alone() -> None:
    from tests.frames import fold_fleet

    world = up(2)
    fold_fleet(world.fleet, tombstones=[b"appliance:a0"])
    assert world.usable_bps("a0") == 0
    assert [one.entity for one in world.cut(after_ms=15_000)] == ["a1"]


def test_an_empty_fleet_has_no_verdicts() -> None:
    world = HealthWorld(fleet_of())
    assert world.cut() == []
    assert world.health.usable_bps(world.fleet, NOW_MS, world.config).size == 0


def test_every_reason_of_the_table_can_be_given() -> None:
    given = {to[1] for to in TRANSITIONS.values() if to is not None}
    assert given == {
        *(Reason.REPORTED_OK, Reason.REPORTED_FAILED, Reason.REPORTED_DRAINING),
        *(Reason.REPORTED_FILLING, Reason.FIRST_REPORT, Reason.SILENT, Reason.ERROR_RATE),
        *(Reason.SATURATED, Reason.RELIEVED, Reason.SLOW_START, Reason.PROMOTED),
        *(Reason.FLAPPING, Reason.OUTLIER, Reason.PLAYS_STALL),
        *(Reason.PLAYS_LEAVE, Reason.RETRANSMITS),
    }


def test_a_ramp_of_no_length_is_over_at_once() -> None:
    config = SteeringConfig(health=HealthConfig(slow_start_ms=0))
    world = up(config=config)
    world.cut(report("a0", service="DRAINING"), after_ms=10)
    world.cut(report("a0"), after_ms=10)
    assert moved(world.cut(after_ms=10)) == [("PROBATION", "UP", Reason.PROMOTED)]
    assert np.all(world.health.ramp(world.now_ms, config) == 10_000)
