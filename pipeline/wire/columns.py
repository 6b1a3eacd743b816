"""Whole chunks of records to columns, and each bad record out of its chunk.

Idea: an Avro reader in native code reads a container file in a quarter of a microsecond a record. So
the values of a chunk are joined, as they came, into one container in memory. Its schema has, in front
of the record's own fields, the header that every value begins with (mark and fingerprint), and behind
them a guard: 8 bytes, random for each process, put between the values. Every header and every guard is
checked, and the number of rows.

Rule: a record that is cut short or too long shifts the reader, and the guard behind it does not come
out. Guards stand only where values were joined and a row ends in one each, so as many rows as values
with all guards whole means that every row is one value; a publisher cannot forge one because it cannot
know it. If the read fails or a guard is wrong the chunk is halved until few records are left, and those
are read one by one by `decode`, which says what is wrong with each.

Rejected: one by one always (10 times slower); without the guard (a truncated record turns its
neighbours into plausible rubbish); stripping the headers and grouping by fingerprint first (a third
slower; done only where a chunk turns out to be mixed).

Source: the DESIGN's measurements (section 8), repeated in docs/benchmarks.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from os import urandom
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from polars.exceptions import PanicException, PolarsError

from pipeline.errors import WireError
from pipeline.reasons import Refusal
from pipeline.wire.catalog import CATALOG, HEADER_SIZE, MARK, Catalog
from pipeline.wire.decode import TOO_LARGE_BYTES, Resolver, decode_body, split
from pipeline.wire.plan import (
    GUARD_COLUMN,
    MARK_COLUMN,
    MARK_VALUE,
    PRINT_COLUMN,
    SYNC,
    Plan,
    plan_of,
    zigzag,
)
from pipeline.wire.rows import OFFSET, TOMBSTONE, Refused, TopicRows
from schemas.registry import BY_NAME, Cleanup, Topic

Values = Sequence[bytes | None]
Index = npt.NDArray[np.int64]

#: Values joined into one container: few enough to stay in the cache, enough to forget the fixed cost.
PIECE = 8192
#: So many records or fewer are read one by one: about what one native read costs before its first row.
FEW = 8

_GUARD = urandom(8)


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

    `values` and `offsets` (int64, ascending) are as long as each other, and so are `keys`, which only
    the tombstones of a compacted topic need. Every value becomes one row or one Refused. Nothing is
    raised because of what the bytes are; KeyError for a topic that the registry does not have.
    """
    chunk = _Chunk(BY_NAME[topic], offsets, keys, resolver, catalog)
    for start in range(0, len(values), PIECE):
        part = values[start : start + PIECE]
        chunk.take(part, np.arange(start, start + len(part), dtype=np.int64))
    return chunk.rows()


def read_guarded(plan: Plan, values: Sequence[bytes]) -> pl.DataFrame | None:
    """What the native reader makes of the values, as on the wire; None unless every one of them is
    a whole record of the plan's writer."""
    joined = _GUARD.join(values)
    size = zigzag(len(joined) + len(_GUARD))
    container = b"".join((plan.head, zigzag(len(values)), size, joined, _GUARD, SYNC))
    try:
        frame = pl.read_avro(BytesIO(container))
    except (PolarsError, OSError, PanicException):
        return None
    if frame.height != len(values) or (frame.get_column(MARK_COLUMN) != MARK_VALUE).any():
        return None
    marks = ((PRINT_COLUMN, plan.writer.fingerprint), (GUARD_COLUMN, _GUARD))
    whole = all(
        (frame.get_column(name).to_numpy().view("<u8") == np.frombuffer(mark, "<u8")).all()
        for name, mark in marks
    )
    return frame if whole else None


@lru_cache(maxsize=256)
def _plan(mark: bytes, catalog: Catalog) -> Plan | None:
    schema = catalog.by_fingerprint(mark)
    return None if schema is None else plan_of(schema, catalog.current(schema.name))


