"""What a cell does when things happen: sites fail, fill up and come back; tables are held;
regions."""

import pytest

from pipeline.cell import Cell, step
from pipeline.config import SteeringConfig
from pipeline.cut import Cause, Cut
from pipeline.decide import exact
from pipeline.decide.guard import HOLD_MS, SETTLE_MS
from pipeline.effects import Effects, VerdictRow
from pipeline.reasons import Reason
from pipeline.wire.decode import decode
from schemas.registry import LB_WEIGHTS, STEERING_GROUPS, STEERING_PREFIXES
from tests.cell_world import (
    GBPS,
    Followed,
    Log,
    appliances,
    everything,
    nets,
    read,
    sites,
    table_bytes,
)


class Plane:
    """A cell, its log and a follower, one cut at a time."""

    def __init__(self, config: SteeringConfig | None = None) -> None:
        self.log, self.cell, self.follower = Log(), Cell(0, 1), Followed()
        self.config = config or SteeringConfig()
        self.effects: list[Effects] = []
        self._taken = dict.fromkeys(self.log.values, 0)

    def cut(self, cause: Cause = Cause.TICK, after_ms: int = 1000) -> Effects:
        self.log.cut(cause, after_ms)
        cut: Cut = self.log.cuts[-1]
        rows = {}
        for topic, end in cut.offsets.items():
            start, self._taken[topic] = self._taken[topic], end
            if end > start:
                rows[topic] = read(self.log, topic, start, end)
        effects = step(self.cell, rows, cut, self.config)
        self.follower.take(effects)
        return effects

    def start(self) -> None:
        """Every site of a region announces all its nets, the nearer the lower its number."""
        self.log.inventory()
        for region in ("eu", "us"):
            for hops, site in enumerate(sites(region), 1):
                for net in nets(region):
                    self.log.route(site, net, hops=hops)
        self.report()
        self.cut()

    def report(self, *, failed: tuple[str, ...] = (), service: str = "FAILED") -> None:
        for appliance in everything():
            self.log.health(appliance, service if appliance in failed else "OK")

    def wait(self, seconds: int, **reports: object) -> list[Effects]:
        """Cuts of a second with a report of everybody in each."""
        effects = []
        for _ in range(seconds):
            self.report(**reports)  # type: ignore[arg-type]
            effects.append(self.cut())
        return effects

    def groups(self, region: str) -> list[dict]:
        held = self.follower.held[STEERING_GROUPS.name].values()
        records = [decode(value)[1] for value in held]
        return [record for record in records if record["region"] == region]

    def serving(self, region: str, klass: int = 0) -> dict[str, int]:
        """Sum of the shares of each site over the region's groups."""
        total: dict[str, int] = {}
        for record in self.groups(region):
            for site in record["sites"]:
                total[site["site"]] = total.get(site["site"], 0) + site["shares"][klass]
        return {site: share for site, share in sorted(total.items()) if share}

    def weights(self, site: str) -> dict[str, dict]:
        record = decode(self.follower.held[LB_WEIGHTS.name][site.encode()])[1]
        return {one["appliance"]: one for one in record["appliances"]}


def told(effects: list[Effects], kind: str, entity: str) -> list[tuple[str, str, Reason]]:
    rows: list[VerdictRow] = [row for one in effects for row in one.verdicts]
    return [
        (row.from_state, row.to_state, Reason(row.reason))
        for row in rows
        if (row.kind, row.entity) == (kind, entity)
    ]


@pytest.fixture
def plane() -> Plane:
    plane = Plane()
    plane.start()
    return plane


def topics(effects: Effects) -> set[str]:
    return {topic for topic, _, _ in table_bytes(effects)}


def test_two_regions_of_a_cell_have_a_table_each(plane: Plane) -> None:
    assert list(plane.serving("eu")) == ["eu-s0"]
    assert list(plane.serving("us")) == ["us-s0"]
    prefixes = plane.follower.held[STEERING_PREFIXES.name]
    assert sum(key.endswith(b"eu") for key in prefixes) == len(nets("eu"))
    assert sum(key.endswith(b"us") for key in prefixes) == len(nets("us"))


