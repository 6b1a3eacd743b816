"""What a person watching the plane wants to know, put together from the topics alone.

Pure: records go in, figures come out, so that any terminal, page or test can show the same. Sites
are known from lb.weights, their use from the health of their appliances, rates from the Epochs.
"""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.registry import (
    APPLIANCE_HEALTH,
    LB_WEIGHTS,
    STEERING_DEAD_LETTERS,
    STEERING_EPOCHS,
    STEERING_VERDICTS,
)

#: Rates are taken over this much of the cuts' own time.
RATE_WINDOW_MS = 5_000
_VERDICTS_KEPT = 50
#: No appliance sends many times its capacity.
BELIEVABLE = 10


@dataclass(slots=True)
class CellView:
    """The last closed cut of one cell."""

    cut: int
    at_ms: int
    behind_ms: int
    prefixes: int
    groups: int


@dataclass(slots=True)
class SiteView:
    """One site now. `utilisation` 0 to 1 (above: overloaded); `states`: state -> appliances."""

    site: str
    region: str
    egress_bps: int
    capacity_bps: int
    states: dict[str, int]

    @property
    def utilisation(self) -> float:
        """Share of the appliances' capacity that is in use."""
        return self.egress_bps / self.capacity_bps if self.capacity_bps else 0.0


@dataclass(slots=True)
class DemoState:
    """Everything heard so far, in bounded memory."""

    cells: dict[int, CellView] = field(default_factory=dict)
    verdicts: deque[dict[str, Any]] = field(
        default_factory=lambda: deque[dict[str, Any]](maxlen=_VERDICTS_KEPT)
    )
    dead_letters: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    cuts: int = 0
    _recent: deque[tuple[int, int]] = field(default_factory=deque[tuple[int, int]])
    _sites: dict[str, dict[str, Any]] = field(default_factory=dict)
    _health: dict[str, tuple[int, int]] = field(default_factory=dict)

    def apply(self, topic: str, record: Mapping[str, Any]) -> None:
        """Take one decoded record; topics that are of no interest change nothing."""
        if topic == STEERING_EPOCHS.name:
            self._close(record)
        elif topic == STEERING_VERDICTS.name:
            self.verdicts.append(dict(record))
        elif topic == STEERING_DEAD_LETTERS.name:
            self.dead_letters[record["reason"]] += record["count"]
        elif topic == LB_WEIGHTS.name:
            self._sites[record["site"]] = dict(record)
        elif topic == APPLIANCE_HEALTH.name:
            egress_bps, capacity_bps = record["egress_bps"], record["capacity_bps"]
            if 0 <= egress_bps <= BELIEVABLE * capacity_bps:  # the plane refuses rubbish, so do we
                self._health[record["appliance"]] = (egress_bps, capacity_bps)

    def _close(self, epoch: Mapping[str, Any]) -> None:
        held = self.cells.get(epoch["partition"])
        if held is not None and epoch["cut"] <= held.cut:
            return
        names = ("cut", "at_ms", "behind_ms", "prefixes", "groups")
        self.cells[epoch["partition"]] = CellView(*(epoch[name] for name in names))
        rows = sum(one["rows"] for one in epoch["inputs"])
        self.rows += rows
        self.cuts += 1
        self._recent.append((epoch["at_ms"], rows))
        while self._recent[0][0] < self._newest_ms - RATE_WINDOW_MS:
            self._recent.popleft()

    @property
    def _newest_ms(self) -> int:
        return max((cell.at_ms for cell in self.cells.values()), default=0)

    @property
    def rows_per_s(self) -> float:
        """Input records that cuts took lately, by the cuts' own time."""
        if not self._recent:
            return 0.0
        span_ms = self._newest_ms - min(at_ms for at_ms, _ in self._recent)
        total = sum(rows for _, rows in self._recent)
        return total * 1000 / max(span_ms, 1000)

    @property
    def behind_ms(self) -> int:
        """How late the latest cell closed its last cut."""
        return max((cell.behind_ms for cell in self.cells.values()), default=0)

    @property
    def prefixes(self) -> int:
        """Prefixes in all tables."""
        return sum(cell.prefixes for cell in self.cells.values())

    def sites(self) -> list[SiteView]:
        """The sites, busiest first, then by name."""
        found = [self._site(record) for record in self._sites.values()]
        return sorted(found, key=lambda each: (-each.utilisation, each.site))

    def _site(self, record: Mapping[str, Any]) -> SiteView:
        health = [self._health.get(one["appliance"], (0, 0)) for one in record["appliances"]]
        states = Counter(one["state"] for one in record["appliances"])
        return SiteView(
            record["site"],
            record["region"],
            sum(egress for egress, _ in health),
            sum(capacity for _, capacity in health),
            dict(sorted(states.items())),
        )

    def appliances_by_state(self) -> dict[str, int]:
        """State -> appliances, over all sites, most first, then by name."""
        states: Counter[str] = Counter()
        for record in self._sites.values():
            states.update(one["state"] for one in record["appliances"])
        return dict(sorted(states.items(), key=lambda each: (-each[1], each[0])))

    def plain_line(self) -> str:
        """All of it in one line, for a pipe."""
        sites = self.sites()
        states = ", ".join(f"{count} {name}" for name, count in self.appliances_by_state().items())
        cuts = max((cell.cut for cell in self.cells.values()), default=0)
        parts = [
            f"cut {cuts} in {len(self.cells)} cells, {self.behind_ms} ms behind",
            f"{self.rows_per_s:,.0f} records/s",
            f"{self.prefixes:,} prefixes",
            f"{len(sites)} sites" + (f", busiest {sites[0].utilisation:.0%}" if sites else ""),
            f"appliances: {states or 'none yet'}",
            f"{self.dead_letters.total()} dead letters",
        ]
        if self.verdicts:
            last = self.verdicts[-1]
            parts.append(f"last: {last['entity']} {last['to_state']} ({last['reason']})")
        return "; ".join(parts)
