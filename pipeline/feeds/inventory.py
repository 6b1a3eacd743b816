"""The inventory on the broker: what it holds now, and what applying a file would change.

Rule: a record's partition follows from its region. Where something moved to another region, its old
record is removed from the old partition, or two cells would both hold it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.broker.settings import BrokerSettings
from pipeline.errors import UsageError, WireError
from pipeline.feeds.fleetfile import Item, Known
from pipeline.feeds.keys import inventory_key
from pipeline.feeds.publisher import Publisher
from pipeline.follow.reader import TopicReader
from pipeline.wire.decode import decode
from pipeline.wire.encode import encode
from schemas.partition import partition_of
from schemas.registry import FLEET_INVENTORY

ADDED, CHANGED, REMOVED = "added", "changed", "removed"


@dataclass(frozen=True, slots=True)
class Change:
    """One record to be published, or with `item` None removed. `region`: whose partition. `shown`:
    whether it is news to a person (removals from a region that something moved out of are not)."""

    what: str
    key: bytes
    region: str
    item: Item | None
    shown: bool = True

    def text(self) -> str:
        """`added site:fra1`."""
        return f"{self.what} {self.key.decode()}"


#: (region, key) -> record; something that moved badly may stand in two regions.
Current = dict[tuple[str, bytes], Item]


async def read_inventory(broker: BrokerSettings, *, prefix: str = "") -> Current:
    """fleet.inventory as compaction would leave it. Records that cannot be read are left out."""
    newest: dict[tuple[int, bytes], bytes | None] = {}
    async with TopicReader(broker, [prefix + FLEET_INVENTORY.name]) as reader:
        await reader.from_begin()
        async for fetched in reader.until(await reader.ends()):
            for partition, records in fetched.items():
                for record in records:
                    newest[partition.partition, record.key or b""] = record.value
    found: Current = {}
    for (_, key), value in newest.items():
        if value is None:
            continue
        try:
            name, fields = decode(value)
        except WireError:
            continue
        if "region" in fields:
            found[fields["region"], key] = Item(name, fields["region"], fields)
    return found


def known(current: Current) -> Known:
    """What references may point to."""
    items = [current[place] for place in sorted(current)]
    serves = {item.fields["site"]: _regions(item) for item in items if item.name == "Site"}
    return Known(
        regions=frozenset(item.region for item in items if item.name == "Region"),
        sites={site: regions[0] for site, regions in serves.items()},
        also={site: regions[1:] for site, regions in serves.items() if regions[1:]},
        clusters={
            item.fields["cluster"]: item.fields["site"] for item in items if item.name == "Cluster"
        },
    )


def site_regions(current: Current) -> dict[str, tuple[str, ...]]:
    """Site -> the regions that it serves, its home first."""
    there = known(current)
    return {site: (home, *there.also.get(site, ())) for site, home in there.sites.items()}


def _regions(site: Item) -> tuple[str, ...]:
    return tuple(site.fields.get("regions", ())) or (site.region,)


def check_apart(wanted: Mapping[bytes, Item], partitions: int) -> None:
    """UsageError for a site whose regions share a partition: one cell cannot hold it twice."""
    for item in wanted.values():
        where = [partition_of(region, partitions) for region in item.regions]
        if item.name == "Site" and len(set(where)) < len(where):
            told = ", ".join(
                f"{region} in {at}" for region, at in zip(item.regions, where, strict=True)
            )
            raise UsageError(
                f"site {item.fields['site']} cannot serve all of its regions: two of them are in "
                f"the same partition of {partitions} ({told})"
            )


def changes(
    current: Current, wanted: Mapping[bytes, Item], *, prune: bool = False
) -> Iterator[Change]:
    """What makes the inventory as wanted: additions and changes in the file's order, then removals
    in the reverse order of their kinds. `prune`: remove what is not wanted; else it is left. What
    is out of service stays so."""
    keys_now = {key for _, key in current}
    for key, item in wanted.items():
        shown = True
        for each in map(item.of, item.regions):
            now = current.get((each.region, key))
            if now is None or now.fields != each.fields:
                what = CHANGED if key in keys_now else ADDED
                yield Change(what, key, each.region, each, shown)
                shown = False
    yield from _moved_drains(current, wanted)
    order = {"appliance": 0, "cluster": 1, "network": 2, "site": 3, "region": 4}
    gone: set[bytes] = set()
    places = sorted(current, key=lambda place: (order.get(_kind(place[1]), 5), place))
    for region, key in places:
        kept = wanted.get(key)
        if _kind(key) == "drain":
            continue  # what is out of service stands in no file
        if kept is None and prune:
            yield Change(REMOVED, key, region, None, key not in gone)
            gone.add(key)
        elif kept is not None and region not in kept.regions:
            yield Change(REMOVED, key, region, None, shown=False)


def _moved_drains(current: Current, wanted: Mapping[bytes, Item]) -> Iterator[Change]:
    """Drains of sites go to every region that these serve, and leave the others."""
    for region, key in sorted(current):
        item = current[region, key]
        if item.name != "Drain" or item.fields["scope"] != "SITE":
            continue
        site = wanted.get(inventory_key("site", item.fields["entity"]))
        if site is None:
            continue
        for other in site.regions:
            if (other, key) not in current:
                yield Change(CHANGED, key, other, item.of(other), shown=False)
        if region not in site.regions:
            yield Change(REMOVED, key, region, None, shown=False)


def _kind(key: bytes) -> str:
    return key.partition(b":")[0].decode(errors="replace")


async def publish_changes(publisher: Publisher, todo: list[Change]) -> None:
    """Publish all changes, in order within each partition. A removal is left out where the same
    key was just written: two regions may share a partition, and a record may move between them."""
    by_partition: dict[int, tuple[list[bytes], list[bytes | None]]] = {}
    topic = FLEET_INVENTORY.name
    written: set[tuple[int, bytes]] = set()
    for change in todo:
        partition = publisher.partition(topic, change.region)
        if change.item is not None:
            written.add((partition, change.key))
        elif (partition, change.key) in written:
            continue
        keys, values = by_partition.setdefault(partition, ([], []))
        keys.append(change.key)
        values.append(_encoded(change.item))
    for partition in sorted(by_partition):
        keys, values = by_partition[partition]
        await publisher.send_rows(topic, partition, keys, values)


def _encoded(item: Item | None) -> bytes | None:
    if item is None:
        return None
    fields: dict[str, Any] = item.fields
    return encode(item.name, fields)
