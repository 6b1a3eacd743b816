"""Rows on their way from the wire to the fold, and the account of what became of each.

A `TopicRows` holds what one input topic brought between two cuts: one DataFrame per record type,
each with the columns of its schema and an `_offset` column (Int64, ascending). Tombstones are the
frame TOMBSTONE with columns `_offset` and `key` (Binary). Columns by Avro type: string -> String;
long -> Int64; int -> Int32; double -> Float64; boolean -> Boolean; fixed and bytes -> Binary; enum
-> Enum (schema symbols in order); array -> List; ["null", T] -> nullable T.

L3: for every topic rows == folded + refused. `Account` is where the sections report, and the only
way to lose a row is to forget it there, which `Account.close` turns into an error.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.errors import LogError
from pipeline.reasons import Noted, Refusal

#: A Reason, and the mask of the rows that are refused for it.
Check = tuple[Refusal, npt.NDArray[np.bool_]]

TOMBSTONE = "Tombstone"
OFFSET = "_offset"


@dataclass(frozen=True, slots=True)
class Refused:
    """One refused record: its offset, why, and the numbers that show it."""

    offset: int
    reason: Refusal
    detail: str = ""


@dataclass(slots=True)
class TopicRows:
    """What one topic brought: frames by record name, and what the wire already refused."""

    topic: str
    frames: dict[str, pl.DataFrame] = field(default_factory=dict)
    refused: list[Refused] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Records that came, readable or not."""
        return sum(frame.height for frame in self.frames.values()) + len(self.refused)


@dataclass(slots=True)
class Account:
    """What became of the rows of one cut, per topic (offsets are unique within a topic's
    partition)."""

    rows: Counter[str] = field(default_factory=Counter)
    folded: Counter[str] = field(default_factory=Counter)
    refused: dict[str, list[Refused]] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)

    def arrive(self, rows: TopicRows) -> None:
        """Count what came, and take over what the wire refused."""
        self.rows[rows.topic] += rows.count
        if rows.refused:
            self.refused.setdefault(rows.topic, []).extend(rows.refused)

    def fold(self, topic: str, count: int) -> None:
        """`count` rows of `topic` are in the state now."""
        self.folded[topic] += count

    def refuse(self, topic: str, offsets: Iterable[int], reason: Refusal, detail: str = "") -> None:
        """The rows at `offsets` of `topic` become dead letters."""
        self.refused.setdefault(topic, []).extend(
            Refused(int(offset), reason, detail) for offset in offsets
        )

    def note(self, name: Noted, count: int) -> None:
        """Count by name; zero is not noted."""
        if count:
            self.notes[name] += int(count)

    def close(self) -> None:
        """Raise LogError unless rows == folded + refused for every topic."""
        for topic, rows in self.rows.items():
            kept, lost = self.folded[topic], len(self.refused.get(topic, ()))
            if rows != kept + lost:
                raise LogError(f"{topic}: {rows} rows came, {kept} folded, {lost} refused")


def passing(
    topic: str, offsets: npt.NDArray[np.int64], checks: Iterable[Check], account: Account
) -> npt.NDArray[np.bool_] | slice:
    """Refuse the rows (by their offsets) that a check marks, the first check that marks a row
    naming the Reason. Returns which rows are left, as an index into columns: most often all of
    them, which costs no copy."""
    keep = np.ones(len(offsets), dtype=bool)
    for reason, bad in checks:
        if bad.any() and (hit := keep & bad).any():
            account.refuse(topic, offsets[hit].tolist(), reason)
            keep &= ~bad
    return slice(None) if bool(keep.all()) else keep


def screen(
    topic: str, frame: pl.DataFrame, checks: Iterable[Check], account: Account
) -> pl.DataFrame:
    """The same for a frame: its rows that are left, in order."""
    kept = passing(topic, frame.get_column(OFFSET).to_numpy(), checks, account)
    return frame if isinstance(kept, slice) else frame.filter(pl.Series(kept))
