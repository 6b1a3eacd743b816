"""A log in which a cell has much to remember, and runs through it with stops: for tests of L2.

Beside what cell_world has: feeds that collapse and come back (the guard holds), an appliance that
flaps and sessions that do (damping), a site and a region that come late, sites that leave and
return, routes that are renumbered, other configurations, pauses after which demand and paths are
forgotten.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from random import Random

import orjson

from pipeline.cell import Cell, step
from pipeline.config import SteeringConfig
from pipeline.cut import Cause, Cut
from pipeline.effects import Effects
from pipeline.wire.rows import TopicRows
from tests.cell_world import (
    GBPS,
    REGIONS,
    Log,
    announce,
    appliances,
    client,
    everything,
    make_log,
    nets,
    read,
    sites,
    table_bytes,
)

CONFIGS = (
    SteeringConfig(),
    SteeringConfig.model_validate(
        {"proximity": {"sites_max": 2}, "damping": {"route_suppress": 1500}}
    ),
    SteeringConfig.model_validate(
        {
            "proximity": {"missing_med": "worst"},
            "inputs": {"demand_bucket_ms": 4000},
            "assignment": {"target": 0.5, "min_shift": 400},
        }
    ),
)


def config_of(cut: Cut) -> SteeringConfig:
    """The configuration that a cut of these logs names."""
    return next(config for config in CONFIGS if config.hash() == cut.config_hash)


def troubled(seed: int, cuts: int = 70) -> Log:
    """A start as in `make_log`, then a random trouble at almost every cut."""
    random, log = Random(seed), make_log(seed, 4)
    _calm(log)
    for number in range(cuts):
        random.choice(_TROUBLES)(log, random)
        _steady(log, random, number)
        cause = random.choice([Cause.TICK, Cause.TICK, Cause.URGENT, Cause.TAKEOVER])
        log.cut(cause, random.choice([1000, 1000, 5000, 6000]))
        if number % 25 == 20:
            _calm(log)
            _collapse(log, random)
            log.cut(random.choice([Cause.TICK, Cause.URGENT]))
    return log


def _calm(log: Log) -> None:
    """Long enough without news for the guard to watch."""
    for _ in range(5):
        _healthy(log)
        log.cut(after_ms=8000)


def _healthy(log: Log) -> None:
    for appliance in everything():
        log.health(appliance)


def _steady(log: Log, random: Random, number: int) -> None:
    for appliance in everything():
        if random.random() < 0.8:
            log.health(appliance, egress_bps=random.randrange(11 * GBPS))
    flapping = "eu-s2-a2"
    log.health(flapping, "FAILED" if number % 2 else "OK")
    for _ in range(20):
        region = random.choice(REGIONS)
        size = random.randrange(20 * GBPS)
        at = random.choice(appliances(random.choice(sites(region))))
        klass = random.choice(["VOD", "LIVE", "GAME"])
        stall_ms = random.choice([0, 0, 4_000])
        log.play(client(region, random), at, klass, size, stall_ms=stall_ms)


def _collapse(log: Log, random: Random) -> None:
    """A feed of a region goes, wholly or but for a little, and nothing says why."""
    region = random.choice(REGIONS)
    spared = random.choice([0, 3])
    for site in sites(region):
        for net in nets(region)[spared:]:
            log.route(site, net, action="WITHDRAW")


def _feed_again(log: Log, random: Random) -> None:
    announce(log, random)


def _churn(log: Log, random: Random) -> None:
    for _ in range(40):
        region = random.choice(REGIONS)
        action = random.choice(["ANNOUNCE", "WITHDRAW"])
        hops, med = random.randint(1, 5), random.choice([None, 5, 10])
        site, net = random.choice(sites(region)), random.choice(nets(region))
        log.route(site, net, action=action, hops=hops, med=med)


def _strangers(log: Log, random: Random) -> None:
    """Routes of prefixes that nobody else has, soon to go, some with their session: rows that die,
    with a penalty or without."""
    start, third = random.randrange(150), random.randrange(16)
    action = random.choice(["ANNOUNCE", "ANNOUNCE", "WITHDRAW", "PeerDown", "PeerDown"])
    if action == "PeerDown":
        log.session("us-s0", action)
        for net in nets("us"):
            log.route("us-s0", net)
        return
    for number in range(start, start + 80):
        log.route("us-s0", f"31.{number}.{third}.0/24", action=action)


def _site_goes(log: Log, random: Random) -> None:
    log.forget("site", random.choice(["us-s3", "eu-s4"]))


def _inventory_again(log: Log, random: Random) -> None:
    log.inventory()


def _late_region(log: Log, random: Random) -> None:
    log._fleet("Region", "asia", name="asia", lat=10.0, lon=100.0)
    place = {"lat": 11.0, "lon": 101.0, "kind": "IX", "links": []}
    log._fleet("Site", "asia-s0", region="asia", name="asia-s0", **place)
    log.appliance("asia-s0-a0", "asia")
    log.health("asia-s0-a0")
    log.route("asia-s0", "20.3.0.0/16", hops=random.randint(1, 3))
    log.path("asia-s0", "20.3.0.0/16", 5000)


def _appliance_goes(log: Log, random: Random) -> None:
    log.forget("appliance", random.choice(everything()))


def _paths(log: Log, random: Random) -> None:
    for region in REGIONS:
        for site in sites(region):
            log.path(site, random.choice(nets(region)), random.randrange(2_000, 90_000))


def _other_config(log: Log, random: Random) -> None:
    log.config_hash = random.choice(CONFIGS).hash()


def _failures(log: Log, random: Random) -> None:
    for appliance in appliances(random.choice(sites(random.choice(REGIONS)))):
        log.health(appliance, random.choice(["FAILED", "DRAINING"]))


def _pause(log: Log, random: Random) -> None:
    """Long enough for demand, or for paths as well, to be forgotten."""
    log.now_ms += random.choice([700_000, 1_000_000])
    _healthy(log)


def _session(log: Log, random: Random) -> None:
    log.session(random.choice(sites("eu")), random.choice(["PeerDown", "PeerUp"]))


def _session_flaps(log: Log, random: Random) -> None:
    site = random.choice(sites("eu"))
    for _ in range(3):
        log.session(site, "PeerDown")
        log.session(site, "PeerUp")
        for net in nets("eu"):
            log.route(site, net, hops=random.randint(1, 5))


_TROUBLES: tuple[Callable[[Log, Random], None], ...] = (
    *(_collapse, _feed_again, _feed_again, _churn, _churn, _strangers, _strangers, _strangers),
    *(_site_goes, _inventory_again, _late_region, _appliance_goes, _paths, _paths),
    *(_other_config, _failures, _failures, _pause, _session, _session_flaps),
)

LOGS: Mapping[str, Callable[[int], Log]] = {"usual": make_log, "troubled": troubled}

Decoded = list[tuple[Cut, dict[str, TopicRows]]]


@cache
def decoded(kind: str, seed: int) -> Decoded:
    """The cuts of a log, each with its rows."""
    log = LOGS[kind](seed)
    taken, out = dict.fromkeys(log.values, 0), []
    for cut in log.cuts:
        rows = {}
        for topic, end in cut.offsets.items():
            start, taken[topic] = taken[topic], end
            if end > start:
                rows[topic] = read(log, topic, start, end)
        out.append((cut, rows))
    return out


def go_on(cell: Cell, cuts: Decoded) -> Iterator[tuple[Cell, Effects]]:
    """Step through these cuts."""
    for cut, rows in cuts:
        yield cell, step(cell, rows, cut, config_of(cut))


def with_stops(cuts: Decoded, stops: Iterable[int]) -> Iterator[tuple[Cell, Effects]]:
    """The same from the beginning, with a stop, snapshot and new cell after each of these cuts (by
    position)."""
    cell, chosen = Cell(0, 1), set(stops)
    for position, (cut, rows) in enumerate(cuts):
        yield cell, step(cell, rows, cut, config_of(cut))
        if position in chosen:
            cell = Cell.from_bytes(0, 1, cell.to_bytes())


def said(effects: Effects) -> str:
    """A digest of all that a cut wants published."""
    told = (table_bytes(effects), effects.prices, effects.verdicts, effects.refused, effects.epoch)
    return sha256(repr(told).encode()).hexdigest()


def to_file(sections: Mapping[str, bytes], path: Path) -> None:
    path.write_bytes(orjson.dumps({name: data.hex() for name, data in sections.items()}))


def from_file(path: Path) -> dict[str, bytes]:
    return {name: bytes.fromhex(text) for name, text in orjson.loads(path.read_bytes()).items()}


def resume(path: str, kind: str, seed: int, stop: int) -> list[str]:
    """Go on from the snapshot in a file: what the cuts behind `stop` say, and a last snapshot."""
    cell = Cell.from_bytes(0, 1, from_file(Path(path)))
    told = [said(effects) for _, effects in go_on(cell, decoded(kind, seed)[stop + 1 :])]
    return [*told, sha256(repr(cell.to_bytes()).encode()).hexdigest()]
