"""Every statement about a client names the record it rests on, and none that was refused; the
answer is the one that a follower gave; a client that moved has its cut and what moved it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.cell import Cell
from pipeline.config import ProximityConfig, SteeringConfig
from pipeline.cut import Cause
from pipeline.errors import Unexplained
from pipeline.follow.lookup import who
from pipeline.follow.table import SteeringTable
from pipeline.reasons import Reason
from pipeline.replay.archive import Recording
from pipeline.replay.explain import explain
from pipeline.replay.explanation import Explanation
from pipeline.replay.moves import NOT_RANKED
from pipeline.replay.provenance import InSnapshot, Origin, Source
from pipeline.wire.address import format_prefix, parse_address, parse_prefix
from schemas.registry import (
    APPLIANCE_HEALTH,
    BGP_ROUTES,
    FLEET_INVENTORY,
    PLAY_EVENTS,
    STEERING_CONFIG,
    STEERING_CUTS,
    STEERING_EPOCHS,
    STEERING_PREFIXES,
    TRAFFIC_LINKS,
    TRAFFIC_PATHS,
)
from tests.cell_world import GBPS, START_MS, Log, appliances, sites
from tests.explained import follow, write

CLIENT = "20.1.2.3"
NEAR, FAR, OUTER = "eu-s0", "eu-s1", "eu-s2"
SITES = (NEAR, FAR, OUTER)


class Noted:
    """A small world; `at` has the offset of what was said last under a name."""

    def __init__(self) -> None:
        self.log, self.at = Log(), dict[str, int]()

    def note(self, name: str, topic: str) -> None:
        self.at[name] = len(self.log.values[topic]) - 1

    def routes(self) -> None:
        log = self.log
        log.route(OUTER, "20.0.0.0/8", hops=1)
        self.note("route outer", BGP_ROUTES.name)
        log.route(FAR, "20.1.0.0/16", hops=3)
        log.route(FAR, "20.1.0.0/16", hops=2, med=10)
        self.note("route far", BGP_ROUTES.name)
        log.route(NEAR, "20.0.0.0/8", hops=1)
        log.route(NEAR, "20.1.0.0/16", hops=2, med=5)
        self.note("route near", BGP_ROUTES.name)
        log.route(NEAR, "21.0.0.0/8", hops=1)

    def reports(self, **services: str) -> None:
        for site in SITES:
            for appliance in appliances(site):
                self.log.health(appliance, services.get(appliance.replace("-", "_"), "OK"))
                self.note(appliance, APPLIANCE_HEALTH.name)

    def telemetry(self) -> None:
        for link in (FAR,):
            self.log.link(link, 3 * GBPS)
            self.note("link", TRAFFIC_LINKS.name)
        for site in (NEAR, FAR):
            self.log.path(site, "20.1.0.0/16", 12_000)
            self.note(f"path {site}", TRAFFIC_PATHS.name)

    def plays(self, count: int = 3) -> None:
        self.log.play("20.9.9.9", "eu-s0-a0", "VOD", 10**6)
        for _ in range(count):
            self.log.play(CLIENT, "eu-s0-a0", "VOD", 75 * 10**6)
        self.note("play", PLAY_EVENTS.name)
        self.log.play("20.9.9.9", "eu-s0-a0", "VOD", 10**6)


def world() -> Noted:
    """Three sites, all well; the client is served by the near one."""
    made = Noted()
    log = made.log
    log.inventory()
    log.cut()
    made.routes()
    made.reports()
    made.telemetry()
    made.plays()
    log.cut(after_ms=6000)
    return made


def fail(made: Noted) -> None:
    """The near site fails, told by an urgent cut; then a second goes by."""
    for appliance in appliances(NEAR):
        made.log.health(appliance, "FAILED")
        made.note(f"failed {appliance}", APPLIANCE_HEALTH.name)
    made.log.cut(Cause.URGENT, 200)
    made.log.cut()


@contextmanager
def recorded(folder: Path, made: Noted, **given: object) -> Iterator[Recording]:
    with Recording(write(folder / "log", {0: made.log}, **given)) as recording:  # type: ignore[arg-type]
        yield recording


def ask(
    folder: Path, made: Noted, at_ms: int | None = None, client: str = CLIENT, **given: object
) -> Explanation:
    at_ms = made.log.now_ms if at_ms is None else at_ms
    with recorded(folder, made) as recording:
        return explain(recording, parse_address(client), at_ms, **given)  # type: ignore[arg-type]


def place(origin: Origin) -> tuple[str, int, int, int]:
    assert isinstance(origin, Source)
    return origin.topic, origin.partition, origin.offset, origin.at_ms - START_MS


def stands(topic: str, offset: int) -> tuple[str, int, int, int]:
    return topic, 0, offset, offset


# -- statements and their records -----------------------------------------------------------------


def test_cut_configuration_and_epoch_are_named(tmp_path: Path) -> None:
    made = world()
    found = ask(tmp_path, made)
    assert (found.cut.number, found.answer.cut) == (2, 2)
    assert place(found.cut_record) == stands(STEERING_CUTS.name, 1)
    assert place(found.config_record) == stands(STEERING_CONFIG.name, 0)
    assert place(found.epoch) == stands(STEERING_EPOCHS.name, 1)
    assert found.agrees is True


def test_the_cut_at_or_before_the_time_answers(tmp_path: Path) -> None:
    made = world()
    at_ms = made.log.cuts[-1].at_ms
    for _ in range(3):
        made.log.cut()
    assert [ask(tmp_path, made, at_ms + after).cut.number for after in (0, 999, 1000)] == [2, 2, 3]


def test_routes_are_named_by_site_peer_and_prefix(tmp_path: Path) -> None:
    made = world()
    found = ask(tmp_path, made)
    assert [one.site for one in found.answer.sites] == [NEAR]
    assert [one.site for one in found.answer.passed_over] == [FAR, OUTER]
    for name, site, prefix in (
        ("near", NEAR, "20.1.0.0/16"),
        ("far", FAR, "20.1.0.0/16"),
        ("outer", OUTER, "20.0.0.0/8"),
    ):
        route = found.sites[site].route
        assert route is not None
        assert place(route.record) == stands(BGP_ROUTES.name, made.at[f"route {name}"])
        assert (route.route.peer, format_prefix(route.route.prefix)) == ("192.0.2.1", prefix)


def test_inventory_of_region_site_appliance_and_network_is_named(tmp_path: Path) -> None:
    made = world()
    keys = made.log.keys[FLEET_INVENTORY.name]
    found = ask(tmp_path, made)

    def said(key: str) -> tuple[str, int, int, int]:
        return stands(FLEET_INVENTORY.name, keys.index(key.encode()))

    assert place(found.region_record) == said("region:eu")
    assert place(found.sites[FAR].inventory) == said(f"site:{FAR}")
    for one in found.sites[NEAR].appliances:
        assert place(one.inventory) == said(f"appliance:{one.appliance}")
    assert found.networks == ()
    network = parse_prefix("20.1.0.0/16")
    for _ in range(2):
        made.log._fleet("Network", "20.1.0.0/16", network=network, region="eu", lat=5.0, lon=1.0)
        made.note("network", FLEET_INVENTORY.name)
    made.log.cut()
    ((prefix, origin),) = ask(tmp_path, made).networks
    assert prefix == network
    assert place(origin) == stands(FLEET_INVENTORY.name, made.at["network"])
    made.log.forget("network", "20.1.0.0/16")
    made.log.cut()
    assert ask(tmp_path, made).networks == ()


def test_the_last_report_and_the_one_that_changed_the_state_are_named(tmp_path: Path) -> None:
    made = world()
    first = dict(made.at)
    fail(made)
    for appliance in appliances(NEAR):
        made.log.health(appliance, "FAILED", egress_bps=0)
        made.note(appliance, APPLIANCE_HEALTH.name)
    made.log.cut()
    found = ask(tmp_path, made)
    for one in found.sites[NEAR].appliances:
        assert (one.state, one.reason) == ("DOWN", Reason.REPORTED_FAILED)
        assert one.since_ms == made.log.cuts[2].at_ms
        changed = made.at[f"failed {one.appliance}"]
        assert place(one.change) == stands(APPLIANCE_HEALTH.name, changed)
        assert place(one.report) == stands(APPLIANCE_HEALTH.name, made.at[one.appliance])
    for one in found.sites[FAR].appliances:
        assert place(one.change) == stands(APPLIANCE_HEALTH.name, first[one.appliance])


def test_a_failure_that_the_same_cut_took_back_rests_on_the_report_that_told_it(
    tmp_path: Path,
) -> None:
    made = world()
    made.log.health("eu-s0-a0", "FAILED")
    made.note("failed", APPLIANCE_HEALTH.name)
    made.log.now_ms += 5
    made.log.health("eu-s0-a0", "OK")
    made.log.cut()
    found = ask(tmp_path, made).sites[NEAR].appliances[0]
    assert (found.state, found.service) == ("DOWN", "OK")
    assert place(found.change) == stands(APPLIANCE_HEALTH.name, made.at["failed"])


def test_links_and_paths_are_named_with_the_run_of_their_samples(tmp_path: Path) -> None:
    made = world()
    first = dict(made.at)
    made.telemetry()
    made.log.cut()
    found = ask(tmp_path, made)
    ((link,),) = ([*found.sites[site].links] for site in (FAR,))
    assert place(link.sample) == stands(TRAFFIC_LINKS.name, made.at["link"])
    assert isinstance(link.sample, Source)
    assert (link.sample.first_offset, link.sample.count) == (first["link"], 2)
    for site in (NEAR, FAR):
        path = found.sites[site].path
        assert path is not None
        assert place(path.record) == stands(TRAFFIC_PATHS.name, made.at[f"path {site}"])
        assert path.rtt_us == 12_000
    assert found.sites[OUTER].path is None


def test_the_plays_of_the_clients_block_are_a_run_and_make_its_demand(tmp_path: Path) -> None:
    made = world()
    found = ask(tmp_path, made).drawn
    assert found.source is not None
    assert place(found.source) == stands(PLAY_EVENTS.name, made.at["play"])
    assert (found.source.first_offset, found.source.count) == (made.at["play"] - 2, 3)
    assert found.level_bps == (3 * 75 * 10**6 * 8 // 60, 0, 0)
    assert found.by_appliance == {"eu-s0-a0": 3}


def test_table_records_lie_between_what_the_epochs_say(tmp_path: Path) -> None:
    made = world()
    fail(made)
    found = ask(tmp_path, made)
    assert [format_prefix(one.prefix) for one in found.covers] == ["20.1.0.0/16", "20.0.0.0/8"]
    prefix, group = found.covers[0].published, found.group
    assert (prefix.topic, prefix.cut, prefix.first_offset) == (STEERING_PREFIXES.name, 2, 0)
    assert (group.cut, found.weights[NEAR].cut, found.weights[FAR].cut) == (3, 3, 2)
    assert 0 < group.first_offset < group.end_offset
    assert place(group.epoch) == stands(STEERING_EPOCHS.name, 2)


def test_load_is_what_the_plane_projected(tmp_path: Path) -> None:
    near = ask(tmp_path, world()).sites[NEAR]
    drawn = (3 * 75 + 2) * 10**6 * 8 // 60
    assert near.projected_bps[1:] == (0, 0)
    assert abs(near.projected_bps[0] - drawn) < 10_000
    assert near.usable_bps == near.capacity_bps == 60 * GBPS
    assert (near.target, near.target_bps, near.load) == (9500, 57 * GBPS, "ROOM")
    assert near.serves == {"VOD": None, "LIVE": None, "GAME": None}


# -- what is never named --------------------------------------------------------------------------


def test_refused_records_are_never_named(tmp_path: Path) -> None:
    made = world()
    log, before = made.log, ask(tmp_path, world())
    later = log.now_ms + 3_600_000
    log.health("eu-s0-a0", at_ms=later)
    log.health("eu-s0-a0", cpu=float("nan"))
    log.health("eu-s0-a0", egress_bps=-1)
    log.link(FAR, -1)
    log.path(NEAR, "20.1.0.0/16", -1)
    log.path(NEAR, "20.1.0.0/16", 70_000_000)
    log.play(CLIENT, "eu-s0-a0", "VOD", -1)
    log.route(NEAR, "20.1.0.0/16", med=-7, action="WITHDRAW")
    for topic in (APPLIANCE_HEALTH.name, BGP_ROUTES.name, FLEET_INVENTORY.name):
        good = next(value for value in reversed(log.values[topic]) if value)
        log.raw(topic, b"x", good[:-1])
    log._fleet("Site", NEAR, region="eu", name=NEAR, kind="IX", links=[], lat=99.0, lon=0.0)
    log._fleet("Region", "eu", name="eu", lat=float("nan"), lon=0.0)
    log.cut(after_ms=0)
    found = ask(tmp_path, made)
    assert found.cut.number == 3
    for site in SITES:
        was, now = before.sites[site], found.sites[site]
        assert (now.inventory, now.links, now.appliances) == (
            was.inventory,
            was.links,
            was.appliances,
        )
        assert (now.route, now.path) == (was.route, was.path)
    assert found.region_record == before.region_record
    assert found.drawn == before.drawn


def test_a_refused_announcement_withdraws_and_is_not_named_as_a_route(tmp_path: Path) -> None:
    """RFC 7606, as the section does: what it replaced is gone."""
    made = world()
    made.log.route(NEAR, "20.1.0.0/16", hops=300)
    made.note("refused", BGP_ROUTES.name)
    made.log.cut()
    found = ask(tmp_path, made)
    assert [one.site for one in found.answer.sites] == [FAR]
    route = found.sites[NEAR].route
    assert route is not None
    assert format_prefix(route.route.prefix) == "20.0.0.0/8"
    (move,) = found.moves
    (news,) = [one for one in move.evidence if one.kind == "route"]
    assert "eu-s0: 20.1.0.0/16 by peer 192.0.2.1 withdrawn" in news.text
    assert place(news.origin) == stands(BGP_ROUTES.name, made.at["refused"])


def test_a_report_or_sample_that_came_late_is_not_named(tmp_path: Path) -> None:
    made = world()
    log, now_ms = made.log, made.log.now_ms
    log.now_ms = now_ms - 7000
    log.health("eu-s0-a0")
    log.link(FAR, GBPS)
    log.path(NEAR, "20.1.0.0/16", 99_000)
    log.now_ms = now_ms
    log.cut()
    found = ask(tmp_path, made)
    (report,) = [one for one in found.sites[NEAR].appliances if one.appliance == "eu-s0-a0"]
    assert place(report.report) == stands(APPLIANCE_HEALTH.name, made.at["eu-s0-a0"])
    assert place(found.sites[FAR].links[0].sample) == stands(TRAFFIC_LINKS.name, made.at["link"])
    path = found.sites[NEAR].path
    assert path is not None
    assert place(path.record) == stands(TRAFFIC_PATHS.name, made.at[f"path {NEAR}"])


def test_of_reports_and_samples_of_one_cut_the_newest_by_their_own_clock_counts(
    tmp_path: Path,
) -> None:
    """Of equal times the later report, which may say more, and the first sample."""
    made = world()
    log = made.log
    log.now_ms += 100
    log.health("eu-s0-a0", cpu=0.1)
    log.health("eu-s0-a0", cpu=0.2)
    made.note("report", APPLIANCE_HEALTH.name)
    log.link(FAR, 4 * GBPS)
    made.note("sample", TRAFFIC_LINKS.name)
    log.link(FAR, 5 * GBPS)
    log.now_ms -= 50
    log.health("eu-s0-a0", cpu=0.3)
    log.link(FAR, 6 * GBPS)
    log.cut()
    found = ask(tmp_path, made)
    report = found.sites[NEAR].appliances[0].report
    assert place(report) == stands(APPLIANCE_HEALTH.name, made.at["report"])
    sample = found.sites[FAR].links[0].sample
    assert place(sample) == stands(TRAFFIC_LINKS.name, made.at["sample"])


def test_a_session_that_ends_and_begins_in_one_cut_leaves_what_it_said_last(
    tmp_path: Path,
) -> None:
    made = world()
    log = made.log
    log.route(FAR, "20.1.0.0/16", hops=1)
    log.session(FAR, "PeerDown")
    log.session(FAR, "PeerUp")
    log.route(FAR, "20.0.0.0/8", hops=1)
    made.note("again", BGP_ROUTES.name)
    log.cut()
    route = ask(tmp_path, made).sites[FAR].route
    assert route is not None
    assert place(route.record) == stands(BGP_ROUTES.name, made.at["again"])


# -- who moved this client ------------------------------------------------------------------------


def test_a_failed_site_moves_its_clients_at_its_cut(tmp_path: Path) -> None:
    made = world()
    fail(made)
    found = ask(tmp_path, made)
    assert [(one.site, one.share, one.reason) for one in found.answer.sites] == [
        (FAR, 10_000, Reason.SPILL_OVER)
    ]
    (move,) = found.moves
    assert (move.cut.number, move.cut.cause) == (3, Cause.URGENT)
    assert place(move.record) == stands(STEERING_CUTS.name, 2)
    assert move.before is not None
    assert [one.site for one in move.before.sites] == [NEAR]
    assert [(one.site, one.before, one.after, one.reason) for one in move.shares] == [
        (NEAR, 10_000, 0, Reason.NO_CAPACITY),
        (FAR, 0, 10_000, Reason.SPILL_OVER),
    ]
    reports = {one.entity: one.origin for one in move.evidence if one.kind == "appliance"}
    assert reports.keys() == set(appliances(NEAR))
    for appliance, origin in reports.items():
        assert place(origin) == stands(APPLIANCE_HEALTH.name, made.at[f"failed {appliance}"])
    assert move.why == (
        "3 appliances (eu-s0-a0 ...) UP -> DOWN, reported_failed; "
        "eu-s0 VOD+LIVE+GAME -> NONE, no_capacity: 0 bps usable"
    )


def test_an_appliance_that_fails_is_a_move_within_its_site(tmp_path: Path) -> None:
    made = world()
    made.log.health("eu-s0-a2", "FAILED")
    made.log.cut(Cause.URGENT, 200)
    (move,) = ask(tmp_path, made).moves
    assert (move.cut.number, move.shares) == (3, ())
    assert move.why == "eu-s0-a2 UP -> DOWN, reported_failed"


def test_a_withdrawn_route_moves_at_the_tick_that_takes_it_over(tmp_path: Path) -> None:
    made = world()
    made.log.route(NEAR, "20.1.0.0/16", action="WITHDRAW")
    made.note("withdrawn", BGP_ROUTES.name)
    made.log.cut(Cause.URGENT, 200)
    urgent = ask(tmp_path, made)
    route = urgent.sites[NEAR].route
    assert route is not None  # the table stands until the next tick, and so does the statement
    assert place(route.record) == stands(BGP_ROUTES.name, made.at["route near"])
    made.log.cut()
    (move,) = ask(tmp_path, made).moves
    assert move.cut.number == 4
    (news,) = [one for one in move.evidence if one.kind == "route"]
    assert place(news.origin) == stands(BGP_ROUTES.name, made.at["withdrawn"])
    assert move.why == "eu-s0: 20.1.0.0/16 by peer 192.0.2.1 withdrawn"


def test_a_session_that_goes_down_is_named_for_the_routes_it_takes(tmp_path: Path) -> None:
    made = world()
    made.log.session(NEAR, "PeerDown")
    made.note("down", BGP_ROUTES.name)
    made.log.cut()
    found = ask(tmp_path, made)
    (move,) = found.moves
    origins = [place(one.origin) for one in move.evidence if one.kind == "route"]
    assert origins == [stands(BGP_ROUTES.name, made.at["down"])] * 2
    assert move.shares[0].reason == NOT_RANKED
    assert NEAR not in found.sites


def test_a_configuration_that_turns_the_ranking_is_named(tmp_path: Path) -> None:
    made = Noted()
    log = made.log
    log.inventory()
    log.cut()
    log.route(NEAR, "20.1.0.0/16", hops=2)
    log.route(FAR, "20.1.0.0/16", hops=2, med=5)
    made.reports()
    log.cut()
    other = SteeringConfig(proximity=ProximityConfig(missing_med="worst"))
    log.config_hash = other.hash()
    log.cut()
    path = write(tmp_path / "log", {0: log}, configs=(SteeringConfig(), other))
    with Recording(path) as recording:
        found = explain(recording, parse_address(CLIENT), log.now_ms)
    assert place(found.config_record) == stands(STEERING_CONFIG.name, 1)
    (move,) = found.moves
    assert [(one.site, one.after) for one in move.shares] == [(NEAR, 0), (FAR, 10_000)]
    assert move.evidence[0].kind == "config"
    assert place(move.evidence[0].origin) == stands(STEERING_CONFIG.name, 1)
    assert other.hash() in move.why


def test_a_measured_path_that_turns_the_ranking_is_named(tmp_path: Path) -> None:
    made = Noted()
    log = made.log
    log.inventory()
    for site, rtt_us in ((NEAR, 10_000), (FAR, 20_000)):
        log.route(site, "20.1.0.0/16")
        log.path(site, "20.1.0.0/16", rtt_us)
    made.reports()
    log.cut()
    assert [one.site for one in ask(tmp_path, made).answer.sites] == [NEAR]
    for _ in range(20):
        log.now_ms += 10
        log.path(NEAR, "20.1.0.0/16", 90_000)
        made.note("path", TRAFFIC_PATHS.name)
    log.cut()
    (move,) = ask(tmp_path, made).moves
    assert move.cut.number == 1  # measured times wait until shares are planned
    log.cut(after_ms=SteeringConfig().inputs.demand_bucket_ms)
    (move,) = ask(tmp_path, made).moves
    assert move.cut.number == 3
    samples = [one for one in move.evidence if one.kind == "path"]
    assert {one.text for one in samples} == {"eu-s0 RTT 9 ms -> 69 ms"}
    assert place(samples[-1].origin) == stands(TRAFFIC_PATHS.name, made.at["path"])
    assert move.why == "eu-s0 RTT 9 ms -> 69 ms"


def test_load_is_the_reason_where_nothing_else_happened(tmp_path: Path) -> None:
    made = world()
    for number in range(60):  # from three sites, of which none has too much as it is
        made.log.play(CLIENT, f"eu-s{number % 3}-a0", "VOD", 8 * GBPS)
    made.log.cut(after_ms=6000)
    found = ask(tmp_path, made)
    assert [one.site for one in found.answer.sites] == [NEAR, FAR]
    (move,) = found.moves
    assert [(one.site, one.reason) for one in move.shares] == [
        (NEAR, Reason.NEAREST),
        (FAR, Reason.SPILL_OVER),
    ]
    assert "eu-s0 ROOM -> SPILLING, site_full" in move.why
    (load,) = [one for one in move.evidence if (one.kind, one.entity) == ("load", NEAR)]
    assert "target 57.00 Gbit/s -> 57.00 Gbit/s" in load.text


def test_inventory_that_moves_a_client_is_named(tmp_path: Path) -> None:
    made = world()
    made.log.forget("site", NEAR)
    made.note("forgotten", FLEET_INVENTORY.name)
    made.log.cut()
    (move,) = ask(tmp_path, made).moves
    (gone,) = [one for one in move.evidence if one.kind == "inventory"]
    assert gone.text == "site eu-s0 left the inventory"
    assert place(gone.origin) == stands(FLEET_INVENTORY.name, made.at["forgotten"])
    assert move.why == gone.text


def test_every_move_since_a_time_is_told_and_else_the_last(tmp_path: Path) -> None:
    made = world()
    fail(made)
    made.log.route(FAR, "20.1.0.0/16", action="WITHDRAW")
    made.log.route(FAR, "20.0.0.0/8", hops=9)
    made.log.cut()
    assert [one.cut.number for one in ask(tmp_path, made).moves] == [5]
    moves = ask(tmp_path, made, since_ms=START_MS).moves
    assert [one.cut.number for one in moves] == [2, 3, 5]
    assert moves[0].before is None
    since = made.log.cuts[2].at_ms
    assert [one.cut.number for one in ask(tmp_path, made, since_ms=since).moves] == [3, 5]


def test_verdicts_on_the_sites_of_the_answer_and_of_the_one_before_are_told(
    tmp_path: Path,
) -> None:
    made = world()
    fail(made)
    entities = {one.told.row.entity for one in ask(tmp_path, made).verdicts}
    assert {NEAR, *appliances(NEAR), FAR} <= entities
    assert not entities & set(sites("us"))


# -- which cell answers ---------------------------------------------------------------------------


def cells() -> dict[int, Log]:
    """Two regions in cells of their own; the client's prefix is longer in us."""
    logs = {3: Log(), 1: Log()}
    for cell, log in logs.items():
        region = "eu" if cell == 3 else "us"
        log.inventory()
        for appliance in (one for site in sites(region) for one in appliances(site)):
            log.health(appliance)
        log.route(f"{region}-s0", "20.1.0.0/16" if region == "us" else "20.0.0.0/8")
        log.route(f"{region}-s0", "30.0.0.0/8")
        log.route(f"{region}-s0", "31.0.0.0/8")
        log.cut()
        log.cuts = [replace(cut, partition=cell) for cut in log.cuts]
    return logs


