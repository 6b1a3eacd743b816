"""What a recording says of itself: its cells, its parts, its schemas, and the times asked for."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pipeline.config import CODE_VERSION
from schemas.registry import TOPICS

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Part:
    """One member with records: which, and the digest of its bytes (xxh3_64, 16 hex digits)."""

    name: str
    topic: str
    partition: int
    records: int
    first_offset: int
    last_offset: int
    digest: str


@dataclass(slots=True)
class CellSpan:
    """What a recording holds of one cell: cuts that count, and of these how many are the lead-in
    (before the time asked for; needed to get there). Times are those of the cuts. `log_begin`: the
    first offset of its cut log; above 0 its beginning was gone already. `snapshot_cut`: the cut of
    the snapshot that it begins with, 0 where it begins with the log."""

    partition: int
    log_begin: int = 0
    cuts: int = 0
    lead_in: int = 0
    first_at_ms: int = 0
    last_at_ms: int = 0
    snapshot_cut: int = 0

    @property
    def whole(self) -> bool:
        """Whether nothing is missing before its first cut."""
        return self.log_begin == 0 or self.snapshot_cut > 0


@dataclass(slots=True)
class Manifest:
    """`from_ms`, `to_ms`: the times asked for. `partitions`: of every topic, as it was."""

    partitions: int
    from_ms: int
    to_ms: int
    cells: list[CellSpan] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    schemas: list[dict[str, Any]] = field(default_factory=list)
    format_version: int = FORMAT_VERSION
    code_version: int = CODE_VERSION
    edgesteer: str = ""

    @property
    def records(self) -> dict[str, int]:
        """Topic -> records held, in the registry's order."""
        counts = Counter[str]()
        for part in self.parts:
            counts[part.topic] += part.records
        return {topic.name: counts[topic.name] for topic in TOPICS if counts[topic.name]}

    @property
    def span_ms(self) -> int:
        """From the first to the last cut, of the cell where that is longest."""
        return max((cell.last_at_ms - cell.first_at_ms for cell in self.cells), default=0)
