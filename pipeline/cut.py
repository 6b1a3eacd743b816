"""The cut: one point of the total order (DESIGN section 1), as the core sees it."""

from dataclasses import dataclass
from enum import StrEnum


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

    def counts_after(self, last: "Cut | None") -> bool:
        """Whether this cut counts, `last` being the last one that did: its number follows, and its
        term is higher, or the same by the same writer. Every reader ignores the others."""
        if last is None:
            return self.number == 1
        return self.number == last.number + 1 and (
            self.term > last.term or (self.term == last.term and self.writer == last.writer)
        )
