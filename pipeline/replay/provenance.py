"""Where it stands written: the records that a statement about one client rests on.

Idea: the state keeps no offsets (a cell of a million routes would pay for them all day), but a fold
sees every row go by with its offset. So a `Trail` walks along with the fold and keeps, of each
thing that can matter to one address, the offset of the record that counts now. What it looks at is
what `step` was handed and what `step` refused, so that nothing refused is ever named.

Rules, each the section's own: of the inventory and of sessions the newest record; of a telemetry
stream the newest by its publisher's clock (a reordered report changes nothing, so nothing rests on
it); of routes those that are announced and neither withdrawn nor flushed, read by the section's own
reader. Tables follow routes and paths when shares are planned, or many routes changed: until then
what came waits here as it does there.

Columns: rows are cut down to those around the address before any is looked at one by one. Names of
all appliances and links are kept, for which of them matter is known only in the end; one number
each. The time of a record is read when somebody asks.
Rejected: going back through the recording for each statement (decodes everything a second time, and
has to know which cut refused what); offsets in the state (memory, and snapshots grow by a third).
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.replay.archive import Recording
from pipeline.replay.manifest import Part
from pipeline.state.drains import ids_of
from pipeline.state.ids import Ids, grown
from pipeline.state.lpm import covers
from pipeline.wire.address import MAPPED, halves, parse_prefix, prefix_columns
from pipeline.wire.rows import OFFSET, TOMBSTONE, Refused, TopicRows

Bools = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]

#: Parts of a topic that stay in memory while records are looked up.
_PARTS_KEPT = 8


@dataclass(frozen=True, slots=True)
class Source:
    """One record; `at_ms` is the broker's time of it. Where `count` of them stand behind a
    statement, from `first_offset` on, this is the newest."""

    topic: str
    partition: int
    offset: int
    at_ms: int
    key: bytes | None = None
    value: bytes | None = None
    first_offset: int = -1
    count: int = 1

    def ending(self, first_offset: int, count: int) -> "Source":
        """The same as the end of a run."""
        return replace(self, first_offset=first_offset, count=count)


@dataclass(frozen=True, slots=True)
class InSnapshot:
    """What a statement rests on when its record came before the recording begins: the snapshot at
    this cut, from which the fold set out."""

    cut: int


Origin = Source | InSnapshot | None


class Records:
    """Looks up records of one cell's recording by offset."""

    def __init__(self, recording: Recording, partition: int) -> None:
        self._recording, self.partition = recording, partition
        self._parts: dict[str, list[Part]] = {}
        for part in recording.manifest.parts:
            self._parts.setdefault(f"{part.topic}/{part.partition}", []).append(part)
        self._frames: OrderedDict[str, pl.DataFrame] = OrderedDict()

    def at(self, topic: str, offset: int, partition: int | None = None) -> Source | None:
        """The record at an offset of a topic; None when the recording does not hold it."""
        partition = self.partition if partition is None else partition
        for part in self._parts.get(f"{topic}/{partition}", ()):
            if part.first_offset <= offset <= part.last_offset:
                frame = self._frame(part)
                row = int(np.searchsorted(frame.get_column("offset").to_numpy(), offset))
                at, at_ms, key, value = frame.row(row)
                return Source(topic, partition, at, at_ms, key, value) if at == offset else None
        return None

    def _frame(self, part: Part) -> pl.DataFrame:
        frame = self._frames.pop(part.name, None)
        if frame is None:
            frame = self._recording.frame(part)
        self._frames[part.name] = frame
        if len(self._frames) > _PARTS_KEPT:
            self._frames.popitem(last=False)
        return frame


def accepted(frame: pl.DataFrame, refused: Sequence[Refused]) -> pl.DataFrame:
    """The rows of a frame that the step did not refuse."""
    if not refused:
        return frame
    offsets = np.array([one.offset for one in refused], np.int64)
    return frame.filter(pl.Series(~np.isin(frame.get_column(OFFSET).to_numpy(), offsets)))


def covering(address: bytes) -> list[bytes]:
    """Every prefix that can hold an address, the shortest first."""
    number = int.from_bytes(address, "big")
    hosts = ((length, 128 - length) for length in range(129))
    return [
        (number >> host << host).to_bytes(16, "big") + bytes((length,)) for length, host in hosts
    ]


class Around:
    """Which prefixes and client blocks hold an address."""

    def __init__(self, address: bytes) -> None:
        self.address = address
        hi, lo = halves(pl.Series([address], dtype=pl.Binary))
        self._inner = hi, lo, np.array([128], np.uint8)

    @property
    def block(self) -> bytes:
        """The client block of demand that it is in: a /24 of IPv4, a /48 of IPv6."""
        length = 120 if self.address.startswith(MAPPED) else 48
        return covering(self.address)[length]

    def covered_by(self, prefixes: pl.Series) -> Bools:
        """Which of these (Binary, 17 bytes) cover it."""
        return self.inside(*prefix_columns(prefixes))

    def inside(
        self,
        hi: npt.NDArray[np.uint64],
        lo: npt.NDArray[np.uint64],
        length: npt.NDArray[np.uint8],
    ) -> Bools:
        """The same for prefixes as columns."""
        return covers((hi, lo, length), self._inner)


