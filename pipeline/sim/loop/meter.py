"""What a policy is judged by: seven columns, measured in the world and never in reports.

overload_min   minutes, summed over sites, in which a site's viewers sit where more is asked than
               can be carried (appliance or link above 100 %); part of the viewers, part of a minute
unserved_min   viewer minutes without a seat, of those who gave up too (while they would watch)
stalled_min    viewer minutes of stalling (half the bytes: half a stalled viewer)
nearest        share of the bytes that all would get had nothing ever gone wrong that came from
               the site that routing holds nearest
spread         largest less smallest utilisation of a site's appliances in service, mean over sites
               and time
moves_per_min  share of all demand that the table sends to another site than a second before
relief_s       from the fault until things are for HOLD_S together as usual: no more than CALM of
               all viewers stall or wait, and CALM_TRIES of those who try get no seat, beside as
               many as did before the fault; 0: never more. None: not while it was watched

The warm-up is not counted. Numbers are rounded to what the table shows before they are compared.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pipeline.sim.loop.crowd import Followed
from pipeline.sim.loop.layout import BITRATE_BPS, Layout
from pipeline.sim.loop.scenario import Fault
from pipeline.sim.loop.tally import sums
from pipeline.sim.loop.world import Second, World

F64 = npt.NDArray[np.float64]
CALM, CALM_TRIES, HOLD_S, AFTER_S, _USUAL_S = 0.001, 0.01, 30, 60, 60


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the score. `decimals`: what is shown and compared; `larger`: is better."""

    name: str
    title: str
    unit: str
    decimals: int
    larger: bool = False


COLUMNS = (
    Column("overload_min", "overload", "site min", 1),
    Column("unserved_min", "unserved", "viewer min", 0),
    Column("stalled_min", "stalled", "viewer min", 0),
    Column("nearest", "nearest", "% of bytes", 2, larger=True),
    Column("spread", "spread", "% points", 1),
    Column("moves_per_min", "moves", "%/min", 2),
    Column("relief_s", "relief", "s", 0),
)
#: What is drawn over time: every so many seconds.
TRACE_S = 10


@dataclass(slots=True)
class Trace:
    """Means over TRACE_S, for the plots."""

    second: list[int] = field(default_factory=list)
    harmed: list[float] = field(default_factory=list)  # % of viewers who wait or stall
    overloaded: list[float] = field(default_factory=list)  # sites
    moved: list[float] = field(default_factory=list)  # % of demand a minute


