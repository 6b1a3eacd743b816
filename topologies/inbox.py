"""Where a cell's rows wait for the cut that takes them.

One lane per input topic. A lane keeps chunks in order of offset; it decodes lazily, in pieces of
DECODE_AT records, so that many small chunks cost one decode and a large one does not wait for the
cut. `take` hands over exactly the rows before the cut's offsets, whatever the chunks were: live, a
cut ends where a chunk ends; after a crash the same log may arrive in other pieces (L1).
"""

from collections import deque
from collections.abc import Mapping
from itertools import islice

import numpy as np
import polars as pl

from pipeline.wire.columns import decode_chunk
from pipeline.wire.digest import Raw
from pipeline.wire.rows import OFFSET, TopicRows
from schemas.registry import BGP_ROUTES, INPUTS
from topologies.chunks import Chunk

DECODE_AT = 4096  # records: the fixed cost of a decode (0.3 ms) is below a tenth of it from here on

#: Raw bytes that may wait in one lane beyond what the next cut needs; then it is not fetched.
LANE_BYTES_MAX = 64 << 20
#: The same of routes. They come in bulk, and for each byte of theirs 5 are taken while they wait
#: and as many again while they are folded.
ROUTE_BYTES_MAX = 16 << 20


class Lane:
    """One input topic of one cell."""

    def __init__(self, topic: str, next_offset: int) -> None:
        self.topic = topic
        self.next_offset = next_offset
        self.held_bytes = 0
        self._raw: deque[Chunk] = deque()  # everything not yet taken
        self._undecoded: list[Chunk] = []  # its tail that is not decoded yet
        self._undecoded_count = 0
        self._rows: list[TopicRows] = []  # its head, decoded

    @property
    def is_full(self) -> bool:
        """Whether enough waits here."""
        most = ROUTE_BYTES_MAX if self.topic == BGP_ROUTES.name else LANE_BYTES_MAX
        return self.held_bytes > most

    def append(self, chunk: Chunk) -> None:
        """Add what is new of `chunk`: rows below the lane's position came already (a refetch after
        a rebalance)."""
        new = int(np.searchsorted(chunk.offsets, self.next_offset))
        if new:
            chunk = _slice(chunk, new, len(chunk.values))
        self.next_offset = max(self.next_offset, chunk.next_offset)
        if not chunk.values:
            return
        self.held_bytes += chunk.size_bytes
        self._raw.append(chunk)
        self._undecoded.append(chunk)
        self._undecoded_count += len(chunk.values)
        if self._undecoded_count >= DECODE_AT:
            self.decode()

    def decode(self) -> TopicRows | None:
        """Decode what waits; returns the newly decoded rows (None when nothing waited)."""
        if not self._undecoded:
            return None
        chunks, self._undecoded, self._undecoded_count = self._undecoded, [], 0
        values, offsets, keys = chunks[0].values, chunks[0].offsets, chunks[0].keys
        if len(chunks) > 1:
            values = [value for chunk in chunks for value in chunk.values]
            offsets = np.concatenate([chunk.offsets for chunk in chunks])
            if keys is not None:
                keys = [key for chunk in chunks for key in chunk.keys or ()]
        rows = decode_chunk(self.topic, values, offsets, keys)
        self._rows.append(rows)
        return rows

    def take(self, end: int) -> tuple[TopicRows, Raw]:
        """Remove and return all rows with an offset below `end`. Where there are none nothing is
        decoded: an urgent cut leaves the busy topics to the next tick."""
        if not self._raw or self._raw[0].offsets[0] >= end:
            return TopicRows(self.topic), Raw()
        self.decode()
        taken, rest = TopicRows(self.topic), TopicRows(self.topic)
        parts: dict[str, list[pl.DataFrame]] = {}
        for rows in self._rows:
            for name, frame in rows.frames.items():
                below = frame
                if frame.height and frame.get_column(OFFSET)[-1] >= end:
                    below = frame.filter(pl.col(OFFSET) < end)
                    _append(rest, name, frame.filter(pl.col(OFFSET) >= end))
                parts.setdefault(name, []).append(below)
            taken.refused += [one for one in rows.refused if one.offset < end]
            rest.refused += [one for one in rows.refused if one.offset >= end]
        for name, frames in parts.items():
            whole = pl.concat(frames) if len(frames) > 1 else frames[0]
            if whole.height:
                taken.frames[name] = whole
        self._rows = [rest] if rest.count else []
        return taken, self._take_raw(end)

    def _take_raw(self, end: int) -> Raw:
        raw = Raw()
        while self._raw and self._raw[0].offsets[0] < end:
            chunk = self._raw.popleft()
            cut = int(np.searchsorted(chunk.offsets, end))
            if cut < len(chunk.values):
                self._raw.appendleft(_slice(chunk, cut, len(chunk.values)))
                chunk = _slice(chunk, 0, cut)
            self.held_bytes -= chunk.size_bytes
            raw.offsets.append(chunk.offsets)
            raw.values.append(chunk.values)
        return raw


def _append(rows: TopicRows, name: str, frame: pl.DataFrame) -> None:
    known = rows.frames.get(name)
    rows.frames[name] = frame if known is None else pl.concat([known, frame])


def _slice(chunk: Chunk, start: int, end: int) -> Chunk:
    keys = None if chunk.keys is None else chunk.keys[start:end]
    values = list(islice(chunk.values, start, end))
    return Chunk(
        chunk.topic, chunk.partition, chunk.offsets[start:end], values, keys, chunk.next_offset
    )


class Inbox:
    """All lanes of one cell."""

    def __init__(self, starts: Mapping[str, int]) -> None:
        """`starts`: input topic -> offset of the first row that is not in the state yet."""
        self.lanes = {topic.name: Lane(topic.name, starts.get(topic.name, 0)) for topic in INPUTS}

    def append(self, chunk: Chunk) -> None:
        self.lanes[chunk.topic].append(chunk)

    def offsets(self) -> dict[str, int]:
        """Where a cut made now would end, per topic in sorted order."""
        return {topic: self.lanes[topic].next_offset for topic in sorted(self.lanes)}

    def reached(self, offsets: Mapping[str, int]) -> bool:
        """Whether every row of a cut with these `offsets` is here."""
        return all(self.lanes[topic].next_offset >= end for topic, end in offsets.items())

    def take(self, offsets: Mapping[str, int]) -> tuple[dict[str, TopicRows], dict[str, Raw]]:
        """Rows and raw records of every topic below the cut's offsets."""
        rows: dict[str, TopicRows] = {}
        raw: dict[str, Raw] = {}
        for topic, lane in self.lanes.items():
            rows[topic], raw[topic] = lane.take(offsets.get(topic, 0))
        return rows, raw

    @property
    def held_bytes(self) -> int:
        return sum(lane.held_bytes for lane in self.lanes.values())
