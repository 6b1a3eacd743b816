"""The steering table as a follower holds it: what was published, and nothing in between.

Idea. A cut's effects reach a follower as records on the table topics, then its Epoch on another.
The follower keeps records back until it has read every table topic up to the end offsets that the
Epoch names, then applies them as one step: it never shows half of a cut. The hash over all live
records is kept up with every step and compared with the Epoch's.

Rules.
- One cell a partition: cells know nothing of each other.
- L5: once cut n is applied, a record of cut n or below is dropped: everything of it was already
  there, so it is a repetition or a zombie's. So is one that stands behind the Epoch's end offset,
  also when it is read before the Epoch. Inside one step the highest (cut, term) of a key wins, the
  later record where they are equal.
- A record without the cut header, or with another partition's, is nobody's word: counted, dropped.
- Several Epochs may be ready at once (a follower that starts, or fell behind): the highest wins.
- Values stay bytes until someone asks (lookup.py). A million prefixes are a dictionary update and
  one hash each, not a million decoded records.

Rejected: applying on arrival with a cut per key (half a cut is visible, and removed keys must be
remembered for ever); sorted arrays for the prefixes (every change copies a million rows; a
dictionary probe for each length that occurs answers a longest match in a few microseconds).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, takewhile
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.wire.headers import SIZE, unpack_cuts
from pipeline.wire.tablehash import MODULUS, format_hash, records_hash
from schemas.registry import STEERING_PREFIXES, TABLES

Records = dict[bytes, bytes]
_TABLE_NAMES = tuple(topic.name for topic in TABLES)
_ADDRESS = 16


class Closed(NamedTuple):
    """What a follower needs of an Epoch. `ends`: table topic -> end offset of this partition."""

    partition: int
    cut: int
    table_hash: str
    ends: dict[str, int]


class Mismatch(NamedTuple):
    """A cell that does not hold what its Epoch says; hashes as 16 hex digits."""

    partition: int
    cut: int
    expected: str
    found: str

    def __str__(self) -> str:
        return (
            f"cell {self.partition} is not what its Epoch of cut {self.cut} says (table hash "
            f"{self.found}, not {self.expected}): some of it may be of another cut"
        )


class Applied(NamedTuple):
    """One step: cut `previous` (0: none) became `cut`; `changed` by topic, None where removed.

    `mismatch`: what came of it is not what the Epoch says, so the table is of no one cut until a
    later step is without. It happens to a follower behind by more than the topics' compaction lag
    (docs/adr/0039), and to one older than the workers, which does not know all table topics."""

    partition: int
    previous: int
    cut: int
    changed: dict[str, dict[bytes, bytes | None]]
    mismatch: Mismatch | None


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one table topic's partition, in log order, columns of equal length."""

    topic: str
    partition: int
    keys: Sequence[bytes]
    values: Sequence[bytes | None]
    headers: Sequence[bytes | None]
    offsets: Sequence[int]


