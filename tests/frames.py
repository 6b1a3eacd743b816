"""Rows of input topics as the decoder would hand them over, for tests of the fold."""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pipeline.config import SteeringConfig
from pipeline.decide.health import evaluate
from pipeline.effects import VerdictRow
from pipeline.reasons import Reason
from pipeline.state.fleet import Fleet
from pipeline.state.health import ApplianceState, Health
from pipeline.state.playrows import play_rows
from pipeline.state.plays import Plays
from pipeline.wire.address import parse_address, parse_prefix
from pipeline.wire.rows import OFFSET, TOMBSTONE, Account, TopicRows

CONFIG = SteeringConfig()
NOW_MS = 1_800_000_000_000
REGION = "eu"

_SCHEMAS = Path(__file__).parent.parent / "schemas"
_TYPES: dict[str, Any] = {
    "string": pl.String,
    "long": pl.Int64,
    "int": pl.Int32,
    "double": pl.Float64,
    "boolean": pl.Boolean,
    "bytes": pl.Binary,
    "fixed": pl.Binary,
}


def _polars_type(avro: Any) -> Any:
    if isinstance(avro, str):
        return _TYPES[avro]
    if isinstance(avro, list):  # ["null", T]: columns are nullable anyway
        return _polars_type(avro[1])
    match avro["type"]:
        case "enum":
            return pl.Enum(avro["symbols"])
        case "array":
            return pl.List(_polars_type(avro["items"]))
        case "record":
            return pl.Struct({one["name"]: _polars_type(one["type"]) for one in avro["fields"]})
        case other:
            return _TYPES[other]


@cache
def columns_of(record: str) -> dict[str, Any]:
    """The columns of a record's frame, from its schema."""
    snake = "".join("_" + letter.lower() if letter.isupper() else letter for letter in record)
    schema = json.loads((_SCHEMAS / f"{snake[1:]}.avsc").read_text())
    return {one["name"]: _polars_type(one["type"]) for one in schema["fields"]}


