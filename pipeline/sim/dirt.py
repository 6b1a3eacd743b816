"""Bad input of every kind, made from good records, to see that each comes to its defined outcome.

Dirt is sent beside the good records and never instead of them, under keys of its own, so that the
world stays whole: only what the plane does with it is on trial. Each kind names the outcome that it
must have: a Refusal (a dead letter), a Noted (counted by name), or None (folded like any other).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.reasons import Noted, Refusal
from pipeline.sim.telemetry import Rows
from pipeline.wire.address import parse_prefix
from pipeline.wire.catalog import HEADER_SIZE, MARK
from pipeline.wire.decode import decode
from pipeline.wire.encode import encode
from schemas.registry import (
    APPLIANCE_HEALTH,
    BGP_ROUTES,
    FLEET_INVENTORY,
    PLAY_EVENTS,
    TRAFFIC_LINKS,
    TRAFFIC_PATHS,
)

HOUR_MS = 3_600_000
Record = dict[str, Any]
Outcome = Refusal | Noted | None


@dataclass(frozen=True, slots=True)
class Soiled:
    """One bad record. `astray`: it goes to a partition that is not its region's."""

    kind: str
    topic: str
    region: str
    key: bytes
    value: bytes | None
    astray: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """`topic` "": any telemetry. Either `change` (fields of the decoded record that are replaced)
    or `damage` (of its bytes; None is a tombstone)."""

    topic: str
    outcome: Outcome
    change: Callable[[Record], Record] | None = None
    damage: Callable[[bytes], bytes | None] | None = None
    record: str = ""
    astray: bool = False


def _fields(**fields: object) -> Callable[[Record], Record]:
    return lambda record: fields


def _later(by_ms: int) -> Callable[[Record], Record]:
    return lambda record: {"at_ms": record["at_ms"] + by_ms}


def _prefix(text: str) -> Callable[[Record], Record]:
    return _fields(prefix=parse_prefix(text))


def _route(topic_outcome: Outcome, change: Callable[[Record], Record]) -> Kind:
    return Kind(BGP_ROUTES.name, topic_outcome, change, record="Route")


def _health(outcome: Outcome, change: Callable[[Record], Record]) -> Kind:
    return Kind(APPLIANCE_HEALTH.name, outcome, change, record="Health")


def _play(outcome: Outcome, change: Callable[[Record], Record]) -> Kind:
    return Kind(PLAY_EVENTS.name, outcome, change, record="PlayEvent")


_LONG_PATH = " ".join(str(64_512 + hop % 500) for hop in range(1000))