@dataclass(slots=True)
class _Waiting:
    """Records that no Epoch has closed yet, in log order, batch by batch. (Tuples: the garbage
    collector forgets a tuple of bytes, and walks a list of a million again and again.)"""

    keys: list[tuple[bytes, ...]] = field(default_factory=list)
    values: list[tuple[bytes | None, ...]] = field(default_factory=list)
    cuts: list[npt.NDArray[np.int64]] = field(default_factory=list)
    terms: list[npt.NDArray[np.int64]] = field(default_factory=list)
    offsets: list[npt.NDArray[np.int64]] = field(default_factory=list)

    def take(self, cut: int, end: int | None) -> tuple[dict[bytes, bytes | None], int]:
        """Remove what cut `cut` and those before it wrote; return the value each key ends with, by
        what stands before the offset `end`, and how many stand behind it."""
        if not self.keys:
            return {}, 0
        cuts, terms = np.concatenate(self.cuts), np.concatenate(self.terms)
        offsets = np.concatenate(self.offsets)
        keys, values = list(chain(*self.keys)), list(chain(*self.values))
        due = cuts <= cut
        self.keys, self.values, self.cuts, self.terms, self.offsets = [], [], [], [], []
        if not due.all():
            later = np.flatnonzero(~due)
            self.keys, self.values = [_pick(keys, later)], [_pick(values, later)]
            self.cuts, self.terms = [cuts[later]], [terms[later]]
            self.offsets = [offsets[later]]
        late = due & (offsets >= end) if end is not None else np.zeros(len(due), np.bool_)
        due &= ~late
        return self._last_of_each(keys, values, cuts, terms, due), int(late.sum())

    @staticmethod
    def _last_of_each(
        keys: list[bytes],
        values: list[bytes | None],
        cuts: npt.NDArray[np.int64],
        terms: npt.NDArray[np.int64],
        due: npt.NDArray[np.bool_],
    ) -> dict[bytes, bytes | None]:
        if due.all() and bool((np.diff(cuts) >= 0).all() and (np.diff(terms) >= 0).all()):
            return dict(zip(keys, values, strict=True))
        rows = np.flatnonzero(due)
        order = rows[np.lexsort((terms[rows], cuts[rows]))]  # stable: of equals the later is last
        return dict(zip(_pick(keys, order), _pick(values, order), strict=True))


def _pick(items: Sequence[Any], rows: npt.NDArray[np.intp]) -> tuple[Any, ...]:
    return tuple(map(items.__getitem__, rows.tolist()))


class CellTable:
    """One partition's table."""

    def __init__(self, partition: int, topics: Sequence[str]) -> None:
        self.partition = partition
        self.records: dict[str, Records] = {topic: {} for topic in topics}
        #: The Epoch that was applied last.
        self.applied: Closed | None = None
        self.table_hash = 0
        #: (length byte + region) of the prefixes held -> how many: what a longest match must probe.
        self.shapes: Counter[bytes] = Counter()
        #: Records that were dropped, by why: no_cut, other_partition, old_cut.
        self.dropped: Counter[str] = Counter()
        self._positions: dict[str, int] = dict.fromkeys(topics, 0)
        self._waiting = {topic: _Waiting() for topic in topics}
        self._closed: list[Closed] = []

    @property
    def cut(self) -> int:
        """The cut this table stands at; 0 before the first."""
        return self.applied.cut if self.applied else 0

    def take(self, batch: Batch) -> None:
        """Keep a batch's records back until their cut is closed."""
        keys, values, headers = batch.keys, batch.values, batch.headers
        offset = np.array(batch.offsets, np.int64)
        good = [header is not None and len(header) == SIZE for header in headers]
        if not all(good):
            rows = np.flatnonzero(good)
            self.dropped["no_cut"] += len(keys) - len(rows)
            keys, values, headers = (_pick(column, rows) for column in (keys, values, headers))
            offset = offset[rows]
        partition, cut, term = unpack_cuts([header for header in headers if header is not None])
        own, new = partition == self.partition, cut > self.cut
        if not (own & new).all():
            rows = np.flatnonzero(own & new)
            self.dropped["other_partition"] += int((~own).sum())
            self.dropped["old_cut"] += int((own & ~new).sum())
            keys, values, cut, term = _pick(keys, rows), _pick(values, rows), cut[rows], term[rows]
            offset = offset[rows]
        waiting = self._waiting[batch.topic]
        waiting.keys.append(tuple(keys))
        waiting.values.append(tuple(values))
        waiting.cuts.append(cut)
        waiting.terms.append(term)
        waiting.offsets.append(offset)

    def reached(self, topic: str, position: int) -> None:
        """Everything of `topic` before the offset `position` was read. (The consumer's position,
        not the last record's offset: control records take offsets too.)"""
        self._positions[topic] = max(position, self._positions[topic])

    def close(self, closed: Closed) -> None:
        """An Epoch was read."""
        if closed.cut > self.cut:
            self._closed.append(closed)

    def advance(self) -> Applied | None:
        """Apply up to the highest cut whose Epoch, and every known one before it, has its end
        offsets reached (an Epoch names only the topics that its own cut wrote to), as one step."""
        self._closed.sort(key=itemgetter(1))
        ready = list(takewhile(lambda each: self._is_reached(each.ends), self._closed))
        if not ready:
            return None
        last = ready[-1]
        # An Epoch may be there twice: the same cut is no second step.
        self._closed = [each for each in self._closed[len(ready) :] if each.cut > last.cut]
        previous = self.cut
        changed: dict[str, dict[bytes, bytes | None]] = {}
        for topic, waiting in self._waiting.items():
            changed[topic], late = waiting.take(last.cut, last.ends.get(topic))
            self.dropped["old_cut"] += late
            self._apply(topic, changed[topic])
        self.applied = last
        return Applied(self.partition, previous, last.cut, changed, self.mismatch())

    @property
    def is_waiting(self) -> bool:
        """Whether an Epoch was read whose effects were not, yet."""
        return bool(self._closed)

    def _is_reached(self, ends: Mapping[str, int]) -> bool:
        return all(at >= ends.get(topic, 0) for topic, at in self._positions.items())

    def _apply(self, topic: str, change: Mapping[bytes, bytes | None]) -> None:
        held = self.records[topic]
        before = {key: held[key] for key in change if key in held}
        after = {key: value for key, value in change.items() if value is not None}
        gone = records_hash(before.keys(), before.values())
        come = records_hash(after.keys(), after.values())
        self.table_hash = (self.table_hash + come - gone) % MODULUS
        if topic == STEERING_PREFIXES.name:
            shape = itemgetter(slice(_ADDRESS, None))
            self.shapes.update(map(shape, after))
            self.shapes.subtract(map(shape, before))
            self.shapes = +self.shapes
        held.update(after)
        for key in before.keys() - after.keys():
            del held[key]

    def mismatch(self) -> Mismatch | None:
        """None when this table is what its Epoch says; also before the first, and for a follower
        that reads only some of the table's topics, which cannot tell."""
        if self.applied is None or len(self.records) < len(_TABLE_NAMES):
            return None
        expected, found = self.applied.table_hash, format_hash(self.table_hash)
        return None if expected == found else Mismatch(self.partition, self.cut, expected, found)


