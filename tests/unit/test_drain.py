"""A site or region taken out of service and put back: pace, verdicts, who stays, what is undone."""

import pytest

from pipeline.cut import Cause
from pipeline.decide.duty import Duty
from pipeline.reasons import Noted, Reason, Refusal
from pipeline.state.drains import Drain
from pipeline.state.fleet import Fleet
from schemas.registry import FLEET_INVENTORY, STEERING_SITES
from tests.cell_world import GBPS, appliances
from tests.frames import drain, fold_fleet, region, site
from tests.unit.test_cell import Plane, told

CLIENTS = 12


@pytest.fixture
def plane() -> Plane:
    plane = Plane()
    plane.start()
    watch(plane, 70)
    return plane


def watch(plane: Plane, seconds: int) -> list[int]:
    """Cuts in which clients of all prefixes draw the same again and again; the load of eu-s0 after
    each, in Mbit/s."""
    site, loads = plane.cell.fleet.sites.get("eu-s0"), []
    for _ in range(seconds):
        plane.report()
        for net in range(CLIENTS):
            plane.log.play(f"20.{net}.1.9", appliances("eu-s0")[0], "VOD", GBPS // 8)
        plane.effects.append(plane.cut())
        loads.append(int(plane.cell.projected_bps()[site].sum()) // 1_000_000)
    return loads


def test_a_drain_takes_its_share_away_evenly_and_ends_with_nothing(plane: Plane) -> None:
    plane.effects.clear()
    (before,) = watch(plane, 1)
    assert before > 10_000
    plane.log.drain("eu-s0", 60_000)
    loads = watch(plane, 62)
    steps = [a - b for a, b in zip([before, *loads], loads, strict=False)]
    assert max(steps) < 0.05 * before
    assert abs(loads[30] - before / 2) < 0.05 * before
    assert loads[-1] == 0
    assert "eu-s0" not in plane.serving("eu")
    assert told(plane.effects, "site", "eu-s0") == [
        ("IN_SERVICE", "DRAINING", Reason.DRAINING),
        ("ROOM", "SPILLING", Reason.DRAINING),
        ("DRAINING", "DRAINED", Reason.DRAINED),
        ("VOD+LIVE+GAME", "NONE", Reason.DRAINING),
    ]
    for record in plane.groups("eu"):
        assert {(one["site"], one["reason"]) for one in record["passed_over"]} == {
            ("eu-s0", "draining")
        }


def test_it_comes_back_as_evenly_and_to_the_same_table(plane: Plane) -> None:
    before, held = watch(plane, 1)[0], dict(plane.follower.held)
    held = {topic: dict(records) for topic, records in held.items()}
    plane.log.drain("eu-s0", -1)
    assert watch(plane, 2)[-1] == 0
    plane.effects.clear()
    plane.log.drain("eu-s0", 60_000, "UNDRAIN")
    loads = watch(plane, 62)
    steps = [b - a for a, b in zip([0, *loads], loads, strict=False)]
    assert max(steps) < 0.05 * before
    assert abs(loads[30] - before / 2) < 0.05 * before
    assert loads[-1] == before
    assert told(plane.effects, "site", "eu-s0") == [
        ("DRAINED", "RETURNING", Reason.UNDRAINED),
        ("NONE", "VOD+LIVE+GAME", Reason.PROMOTED),
        ("ROOM", "SPILLING", Reason.DRAINING),
        ("RETURNING", "IN_SERVICE", Reason.RELEASED),
    ]
    # how it stands is told when it has moved by a hundredth, or has lasted
    assert {**plane.follower.held, STEERING_SITES.name: held[STEERING_SITES.name]} == held


def test_what_is_undone_half_way_goes_back_from_there(plane: Plane) -> None:
    (before,) = watch(plane, 1)
    plane.log.drain("eu-s0", 60_000)
    half = watch(plane, 30)[-1]
    plane.log.drain("eu-s0", 60_000, "UNDRAIN")
    loads = watch(plane, 62)
    assert abs(loads[0] - half) < 0.05 * before
    assert loads[-1] == before
    assert min(loads) >= half - 0.05 * before


def test_spill_over_of_others_does_not_leave_at_once(plane: Plane) -> None:
    """eu-s1 carries what eu-s0 cannot; drained, it gives that away as evenly as its own."""
    for appliance in appliances("eu-s0"):
        plane.log.health(appliance, "FAILED")
    plane.report = lambda: None  # type: ignore[method-assign]
    watch(plane, 1)
    site = plane.cell.fleet.sites.get("eu-s1")
    before = int(plane.cell.projected_bps()[site].sum())
    plane.log.drain("eu-s1", 60_000)
    watch(plane, 1)
    assert int(plane.cell.projected_bps()[site].sum()) > 0.9 * before > 0


def test_an_urgent_cut_takes_a_drain_and_moves_no_more_than_the_tick_would(plane: Plane) -> None:
    (before,) = watch(plane, 1)
    plane.log.drain("eu-s0", 60_000)
    plane.cut(Cause.URGENT, 10)
    assert watch(plane, 1)[0] > 0.95 * before


def test_l7_a_region_without_any_other_site_keeps_what_it_has(plane: Plane) -> None:
    before = plane.serving("eu")
    plane.effects.clear()
    plane.log.drain("eu", -1)
    watch(plane, 6)
    assert plane.serving("eu") == before
    assert told(plane.effects, "site", "eu-s0")[:3] == [
        ("IN_SERVICE", "DRAINED", Reason.DRAINED),
        ("VOD+LIVE+GAME", "NONE", Reason.DRAINING),
        ("DRAINED", "HELD", Reason.HELD),
    ]
    assert told(plane.effects, "site", "eu-s4")[0] == ("IN_SERVICE", "DRAINED", Reason.DRAINED)
    (held,) = [
        row.detail
        for one in plane.effects
        for row in one.verdicts
        if row.entity == "eu-s0" and row.to_state == "HELD"
    ]
    assert held == f"{len(plane.groups('eu'))} groups have no other site that can serve them"
    assert plane.cell.duties.state[plane.cell.fleet.sites.get("us-s0")] == Duty.IN_SERVICE
    plane.log.drain("eu", -1, "UNDRAIN")
    watch(plane, 1)
    assert told(plane.effects[-1:], "site", "eu-s0")[0] == (
        "HELD",
        "IN_SERVICE",
        Reason.RELEASED,
    )


def test_l7_clients_that_only_the_drained_site_knows_stay_there(plane: Plane) -> None:
    plane.log.route("eu-s0", "20.50.0.0/16")
    plane.log.drain("eu-s0", -1)
    watch(plane, 3)
    alone = [record for record in plane.groups("eu") if len(record["sites"]) == 1]
    assert [record["sites"][0]["shares"] for record in alone] == [[10_000] * 3]
    others = [record for record in plane.groups("eu") if len(record["sites"]) > 1]
    assert all(record["sites"][0]["shares"] == [0] * 3 for record in others)


def test_when_the_others_fail_a_drained_site_serves_again(plane: Plane) -> None:
    plane.log.drain("eu-s0", -1)
    watch(plane, 2)
    others = [one for number in range(1, 5) for one in appliances(f"eu-s{number}")]
    for appliance in others:
        plane.log.health(appliance, "FAILED")
    plane.cut(Cause.URGENT, 50)
    assert list(plane.serving("eu")) == ["eu-s0"]


def test_without_room_elsewhere_load_stays_until_the_deadline_and_is_told(plane: Plane) -> None:
    """All others together have less room than eu-s0 carries."""
    out = {one for number in range(1, 5) for one in appliances(f"eu-s{number}")[1:]}
    report = plane.report

    def few() -> None:
        report(failed=tuple(sorted(out)), service="DRAINING")

    for number in range(1, 5):
        plane.log.forget("appliance", f"eu-s{number}-a0")
    plane.log.appliance("eu-s1-a0", "eu")
    plane.report = few  # type: ignore[method-assign]
    (before,) = watch(plane, 5)[-1:]
    plane.effects.clear()
    plane.log.drain("eu-s0", 20_000)
    loads = watch(plane, 19)
    assert loads[-1] > before - 10_000
    assert ("OVERFLOWING", Reason.OVERFLOW) in [
        (to, why) for _, to, why in told(plane.effects, "site", "eu-s0")
    ]
    assert watch(plane, 3)[-1] == 0
    assert "eu-s0" not in plane.serving("eu")


# -- the section ----------------------------------------------------------------------------------


def share(fleet: Fleet, now_ms: int) -> int:
    return int(
        fleet.drains.admitted(
            fleet.sites, fleet.site_region, fleet.regions, fleet.site_regions, now_ms
        )[0][0]
    )


def fleet_with_drain(*records: tuple, now_ms: int = 1000) -> Fleet:
    fleet = Fleet()
    fold_fleet(fleet, region(), site("fra1"))
    fold_fleet(fleet, *records, now_ms=now_ms)
    return fleet


def test_the_share_goes_evenly_from_where_it_is_to_the_deadline() -> None:
    fleet = fleet_with_drain(drain("fra1", 11_000))
    assert [share(fleet, at) for at in (1000, 3500, 6000, 10_999, 11_000, 99_000)] == [
        *(10_000, 7500, 5000, 1, 0, 0)
    ]
    fold_fleet(fleet, drain("fra1", 16_000, action="UNDRAIN"), now_ms=6000)
    assert [share(fleet, at) for at in (6000, 11_000, 16_000)] == [5000, 7500, 10_000]


def test_the_less_of_site_and_region_is_admitted() -> None:
    fleet = fleet_with_drain(drain("fra1", 5000), drain("eu", 3000, scope="REGION"))
    assert [share(fleet, at) for at in (2000, 3000)] == [5000, 0]
    fold_fleet(fleet, tombstones=[b"drain:region:eu"], now_ms=3000)
    assert share(fleet, 3000) == 5000
    fold_fleet(fleet, tombstones=[b"drain:site:fra1"], now_ms=3000)
    assert share(fleet, 3000) == 10_000


def test_a_shared_site_goes_with_its_home_and_not_with_those_it_serves_too() -> None:
    fleet = fleet_with_drain(drain("us", 0, scope="REGION"), drain("eu", 3000, scope="REGION"))
    fold_fleet(fleet, site("x", regions=["us", "eu"]))
    admitted = fleet.drains.admitted(
        fleet.sites, fleet.site_region, fleet.regions, fleet.site_regions, 2000
    )[0]
    assert dict(zip(fleet.sites.names, admitted.tolist(), strict=True)) == {"fra1": 5000, "x": 0}


def test_the_same_record_again_changes_nothing_and_is_counted() -> None:
    fleet = fleet_with_drain(drain("fra1", 11_000))
    account = fold_fleet(fleet, drain("fra1", 11_000), now_ms=5000)
    assert account.notes[Noted.DUPLICATE] == 1
    assert fleet.drains.fields() == [["site:fra1", *Drain(10_000, 0, 1000, 11_000)]]


def test_a_drain_may_come_before_its_site_and_outlives_it() -> None:
    fleet = Fleet()
    fold_fleet(fleet, drain("fra1"))
    fold_fleet(fleet, region(), site("fra1"))
    assert share(fleet, 1) == 0
    fold_fleet(fleet, tombstones=[b"site:fra1"])
    fold_fleet(fleet, site("fra1"))
    assert share(fleet, 1) == 0


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (drain("", 1), Refusal.BAD_ID),
        (drain("fra1", -1), Refusal.OUT_OF_RANGE),
        (drain("fra1", 2**60), Refusal.OUT_OF_RANGE),
        (drain("fra1", 1, at_ms=-5), Refusal.OUT_OF_RANGE),
    ],
)
def test_a_drain_that_cannot_be_is_refused(record: tuple, reason: Refusal) -> None:
    fleet = Fleet()
    account = fold_fleet(fleet, record)
    assert [one.reason for one in account.refused[FLEET_INVENTORY.name]] == [reason]
    assert not fleet.drains.fields()


@pytest.mark.parametrize("key", [b"drain:fra1", b"drain:", b"drain:link:fra1"])
def test_a_key_that_names_no_drain_is_refused(key: bytes) -> None:
    account = fold_fleet(Fleet(), tombstones=[key])
    assert [one.reason for one in account.refused[FLEET_INVENTORY.name]] == [Refusal.BAD_KEY]
