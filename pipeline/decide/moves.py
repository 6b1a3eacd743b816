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
    loads_of,
    nearest_flow,
    overflow_cost,
)
from pipeline.state.keyindex import distinct


@dataclass(frozen=True, slots=True)
class Moves:
    """The programme of a part. Its columns: the arcs `arc` (moves from the row's first arc), then
    overflow of the nodes `over`, then of the sites `over_site`. Its rows: `row` (what a row can
    give), then limits of the nodes `limit` and of the sites `limit_site`."""

    part: Transport
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
    def of(cls, part: Transport) -> "Moves":
        load = loads_of(part, nearest_flow(part))
        rows = len(part.supply)
        owner = np.repeat(np.arange(rows), np.diff(part.offsets))
        first = np.zeros(len(part.node), np.bool_)
        first[part.offsets[:-1]] = True

        known = np.zeros(len(load), np.bool_)
        known[part.node] = True

        def may_fill(arcs: I64) -> tuple[Bools, Bools]:
            most = load.copy()
            np.add.at(most, part.node[arcs], part.supply[owner[arcs]])
            bounded = np.minimum(most, np.maximum(part.room_class, load))
            node, site = known & (most >= part.room_class), by_site(bounded) >= part.room_site
            return node, site & known.reshape(-1, CLASSES).any(axis=1)

        arcs = np.flatnonzero(~first)
        node, site = may_fill(arcs)
        free = ~(node | np.repeat(site, CLASSES))[part.node]
        end = part.offsets[1:].copy()
        np.minimum.at(end, owner[free], np.flatnonzero(free) + 1)
        arcs = arcs[arcs < end[owner[arcs]]]
        node, site = may_fill(arcs)
        allowed = Excess.of(part, load)
        return cls(
            part=part,
            allowed=allowed,
            load=load,
            arc=arcs,
            owner=owner[arcs],
            over=np.flatnonzero(allowed.node),
            over_site=np.flatnonzero(allowed.site),
            row=distinct(owner[arcs]),
            limit=np.flatnonzero(node),
            limit_site=np.flatnonzero(site),
        )

    def programme(self) -> Programme:
        """Least cost: of moves against the first arc, and of overflow."""
        part, arcs = self.part, len(self.arc)
        big = overflow_cost(part)
        cost = part.cost[self.arc] - part.cost[part.offsets[self.owner]]
        overflows = len(self.over) + len(self.over_site)
        room = self._room()
        row, column, value = self._matrix()
        return Programme(
            cost=np.concatenate([cost, np.full(overflows, big)]),
            lower=np.zeros(arcs + overflows),
            upper=self._upper(),
            low=np.full(len(room), -np.inf),
            high=room,
            row=row,
            column=column,
            value=value,
        )

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
        """Entries (row, column, value): a move takes from its row, adds where it goes and relieves
        the first arc; overflow relieves."""
        part, arcs = self.part, np.arange(len(self.arc))
        to, back = part.node[self.arc], part.node[part.offsets[self.owner]]
        rows, nodes = len(self.row), len(self.row) + len(self.limit)
        at = np.full(len(self.load), -1, np.int64)
        at[self.limit] = rows + np.arange(len(self.limit))
        at_site = np.full(len(part.room_site), -1, np.int64)
        at_site[self.limit_site] = nodes + np.arange(len(self.limit_site))
        overs = len(self.arc) + np.arange(len(self.over))
        overs_site = len(self.arc) + len(self.over) + np.arange(len(self.over_site))
        parts = [
            (np.searchsorted(self.row, self.owner), arcs, 1),
            (at[to], arcs, 1),
            (at[back], arcs, -1),
            (at_site[to // CLASSES], arcs, 1),
            (at_site[back // CLASSES], arcs, -1),
            (at[self.over], overs, -1),
            (at_site[self.over_site], overs_site, -1),
        ]
        row = np.concatenate([each for each, _, _ in parts])
        column = np.concatenate([each for _, each, _ in parts])
        value = np.concatenate([np.full(len(each), sign) for each, _, sign in parts])
        real = row >= 0
        return row[real], column[real], value[real]

    def ties(self, prices: Prices) -> tuple[I64, F64, F64, F64, F64]:
        """Cost, lower, upper, low, high of the programme of the second choice: over the optima
        alone, which are what agrees with the prices."""
        part = self.part
        reduced = part.cost + prices.node[part.node]
        cheapest = np.minimum.reduceat(reduced, part.offsets[:-1])
        first = reduced[part.offsets[:-1]] == cheapest
        upper = self._upper()
        upper[: len(self.arc)] *= (reduced == np.repeat(cheapest, np.diff(part.offsets)))[self.arc]
        extra = prices.node - np.repeat(prices.site, CLASSES)
        paid = np.concatenate([extra[self.over], prices.site[self.over_site]])
        overs = upper[len(self.arc) :]
        lower = np.zeros(len(upper))
        lower[len(self.arc) :] = np.where(paid > prices.none, overs, 0)
        overs[paid < prices.none] = 0
        high = self._room()
        binds = (~first[self.row], extra[self.limit] > 0, prices.site[self.limit_site] > 0)
        low = np.where(np.concatenate(binds), high, -np.inf)
        prefer = _preference(part)
        cost = prefer[self.arc] - prefer[part.offsets[self.owner]]
        return np.concatenate([cost, np.zeros(len(overs), np.int64)]), lower, upper, low, high

    def flow(self, found: I64) -> I64:
        """What each arc of the part carries."""
        flow = nearest_flow(self.part)
        moved = found[: len(self.arc)]
        flow[self.arc] = moved
        np.subtract.at(flow, self.part.offsets[self.owner], moved)
        return flow


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
