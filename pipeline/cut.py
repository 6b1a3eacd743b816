"""The cut: one point of the total order (docs/adr/0001), as the core sees it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Cause(StrEnum):
    """Why the clock cut."""

    TICK = "TICK"  # about once a second
    URGENT = "URGENT"  # news that must not wait: only health, weights and shares are decided
    TAKEOVER = "TAKEOVER"  # a writer took over the partition: a TICK that also reconciles


@dataclass(frozen=True, slots=True)
class Cut:
    """`offsets`: input topic -> next offset, i.e. the first row that is NOT part of this cut."""

    partition: int
    number: int
    term: int
    writer: str
    at_ms: int
    cause: Cause
    offsets: dict[str, int]
    config_hash: str
    code_version: int

    @property
    def mark(self) -> tuple[int, int]:
        """Number and term: what an effect says of the cut that it comes from."""
        return self.number, self.term

    def counts_after(self, last: "Cut | None") -> bool:
        """Whether this cut counts, `last` being the last one that did: its number follows, and its
        term is higher, or the same by the same writer. Every reader ignores the others."""
        if last is None:
            return self.number == 1
        return self.number == last.number + 1 and (
            self.term > last.term or (self.term == last.term and self.writer == last.writer)
        )

    def to_record(self) -> dict[str, Any]:
        """The fields of the Cut record."""
        return {
            "partition": self.partition,
            "number": self.number,
            "term": self.term,
            "writer": self.writer,
            "at_ms": self.at_ms,
            "cause": str(self.cause),
            "offsets": [
                {"topic": topic, "next_offset": end} for topic, end in sorted(self.offsets.items())
            ],
            "config_hash": self.config_hash,
            "code_version": self.code_version,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Cut":
        """The inverse of `to_record`."""
        fields = dict(record)
        fields["cause"] = Cause(fields["cause"])
        fields["offsets"] = {one["topic"]: one["next_offset"] for one in fields["offsets"]}
        return cls(**fields)


class CutSequence:
    """Tells, cut by cut in the order of the log, which of them count.

    `whole`: the log is read from its very first record, or from behind `last`, which counted. Where
    its beginning is gone (retention), the first cut found is taken on trust, and so is a higher one
    until two have followed each other: the one found first may be a zombie's.
    """

    def __init__(self, *, whole: bool, last: Cut | None = None) -> None:
        self.last = last
        self._trusting = not whole

    def take(self, cut: Cut) -> bool:
        """Whether `cut` counts; it is the last one then."""
        follows = cut.counts_after(self.last)
        if follows and self.last is not None:
            self._trusting = False
        trusted = self._trusting and (self.last is None or cut.number > self.last.number)
        if follows or trusted:
            self.last = cut
        return follows or trusted