def test_a_site_that_fails_hands_over_at_once_and_prefixes_stay(plane: Plane) -> None:
    failed = tuple(appliances("eu-s0"))
    for appliance in failed:
        plane.log.health(appliance, "FAILED")
    effects = plane.cut(Cause.URGENT, 50)
    assert topics(effects) == {LB_WEIGHTS.name, STEERING_GROUPS.name}
    assert list(plane.serving("eu")) == ["eu-s1"]
    assert list(plane.serving("us")) == ["us-s0"]
    assert told([effects], "site", "eu-s0") == [
        ("BY_HEALTH", "LAST_GOOD", Reason.HELD),
        ("VOD+LIVE+GAME", "NONE", Reason.NO_CAPACITY),
    ]
    for record in plane.groups("eu"):
        assert record["passed_over"] == [
            {"site": "eu-s0", "traffic_class": klass, "reason": "no_capacity"}
            for klass in ("VOD", "LIVE", "GAME")
        ]
    assert sum(one["weight"] for one in plane.weights("eu-s0").values()) == 10_000
    assert {one["reason"] for one in plane.weights("eu-s0").values()} == {"reported_failed"}

    back = plane.wait(60)
    assert list(plane.serving("eu")) == ["eu-s0"]
    assert not any(STEERING_PREFIXES.name in topics(one) for one in back)
    assert told(back, "site", "eu-s0") == [
        ("LAST_GOOD", "BY_HEALTH", Reason.RELEASED),
        ("NONE", "VOD+LIVE+GAME", Reason.PROMOTED),
    ]
    assert not any(record["passed_over"] for record in plane.groups("eu"))


def test_an_appliance_that_fails_moves_its_own_share_within_its_site(plane: Plane) -> None:
    before = plane.weights("eu-s0")
    plane.log.health("eu-s0-a1", "FAILED")
    effects = plane.cut(Cause.URGENT, 50)
    assert [(topic, key) for topic, key, _ in table_bytes(effects)] == [(LB_WEIGHTS.name, b"eu-s0")]
    after = plane.weights("eu-s0")
    assert after["eu-s0-a1"]["weight"] == 0
    assert after["eu-s0-a1"]["state"] == "DOWN"
    assert after["eu-s0-a0"]["weight"] > before["eu-s0-a0"]["weight"]
    assert sum(one["weight"] for one in after.values()) == 10_000


def test_a_class_that_only_a_failed_appliance_serves_moves_alone(plane: Plane) -> None:
    plane.log.health("eu-s0-a0", "FAILED")
    plane.cut(Cause.URGENT, 50)
    assert list(plane.serving("eu", klass=0)) == ["eu-s0"]
    assert list(plane.serving("eu", klass=2)) == ["eu-s1"]
    for record in plane.groups("eu"):
        assert record["passed_over"] == [
            {"site": "eu-s0", "traffic_class": "GAME", "reason": "no_capacity"}
        ]


def test_a_class_that_no_appliance_is_made_for_is_not_served(plane: Plane) -> None:
    plane.log.forget("appliance", "eu-s0-a0")
    plane.cut()
    for record in plane.groups("eu"):
        assert record["passed_over"] == [
            {"site": "eu-s0", "traffic_class": "GAME", "reason": "class_not_served"}
        ]


def test_a_full_site_spills_over_and_says_so(plane: Plane) -> None:
    """60 Gb/s at a site for 60: what is above 57 goes on; then demand goes away again."""
    effects = []
    for _ in range(85):
        shares = plane.serving("eu")
        for number in range(10):
            for at, share in shares.items():
                size = 6 * GBPS // 8 * share // sum(shares.values())
                plane.log.play(f"20.{number}.9.9", f"{at}-a0", "VOD", size)
        effects += plane.wait(1)
    assert list(plane.serving("eu")) == ["eu-s0", "eu-s1"]
    assert not any(map(table_bytes, effects[-10:]))  # L10: constant demand, constant table
    passed = [one for record in plane.groups("eu") for one in record["passed_over"]]
    assert {one["reason"] for one in passed} <= {"site_full"}
    assert told(effects, "site", "eu-s0")[-1:] == [("ROOM", "SPILLING", Reason.SITE_FULL)]
    assert told(effects, "site", "eu-s1")[-1:] == [("ROOM", "TAKING", Reason.SPILL_OVER)]
    load = plane.cell.projected_bps().sum(axis=1).tolist()
    index = plane.cell.fleet.sites.get("eu-s0")
    assert 0.94 * 60 * GBPS < load[index] <= 0.95 * 60 * GBPS

    effects = plane.wait(90)
    assert list(plane.serving("eu")) == ["eu-s0"]
    assert told(effects, "site", "eu-s0") == [("SPILLING", "ROOM", Reason.RELIEVED)]
    assert told(effects, "site", "eu-s1") == [("TAKING", "ROOM", Reason.NEAREST)]