def test_the_region_with_the_longer_prefix_answers_and_a_move_may_cross_cells(
    tmp_path: Path,
) -> None:
    logs = cells()
    logs[1].route("us-s0", "20.1.0.0/16", action="WITHDRAW")
    for cell, log in logs.items():
        log.cut()
        log.cuts[-1] = replace(log.cuts[-1], partition=cell)
    with Recording(write(tmp_path / "log", logs, partitions=4)) as recording:
        first, now = (
            explain(recording, parse_address(CLIENT), logs[1].cuts[number].at_ms)
            for number in (0, 1)
        )
        here = explain(recording, parse_address(CLIENT), logs[1].cuts[0].at_ms, region="eu")
    assert (first.answer.region, first.answer.partition) == ("us", 1)
    assert [one.region for one in first.covers] == ["us", "eu"]
    assert (here.answer.region, here.answer.sites[0].site) == ("eu", NEAR)
    assert (now.answer.region, now.answer.partition) == ("eu", 3)
    (move,) = now.moves
    assert (move.cut.partition, move.cut.number) == (1, 2)
    assert move.why == "us-s0: 20.1.0.0/16 by peer 192.0.2.1 withdrawn"


def test_a_table_that_is_held_back_is_said_and_answers_as_it_stood(tmp_path: Path) -> None:
    made = world()
    for site in SITES:
        made.log.route(site, "20.1.0.0/16", action="WITHDRAW")
        made.log.route(site, "20.0.0.0/8", action="WITHDRAW")
    made.log.route(NEAR, "21.0.0.0/8", action="WITHDRAW")
    made.log.cut()
    found = ask(tmp_path, made)
    assert found.held == Reason.EMPTY_TABLE
    assert [one.site for one in found.answer.sites] == [NEAR]
    assert found.sites[NEAR].route is None
    (verdict,) = [one for one in found.verdicts if one.told.row.kind == "table"]
    assert (verdict.told.row.entity, verdict.told.row.to_state) == ("eu", "HELD")


