"""A small world on paper: a seeded log of every input topic with its cuts, for tests of the cell.

`make_log` writes what publishers would (bytes by topic, offsets from 0) and where the cuts fall;
`fold` decodes and steps through it. Two regions share the one partition.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise
from random import Random

import numpy as np
import polars as pl

from pipeline.cell import Cell, step
from pipeline.config import CODE_VERSION, SteeringConfig
from pipeline.cut import Cause, Cut
from pipeline.effects import Block, Effects
from pipeline.wire.address import parse_address, parse_prefix
from pipeline.wire.columns import decode_chunk
from pipeline.wire.encode import encode
from pipeline.wire.rows import TopicRows
from schemas.registry import (
    APPLIANCE_HEALTH,
    BGP_ROUTES,
    CAPACITY_PRICES,
    FLEET_INVENTORY,
    INPUTS,
    PLAY_EVENTS,
    TABLES,
    TRAFFIC_LINKS,
    TRAFFIC_PATHS,
)

START_MS = 1_750_000_000_000
REGIONS = ("eu", "us")
SITES = 5
APPLIANCES = 3
NETS = 24
GBPS = 10**9


@dataclass
class Log:
    """values and keys by topic (the offset is the index), and the cuts."""

    values: dict[str, list[bytes | None]] = field(
        default_factory=lambda: {topic.name: [] for topic in INPUTS}
    )
    keys: dict[str, list[bytes | None]] = field(
        default_factory=lambda: {topic.name: [] for topic in INPUTS}
    )
    cuts: list[Cut] = field(default_factory=list)
    now_ms: int = START_MS
    config_hash: str = field(default_factory=SteeringConfig().hash)
    partition: int = 0

    def put(self, topic: str, key: str, name: str, record: dict) -> None:
        self.raw(topic, key.encode(), encode(name, record))

    def raw(self, topic: str, key: bytes, value: bytes | None) -> None:
        self.keys[topic].append(key)
        self.values[topic].append(value)

    def cut(self, cause: Cause = Cause.TICK, after_ms: int = 1000) -> None:
        self.now_ms += after_ms
        ends = {topic: len(values) for topic, values in self.values.items()}
        number = len(self.cuts) + 1
        told = (self.now_ms, cause, ends, self.config_hash, CODE_VERSION)
        self.cuts.append(Cut(self.partition, number, 1, "test", *told))

    # -- what publishers say

    def inventory(self) -> None:
        for number, region in enumerate(REGIONS):
            lat = 50.0 - 10 * number
            self._fleet("Region", region, name=region, lat=lat, lon=8.0 - 80 * number)
            for site in sites(region):
                self.site(site, region)
                for appliance in appliances(site):
                    self.appliance(appliance, region)
        network = parse_prefix("10.0.0.0/9")
        self._fleet("Network", "10.0.0.0/9", network=network, region="eu", lat=52.0, lon=13.0)

    def site(self, site: str, region: str, regions: tuple[str, ...] = ()) -> None:
        """`regions`: all that it serves, its home first, where it serves several."""
        number, spot = REGIONS.index(region), int(site[-1])
        links = [{"link": f"{site}-link", "capacity_bps": 25 * GBPS}] if spot % 2 else []
        kind = "IX" if spot % 2 else "EMBEDDED"
        place = {"lat": 50.0 - 10 * number + spot, "lon": 8.0 - 80 * number + spot}
        more = {"kind": kind, "links": links, "regions": list(regions)}
        self._fleet("Site", site, region=region, name=site, **more, **place)

    def claim(self, site: str, region: str, to: str, want_bps: int, **fields: object) -> None:
        """A cell of another region wants so much of a site."""
        record = {"site": site, "region": region, "to": to, "cut": len(self.cuts) + 1}
        record |= {"at_ms": self.now_ms, "want_bps": want_bps, "load_bps": 0, "price": 0}
        record |= {"share": 0, "grant_cut": 0, **fields}
        self.put(CAPACITY_PRICES.name, f"{site}|{region}|{to}", "CapacityClaim", record)

    def grant(self, site: str, region: str, to: str, share: int) -> None:
        """The home of a site gives a region so much of it."""
        record = {"site": site, "region": region, "to": to, "cut": len(self.cuts) + 1}
        record |= {"at_ms": self.now_ms, "share": share}
        self.put(CAPACITY_PRICES.name, f"{site}|{region}|{to}", "CapacityGrant", record)

    def appliance(self, appliance: str, region: str) -> None:
        site, spot = appliance.rsplit("-", 1)
        serves = ["VOD", "LIVE", "GAME"] if spot == "a0" else ["VOD", "LIVE"]
        addresses = [parse_address(f"192.0.2.{int(spot[1:]) + 1}")]
        self._fleet(
            "Appliance",
            appliance,
            site=site,
            cluster="",
            region=region,
            capacity_bps=(int(spot[1:]) + 1) * 10 * GBPS,
            serves=serves,
            addresses=addresses,
        )

    def _fleet(self, what: str, key: str, /, **fields: object) -> None:
        record = fields if what == "Network" else {what.lower(): key, **fields}
        self.put(FLEET_INVENTORY.name, f"{what.lower()}:{key}", what, record)

    def drain(self, entity: str, over_ms: int, action: str = "DRAIN") -> None:
        """Of a site, or of a region by its name, with the deadline so long after now."""
        scope, region = ("REGION", entity) if entity in REGIONS else ("SITE", entity.split("-")[0])
        record = {"scope": scope, "entity": entity, "region": region, "action": action}
        times = {"at_ms": self.now_ms, "deadline_ms": self.now_ms + over_ms}
        key = f"drain:{scope.lower()}:{entity}"
        self.put(FLEET_INVENTORY.name, key, "Drain", record | times)

    def forget(self, kind: str, name: str) -> None:
        self.raw(FLEET_INVENTORY.name, f"{kind}:{name}".encode(), None)

    def health(self, appliance: str, service: str = "OK", **fields: object) -> None:
        record = {
            "appliance": appliance,
            "at_ms": self.now_ms,
            "service": service,
            "egress_bps": GBPS,
            "capacity_bps": 0,
            "cpu": 0.1,
            "disk": 0.1,
            "connections": 10,
            "requests": 1000,
            "errors": 1,
            "ttfb_ms": 20,
            "retransmits": 3,
            "drain_by_ms": 0,
            **fields,
        }
        self.put(APPLIANCE_HEALTH.name, appliance, "Health", record)

    def route(
        self,
        site: str,
        prefix: str,
        *,
        action: str = "ANNOUNCE",
        hops: int = 2,
        med: int | None = None,
    ) -> None:
        record = {
            "site": site,
            "peer": "192.0.2.1",
            "peer_asn": 64500,
            "prefix": parse_prefix(prefix),
            "path_id": 0,
            "action": action,
            "as_path": " ".join(["64500"] * hops),
            "as_path_len": hops,
            "med": med,
            "local_pref": None,
            "communities": [],
            "next_hop": parse_address("192.0.2.1"),
            "at_ms": self.now_ms,
        }
        self.put(BGP_ROUTES.name, f"{site}|192.0.2.1|{prefix}|0", "Route", record)

    def session(self, site: str, what: str) -> None:
        record = {"site": site, "peer": "192.0.2.1", "at_ms": self.now_ms}
        if what != "EndOfRib":
            record["peer_asn"] = 64500
        if what == "PeerDown":
            record["cause"] = "hold timer"
        self.put(BGP_ROUTES.name, f"{site}|192.0.2.1|session", what, record)

    def link(self, site: str, used_bps: int) -> None:
        record = {"link": f"{site}-link", "at_ms": self.now_ms, "used_bps": used_bps}
        record |= {"capacity_bps": 25 * GBPS, "drops": 0}
        self.put(TRAFFIC_LINKS.name, f"{site}-link", "LinkSample", record)

    def path(
        self, site: str, client: str, rtt_us: int, loss: float = 0.001, samples: int = 9
    ) -> None:
        record = {"site": site, "client": parse_prefix(client), "at_ms": self.now_ms}
        record |= {"rtt_us": rtt_us, "loss": loss, "throughput_bps": GBPS, "samples": samples}
        self.put(TRAFFIC_PATHS.name, f"{site}|{client}", "PathSample", record)

    def play(
        self,
        client: str,
        appliance: str,
        klass: str,
        size: int,
        session: int = 1,
        stall_ms: int = 0,
    ) -> None:
        record = {
            "session": session,
            "at_ms": self.now_ms,
            "event": "HEARTBEAT",
            "client": parse_address(client),
            "appliance": appliance,
            "file": 7,
            "traffic_class": klass,
            "bytes": size,
            "bitrate_bps": 5_000_000,
            "startup_ms": 0,
            "stall_ms": stall_ms,
        }
        self.put(PLAY_EVENTS.name, str(session), "PlayEvent", record)


def sites(region: str) -> list[str]:
    return [f"{region}-s{number}" for number in range(SITES)]


def appliances(site: str) -> list[str]:
    return [f"{site}-a{number}" for number in range(APPLIANCES)]


def everything() -> list[str]:
    return [one for region in REGIONS for site in sites(region) for one in appliances(site)]


def nets(region: str) -> list[str]:
    """Nested prefixes of both families; the regions differ in the second octet and hextet."""
    number = REGIONS.index(region)
    v4 = [f"20.{100 * number + n}.0.0/16" for n in range(NETS // 2)]
    v4 += [f"20.{100 * number + n}.{16 * n}.0/20" for n in range(NETS // 4)]
    return v4 + [f"2600:{number + 1}:{n:x}::/48" for n in range(NETS // 4)]


def client(region: str, random: Random) -> str:
    number = REGIONS.index(region)
    if random.random() < 0.2:
        return f"2600:{number + 1}:{random.randrange(NETS // 4):x}::{random.randrange(1, 9)}"
    return f"20.{100 * number + random.randrange(NETS // 2)}.{random.randrange(256)}.9"


def announce(log: Log, random: Random) -> None:
    for region in REGIONS:
        for site in sites(region):
            for net in nets(region):
                if random.random() < 0.6:
                    med = random.choice([None, 10, 20])
                    log.route(site, net, hops=random.randint(1, 3), med=med)


def make_log(seed: int, cuts: int = 50, *, bad: bool = True) -> Log:
    """Everything that may happen, once in a while."""
    random, log = Random(seed), Log()
    log.inventory()
    log.site("eu-s3", "eu", ("eu", "ap"))  # ap's cell is not of this world
    log.site("us-s1", "us", ("ap", "us"))
    log.cut()
    announce(log, random)
    for number in range(cuts - 1):
        _second(log, random, number, bad=bad)
    return log


#: Second -> what is taken out of service or put back, and within how long.
DRAINS: dict[int, tuple[tuple[str, int, str], ...]] = {
    12: (("eu-s2", 8_000, "DRAIN"),),
    18: (("us", 3_000, "DRAIN"),),
    22: (("eu-s4", -1, "DRAIN"),),
    27: (("eu-s2", 8_000, "UNDRAIN"),),
    33: (("eu-s2", 8_000, "DRAIN"),),
    35: (("us", 3_000, "UNDRAIN"),),
}


#: Second -> what is removed from the inventory.
FORGOTTEN = {30: (("appliance", "us-s2-a1"), ("site", "us-s3")), 38: (("drain", "site:eu-s4"),)}


def _plays(log: Log, random: Random, number: int) -> None:
    """Of everybody, and now and then some that stall at one appliance."""
    for _ in range(60):
        region = random.choice(REGIONS)
        site = random.choice(sites(region))
        size = random.randrange(8 * GBPS) if number > 15 else random.randrange(10**7)
        klass = random.choice(["VOD", "VOD", "LIVE", "GAME"])
        log.play(client(region, random), random.choice(appliances(site)), klass, size)
    if number % 12 in (5, 6, 7):
        for _ in range(6):
            log.play(client("eu", random), "eu-s1-a1", "VOD", 0, stall_ms=9_000)


def _second(log: Log, random: Random, number: int, *, bad: bool) -> None:
    failed = everything()[(number // 7) % len(everything())]
    for appliance in everything():
        if random.random() < 0.5 and not appliance.startswith("us-s4"):
            service = "FAILED" if appliance == failed and number % 7 > 2 else "OK"
            log.health(appliance, service, egress_bps=random.randrange(12 * GBPS))
    if number % 10 == 3:
        service = random.choice(["DRAINING", "FILLING", "FAILED"])
        log.health("eu-s1-a0", service, drain_by_ms=log.now_ms + 5_000)
    _plays(log, random, number)
    for region in REGIONS:
        site, net = random.choice(sites(region)), random.choice(nets(region))
        log.path(site, net, random.randrange(2_000, 90_000))
        log.link(f"{region}-s1", random.randrange(25 * GBPS))
        log.route(site, net, action=random.choice(["ANNOUNCE", "WITHDRAW"]), hops=1)
    if number % 3 == 0:  # the nearest site loses for a while what another does not
        for site in sites("eu")[:2]:
            lost = 0.3 if site == "eu-s0" and number < 25 else 0.0
            log.path(site, nets("eu")[0], 9_000, lost, 500)
    if number == 20:
        log.session("eu-s0", "PeerDown")
    if number == 25:
        log.session("eu-s0", "PeerUp")
        for net in nets("eu"):
            log.route("eu-s0", net, hops=1)
        log.session("eu-s0", "EndOfRib")
    _operators_and_cells(log, random, number)
    if bad and number % 4 == 1:
        _rubbish(log, random)
    log.cut(Cause.URGENT if number % 5 == 4 else Cause.TICK, random.choice([200, 1000, 1000, 2500]))


def _operators_and_cells(log: Log, random: Random, number: int) -> None:
    if number % 6 == 2:
        log.claim("eu-s3", "ap", "eu", random.randrange(40 * GBPS))
        log.grant("us-s1", "ap", "us", random.randrange(10_000))
    for name, over_ms, action in DRAINS.get(number, ()):
        log.drain(name, over_ms, action)
    for kind, name in FORGOTTEN.get(number, ()):
        log.forget(kind, name)


def _rubbish(log: Log, random: Random) -> None:
    for topic in log.values:
        log.raw(topic, b"x", random.randbytes(random.randrange(40)))
        good = next((value for value in log.values[topic] if value), b"")
        log.raw(topic, b"x", good[:-1])
    log.raw(BGP_ROUTES.name, b"nobody|knows", None)
    log.health("nobody")
    log.health("eu-s0-a0", cpu=float("nan"))
    log.health("eu-s0-a0", at_ms=log.now_ms + 3_600_000)
    log.route("eu-s0", "0.0.0.0/0")
    log.play("20.1.2.3", "nobody", "VOD", 1000)


def fold(
    log: Log, cell: Cell | None = None, *, pieces: int = 1, config: SteeringConfig | None = None
) -> Iterator[tuple[Cut, Effects]]:
    """Step through the log, each cut's rows decoded in this many pieces."""
    cell = Cell(0, 1) if cell is None else cell
    taken = dict.fromkeys(log.values, 0)
    for cut in log.cuts:
        rows = {}
        for topic, end in cut.offsets.items():
            start, taken[topic] = taken[topic], end
            if end > start:
                rows[topic] = read(log, topic, start, end, pieces)
        yield cut, step(cell, rows, cut, config or SteeringConfig())