def frame(record: str, rows: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """One frame of `rows`; each carries its offset as `_offset`."""
    return pl.DataFrame(list(rows), schema={**columns_of(record), OFFSET: pl.Int64})


def topic_rows(
    topic: str,
    records: Sequence[tuple[str, Mapping[str, Any]]],
    first_offset: int = 0,
    tombstones: Sequence[bytes] = (),
) -> TopicRows:
    """`records` (name, fields) at ascending offsets, then `tombstones` by their keys."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    offset = first_offset
    for name, fields in records:
        by_name.setdefault(name, []).append({**fields, OFFSET: offset})
        offset += 1
    rows = TopicRows(topic, {name: frame(name, given) for name, given in by_name.items()})
    if tombstones:
        at = range(offset, offset + len(tombstones))
        rows.frames[TOMBSTONE] = pl.DataFrame(
            {OFFSET: list(at), "key": list(tombstones)}, schema={OFFSET: pl.Int64, "key": pl.Binary}
        )
    return rows


def region(name: str = REGION, **fields: Any) -> tuple[str, dict[str, Any]]:
    return "Region", {"region": name, "name": name, "lat": 50.0, "lon": 8.0, **fields}


def site(
    name: str, links: Mapping[str, int] | None = None, **fields: Any
) -> tuple[str, dict[str, Any]]:
    listed = [{"link": one, "capacity_bps": bps} for one, bps in (links or {}).items()]
    given = {"site": name, "region": REGION, "name": name, "kind": "IX", "lat": 50.1, "lon": 8.7}
    return "Site", {**given, "links": listed, "regions": [], **fields}


def cluster(name: str, at: str) -> tuple[str, dict[str, Any]]:
    return "Cluster", {"cluster": name, "site": at, "region": REGION}


def appliance(name: str, at: str = "fra1", **fields: Any) -> tuple[str, dict[str, Any]]:
    given = {"appliance": name, "site": at, "cluster": "", "region": REGION}
    more = {"capacity_bps": 100_000_000_000, "serves": ["VOD", "LIVE"], "addresses": []}
    return "Appliance", {**given, **more, **fields}


def network(prefix: str, **fields: Any) -> tuple[str, dict[str, Any]]:
    given = {"network": parse_prefix(prefix), "region": REGION, "lat": 1.0, "lon": 2.0}
    return "Network", {**given, **fields}


def drain(entity: str, deadline_ms: int = 0, **fields: Any) -> tuple[str, dict[str, Any]]:
    given = {"scope": "SITE", "entity": entity, "region": REGION, "action": "DRAIN", "at_ms": 0}
    return "Drain", {**given, "deadline_ms": deadline_ms, **fields}


def fold_fleet(
    fleet: Fleet, *records: tuple[str, dict[str, Any]], now_ms: int = 0, **more: Any
) -> Account:
    """Fold inventory records into `fleet` as partition 0 of 1; the account is closed (L3)."""
    rows = topic_rows("fleet.inventory", records, **more)
    account = Account()
    account.arrive(rows)
    fleet.fold(rows, 0, 1, now_ms, account)
    account.close()
    return account


def fleet_of(*records: tuple[str, dict[str, Any]]) -> Fleet:
    fleet = Fleet()
    fold_fleet(fleet, *records)
    return fleet


def fleet_with(appliances: int, sites: int = 1, **fields: Any) -> Fleet:
    """One region, sites s0..., appliances a0... spread over the sites in turn."""
    return fleet_of(
        region(),
        *(site(f"s{number}") for number in range(sites)),
        *(appliance(f"a{number}", f"s{number % sites}", **fields) for number in range(appliances)),
    )


def report(name: str, at_ms: int = NOW_MS, **fields: Any) -> tuple[str, dict[str, Any]]:
    """A Health record of an appliance that is well: half loaded, 1000 requests, no errors."""
    given = {"appliance": name, "at_ms": at_ms, "service": "OK", "egress_bps": 50_000_000_000}
    load = {"capacity_bps": 100_000_000_000, "cpu": 0.4, "disk": 0.3, "connections": 900}
    counts = {"requests": 1000, "errors": 0, "ttfb_ms": 9, "retransmits": 3, "drain_by_ms": 0}
    return "Health", {**given, **load, **counts, **fields}


class HealthWorld:
    """A fleet, its health section and a clock that moves when told."""

    def __init__(self, fleet: Fleet, config: SteeringConfig = CONFIG) -> None:
        self.fleet, self.config = fleet, config
        self.health, self.plays = Health(), Plays()
        self.now_ms, self.offset = NOW_MS, 0

    def fold(self, *reports: tuple[str, dict[str, Any]]) -> Account:
        """Fold reports as one cut's rows; the account is closed (L3)."""
        rows = topic_rows("appliance.health", reports, self.offset)
        self.offset += len(reports)
        account = Account()
        account.arrive(rows)
        self.health.fold(rows, self.fleet, self.now_ms, self.config, account)
        account.close()
        return account

    def watch(self, *told: tuple[str, dict[str, Any]]) -> None:
        """Fold plays."""
        frame = topic_rows("play.events", told).frames["PlayEvent"]
        told_rows = play_rows(frame, np.ones(len(told), bool), self.fleet)
        self.plays.fold(told_rows, self.fleet, self.now_ms)

    def cut(self, *reports: tuple[str, dict[str, Any]], after_ms: int = 0) -> list[VerdictRow]:
        """Let time pass, fold reports made just then, and evaluate."""
        self.now_ms += after_ms
        self.fold(*((name, {**one, "at_ms": self.now_ms}) for name, one in reports))
        return evaluate(self.health, self.plays, self.fleet, self.now_ms, self.config)

    def state(self, name: str) -> ApplianceState:
        return ApplianceState(self.health.state[self.fleet.appliances.get(name)])

    def reason(self, name: str) -> Reason:
        return self.health.reason_of(self.fleet.appliances.get(name))

    def usable_bps(self, name: str) -> int:
        usable = self.health.usable_bps(self.fleet, self.now_ms, self.config)
        return int(usable[self.fleet.appliances.get(name)])


def play(
    client: str, at_ms: int = NOW_MS, amount: int = 0, **fields: Any
) -> tuple[str, dict[str, Any]]:
    """A PlayEvent heartbeat of `amount` bytes served by a0."""
    given = {"session": 1, "at_ms": at_ms, "event": "HEARTBEAT", "client": parse_address(client)}
    more = {"appliance": "a0", "file": 1, "traffic_class": "VOD", "bytes": amount}
    rest = {"bitrate_bps": 5_000_000, "startup_ms": 0, "stall_ms": 0}
    return "PlayEvent", {**given, **more, **rest, **fields}


def link_sample(name: str, at_ms: int = NOW_MS, **fields: Any) -> tuple[str, dict[str, Any]]:
    given = {"link": name, "at_ms": at_ms, "used_bps": 100, "capacity_bps": 1000, "drops": 0}
    return "LinkSample", {**given, **fields}


def path_sample(
    at: str, client: str, at_ms: int = NOW_MS, **fields: Any
) -> tuple[str, dict[str, Any]]:
    given = {"site": at, "client": parse_prefix(client), "at_ms": at_ms, "rtt_us": 10_000}
    return "PathSample", {**given, "loss": 0.0, "throughput_bps": 0, "samples": 5, **fields}


def fold_into(
    section: Any,
    topic: str,
    records: Sequence[tuple[str, Mapping[str, Any]]],
    fleet: Fleet,
    now_ms: int = NOW_MS,
    config: SteeringConfig = CONFIG,
) -> Account:
    """Fold rows of a telemetry topic into its section; the account is closed (L3)."""
    rows, account = topic_rows(topic, records), Account()
    account.arrive(rows)
    section.fold(rows, fleet, now_ms, config, account)
    account.close()
    return account
