"""The groups that are being served: the last good second level of a region's table, with shares.

Proximity has its own groups, which follow the routes at once. These are a copy that moves only when
the guard lets a change pass, so that a table that is held back (L7) can still react to a site that
fails. Columns are ragged: group g has the entries offsets[g] to offsets[g + 1], in rank order. A
group that dies leaves its slot behind until a quarter of all entries are dead; then the slots close
up and `version` says so, as after every change."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.decide.assignment import CLASSES, I32, I64, U64, Bools
from pipeline.state.codec import Digests
from pipeline.state.lpm import ragged

I16 = npt.NDArray[np.int16]
U8 = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Ranked:
    """Groups as proximity ranks them: group uint64[G]; count int64[G]; per entry, in order, site
    int32 (fleet id), tier, as_path_len int32, med int64, rtt_ms, distance_km int32 (-1: not
    needed), last uint8: why it stands behind the others (rankings.py), or 0."""

    group: U64
    count: I64
    site: I32
    tier: I32
    as_path_len: I32
    med: I64
    rtt_ms: I32
    distance_km: I32
    last: U8


#: Columns of Ranked that have a row per entry and are published; all that have.
ENTRY = ("site", "tier", "as_path_len", "med", "rtt_ms", "distance_km")
KEPT = (*ENTRY, "last")
#: An entry costs as if it were announced by so many less specific prefixes at most; what stands
#: last stands behind all of them. (Announcements nest 9 deep in real tables.)
_DEEP = 32


class ServedGroups:
    """Columns of Ranked for the served groups, and what was decided for each:

    alive bool[G]; home int16[G, 3]: rank of the nearest eligible site, -1 none; shares int16[E, 3]
    in ten-thousandths; passed uint8[E, 3] as in wire.tables; record_hash uint64[G] of the published
    record (0: none yet); dirty bool[G]: the record must be published again; demand_bps int64[G, 3]
    as it was last planned for."""

    def __init__(self) -> None:
        self.version = 0
        self.group: U64 = np.empty(0, np.uint64)
        self.offsets: I64 = np.zeros(1, np.int64)
        self.owner: I32 = np.empty(0, np.int32)
        self.site: I32 = np.empty(0, np.int32)
        self.tier: I32 = np.empty(0, np.int32)
        self.as_path_len: I32 = np.empty(0, np.int32)
        self.med: I64 = np.empty(0, np.int64)
        self.rtt_ms: I32 = np.empty(0, np.int32)
        self.distance_km: I32 = np.empty(0, np.int32)
        self.last: U8 = np.empty(0, np.uint8)
        self.cost: I32 = np.empty(0, np.int32)
        self.alive: Bools = np.empty(0, np.bool_)
        self.home: I16 = np.empty((0, CLASSES), np.int16)
        self.shares: I16 = np.empty((0, CLASSES), np.int16)
        self.passed: U8 = np.empty((0, CLASSES), np.uint8)
        self.record_hash: U64 = np.empty(0, np.uint64)
        self.dirty: Bools = np.empty(0, np.bool_)
        self.demand_bps: I64 = np.empty((0, CLASSES), np.int64)
        self._sorted: U64 = np.empty(0, np.uint64)
        self._slot: I64 = np.empty(0, np.int64)
        self._room: dict[str, npt.NDArray[Any]] = {}
        self._digests = {name: Digests() for name in _GROWN}

    def fields(self) -> dict[str, Any]:
        """Columns by slot and entry for a snapshot, dead slots included: they decide when the slots
        close up. What follows from them is made again: owner, cost, the look-up by id."""
        grown = {name: one.of(getattr(self, name)) for name, one in self._digests.items()}
        return {"version": self.version, **{name: getattr(self, name) for name in _STORED}, **grown}

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "ServedGroups":
        """The inverse of `fields`."""
        made = cls()
        for name in ("version", *_STORED):
            setattr(made, name, fields[name])
        count = np.diff(made.offsets)
        made.owner = np.repeat(np.arange(len(count), dtype=np.int32), count)
        rank = np.arange(len(made.owner)) - made.offsets[made.owner]
        made.cost = _cost(made.tier, made.as_path_len, made.last, rank)
        living = np.flatnonzero(made.alive)
        made._slot = living[np.argsort(made.group[living], kind="stable")]
        made._sorted = made.group[made._slot]
        return made

    def __len__(self) -> int:
        return len(self._slot)

    def slots(self, group: U64) -> I64:
        """The slots of these group ids, -1 where one is not served."""
        if not len(self._sorted):
            return np.full(len(group), -1, np.int64)
        at = np.minimum(np.searchsorted(self._sorted, group), len(self._sorted) - 1)
        return np.where(self._sorted[at] == group, self._slot[at], -1)

    def entries(self, slots: I64) -> tuple[I64, I64]:
        """The entries of these slots, one behind the other, and offsets[len(slots) + 1] into
        them."""
        first = self.offsets[slots]
        count = self.offsets[slots + 1] - first
        offsets = np.zeros(len(slots) + 1, np.int64)
        np.cumsum(count, out=offsets[1:])
        return ragged(first, count), offsets

    def first_site(self, slots: I64) -> I32:
        """The nearest site of each slot."""
        return self.site[self.offsets[slots]]

    def naming(self, sites: Bools) -> I64:
        """Slots of the living groups that name one of the sites marked in `sites`."""
        if not sites.any() or not len(self.site):
            return np.empty(0, np.int64)
        hit = np.zeros(len(self.alive), np.bool_)
        hit[self.owner[sites[self.site]]] = True
        return np.flatnonzero(hit & self.alive)

    def change(self, born: Ranked, died: U64) -> None:
        """Add the groups of `born` (none of them served) and drop those of `died`."""
        gone = self.slots(died)
        self.alive[gone[gone >= 0]] = False
        self.demand_bps[gone[gone >= 0]] = 0
        first = len(self.group)
        self._append(born)
        dead = ~self.alive
        if 4 * int(np.diff(self.offsets)[dead].sum()) > len(self.site):
            self._close_up()
            self._slot = np.argsort(self.group, kind="stable")
            self._sorted = self.group[self._slot]
        else:
            stay = self.alive[self._slot]
            held, slot = self._sorted[stay], self._slot[stay]
            order = np.argsort(born.group, kind="stable")
            at = np.searchsorted(held, born.group[order])
            self._sorted = np.insert(held, at, born.group[order])
            self._slot = np.insert(slot, at, first + order)
        self.version += 1

    def _append(self, born: Ranked) -> None:
        groups, entries = len(born.group), len(born.site)
        first = len(self.group)
        ends = np.cumsum(born.count)
        rank = np.arange(entries) - np.repeat(ends - born.count, born.count)
        self._extend("offsets", self.offsets[-1] + ends)
        self._extend("owner", np.repeat(np.arange(first, first + groups), born.count))
        for name in ("group", *KEPT):
            self._extend(name, getattr(born, name))
        self._extend("cost", _cost(born.tier, born.as_path_len, born.last, rank))
        self._extend("alive", np.ones(groups, np.bool_))
        self._extend("dirty", np.ones(groups, np.bool_))
        self._extend("record_hash", np.zeros(groups, np.uint64))
        self._extend("demand_bps", np.zeros((groups, CLASSES), np.int64))
        self._extend("home", np.full((groups, CLASSES), -1, np.int16))
        self._extend("shares", np.zeros((entries, CLASSES), np.int16))
        self._extend("passed", np.zeros((entries, CLASSES), np.uint8))

    def _extend(self, name: str, more: npt.NDArray[Any]) -> None:
        """Put rows behind a column. Columns stand at the head of a longer array, so that a few new
        groups do not cost a copy of all."""
        column, room = getattr(self, name), self._room.get(name)
        size = len(column) + len(more)
        if room is None or column.base is not room or len(room) < size:
            room = np.empty((size + size // 4, *column.shape[1:]), column.dtype)
            room[: len(column)] = column
            self._room[name] = room
        room[len(column) : size] = more
        setattr(self, name, room[:size])

    def _close_up(self) -> None:
        keep = self.alive[self.owner]
        count = np.diff(self.offsets)[self.alive]
        for name in (*KEPT, "cost", "shares", "passed"):
            setattr(self, name, getattr(self, name)[keep])
        for name in ("group", "home", "record_hash", "dirty", "demand_bps"):
            setattr(self, name, getattr(self, name)[self.alive])
        self.alive = np.ones(len(count), np.bool_)
        self.offsets = np.concatenate([[0], np.cumsum(count)])
        self.owner = np.repeat(np.arange(len(count), dtype=np.int32), count)
        self._digests = {name: Digests() for name in _GROWN}


#: Columns that are only added to, until the slots close up.
_GROWN = ("group", "offsets", *ENTRY)
_STORED = (
    *("group", "offsets", *KEPT, "alive", "home", "shares", "passed"),
    *("record_hash", "dirty", "demand_bps"),
)


def _cost(tier: I32, as_path_len: I32, last: U8, rank: I64) -> I32:
    """Proximity cost of an entry: what stands last first, then the less specific announcement, then
    the longer AS path, then the rank, each of which outweighs what follows; never decreasing along
    a ranking."""
    deep = np.minimum(tier.astype(np.int64), _DEEP - 1) + (last > 0) * _DEEP
    path = np.clip(as_path_len, 0, 999)
    cost: I32 = (deep * 1_000_000 + path * 1_000 + np.minimum(rank, 999)).astype(np.int32)
    return cost