KINDS: dict[str, Kind] = {
    # bytes
    "noise": Kind("", Refusal.NOT_FRAMED, damage=lambda value: b"\x7f" + value[HEADER_SIZE:]),
    "nothing": Kind("", Refusal.NOT_FRAMED, damage=lambda value: b""),
    "unknown_fingerprint": Kind(
        "", Refusal.UNKNOWN_FINGERPRINT, damage=lambda value: MARK + b"\xaa" * 8 + value[10:]
    ),
    "truncated": Kind("", Refusal.UNDECODABLE, damage=lambda value: value[:-1]),
    "spliced": Kind("", Refusal.TRAILING_BYTES, damage=lambda value: value + value[HEADER_SIZE:]),
    "another_record": Kind(
        PLAY_EVENTS.name,
        Refusal.UNEXPECTED_RECORD,
        damage=lambda value: encode("SimCommand", {"at_ms": 0, "action": "FAIL", "entity": "x"}),
    ),
    "tombstone": Kind(APPLIANCE_HEALTH.name, Refusal.MISSING_VALUE, damage=lambda value: None),
    "nameless_tombstone": Kind(FLEET_INVENTORY.name, Refusal.BAD_KEY, damage=lambda value: None),
    # whose it is
    "wrong_partition": Kind(
        FLEET_INVENTORY.name, Refusal.WRONG_PARTITION, _fields(), record="Site", astray=True
    ),
    "unknown_appliance": _health(Refusal.UNKNOWN_APPLIANCE, _fields(appliance="nowhere-a01")),
    "unknown_link": Kind(
        TRAFFIC_LINKS.name, Refusal.UNKNOWN_LINK, _fields(link="nowhere-up1"), record="LinkSample"
    ),
    "unknown_site": Kind(
        TRAFFIC_PATHS.name, Refusal.UNKNOWN_SITE, _fields(site="nowhere"), record="PathSample"
    ),
    "unknown_server": _play(Noted.UNPLACED_PLAY, _fields(appliance="nowhere-a01")),
    "empty_name": _health(Refusal.BAD_ID, _fields(appliance="")),
    # numbers
    "not_a_number": _health(Refusal.NOT_A_NUMBER, _fields(cpu=float("nan"))),
    "infinite": _health(Refusal.NOT_A_NUMBER, _fields(disk=float("inf"))),
    "negative": _health(Refusal.OUT_OF_RANGE, _fields(egress_bps=-5)),
    "absurd": _health(Refusal.OUT_OF_RANGE, _fields(egress_bps=1 << 60)),
    "negative_play": _play(Refusal.OUT_OF_RANGE, _fields(bytes=-1)),
    # clocks
    "hour_ahead": _health(Refusal.FROM_THE_FUTURE, _later(HOUR_MS)),
    "hour_behind": _health(Refusal.TOO_OLD, _later(-HOUR_MS)),
    "play_hour_ahead": _play(Refusal.FROM_THE_FUTURE, _later(HOUR_MS)),
    "play_hour_behind": _play(Refusal.TOO_OLD, _later(-HOUR_MS)),
    "again": _health(Noted.DUPLICATE, _fields()),
    "overtaken": _health(Noted.REORDERED, _later(-30_000)),
    # routes
    "host_bits": _route(
        Refusal.HOST_BITS, lambda record: {"prefix": record["prefix"][:15] + b"\xff\x61"}
    ),
    "bad_length": _route(
        Refusal.BAD_PREFIX_LENGTH, lambda record: {"prefix": record["prefix"][:16] + b"\xc8"}
    ),
    "default_route": _route(Refusal.DEFAULT_ROUTE, _prefix("0.0.0.0/0")),
    "default_route_v6": _route(Refusal.DEFAULT_ROUTE, _prefix("::/0")),
    "private_space": _route(Refusal.BOGON, _prefix("10.0.0.0/8")),
    "bogon": _route(Refusal.BOGON, _prefix("fe80::/10")),
    "endless_path": _route(Refusal.AS_PATH_TOO_LONG, _fields(as_path=_LONG_PATH, as_path_len=1000)),
    "never_announced": _route(
        Noted.WITHDRAWN_UNKNOWN, _fields(action="WITHDRAW", path_id=77, as_path="", as_path_len=0)
    ),
}


class Dirt:
    """`share`: bad records for each good one."""

    def __init__(self, rng: np.random.Generator, share: float) -> None:
        self._rng, self._share = rng, share
        self._samples: dict[tuple[str, str], tuple[str, bytes]] = {}
        #: How many of each kind were made.
        self.made: Counter[str] = Counter()

    def learn(self, batches: Iterable[Rows]) -> int:
        """Keep an example of each record, to spoil later; how many records there were."""
        count = 0
        for rows in batches:
            count += len(rows)
            if not rows.values or (value := rows.values[-1]) is None:
                continue
            name, _ = decode(value)
            self._samples[rows.topic, name] = (rows.region, value)
        return count

    def beside(self, batches: Iterable[Rows]) -> list[Soiled]:
        """The bad records that go along with these good ones."""
        count = int(self._rng.poisson(self._share * self.learn(batches)))
        names = sorted(KINDS)
        made = [self.make(names[int(pick)]) for pick in self._rng.integers(len(names), size=count)]
        return [each for each in made if each is not None]

    def make(self, kind: str) -> Soiled | None:
        """One bad record of this kind; None before there was a record to spoil."""
        spoil = KINDS[kind]
        fitting = sorted(
            place
            for place in self._samples
            if (place[0] == spoil.topic if spoil.topic else place[0] != FLEET_INVENTORY.name)
            and spoil.record in ("", place[1])
        )
        if not fitting:
            return None
        topic, name = fitting[int(self._rng.integers(len(fitting)))]
        region, good = self._samples[topic, name]
        value = spoil.damage(good) if spoil.damage else _changed(name, good, spoil.change)
        self.made[kind] += 1
        own_key = b"dirt|%s|%d" % (kind.encode(), self.made[kind])
        return Soiled(kind, topic, region, own_key, value, spoil.astray)


def _changed(name: str, good: bytes, change: Callable[[Record], Record] | None) -> bytes:
    record: Mapping[str, Any] = decode(good)[1]
    return encode(name, {**record, **(change(dict(record)) if change else {})})
