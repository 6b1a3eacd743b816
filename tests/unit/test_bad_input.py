"""Bad input at the door of a cell: what no test of a single section shows.

docs/bad-input.md lists every kind with its outcome and its test.
"""

from collections import Counter
from random import Random

import numpy as np
import pytest

from pipeline.cell import Cell, step
from pipeline.config import SteeringConfig
from pipeline.cut import Cause, Cut
from pipeline.effects import Effects
from pipeline.reasons import Noted, Reason, Refusal
from pipeline.wire.columns import decode_chunk
from pipeline.wire.encode import encode
from schemas.partition import partition_of
from schemas.registry import (
    APPLIANCE_HEALTH,
    BGP_ROUTES,
    FLEET_INVENTORY,
    INPUTS,
    STEERING_PREFIXES,
    TRAFFIC_LINKS,
    TRAFFIC_PATHS,
)
from tests.cell_world import (
    GBPS,
    Followed,
    Log,
    announce,
    everything,
    fold,
    sites,
    table_bytes,
)

HOUR_MS = 3_600_000


def outcomes(effects: Effects) -> Counter[str]:
    """Every refusal and every note of a cut, by name."""
    refused = Counter(str(one.reason) for them in effects.refused.values() for one in them)
    return refused + Counter(effects.epoch.notes)


def settled() -> tuple[Log, Cell]:
    """A log that has been folded to its end: inventory, routes, and everybody reporting."""
    log = Log()
    log.inventory()
    log.cut()
    announce(log, Random(1))
    for appliance in everything():
        log.health(appliance)
    log.cut()
    cell = Cell(0, 1)
    list(fold(log, cell))
    return log, cell


def last_cut(log: Log, cell: Cell, start: dict[str, int]) -> Effects:
    """Cut, and fold only what came since `start`."""
    log.cut()
    rows = {}
    for topic, first in start.items():
        values, keys = log.values[topic][first:], log.keys[topic][first:]
        if values:
            offsets = np.arange(first, first + len(values))
            rows[topic] = decode_chunk(topic, values, offsets, keys)
    return step(cell, rows, log.cuts[-1], SteeringConfig())


def ends(log: Log) -> dict[str, int]:
    return {topic: len(values) for topic, values in log.values.items()}


# The wrong partition


def test_what_goes_to_the_wrong_partition_has_one_outcome_for_each_topic() -> None:
    """Only the inventory names its region; the others are known by what they name."""
    partitions = 8
    home, astray = partition_of("eu", partitions), partition_of("us", partitions)
    assert home != astray
    log, at = Log(), {}
    log.inventory()
    start = ends(log)
    log.health("us-s0-a0")
    log.link("us-s1", 1)
    log.path("us-s0", "20.100.0.0/16", 9_000)
    log.route("us-s0", "20.100.0.0/16")
    log.play("20.100.0.9", "us-s0-a0", "VOD", 1000)
    cell = Cell(home, partitions)
    for number, first in enumerate((dict.fromkeys(start, 0), start), 1):
        rows = {}
        for topic, since in first.items():
            until = start[topic] if number == 1 else len(log.values[topic])
            values, keys = log.values[topic][since:until], log.keys[topic][since:until]
            rows[topic] = decode_chunk(topic, values, np.arange(since, until), keys)
        cut = Cut(home, number, 1, "w", log.now_ms, Cause.TICK, ends(log), "", 1)
        at[number] = step(cell, rows, cut, SteeringConfig())
    foreign = sum(1 for key in log.keys[FLEET_INVENTORY.name] if key and b"us" in key)
    assert outcomes(at[1]) == {Refusal.WRONG_PARTITION: foreign}
    assert outcomes(at[2]) == {
        Refusal.UNKNOWN_APPLIANCE: 1,
        Refusal.UNKNOWN_LINK: 1,
        Refusal.UNKNOWN_SITE: 1,
        Noted.UNPLACED_ROUTE: 1,
        Noted.UNPLACED_PLAY: 1,
    }
    assert at[2].epoch.prefixes == 0


# Once more, in another order, never announced


def test_the_same_again_changes_nothing_and_telemetry_and_routes_are_counted() -> None:
    log, cell = settled()
    start = ends(log)
    log.link("eu-s1", GBPS)
    log.path("eu-s0", "20.1.0.0/16", 9_000)
    log.route("eu-s0", "20.1.0.0/16")
    last_cut(log, cell, start)
    start = ends(log)
    for topic in (TRAFFIC_LINKS, TRAFFIC_PATHS, BGP_ROUTES, APPLIANCE_HEALTH):
        log.raw(topic.name, log.keys[topic.name][-1] or b"", log.values[topic.name][-1])
    log.inventory()
    effects = last_cut(log, cell, start)
    records = len(log.values[FLEET_INVENTORY.name]) - start[FLEET_INVENTORY.name]
    networks = 1  # an identical Network record is folded without a word
    assert outcomes(effects) == {Noted.DUPLICATE: 4 + records - networks}
    assert not effects.tables