@dataclass(slots=True)
class _Chunk:
    """One call's work. An `index` holds positions in the chunk, ascending, one for each value."""

    topic: Topic
    offsets: Index
    keys: Values | None
    resolver: Resolver | None
    catalog: Catalog
    frames: dict[str, list[pl.DataFrame]] = field(default_factory=dict)
    refused: list[Refused] = field(default_factory=list)

    def take(self, values: Values, index: Index) -> None:
        """One piece. Where the topic has one record, all are taken to be of the first one's schema,
        without a look at any of them; the header that is read along with each tells."""
        first = values[0]
        plan = None if first is None or len(self.topic.records) > 1 else self.plan(first)
        if plan is None or not plan.head or not _all_fit(values):
            self.take_groups(values, index)
            return
        frame = read_guarded(plan, values)  # type: ignore[arg-type]
        if frame is None:
            self.take_groups(values, index, tried=True)
        else:
            self.keep(plan, frame, values, index)

    def take_groups(self, values: Values, index: Index, *, tried: bool = False) -> None:
        """One piece, by header. `tried`: reading all of it under the first one's schema failed."""
        heads = [value if value is None else value[:HEADER_SIZE] for value in values]
        plans: list[Plan | None] = [None]
        codes: dict[bytes | None, int] = {None: -1}
        for head in dict.fromkeys(heads):
            if head is not None:
                plan = self.plan(head)
                codes[head] = 0 if plan is None else len(plans)
                if plan is not None:
                    plans.append(plan)
        code = np.fromiter(map(codes.__getitem__, heads), np.int64, len(heads))
        self.bury(index[code == -1])
        for number, plan in enumerate(plans):
            where = np.flatnonzero(code == number)
            members = values if len(where) == len(values) else [values[at] for at in where]
            if plan is None:
                self.take_each(members, index[where])
            elif len(members):
                self.take_native(plan, members, index[where], tried=tried and members is values)

    def take_native(self, plan: Plan, values: Values, index: Index, *, tried: bool = False) -> None:
        """Values with the header of `plan`, halved until those that cannot be read stand alone."""
        if not plan.head or len(values) <= FEW:
            self.take_each(values, index)
            return
        fit = not tried and _all_fit(values)
        frame = read_guarded(plan, values) if fit else None  # type: ignore[arg-type]
        if frame is not None:
            self.keep(plan, frame, values, index)
            return
        middle = len(values) // 2
        self.take_native(plan, values[:middle], index[:middle])
        self.take_native(plan, values[middle:], index[middle:])

    def take_each(self, values: Values, index: Index) -> None:
        """Values one by one."""
        read: dict[str, tuple[list[dict[str, Any]], list[int]]] = {}
        for value, at in zip(values, index.tolist(), strict=True):
            assert value is not None
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

    def keep(self, plan: Plan, frame: pl.DataFrame, values: Values, index: Index) -> None:
        """Rows that were read whole, but for those with a value that its type does not have."""
        bad = plan.out_of_range(frame)
        if bad is not None:
            where = np.flatnonzero(bad)
            self.take_each([values[at] for at in where], index[where])
            frame, index = frame.filter(pl.Series(~bad)), index[~bad]
        self.add(plan.current.name, plan.finish(frame), index)

    def add(self, name: str, frame: pl.DataFrame, index: Index) -> None:
        offsets = pl.Series(OFFSET, self.offsets[index], dtype=pl.Int64)
        self.frames.setdefault(name, []).append(frame.with_columns(offsets))

    def bury(self, index: Index) -> None:
        """Tombstones: rows where the topic is compacted and the key is there."""
        if not len(index):
            return
        if self.topic.cleanup is not Cleanup.COMPACT:
            for at in index.tolist():
                self.refuse(at, Refusal.MISSING_VALUE, f"{self.topic.name} has no tombstones")
            return
        keyed = [(at, self.keys[at] if self.keys else None) for at in index.tolist()]
        for at, key in keyed:
            if not key:
                self.refuse(at, Refusal.BAD_KEY, "a tombstone without a key")
        kept = [(at, key) for at, key in keyed if key]
        if kept:
            frame = pl.DataFrame({"key": pl.Series([key for _, key in kept], dtype=pl.Binary)})
            self.add(TOMBSTONE, frame, np.array([at for at, _ in kept], dtype=np.int64))

    def refuse(self, at: int, reason: Refusal, detail: str) -> None:
        self.refused.append(Refused(int(self.offsets[at]), reason, detail))

    def rows(self) -> TopicRows:
        """All that was taken, in the order of offsets."""
        frames = {}
        for name in (*self.topic.records, TOMBSTONE):
            parts = self.frames.get(name)
            if parts:
                frame = parts[0] if len(parts) == 1 else pl.concat(parts, rechunk=True)
                ordered = frame.get_column(OFFSET).is_sorted()
                frames[name] = frame if ordered else frame.sort(OFFSET)
        self.refused.sort(key=lambda refused: refused.offset)
        return TopicRows(self.topic.name, frames, self.refused)


def _all_fit(values: Values) -> bool:
    """Whether there is no tombstone among the values, and none that is too large."""
    try:
        return max(map(len, values)) <= TOO_LARGE_BYTES  # type: ignore[arg-type]
    except TypeError:
        return False
