"""A cell's snapshots in the Faust table `cells`: RocksDB here, its changelog for everybody else.

What is written and in which order says pipeline/snapshot/chunks.py. Here it is sent with a producer
of its own (a cut must not queue behind megabytes of chunks), a few chunks at a time, and put into
the local store only when the broker has acknowledged it, with the offset it got: so the store is
never ahead of the changelog, and Faust recovers from where it stands.

A snapshot is used only where the cut log knows it: the record before its `log_next` is its cut.
A store that survived the topics (a new cluster under an old folder) is told apart by that.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from faust.stores.rocksdb import Store
from faust.types import TP

from pipeline.cell import Cell
from pipeline.errors import SnapshotError
from pipeline.snapshot.chunks import Chunks, Commit, Plan, Snapshot, restore
from schemas.registry import CELLS_CHANGELOG, STEERING_CUTS
from topologies import metrics
from topologies.heap import give_back
from topologies.readback import Readback

log = structlog.get_logger("edgesteer.snapshots")

EVERY_CUTS = 60
#: Chunks in flight: bounds memory, and how long an urgent cut waits for the event loop.
_AT_ONCE = 4
_OBSOLETE_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Found:
    """What the table held of a cell when the partition was given to this worker."""

    keys: frozenset[bytes]
    cell: Cell | None = None
    commit: Commit | None = None

    @property
    def chunks(self) -> Chunks:
        """The same, for whoever will write the next snapshot."""
        return Chunks(0, self.keys, self.commit.keys if self.commit else ())


class Snapshots:
    """The table's snapshots, for all cells of a worker. `every_cuts`: a leading cell writes one
    after so many cuts."""

    def __init__(
        self,
        client_kwargs: Mapping[str, Any],
        readback: Readback,
        every_cuts: int = EVERY_CUTS,
        *,
        commits: bool = True,
    ) -> None:
        """`commits`: whether to commit the offsets of a snapshot to the group, for lag tools (on
        the embedded broker that can hang a group)."""
        self.every_cuts, self._commits = every_cuts, commits
        self.table: Any = None  # Faust's, and
        self.consumer: Any = None  # known once the app is built
        self._readback = readback
        self._producer = AIOKafkaProducer(**client_kwargs, acks="all", linger_ms=0)

    async def start(self) -> None:
        await self._producer.start()

    async def stop(self) -> None:
        await self._producer.stop()

    async def find(self, partition: int, partitions: int, log_begin: int) -> Found:
        """The newest snapshot that is whole, belongs to this log, and can be read by this version;
        without one the cell is folded from the beginning of its log."""
        began = perf_counter()
        held = await asyncio.to_thread(_Held, self.table.data._db_for_partition(partition))
        keys = held.keys_now
        snapshot, wrong = await asyncio.to_thread(restore, held)
        for error in wrong:
            log.warning("snapshot not used", partition=partition, reason=str(error))
        if snapshot is None:
            return Found(keys)
        commit = snapshot.commit
        if reason := await self._foreign(partition, commit, log_begin):
            log.warning("snapshot not used", partition=partition, reason=reason)
            return Found(keys)
        try:
            cell = await asyncio.to_thread(_cell, partition, partitions, snapshot)
        except SnapshotError as error:
            log.warning("snapshot not used", partition=partition, reason=str(error))
            return Found(keys)
        give_back()
        log.info(
            "restored", partition=partition, cut=commit.cut.number,
            bytes=sum(map(len, snapshot.sections.values())),
            seconds=round(perf_counter() - began, 2),
        )  # fmt: skip
        return Found(keys, cell, commit)

    async def _foreign(self, partition: int, commit: Commit, log_begin: int) -> str:
        """Why the cut log does not know the snapshot; empty when it does."""
        if log_begin > commit.log_next:
            return f"the cut log begins at {log_begin}, after the snapshot's {commit.log_next}"
        if log_begin == commit.log_next:
            return ""
        cut = await self._readback.cut_at(partition, commit.log_next - 1)
        return "" if cut == commit.cut else "another cut stands where the log should have its own"

    async def write(self, partition: int, plan: Plan) -> None:
        """Write all of `plan`, in its order; raises KafkaError."""
        began = perf_counter()
        for start in range(0, len(plan.chunks), _AT_ONCE):
            await self._put(partition, plan.chunks[start : start + _AT_ONCE])
        await self._put(partition, plan.records)
        for start in range(0, len(plan.obsolete), _OBSOLETE_AT_ONCE):
            gone = plan.obsolete[start : start + _OBSOLETE_AT_ONCE]
            await self._put(partition, [(key, None) for key in gone])
        metrics.SNAPSHOT_BYTES.labels(partition).inc(plan.size_bytes)
        told: dict[str, Any] = {
            "partition": partition, "chunks": len(plan.chunks), "bytes": plan.size_bytes,
            "seconds": round(perf_counter() - began, 2),
        }  # fmt: skip
        if plan.commit is None:
            log.info("part of a snapshot written ahead", **told)
            return
        cut = plan.commit.cut.number
        metrics.SNAPSHOT_CUT.labels(partition).set(cut)
        log.info("snapshot written", cut=cut, removed=len(plan.obsolete), **told)

    async def tell_progress(self, partition: int, commit: Commit) -> None:
        """Let the group's offsets say how far the snapshot is."""
        if self._commits:
            offsets = {TP(topic, partition): end for topic, end in commit.cut.offsets.items()}
            offsets[TP(STEERING_CUTS.name, partition)] = commit.log_next
            await self.consumer.tell_progress(offsets)

    async def _put(self, partition: int, records: Sequence[tuple[bytes, bytes | None]]) -> None:
        topic = CELLS_CHANGELOG.name
        sent = [
            await self._producer.send(topic, value, key, partition=partition)
            for key, value in records
        ]
        events = [
            SimpleNamespace(
                message=SimpleNamespace(
                    tp=TP(topic, partition),
                    partition=partition,
                    offset=(await future).offset,
                    key=key,
                    value=value,
                )
            )
            for (key, value), future in zip(records, sent, strict=True)
        ]
        self.table.data.apply_changelog_batch(events, to_key=None, to_value=None)


class _Held(Mapping[bytes, bytes]):
    """What the local store of one partition held when this was made (private API of the pinned
    Faust). Values are read when asked for: half of them may belong to the snapshot before."""

    def __init__(self, db: Any) -> None:
        self._db = db
        self.keys_now = frozenset(db.keys()) - {Store.offset_key}

    def __getitem__(self, key: bytes) -> bytes:
        value: bytes | None = self._db.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.keys_now)

    def __len__(self) -> int:
        return len(self.keys_now)


def _cell(partition: int, partitions: int, snapshot: Snapshot) -> Cell:
    return Cell.from_bytes(partition, partitions, snapshot.sections)
