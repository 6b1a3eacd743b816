"""A small published world for tests of followers: records as a worker would publish them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.follow.table import Applied, Batch, SteeringTable
from pipeline.wire.address import parse_prefix
from pipeline.wire.encode import encode
from pipeline.wire.headers import pack_cut
from pipeline.wire.tablehash import format_hash, records_hash
from schemas.registry import LB_WEIGHTS, STEERING_GROUPS, STEERING_PREFIXES, STEERING_SITES

Change = tuple[str, bytes, bytes | None]


def group_id(number: int) -> bytes:
    return number.to_bytes(8, "big")


def prefix(region: str, text: str, group: int) -> Change:
    key = parse_prefix(text) + region.encode()
    fields = {"region": region, "prefix": parse_prefix(text), "group": group_id(group)}
    return STEERING_PREFIXES.name, key, encode("PrefixEntry", fields)


def choice(
    site: str, *shares: int, tier: int = 0, path: int = 2, **figures: int | None
) -> dict[str, Any]:
    known: dict[str, Any] = {"med": None, "rtt_ms": None, "distance_km": None, **figures}
    return {"site": site, "tier": tier, "as_path_len": path, "shares": list(shares), **known}


def group(
    region: str,
    number: int,
    sites: Sequence[Mapping[str, Any]],
    passed: Sequence[tuple[str, str, str]] = (),
) -> Change:
    fields = {
        "region": region,
        "group": group_id(number),
        "sites": list(sites),
        "passed_over": [
            {"site": site, "traffic_class": name, "reason": reason} for site, name, reason in passed
        ],
    }
    return STEERING_GROUPS.name, group_id(number) + region.encode(), encode("GroupEntry", fields)


def weights(region: str, site: str, **parts: int) -> Change:
    appliances = [
        {"appliance": name, "weight": weight, "state": "UP", "reason": "reported_ok"}
        for name, weight in sorted(parts.items())
    ]
    fields = {"region": region, "site": site, "appliances": appliances}
    return LB_WEIGHTS.name, site.encode(), encode("SiteWeights", fields)


def load(
    region: str, site: str, state: str, *price: int, vod_bps: int, over_bps: int = 0
) -> Change:
    fields = {
        "region": region,
        "site": site,
        "state": state,
        "target_bps": 1_000_000_000,
        "load_bps": [vod_bps, 0, 0],
        "overflow_bps": over_bps,
        "price": list(price),
    }
    return STEERING_SITES.name, site.encode(), encode("SiteLoad", fields)


class World:
    """Publishes cuts of one partition into a table, keeping its own plain copy of what is live."""

    def __init__(self, table: SteeringTable, partition: int = 0) -> None:
        self.table, self.partition = table, partition
        self.live: dict[tuple[str, bytes], bytes] = {}
        self.ends: Counter[str] = Counter()
        self.cut = 0

    def send(self, changes: Sequence[Change], cut: int, term: int = 1) -> None:
        """Records as they arrive; no Epoch."""
        header = pack_cut(self.partition, cut, term)
        for topic, key, value in changes:
            at = [self.ends[topic]]
            self.table.take(Batch(topic, self.partition, [key], [value], [header], at))
            self.ends[topic] += 1

    def remember(self, changes: Sequence[Change]) -> None:
        for topic, key, value in changes:
            if value is None:
                self.live.pop((topic, key), None)
            else:
                self.live[topic, key] = value

    def hash(self) -> str:
        return format_hash(records_hash((key for _, key in self.live), self.live.values()))

    def epoch(self) -> dict[str, Any]:
        outputs = [{"topic": topic, "end_offset": end} for topic, end in self.ends.items()]
        return {
            "partition": self.partition,
            "cut": self.cut,
            "table_hash": self.hash(),
            "outputs": outputs,
        }

    def reach(self) -> None:
        for topic, end in self.ends.items():
            self.table.reached(topic, self.partition, end)

    def publish(self, changes: Sequence[Change]) -> list[Applied]:
        """One whole cut: records, Epoch, positions, applied; what was applied."""
        self.cut += 1
        self.send(changes, self.cut)
        self.remember(changes)
        self.table.close(self.epoch())
        self.reach()
        return self.table.advance()
