"""Whole chunks of records to columns, and every bad record out of its chunk.

Rule: a chunk is read in pieces by `guard`, all or nothing. Where a piece is of several schemas it
is grouped by header; where it cannot be read, the records whose structure is not sound (`sieve`)
are read one by one by `decode`, which says what is wrong with each, and the rest together again,
by halves where even that fails (text that is no UTF-8). So one bad publisher costs the pieces that
it is in some two microseconds a record, and the others nothing.

Rejected: one by one always (ten times slower); halving without the sieve (a dozen reads for each
bad record, and a panic of the native reader, which writes to stderr, for most).

Source: docs/adr/0004; measured figures are in docs/benchmarks.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.errors import WireError
from pipeline.reasons import Refusal
from pipeline.wire.catalog import CATALOG, HEADER_SIZE, MARK, Catalog
from pipeline.wire.decode import TOO_LARGE_BYTES, Resolver, decode_body, split
from pipeline.wire.guard import GUARD, read_guarded, right_unions, sound_values
from pipeline.wire.plan import Plan, plan_of
from pipeline.wire.rows import OFFSET, TOMBSTONE, Refused, TopicRows
from schemas.registry import BY_NAME, Cleanup, Topic

Values = Sequence[bytes | None]
Index = npt.NDArray[np.int64]
T = TypeVar("T")

#: Values read together: few enough to stay in the cache, enough to forget the fixed cost of 35 µs.
PIECE = 8192
#: So many or fewer are read one by one: that costs no more than the fixed cost.
FEW = 8


def decode_chunk(
    topic: str,
    values: Values,
    offsets: Index,
    keys: Values | None = None,
    *,
    resolver: Resolver | None = None,
    catalog: Catalog = CATALOG,
) -> TopicRows:
    """What a chunk of one topic's partition brought: rows by record name, and what was refused.

    `values` and `offsets` (int64, ascending) are as long as each other, and so are `keys`, which
    only the tombstones of a compacted topic need. `resolver` knows the ids of Confluent framing.
    Every value becomes one row or one Refused. Nothing is raised because of what the bytes are;
    KeyError for a topic that the registry does not have.
    """
    chunk = _Chunk(BY_NAME[topic], values, offsets, keys, resolver, catalog)
    for start in range(0, len(values), PIECE):
        part = values[start : start + PIECE]
        chunk.take(part, np.arange(start, start + len(part), dtype=np.int64))
    return chunk.rows()


@lru_cache(maxsize=256)
def _plan(mark: bytes, catalog: Catalog) -> Plan | None:
    schema = catalog.by_fingerprint(mark)
    return None if schema is None else plan_of(schema, catalog.current(schema.name))


@dataclass(slots=True)
class _Batch:
    """What was read natively under one plan: frames and where their rows came from."""

    plan: Plan
    frames: list[pl.DataFrame] = field(default_factory=list)
    indices: list[Index] = field(default_factory=list)


@dataclass(slots=True)
class _Chunk:
    """One call's work. An `index` holds positions in the chunk, ascending, one for each value."""

    topic: Topic
    values: Values
    offsets: Index
    keys: Values | None
    resolver: Resolver | None
    catalog: Catalog
    wary: bool = False  # damage was just met: look before reading
    batches: dict[bytes, _Batch] = field(default_factory=dict)
    frames: dict[str, list[pl.DataFrame]] = field(default_factory=dict)
    refused: list[Refused] = field(default_factory=list)

    def take(self, values: Values, index: Index) -> None:
        """One piece. Where the topic has one record, all are taken to be of the first one's schema,
        without a look at any of them; the header that is read along with each tells."""
        first = values[0]
        plan = None if first is None else self.plan(first)
        uniform = len(self.topic.records) == 1 or _same_header(values)
        if (
            self.wary
            or not uniform
            or plan is None
            or not plan.head
            or not self.whole(plan, values, index)
        ):
            self.take_groups(values, index)

    def take_groups(self, values: Values, index: Index) -> None:
        """One piece, by header."""
        heads = [value if value is None else value[:HEADER_SIZE] for value in values]
        plans: list[Plan | None] = [None]
        codes: dict[bytes | None, int] = {}
        for head in dict.fromkeys(heads):
            plan = None if head is None else self.plan(head)
            codes[head] = -1 if head is None else len(plans) if plan else 0
            plans.extend([plan] if plan else [])
        code = np.fromiter(map(codes.__getitem__, heads), np.int64, len(heads))
        self.bury(index[code == -1])
        for number, plan in enumerate(plans):
            where = np.flatnonzero(code == number)
            members: list[bytes] = _pick(values, where)  # type: ignore[arg-type]
            if plan is None or not plan.head or len(members) <= FEW:
                self.take_each(members, index[where])
            else:
                self.take_native(plan, members, index[where])

    def take_native(self, plan: Plan, values: list[bytes], index: Index) -> None:
        """Values with the header of `plan`: together, or without those that look damaged."""
        if not self.wary and self.whole(plan, values, index):
            return
        fine = sound_values(plan, GUARD.join(values), values)
        fine &= np.fromiter(map(len, values), np.int64, len(values)) <= TOO_LARGE_BYTES
        self.wary = not fine.all()
        good, bad = np.flatnonzero(fine), np.flatnonzero(~fine)
        self.take_each(_pick(values, bad), index[bad])
        self.halve(plan, _pick(values, good), index[good])

    def halve(self, plan: Plan, values: list[bytes], index: Index) -> None:
        """Values of a sound structure, whatever is in their text."""
        if len(values) <= FEW:
            self.take_each(values, index)
        elif not self.whole(plan, values, index):
            middle = len(values) // 2
            self.halve(plan, values[:middle], index[:middle])
            self.halve(plan, values[middle:], index[middle:])

    def whole(self, plan: Plan, values: Values, index: Index) -> bool:
        """Take all of these if every one is a whole record of the plan's writer; else none."""
        try:
            joined = GUARD.join(values)  # type: ignore[arg-type]
        except TypeError:  # a tombstone among them
            return False
        present: Sequence[bytes] = values  # type: ignore[assignment]
        if len(joined) > TOO_LARGE_BYTES and max(map(len, present)) > TOO_LARGE_BYTES:
            return False
        frame = read_guarded(plan, joined, len(present))
        if frame is None:
            self.wary = True
            return False
        if plan.screened and not (fine := right_unions(plan, joined, present)).all():
            bad = np.flatnonzero(~fine)
            self.take_each(_pick(present, bad), index[bad])
            frame, index = frame.filter(pl.Series(fine)), index[fine]
        batch = self.batches.setdefault(plan.writer.fingerprint, _Batch(plan))
        batch.frames.append(frame)
        batch.indices.append(index)
        return True

    def take_each(self, values: Sequence[bytes], index: Index) -> None:
        """Values one by one."""
        read: dict[str, tuple[list[dict[str, Any]], list[int]]] = {}
        for value, at in zip(values, index.tolist(), strict=True):
            try:
                schema, start = split(value, self.resolver, self.catalog)
                if schema.name not in self.topic.records:
                    raise WireError(Refusal.UNEXPECTED_RECORD, schema.name)
                record = decode_body(schema, value[start:], self.catalog)
            except WireError as error:
                self.refuse(at, error.reason, error.detail)
                continue
            records, where = read.setdefault(schema.name, ([], []))
            records.append(record)
            where.append(at)
        for name, (records, where) in read.items():
            plan = _plan(self.catalog.current(name).fingerprint, self.catalog)
            assert plan is not None
            self.add(name, plan.from_records(records), np.array(where, dtype=np.int64))

    def plan(self, value: bytes) -> Plan | None:
        """The plan for a value with this header; None where this topic expects none such."""
        if not value.startswith(MARK):
            return None
        plan = _plan(value[len(MARK) : HEADER_SIZE], self.catalog)
        return plan if plan is not None and plan.current.name in self.topic.records else None

    def add(self, name: str, frame: pl.DataFrame, index: Index) -> None:
        offsets = pl.Series(OFFSET, self.offsets[index], dtype=pl.Int64)
        frame.insert_column(frame.width, offsets)
        self.frames.setdefault(name, []).append(frame)

    def bury(self, index: Index) -> None:
        """Tombstones: rows where the topic is compacted and the key is there."""
        keys, places = [], []
        for at in index.tolist():
            key = self.keys[at] if self.keys else None
            if self.topic.cleanup is not Cleanup.COMPACT:
                self.refuse(at, Refusal.MISSING_VALUE, f"{self.topic.name} has no tombstones")
            elif not key:
                self.refuse(at, Refusal.BAD_KEY, "a tombstone without a key")
            else:
                keys.append(key)
                places.append(at)
        if keys:
            frame = pl.DataFrame({"key": pl.Series(keys, dtype=pl.Binary)})
            self.add(TOMBSTONE, frame, np.array(places, dtype=np.int64))

    def refuse(self, at: int, reason: Refusal, detail: str) -> None:
        self.refused.append(Refused(int(self.offsets[at]), reason, detail))

    def rows(self) -> TopicRows:
        """All that was taken, in the order of offsets."""
        for batch in self.batches.values():
            self.finish(batch)
        frames = {}
        for name in (*self.topic.records, TOMBSTONE):
            if name in self.frames:
                frame = _together(self.frames[name])
                ordered = frame.get_column(OFFSET).is_sorted()
                frames[name] = frame if ordered else frame.sort(OFFSET)
        self.refused.sort(key=lambda refused: refused.offset)
        return TopicRows(self.topic.name, frames, self.refused)

    def finish(self, batch: _Batch) -> None:
        """Rows from what was read natively, but for those with a value that its type does not
        have."""
        frame, index = _together(batch.frames), np.concatenate(batch.indices)
        bad = batch.plan.out_of_range(frame)
        if bad is not None:
            where = index[bad]
            self.take_each([self.values[at] for at in where.tolist()], where)
            frame, index = frame.filter(pl.Series(~bad)), index[~bad]
        self.add(batch.plan.current.name, batch.plan.finish(frame), index)


def _same_header(values: Values) -> bool:
    head = (values[0] or b"")[:HEADER_SIZE]
    # A list: a generator takes a quarter longer.
    return all([value is not None and value.startswith(head) for value in values])  # noqa: C419


def _pick(values: Sequence[T], where: Index) -> list[T]:
    if len(where) == len(values):
        return list(values)
    return [values[at] for at in where.tolist()]


def _together(frames: list[pl.DataFrame]) -> pl.DataFrame:
    return frames[0] if len(frames) == 1 else pl.concat(frames, rechunk=True)