class Newest:
    """Of each name the record that counts: the one with the highest time of its publisher; of equal
    ones the later (`later`: it may say more) or the first. And how many were folded since which."""

    def __init__(self, *, later: bool) -> None:
        self._later, self._ids = later, Ids()
        self._offset, self._first = np.empty(0, np.int64), np.empty(0, np.int64)
        self._count, self._at_ms = np.empty(0, np.int64), np.empty(0, np.int64)

    def take(self, frame: pl.DataFrame, name: str, now_ms: int) -> None:
        """Accepted rows of a cut with the columns `name`, at_ms and _offset (ascending)."""
        if not frame.height:
            return
        self._ids.add_all(frame.get_column(name).unique(maintain_order=True))
        size = len(self._ids)
        self._offset, self._first = grown(self._offset, size, -1), grown(self._first, size, -1)
        self._count, self._at_ms = grown(self._count, size, 0), grown(self._at_ms, size, 0)
        ids = self._ids.index(frame.get_column(name))
        offset = frame.get_column(OFFSET).to_numpy()
        at_ms = frame.get_column("at_ms").to_numpy()
        np.add.at(self._count, ids, 1)
        fresh = np.flatnonzero(self._first[ids] < 0)[::-1]
        self._first[ids[fresh]] = offset[fresh]
        counts = at_ms >= self._at_ms[ids] if self._later else at_ms > self._at_ms[ids]
        ids, offset, at_ms = ids[counts], offset[counts], at_ms[counts]
        order = np.lexsort((offset if self._later else -offset, at_ms, ids))
        ids, offset, at_ms = ids[order], offset[order], at_ms[order]
        last = np.ones(len(ids), np.bool_)
        last[:-1] = ids[1:] != ids[:-1]
        self._offset[ids[last]] = offset[last]
        self._at_ms[ids[last]] = np.minimum(at_ms[last], now_ms)

    def offset_of(self, name: str) -> int:
        """-1: none was folded."""
        at = self._ids.get(name)
        return int(self._offset[at]) if at >= 0 else -1

    def find(self, name: str, topic: str, records: Records) -> Source | None:
        """The record that counts, with the run that it ends."""
        at = self._ids.get(name)
        found = records.at(topic, int(self._offset[at])) if at >= 0 else None
        if found is None:
            return None
        return found.ending(int(self._first[at]), int(self._count[at]))


class Inventory:
    """The newest record of each thing, and of the networks around the address."""

    def __init__(self, around: Around) -> None:
        self._around = around
        #: (kind, name) -> offset; a network's name is its 17 bytes in hexadecimal.
        self.offsets: dict[tuple[str, str], int] = {}

    def take(self, rows: TopicRows, refused: Sequence[Refused]) -> list[tuple[str, str, int]]:
        """Follow a cut's rows of fleet.inventory: (kind, name, offset) of each in order, kind by
        kind; a tombstone has the kind as its key spells it."""
        news: list[tuple[str, str, int]] = []
        for kind in ("Region", "Site", "Cluster", "Appliance"):
            if kind in rows.frames:
                frame = accepted(rows.frames[kind], refused)
                names, offsets = frame.get_column(kind.lower()), frame.get_column(OFFSET)
                news += [(kind.lower(), *one) for one in zip(names, offsets, strict=True)]
        if "Drain" in rows.frames:
            frame = ids_of(accepted(rows.frames["Drain"], refused))
            news += [("drain", *one) for one in frame.select("_id", OFFSET).iter_rows()]
        if "Network" in rows.frames:
            frame = accepted(rows.frames["Network"], refused)
            frame = frame.filter(pl.Series(self._around.covered_by(frame.get_column("network"))))
            pairs = frame.select("network", OFFSET).iter_rows()
            news += [("network", prefix.hex(), offset) for prefix, offset in pairs]
        self.offsets |= {(kind, name): offset for kind, name, offset in news}
        if TOMBSTONE in rows.frames:
            frame = accepted(rows.frames[TOMBSTONE], refused)
            for key, offset in frame.select("key", OFFSET).iter_rows():
                kind, _, name = key.decode().partition(":")
                kind = kind.lower()
                name = parse_prefix(name).hex() if kind == "network" else name
                news.append((kind, name, offset))
                if self.offsets.get((kind, name), offset) < offset:
                    del self.offsets[kind, name]
        return news