def test_a_route_that_a_held_table_has_not_taken_is_not_named(tmp_path: Path) -> None:
    made = world()
    for _ in range(4):  # until the guard takes the table to be settled
        made.reports()
        made.log.cut(after_ms=10_000)
    for site, prefix in ((OUTER, "20.0.0.0/8"), (NEAR, "20.0.0.0/8"), (NEAR, "21.0.0.0/8")):
        made.log.route(site, prefix, action="WITHDRAW")
    made.log.route(NEAR, "20.1.2.0/24", hops=1)
    made.log.cut()
    found = ask(tmp_path, made)
    assert (found.held, format_prefix(found.answer.prefix)) == (
        Reason.MOVED_TOO_MUCH,
        "20.1.0.0/16",
    )
    route = found.sites[NEAR].route
    assert route is not None
    assert place(route.record) == stands(BGP_ROUTES.name, made.at["route near"])


def test_nothing_that_covers_it_is_said_with_what_did_before(tmp_path: Path) -> None:
    made = world()
    with pytest.raises(Unexplained, match=r"no prefix covered 9\.9\.9\.9 at .*regions .*: eu"):
        ask(tmp_path, made, client="9.9.9.9")
    with pytest.raises(Unexplained, match=r"in region us at"):
        ask(tmp_path, made, region="us")
    for site in (NEAR, FAR, OUTER):
        made.log.session(site, "PeerDown")
    made.log.route(FAR, "22.0.0.0/8")
    made.log.cut()
    with pytest.raises(Unexplained, match=r"\(cut 0/3\) it was served by eu-s0 100 %"):
        ask(tmp_path, made)