def read(log: Log, topic: str, start: int, end: int, pieces: int = 1) -> TopicRows:
    """The rows of these offsets, decoded in pieces and put together."""
    edges = np.linspace(start, end, pieces + 1).astype(int).tolist()
    whole = TopicRows(topic)
    for first, last in pairwise(edges):
        values, keys = log.values[topic][first:last], log.keys[topic][first:last]
        part = decode_chunk(topic, values, np.arange(first, last), keys)
        whole.refused += part.refused
        for name, frame in part.frames.items():
            before = whole.frames.get(name)
            whole.frames[name] = frame if before is None else pl.concat([before, frame])
    return whole


def table_bytes(effects: Effects) -> list[tuple[str, bytes, bytes | None]]:
    """The table effects one by one, as they are sent."""
    return [
        (one.topic, one.key, one.value)
        for effect in effects.tables
        for one in (effect.records() if isinstance(effect, Block) else [effect])
    ]


class Followed:
    """The table topics as one who reads every record holds them."""

    def __init__(self) -> None:
        self.held: dict[str, dict[bytes, bytes]] = {topic.name: {} for topic in TABLES}

    def take(self, effects: Effects) -> None:
        for topic, key, value in table_bytes(effects):
            if value is None:
                del self.held[topic][key]
            else:
                self.held[topic][key] = value


def digest(seed: int, pieces: int = 1) -> str:
    """One number for every byte that folding `make_log(seed)` wants published."""
    state = sha256()
    for cut, effects in fold(make_log(seed), pieces=pieces):
        state.update(repr((cut.number, table_bytes(effects))).encode())
        state.update(repr((effects.verdicts, effects.refused, effects.epoch)).encode())
        state.update(repr(effects.prices).encode())
    return state.hexdigest()