class Meter:
    """Told every second of one run."""

    def __init__(self, world: World, fault: Fault | None) -> None:
        self._world, self._fault = world, fault
        self._layout: Layout = world.layout
        self._overload_s = self._waiting_s = self._stalled_s = 0.0
        self._near = self._hoped = self._spread = self._moved = 0.0
        self._seconds = 0
        self._harmed: list[float] = []  # share of all viewers, every second since the warm-up
        self._turned_away: list[float] = []  # share of those who try, likewise
        self._before: Followed | None = None
        self._trace: list[tuple[float, float, float]] = []
        self.trace = Trace()

    def take(self, second: int, seen: Second, table: Followed) -> None:
        """One second in which clients followed `table`."""
        moved = self._move(table)
        if second < 0:
            return
        stalled, waiting = float(seen.stalled.sum()), float(seen.waiting.sum())
        crowd = self._world.crowd
        viewers = max(crowd.present, 1.0)
        overload = self._overload(seen)
        self._seconds += 1
        self._overload_s += overload
        self._waiting_s += waiting + float(crowd.lost.sum())
        self._stalled_s += stalled
        networks = np.arange(len(seen.nearest))
        self._near += float(seen.delivered_bps[networks, :, seen.nearest].sum())
        self._hoped += seen.hoped_bps
        self._spread += self._uneven(seen)
        self._moved += moved
        harmed = (stalled + waiting) / viewers
        self._harmed.append(harmed)
        self._turned_away.append(crowd.failed / max(crowd.tried, 1.0))
        self._trace.append((100 * harmed, overload, 6000 * moved))
        if len(self._trace) == TRACE_S:
            means = np.mean(self._trace, axis=0)
            self._trace.clear()
            self.trace.second.append(second)
            for series, mean in zip(
                (self.trace.harmed, self.trace.overloaded, self.trace.moved), means, strict=True
            ):
                series.append(round(float(mean), 4))

    def columns(self) -> dict[str, float | None]:
        """Name -> value, rounded to what is shown."""
        seconds = max(self._seconds, 1)
        found: dict[str, float | None] = {
            "overload_min": self._overload_s / 60,
            "unserved_min": self._waiting_s / 60,
            "stalled_min": self._stalled_s / 60,
            "nearest": 100 * self._near / max(self._hoped, 1.0),
            "spread": 100 * self._spread / seconds,
            "moves_per_min": 6000 * self._moved / seconds,
            "relief_s": self._relief_s(),
        }
        return {
            one.name: None if (value := found[one.name]) is None else round(value, one.decimals)
            for one in COLUMNS
        }

    def _move(self, table: Followed) -> float:
        """Share of the demand that the table sends elsewhere than the one before."""
        before, self._before = self._before, table
        if before is None or before.share is table.share:
            return 0.0
        demand = self._world.crowd.viewers() * BITRATE_BPS
        shifted = np.abs(table.share - before.share).sum(axis=2) / 2
        return float((shifted * demand).sum() / max(demand.sum(), 1.0))

    def _relief_s(self) -> float | None:
        if self._fault is None:
            return 0.0
        return relief(np.array(self._harmed), np.array(self._turned_away), self._fault)

    def _overload(self, seen: Second) -> float:
        """Sites whose viewers sit where too much is asked, in parts."""
        layout, crowd = self._layout, self._world.crowd
        at = crowd.at.sum(axis=0)
        site = sums(layout.site, at, layout.sites)
        hot = sums(layout.site, at * (seen.load > 1), layout.sites)
        full = np.append(seen.link_load > 1, False)[self._world.link_of]
        behind = crowd.seated.sum(axis=1) * full
        where = np.where(layout.candidate >= 0, layout.candidate, layout.sites)
        caught = sums(where, behind, layout.sites + 1)[:-1]
        share = np.divide(np.maximum(hot, caught), site, out=np.zeros_like(site), where=site > 0.5)
        return float(np.minimum(share, 1.0).sum())

    def _uneven(self, seen: Second) -> float:
        """Mean over sites of largest less smallest utilisation, of what serves as usual."""
        layout, now = self._layout, seen.conditions
        serving = np.flatnonzero(now.alive & (now.service == 0))
        site, load = layout.site[serving], seen.load[serving]
        start = np.flatnonzero(np.append(True, site[1:] != site[:-1]))
        if not len(start):
            return 0.0
        spread = np.maximum.reduceat(load, start) - np.minimum.reduceat(load, start)
        several = np.diff(np.append(start, len(site))) > 1
        return float(spread[several].mean()) if several.any() else 0.0


def relief(harmed: F64, turned_away: F64, fault: Fault) -> float | None:
    """Of what is said above, the last column: both float64[seconds] since the warm-up."""
    start = fault.from_s
    bad = np.zeros(len(harmed) - start, bool)
    for seen, calm in ((harmed, CALM), (turned_away, CALM_TRIES)):
        usual = seen[max(start - _USUAL_S, 0) : start].mean() if start else 0.0
        bad |= seen[start:] > usual + calm
    if not bad[: fault.to_s - start + AFTER_S].any():
        return 0.0
    calm_s, since = 0, int(bad.argmax())
    for second, is_bad in enumerate(bad.tolist()):
        calm_s = 0 if is_bad else calm_s + 1
        if calm_s == HOLD_S and second > since:
            return float(second - HOLD_S + 1)
    return None
