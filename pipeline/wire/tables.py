"""Table records as columns to bytes: a full table is a million prefixes and a hundred thousand
groups.

Idea: every record is cut into rows (head, one a site, middle, one a passed-over site, tail); rows
are written field by field, each field for all rows at once, into a matrix wide enough for the
longest, and a mask of the row lengths squeezes the padding out. The bytes are those of `encode` (a
property test holds it); fastavro takes 30 µs a group, this about 3.

Prefix entries of one region have all the same size and need no squeezing.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_intdigest

from pipeline.reasons import Reason
from pipeline.wire.catalog import CATALOG
from pipeline.wire.tablehash import MODULUS

U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
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
    return _pad(prefix, b"", region.encode())


def prefix_values(prefix: U8, group: U64, region: str) -> U8:
    """PrefixEntry records of prefixes (rows x 17) and their groups uint64[rows], a matrix."""
    text = region.encode()
    head = CATALOG.current("PrefixEntry").header + _varint(len(text)) + text
    return _pad(np.concatenate([prefix, group_bytes(group)], axis=1), head, b"")


def encode_groups(columns: GroupColumns) -> Iterator[bytes]:
    """GroupEntry records, in the order of the groups."""
    texts = _texts(tuple(columns.names))
    for first in range(0, len(columns.group), _CHUNK):
        yield from _encode_chunk(columns, texts, first, min(first + _CHUNK, len(columns.group)))


@dataclass(frozen=True, slots=True)
class Texts:
    """Rows of bytes: a matrix with room for the longest, and how many count of each."""

    rows: U8
    size: I64

    @classmethod
    def of(cls, texts: list[bytes]) -> "Texts":
        return cls(*_table(texts))

    @classmethod
    def strings(cls, texts: Iterable[str]) -> "Texts":
        """As Avro writes strings."""
        return cls.of([_string(text) for text in texts])

    @classmethod
    def pairs(cls, texts: Iterable[tuple[str, str]]) -> "Texts":
        """Two strings a row."""
        return cls.of([_string(one) + _string(other) for one, other in texts])

    @property
    def width(self) -> int:
        return int(self.rows.shape[1])


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
    heads = Texts.of([header + _text(region) + _text(site) for region, site in columns.place])
    names, standings = columns.names, columns.standings
    width = max(heads.width + 5, names.width + 3 + standings.width)
    heights = 2 + columns.counts  # head, appliances, the end of their array
    tops = np.cumsum(heights) - heights
    rows = _Rows(int(heights.sum()), width)
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
    prologue = CATALOG.current("GroupEntry").header + _varint(len(region)) + region
    width = max(len(prologue) + 8 + 5, texts.site.shape[1] + _SITE_TAIL, texts.passed.shape[1])
    rows = _Rows(int(heights.sum()), width)

    rows.at(tops)
    rows.paste(_pad(group_bytes(columns.group[first:end]), prologue, b""))
    rows.varint(counts)

    rows.at((tops + 1)[owner] + np.arange(high - low) - (columns.offsets[first:end] - low)[owner])
    site = columns.site[low:high]
    rows.paste(texts.site[site], texts.site_size[site])
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
    rows.paste(texts.passed[which], texts.passed_size[which])

    rows.at((tops + heights - 1)[passed_counts > 0])
    rows.varint(np.zeros(int((passed_counts > 0).sum())))
    yield from rows.join(tops)


class _Rows:
    """A matrix of rows that are written left to right, some rows at a time."""

    def __init__(self, height: int, width: int) -> None:
        self._matrix = np.zeros((height, width), np.uint8)
        self._flat = self._matrix.reshape(-1)
        self._size = np.zeros(height, np.int64)
        self._row = np.empty(0, np.int64)
        self._width = width

    def at(self, rows: I64) -> None:
        """The rows that what follows is written to."""
        self._row = rows

    def paste(self, block: U8, size: I64 | None = None) -> None:
        """Start the rows with those of `block`, of which `size` bytes count."""
        self._matrix[self._row, : block.shape[1]] = block
        self._size[self._row] = block.shape[1] if size is None else size

    def append(self, texts: Texts, which: I64) -> None:
        """Append some of these texts; there is room for the longest of them."""
        place = self._size[self._row] + self._row * self._width
        self._flat[place[:, None] + np.arange(texts.width)] = texts.rows[which]
        self._size[self._row] += texts.size[which]

    def varint(self, values: npt.NDArray[np.number]) -> None:
        """Append zigzag varints (values not negative)."""
        self._varint(self._row, values.astype(np.int64) << 1)

    def optional(self, values: npt.NDArray[np.integer]) -> None:
        """Append a ["null", "long"]: -1 is null."""
        present = values >= 0
        self._varint(self._row, present.astype(np.int64) << 1)
        self._varint(self._row[present], values[present].astype(np.int64) << 1)

    def _varint(self, row: I64, rest: I64) -> None:
        position = self._size[row] + row * self._width
        while True:
            more = rest > 0x7F
            self._flat[position] = (rest & 0x7F) | (more.astype(np.int64) << 7)
            self._size[row] += 1
            if not more.any():
                return
            row, rest, position = row[more], rest[more] >> 7, position[more] + 1

    def join(self, tops: I64) -> Iterator[bytes]:
        """The records: rows from one top to the next, without the padding."""
        data = self._matrix[np.arange(self._width) < self._size[:, None]].tobytes()
        ends = np.cumsum(np.add.reduceat(self._size, tops)).tolist()
        start = 0
        for end in ends:
            yield data[start:end]
            start = end


@dataclass(frozen=True, slots=True)
class _Texts:
    """Rows that repeat: a site's name, and (site, class, reason) as it is passed over."""

    site: U8
    site_size: I64
    passed: U8
    passed_size: I64

    @classmethod
    def of(cls, names: Sequence[str]) -> "_Texts":
        sites = [_string(name) for name in names]
        tails = [
            _varint(klass) + _string(reason)
            for klass in range(_CLASSES)
            for reason in PASSED_REASONS
        ]
        return cls(*_table(sites), *_table([site + tail for site in sites for tail in tails]))