def test_a_time_outside_of_the_recording_is_said_with_its_range(tmp_path: Path) -> None:
    made = world()
    for at_ms in (START_MS, made.log.now_ms + 1):
        with pytest.raises(Unexplained, match=r"the cuts are of 2025-06-15T15:06:41\.000\+00:00"):
            ask(tmp_path, made, at_ms)


# -- a recording that begins at a snapshot --------------------------------------------------------


def test_what_came_before_the_recording_rests_on_the_snapshot(tmp_path: Path) -> None:
    made = world()
    whole = ask(tmp_path, made)
    made.log.cut()
    made.log.route(FAR, "20.1.0.0/16", hops=2, med=11)
    made.note("route far", BGP_ROUTES.name)
    made.log.health("eu-s1-a1")
    made.note("eu-s1-a1", APPLIANCE_HEALTH.name)
    made.log.cut()
    with recorded(tmp_path, made, snapshot_cut=3) as recording:
        found = explain(recording, parse_address(CLIENT), made.log.now_ms)
    snapshot = InSnapshot(3)
    near, far = found.sites[NEAR], found.sites[FAR]
    assert near.route is not None
    assert near.path is not None
    assert near.route.record == near.path.record == snapshot
    assert whole.sites[NEAR].route is not None
    assert near.route.route[3:6] == whole.sites[NEAR].route.route[3:6]
    assert far.route is not None
    assert place(far.route.record) == stands(BGP_ROUTES.name, made.at["route far"])
    assert far.inventory == far.links[0].sample == found.region_record == snapshot
    first, second = far.appliances[:2]
    assert first.inventory == first.report == first.change == snapshot
    assert place(second.report) == stands(APPLIANCE_HEALTH.name, made.at["eu-s1-a1"])
    assert second.change == snapshot
    assert (found.weights[NEAR].cut, found.weights[NEAR].epoch) == (0, snapshot)
    assert found.moves == ()
    assert found.known_since_ms == made.log.cuts[2].at_ms
    assert found.agrees
    assert found.block.level_bps == whole.block.level_bps == whole.drawn.level_bps
    assert (found.drawn.level_bps, found.drawn.source) == ((0, 0, 0), None)