def test_a_flash_crowd_is_told_and_planned_for_before_it_fills_the_level(plane: Plane) -> None:
    """6 Gb/s at a site for 60 for two minutes, then ten times that within half a minute."""

    def crowd(times: float) -> list[Effects]:
        for number in range(10):
            plane.log.play(f"20.{number}.9.9", "eu-s0-a0", "LIVE", int(times * 0.6 * GBPS / 8))
        return plane.wait(1)

    calm = [effects for _ in range(120) for effects in crowd(1)]
    assert not told(calm, "demand", "eu/LIVE")
    coming = [effects for second in range(30) for effects in crowd(1 + 9 * second / 30)]
    assert told(coming, "demand", "eu/LIVE") == [("STEADY", "SURGING", Reason.FLASH_CROWD)]
    index = plane.cell.fleet.sites.get("eu-s0")
    planned = int(plane.cell.projected_bps()[index].sum())
    assert planned > 2 * int(plane.cell.demand_bps().sum())
    there = [effects for _ in range(60) for effects in crowd(10)]
    assert list(plane.serving("eu", klass=1)) == ["eu-s0", "eu-s1"]
    assert told(there, "demand", "eu/LIVE") == [("SURGING", "STEADY", Reason.RELIEVED)]
    restored = Cell.from_bytes(0, 1, plane.cell.to_bytes())
    assert restored.to_bytes() == plane.cell.to_bytes()


