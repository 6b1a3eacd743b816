"""Rankings of sites, each kept once: ragged lists named by a hash of what they say.

The id of a ranking is a 64-bit hash of its entries in order: each entry's site by name (xxh3_64),
tier and key fields stirred into one word, that word stirred once more with its place in the list,
and the sum of those words stirred with the length (splitmix64's finaliser throughout). So it
depends on nothing but the ranking: not on dense ids, not on history, not on the machine. Among a
million rankings the odds that two share an id are 1 in 37 million (n * n / 2 / 2**64), and the
same goes for taking one ranking for another here, for lists are compared by id only.
Rejected: xxh3 over the bytes of each list (a Python call per list); 128 bits (the topic's key is 8
bytes).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.state.codec import Digests, Fields, within
from pipeline.state.keyindex import KeyIndex, grown, mix
from pipeline.state.lpm import ragged

Int16 = npt.NDArray[np.int16]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
UInt8 = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]

_U64 = np.uint64
# Odd words without a pattern (digits of pi), one for each thing that is stirred in.
_HOPS, _MED, _RTT, _KM, _PLACE, _TIER, _LAST = (
    _U64(word | 1)
    for word in (
        0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0,
        0x082EFA98EC4E6C89, 0x452821E638D01377, 0xBE5466CF34E90C6C,
        0xC0AC29B7C97C50DD,
    )
)  # fmt: skip


#: Why an entry stands last: its route flaps (state/damping.py), its path loses (decide/lossy.py).
DAMPED, LOSSY = 1, 2


@dataclass(frozen=True, slots=True)
class Entries:
    """Entries of rankings, equally long columns: `site` fleet id; `tier` 0 is the most specific
    announcement; key fields as published, -1 where not needed; `last`: why it
    stands behind all others (DAMPED, LOSSY), 0: it does not; `word`: hash of all but the tier."""

    site: Int32
    tier: UInt8
    as_path_len: Int32
    med: Int64
    rtt_ms: Int32
    distance_km: Int32
    last: UInt8
    word: Words

    def take(self, rows: npt.NDArray[np.integer] | slice) -> "Entries":
        """The entries at `rows`."""
        return Entries(*(getattr(self, name)[rows] for name in COLUMNS))

    def grown(self, size: int) -> "Entries":
        """The same with room for `size` entries."""
        return Entries(*(grown(getattr(self, name), size) for name in COLUMNS))


COLUMNS = ("site", "tier", "as_path_len", "med", "rtt_ms", "distance_km", "last", "word")


def entry_words(
    name_hash: Words, as_path_len: Int32, med: Int64, rtt_ms: Int32, distance_km: Int32,
    last: UInt8,
) -> Words:  # fmt: skip
    """One word per entry for all of it but its tier."""
    word = name_hash + as_path_len.astype(np.uint64) * _HOPS
    word = mix(word + (rtt_ms + 1).astype(np.uint64) * _RTT)
    word = mix(word + (med + 1).astype(np.uint64) * _MED)
    word = mix(word + (distance_km + 1).astype(np.uint64) * _KM)
    return np.where(last, mix(word + last * _LAST), word) if last.any() else word


def ranking_ids(word: Words, tier: UInt8, start: Int64, count: Int64) -> Words:
    """The id of each ranking; their entries lie end to end from `start`, none is empty."""
    place = np.arange(len(word)) - np.repeat(start, count)
    stirred = mix(word + place.astype(np.uint64) * _PLACE + tier.astype(np.uint64) * _TIER)
    return mix(np.add.reduceat(stirred, start) + count.astype(np.uint64))


class Rankings:
    """Distinct rankings by index. `id` uint64, `start` int64, `count` int32 by index; the entries'
    columns by row. An index keeps its ranking until `retain` lets go of it, and may then get
    another."""

    def __init__(self) -> None:
        self._id: Words = np.empty(1024, dtype=np.uint64)
        self._start: Int64 = np.empty(1024, dtype=np.int64)
        self._count: Int32 = np.empty(1024, dtype=np.int32)
        self._size = 0
        self._entries = Entries(
            np.empty(4096, dtype=np.int32),
            np.empty(4096, dtype=np.uint8),
            np.empty(4096, dtype=np.int32),
            np.empty(4096, dtype=np.int64),
            np.empty(4096, dtype=np.int32),
            np.empty(4096, dtype=np.int32),
            np.empty(4096, dtype=np.uint8),
            np.empty(4096, dtype=np.uint64),
        )
        self._rows = 0
        self._digests = {name: Digests() for name in COLUMNS}
        self.sites = 0  # one more than the highest site id in any entry
        self._index = KeyIndex(np.uint64)
        self._at: Int32 = np.empty(1024, dtype=np.int32)  # by key of _index
        self._free: Int32 = np.empty(0, dtype=np.int32)

    def fields(self) -> dict[str, Any]:
        """All rankings for a snapshot, those at free indices included: which index comes next must
        be the same. The look-up by id is made again."""
        return {
            "id": self.id,
            "start": self.start,
            "count": self.count,
            "at": self._at[: len(self._index)],
            "free": self._free,
            **within(
                "entries",
                {name: self._digests[name].of(getattr(self.entries, name)) for name in COLUMNS},
            ),
        }

    @classmethod
    def of(cls, fields: Fields) -> "Rankings":
        """The inverse of `fields`."""
        made, entries = cls(), fields.part("entries")
        made._id, made._start, made._count = fields["id"], fields["start"], fields["count"]
        made._at, made._free = fields["at"], fields["free"]
        made._entries = Entries(**{name: entries[name] for name in COLUMNS})
        made._size, made._rows = len(made._id), len(made._entries.site)
        made.sites = int(made._entries.site.max(initial=-1)) + 1
        made._index = KeyIndex.of(made._id[made._at])
        return made

    def __len__(self) -> int:
        """How many indices there are, in use or free."""
        return self._size

    @property
    def id(self) -> Words:
        return self._id[: self._size]

    @property
    def start(self) -> Int64:
        return self._start[: self._size]

    @property
    def count(self) -> Int32:
        return self._count[: self._size]

    @property
    def entries(self) -> Entries:
        """All entries, by row: views, to be read only."""
        return self._entries.take(slice(0, self._rows))

    def rows(self, indices: npt.NDArray[np.integer]) -> Int64:
        """The entries' rows of these rankings, one ranking after the other."""
        return ragged(self._start[indices], self._count[indices])

    def find(self, ids: Words) -> Int32:
        """The indices of rankings given by id; -1 where one is not known."""
        at = self._index.find(ids)
        return np.where(at < 0, np.int32(-1), self._at[at])

    def intern(self, ids: Words, entries: Entries, start: Int64, count: Int64) -> Int32:
        """The indices of rankings, given by id and entries; those that are new are kept."""
        known = len(self._index)
        key = self._index.intern(ids)
        if len(self._index) > known:
            first = np.empty(len(self._index) - known, dtype=np.int64)
            fresh = np.flatnonzero(key >= known)[::-1]
            first[key[fresh] - known] = fresh  # the first one is written last
            self._at = grown(self._at, len(self._index))
            self._at[known : len(self._index)] = self._keep(
                ids[first], entries.take(ragged(start[first], count[first])), count[first]
            )
        return self._at[key]

    def _keep(self, ids: Words, entries: Entries, count: Int64) -> Int32:
        """Put new rankings at free or further indices."""
        amount = len(ids)
        used, self._free = self._free[:amount], self._free[amount:]
        more = np.arange(self._size, self._size + amount - len(used), dtype=np.int32)
        at = np.concatenate((used, more))
        self._size += len(more)
        self._id, self._start = grown(self._id, self._size), grown(self._start, self._size)
        self._count = grown(self._count, self._size)
        self._id[at], self._count[at] = ids, count
        self._start[at] = self._rows + np.cumsum(count) - count
        stop = self._rows + len(entries.site)
        self._entries = self._entries.grown(stop)
        for name in COLUMNS:
            getattr(self._entries, name)[self._rows : stop] = getattr(entries, name)
        self._rows = stop
        self.sites = max(self.sites, int(entries.site.max(initial=-1)) + 1)
        return at

    def retain(self, keep: Bools) -> None:
        """Let go of all rankings but those that `keep` (by index) marks; these keep their index."""
        kept, entries = np.flatnonzero(keep), self.entries
        rows = self.rows(kept)
        self._entries = entries.take(rows)
        self._digests = {name: Digests() for name in COLUMNS}
        self._rows = len(rows)
        self.sites = int(self._entries.site.max(initial=-1)) + 1
        count = self._count[kept]
        self._start[kept] = np.cumsum(count) - count
        self._index = KeyIndex(np.uint64)
        self._index.intern(self._id[kept])
        self._at = kept.astype(np.int32)
        self._free = np.flatnonzero(~keep).astype(np.int32)
