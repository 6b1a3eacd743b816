"""What is published: the diff against it, its hash, and how to put a topic right.

Idea: the cell publishes only what differs from what it published last, and keeps just enough of
that to know: the bytes of a site's weights, a hash per group, and of a million prefixes two sorted
arrays. The table hash (L4) is kept up by subtracting what a changed record was and adding what it
is."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field

import numpy as np

from pipeline.decide.assignment import I64, U64
from pipeline.decide.serving import ENTRY, ServedGroups
from pipeline.effects import Block, Record
from pipeline.publishedprefixes import KEY, PrefixDiff, PublishedPrefixes, bytes_of
from pipeline.state.codec import Packed, blobs, blobs_of, pack, unpack, within
from pipeline.wire.tablehash import MODULUS, record_hash, records_hash
from pipeline.wire.tables import (
    GroupColumns,
    block_hash,
    encode_groups,
    group_key,
    prefix_keys,
    prefix_values,
)
from schemas.registry import LB_WEIGHTS, STEERING_GROUPS, STEERING_PREFIXES, STEERING_SITES

_CHUNK = 65_536
_GROUP, _PREFIX = 8, KEY.itemsize  # bytes of a key before the region


@dataclass(slots=True)
class Ledger:
    """What stands on the table topics because of one cell, and the hash over it. weights, loads:
    the records of lb.weights and steering.sites, by site."""

    table_hash: int = 0
    weights: dict[bytes, bytes] = field(default_factory=dict)
    loads: dict[bytes, bytes] = field(default_factory=dict)
    prefixes: dict[str, PublishedPrefixes] = field(default_factory=dict)
    groups: dict[str, ServedGroups] = field(default_factory=dict)

    def to_bytes(self) -> Packed:
        """What is kept by site, and the hash, for a snapshot; prefixes and groups are the
        regions'."""
        return pack(
            "ledger",
            {
                "table_hash": self.table_hash,
                **within("site", blobs(self.weights.keys())),
                **within("weights", blobs(self.weights.values())),
                **within("load_site", blobs(self.loads.keys())),
                **within("loads", blobs(self.loads.values())),
            },
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "Ledger":
        """The inverse of `to_bytes`."""
        fields = unpack("ledger", data)
        weights, loads = (
            dict(zip(*(blobs_of(fields.part(name)) for name in names), strict=True))
            for names in (("site", "weights"), ("load_site", "loads"))
        )
        return cls(fields["table_hash"], weights, loads)

    def prefix_count(self) -> int:
        return sum(map(len, self.prefixes.values()))

    def group_count(self) -> int:
        return sum(map(len, self.groups.values()))

    def set_weights(self, weights: Iterable[tuple[str, bytes]]) -> list[Record]:
        """The weights of (distinct) sites, unless they are what is published."""
        return self._set(LB_WEIGHTS.name, self.weights, weights)

    def drop_weights(self, site: str) -> list[Record]:
        """The tombstone of a site, unless it is not published or is the last one (L7)."""
        return self._drop(LB_WEIGHTS.name, self.weights, site)

    def set_loads(self, loads: Iterable[tuple[str, bytes]]) -> list[Record]:
        """How (distinct) sites stand, unless that is what is published."""
        return self._set(STEERING_SITES.name, self.loads, loads)

    def drop_load(self, site: str) -> list[Record]:
        """The tombstone of a site, unless it is not published or is the last one (L7)."""
        return self._drop(STEERING_SITES.name, self.loads, site)

    def _set(
        self, topic: str, held: dict[bytes, bytes], values: Iterable[tuple[str, bytes]]
    ) -> list[Record]:
        named = ((site.encode(), value) for site, value in values)
        news = {key: value for key, value in named if held.get(key) != value}
        old = {key: held[key] for key in news if key in held}
        self._swap(records_hash(old, old.values()), records_hash(news, news.values()))
        held |= news
        return [Record(topic, key, value) for key, value in news.items()]

    def _drop(self, topic: str, held: dict[bytes, bytes], site: str) -> list[Record]:
        key = site.encode()
        if key not in held or len(held) == 1:
            return []
        self._swap(record_hash(key, held.pop(key)), 0)
        return [Record(topic, key, None)]

    def set_prefixes(self, region: str, diff: PrefixDiff) -> tuple[list[Block], list[Block]]:
        """Publish a diff of the first level: what is set, and what is removed."""
        topic, added, removed = STEERING_PREFIXES.name, list[Block](), list[Block]()
        if len(diff.set_keys):
            prefix = bytes_of(diff.set_keys)
            block = Block(
                topic, prefix_keys(prefix, region), prefix_values(prefix, diff.set_group, region)
            )
            old = prefix_values(prefix[diff.known], diff.old_group[diff.known], region)
            assert block.values is not None
            self._swap(
                block_hash(block.keys[diff.known], old), block_hash(block.keys, block.values)
            )
            added.append(block)
        if len(diff.removed_keys):
            prefix = bytes_of(diff.removed_keys)
            block = Block(topic, prefix_keys(prefix, region), None)
            old = prefix_values(prefix, diff.removed_group, region)
            self._swap(block_hash(block.keys, old), 0)
            removed.append(block)
        self.prefixes[region].apply(diff)
        return added, removed

    def set_groups(self, region: str, names: list[str]) -> list[Record]:
        """The records of the region's dirty groups, unless they are what is published."""
        groups = self.groups[region]
        if not groups.dirty.any():
            return []
        slots = np.flatnonzero(groups.dirty & groups.alive)
        groups.dirty[:] = False
        encoded = list(_encoded(region, groups, slots, names))
        old = groups.record_hash[slots]
        hashes = np.array([record_hash(*one) for one in encoded], np.uint64)
        self._swap(sum(old.tolist()), sum(hashes.tolist()))
        groups.record_hash[slots] = hashes
        news = np.flatnonzero(hashes != old).tolist()
        return [Record(STEERING_GROUPS.name, *encoded[at]) for at in news]

    def drop_groups(self, region: str, died: U64) -> list[Record]:
        """Tombstones of groups; call it before they leave `groups`."""
        groups = self.groups[region]
        slots = groups.slots(died)
        slots = slots[slots >= 0]
        hashes = groups.record_hash[slots].tolist()
        self._swap(sum(hashes), 0)
        return [
            Record(STEERING_GROUPS.name, group_key(group, region), None)
            for group, before in zip(groups.group[slots].tolist(), hashes, strict=True)
            if before
        ]

    def records(self, topic: str, names: list[str]) -> Iterator[tuple[bytes, bytes]]:
        """(key, value) of every live record of one table topic, made anew; `names`: of the
        sites."""
        if topic in (LB_WEIGHTS.name, STEERING_SITES.name):
            yield from (self.weights if topic == LB_WEIGHTS.name else self.loads).items()
        elif topic == STEERING_GROUPS.name:
            for region, groups in self.groups.items():
                published = groups.alive & (groups.record_hash != 0)
                yield from _encoded(region, groups, np.flatnonzero(published), names)
        elif topic == STEERING_PREFIXES.name:
            for region, prefixes in self.prefixes.items():
                for first in range(0, len(prefixes), _CHUNK):
                    part = slice(first, first + _CHUNK)
                    prefix = bytes_of(prefixes.keys[part])
                    values = prefix_values(prefix, prefixes.group[part], region)
                    block = Block(topic, prefix_keys(prefix, region), values)
                    yield from ((one.key, one.value or b"") for one in block.records())

    def reconcile(self, topic: str, held: Mapping[bytes, bytes], names: list[str]) -> list[Record]:
        """What to write so that a topic that holds `held` holds what the cell publishes. A cell
        that publishes nothing on it leaves it alone: the last good table stays (L7)."""
        records, kept, empty = [], set[bytes](), True
        for key, value in self.records(topic, names):
            empty = False
            there = held.get(key)
            if there is not None:
                kept.add(key)
            if there != value:
                records.append(Record(topic, key, value))
        if empty:
            return []
        return records + [Record(topic, key, None) for key in held if key not in kept]

    def current(
        self, topic: str, keys: Collection[bytes], names: list[str]
    ) -> dict[bytes, bytes | None]:
        """What the cell publishes under these keys of one table topic: None where it publishes
        nothing. Empty when it publishes nothing on the topic at all: that is left alone (L7)."""
        found: dict[bytes, bytes | None] = dict.fromkeys(sorted(keys))
        if topic in (LB_WEIGHTS.name, STEERING_SITES.name):
            held = self.weights if topic == LB_WEIGHTS.name else self.loads
            found |= {key: held[key] for key in found if key in held}
            return found if held else {}
        for region, groups in self.groups.items() if topic == STEERING_GROUPS.name else ():
            asked = [key[:_GROUP] for key in found if key[_GROUP:] == region.encode()]
            whole = b"".join(one for one in asked if len(one) == _GROUP)
            slots = groups.slots(np.frombuffer(whole, ">u8").astype(np.uint64))
            slots = slots[slots >= 0]
            slots = slots[groups.alive[slots] & (groups.record_hash[slots] != 0)]
            found |= dict(_encoded(region, groups, slots, names))
        for region, prefixes in self.prefixes.items() if topic == STEERING_PREFIXES.name else ():
            asked = [key[:_PREFIX] for key in found if key[_PREFIX:] == region.encode()]
            whole = b"".join(one for one in asked if len(one) == _PREFIX)
            found |= prefixes.records(np.frombuffer(whole, KEY), region)
        levels: Mapping[str, Sized] = (
            self.groups if topic == STEERING_GROUPS.name else self.prefixes
        )
        return found if any(map(len, levels.values())) else {}

    def _swap(self, old: int, new: int) -> None:
        self.table_hash = (self.table_hash - old + new) % MODULUS


def _encoded(
    region: str, groups: ServedGroups, slots: I64, names: list[str]
) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of the records of these slots, as things stand."""
    if not len(slots):
        return
    entries, offsets = groups.entries(slots)
    columns = GroupColumns(
        region=region,
        names=names,
        group=groups.group[slots],
        offsets=offsets,
        shares=groups.shares[entries],
        passed=groups.passed[entries],
        **{name: getattr(groups, name)[entries] for name in ENTRY},
    )
    keys = (group_key(group, region) for group in groups.group[slots].tolist())
    yield from zip(keys, encode_groups(columns), strict=True)
