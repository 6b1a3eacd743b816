"""Where the recording of a cell begins: at the newest snapshot before its time, where there is one
(of a cut at just that time the recording has to hold the cut).

The table's changelog is compacted only after a while (registry), so what a snapshot overwrote is
still there for that long. Read from its beginning, the records before a commit record are that
snapshot's. One is used only where the cut log knows it (topologies/snapshots.py asks the same of
its own)."""

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from typing import Any

from aiokafka import TopicPartition

from pipeline.broker.settings import BrokerSettings
from pipeline.errors import SnapshotError
from pipeline.follow.reader import TopicReader
from pipeline.replay.fold import cut_of
from pipeline.snapshot.chunks import Commit, decoded_commit, is_commit, restore
from schemas.registry import CELLS_CHANGELOG, STEERING_CUTS


@dataclass(frozen=True, slots=True)
class Beginning:
    """A snapshot: its commit record, and the records of the changelog that it consists of."""

    commit: Commit
    records: list[Any]


@dataclass(slots=True)
class _Changelog:
    """What the changelog of one cell held at the moment read up to, and the newest snapshot."""

    held: dict[bytes, Any] = field(default_factory=dict)
    newest: Beginning | None = None

    def take(self, record: Any, before_ms: int) -> bool:
        """Whether the record stands before the first snapshot that is not before `before_ms`."""
        if record.value is None:
            self.held.pop(record.key, None)
            return True
        self.held[record.key] = record
        if not is_commit(record.key):
            return True
        try:
            commit = decoded_commit(record.value)
        except SnapshotError:
            return True
        if commit.cut.at_ms >= before_ms:
            return False
        kept = [self.held[key] for key in commit.keys & self.held.keys()]
        kept.sort(key=lambda one: one.offset)
        whole, _ = restore({one.key: one.value for one in kept})
        if whole is not None and not self._is_newer(commit):
            self.newest = Beginning(commit, kept)
        return True

    def _is_newer(self, commit: Commit) -> bool:
        """Whether the snapshot that is known is newer (a zombie may commit late)."""
        return self.newest is not None and self.newest.commit.cut.number > commit.cut.number


async def beginnings(
    broker: BrokerSettings, cells: Collection[int], before_ms: int
) -> dict[int, Beginning]:
    """Cell -> the newest whole snapshot of a cut before `before_ms`, where there is any."""
    logs = {cell: _Changelog() for cell in cells}
    async with TopicReader(broker, [CELLS_CHANGELOG.name], cells) as reader:
        ends = await reader.ends()
        async for tp, records in read(reader, await reader.begins(), ends):
            if not all(logs[tp.partition].take(one, before_ms) for one in records):
                ends[tp] = 0  # nothing behind it is wanted
    found = {cell: log.newest for cell, log in logs.items() if log.newest is not None}
    known = await _known(broker, {cell: one.commit for cell, one in found.items()})
    return {cell: one for cell, one in found.items() if cell in known}


async def _known(broker: BrokerSettings, commits: dict[int, Commit]) -> set[int]:
    """The cells whose cut log holds the snapshot's cut, or begins just behind it."""
    if not commits:
        return set()
    known: set[int] = set()
    async with TopicReader(broker, [STEERING_CUTS.name], commits) as reader:
        begins, ends = await reader.begins(), await reader.ends()
        starts = {tp: commits[tp.partition].log_next - 1 for tp in begins}
        known |= {tp.partition for tp, begin in begins.items() if begin == starts[tp] + 1}
        ends = {
            tp: starts[tp] + 1 if begin <= starts[tp] < ends[tp] else 0
            for tp, begin in begins.items()
        }
        async for tp, records in read(reader, starts, ends):
            known |= {tp.partition for one in records if _is(one, commits[tp.partition])}
    return known


def _is(record: Any, commit: Commit) -> bool:
    return record.offset == commit.log_next - 1 and cut_of(record.value) == commit.cut


async def read(
    reader: TopicReader, starts: dict[TopicPartition, int], ends: dict[TopicPartition, int]
) -> AsyncIterator[tuple[TopicPartition, list[Any]]]:
    """Everything from `starts` to before `ends`, which the caller may lower meanwhile."""
    reader.seek({tp: start for tp, start in starts.items() if start < ends[tp]})
    left = set(ends)
    while left:
        for tp in sorted(left):
            if starts[tp] >= ends[tp] or await reader.position(tp) >= ends[tp]:
                reader.pause(tp)
                left.discard(tp)
        if left:
            for tp, records in (await reader.fetch()).items():
                if kept := [one for one in records if one.offset < ends[tp]]:
                    yield tp, kept