@lru_cache(maxsize=4)
def _texts(names: tuple[str, ...]) -> _Texts:
    """The texts of a fleet's sites: they stay while it does, and a tick changes a few groups."""
    return _Texts.of(names)


def _table(texts: list[bytes]) -> tuple[U8, I64]:
    width = max(map(len, texts), default=0)
    joined = b"".join(text.ljust(width, b"\0") for text in texts)
    matrix = np.frombuffer(joined, np.uint8).reshape(len(texts), width)
    return matrix, np.array([len(text) for text in texts], np.int64)


def block_hash(keys: U8, values: U8) -> int:
    """What these live records (matrices with a row each) add to the table hash."""
    total = 0
    for first in range(0, len(keys), _CHUNK):
        part = slice(first, first + _CHUNK)
        rows = np.ascontiguousarray(np.concatenate([keys[part], values[part]], axis=1))
        whole: list[bytes] = rows.view(f"V{rows.shape[1]}").reshape(-1).tolist()
        total += sum(map(xxh3_64_intdigest, whole))
    return total % MODULUS


def _pad(matrix: U8, before: bytes, after: bytes) -> U8:
    """`matrix` with the same bytes in front of and behind every row."""
    width = len(before) + matrix.shape[1] + len(after)
    out = np.empty((len(matrix), width), np.uint8)
    out[:, : len(before)] = np.frombuffer(before, np.uint8)
    out[:, len(before) : len(before) + matrix.shape[1]] = matrix
    out[:, width - len(after) :] = np.frombuffer(after, np.uint8)
    return out


def _string(text: str) -> bytes:
    data = text.encode()
    return _varint(len(data)) + data


@lru_cache(maxsize=1 << 16)
def _text(text: str) -> bytes:
    """`_string` of what is written again and again."""
    return _string(text)


@lru_cache(maxsize=1 << 16)
def _varint(value: int) -> bytes:
    rest, out = value << 1, bytearray()
    while rest > 0x7F:
        out.append((rest & 0x7F) | 0x80)
        rest >>= 7
    return bytes((*out, rest))