def test_a_play_that_comes_twice_counts_twice() -> None:
    log, cell = settled()
    start = ends(log)
    for _ in range(2):
        log.play("20.1.0.9", "eu-s0-a0", "VOD", 60_000_000)
    log.now_ms += 6_000
    effects = last_cut(log, cell, start)
    assert not outcomes(effects)
    assert cell.demand_bps()[0] == 2 * 60_000_000 * 8 // 60


# Clocks, paths


@pytest.mark.parametrize(
    ("off_ms", "outcome"),
    [(HOUR_MS, {Refusal.FROM_THE_FUTURE: 5}), (-HOUR_MS, {Refusal.TOO_OLD: 4})],
)
def test_a_publisher_that_is_an_hour_off_is_refused_but_old_routes_stand(
    off_ms: int, outcome: dict[str, int]
) -> None:
    """A route that was learned an hour, or a year, ago is still a route."""
    log, cell = settled()
    start, now_ms = ends(log), log.now_ms
    log.now_ms += off_ms
    log.health("eu-s0-a0", at_ms=log.now_ms)
    log.link("eu-s1", 1)
    log.path("eu-s0", "20.1.0.0/16", 9_000)
    log.play("20.1.0.9", "eu-s0-a0", "VOD", 1000)
    log.route("eu-s0", "20.77.0.0/16")
    log.now_ms = now_ms
    assert outcomes(last_cut(log, cell, start)) == outcome


def test_a_path_with_a_set_is_folded_with_the_length_that_its_feed_counted() -> None:
    log, cell = settled()
    start = ends(log)
    log.route("eu-s0", "20.78.0.0/16")
    name, key = "Route", log.keys[BGP_ROUTES.name][-1] or b""
    frame = decode_chunk(BGP_ROUTES.name, [log.values[BGP_ROUTES.name].pop()], np.arange(1), [key])
    record = frame.frames[name].drop("_offset").to_dicts()[0]
    record |= {"as_path": "64500 {64501 64502 64503}", "as_path_len": 2}
    log.values[BGP_ROUTES.name].append(encode(name, record))
    effects = last_cut(log, cell, start)
    assert not outcomes(effects)
    assert effects.epoch.folded[BGP_ROUTES.name] == 1
    log.route("eu-s1", "20.78.0.0/16", hops=3)
    last_cut(log, cell, {**ends(log), BGP_ROUTES.name: len(log.values[BGP_ROUTES.name]) - 1})
    table = cell.regions[cell.fleet.regions.get("eu")].table
    hi, lo = np.zeros(1, np.uint64), np.array([0xFFFF << 32 | 20 << 24 | 78 << 16], np.uint64)
    group = int(table.match(hi, lo)[0])
    assert cell.fleet.sites.names[table.site[table.start[group]]] == "eu-s0"


# None of it empties or changes a table


def spoil(log: Log) -> None:
    """Refused records of every topic, beside the good ones."""
    for topic in INPUTS:
        good = next((value for value in reversed(log.values[topic.name]) if value), b"")
        for value in (b"", b"\x7f" + good[1:], good[:-1], good + good[10:], good[:2] + bytes(8)):
            log.raw(topic.name, b"bad", value)
    log.raw(FLEET_INVENTORY.name, b"", None)
    log.raw(BGP_ROUTES.name, b"nobody|knows", None)
    for fields in ({"cpu": float("nan")}, {"egress_bps": -1}, {"egress_bps": 1 << 60}):
        log.health("eu-s0-a0", **fields)
    for prefix in ("0.0.0.0/0", "::/0", "10.0.0.0/8", "fe80::/10"):
        log.route("eu-s0", prefix)
    log.route("eu-s0", "20.250.0.0/16", hops=1000)  # of an announced one it would be a withdrawal


def world(*, spoilt: bool) -> list[list[tuple[str, bytes, bytes | None]]]:
    """The table effects, cut by cut, of one history with or without bad records in it."""
    log = Log()
    log.inventory()
    log.cut()
    announce(log, Random(3))
    for number in range(8):
        for appliance in everything():
            log.health(appliance, "FAILED" if number > 4 and "s1" in appliance else "OK")
        log.play("20.3.0.9", "eu-s1-a0", "VOD", 10**9)
        if spoilt:
            spoil(log)
        log.cut(after_ms=5_000)
    return [table_bytes(effects) for _, effects in fold(log)]


def test_refused_records_change_no_table_at_any_cut() -> None:
    clean = world(spoilt=False)
    assert sum(map(len, clean)) > 100
    assert world(spoilt=True) == clean


def test_l7_a_peer_that_takes_all_routes_with_it_empties_no_table() -> None:
    log, cell = settled()
    follower = Followed()
    for _, effects in fold(log):
        follower.take(effects)
    before = len(follower.held[STEERING_PREFIXES.name])
    start = ends(log)
    for region in ("eu", "us"):
        for site in sites(region):
            log.session(site, "PeerDown")
    effects = last_cut(log, cell, start)
    assert effects.epoch.notes[Noted.PEER_FLUSH] > 100
    assert {verdict.reason for verdict in effects.verdicts} == {Reason.EMPTY_TABLE}
    assert effects.epoch.prefixes == before > 0
    assert not [one for one in table_bytes(effects) if one[0] == STEERING_PREFIXES.name]
