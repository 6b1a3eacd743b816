"""What stands on the table topics of a cell, and which of it others wrote.

Idea: a worker that was frozen sends what it had queued after its successor's records, and in a
compacted topic the last record wins (DESIGN section 1). The broker's acknowledgement says at which
offsets our own records stand; so what lies between two of our batches, or behind the last one, is
somebody else's. Only that is read, and each key in it that does not hold what the cell has
published is written again with the next cut.
Rejected: reading all that we write along with everybody else (an object per record, a million of
them after a take-over, to find nothing).
"""

from collections.abc import Iterable, Mapping

from pipeline.broker.batches import Written
from pipeline.cell import Cell, current, reconcile
from pipeline.effects import Block, Record
from schemas.registry import TABLES
from topologies import metrics
from topologies.readback import Mark, Readback

_NOBODYS = (-2, -2)  # a cut for which nobody writes


class Standing:
    """Of one cell, from the day it was given to this worker. `verified`: table topic -> the offset
    up to which the topic is known to hold just what the cell published; None: not known yet."""

    def __init__(
        self, partition: int, readback: Readback, verified: Mapping[str, int] | None
    ) -> None:
        self._partition, self._readback = partition, readback
        self._seen: dict[str, int] | None = None if verified is None else dict(verified)
        self._theirs: dict[str, dict[bytes, bytes | None]] = {}

    @property
    def known(self) -> bool:
        """Whether there is an offset from which on to look."""
        return self._seen is not None

    @property
    def verified(self) -> dict[str, int] | None:
        """As the parameter; None as well while something of others is not put right yet."""
        return None if self._theirs or self._seen is None else dict(self._seen)

    async def ends(self) -> dict[str, int]:
        """Table topic -> an offset behind everything that we wrote; after `look` behind what those
        before us wrote as well."""
        if self._seen is not None:
            return self._seen
        return await self._readback.ends([one.name for one in TABLES], self._partition)

    def forget(self) -> None:
        """Somebody else's cut counted where we thought ours would: what we wrote since, corrections
        among it, may stand behind what is newer."""
        self._seen, self._theirs = None, {}

    async def begin(self) -> None:
        """The topics hold nothing of the cell's, as it has published nothing."""
        self._seen = await self.ends()

    async def wrote(self, written: Iterable[Written], own: Mark) -> None:
        """Take in what was acknowledged, in order; read what lies before it unknown. Where others
        wrote there, what we wrote after them is read too: we may be the one who was frozen."""
        if self._seen is not None:
            shared = set[str]()
            for one in written:
                if await self._read(self._seen, one.topic, one.start, own):
                    shared.add(one.topic)
                if one.topic in shared:
                    await self._read(self._seen, one.topic, one.end, _NOBODYS)
                self._seen[one.topic] = max(self._seen[one.topic], one.end)

    async def look(self, own: Mark) -> None:
        """Read what others wrote behind our last record."""
        if self._seen is not None:
            ends = await self._readback.ends(self._seen, self._partition)
            for topic, end in ends.items():
                await self._read(self._seen, topic, end, own)

    async def _read(self, seen: dict[str, int], topic: str, end: int, own: Mark) -> bool:
        """What stands before `end` and was not seen; `own`: the cut that we write for
        (a batch whose acknowledgement was lost is sent twice). Whether others wrote any of it."""
        start = seen[topic]
        if start >= end:
            return False
        found = await self._readback.written_by_others(topic, self._partition, start, end, own)
        if found:
            self._theirs.setdefault(topic, {}).update(found)
        seen[topic] = end
        return bool(found)

    def corrections(self, cell: Cell) -> list[Record]:
        """What to write so that the topics hold what the cell has published, of all that others
        wrote."""
        theirs, self._theirs = self._theirs, {}
        records = [
            Record(topic, key, value)
            for topic, found in theirs.items()
            for key, value in current(cell, topic, found).items()
            if value != found[key]
        ]
        for one in records:
            metrics.OVERWRITTEN.labels(one.topic).inc()
        return records

    async def reconciled(self, cell: Cell) -> list[Record | Block]:
        """The same, of all that stands on the topics."""
        records: list[Record | Block] = []
        self._seen, self._theirs = {}, {}
        for topic in TABLES:
            held, self._seen[topic.name] = await self._readback.table(topic.name, self._partition)
            records += reconcile(cell, topic.name, held)
        return records
