"""From flows to shares: whole ten-thousandths of each row's supply, within the same limits.

Rule: every share is rounded down; the ten-thousandths that are left of a row (only rows that are
split have any, fewer than they have sites) go to one of its cheapest sites (by cost + price), one
where they fit if there is one. A site that has too much then passes something on: to where it fits,
or one hop nearer to where it fits; first only between equally cheap sites, which is the way by
which the optimum makes room and costs nothing, then anywhere, then back to where there was overload
before. What still does not fit is left above the limit, less than a ten-thousandth of a group's
demand, and counts as overflow.

Rejected: largest remainder, which rounds up at full sites; an integer programme, for a
ten-thousandth.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.decide.exact import Optimum
from pipeline.decide.transport import (
    CLASSES,
    I64,
    TOTAL,
    Bools,
    Transport,
    by_site,
    loads_of,
    nearest_flow,
)

_FAR = 1 << 30
#: One for each hop of each ten-thousandth that is left; a bound, never met in tests or simulations.
_PUSHES_MAX = 1000


def shares_of(best: Optimum) -> I64:
    """Shares of each arc of `best.part` in ten-thousandths; each row's sum to 10,000."""
    part = best.part
    owner = np.repeat(np.arange(len(part.supply)), np.diff(part.offsets))
    unit = part.supply // TOTAL
    shares = best.flow // unit[owner]
    reduced = part.cost + best.prices.node[part.node]
    cheapest = reduced == np.minimum.reduceat(reduced, part.offsets[:-1])[owner]
    load = loads_of(part, shares * unit[owner])
    work = _Rounding(part, owner, unit, reduced, cheapest, shares, load, *_limits(part, best.flow))
    left = TOTAL - np.add.reduceat(shares, part.offsets[:-1])
    split = np.flatnonzero(left)
    for row in split[np.argsort(part.key[split], kind="stable")].tolist():
        for _ in range(int(left[row])):
            work.place(row)
    everywhere = np.ones(len(owner), np.bool_)
    ways = ((best.flow, work.cheapest), (best.flow, everywhere), (nearest_flow(part), everywhere))
    for flow, within in ways:
        work.limit, work.limit_site = _limits(part, flow)
        for _ in range(_PUSHES_MAX):
            if not work.push(within):
                break
    return shares


def _limits(part: Transport, flow: I64) -> tuple[I64, I64]:
    """Of nodes and sites: their limit, or what `flow` puts above it."""
    load = loads_of(part, flow)
    return np.maximum(load, part.room_class), np.maximum(by_site(load), part.room_site)


@dataclass(slots=True)
class _Rounding:
    """`load` is what the shares come to at each node, kept up with them."""

    part: Transport
    owner: I64
    unit: I64
    reduced: I64
    cheapest: Bools
    shares: I64
    load: I64
    limit: I64
    limit_site: I64

    def room(self) -> I64:
        """What each node may still take; below 0 where it, or its site, has too much."""
        site = self.limit_site - by_site(self.load)
        free: I64 = np.minimum(self.limit - self.load, np.repeat(site, CLASSES))
        return free

    def place(self, row: int) -> None:
        """Put one ten-thousandth of a row to one of its cheapest sites, where it fits if it may."""
        arcs = np.arange(self.part.offsets[row], self.part.offsets[row + 1])
        arcs = arcs[self.cheapest[arcs]]
        fits = self.room()[self.part.node[arcs]] >= self.unit[row]
        self._give(int(arcs[np.argmax(fits)]), 1)

    def push(self, within: Bools) -> bool:
        """Move something from a node that has too much one hop towards room, to one of the arcs
        `within`; whether any could."""
        part, room = self.part, self.room()
        carrying = (self.shares > 0) & (room[part.node] < 0)
        if not carrying.any():
            return False
        hops = self._hops(room, within)
        width = np.diff(part.offsets)[self.owner[carrying]]
        source = np.repeat(np.flatnonzero(carrying), width)
        start = part.offsets[self.owner[source]]
        target = start + np.arange(len(source)) - np.repeat(np.cumsum(width) - width, width)
        unit = self.unit[self.owner[source]]
        here, there = part.node[source], part.node[target]
        better = (room[there] >= unit) | ((hops[there] < hops[here]) & (hops[there] > 0))
        better &= (here // CLASSES != there // CLASSES) & within[target]
        if not better.any():
            return False
        gain = self.reduced[target] - self.reduced[source]
        order = np.lexsort((part.key[self.owner[source]], hops[there], gain, ~better))
        best = order[0]
        wanted = -(room[here[best]] // unit[best])
        fitting = room[there[best]] // unit[best]
        amount = min(wanted, self.shares[source[best]], fitting if fitting > 0 else wanted)
        self._give(int(source[best]), -amount)
        self._give(int(target[best]), amount)
        return True

    def _give(self, arc: int, amount: int) -> None:
        """Add ten-thousandths to the share of an arc."""
        self.shares[arc] += amount
        self.load[self.part.node[arc]] += amount * self.unit[self.owner[arc]]

    def _hops(self, room: I64, within: Bools) -> I64:
        """Of each node: through how many others what comes in has to be passed on."""
        part = self.part
        hops = np.where(room >= self.unit.max(), 0, _FAR)
        class_full = self.limit - self.load < self.unit.max()
        carrying = np.flatnonzero(self.shares)
        for _ in range(len(room)):
            far = np.where(within, hops[part.node], _FAR)
            least = np.minimum.reduceat(far, part.offsets[:-1])
            leave = np.full(len(room), _FAR, np.int64)
            np.minimum.at(leave, part.node[carrying], least[self.owner[carrying]] + 1)
            any_class = np.repeat(leave.reshape(-1, CLASSES).min(axis=1), CLASSES)
            found = np.minimum(hops, np.where(class_full, leave, any_class))
            if (found == hops).all():
                break
            hops = found
        return hops