class SteeringTable:
    """The tables of all partitions that a follower reads."""

    def __init__(self, topics: Sequence[str] = _TABLE_NAMES) -> None:
        self.topics = tuple(topics)
        self.cells: dict[int, CellTable] = {}

    def cell(self, partition: int) -> CellTable:
        """The table of one partition, empty when it is new."""
        if partition not in self.cells:
            self.cells[partition] = CellTable(partition, self.topics)
        return self.cells[partition]

    def take(self, batch: Batch) -> None:
        """See CellTable.take."""
        self.cell(batch.partition).take(batch)

    def reached(self, topic: str, partition: int, position: int) -> None:
        """See CellTable.reached."""
        self.cell(partition).reached(topic, position)

    def close(self, epoch: Mapping[str, Any]) -> None:
        """A decoded Epoch was read."""
        ends = {each["topic"]: int(each["end_offset"]) for each in epoch["outputs"]}
        partition = int(epoch["partition"])
        closed = Closed(partition, int(epoch["cut"]), str(epoch["table_hash"]), ends)
        self.cell(partition).close(closed)

    def advance(self) -> list[Applied]:
        """Apply whatever is complete, partition by partition."""
        steps = (self.cells[partition].advance() for partition in sorted(self.cells))
        return [step for step in steps if step is not None]

    def verify(self) -> list[Mismatch]:
        """The cells that do not hold what their Epoch says; empty is good."""
        found = (self.cells[partition].mismatch() for partition in sorted(self.cells))
        return [each for each in found if each is not None]

    def items(self, topic: str) -> Iterator[tuple[int, bytes, bytes]]:
        """(partition, key, value) of every live record of one topic, in key order."""
        keys = sorted(
            (key, partition)
            for partition, cell in self.cells.items()
            for key in cell.records[topic]
        )
        for key, partition in keys:
            yield partition, key, self.cells[partition].records[topic][key]
