"""Table records as columns to bytes: a full table is a million prefixes and a hundred thousand
groups.

Idea: every record is cut into rows (head, one a site, middle, one a passed-over site, tail), which
are written field by field, each field for all rows at once (rowbytes.py). The bytes are those of
`encode` (a property test holds it); fastavro takes 30 µs a group, this about 3.

Prefix entries of one region have all the same size and need no squeezing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_intdigest

from pipeline.reasons import Reason
from pipeline.wire.catalog import CATALOG
from pipeline.wire.rowbytes import I64, U8, Rows, Texts, known, pad, string, varint
from pipeline.wire.tablehash import MODULUS

U64 = npt.NDArray[np.uint64]
I32 = npt.NDArray[np.int32]
I16 = npt.NDArray[np.int16]

#: What `GroupColumns.passed` counts from 1; 0 says: not passed over.
PASSED_REASONS = (
    Reason.NO_CAPACITY,
    Reason.CLASS_NOT_SERVED,
    Reason.SITE_FULL,
    Reason.DRAINING,
    Reason.ROUTE_DAMPED,
    Reason.PATH_LOSS,
)
#: Price of a class in a SiteLoad record that has room nowhere.
NOWHERE = -1
_CLASSES = 3
_CHUNK = 8192
#: Longest tail of a site's row: two ints, three optional longs, three shares and their frame.
_SITE_TAIL = 5 + 5 + 3 * 11 + 2 + 3 * 3


@dataclass(frozen=True, slots=True)
class GroupColumns:
    """G groups with E entries. group uint64[G]; offsets int64[G + 1] into the entries; site
    int32[E] index into `names`; tier, as_path_len int32[E]; med int64[E], rtt_ms, distance_km
    int32[E], -1 for null; shares int16[E, 3]; passed uint8[E, 3], 1 + index into PASSED_REASONS or
    0."""

    region: str
    names: Sequence[str]
    group: U64
    offsets: I64
    site: I32
    tier: I32
    as_path_len: I32
    med: I64
    rtt_ms: I32
    distance_km: I32
    shares: I16
    passed: U8


def group_bytes(group: U64) -> U8:
    """Group ids as a matrix (rows x 8), big-endian: the order of bytes on the wire and in keys."""
    return group.astype(">u8").view(np.uint8).reshape(-1, 8)


def group_key(group: int, region: str) -> bytes:
    """Key of a group on steering.groups."""
    return group.to_bytes(8, "big") + region.encode()


def prefix_keys(prefix: U8, region: str) -> U8:
    """Keys on steering.prefixes of a matrix of prefixes (rows x 17)."""
    return pad(prefix, b"", region.encode())


def prefix_values(prefix: U8, group: U64, region: str) -> U8:
    """PrefixEntry records of prefixes (rows x 17) and their groups uint64[rows], a matrix."""
    text = region.encode()
    head = CATALOG.current("PrefixEntry").header + varint(len(text)) + text
    return pad(np.concatenate([prefix, group_bytes(group)], axis=1), head, b"")


def encode_groups(columns: GroupColumns) -> Iterator[bytes]:
    """GroupEntry records, in the order of the groups."""
    texts = _texts(tuple(columns.names))
    for first in range(0, len(columns.group), _CHUNK):
        yield from _encode_chunk(columns, texts, first, min(first + _CHUNK, len(columns.group)))


@dataclass(frozen=True, slots=True)
class WeightColumns:
    """S sites with N appliances, at least one each. place: (region, site) of each; counts int64[S]:
    appliances of each; appliance int64[N] into `names`, weight int64[N], standing int64[N] into
    `standings`. Names are Avro strings, standings two of them: state and reason."""

    place: Sequence[tuple[str, str]]
    counts: I64
    names: Texts
    appliance: I64
    weight: I64
    standings: Texts
    standing: I64


def encode_weights(columns: WeightColumns) -> Iterator[bytes]:
    """SiteWeights records, in the order of the sites."""
    if not len(columns.counts):
        return
    header = CATALOG.current("SiteWeights").header
    heads = Texts.of([header + known(region) + known(site) for region, site in columns.place])
    names, standings = columns.names, columns.standings
    width = max(heads.width + 5, names.width + 3 + standings.width)
    heights = 2 + columns.counts  # head, appliances, the end of their array
    tops = np.cumsum(heights) - heights
    rows = Rows(int(heights.sum()), width)
    rows.at(tops)
    rows.paste(heads.rows, heads.size)
    rows.varint(columns.counts)
    ends = np.cumsum(columns.counts)
    nth = np.arange(ends[-1]) - np.repeat(ends - columns.counts, columns.counts)
    rows.at(np.repeat(tops + 1, columns.counts) + nth)
    rows.paste(names.rows[columns.appliance], names.size[columns.appliance])
    rows.varint(columns.weight)
    rows.append(standings, columns.standing)
    rows.at(tops + heights - 1)
    rows.varint(np.zeros(len(tops)))
    yield from rows.join(tops)


def _encode_chunk(columns: GroupColumns, texts: "_Texts", first: int, end: int) -> Iterator[bytes]:
    low, high = int(columns.offsets[first]), int(columns.offsets[end])
    counts = np.diff(columns.offsets[first : end + 1])
    passed_entry, passed_class = np.nonzero(columns.passed[low:high])
    owner = np.repeat(np.arange(end - first), counts)
    passed_owner = owner[passed_entry]
    passed_counts = np.bincount(passed_owner, minlength=end - first)

    heights = 3 + counts + passed_counts  # head, sites, middle, passed over, tail
    tops = np.cumsum(heights) - heights
    region = columns.region.encode()
    prologue = CATALOG.current("GroupEntry").header + varint(len(region)) + region
    width = max(len(prologue) + 8 + 5, texts.site.width + _SITE_TAIL, texts.passed.width)
    rows = Rows(int(heights.sum()), width)

    rows.at(tops)
    rows.paste(pad(group_bytes(columns.group[first:end]), prologue, b""))
    rows.varint(counts)

    rows.at((tops + 1)[owner] + np.arange(high - low) - (columns.offsets[first:end] - low)[owner])
    site = columns.site[low:high]
    rows.paste(texts.site.rows[site], texts.site.size[site])
    rows.varint(columns.tier[low:high])
    rows.varint(columns.as_path_len[low:high])
    for optional in (columns.med, columns.rtt_ms, columns.distance_km):
        rows.optional(optional[low:high])
    rows.varint(np.full(high - low, _CLASSES))
    for klass in range(_CLASSES):
        rows.varint(columns.shares[low:high, klass])
    rows.varint(np.zeros(high - low))

    rows.at(tops + 1 + counts)
    rows.varint(np.zeros(end - first))
    rows.varint(passed_counts)

    nth = np.arange(len(passed_owner)) - (np.cumsum(passed_counts) - passed_counts)[passed_owner]
    rows.at((tops + 2 + counts)[passed_owner] + nth)
    code = columns.passed[low:high][passed_entry, passed_class].astype(np.int64) - 1
    which = (site[passed_entry] * _CLASSES + passed_class) * len(PASSED_REASONS) + code
    rows.paste(texts.passed.rows[which], texts.passed.size[which])

    rows.at((tops + heights - 1)[passed_counts > 0])
    rows.varint(np.zeros(int((passed_counts > 0).sum())))
    yield from rows.join(tops)


@dataclass(frozen=True, slots=True)
class _Texts:
    """Rows that repeat: a site's name, and (site, class, reason) as it is passed over."""

    site: Texts
    passed: Texts

    @classmethod
    def of(cls, names: Sequence[str]) -> "_Texts":
        sites = [string(name) for name in names]
        tails = [
            varint(klass) + string(reason) for klass in range(_CLASSES) for reason in PASSED_REASONS
        ]
        return cls(Texts.of(sites), Texts.of([site + tail for site in sites for tail in tails]))


@lru_cache(maxsize=4)
def _texts(names: tuple[str, ...]) -> _Texts:
    """The texts of a fleet's sites: they stay while it does, and a tick changes a few groups."""
    return _Texts.of(names)


def block_hash(keys: U8, values: U8) -> int:
    """What these live records (matrices with a row each) add to the table hash."""
    total = 0
    for first in range(0, len(keys), _CHUNK):
        part = slice(first, first + _CHUNK)
        rows = np.ascontiguousarray(np.concatenate([keys[part], values[part]], axis=1))
        whole: list[bytes] = rows.view(f"V{rows.shape[1]}").reshape(-1).tolist()
        total += sum(map(xxh3_64_intdigest, whole))
    return total % MODULUS
