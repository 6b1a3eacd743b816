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

from dataclasses import dataclass, replace

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
    nearest_loads,
)
from pipeline.state.lpm import ragged

_FAR = 1 << 30
#: One for each hop of each ten-thousandth that is left; a bound, never met in tests or simulations.
_PUSHES_MAX = 1000


def shares_of(best: Optimum) -> I64:
    """Shares of each arc of `best.part` in ten-thousandths; each row's sum to 10,000."""
    part, flow = best.part, best.flow
    load = loads_of(part, flow)
    limits = _limits(part, load)
    reduced = part.cost + best.prices.node[part.node]
    least = np.minimum.reduceat(reduced, part.offsets[:-1])
    width = np.diff(part.offsets)
    cheap = reduced == np.repeat(least, width)
    several = np.add.reduceat(cheap, part.offsets[:-1], dtype=np.int64) > 1
    free = np.repeat(several, width)
    lone, arcs = np.flatnonzero(cheap & ~free), np.flatnonzero(cheap & free)
    shares = np.zeros(len(part.node), np.int64)
    shares[lone] = TOTAL
    near = _Rounding.of(_choices(part, several, arcs), reduced[arcs], flow[arcs], load, limits)
    near.fixed[part.node[lone]] = True
    near.largest = int((part.supply // TOTAL).max())
    near.fill()
    near.relieve()
    shares[arcs] = near.shares
    if near.too_much():
        unit = np.repeat(part.supply // TOTAL, width)
        anywhere = _Rounding.of(part, reduced, shares * unit, near.load, limits)
        anywhere.relieve()
        anywhere.limit, anywhere.limit_site = _limits(part, nearest_loads(part))
        anywhere.relieve()
        shares = anywhere.shares
    return shares


def _choices(part: Transport, several: Bools, arcs: I64) -> Transport:
    """The rows `several` bool[R] alone, on these of their arcs."""
    rows = np.flatnonzero(several)
    return replace(
        part,
        offsets=np.searchsorted(arcs, np.append(part.offsets[rows], len(part.node))),
        node=part.node[arcs],
        cost=part.cost[arcs],
        held=part.held[arcs],
        key=part.key[rows],
        supply=part.supply[rows],
    )


def _limits(part: Transport, load: I64) -> tuple[I64, I64]:
    """Of nodes and sites: their limit, or what `load` is above it."""
    return np.maximum(load, part.room_class), np.maximum(by_site(load), part.room_site)


@dataclass(slots=True)
class _Rounding:
    """Shares of rows on the arcs of `part`, all of which they may use. `unit` int64[R]: a
    ten-thousandth of a row; `load` is what the shares come to at each node, kept up with them, with
    that of rows that have no choice: `fixed` bool[S * 3] says where they are. `largest`: the
    greatest unit of all."""

    part: Transport
    owner: I64
    unit: I64
    reduced: I64
    shares: I64
    load: I64
    limit: I64
    limit_site: I64
    fixed: Bools
    largest: int

    @classmethod
    def of(
        cls, part: Transport, reduced: I64, flow: I64, load: I64, limits: tuple[I64, I64]
    ) -> "_Rounding":
        """Every share rounded down. `load`: of `flow` and of what is not in `part`."""
        owner = np.repeat(np.arange(len(part.supply)), np.diff(part.offsets))
        unit = part.supply // TOTAL
        shares = flow // unit[owner]
        load = load - loads_of(part, flow - shares * unit[owner])
        fixed, largest = np.zeros(len(load), np.bool_), int(unit.max(initial=0))
        return cls(part, owner, unit, reduced, shares, load, *limits, fixed, largest)

    def room(self) -> I64:
        """What each node may still take; below 0 where it, or its site, has too much."""
        site = self.limit_site - by_site(self.load)
        free: I64 = np.minimum(self.limit - self.load, np.repeat(site, CLASSES))
        return free

    def too_much(self) -> bool:
        """Whether a node that carries anything has too much."""
        return bool(((self.room() < 0) & (self.load > 0)).any())

    def fill(self) -> None:
        """Give away the ten-thousandths that are left of each row: one by one, each to the first
        arc where it fits, or the first of all."""
        part, first = self.part, self.part.offsets[:-1]
        left = TOTAL - np.add.reduceat(self.shares, first)
        split = np.flatnonzero(left)
        split = split[np.argsort(part.key[split], kind="stable")]
        free = (self.limit - self.load).tolist()
        free_site = (self.limit_site - by_site(self.load)).tolist()
        given = []
        columns = (part.offsets[split], part.offsets[split + 1], self.unit[split], left[split])
        for start, end, unit, ones in zip(*(column.tolist() for column in columns), strict=True):
            nodes = part.node[start:end].tolist()
            for _ in range(ones):
                fits = (
                    at
                    for at, node in enumerate(nodes)
                    if free[node] >= unit and free_site[node // CLASSES] >= unit
                )
                at = next(fits, 0)
                free[nodes[at]] -= unit
                free_site[nodes[at] // CLASSES] -= unit
                given.append(start + at)
        arcs = np.array(given, np.int64)
        np.add.at(self.shares, arcs, 1)
        np.add.at(self.load, part.node[arcs], self.unit[self.owner[arcs]])

    def relieve(self) -> None:
        """Move what is too much, as far as it goes."""
        for _ in range(_PUSHES_MAX):
            if not self._push():
                break

    def _push(self) -> bool:
        """Move something from a node that has too much one hop towards room; whether any could."""
        part, room = self.part, self.room()
        carrying = np.flatnonzero((self.shares > 0) & (room < 0)[part.node])
        if not len(carrying):
            return False
        hops = self._hops(room)
        owner = self.owner[carrying]
        width = np.diff(part.offsets)[owner]
        source, target = np.repeat(carrying, width), ragged(part.offsets[owner], width)
        unit = self.unit[self.owner[source]]
        here, there = part.node[source], part.node[target]
        better = (room[there] >= unit) | ((hops[there] < hops[here]) & (hops[there] > 0))
        better &= here // CLASSES != there // CLASSES
        some = np.flatnonzero(better)
        if not len(some):
            return False
        source, target, unit, there = source[some], target[some], unit[some], there[some]
        gain = self.reduced[target] - self.reduced[source]
        best = np.lexsort((part.key[self.owner[source]], hops[there], gain))[0]
        wanted = -(room[part.node[source[best]]] // unit[best])
        fitting = room[there[best]] // unit[best]
        amount = min(wanted, self.shares[source[best]], fitting if fitting > 0 else wanted)
        self._give(int(source[best]), -amount)
        self._give(int(target[best]), amount)
        return True

    def _give(self, arc: int, amount: int) -> None:
        """Add ten-thousandths to the share of an arc."""
        self.shares[arc] += amount
        self.load[self.part.node[arc]] += amount * self.unit[self.owner[arc]]

    def _hops(self, room: I64) -> I64:
        """Of each node: through how many others what comes in has to be passed on."""
        part, far = self.part, np.int64(_FAR)
        hops = np.where(room >= self.largest, 0, far)
        class_full = self.limit - self.load < self.largest
        carrying = np.flatnonzero(self.shares > 0)
        node, owner = part.node[carrying], self.owner[carrying]
        for _ in range(len(room)):
            least = np.minimum.reduceat(hops[part.node], part.offsets[:-1])
            leave = np.where(self.fixed, hops + 1, far)
            np.minimum.at(leave, node, least[owner] + 1)
            any_class = np.repeat(leave.reshape(-1, CLASSES).min(axis=1), CLASSES)
            found = np.minimum(hops, np.where(class_full, leave, any_class))
            if (found == hops).all():
                break
            hops = found
        return hops