def test_plays_that_cease_while_bytes_flow_are_missing_and_demand_stays(plane: Plane) -> None:
    """Plays of 60 Gb/s cease, and the machines go on saying that they send: that is planned for as
    before. They come back; then both cease."""

    def second(*, heard_of: bool, sending: bool = True) -> Effects:
        if heard_of:
            for number in range(10):
                plane.log.play(f"20.{number}.9.9", "eu-s0-a0", "VOD", 6 * GBPS // 8)
        for appliance in everything():
            plane.log.health(appliance, egress_bps=20 * GBPS if sending else GBPS)
        return plane.cut()

    calm = [second(heard_of=True) for _ in range(280)]
    assert not told(calm, "demand", "eu")
    planned = plane.cell.projected_bps().sum()
    assert planned == pytest.approx(60 * GBPS, rel=0.01)
    silent = [second(heard_of=False) for _ in range(120)]
    assert told(silent, "demand", "eu") == [("TRUSTED", "MISSING", Reason.REPORTS_LOST)]
    assert plane.cell.demand_bps().sum() == 0
    assert plane.cell.projected_bps().sum() == pytest.approx(planned, rel=0.03)
    restored = Cell.from_bytes(0, 1, plane.cell.to_bytes())
    assert restored.to_bytes() == plane.cell.to_bytes()
    back = [second(heard_of=True) for _ in range(140)]
    assert told(back, "demand", "eu") == [("MISSING", "TRUSTED", Reason.RELEASED)]
    assert not told(back, "demand", "eu/VOD")  # what comes back is no crowd
    ended = [second(heard_of=False, sending=False) for _ in range(120)]
    assert not told(ended, "demand", "eu")  # nobody watches any more, and nothing is sent
    assert plane.cell.projected_bps().sum() == 0


def test_what_finds_no_room_is_reported(plane: Plane) -> None:
    effects = []
    for _ in range(80):
        for number in range(10):
            plane.log.play(f"20.{number}.9.9", "eu-s0-a0", "VOD", 50 * GBPS // 8)
        effects += plane.wait(1)
    assert Reason.OVERFLOW in {reason for _, _, reason in told(effects, "site", "eu-s0")}
    assert list(plane.serving("eu")) == sites("eu")


def test_silence_of_a_whole_region_does_not_empty_its_shares(plane: Plane) -> None:
    before = plane.serving("eu")
    for _ in range(40):
        for appliance in everything():
            if appliance.startswith("us"):
                plane.log.health(appliance)
        plane.cut()
    assert plane.serving("eu") == before


def test_silence_of_a_region_that_is_believed_panics(plane: Plane) -> None:
    """One site withdrew before: what is left of its region falls silent, and is presumed alive."""
    for appliance in appliances("eu-s0"):
        plane.log.health(appliance, "FAILED")
    plane.cut()
    effects = []
    for _ in range(60):
        for appliance in everything():
            if appliance.startswith("us") or appliance.startswith("eu-s0"):
                plane.log.health(appliance, "FAILED" if appliance.startswith("eu") else "OK")
        effects.append(plane.cut())
    assert list(plane.serving("eu")) == ["eu-s1"]
    told_s1 = told(effects, "site", "eu-s1")
    assert ("BY_HEALTH", "PANIC", Reason.PANIC) in told_s1
    assert Reason.PANIC in {row[2] for row in told_s1 if row[1] == "VOD+LIVE+GAME"}
    assert {one["reason"] for one in plane.weights("eu-s1").values()} == {"panic"}


def test_l7_a_table_whose_routes_are_all_gone_is_held(plane: Plane) -> None:
    plane.wait(SETTLE_MS // 1000 + 1)
    before = dict(plane.follower.held[STEERING_PREFIXES.name])
    for site in sites("eu"):
        plane.log.session(site, "PeerDown")
    effects = plane.wait(30)
    assert told(effects, "table", "eu") == [("PASSING", "HELD", Reason.EMPTY_TABLE)]
    assert plane.follower.held[STEERING_PREFIXES.name] == before

    for appliance in appliances("eu-s0"):
        plane.log.health(appliance, "FAILED")
    plane.cut(Cause.URGENT, 50)
    assert list(plane.serving("eu")) == ["eu-s1"]  # what is held still reacts

    for hops, site in enumerate(sites("eu"), 1):
        plane.log.session(site, "PeerUp")
        for net in nets("eu")[:-1]:
            plane.log.route(site, net, hops=hops)
    effects = plane.wait(1, failed=tuple(appliances("eu-s0")))
    assert told(effects, "table", "eu") == [("HELD", "PASSING", Reason.RELEASED)]
    after = plane.follower.held[STEERING_PREFIXES.name]
    assert after.keys() < before.keys()
    assert len(after) == len(before) - 1


def test_l7_a_table_that_moves_too_much_without_a_cause_is_held_and_confirmed(plane: Plane) -> None:
    plane.wait(SETTLE_MS // 1000 + 1)
    for net in nets("eu"):
        plane.log.route("eu-s4", net, hops=1)
        plane.log.route("eu-s0", net, hops=9)
    effects = plane.wait(1)
    assert told(effects, "table", "eu") == [("PASSING", "HELD", Reason.MOVED_TOO_MUCH)]
    assert not topics(effects[0]) & {STEERING_PREFIXES.name, STEERING_GROUPS.name}
    effects = plane.wait(HOLD_MS // 1000 + 1)
    assert told(effects, "table", "eu") == [("HELD", "PASSING", Reason.RELEASED)]
    assert list(plane.serving("eu")) == ["eu-s4"]
    assert len(plane.groups("eu")) == 1


def test_a_held_move_that_is_taken_back_was_never_published(plane: Plane) -> None:
    plane.wait(SETTLE_MS // 1000 + 1)
    for net in nets("eu"):
        plane.log.route("eu-s0", net, action="WITHDRAW")
    plane.wait(3)
    for net in nets("eu"):
        plane.log.route("eu-s0", net, hops=1)
    effects = plane.wait(1)
    assert told(effects, "table", "eu") == [("HELD", "PASSING", Reason.RELEASED)]
    assert not topics(effects[0]) & {STEERING_PREFIXES.name, STEERING_GROUPS.name}


def test_a_session_that_goes_down_is_a_cause(plane: Plane) -> None:
    plane.wait(SETTLE_MS // 1000 + 1)
    plane.log.session("eu-s0", "PeerDown")
    effects = plane.wait(1)
    assert not told(effects, "table", "eu")
    assert list(plane.serving("eu")) == ["eu-s1"]


def test_a_site_that_leaves_the_inventory_leaves_the_tables(plane: Plane) -> None:
    plane.log.forget("site", "eu-s0")
    plane.wait(2)
    assert b"eu-s0" not in plane.follower.held[LB_WEIGHTS.name]
    assert list(plane.serving("eu")) == ["eu-s1"]


def test_l7_the_last_site_stays_until_there_is_another(plane: Plane) -> None:
    every = [*sites("eu"), *sites("us")]
    for site in every:
        plane.log.forget("site", site)
    plane.wait(2)
    assert list(plane.follower.held[LB_WEIGHTS.name]) == [every[-1].encode()]
    assert len(plane.follower.held[STEERING_PREFIXES.name]) == len(nets("eu")) + len(nets("us"))
    plane.log.inventory()
    plane.log.forget("site", every[-1])
    plane.wait(2)
    assert list(plane.follower.held[LB_WEIGHTS.name]) == [site.encode() for site in every[:-1]]


def test_a_changed_configuration_takes_effect_at_its_cut(plane: Plane) -> None:
    for _ in range(80):
        for number in range(10):
            plane.log.play(f"20.{number}.9.9", "eu-s0-a0", "VOD", 4 * GBPS // 8)
        plane.wait(1)
    assert list(plane.serving("eu")) == ["eu-s0"]
    plane.config = SteeringConfig.model_validate({"assignment": {"target": 0.5}})
    effects = plane.wait(1)
    assert list(plane.serving("eu")) == ["eu-s0", "eu-s1"]
    (full,) = [row for one in effects for row in one.verdicts if row.reason == Reason.SITE_FULL]
    assert (full.entity, full.detail.rpartition(", ")[-1].split()[0]) == ("eu-s0", "price")


def test_shares_that_are_not_the_optimum_are_told_of(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact, "WORK_MAX", 0)
    for _ in range(80):
        for number in range(10):
            plane.log.play(f"20.{number}.9.9", "eu-s0-a0", "VOD", 4 * GBPS // 8)
        plane.wait(1)
    plane.config = SteeringConfig.model_validate({"assignment": {"target": 0.5}})
    found = told(plane.wait(1), "table", "eu")
    assert found == [("EXACT", "SPILLED_OVER", Reason.TOO_MUCH_TO_SOLVE)]
    assert list(plane.serving("eu")) == ["eu-s0", "eu-s1"]
    monkeypatch.undo()
    found = told(plane.wait(6), "table", "eu")
    assert found == [("SPILLED_OVER", "EXACT", Reason.RELEASED)]


def test_what_tools_ask_of_a_cell(plane: Plane) -> None:
    assert plane.cell.states()["UP"] == len(everything())
    plane.log.play("20.1.2.3", "eu-s0-a0", "LIVE", 8 * GBPS)
    plane.wait(7)
    assert plane.cell.demand_bps().tolist()[1] > 0
    assert plane.cell.projected_bps().sum() == pytest.approx(
        plane.cell.demand_bps().sum(), rel=1e-3
    )
    egress_bps, capacity_bps = plane.cell.measured_bps()
    assert set(egress_bps.tolist()) == {3 * GBPS}
    assert set(capacity_bps.tolist()) == {60 * GBPS}


def test_plays_may_come_before_the_first_route() -> None:
    plane = Plane()
    plane.log.inventory()
    plane.report()
    plane.cut()
    plane.log.play("20.0.1.9", everything()[0], "VOD", GBPS)
    plane.cut()
    plane.wait(6)
    for net in nets("eu"):
        plane.log.route(sites("eu")[0], net)
    plane.wait(6)
    assert plane.serving("eu")


def measure(plane: Plane, loss: float, rounds: int) -> list[Effects]:
    """So many times all sites measure one net; the nearest one loses this of it."""
    effects = []
    for _ in range(rounds):
        for site in sites("eu"):
            plane.log.path(site, nets("eu")[0], 9_000, loss if site == "eu-s0" else 0.0, 500)
        plane.report()
        effects.append(plane.cut(after_ms=5_000))
    return effects


def test_a_path_that_loses_is_passed_over_until_it_is_well(plane: Plane) -> None:
    bad = measure(plane, 0.05, 3)
    assert told(bad, "path", "eu-s0") == [("CLEAR", "LOSSY", Reason.PATH_LOSS)]
    whole, moved = sorted(plane.groups("eu"), key=lambda one: len(one["sites"][0]["shares"]))[:2]
    if whole["sites"][0]["site"] != "eu-s0":
        whole, moved = moved, whole
    assert whole["sites"][0]["shares"][0] == 10_000  # everybody else is served as before
    assert [one["site"] for one in moved["sites"]][:1] == ["eu-s1"]
    assert moved["sites"][0]["shares"][0] == 10_000
    assert {(one["site"], one["reason"]) for one in moved["passed_over"]} == {
        ("eu-s0", Reason.PATH_LOSS)
    }
    well = measure(plane, 0.0, 12)
    assert told(well, "path", "eu-s0") == [("LOSSY", "CLEAR", Reason.RELEASED)]
    assert len(plane.groups("eu")) == 1
    assert list(plane.serving("eu")) == ["eu-s0"]


def test_a_lossy_path_serves_where_there_is_no_other_site(plane: Plane) -> None:
    measure(plane, 0.05, 3)
    failed = tuple(one for site in sites("eu")[1:] for one in appliances(site))
    plane.wait(10, failed=failed)
    assert list(plane.serving("eu")) == ["eu-s0"]
