"""What became of everything, as the Epochs tell it: the demo's closing balance (L3)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Balance:
    """Sums over the Epochs of every cell; each cut is counted once, however often it was sent."""

    cuts: int = 0
    rows: dict[str, int] = field(default_factory=dict)  # topic -> rows taken by cuts
    folded: int = 0
    refused: int = 0
    last: dict[int, tuple[int, str]] = field(default_factory=dict)  # partition -> (cut, hash)

    def add(self, epoch: Mapping[str, Any]) -> None:
        """Take one Epoch into the balance; an older or repeated one changes nothing."""
        partition, cut = epoch["partition"], epoch["cut"]
        if cut <= self.last.get(partition, (0, ""))[0]:
            return
        self.last[partition] = (cut, epoch["table_hash"])
        self.cuts += 1
        for one in epoch["inputs"]:
            self.rows[one["topic"]] = self.rows.get(one["topic"], 0) + one["rows"]
            self.folded += one["folded"]
            self.refused += one["refused"]

    def summary(self, produced: int) -> dict[str, Any]:
        """The object that `edgesteer demo --json` ends with (docs/scripts.md)."""
        return {
            "cuts": self.cuts,
            "events": produced,
            "folded": self.folded,
            "dead_letters": self.refused,
            "unaccounted": produced - self.folded - self.refused,
            "epochs": {
                str(partition): {"cut": cut, "hash": table_hash}
                for partition, (cut, table_hash) in sorted(self.last.items())
            },
        }