def test_the_first_cut_behind_a_snapshot_may_have_moved_the_client(tmp_path: Path) -> None:
    made = world()
    fail(made)
    with recorded(tmp_path, made, snapshot_cut=2) as recording:
        found = explain(recording, parse_address(CLIENT), made.log.now_ms)
    (move,) = found.moves
    assert (move.cut.number, move.before is not None) == (3, True)
    origins = [one.origin for one in move.evidence if one.kind == "appliance"]
    failed = [made.at[f"failed {one}"] for one in appliances(NEAR)]
    assert [place(one) for one in origins] == [stands(APPLIANCE_HEALTH.name, at) for at in failed]


# -- as it was answered ---------------------------------------------------------------------------


def test_an_epoch_with_another_hash_is_said(tmp_path: Path) -> None:
    made = world()
    with recorded(tmp_path, made, epochs=False) as recording:
        found = explain(recording, parse_address(CLIENT), made.log.now_ms)
    assert (found.agrees, found.epoch, found.group.epoch) == (None, None, None)


def test_the_answer_is_what_who_says_of_the_tables_at_that_cut(tmp_path: Path) -> None:
    made = world()
    fail(made)
    table = SteeringTable()
    follow(table, made.log, Cell(0, 1), 4)
    for name in ("VOD", "LIVE", "GAME"):
        found = ask(tmp_path, made, traffic_class=name)
        assert found.answer == who(table, parse_address(CLIENT), name)


def test_a_client_that_a_drain_moved_is_told_of_the_order(tmp_path: Path) -> None:
    made = world()
    made.log.drain(NEAR, -1)
    made.note("drain", FLEET_INVENTORY.name)
    made.log.cut()
    found = ask(tmp_path, made)
    assert [one.site for one in found.answer.sites] == [FAR]
    assert (found.answer.passed_over[0].site, found.answer.passed_over[0].reason) == (
        NEAR,
        Reason.DRAINING,
    )
    last = found.moves[-1]
    (order,) = [one for one in last.evidence if one.kind == "inventory"]
    assert order.text == f"drain site:{NEAR}: new inventory record"
    assert isinstance(order.origin, Source)
    assert order.origin.offset == made.at["drain"]
    assert f"{NEAR} IN_SERVICE -> DRAINED, drained" in last.why
    facts = found.sites[NEAR]
    assert facts.admitted == 0
    ((name, origin),) = facts.drains
    assert (name, place(origin)[2]) == (f"site:{NEAR}", made.at["drain"])
    assert found.sites[FAR].drains == ()
