"""The transportation problem of shares as a linear programme (the idea is in exact.py).

Rule: a variable is what moves from a row's nearest node to another; overflow has one for each node
and site that would have any. Everybody nearest is the slack basis. Limits that cannot be reached,
whatever moves, are left out, and so are a row's nodes behind the first one that cannot fill up.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.decide.lp import F64, Programme
from pipeline.decide.prices import Prices
from pipeline.decide.transport import (
    CLASSES,
    I64,
    TOTAL,
    U64,
    Bools,
    Excess,
    Transport,
    by_site,
    nearest_flow,
    nearest_loads,
)


@dataclass(frozen=True, slots=True)
class Moves:
    """The programme of a part. Its columns: the arcs `arc` (moves from the row's first arc), then
    overflow of the nodes `over`, then of the sites `over_site`. Its rows: `row` (what a row with
    several moves can give; of a single one it is its upper bound), then limits of the nodes `limit`
    and of the sites `limit_site`. `big`: what overflow costs."""

    part: Transport
    big: int
    allowed: Excess
    load: I64
    arc: I64
    owner: I64
    over: I64
    over_site: I64
    row: I64
    limit: I64
    limit_site: I64

    @classmethod
    def of(cls, part: Transport, big: int) -> "Moves":
        """To find the least cost: without the arcs that cannot be part of it."""
        load = nearest_loads(part)
        arcs, owner = _away(part)
        node, site = _may_fill(part, load, arcs, owner)
        free = ~(node | np.repeat(site, CLASSES))[part.node[arcs]]
        end = part.offsets[1:].copy()
        np.minimum.at(end, owner[free], arcs[free] + 1)
        kept = arcs < end[owner]
        return cls._of(part, big, load, arcs[kept], owner[kept])

    @classmethod
    def tied(cls, part: Transport, big: int) -> "Moves":
        """To choose among equally cheap arcs: with all of them."""
        return cls._of(part, big, nearest_loads(part), *_away(part))

    @classmethod
    def _of(cls, part: Transport, big: int, load: I64, arcs: I64, owner: I64) -> "Moves":
        node, site = _may_fill(part, load, arcs, owner)
        allowed = Excess.of(part, load)
        return cls(
            part=part,
            big=big,
            allowed=allowed,
            load=load,
            arc=arcs,
            owner=owner,
            over=np.flatnonzero(allowed.node),
            over_site=np.flatnonzero(allowed.site),
            row=np.flatnonzero(np.bincount(owner, minlength=len(part.supply)) > 1),
            limit=np.flatnonzero(node),
            limit_site=np.flatnonzero(site),
        )

    def programme(self) -> Programme:
        """Least cost: of moves against the first arc, and of overflow."""
        part = self.part
        cost = part.cost[self.arc] - part.cost[part.offsets[self.owner]]
        overflows = len(self.over) + len(self.over_site)
        room, upper = self._room(), self._upper()
        return self._programme(
            np.concatenate([cost, np.full(overflows, self.big)]),
            np.zeros(len(upper)),
            upper,
            np.full(len(room), -np.inf),
            room,
        )

    def _programme(self, cost: I64, lower: F64, upper: F64, low: F64, high: F64) -> Programme:
        return Programme(cost, lower, upper, low, high, *self._matrix())

    def _upper(self) -> F64:
        given = self.part.supply[self.owner]
        allowed = (self.allowed.node[self.over], self.allowed.site[self.over_site])
        return np.concatenate([given, *allowed]).astype(np.float64)

    def _room(self) -> F64:
        part, load = self.part, self.load
        limit = (part.room_class - load)[self.limit]
        limit_site = (part.room_site - by_site(load))[self.limit_site]
        return np.concatenate([part.supply[self.row], limit, limit_site]).astype(np.float64)

    def _matrix(self) -> tuple[I64, I64, I64]:
        """Entries column by column (starts, row, value): a move takes from its row, adds where it
        goes and relieves the first arc; overflow relieves."""
        part, arcs = self.part, len(self.arc)
        to, back = part.node[self.arc], part.node[part.offsets[self.owner]]
        of_row = _numbered(self.row, len(part.supply), 0)
        at = _numbered(self.limit, len(self.load), len(self.row))
        at_site = _numbered(self.limit_site, len(part.room_site), len(self.row) + len(self.limit))
        entries = np.full((arcs + len(self.over) + len(self.over_site), 5), -1, np.int64)
        entries[:arcs, 0] = of_row[self.owner]
        entries[:arcs, 1] = at[to]
        entries[:arcs, 2] = at[back]
        entries[:arcs, 3] = at_site[to // CLASSES]
        entries[:arcs, 4] = at_site[back // CLASSES]
        entries[arcs : arcs + len(self.over), 2] = at[self.over]
        entries[arcs + len(self.over) :, 4] = at_site[self.over_site]
        real = np.flatnonzero(entries >= 0)
        column = real // 5
        value = np.array([1, 1, -1, 1, -1])[real - 5 * column]
        return np.searchsorted(column, np.arange(len(entries))), entries.reshape(-1)[real], value

    def ties(self, prices: Prices) -> Programme:
        """The second choice: over the optima alone, which are what agrees with the prices."""
        part = self.part
        reduced = part.cost + prices.node[part.node]
        cheapest = np.minimum.reduceat(reduced, part.offsets[:-1])
        leaves = reduced[part.offsets[:-1]] != cheapest  # rows that cannot stay where they are
        upper = self._upper()
        upper[: len(self.arc)] *= reduced[self.arc] == cheapest[self.owner]
        extra = prices.node - np.repeat(prices.site, CLASSES)
        paid = np.concatenate([extra[self.over], prices.site[self.over_site]])
        overs = upper[len(self.arc) :]
        lower = np.zeros(len(upper))
        single = np.ones(len(part.supply), np.bool_)
        single[self.row] = False
        must = np.flatnonzero((single & leaves)[self.owner])
        lower[must] = upper[must]
        lower[len(self.arc) :] = np.where(paid > prices.none, overs, 0)
        overs[paid < prices.none] = 0
        high = self._room()
        binds = (leaves[self.row], extra[self.limit] > 0, prices.site[self.limit_site] > 0)
        low = np.where(np.concatenate(binds), high, -np.inf)
        prefer = _preference(part)
        cost = prefer[self.arc] - prefer[part.offsets[self.owner]]
        cost = np.concatenate([cost, np.zeros(len(overs), np.int64)])
        return self._programme(cost, lower, upper, low, high)

    def flow(self, found: I64) -> I64:
        """What each arc of the part carries."""
        flow = nearest_flow(self.part)
        moved = found[: len(self.arc)]
        flow[self.arc] = moved
        np.subtract.at(flow, self.part.offsets[self.owner], moved)
        return flow


def _numbered(chosen: I64, size: int, first: int) -> I64:
    """int64[size]: the numbers first, first + 1, ... of what is chosen, -1 for the rest."""
    number = np.full(size, -1, np.int64)
    number[chosen] = first + np.arange(len(chosen))
    return number


def _away(part: Transport) -> tuple[I64, I64]:
    """The arcs but each row's first, and their rows."""
    first = np.zeros(len(part.node), np.bool_)
    first[part.offsets[:-1]] = True
    arcs = np.flatnonzero(~first)
    return arcs, np.repeat(np.arange(len(part.supply)), np.diff(part.offsets) - 1)


def _may_fill(part: Transport, load: I64, arcs: I64, owner: I64) -> tuple[Bools, Bools]:
    """Which nodes and sites could fill up if every row moved to all of its `arcs`."""
    known = np.zeros(len(load), np.bool_)
    known[part.node] = True
    most = load.copy()
    np.add.at(most, part.node[arcs], part.supply[owner])
    bounded = np.minimum(most, np.maximum(part.room_class, load))
    node, site = known & (most >= part.room_class), by_site(bounded) >= part.room_site
    return node, site & known.reshape(-1, CLASSES).any(axis=1)


def _preference(part: Transport) -> I64:
    """What is disliked of an arc beside its cost: class, then not being held, then the hash. Bits:
    20 for the hash, 14 for ten-thousandths and 2 for a class, with 4 between them, so that a sum
    over some arcs of one does not reach the next, and all of them are exact in a double."""
    away = np.ones(len(part.node), np.int64)
    away[part.offsets[:-1]] = 0
    moved = away * (1 + part.node % CLASSES)
    owner = np.repeat(part.key, np.diff(part.offsets))
    chance = (_mixed(owner ^ _mixed(part.node.astype(np.uint64))) >> np.uint64(44)).astype(np.int64)
    return (moved << 42) + ((TOTAL - part.held) << 24) + chance


def _mixed(key: U64) -> U64:
    """A bijection that spreads (the finalizer of splitmix64)."""
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))
