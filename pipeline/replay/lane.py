"""The records of one input topic of one cell of a recording, handed out cut by cut.

Idea: a cut takes few records of most topics, and a decode costs a third of a millisecond to get
going. So a part is decoded as a whole (what a record comes to does not depend on its neighbours)
and each cut gets its stretch of it, which copies nothing.
"""

from bisect import bisect_left

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.replay.archive import Recording
from pipeline.wire.columns import decode_chunk
from pipeline.wire.digest import Raw
from pipeline.wire.rows import OFFSET, TopicRows
from schemas.registry import BY_NAME

Offsets = npt.NDArray[np.int64]
#: What is read of a part: only tombstones need keys.
_UNKEYED = ("offset", "value")
_KEYED = (*_UNKEYED, "key")


class Lane:
    """One topic."""

    def __init__(self, recording: Recording, topic: str, partition: int) -> None:
        self._topic, keyed = topic, BY_NAME[topic].keyed
        frames = recording.frames(topic, partition, _KEYED if keyed else _UNKEYED)
        self._parts = (_Part(topic, frame, keyed=keyed) for frame in frames)
        self._part: _Part | None = next(self._parts, None)

    def take(self, end: int) -> tuple[TopicRows, Raw]:
        """Remove the records below `end`: as rows, and as they are."""
        raw, pieces = Raw(), list[TopicRows]()
        while self._part is not None:
            self._part.take(end, pieces, raw)
            if self._part.left:
                break
            self._part = next(self._parts, None)
        return _joined(self._topic, pieces), raw


class _Part:
    """One part: its records, decoded, and how far they were taken."""

    def __init__(self, topic: str, frame: pl.DataFrame, *, keyed: bool) -> None:
        self._offsets: Offsets = frame.get_column("offset").to_numpy()
        self._values: list[bytes | None] = frame.get_column("value").to_list()
        keys = frame.get_column("key").to_list() if keyed else None
        rows = decode_chunk(topic, self._values, self._offsets, keys)
        self._topic, self._refused = topic, rows.refused
        self._refused_at = [one.offset for one in rows.refused]
        self._frames: dict[str, tuple[pl.DataFrame, Offsets]] = {
            name: (frame, frame.get_column(OFFSET).to_numpy())
            for name, frame in rows.frames.items()
        }
        self._taken = 0

    @property
    def left(self) -> bool:
        return self._taken < len(self._values)

    def take(self, end: int, pieces: list[TopicRows], raw: Raw) -> None:
        """Put what is left of the records below `end` behind `pieces` and `raw`."""
        first, stop = self._taken, int(np.searchsorted(self._offsets, end))
        if stop <= first:
            return
        begin, self._taken = int(self._offsets[first]), stop
        raw.offsets.append(self._offsets[first:stop])
        raw.values.append(self._values[first:stop])
        frames = {}
        for name, (frame, offsets) in self._frames.items():
            start, after = np.searchsorted(offsets, (begin, end)).tolist()
            if after > start:
                frames[name] = frame.slice(start, after - start)
        start, after = (bisect_left(self._refused_at, offset) for offset in (begin, end))
        pieces.append(TopicRows(self._topic, frames, self._refused[start:after]))


def _joined(topic: str, pieces: list[TopicRows]) -> TopicRows:
    """The pieces as one."""
    if len(pieces) == 1:
        return pieces[0]
    frames: dict[str, list[pl.DataFrame]] = {}
    for piece in pieces:
        for name, frame in piece.frames.items():
            frames.setdefault(name, []).append(frame)
    return TopicRows(
        topic,
        {name: pl.concat(parts) for name, parts in frames.items()},
        [one for piece in pieces for one in piece.refused],
    )
