"""What became of every route element that a feed read: L3 on the publishers' side.

An element is one prefix announced or withdrawn by one peer. read == announced + withdrawn +
refused, always; beside that, what could not be read is counted in records (`damaged`), and what
holds no unicast route is counted by name (`skipped`).
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pipeline.reasons import Refusal


@dataclass(slots=True)
class FeedAccount:
    """Counts in elements, but `records` and `damaged` (records of the file), `sent` (records for
    the broker: announcements, withdrawals, also those that a refused announcement turns into, and
    sessions), and `skipped` and `noted` (by name)."""

    records: int = 0
    read: int = 0
    announced: int = 0
    withdrawn: int = 0
    refused: Counter[Refusal] = field(default_factory=Counter)
    damaged: int = 0
    sent: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    noted: Counter[str] = field(default_factory=Counter)

    @property
    def unaccounted(self) -> int:
        """Elements that were read and are counted nowhere; not zero is a mistake of ours."""
        return self.read - self.announced - self.withdrawn - self.refused.total()

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it (docs/scripts.md), and more."""
        return {
            "read": self.read,
            "announced": self.announced,
            "withdrawn": self.withdrawn,
            "refused": {str(name): self.refused[name] for name in sorted(self.refused)},
            "damaged": self.damaged,
            "records": self.records,
            "sent": self.sent,
            "skipped": dict(sorted(self.skipped.items())),
            "noted": dict(sorted(self.noted.items())),
        }
